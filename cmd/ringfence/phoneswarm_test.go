package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ringfence/internal/service/swarm"
)

// TestPhoneSwarm has many phones register at a server of another vendor, and speak in pairs; then one of them has a wrong password.
func TestPhoneSwarm(t *testing.T) {
	dir := t.TempDir()
	_, sealed, _ := kamailio(t, dir, "MD5")
	write := func(name, text string) string {
		t.Helper()
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	run := func(want int, args ...string) (swarm.Report, string, string) {
		t.Helper()
		var out, errs bytes.Buffer
		args = append([]string{"phone", "swarm", "--node", "localhost:" + sealed, "--ca", filepath.Join(dir, "ca.pem"), "--md5"}, args...)
		if code := execute(t.Context(), args, &out, &errs); code != want {
			t.Errorf("%v: exit code %d, want %d\n%s%s", args, code, want, out.String(), errs.String())
		}
		var r swarm.Report
		if strings.Contains(strings.Join(args, " "), "--json") && out.Len() > 0 {
			if err := json.Unmarshal(out.Bytes(), &r); err != nil {
				t.Error(err)
			}
		}
		return r, out.String(), errs.String()
	}
	password := write("password", "secret\nnot this\n")
	r, _, said := run(0, "--count", "40", "--user", "desk-%03d", "--password-file", password, "--calls", "10", "--for", "4s", "--rate", "100", "--json")
	if r.Registered != 40 || r.Sealed != 40 || r.Calls.Heard != 10 || r.Calls.Sealed != 10 || r.Usage.CPUSeconds <= 0 || r.Usage.PeakBytes == 0 {
		t.Errorf("%+v", r)
	}
	if !strings.Contains(said, "registering: 40 of 40\ncalling: 10 of 10\ntalking: ") {
		t.Error(said)
	}
	users := ""
	for i := range 4 {
		users += fmt.Sprintf("user-%d secret user-%d user-%d\n", i, i, i)
	}
	_, text, _ := run(7, "--users", write("users", "# who\n\n"+users+"mallory guess\n"), "--calls", "2", "--for", "3s", "--codec", "OPUS")
	for _, want := range []string{"4 of 5 registered, 4 over verified TLS", "2 of 2 up, 2 sealed, 2 heard on both sides", "FAILED 1 times: 401 Unauthorized"} {
		if !strings.Contains(text, want) {
			t.Errorf("nothing says %q: %s", want, text)
		}
	}
	for _, args := range [][]string{{"--count", "3", "--user", "desk-%d"}, {"--count", "3", "--user", "desk", "--password-file", password}, {"--user", "desk-%d", "--password-file", password}, {"--users", write("short", "alice secret\n"), "--count", "2"},
		{"--users", write("wrong", "alice\n")}, {"--users", write("right", "alice secret\n"), "--codec", "opus,g729"}, {"--users", write("empty", "\n")}, {"--count", "3", "--user", "desk-%d", "--password-file", write("none", "\n")}, {"--count", "3", "--user", "desk-%d", "--password-file", password, "--calls", "2"}} {
		run(2, args...)
	}
}

// TestSwarmGuide does what docs/guides/swarm.md says, with fewer phones.
func TestSwarmGuide(t *testing.T) {
	guide, err := os.ReadFile("../../docs/guides/swarm.md")
	if err != nil {
		t.Fatal(err)
	}
	data := t.TempDir()
	t.Chdir(t.TempDir())
	ctx, stop := context.WithCancel(t.Context())
	over := make(chan int)
	go func() {
		var out bytes.Buffer
		over <- execute(ctx, []string{"up", "--data", data, "--listen-sip", "127.0.0.1:0", "--listen-https", "127.0.0.1:0"}, &out, &out)
	}()
	defer func() {
		stop()
		<-over
	}()
	var at struct{ HTTPS string }
	for tick := time.NewTicker(20 * time.Millisecond); at.HTTPS == ""; <-tick.C {
		if b, err := os.ReadFile(filepath.Join(data, "run.json")); err == nil {
			_ = json.Unmarshal(b, &at)
		} else if t.Context().Err() != nil {
			t.Fatal(err)
		}
	}
	few := strings.NewReplacer("127.0.0.1:8443", at.HTTPS, "--count 100", "--count 10", "--calls 20", "--calls 2", "--calls 50", "--calls 5", "--for 5s", "--for 3s")
	ran := 0
	for i, part := range strings.Split(string(guide), "```") {
		commands, ok := strings.CutPrefix(part, "sh swarm\n")
		if !ok || i%2 == 0 {
			continue
		}
		for line := range strings.Lines(few.Replace(commands)) {
			var out, errs bytes.Buffer
			if code := execute(t.Context(), append(strings.Fields(line)[1:], "--data", data), &out, &errs); code != 0 {
				t.Fatalf("%sexit code %d\n%s%s", line, code, out.String(), errs.String())
			}
			ran++
		}
	}
	if left, _ := filepath.Glob("swarm/*"); ran != 4 || len(left) > 0 {
		t.Errorf("%d commands, left is %v", ran, left)
	}
}
