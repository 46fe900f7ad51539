package node_test

import (
	"bytes"
	"compress/gzip"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"ringfence"
	"ringfence/internal/node/config"
	"ringfence/internal/node/observe/ladder"
	"ringfence/internal/node/sockets"
	"ringfence/internal/state/bus"
	"ringfence/internal/state/store"
	"ringfence/internal/testkit"
	"ringfence/internal/testkit/onehost"
)

// heap gathers what collectors got.
type heap struct {
	mu   sync.Mutex
	got  []byte
	many [][]byte
}

func (h *heap) Write(b []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.got = append(h.got, b...)
	h.many = append(h.many, bytes.Clone(b))
	return len(b), nil
}

func (h *heap) all() [][]byte {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.many[:len(h.many):len(h.many)]
}

func (h *heap) has(s string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return bytes.Contains(h.got, []byte(s))
}

// pemFile writes PEM blocks to a file of the test.
func pemFile(t *testing.T, dir, name, kind string, der []byte) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestWatchers makes a call while everybody watches, and checks what each of them saw, and that nobody saw a key.
func TestWatchers(t *testing.T) {
	authority := testkit.NewAuthority("collectors")
	captures, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer captures.Close()
	var hep, logs, traces heap
	go func() {
		b := make([]byte, 65536)
		for {
			n, _, err := captures.ReadFrom(b)
			if err != nil {
				return
			}
			_, _ = hep.Write(b[:n])
		}
	}()
	collector, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{authority.Issue("127.0.0.1")}, MinVersion: tls.VersionTLS13})
	if err != nil {
		t.Fatal(err)
	}
	defer collector.Close()
	go func() {
		for {
			c, err := collector.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = io.Copy(&logs, c)
			}()
		}
	}()
	otlp := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if z, err := gzip.NewReader(r.Body); err == nil {
			_, _ = io.Copy(&traces, z)
		}
	}))
	otlp.TLS = &tls.Config{Certificates: []tls.Certificate{authority.Issue("127.0.0.1")}, MinVersion: tls.VersionTLS13}
	otlp.StartTLS()
	defer otlp.Close()

	s := newSite(t, func(c *config.Config) {
		c.Observe.HEP, c.Observe.HEPID = "udp://"+captures.LocalAddr().String(), 7
		c.Observe.Traces = otlp.URL
		c.Observe.Authorities = pemFile(t, t.TempDir(), "ca.pem", "CERTIFICATE", authority.Root())
		c.Log.Syslog = "tls://" + collector.Addr().String()
	})
	var events heap
	for _, k := range []bus.Kind{bus.CallStarted, bus.CallAnswered, bus.CallEnded, bus.RegistrationChanged, bus.CertificateIssued} {
		s.Node.Bus.Subscribe(k, func(e bus.Event) {
			fmt.Fprintf(&events, "%s %s.%s.%s.%s;", e.Kind, e.User, e.Number, e.State, e.Device)
		})
	}
	s.User("alice", "101")
	s.User("bob", "102")
	alice, bob := s.Phone("alice"), s.Phone("bob")
	out, in := s.Talk(alice, bob, "102")
	id := s.Node.Calls.List()[0].ID
	out.Hangup()
	s.OK(in.WaitEnded(s.Ctx))

	for _, want := range []string{"certificate.issued ...alice-desk;", "registration.changed bob..bound.bob-desk;", "call.started alice.102..;", "call.answered ...;", "call.ended ..sealed.;"} {
		s.Until("the bus told "+want, func() bool { return events.has(want) })
	}
	s.checkLadder(id)
	s.checkCapture(&hep, string(id))
	s.Node.Close() // what waits is sent
	s.Until("the call is a trace", func() bool {
		return traces.has(string(id)) && traces.has("AEAD_AES_256_GCM") && traces.has("ringfence.leg.id") && traces.has("TLS 1.3")
	})
	s.Until("syslog has the warning about the capture server", func() bool { return logs.has("copies of signalling leave this node unsealed") })
	if !logs.has("<28>1 ") {
		t.Errorf("no RFC 5424 message: %s", logs.all())
	}
}

func (s *site) checkLadder(id ringfence.CallID) {
	s.Helper()
	var text bytes.Buffer
	s.Until("the ladder has the goodbye of both legs", func() bool {
		messages, _, ok := s.Node.Ladder.Messages(id)
		if !ok {
			s.Fatal("the call is not remembered")
		}
		text.Reset()
		s.OK(ladder.Render(&text, messages, 100))
		return strings.Count(text.String(), "200 OK (BYE)") == 2
	})
	for _, want := range []string{"alice-desk", "bob-desk", "node-1", "TLS 1.3", "INVITE", "180 Ringing", "SRTP AEAD_AES_256_GCM", "ACK"} {
		if !strings.Contains(text.String(), want) {
			s.Errorf("the ladder lacks %q:\n%s", want, text.String())
		}
	}
}

