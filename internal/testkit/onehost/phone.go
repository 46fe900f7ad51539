package onehost

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"ringfence"
	"ringfence/internal/media/codec"
	"ringfence/internal/node"
	"ringfence/internal/node/sockets"
	"ringfence/internal/service/phone"
	"ringfence/internal/state/store"
	"ringfence/internal/trust/enroll"
)

// Identity enrols a new device of a user by code, as a person does it.
func (s *Site) Identity(user ringfence.UserID, device ringfence.DeviceID) enroll.Identity {
	s.Helper()
	s.OK(s.Node.Store.CreateDevice(s.Ctx, store.Device{ID: device, User: user, Kind: "test", Created: time.Now()}))
	s.OK(s.Node.Roster.Reload(s.Ctx))
	code, _, err := s.Node.Enroll.NewCode(s.Ctx, device)
	s.OK(err)
	return s.Enrol(code)
}

// Enrol enrols a device with its one-time code.
func (s *Site) Enrol(code string) enroll.Identity {
	s.Helper()
	c := enroll.Client{Dial: func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", s.HTTPS.String())
	}}
	id, err := c.Enrol(s.Ctx, "localhost", code)
	s.OK(err)
	return id
}

// Opener opens the sockets that a phone declares.
func (s *Site) Opener() ringfence.Opener {
	s.Helper()
	opener, err := sockets.New(phone.Flows(ringfence.PortRange{}, ringfence.PortRange{}))
	s.OK(err)
	return opener
}

// Client is how a phone meets the node that has proven nothing yet.
func (s *Site) Client() phone.Config {
	s.Helper()
	return phone.Config{Opener: s.Opener(), Server: s.SIP, ServerName: s.Domain, TLS: &tls.Config{RootCAs: s.Roots, MinVersion: tls.VersionTLS13},
		Domain: s.Domain, MediaAddr: netip.MustParseAddr("127.0.0.1"), Log: node.Discard()}
}

// Known is how the phone of a device that enrolled meets the node.
func (s *Site) Known(id enroll.Identity) phone.Config {
	s.Helper()
	c := s.Client()
	c.User, c.Domain, c.ServerName = string(id.Bootstrap.User), id.Bootstrap.Domain, id.Bootstrap.Domain
	c.TLS.RootCAs, c.TLS.Certificates = id.Pool(), []tls.Certificate{id.Certificate()}
	return c
}

// Start opens a phone, which registers. The end of the test closes it.
func (s *Site) Start(c phone.Config) *phone.Phone {
	s.Helper()
	p, err := phone.Open(s.Ctx, c)
	s.OK(err)
	s.Cleanup(func() { _ = p.Close() })
	return p
}

// Phone opens a registered phone of a new device, USER-desk.
func (s *Site) Phone(user ringfence.UserID, changes ...func(*phone.Config)) *phone.Phone {
	s.Helper()
	c := s.Known(s.Identity(user, ringfence.DeviceID(string(user)+"-desk")))
	for _, change := range changes {
		change(&c)
	}
	return s.Start(c)
}

// Incoming waits for the next call at a phone.
func (s *Site) Incoming(p *phone.Phone) *phone.Call {
	s.Helper()
	select {
	case c := <-p.Incoming():
		return c
	case <-s.Ctx.Done():
		s.Fatal("no call came")
		return nil
	}
}

// Talk sets up a call between two phones with tones both ways: 440 Hz from the caller, 700 Hz from the callee, whose number it is.
func (s *Site) Talk(from, to *phone.Phone, number string) (out, in *phone.Call) {
	s.Helper()
	out, err := from.Call(s.Ctx, number, phone.CallOptions{Audio: phone.Tone(440)})
	s.OK(err)
	in = s.Incoming(to)
	s.OK(in.Answer(s.Ctx, phone.CallOptions{Audio: phone.Tone(700)}))
	s.OK(out.WaitAnswered(s.Ctx))
	return out, in
}

// Hears waits until a phone hears a tone within 1 %.
func (s *Site) Hears(c *phone.Call, hz float64) {
	s.Helper()
	s.Until(fmt.Sprintf("%.0f Hz are heard", hz), func() bool {
		h := c.Audio().HeardHz
		return h > hz*0.99 && h < hz*1.01
	})
}

// SoundFile writes a WAV file with a tone and returns its path.
func SoundFile(t *testing.T, hz float64, rate int, seconds float64) string {
	t.Helper()
	sound := codec.Sound{Rate: rate, Samples: make([]int16, int(seconds*float64(rate)))}
	codec.NewTone(codec.Signal{Hz: []float64{hz}}, rate, -16).Read(sound.Samples)
	b, err := sound.WAV()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "sound.wav")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
