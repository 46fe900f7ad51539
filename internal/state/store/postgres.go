package store

import (
	"context"
	"crypto/tls"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/url"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"

	"ringfence"
)

// Network is the way to PostgreSQL servers on the network.
type Network interface {
	// Resolve returns the addresses of a host, the best first and at least one.
	Resolve(ctx context.Context, host string) ([]netip.Addr, error)
	// Dial opens a stream to addr for a flow of [Config.Flows].
	Dial(ctx context.Context, flow string, addr netip.AddrPort) (net.Conn, error)
	// Seal returns what TLS is spoken with addr. Whom to believe, and what proves who we are, is as in base: the address of the database says that,
	// because every other place for it is in the database.
	Seal(base *tls.Config, addr netip.AddrPort) *tls.Config
}

// hostPatience is how long one server may take to let us in, unless the address has connect_timeout: a second one may be waiting.
const hostPatience = 5 * time.Second

// maxCertFile bounds the files that an address names, in bytes.
const maxCertFile = 1 << 20

// server is one PostgreSQL server of an address.
type server struct {
	host string // name, IP address, or socket directory
	port uint16
	tls  *tls.Config
}

func (s server) local() bool { return strings.HasPrefix(s.host, "/") }

// flowTo returns the name of the flow to servers on a port. Most have the one port.
func flowTo(port, first uint16) string {
	if port == first {
		return "postgres"
	}
	return fmt.Sprintf("postgres-%d", port)
}

// Flows declares what the store needs of the network: nothing for SQLite or a local socket, and one dialled flow for each port of PostgreSQL.
func (c Config) Flows() (flows []ringfence.Flow) {
	if !c.postgres() {
		return nil
	}
	_, servers, err := c.pgConfig()
	if err != nil {
		return nil
	}
	at := map[uint16]int{}
	for _, s := range servers {
		if s.local() {
			continue
		}
		i, ok := at[s.port]
		if ok {
			flows[i].Peers += ", " + s.host
			continue
		}
		at[s.port] = len(flows)
		first := s.port
		if len(flows) > 0 {
			first = flows[0].Ports.First
		}
		flows = append(flows, ringfence.Flow{Name: flowTo(s.port, first), Purpose: "keeps facts in PostgreSQL", Room: "state/store", Direction: ringfence.Dials, Transport: "tcp",
			Ports: ringfence.PortRange{First: s.port, Last: s.port}, Peers: "the database: " + s.host, TLS: ringfence.TLSServer})
	}
	return flows
}

// Named returns the hosts of the database that are names, and have to be looked up.
func (c Config) Named() (names []string) {
	if !c.postgres() {
		return nil
	}
	_, servers, err := c.pgConfig()
	if err != nil {
		return nil
	}
	for _, s := range servers {
		if _, err := netip.ParseAddr(s.host); err != nil && !s.local() {
			names = append(names, s.host)
		}
	}
	return names
}

func (c Config) postgres() bool {
	return strings.HasPrefix(c.DSN, "postgres://") || strings.HasPrefix(c.DSN, "postgresql://")
}

// pgConfig parses a PostgreSQL address, and refuses one that would carry facts over an unverified network connection.
func (c Config) pgConfig() (*pgx.ConnConfig, []server, error) {
	const op = "store.config"
	// The parser reads what the address names, and says nothing of use when it cannot.
	if u, err := url.Parse(c.DSN); err == nil {
		for _, key := range [...]string{"sslrootcert", "sslcert", "sslkey", "passfile", "servicefile"} {
			file := u.Query().Get(key)
			if file == "" || key == "sslrootcert" && file == "system" {
				continue
			}
			if info, err := os.Stat(file); err != nil || !info.Mode().IsRegular() || info.Size() > maxCertFile {
				return nil, nil, fault(op, ringfence.KindInvalid, fmt.Sprintf("%s of the PostgreSQL address names %.200q, which is no file that can be read", key, file),
					"name a file of at most 1 MiB, readable by the service's user", err)
			}
		}
	}
	pc, err := pgx.ParseConfig(c.DSN)
	if err != nil {
		// The parser's error may quote the address, password and all: it is not passed on.
		return nil, nil, fault(op, ringfence.KindInvalid, "the PostgreSQL address cannot be read", "write postgres://user@host:5432/name?sslmode=verify-full", nil)
	}
	servers := []server{{pc.Host, pc.Port, pc.TLSConfig}}
	for _, f := range pc.Fallbacks {
		servers = append(servers, server{f.Host, f.Port, f.TLSConfig})
	}
	for _, s := range servers {
		if !s.local() && (s.tls == nil || s.tls.InsecureSkipVerify) {
			return nil, nil, fault(op, ringfence.KindInsecure, fmt.Sprintf("the connection to the PostgreSQL server %s would not be verified TLS", s.host),
				"add sslmode=verify-full (and sslrootcert=) to the address, or use a socket directory", nil)
		}
	}
	return pc, servers, nil
}

