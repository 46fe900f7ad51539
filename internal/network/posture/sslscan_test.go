package posture

import (
	"context"
	"encoding/xml"
	"fmt"
	"maps"
	"net"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"ringfence/internal/testkit"
)

// scan is what sslscan says of a server.
type scan struct {
	Test struct {
		Protocols []struct {
			Type    string `xml:"type,attr"`
			Version string `xml:"version,attr"`
			Enabled int    `xml:"enabled,attr"`
		} `xml:"protocol"`
		Ciphers []struct {
			Status  string `xml:"status,attr"`
			Version string `xml:"sslversion,attr"`
			ID      string `xml:"id,attr"`
		} `xml:"cipher"`
		Groups []struct {
			Version string `xml:"sslversion,attr"`
			ID      string `xml:"id,attr"`
		} `xml:"group"`
	} `xml:"ssltest"`
}

// sslscan finds the same versions, suites and groups, and the same suite that comes first where the server decides.
func TestAsSSLScan(t *testing.T) {
	t.Parallel()
	_, _, names, err := catalogue()
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		key  string
		args []string
	}{
		"as OpenSSL comes": {"rsa", nil},
		"a short list":     {"rsa", []string{"-tls1_2", "-serverpref", "-cipher", "ECDHE-RSA-CHACHA20-POLY1305:ECDHE-RSA-AES128-GCM-SHA256:AES256-SHA"}},
		"TLS 1.3 alone":    {"ec", []string{"-tls1_3", "-serverpref", "-ciphersuites", "TLS_CHACHA20_POLY1305_SHA256:TLS_AES_128_GCM_SHA256", "-groups", "P-384:X25519"}},
		"an old one":       {"rsa", []string{"-no_tls1_3", "-serverpref", "-cipher", "AES256-SHA:ECDHE-RSA-AES128-SHA:CAMELLIA128-SHA:@SECLEVEL=0"}},
		"elliptic":         {"ec", []string{"-serverpref", "-groups", "P-256:P-521:X448"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dial := server(t, c.key, c.args...)
			conn, err := dial(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			at := conn.RemoteAddr().(*net.TCPAddr)
			conn.Close()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			out, err := exec.CommandContext(ctx, testkit.Need(t, "/usr/bin/sslscan", "sslscan"), "--xml=-", "--no-colour", "--no-check-certificate", at.String()).Output()
			if err != nil {
				t.Fatalf("sslscan: %v\n%s", err, out)
			}
			var s scan
			if err := xml.Unmarshal(out, &s); err != nil {
				t.Fatalf("sslscan: %v\n%s", err, out)
			}
			theirs := map[string][]string{}
			for _, p := range s.Test.Protocols {
				if p.Type == "tls" && p.Enabled == 1 {
					theirs["TLS "+p.Version] = nil
				}
			}
			first, groups := map[string]string{}, []string{}
			for _, x := range s.Test.Ciphers {
				v := strings.Replace(x.Version, "TLSv", "TLS ", 1)
				id, err := strconv.ParseUint(x.ID, 0, 16)
				if err != nil {
					t.Fatal(err)
				}
				suite := names[uint16(id)]
				if theirs[v] = append(theirs[v], suite); x.Status == "preferred" {
					first[v] = suite
				}
			}
			for _, g := range s.Test.Groups {
				if g.Version == "TLSv1.3" {
					groups = append(groups, g.ID)
				}
			}
			r := probe(t, dial)
			ours := map[string][]string{}
			for _, a := range r.Versions {
				ours[a.Version] = slices.Clone(a.Suites)
				if a.Order != "client" && first[a.Version] != a.Suites[0] {
					t.Errorf("%s: we have %s first, sslscan %s", a.Version, a.Suites[0], first[a.Version])
				}
				if a.Version == "TLS 1.3" && len(a.Groups) != len(groups) {
					t.Errorf("we have the groups %v, sslscan %v", a.Groups, groups)
				}
			}
			for _, m := range []map[string][]string{ours, theirs} {
				for _, all := range m {
					slices.Sort(all)
				}
			}
			if !maps.EqualFunc(ours, theirs, slices.Equal) || len(ours) == 0 {
				t.Errorf("we have\n%s\nsslscan\n%s", told(ours), told(theirs))
			}
		})
	}
}

func told(m map[string][]string) string {
	var lines []string
	for _, v := range slices.Sorted(maps.Keys(m)) {
		lines = append(lines, fmt.Sprintf("%s: %s", v, strings.Join(m[v], " ")))
	}
	return strings.Join(lines, "\n")
}
