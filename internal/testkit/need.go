package testkit

import (
	"os/exec"
	"testing"
)

// Need returns where a judge is installed: a program of somebody else, and the Debian package that has it. A missing one fails the test: who skips a judge has no
// verdict.
func Need(t testing.TB, name, debian string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("%s is not installed: apt-get install %s", name, debian)
	}
	return path
}
