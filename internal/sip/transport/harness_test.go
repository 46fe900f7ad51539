package transport

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"ringfence"
	"ringfence/internal/sip"
	"ringfence/internal/testkit"
)

var (
	serverAddr = netip.MustParseAddr("192.0.2.1")
	clientAddr = netip.MustParseAddr("192.0.2.2")
	serverPort = netip.AddrPortFrom(serverAddr, 5061)
)

// authority is shared, because making keys is slow; nothing changes it.
var authority = sync.OnceValue(func() *testkit.Authority { return testkit.NewAuthority("test root") })

// heard is what a recorder keeps of one message.
type heard struct {
	conn *Conn
	text string
	err  error
}

// recorder is a Receiver and a Verifier.
type recorder struct {
	mu      sync.Mutex
	msgs    []heard
	closed  map[*Conn][]error
	changed chan struct{}
	on      func(c *Conn, m *sip.Message) // may be nil
}

func newRecorder() *recorder {
	return &recorder{closed: map[*Conn][]error{}, changed: make(chan struct{}, 1)}
}

func (r *recorder) wake() {
	select {
	case r.changed <- struct{}{}:
	default:
	}
}

func (r *recorder) Receive(c *Conn, m *sip.Message, err error) {
	r.mu.Lock()
	r.msgs = append(r.msgs, heard{c, string(m.Bytes()), err})
	r.mu.Unlock()
	if r.on != nil && err == nil {
		r.on(c, m)
	}
	r.wake()
}

func (r *recorder) Closed(c *Conn, cause error) {
	r.mu.Lock()
	r.closed[c] = append(r.closed[c], cause)
	r.mu.Unlock()
	r.wake()
}

func (r *recorder) Verify(cs tls.ConnectionState) (Peer, *ringfence.TLSProof, error) {
	var p Peer
	if len(cs.PeerCertificates) > 0 {
		p = Peer{Name: cs.PeerCertificates[0].Subject.CommonName, Role: "device"}
		if p.Name == "revoked" {
			return p, nil, &ringfence.Fault{Op: "test", Kind: ringfence.KindDenied, Text: "revoked"}
		}
	}
	return p, &ringfence.TLSProof{Version: tls.VersionName(cs.Version)}, nil
}

func (r *recorder) messages() []heard {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]heard(nil), r.msgs...)
}

func (r *recorder) causes(c *Conn) []error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]error(nil), r.closed[c]...)
}

// until waits for a condition that changes with what the recorder hears; it looks again now and then for the rest.
func (r *recorder) until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	limit := time.NewTimer(20 * time.Second)
	defer limit.Stop()
	for !ok() {
		again := time.NewTimer(5 * time.Millisecond)
		select {
		case <-r.changed:
		case <-again.C:
		case <-limit.C:
			t.Fatal("waited in vain for " + what)
		}
		again.Stop()
	}
}

func newLayer(opener ringfence.Opener, r *recorder, change func(*Config)) *Layer {
	cfg := Config{Opener: opener, Receiver: r, Verifier: r, Log: slog.New(slog.DiscardHandler)}
	if change != nil {
		change(&cfg)
	}
	return New(cfg)
}

// message builds a request whose CSeq tells it apart.
func message(seq int, body string) []byte {
	var w sip.Writer
	w.RequestLine(sip.MESSAGE, "sip:bob@example.com")
	w.Header(sip.HeaderVia, fmt.Sprintf("SIP/2.0/TLS 192.0.2.2:5061;branch=z9hG4bK%x;rport", seq))
	w.Uint(sip.HeaderMaxForwards, 70)
	w.Header(sip.HeaderFrom, "<sip:alice@example.com>;tag=1")
	w.Header(sip.HeaderTo, "<sip:bob@example.com>")
	w.Header(sip.HeaderCallID, "call")
	w.CSeq(uint32(seq), sip.MESSAGE)
	w.Body("text/plain", []byte(body))
	return bytes.Clone(w.Bytes())
}

// loopback opens real sockets.
type loopback struct{}

func (loopback) Listen(_ context.Context, _ string, at netip.AddrPort) (net.Listener, error) {
	return net.Listen("tcp", at.String())
}

func (loopback) ListenUDP(_ context.Context, _ string, at netip.AddrPort) (net.PacketConn, error) {
	return net.ListenPacket("udp", at.String())
}

func (loopback) Dial(ctx context.Context, _ string, to netip.AddrPort) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "tcp", to.String())
}

var anyLocal = netip.MustParseAddrPort("127.0.0.1:0")

// virtual returns a server layer that listens at serverPort on a new network, and a raw TLS client on it.
func virtual(t *testing.T, change func(*Config)) (*testkit.Net, *Layer, *recorder) {
	t.Helper()
	n := testkit.New(1)
	r := newRecorder()
	l := newLayer(n.Host(serverAddr), r, change)
	if _, err := l.Listen(t.Context(), "sip-tls", serverPort, authority().Server("sip.example.com")); err != nil {
		t.Fatal(err)
	}
	return n, l, r
}

func dialRaw(t *testing.T, n *testkit.Net) net.Conn {
	t.Helper()
	c, err := n.Host(clientAddr).Dial(t.Context(), "test", serverPort)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func dialTLS(t *testing.T, n *testkit.Net) *tls.Conn {
	t.Helper()
	c := tls.Client(dialRaw(t, n), authority().Client("alice-desk", "sip.example.com"))
	if err := c.Handshake(); err != nil {
		t.Fatal(err)
	}
	return c
}

func tlsClient(c net.Conn) *tls.Conn {
	return tls.Client(c, authority().Client("", "sip.example.com"))
}
