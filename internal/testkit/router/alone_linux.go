package router

import (
	"context"
	"flag"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"

	"ringfence/internal/testkit"
)

// alone is the argument by which a test knows that its process has namespaces of its own.
const alone = "in-namespaces-of-its-own"

// Alone runs the test again in a process whose network nobody else has, and reports whether this is that process. More namespaces are named by their flags, e.g. [syscall.CLONE_NEWNS].
func Alone(t *testing.T, more uintptr) bool {
	t.Helper()
	if slices.Contains(flag.Args(), alone) {
		apart(t, "net")
		Run(t, testkit.Need(t, "/sbin/ip", "iproute2"), "", "link", "set", "lo", "up")
		return true
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.v", "-test.run=^"+t.Name()+"$", "-test.timeout=5m", alone)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | more, Pdeathsig: syscall.SIGKILL}
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Errorf("%v: this test has a network namespace of its own; run it as root, or with CAP_SYS_ADMIN and CAP_NET_ADMIN\n%s", err, out)
	} else if testing.Verbose() {
		t.Logf("%s", out)
	}
	return false
}

// Run runs a program, which must succeed, and returns what it says on its standard output. A warning on the other one may come at any time, also within a line.
func Run(t testing.TB, name, stdin string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), name, args...)
	cmd.Stdin = strings.NewReader(stdin)
	var out, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s %s: %v\n%s%s\n%s", name, strings.Join(args, " "), err, out.String(), errs.String(), stdin)
	}
	return out.String()
}
