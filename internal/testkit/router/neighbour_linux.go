package router

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"ringfence/internal/testkit"
)

// Neighbour runs a program at the other end of a new link, in a network namespace of its own, until the test ends; the process is [Alone]. link is the name of our end, with the hardware address own; the
// other end is called that and "far", and has the given addresses with their prefixes. It returns the process, in whose namespace more can be run with nsenter.
func Neighbour(t testing.TB, link, own string, addresses []string, program ...string) *os.Process {
	t.Helper()
	ip, unshare := testkit.Need(t, "/sbin/ip", "iproute2"), testkit.Need(t, "/usr/bin/unshare", "util-linux")
	far := link + "far"
	Run(t, ip, "", "link", "add", link, "address", own, "type", "veth", "peer", "name", far)
	script := "read go; ip link set lo up; ip link set " + far + " up"
	for _, a := range addresses {
		if strings.Contains(a, ":") {
			a += " nodad"
		}
		script += "; ip address add " + a + " dev " + far
	}
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), unshare, append([]string{"--net", "/bin/sh", "-c", script + `; exec "$@"`, "sh"}, program...)...)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr, cmd.SysProcAttr = &said, &said, &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		_ = cmd.Wait()
		if t.Failed() {
			t.Log(said.String())
		}
	})
	ours, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	Until(t, "the namespace of "+program[0], func() bool { // the link goes there once it is another than ours
		theirs, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", cmd.Process.Pid))
		return err == nil && theirs != ours
	})
	Run(t, ip, "", "link", "set", far, "netns", fmt.Sprint(cmd.Process.Pid))
	Run(t, ip, "", "link", "set", link, "up")
	if _, err := io.WriteString(in, "go\n"); err != nil {
		t.Fatal(err)
	}
	return cmd.Process
}

// Until waits for something, twenty seconds at most.
func Until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for range 400 {
		if ok() {
			return
		}
		<-tick.C
	}
	t.Fatal("in vain: " + what)
}
