package engine

import (
	"bytes"
	"context"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"ringfence"
)

func TestEngine(t *testing.T) {
	var mu sync.Mutex
	var heard []string
	hear := func(line string) { mu.Lock(); defer mu.Unlock(); heard = append(heard, line) }
	e, err := Start(t.Context(), Program{Path: "/bin/sh", Args: []string{"-c", `read a; echo "said $a"; printf '\033[2J\n'; head -c 10000 /dev/zero | tr '\0' x; echo; echo "$SECRET" >&2; exit 3`}, Stdin: "hello\n", Env: []string{"SECRET=by environment"}, Hear: hear})
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Wait(); ringfence.KindOf(err) != ringfence.KindUnavailable || !strings.Contains(err.Error(), "by environment") {
		t.Errorf("%v", err)
	}
	mu.Lock()
	if len(heard) != 4 || heard[0] != "said hello" || heard[1] != "?[2J" || len(heard[2]) != maxLine || heard[3] != "by environment" {
		t.Errorf("%q", heard)
	}
	mu.Unlock()

	// One that is told to end, and one that does not listen and is killed.
	for script, longest := range map[string]time.Duration{"exec sleep 60": grace, "trap '' TERM; echo ready; while :; do sleep 1; done": 3 * grace} {
		ctx, cancel := context.WithCancel(t.Context())
		ready := make(chan struct{}, 1)
		e, err := Start(ctx, Program{Path: "/bin/sh", Args: []string{"-c", script}, Hear: func(string) { ready <- struct{}{} }})
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(script, "ready") {
			<-ready
		}
		began := time.Now()
		cancel()
		if err := e.Wait(); err != nil || time.Since(began) > longest {
			t.Errorf("%s: %v after %v", script, err, time.Since(began))
		}
		<-e.Done()
	}
	// One that takes and gives what are no lines, to its end.
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	_, _ = w.WriteString("a\x00b")
	_ = w.Close()
	var out bytes.Buffer
	if err := Run(t.Context(), Program{Path: "/bin/cat", In: r, Out: &out}); err != nil || out.String() != "a\x00b" {
		t.Errorf("%q, %v", out.String(), err)
	}
	if err := Run(t.Context(), Program{Path: "/bin/sh", Args: []string{"-c", "echo why >&2; exit 1"}, Out: &out}); !strings.Contains(err.Error(), "why") {
		t.Errorf("%v", err)
	}
	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := Run(short, Program{Path: "/bin/sh", Args: []string{"-c", "exec sleep 60"}}); ringfence.KindOf(err) != ringfence.KindUnavailable {
		t.Errorf("%v", err)
	}
	if _, err := Start(t.Context(), Program{Path: "/nowhere/program", Hint: "install it"}); ringfence.KindOf(err) != ringfence.KindUnavailable || ringfence.HintOf(err) != "install it" {
		t.Errorf("%v", err)
	}
}
