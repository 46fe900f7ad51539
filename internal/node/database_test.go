package node_test

import (
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"ringfence"
	"ringfence/internal/node"
	"ringfence/internal/node/config"
	"ringfence/internal/node/sockets"
	"ringfence/internal/testkit"
	"ringfence/internal/testkit/onehost"
	"ringfence/internal/trust/tlspolicy"
)

// closedPort returns an address of loopback at which nobody listens.
func closedPort(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

// A whole node keeps its facts in a PostgreSQL server on the network, which sees nothing but TLS as the node's settings have it, and goes to the
// server's twin when one of two is not there.
func TestDatabaseOnTheNetwork(t *testing.T) {
	t.Parallel()
	pg := testkit.NewSealedPostgres(t, "localhost", "127.0.0.1")
	dead := closedPort(t)
	for _, c := range []struct {
		name  string
		hosts []string
		tls   tlspolicy.Tree
		spoke string
		flows int
	}{
		{"by name", []string{"localhost"}, nil, "TLSv1.3", 1},
		{"by address, of two", []string{dead, "127.0.0.1"}, tlspolicy.Tree{"/interface/postgres": {Max: "1.2"}}, "TLSv1.2", 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := onehost.Open(t, onehost.Options{Change: func(conf *config.Config) {
				conf.Store.DSN, conf.TLS = pg.Sealed(c.hosts...), c.tls
			}})
			s.User("alice", "101")
			s.User("bob", "102")
			alice, bob := s.Phone("alice"), s.Phone("bob")
			out, in := s.Talk(alice, bob, "102")
			s.Hears(out, 700)
			s.Hears(in, 440)
			out.Hangup()
			if got := pg.Query(s.Node.Config.Store.DSN, "SELECT DISTINCT coalesce(s.version, 'plain') FROM pg_stat_activity a JOIN pg_stat_ssl s USING (pid) WHERE a.application_name = 'ringfence'"); got != c.spoke {
				t.Errorf("the server sees connections of %q, want %s", got, c.spoke)
			}
			var ports []string
			for _, f := range s.Node.Flows() {
				if f.Room == "state/store" {
					ports = append(ports, f.Ports.String())
				}
			}
			if len(ports) != c.flows {
				t.Errorf("the flow table has the database's ports %v, want %d", ports, c.flows)
			}
			if !slices.ContainsFunc(s.Node.Endpoints(), func(e tlspolicy.Endpoint) bool { return e.Class == "postgres" }) {
				t.Error("the connection to the database has no place in the tree of TLS settings")
			}
			// A server that goes away for a moment, connections and all, is found again, and nobody notices.
			pg.Query(s.Node.Config.Store.DSN, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'ringfence'")
			s.User("carol", "103")
			s.Phone("carol")
		})
	}
}

// Of several servers the node takes the one that takes writes, not a copy that can be read only.
func TestDatabaseThatTakesWrites(t *testing.T) {
	t.Parallel()
	copied, main := testkit.NewSealedPostgres(t, "127.0.0.1"), testkit.NewSealedPostgres(t, "127.0.0.1")
	plain, at := main.Sealed("127.0.0.1"), func(dsn string) string { return dsn[strings.Index(dsn, "@")+1 : strings.Index(dsn, "/t")] }
	first := copied.Sealed("127.0.0.1")
	copied.Query(first, "ALTER DATABASE t1 SET default_transaction_read_only = on")
	roots := filepath.Join(t.TempDir(), "both.pem")
	var pem []byte
	for _, pg := range []*testkit.Postgres{copied, main} {
		b, err := os.ReadFile(pg.Roots)
		if err != nil {
			t.Fatal(err)
		}
		pem = append(pem, b...)
	}
	if err := os.WriteFile(roots, pem, 0o600); err != nil {
		t.Fatal(err)
	}
	dsn := strings.Replace(strings.Replace(plain, main.Roots, roots, 1), at(plain), at(first)+","+at(plain), 1)
	s := onehost.Open(t, onehost.Options{Change: func(conf *config.Config) { conf.Store.DSN = dsn }})
	s.User("alice", "101")
	s.Phone("alice")
	if got := main.Query(plain, "SELECT count(*) > 0 FROM pg_stat_activity WHERE application_name = 'ringfence'"); got != "t" {
		t.Errorf("the server that takes writes has connections: %s", got)
	}
}

// What the database's address gets wrong is said before or at the start, and nothing goes out in the clear or to a server that proves no name.
func TestDatabaseThatIsNotBelieved(t *testing.T) {
	t.Parallel()
	pg := testkit.NewSealedPostgres(t, "127.0.0.1") // and not "localhost"
	good, byName := pg.Sealed("127.0.0.1"), pg.Sealed("localhost")
	strangers := filepath.Join(t.TempDir(), "strangers.pem")
	other, err := os.ReadFile(testkit.NewSealedPostgres(t, "127.0.0.1").Roots)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(strangers, other, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, dsn, says string }{
		{"another name", byName, "proves no name"},
		{"another authority", strings.Replace(good, pg.Roots, strangers, 1), "proves no name"},
		{"no authority", strings.Replace(good, pg.Roots, strangers+".gone", 1), "names \""},
		{"in the clear", strings.Replace(good, "verify-full", "disable", 1), "would not be verified TLS"},
		{"of anybody", strings.Replace(good, "verify-full", "verify-ca", 1), "would not be verified TLS"},
		{"wrong password", strings.Replace(good, "correct-", "wrong-", 1), "refused our login"},
		{"nobody there", strings.Replace(good, good[strings.Index(good, "@")+1:strings.Index(good, "/t")], closedPort(t), 1), "cannot be reached"},
	} {
		t.Run(c.name, func(t *testing.T) {
			conf := onehost.Config()
			conf.Store.DSN = c.dsn
			n, err := node.Open(t.Context(), node.Options{Config: conf, Data: t.TempDir(), Version: "test", Log: node.Discard()})
			if err == nil {
				n.Close()
				t.Fatal("the node started")
			}
			if said := err.Error() + ringfence.HintOf(err); !strings.Contains(said, c.says) || strings.Contains(said, "-horse") {
				t.Errorf("it says %s (%s), want %q", err, ringfence.HintOf(err), c.says)
			}
		})
	}
	// An opener that was not told of the flow lets nobody through.
	opener, err := sockets.New(onehost.Config().Flows())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := opener.Dial(t.Context(), "postgres", netip.MustParseAddrPort("127.0.0.1:5432")); ringfence.KindOf(err) != ringfence.KindDenied {
		t.Errorf("a flow that was not declared: %v", err)
	}
}

// Two nodes of one name on one SQLite file, each with a data directory of its own: the second does not start, and a damaged identifier is named.
func TestOneNameOneNode(t *testing.T) {
	shared, first, second := "sqlite:"+filepath.Join(t.TempDir(), "shared.db"), t.TempDir(), t.TempDir()
	open := func(data string) (*node.Node, error) {
		conf := onehost.Config()
		conf.Store.DSN = shared
		return node.Open(t.Context(), node.Options{Config: conf, Data: data, Version: "test", Log: node.Discard()})
	}
	n, err := open(first)
	if err != nil {
		t.Fatal(err)
	}
	key, err := os.ReadFile(filepath.Join(first, "seal.key"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(second, "seal.key"), key, 0o600); err != nil {
		t.Fatal(err)
	}
	if other, err := open(second); ringfence.KindOf(err) != ringfence.KindConflict || !strings.Contains(err.Error(), first) {
		if err == nil {
			other.Close()
		}
		t.Errorf("the second: %v", err)
	}
	n.Close()
	if n, err = open(second); err != nil { // the first gave the name back
		t.Fatal(err)
	}
	n.Close()
	if err := os.WriteFile(filepath.Join(first, "node.id"), []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	if n, err = open(first); err == nil || !strings.Contains(err.Error(), "node.id is damaged") {
		if err == nil {
			n.Close()
		}
		t.Errorf("a damaged identifier: %v", err)
	}
}
