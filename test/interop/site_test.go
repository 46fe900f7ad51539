package interop_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/md5"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"ringfence"
	"ringfence/internal/call/control"
	"ringfence/internal/media/codec"
	"ringfence/internal/node"
	"ringfence/internal/node/config"
	"ringfence/internal/service/phone"
	"ringfence/internal/state/store"
	"ringfence/internal/trust/enroll"
)

// site is a whole node on loopback, as the judges meet it.
type site struct {
	*testing.T
	node *node.Node
	ctx  context.Context
	home string // a directory for the files of the judges
	data string // what the node keeps
}

func newSite(t *testing.T, change func(*config.Config)) *site {
	t.Helper()
	c := config.Default()
	c.SIP.TLS = netip.MustParseAddrPort("127.0.0.1:0")
	c.API.HTTPS = netip.MustParseAddrPort("127.0.0.1:0")
	c.Media.Addr = netip.MustParseAddr("127.0.0.1")
	c.Media.First, c.Media.Last = mediaPorts(t)
	if change != nil {
		change(&c)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	s := &site{T: t, ctx: ctx, home: t.TempDir(), data: t.TempDir()}
	s.open(c)
	s.file("ca.pem", s.node.Authority.RootPEM())
	return s
}

func (s *site) open(c config.Config) {
	s.Helper()
	log := slog.New(slog.NewTextHandler(s.Output(), &slog.HandlerOptions{Level: slog.LevelInfo}))
	n, err := node.Open(s.ctx, node.Options{Config: c, Data: s.data, Version: "test", Log: log})
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(n.Close)
	s.node = n
}

// restart stops the node and starts it again where it was.
func (s *site) restart() {
	s.Helper()
	c := s.node.Config
	c.SIP.TLS = s.node.SIPAddr()
	s.node.Close()
	s.open(c)
}

// mediaPorts claims 498 UDP ports that no other test and no other node on this machine uses; the one behind them is held as the
// sign of it. A port rests after a call, so that a test with many calls needs many.
func mediaPorts(t *testing.T) (first, last uint16) {
	t.Helper()
	for range 1000 {
		first = 6000 + 500*uint16(rand.IntN(19)) // above 5060, where other judges speak in the clear among themselves
		claim, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4zero, Port: int(first) + 498})
		if err == nil {
			t.Cleanup(func() { _ = claim.Close() })
			return first, first + 497
		}
	}
	t.Fatal("no media ports are free")
	return 0, 0
}

func (s *site) ok(err error) {
	s.Helper()
	if err != nil {
		s.Fatalf("%v (%s)", err, ringfence.HintOf(err))
	}
}

// path names a file of the judges.
func (s *site) path(name string) string { return filepath.Join(s.home, name) }

// file writes a file of the judges and returns its path.
func (s *site) file(name string, content []byte) string {
	s.Helper()
	s.ok(os.MkdirAll(filepath.Dir(s.path(name)), 0o700))
	s.ok(os.WriteFile(s.path(name), content, 0o600))
	return s.path(name)
}

// port is the node's SIP port.
func (s *site) port() string { return fmt.Sprint(s.node.SIPAddr().Port()) }

func (s *site) user(id ringfence.UserID, number ringfence.Number) {
	s.Helper()
	s.ok(s.node.Store.CreateUser(s.ctx, store.User{ID: id, Name: strings.ToUpper(string(id[:1])) + string(id[1:]), Numbers: []ringfence.Number{number}, TollClass: "internal"}))
	s.ok(s.node.Roster.Reload(s.ctx))
}

// identity enrols a new device of a user by code.
func (s *site) identity(user ringfence.UserID, device ringfence.DeviceID) enroll.Identity {
	s.Helper()
	s.ok(s.node.Store.CreateDevice(s.ctx, store.Device{ID: device, User: user, Kind: "test", Created: time.Now()}))
	s.ok(s.node.Roster.Reload(s.ctx))
	code, _, err := s.node.Enroll.NewCode(s.ctx, device)
	s.ok(err)
	c := enroll.Client{Dial: func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", s.node.HTTPSAddr().String())
	}}
	id, err := c.Enrol(s.ctx, "localhost", code)
	s.ok(err)
	return id
}

