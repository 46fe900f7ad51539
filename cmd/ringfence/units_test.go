package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"ringfence/internal/testkit"
)

// The units of systemd mean something to systemd, leave a service little of the host, and start what there is.
func TestUnits(t *testing.T) {
	t.Parallel()
	analyze := testkit.Need(t, "/usr/bin/systemd-analyze", "systemd")
	for unit, instance := range map[string]string{"ringfence.service": "ringfence.service", "ringfence-phone@.service": "ringfence-phone@lobby.service"} {
		text, err := os.ReadFile(filepath.Join("..", "..", "packaging", "systemd", unit))
		if err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		program := filepath.Join(dir, "ringfence") // systemd wants one to be there
		if err := os.WriteFile(program, nil, 0o700); err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(dir, instance)
		if err := os.WriteFile(file, []byte(strings.ReplaceAll(string(text), "/usr/local/bin/ringfence", program)), 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := exec.CommandContext(t.Context(), analyze, "verify", "--man=no", file).CombinedOutput()
		for line := range strings.Lines(string(out)) {
			if strings.Contains(line, dir) || strings.Contains(line, instance) || err != nil { // it has a word about units of others, too
				t.Errorf("%s: %s%v", unit, line, err)
			}
		}
		if out, err := exec.CommandContext(t.Context(), analyze, "security", "--offline=true", "--threshold=20", file).CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", unit, err, out)
		}
		_, start, _ := strings.Cut(string(text), "\nExecStart=/usr/local/bin/ringfence ")
		start, _, _ = strings.Cut(start, "\n")
		root := newRootCommand()
		verb, rest, err := root.Find(strings.Fields(start))
		if err == nil {
			err = verb.ParseFlags(rest)
		}
		if err != nil || verb == root {
			t.Errorf("%s: %q: %v", unit, start, err)
		}
	}
}
