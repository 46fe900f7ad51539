package interop_test

import (
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"ringfence"
	"ringfence/internal/call/control"
	"ringfence/internal/media/codec"
	"ringfence/internal/node/config"
	"ringfence/internal/service/phone"
	"ringfence/internal/state/store"
	"ringfence/internal/testkit/onehost"
	"ringfence/internal/trust/enroll"
)

// site is a whole node on loopback, as the judges meet it.
type site struct {
	*onehost.Site
	home string // a directory for the files of the judges
}

func newSite(t *testing.T, change func(*config.Config)) *site {
	t.Helper()
	first, last := mediaPorts(t)
	s := &site{home: t.TempDir(), Site: onehost.Open(t, onehost.Options{Within: 2 * time.Minute, Change: func(c *config.Config) {
		c.Media.First, c.Media.Last = first, last
		if change != nil {
			change(c)
		}
	}})}
	s.file("ca.pem", s.Node.Authority.RootPEM())
	return s
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

// path names a file of the judges.
func (s *site) path(name string) string { return filepath.Join(s.home, name) }

// file writes a file of the judges and returns its path.
func (s *site) file(name string, content []byte) string {
	s.Helper()
	s.OK(os.MkdirAll(filepath.Dir(s.path(name)), 0o700))
	s.OK(os.WriteFile(s.path(name), content, 0o600))
	return s.path(name)
}

// read returns what is in a file of the judges.
func (s *site) read(name string) []byte {
	s.Helper()
	b, err := os.ReadFile(s.path(name))
	s.OK(err)
	return b
}

// port is the node's SIP port.
func (s *site) port() string { return fmt.Sprint(s.Node.SIPAddr().Port()) }

// certificate enrols a new device and writes its files as `ringfence phone --enrol` does, into a directory with its name, and
// DEVICE.pem beside them: the chain and the key in one file.
func (s *site) certificate(user ringfence.UserID, device ringfence.DeviceID) enroll.Identity {
	s.Helper()
	id := s.Identity(user, device)
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
	s.OK(err)
	k := pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})
	s.file(name+"/chain.pem", crt)
	s.file(name+"/key.pem", k)
	s.file(name+"/"+name+".pem", append(crt[:len(crt):len(crt)], k...))
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
		case <-s.Ctx.Done():
			s.Fatalf("digits %q, want %q", got, want)
		}
	}
}

// recorded waits until a recording of a judge ends with half a second of a tone.
func (s *site) recorded(file string, hz float64) {
	s.Helper()
	s.Until(fmt.Sprintf("%s ends with %.0f Hz", filepath.Base(file), hz), func() bool {
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
	calls := s.Node.Calls.List()
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
	s.Until("all calls are over", func() bool { return s.Node.Calls.Count() == 0 })
}

// registered waits for a registration of a device.
func (s *site) registered(device ringfence.DeviceID) store.Binding {
	s.Helper()
	var b store.Binding
	s.Until(string(device)+" is registered", func() bool {
		for _, c := range s.Node.Registrar.All() {
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
	s.OK(err)
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