// certificate enrols a new device and writes its files as `ringfence phone --enrol` does, into a directory with its name, and
// DEVICE.pem beside them: the chain and the key in one file.
func (s *site) certificate(user ringfence.UserID, device ringfence.DeviceID) enroll.Identity {
	s.Helper()
	id := s.identity(user, device)
	s.keyPair(string(device), id.Chain, id.Key)
	return id
}

func (s *site) keyPair(name string, chain [][]byte, key *ecdsa.PrivateKey) {
	s.Helper()
	var crt []byte
	for _, c := range chain {
		crt = append(crt, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c})...)
	}
	der, err := x509.MarshalECPrivateKey(key)
	s.ok(err)
	k := pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})
	s.file(name+"/chain.pem", crt)
	s.file(name+"/key.pem", k)
	s.file(name+"/"+name+".pem", append(crt[:len(crt):len(crt)], k...))
}

// password makes a device that answers digest challenges; its username is the device id.
func (s *site) password(user ringfence.UserID, device ringfence.DeviceID, secret string, algs ...ringfence.Auth) {
	s.Helper()
	s.ok(s.node.Store.CreateDevice(s.ctx, store.Device{ID: device, User: user, Kind: "test", Created: time.Now(), Profile: store.DeviceProfile{Auth: algs}}))
	text := fmt.Sprintf("%s:%s:%s", device, s.node.Config.Domain, secret)
	for _, alg := range algs {
		sum := md5.Sum([]byte(text))
		ha1 := sum[:]
		if alg == ringfence.AuthDigestSHA256 {
			long := sha256.Sum256([]byte(text))
			ha1 = long[:]
		}
		s.ok(s.node.Store.PutDigestSecret(s.ctx, store.DigestSecret{Device: device, Username: string(device), Realm: s.node.Config.Domain, Algorithm: alg, HA1: ha1}))
	}
	s.ok(s.node.Roster.Reload(s.ctx))
}

// phone opens a headless phone of a new device of the user.
func (s *site) phone(user ringfence.UserID) *phone.Phone {
	s.Helper()
	return s.phoneWith(user, func(*phone.Config) {})
}

func (s *site) phoneWith(user ringfence.UserID, change func(*phone.Config)) *phone.Phone {
	s.Helper()
	id := s.identity(user, ringfence.DeviceID(string(user)+"-headless"))
	sockets, err := node.NewSockets(phone.Flows(ringfence.PortRange{}, ringfence.PortRange{}))
	s.ok(err)
	cfg := phone.Config{Opener: sockets, Server: s.node.SIPAddr(), ServerName: id.Bootstrap.Domain,
		TLS:  &tls.Config{RootCAs: id.Pool(), Certificates: []tls.Certificate{id.Certificate()}, MinVersion: tls.VersionTLS13},
		User: string(id.Bootstrap.User), Domain: id.Bootstrap.Domain, MediaAddr: netip.MustParseAddr("127.0.0.1"), Log: node.Discard()}
	change(&cfg)
	p, err := phone.Open(s.ctx, cfg)
	s.ok(err)
	s.Cleanup(func() { _ = p.Close() })
	return p
}

// incoming waits for the next call at a headless phone.
func (s *site) incoming(p *phone.Phone) *phone.Call {
	s.Helper()
	select {
	case c := <-p.Incoming():
		return c
	case <-s.ctx.Done():
		s.Fatal("no call came")
		return nil
	}
}

// until waits for a condition that the outside world brings about.
func (s *site) until(what string, cond func() bool) {
	s.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-tick.C:
		case <-s.ctx.Done():
			s.Fatalf("never: %s", what)
		}
	}
}

// hears waits until a headless phone hears a tone within 2 %.
func (s *site) hears(c *phone.Call, hz float64) {
	s.Helper()
	s.until(fmt.Sprintf("%.0f Hz are heard", hz), func() bool { return near(c.Audio().HeardHz, hz) })
}

func near(got, want float64) bool { return got > want*0.98 && got < want*1.02 }

// digits waits until a headless phone has received these keys, in order.
func (s *site) digits(c *phone.Call, want string) {
	s.Helper()
	got := ""
	for got != want {
		select {
		case d := <-c.Digits():
			if got += string(d); !strings.HasPrefix(want, got) {
				s.Fatalf("digits %q, want %q", got, want)
			}
		case <-s.ctx.Done():
			s.Fatalf("digits %q, want %q", got, want)
		}
	}
}

