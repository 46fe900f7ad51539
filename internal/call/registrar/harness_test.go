package registrar_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"ringfence"
	"ringfence/internal/call/registrar"
	"ringfence/internal/call/roster"
	"ringfence/internal/sip"
	"ringfence/internal/sip/transaction"
	"ringfence/internal/sip/transport"
	"ringfence/internal/state/store"
	"ringfence/internal/testkit"
)

const domain = "example.test"

// people are the users and devices of a test.
type people struct {
	users   []store.User
	devices []store.Device
	secrets map[string][]byte // "device algorithm" -> HA1
}

func (p *people) Users(_ context.Context, after ringfence.UserID, _ int) ([]store.User, error) {
	if after != "" {
		return nil, nil
	}
	return p.users, nil
}

func (p *people) Devices(_ context.Context, after ringfence.DeviceID, _ int) ([]store.Device, error) {
	if after != "" {
		return nil, nil
	}
	return p.devices, nil
}

func (p *people) User(context.Context, ringfence.UserID) (store.User, error) { panic("nobody changes") }

func (p *people) DevicesOf(context.Context, ringfence.UserID) ([]store.Device, error) {
	panic("nobody changes")
}

func (p *people) DigestSecret(_ context.Context, username, _ string, alg ringfence.Auth) (store.DigestSecret, error) {
	ha1, ok := p.secrets[username+" "+string(alg)]
	if !ok {
		return store.DigestSecret{}, &ringfence.Fault{Kind: ringfence.KindNotFound, Text: "no secret"}
	}
	return store.DigestSecret{Username: username, Algorithm: alg, HA1: ha1}, nil
}

// ledger keeps bindings in memory and can be told to fail.
type ledger struct {
	mu   sync.Mutex
	rows map[store.BindingKey]store.Binding
	fail error
}

func (l *ledger) ApplyBindings(_ context.Context, put []store.Binding, remove []store.BindingKey) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fail != nil {
		return l.fail
	}
	for _, k := range remove {
		delete(l.rows, k)
	}
	for _, b := range put {
		l.rows[b.Key()] = b
	}
	return nil
}

func (l *ledger) ExpireBindings(_ context.Context, keys []store.BindingKey, now time.Time) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, k := range keys {
		if b, ok := l.rows[k]; ok && !b.Expires.After(now) {
			delete(l.rows, k)
		}
	}
	return l.fail
}

func (l *ledger) AllBindings(_ context.Context, now time.Time, each func(store.Binding) error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, b := range l.rows {
		if b.Expires.After(now) {
			if err := each(b); err != nil {
				return err
			}
		}
	}
	return nil
}

func (l *ledger) failing(err error) {
	l.mu.Lock()
	l.fail = err
	l.mu.Unlock()
}

func (l *ledger) contacts() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []string
	for b := range maps.Values(l.rows) {
		out = append(out, b.Contact)
	}
	slices.Sort(out)
	return out
}

// office is a registrar on a network in memory.
type office struct {
	*testing.T
	net    *testkit.Net
	trust  *testkit.Authority
	people *people
	roster *roster.Roster
	ledger *ledger
	reg    *registrar.Registrar
	wires  *transport.Layer
	txs    *transaction.Layer
}

func (o *office) Request(tx *transaction.Server) {
	if id, ok := o.reg.Identify(tx); ok {
		o.reg.Register(tx, id)
	}
}
func (o *office) Cancelled(*transaction.Server, *sip.Message) {}
func (o *office) Closed(c *transport.Conn, _ error)           { o.reg.Closed(c) }

// Verify takes the common name for a device, or for a proxy if it begins with "edge".
func (o *office) Verify(cs tls.ConnectionState) (transport.Peer, *ringfence.TLSProof, error) {
	proof := &ringfence.TLSProof{Version: "TLS 1.3"}
	if len(cs.PeerCertificates) == 0 {
		return transport.Peer{}, proof, nil
	}
	leaf := cs.PeerCertificates[0]
	proof.PeerNames = leaf.DNSNames
	if strings.HasPrefix(leaf.Subject.CommonName, "edge") {
		return transport.Peer{Name: leaf.Subject.CommonName, Role: "proxy"}, proof, nil
	}
	return transport.Peer{Name: leaf.Subject.CommonName, Role: "device"}, proof, nil
}

func serverAt() netip.AddrPort { return netip.MustParseAddrPort("192.0.2.1:5061") }

// inOffice runs f with alice and bob, who have a device each that proves itself by certificate; change may add to that.
func inOffice(t *testing.T, change func(*people, *registrar.Config), f func(*office)) {
	t.Helper()
	trust := testkit.NewAuthority("test")
	synctest.Test(t, func(t *testing.T) {
		o := &office{T: t, net: testkit.New(1), trust: trust, ledger: &ledger{rows: map[store.BindingKey]store.Binding{}},
			people: &people{secrets: map[string][]byte{}, users: []store.User{{ID: "alice"}, {ID: "bob"}},
				devices: []store.Device{{ID: "alice-desk", User: "alice", State: store.DeviceActive}, {ID: "alice-soft", User: "alice", State: store.DeviceActive}, {ID: "bob-desk", User: "bob", State: store.DeviceActive}}}}
		o.open(change)
		defer o.close()
		f(o)
	})
}

