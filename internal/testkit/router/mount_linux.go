package router

import (
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
)

// Private puts copies in the place of files and folders, and an empty /run, which nobody but this process and its children sees; the process is [Alone] with mounts of its own.
func Private(t testing.TB, paths ...string) {
	t.Helper()
	apart(t, "mnt")
	mount := func(from, to, kind string, flags uintptr) {
		if err := syscall.Mount(from, to, kind, flags, ""); err != nil {
			t.Fatalf("mount %s: %v", to, err)
		}
	}
	mount("none", "/", "", syscall.MS_REC|syscall.MS_PRIVATE)
	dir := t.TempDir()
	for i, p := range paths {
		copied := filepath.Join(dir, strconv.Itoa(i))
		Run(t, "/bin/cp", "", "-a", p, copied)
		mount(copied, p, "", syscall.MS_BIND)
	}
	mount("none", "/run", "tmpfs", 0)
}

// apart fails unless a namespace of this process is another than that of whoever started it: no host is changed by a test.
func apart(t testing.TB, name string) {
	t.Helper()
	own, err := os.Readlink("/proc/self/ns/" + name)
	if err != nil {
		t.Fatal(err)
	}
	if parents, err := os.Readlink("/proc/" + strconv.Itoa(os.Getppid()) + "/ns/" + name); err != nil || own == parents {
		t.Fatalf("the %s namespace is that of whoever started this process (%v)", name, err)
	}
}