// checkCapture reads HEP records by their published layout.
func (s *site) checkCapture(h *heap, call string) {
	s.Helper()
	s.Until("the capture server got both legs", func() bool {
		legs := map[string]bool{}
		for _, b := range h.all() {
			payload, correlation := "", ""
			for rest := b[6:]; len(rest) >= 6; rest = rest[binary.BigEndian.Uint16(rest[4:]):] {
				value := string(rest[6:binary.BigEndian.Uint16(rest[4:])])
				switch binary.BigEndian.Uint16(rest[2:]) {
				case 0x0f:
					payload = value
				case 0x11:
					correlation = value
				}
			}
			if correlation != call {
				continue
			}
			for line := range strings.Lines(payload) {
				if rest, ok := strings.CutPrefix(line, "Call-ID:"); ok && strings.Contains(payload, "BYE") {
					legs[rest] = true
				}
				if _, key, ok := strings.Cut(line, "inline:"); ok && strings.Trim(key, "x| \r\n") != "" {
					s.Fatalf("a key left the node: %s", line)
				}
			}
		}
		return len(legs) == 2
	})
}

// TestRevokedElsewhere has another node revoke a device: one that shares the store, and says so on a bus outside.
func TestRevokedElsewhere(t *testing.T) {
	authority, dir := testkit.NewAuthority("bus"), t.TempDir()
	cert := authority.Issue("127.0.0.1")
	key, err := x509.MarshalECPrivateKey(cert.PrivateKey.(*ecdsa.PrivateKey))
	if err != nil {
		t.Fatal(err)
	}
	roots := pemFile(t, dir, "ca.pem", "CERTIFICATE", authority.Root())
	cmd := exec.Command("/usr/sbin/nats-server", "-a", "127.0.0.1", "-p", "-1", "--tls", "--tlscert", pemFile(t, dir, "cert.pem", "CERTIFICATE", cert.Certificate[0]),
		"--tlskey", pemFile(t, dir, "key.pem", "EC PRIVATE KEY", key), "--ports_file_dir", dir)
	if err := cmd.Start(); err != nil {
		t.Fatalf("nats-server is needed: apt-get install nats-server (%v)", err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	url := ""
	onehost.New(t, time.Minute).Until("the server listens", func() bool {
		var ports struct{ Nats []string }
		b, _ := os.ReadFile(filepath.Join(dir, fmt.Sprintf("nats-server_%d.ports", cmd.Process.Pid)))
		if json.Unmarshal(b, &ports) != nil || len(ports.Nats) == 0 {
			return false
		}
		url = "tls://127.0.0.1" + ports.Nats[0][strings.LastIndexByte(ports.Nats[0], ':'):]
		return true
	})
	s := newSite(t, func(c *config.Config) { c.Bus.URL, c.Observe.Authorities = url, roots })
	if !s.Node.Bus.Stats().Connected {
		t.Fatal("the node is not on the bus")
	}
	s.User("alice", "101")
	s.User("bob", "102")
	alice, bob := s.Phone("alice"), s.Phone("bob")
	_, in := s.Talk(alice, bob, "102")

	at, err := netip.ParseAddrPort(strings.TrimPrefix(url, "tls://"))
	s.OK(err)
	opener, err := sockets.New([]ringfence.Flow{{Name: "bus", Purpose: "test", Room: "test", Direction: ringfence.Dials, Transport: "tcp", Ports: ringfence.PortRange{First: at.Port(), Last: at.Port()}}})
	s.OK(err)
	other, err := bus.Open(s.Ctx, bus.Config{Node: "node-2", URL: url, Opener: opener, TLS: &tls.Config{RootCAs: authority.Pool, MinVersion: tls.VersionTLS13}, Log: slog.New(slog.DiscardHandler)})
	s.OK(err)
	defer other.Close()

	// A word alone does nothing: the store says that bob's phone is fine.
	s.OK(other.Publish(s.Ctx, bus.Event{Kind: bus.DeviceRevoked, Device: "bob-desk"}))
	s.Until("the word was heard", func() bool { return s.Node.Bus.Stats().Received > 0 })

	d, err := s.Node.Store.Device(s.Ctx, "alice-desk")
	s.OK(err)
	d.State = store.DeviceRevoked
	s.OK(s.Node.Store.UpdateDevice(s.Ctx, d))
	certs, err := s.Node.Store.CertificatesOf(s.Ctx, "alice-desk")
	s.OK(err)
	for _, c := range certs {
		s.OK(s.Node.Store.RevokeCertificate(s.Ctx, c.Serial, time.Now(), "lost", store.AuditEntry{At: time.Now(), Who: "node-2", What: "certificate.revoke", Target: c.Serial}))
	}
	s.OK(other.Publish(s.Ctx, bus.Event{Kind: bus.DeviceRevoked, Device: "alice-desk", Cause: "lost"}))
	s.Until("the registration is gone", func() bool { return len(s.Node.Registrar.Locate("alice")) == 0 })
	_ = in.WaitEnded(s.Ctx)
	s.Until("the certificate is refused", func() bool { return s.Node.Authority.IsRevoked(certs[0].Serial) })
	if len(s.Node.Registrar.Locate("bob")) != 1 {
		t.Error("bob lost his registration too")
	}
}
