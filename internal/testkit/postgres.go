package testkit

import (
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
)

const pgBin = "/usr/lib/postgresql/15/bin"

// Postgres is a throw-away PostgreSQL server on a Unix socket.
type Postgres struct {
	n    atomic.Int64
	dir  string
	port string // in the name of the socket, and of the network if it is there
	run  func(name string, args ...string) string

	Roots string // file with the authority of a server that is on the network
}

// NewPostgres makes and starts a server, and stops and removes it when the test ends. PostgreSQL refuses to run as root, so root runs it
// as the user postgres, which the Debian package makes. args are settings, "name=value".
func NewPostgres(t testing.TB, args ...string) *Postgres {
	t.Helper()
	return newPostgres(t, nil, args)
}

// NewSealedPostgres is NewPostgres for a server that is also on the network, at 127.0.0.1 under these names; there it takes a password and speaks nothing but TLS.
func NewSealedPostgres(t testing.TB, names ...string) *Postgres {
	t.Helper()
	return newPostgres(t, names, []string{"fsync=off"})
}

func newPostgres(t testing.TB, names, args []string) *Postgres {
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
	run := func(name string, args ...string) string {
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
		b, _ := os.ReadFile(log.Name())
		return strings.TrimSpace(string(b))
	}
	p := &Postgres{dir: dir, port: "5432", run: run}
	data := filepath.Join(dir, "data")
	run("initdb", "-D", data, "-U", "ringfence", "-A", "trust", "-E", "UTF8", "--no-sync")
	opts := "-c listen_addresses='' -c unix_socket_directories='" + dir + "'"
	if names != nil {
		p.seal(t, as, names)
		args = append(args, "listen_addresses=127.0.0.1", "port="+p.port, "ssl=on", "ssl_cert_file="+filepath.Join(dir, "cert.pem"), "ssl_key_file="+filepath.Join(dir, "key.pem"))
	}
	for _, a := range args {
		opts += " -c " + a
	}
	run("pg_ctl", "-D", data, "-w", "-t", "60", "-l", filepath.Join(dir, "log"), "-o", opts, "start")
	t.Cleanup(func() { run("pg_ctl", "-D", data, "-m", "immediate", "-w", "stop") })
	if names != nil {
		p.Query("postgres:///postgres", "ALTER ROLE ringfence PASSWORD '"+pgPassword+"'")
	}
	return p
}

const pgPassword = "correct-horse"

// seal gives the server a certificate with these names, a free port, and the rule that TLS and a password are needed.
func (p *Postgres) seal(t testing.TB, as *syscall.Credential, names []string) {
	t.Helper()
	ok := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	ok(err)
	_, p.port, err = net.SplitHostPort(ln.Addr().String())
	ok(err)
	ok(ln.Close())
	authority := NewAuthority("database")
	cert := authority.Issue(names...)
	key, err := x509.MarshalECPrivateKey(cert.PrivateKey.(*ecdsa.PrivateKey))
	ok(err)
	write := func(name string, mode os.FileMode, b []byte) string {
		file := filepath.Join(p.dir, name)
		ok(os.WriteFile(file, b, mode))
		if as != nil {
			ok(os.Chown(file, int(as.Uid), int(as.Gid)))
		}
		return file
	}
	write("cert.pem", 0o600, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Certificate[0]}))
	write("key.pem", 0o600, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: key}))
	p.Roots = write("roots.pem", 0o644, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: authority.Root()}))
	write("data/pg_hba.conf", 0o600, []byte("local all all trust\nhostssl all all 127.0.0.1/32 scram-sha-256\n"))
}

// Query runs a statement in a database, over this host's socket, and returns what it prints, without headings. dsn is what DSN or Sealed returned.
func (p *Postgres) Query(dsn, sql string) string {
	u, err := url.Parse(dsn)
	if err != nil {
		return err.Error()
	}
	return p.run("psql", "-h", p.dir, "-p", p.port, "-U", "ringfence", "-d", strings.TrimPrefix(u.Path, "/"), "-At", "-c", sql)
}

// Sealed returns the address of a new, empty database over the network. hosts are of the form "host" or "host:port"; without a port they are this server.
func (p *Postgres) Sealed(hosts ...string) string {
	name := p.create()
	for i, h := range hosts {
		if !strings.Contains(h, ":") {
			hosts[i] = h + ":" + p.port
		}
	}
	return fmt.Sprintf("postgres://ringfence:%s@%s/%s?sslmode=verify-full&sslrootcert=%s", pgPassword, strings.Join(hosts, ","), name, p.Roots)
}

func (p *Postgres) create() string {
	name := fmt.Sprintf("t%d", p.n.Add(1))
	p.run("createdb", "-h", p.dir, "-p", p.port, "-U", "ringfence", name)
	return name
}

// DSN returns the address of a new, empty database.
func (p *Postgres) DSN(testing.TB) string {
	return fmt.Sprintf("postgres://ringfence@/%s?host=%s&port=%s", p.create(), p.dir, p.port)
}
