package router

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"ringfence/internal/testkit"
)

// bus is the configuration of a D-Bus for one service and its clients.
const bus = `<busconfig><type>system</type><listen>unix:path=/run/dbus/system_bus_socket</listen><auth>EXTERNAL</auth>
<policy context="default"><allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/></policy></busconfig>`

// Firewalld starts firewalld with a D-Bus of its own, on what it finds in /etc/firewalld, and waits until it answers; the process has files of its own, see [Private]. Both end with the test.
func Firewalld(t testing.TB) {
	t.Helper()
	apart(t, "mnt")
	apart(t, "net")
	config := filepath.Join(t.TempDir(), "bus.conf")
	for _, err := range []error{os.MkdirAll("/run/dbus", 0o755), os.MkdirAll("/run/firewalld", 0o755), os.WriteFile(config, []byte(bus), 0o644)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	start(t, testkit.Need(t, "/usr/bin/dbus-daemon", "dbus-daemon"), "--config-file="+config, "--nofork", "--nopidfile")
	until(t, "the bus is there", func() bool { _, err := os.Stat("/run/dbus/system_bus_socket"); return err == nil })
	start(t, testkit.Need(t, "/usr/sbin/firewalld", "firewalld"), "--nofork", "--nopid")
	client := testkit.Need(t, "/usr/bin/firewall-cmd", "firewalld")
	until(t, "firewalld runs", func() bool { return exec.CommandContext(t.Context(), client, "--state").Run() == nil })
}

func start(t testing.TB, name string, args ...string) {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		_ = cmd.Wait()
	})
}

func until(t testing.TB, what string, is func() bool) {
	t.Helper()
	look := time.NewTicker(50 * time.Millisecond)
	defer look.Stop()
	for range 400 {
		if is() {
			return
		}
		<-look.C
	}
	t.Fatalf("%s: not within twenty seconds", what)
}
