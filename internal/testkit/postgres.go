package testkit

import (
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"
)

const pgBin = "/usr/lib/postgresql/15/bin"

// Postgres is a throw-away PostgreSQL server on a Unix socket.
type Postgres struct {
	n   atomic.Int64
	dir string
	run func(name string, args ...string)
}

// NewPostgres makes and starts a server, and stops and removes it when the test ends. PostgreSQL refuses to run as root, so root runs it
// as the user postgres, which the Debian package makes. args are settings, "name=value".
func NewPostgres(t testing.TB, args ...string) *Postgres {
	t.Helper()
	if _, err := os.Stat(filepath.Join(pgBin, "initdb")); err != nil {
		t.Fatalf("the PostgreSQL server is not installed: apt-get install postgresql-15 (%v)", err)
	}
	dir, err := os.MkdirTemp("", "rfpg") // a socket's path must be short, and t.TempDir is closed to other users
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	var as *syscall.Credential
	if os.Getuid() == 0 {
		u, err := user.Lookup("postgres")
		if err != nil {
			t.Fatalf("there is no user postgres: apt-get install postgresql-15 (%v)", err)
		}
		uid, _ := strconv.Atoi(u.Uid)
		gid, _ := strconv.Atoi(u.Gid)
		as = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
		if err := os.Chown(dir, uid, gid); err != nil {
			t.Fatal(err)
		}
	}
	run := func(name string, args ...string) {
		t.Helper()
		cmd := exec.Command(filepath.Join(pgBin, name), args...)
		cmd.Dir = dir
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: as}
		cmd.Env = []string{"PATH=/usr/bin:/bin", "LC_ALL=C.UTF-8", "TZ=UTC"}
		log, err := os.CreateTemp(t.TempDir(), "pg")
		if err != nil {
			t.Fatal(err)
		}
		defer log.Close()
		cmd.Stdout, cmd.Stderr = log, log // a file: the server would keep a pipe open
		if err := cmd.Run(); err != nil {
			b, _ := os.ReadFile(log.Name())
			t.Fatalf("%s: %v\n%s", name, err, b)
		}
	}
	data := filepath.Join(dir, "data")
	run("initdb", "-D", data, "-U", "ringfence", "-A", "trust", "-E", "UTF8", "--no-sync")
	opts := "-c listen_addresses='' -c unix_socket_directories='" + dir + "'"
	for _, a := range args {
		opts += " -c " + a
	}
	run("pg_ctl", "-D", data, "-w", "-t", "60", "-l", filepath.Join(dir, "log"), "-o", opts, "start")
	t.Cleanup(func() { run("pg_ctl", "-D", data, "-m", "immediate", "-w", "stop") })
	return &Postgres{dir: dir, run: run}
}

// DSN returns the address of a new, empty database.
func (p *Postgres) DSN(testing.TB) string {
	name := fmt.Sprintf("t%d", p.n.Add(1))
	p.run("createdb", "-h", p.dir, "-U", "ringfence", name)
	return fmt.Sprintf("postgres://ringfence@/%s?host=%s", name, p.dir)
}
