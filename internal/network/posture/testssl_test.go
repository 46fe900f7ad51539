package posture

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"ringfence/internal/testkit"
)

// testssl.sh finds the same suites with the same versions, also old ones.
func TestAsTestssl(t *testing.T) {
	t.Parallel()
	dial := server(t, "rsa", "-no_tls1_1", "-serverpref", "-cipher", "ECDHE-RSA-AES256-GCM-SHA384:DHE-RSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-SHA:AES128-SHA:@SECLEVEL=0")
	conn, err := dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	at := conn.RemoteAddr().String()
	conn.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	file := filepath.Join(t.TempDir(), "said.json")
	if out, err := exec.CommandContext(ctx, testkit.Need(t, "/usr/bin/testssl", "testssl.sh"), "--warnings", "off", "--quiet", "--color", "0", "-E", "--jsonfile", file, at).CombinedOutput(); err != nil {
		t.Fatalf("testssl.sh: %v\n%s", err, out)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var said []struct{ ID, Finding string }
	if err := json.Unmarshal(text, &said); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	theirs := map[string][]string{}
	for _, s := range said {
		if v, _, ok := strings.Cut(s.ID, "_x"); ok && strings.HasPrefix(v, "cipher-") {
			words := strings.Fields(s.Finding)
			version := map[string]string{"cipher-tls1": "TLS 1.0", "cipher-tls1_1": "TLS 1.1", "cipher-tls1_2": "TLS 1.2", "cipher-tls1_3": "TLS 1.3"}[v]
			theirs[version] = append(theirs[version], words[len(words)-1])
		}
	}
	ours := map[string][]string{}
	for _, a := range probe(t, dial).Versions {
		ours[a.Version] = slices.Clone(a.Suites)
	}
	for _, m := range []map[string][]string{ours, theirs} {
		for _, all := range m {
			slices.Sort(all)
		}
	}
	if told(ours) != told(theirs) || len(theirs) != 3 {
		t.Errorf("we have\n%s\ntestssl.sh\n%s\n%s", told(ours), told(theirs), text)
	}
}
