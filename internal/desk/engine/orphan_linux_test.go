package engine

import (
	"bufio"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestOrphan kills who started a program, which ends then as well.
func TestOrphan(t *testing.T) {
	const parent = "be-the-parent"
	if slices.Contains(flag.Args(), parent) {
		e, err := Start(t.Context(), Program{Path: "/bin/sh", Args: []string{"-c", "echo process $$; exec sleep 60"}, Hear: func(line string) { fmt.Println(line) }})
		if err != nil {
			t.Fatal(err)
		}
		_ = e.Wait()
		return
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestOrphan$", parent)
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	pid := ""
	for lines := bufio.NewScanner(out); pid == "" && lines.Scan(); {
		pid, _ = strings.CutPrefix(lines.Text(), "process ")
		if pid == lines.Text() {
			pid = ""
		}
	}
	if _, err := os.Stat("/proc/" + pid + "/comm"); pid == "" || err != nil {
		t.Fatalf("%q %v", pid, err)
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for range 250 {
		state, err := os.ReadFile("/proc/" + pid + "/stat")
		if err != nil || strings.Contains(string(state), ") Z ") {
			return
		}
		<-tick.C
	}
	t.Error("it goes on without who started it")
}