func (o *office) open(change func(*people, *registrar.Config)) {
	o.Helper()
	log := slog.New(slog.DiscardHandler)
	cfg := registrar.Config{Domain: domain, Ledger: o.ledger, Secrets: o.people, Log: log}
	if change != nil {
		change(o.people, &cfg)
	}
	var err error
	if o.roster, err = roster.Open(o.Context(), o.people, nil); err != nil {
		o.Fatal(err)
	}
	cfg.Roster = o.roster
	if o.reg, err = registrar.Open(o.Context(), cfg); err != nil {
		o.Fatal(err)
	}
	o.txs = transaction.New(transaction.Config{User: o, Log: log})
	o.wires = transport.New(transport.Config{Opener: o.net.Host(serverAt().Addr()), Receiver: o.txs, Verifier: o, Log: log})
	if _, err = o.wires.Listen(o.Context(), "sip", serverAt(), o.trust.Server(domain)); err != nil {
		o.Fatal(err)
	}
}

func (o *office) close() {
	o.wires.Close()
	o.txs.Close()
	o.reg.Close()
}

// handset is a phone's side of one connection.
type handset struct {
	*office
	conn net.Conn
	r    *bufio.Reader
	user string
	id   string // Call-ID
	seq  int
	at   string // host and port of its contacts
}

func (o *office) dial(device, user string) *handset {
	o.Helper()
	nc, err := o.net.Host(netip.MustParseAddr("192.0.2.9")).Dial(o.Context(), "", serverAt())
	if err != nil {
		o.Fatal(err)
	}
	c := tls.Client(nc, o.trust.Client(device, domain))
	o.Cleanup(func() { _ = nc.Close() })
	return &handset{office: o, conn: c, r: bufio.NewReader(c), user: user, id: "call-" + user, at: "192.0.2.9:40000"}
}

// register sends a REGISTER with these header lines and returns the answer.
func (h *handset) register(fields ...string) *sip.Message {
	h.Helper()
	h.seq++
	return h.registerAs(h.user, h.seq, fields...)
}

func (h *handset) registerAs(user string, seq int, fields ...string) *sip.Message {
	h.Helper()
	msg := fmt.Sprintf("REGISTER sip:%s SIP/2.0\r\nVia: SIP/2.0/TLS 192.0.2.9;branch=z9hG4bK%d%p\r\nMax-Forwards: 70\r\nFrom: <sip:%s@%s>;tag=a\r\nTo: <sip:%s@%s>\r\nCall-ID: %s\r\nCSeq: %d REGISTER\r\n",
		domain, time.Now().UnixNano()+int64(seq), h, user, domain, user, domain, h.id, seq)
	for _, f := range append(fields, "Content-Length: 0") {
		msg += f + "\r\n"
	}
	if _, err := io.WriteString(h.conn, msg+"\r\n"); err != nil {
		h.Fatal(err)
	}
	var head []byte
	for !bytes.HasSuffix(head, []byte("\r\n\r\n")) {
		line, err := h.r.ReadBytes('\n')
		if err != nil {
			h.Fatal(err)
		}
		head = append(head, line...)
	}
	m := &sip.Message{}
	if err := m.Parse(head, sip.Limits{}); err != nil {
		h.Fatal(err)
	}
	return m
}

// contact is a Contact line for a user part, with parameters.
func (h *handset) contact(user, params string) string {
	return "Contact: <sip:" + user + "@" + h.at + ">" + params
}

// want registers and checks the status.
func (h *handset) want(status int, fields ...string) *sip.Message {
	h.Helper()
	m := h.register(fields...)
	if m.Status() != status {
		h.Errorf("%q: %d %s, want %d", fields, m.Status(), m.Reason(), status)
	}
	return m
}

// listed returns the user parts of the contacts in an answer.
func listed(m *sip.Message) (out []string) {
	for line := range m.All(sip.HeaderContact) {
		for v := range sip.Values(line) {
			if a, err := sip.ParseNameAddr(v); err == nil {
				out = append(out, string(a.URI.User))
			}
		}
	}
	slices.Sort(out)
	return out
}

func (o *office) bound(user ringfence.UserID) (out []string) {
	for _, c := range o.reg.Locate(user) {
		out = append(out, strings.TrimPrefix(strings.Split(c.Contact, "@")[0], "sip:"))
	}
	slices.Sort(out)
	return out
}

func same(got []string, want ...string) bool { return slices.Equal(got, want) }
