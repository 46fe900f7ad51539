package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

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
	few := strings.NewReplacer("127.0.0.1:8443", at.HTTPS, "--count 100", "--count 10", "--calls 20", "--calls 2", "--calls 50", "--calls 5", "--for 5s", "--for 2s")
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