func (s *Store) openPostgres(c Config) error {
	pc, servers, err := c.pgConfig()
	if err != nil {
		return err
	}
	pc.RuntimeParams["lock_timeout"] = fmt.Sprint(c.busy().Milliseconds())
	pc.RuntimeParams["application_name"] = "ringfence"
	if len(servers) > 1 && pc.ValidateConnect == nil { // of several, one takes writes; the others are its copies
		pc.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsReadWrite
	}
	if !slices.ContainsFunc(servers, func(s server) bool { return !s.local() }) {
		s.writer = stdlib.OpenDB(*pc)
	} else {
		if c.Network == nil {
			return fault("store.open", ringfence.KindInvalid, "a PostgreSQL server on the network needs an opened flow", "hand Config.Network the node's opener", nil)
		}
		s.writer = stdlib.OpenDB(*pc, stdlib.OptionBeforeConnect((&pgRoute{c.Network, servers, c.Flows()}).prepare))
	}
	n := max(8, 4*runtime.NumCPU())
	s.writer.SetMaxOpenConns(n)
	s.writer.SetMaxIdleConns(n)
	s.reader, s.postgr = s.writer, true
	return nil
}

// again does what changes nothing, and does it again while that only finds that a connection of the pool had ended unnoticed, as all of them have when
// the server was started anew. Inside a transaction there is nothing to do again.
func again(x execer, do func() error) error {
	err := do()
	db, ok := x.(*sql.DB)
	if !ok {
		return err
	}
	most := db.Stats().MaxOpenConnections
	for n := most; n > 0 && ended(err); n-- {
		db.SetMaxIdleConns(0) // the others have ended as well, and what writes cannot try them one by one
		db.SetMaxIdleConns(most)
		err = do()
	}
	return err
}

// ended reports whether a connection that was up turned out to have ended; a new one that cannot be opened is something else.
func ended(err error) bool {
	if _, ok := errors.AsType[*pgconn.ConnectError](err); ok {
		return false
	}
	e, ok := errors.AsType[*pgconn.PgError](err)
	return ok && (e.Code == "57P01" || e.Code == "57P02") || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}

// pgRoute leads each new connection through the node's own hands: its resolver, its opener and its TLS settings.
type pgRoute struct {
	net     Network
	servers []server
	flows   []ringfence.Flow
}

// prepare replaces each server by its addresses as they are now. One whose name has none is left out while another has.
func (r *pgRoute) prepare(ctx context.Context, pc *pgx.ConnConfig) error {
	var ways []*pgconn.FallbackConfig
	var failed error
	for _, s := range r.servers {
		if s.local() {
			ways = append(ways, &pgconn.FallbackConfig{Host: s.host, Port: s.port})
			continue
		}
		addrs, err := r.resolve(ctx, s.host)
		if err != nil {
			failed = err
			continue
		}
		for _, a := range addrs {
			ways = append(ways, &pgconn.FallbackConfig{Host: a.String(), Port: s.port, TLSConfig: r.net.Seal(s.tls, netip.AddrPortFrom(a, s.port))})
		}
	}
	if len(ways) == 0 {
		return failed
	}
	pc.Host, pc.Port, pc.TLSConfig, pc.Fallbacks = ways[0].Host, ways[0].Port, ways[0].TLSConfig, ways[1:]
	pc.LookupFunc = func(_ context.Context, host string) ([]string, error) { return []string{host}, nil } // they are addresses by now
	if pc.ConnectTimeout == 0 {
		pc.ConnectTimeout = hostPatience
	}
	local := pc.DialFunc
	pc.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
		if network == "unix" {
			return local(ctx, network, addr)
		}
		to, err := netip.ParseAddrPort(addr)
		if err != nil {
			return nil, err
		}
		return r.net.Dial(ctx, flowTo(to.Port(), r.flows[0].Ports.First), to)
	}
	return nil
}

func (r *pgRoute) resolve(ctx context.Context, host string) ([]netip.Addr, error) {
	if a, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{a}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, hostPatience)
	defer cancel()
	return r.net.Resolve(ctx, host)
}
