package onehost

import (
	"context"
	"crypto/x509"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"

	"ringfence"
	"ringfence/internal/node"
	"ringfence/internal/node/config"
	"ringfence/internal/sip"
	"ringfence/internal/state/store"
)

// Options say which node a test needs. Their zero value is a fresh one with the product's own configuration.
type Options struct {
	Change func(*config.Config) // what the configuration has else than [Config]
	Data   string               // its data directory; empty: a fresh one
	Within time.Duration        // how long the whole test may take; 0: a minute
	Level  slog.Level           // what of its log is shown
}

// Site is a node and those who meet it.
type Site struct {
	*testing.T
	Node *node.Node      // nil if it runs in another process
	Ctx  context.Context // ends when the test has taken too long

	SIP, HTTPS netip.AddrPort
	Roots      *x509.CertPool
	Domain     string

	options Options
}

// Config is the product's own configuration, on ports of loopback that nobody else uses.
func Config() config.Config {
	c := config.Default()
	c.SIP.TLS = netip.MustParseAddrPort("127.0.0.1:0")
	c.API.HTTPS = netip.MustParseAddrPort("127.0.0.1:0")
	c.Media.Addr = netip.MustParseAddr("127.0.0.1")
	return c
}

// New returns a site without a node yet, for a test that may take so long.
func New(t *testing.T, within time.Duration) *Site {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	t.Cleanup(cancel)
	return &Site{T: t, Ctx: ctx}
}

// Open starts a node, which the end of the test stops.
func Open(t *testing.T, o Options) *Site {
	t.Helper()
	c := Config()
	if o.Change != nil {
		o.Change(&c)
	}
	if o.Data == "" {
		o.Data = t.TempDir()
	}
	if o.Within == 0 {
		o.Within = time.Minute
	}
	s := New(t, o.Within)
	s.options = o
	s.start(c)
	return s
}

// Restart stops the node and starts it again, where it was and with what it knew.
func (s *Site) Restart() {
	s.Helper()
	c := s.Node.Config
	c.SIP.TLS = s.SIP
	s.Node.Close()
	s.start(c)
}

func (s *Site) start(c config.Config) {
	s.Helper()
	o, t := s.options, s.T
	log := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: o.Level}))
	n, err := node.Open(s.Ctx, node.Options{Config: c, Data: o.Data, Version: "test", Log: log})
	s.OK(err)
	t.Cleanup(n.Close)
	s.Node, s.SIP, s.HTTPS, s.Roots, s.Domain = n, n.SIPAddr(), n.HTTPSAddr(), n.Authority.Roots(), c.Domain
}

// OK ends the test on an error.
func (s *Site) OK(err error) {
	s.Helper()
	if err != nil {
		s.Fatalf("%v (%s)", err, ringfence.HintOf(err))
	}
}

// Until waits for a condition that the outside world brings about.
func (s *Site) Until(what string, cond func() bool) {
	s.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-tick.C:
		case <-s.Ctx.Done():
			s.Fatalf("never: %s", what)
		}
	}
}

// User adds a user with a number.
func (s *Site) User(id ringfence.UserID, number ringfence.Number, changes ...func(*store.User)) {
	s.Helper()
	u := store.User{ID: id, Name: strings.ToUpper(string(id[:1])) + string(id[1:]), Numbers: []ringfence.Number{number}, TollClass: "internal"}
	for _, change := range changes {
		change(&u)
	}
	s.OK(s.Node.Store.CreateUser(s.Ctx, u))
	s.OK(s.Node.Roster.Reload(s.Ctx))
}

// Password adds a device that answers digest challenges; its username is its name.
func (s *Site) Password(user ringfence.UserID, device ringfence.DeviceID, password string, algs ...ringfence.Auth) {
	s.Helper()
	s.OK(AddPassword(s.Ctx, s.Node, user, device, password, algs...))
	s.OK(s.Node.Roster.Reload(s.Ctx))
}

// AddPassword is [Site.Password] for a node in a process that has no test. The roster learns of it when it is reloaded.
func AddPassword(ctx context.Context, n *node.Node, user ringfence.UserID, device ringfence.DeviceID, password string, algs ...ringfence.Auth) error {
	if err := n.Store.CreateDevice(ctx, store.Device{ID: device, User: user, Kind: "test", Created: time.Now(), Profile: store.DeviceProfile{Auth: algs}}); err != nil {
		return err
	}
	for _, alg := range algs {
		digest := sip.DigestSHA256
		if alg == ringfence.AuthDigestMD5 {
			digest = sip.DigestMD5
		}
		if err := n.Store.PutDigestSecret(ctx, store.DigestSecret{Device: device, Username: string(device), Realm: n.Config.Domain, Algorithm: alg,
			HA1: sip.HA1(digest, string(device), n.Config.Domain, password)}); err != nil {
			return err
		}
	}
	return nil
}