// recorded waits until a recording of a judge ends with half a second of a tone.
func (s *site) recorded(file string, hz float64) {
	s.Helper()
	s.until(fmt.Sprintf("%s ends with %.0f Hz", filepath.Base(file), hz), func() bool {
		b, err := os.ReadFile(file)
		if err != nil || len(b) < 44 {
			return false
		}
		return near(ending(b), hz)
	})
}

// ending returns the tone of the last 400 ms of a WAV file that may still be growing, or 0: at least nine in ten frames must have it.
func ending(b []byte) float64 {
	sound, err := codec.ParseWAV(whole(b))
	if err != nil {
		return 0
	}
	frame := sound.Rate / 50
	const frames = 20
	if len(sound.Samples) < frame*frames {
		return 0
	}
	tail := sound.Samples[len(sound.Samples)-frame*frames:]
	var seen []float64
	for i := range frames {
		if h := codec.Hear(tail[i*frame:(i+1)*frame], sound.Rate); h.Confidence > 0.8 && h.Level > -50 {
			seen = append(seen, h.Hz)
		}
	}
	if len(seen) < frames*9/10 {
		return 0
	}
	for _, hz := range seen {
		if !near(hz, seen[0]) {
			return 0
		}
	}
	return seen[0]
}

// whole repairs the lengths in the header of a WAV file that is still being written.
func whole(b []byte) []byte {
	b = append([]byte(nil), b...)
	if b[0] == 0 { // linphone writes the header last; until then it is empty
		empty, _ := codec.Sound{Rate: 8000}.WAV()
		copy(b, empty[:44])
	}
	put := func(at int, n int) {
		for i := range 4 {
			b[at+i] = byte(n >> (8 * i))
		}
	}
	for at := 12; at+8 <= len(b); {
		n := int(b[at+4]) | int(b[at+5])<<8 | int(b[at+6])<<16 | int(b[at+7])<<24
		if string(b[at:at+4]) == "data" {
			data := (len(b) - at - 8) &^ 1
			put(at+4, data)
			b = b[:at+8+data]
			break
		}
		at += 8 + n + n&1
	}
	put(4, len(b)-8)
	return b
}

// sealed checks the one call of the node: its verdict, and what each leg's media is sealed with. It returns the call.
func (s *site) sealed(suites ...string) control.View {
	s.Helper()
	calls := s.node.Calls.List()
	if len(calls) != 1 || calls[0].State != "up" || calls[0].Verdict != ringfence.Sealed || len(calls[0].Legs) != 2 {
		s.Fatalf("calls = %+v", calls)
	}
	for i, l := range calls[0].Legs {
		if l.TLS == nil || l.Media == nil || l.Media.Suite != suites[i] || l.Media.DSCP != 46 {
			s.Errorf("leg %s: tls %+v media %+v, want %s", l.ID, l.TLS, l.Media, suites[i])
		}
	}
	return calls[0]
}

// over waits until the node has no call.
func (s *site) over() {
	s.Helper()
	s.until("all calls are over", func() bool { return s.node.Calls.Count() == 0 })
}

// registered waits for a registration of a device.
func (s *site) registered(device ringfence.DeviceID) store.Binding {
	s.Helper()
	var b store.Binding
	s.until(string(device)+" is registered", func() bool {
		for _, c := range s.node.Registrar.All() {
			if c.Device == device && c.Live() {
				b = c.Binding
				return true
			}
		}
		return false
	})
	return b
}

// guide returns the fenced block with this name ("```text config") of a guide, with example values replaced by those of the test.
func (s *site) guide(page, block string, replace ...string) string {
	s.Helper()
	b, err := os.ReadFile(filepath.Join("..", "..", "docs", "guides", "phones", page))
	s.ok(err)
	m := regexp.MustCompile("(?ms)^```[a-z]* " + regexp.QuoteMeta(block) + "\n(.*?)^```$").FindSubmatch(b)
	if m == nil {
		s.Fatalf("%s has no block %q", page, block)
	}
	text := string(m[1])
	for i := 0; i < len(replace); i += 2 {
		if !strings.Contains(text, replace[i]) {
			s.Fatalf("%s, block %s: nothing to replace for %q", page, block, replace[i])
		}
		text = strings.ReplaceAll(text, replace[i], replace[i+1])
	}
	return text
}
