package vpn

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"ringfence"
)

func config(dir string) Config {
	return Config{Server: "vpn.example.com", User: "desk", Password: "right password", Group: "phones", CA: "/etc/ca.pem", Link: "vpn0", Dir: dir}
}

func TestCommand(t *testing.T) {
	c, err := config("/run/x").command()
	if err != nil || c.Stdin != "right password\n" || strings.Contains(strings.Join(c.Args, " "), "right") || !slices.Contains(c.Args, "--authgroup=phones") || !slices.Contains(c.Args, "--no-system-trust") || c.Args[len(c.Args)-1] != "https://vpn.example.com" || c.Args[len(c.Args)-2] != "--" {
		t.Errorf("%+v %v", c, err)
	}
	for name, change := range map[string]func(*Config){"no server": func(c *Config) { c.Server = "" }, "an option": func(c *Config) { c.Server = "--script=x" }, "a path": func(c *Config) { c.Server = "a/b" }, "no user": func(c *Config) { c.User = "" }, "two lines": func(c *Config) { c.Password = "a\nb" }, "a group of two lines": func(c *Config) { c.Group = "a\nb" },
		"a directory for a shell": func(c *Config) { c.Dir = "/run/$(x)" }, "a long link": func(c *Config) { c.Link = "abcdefghijklmnopq" }} {
		x := config("/run/x")
		change(&x)
		if c, err := x.command(); ringfence.KindOf(err) != ringfence.KindInvalid {
			t.Errorf("%s: %+v %v", name, c, err)
		}
	}
}

func report(pairs ...string) []byte {
	return []byte(strings.Join(append([]string{"reason=connect", "TUNDEV=vpn0", "VPNGATEWAY=192.0.2.1", "INTERNAL_IP4_ADDRESS=10.20.0.9", "INTERNAL_IP4_NETMASK=255.255.255.0"}, pairs...), "\x00") + "\x00")
}

func TestReport(t *testing.T) {
	n, err := ParseReport(report("INTERNAL_IP4_DNS=10.20.0.1 x 10.20.0.2", "CISCO_DEF_DOMAIN=Example.com", "INTERNAL_IP4_MTU=1400", "CISCO_SPLIT_INC=2", "CISCO_SPLIT_INC_0_ADDR=10.21.0.0", "CISCO_SPLIT_INC_0_MASKLEN=16", "CISCO_SPLIT_INC_1_ADDR=10.22.0.7", "CISCO_SPLIT_INC_1_MASKLEN=24",
		"INTERNAL_IP6_ADDRESS=2001:db8::9", "INTERNAL_IP6_NETMASK=2001:db8::9/64", "CISCO_BANNER=a\nreason=disconnect"))
	if err != nil || n.Prefix() != netip.MustParsePrefix("10.20.0.9/24") || len(n.DNS) != 2 || n.Domain != "example.com" || n.MTU != 1400 || !slices.Equal(n.Routes, []netip.Prefix{netip.MustParsePrefix("10.21.0.0/16"), netip.MustParsePrefix("10.22.0.0/24")}) || n.Address6 != netip.MustParsePrefix("2001:db8::9/64") || n.Reason != "connect" {
		t.Errorf("%+v %v", n, err)
	}
	if n, err = ParseReport(report("INTERNAL_IP4_NETMASK=x")); err != nil || n.Prefix().Bits() != 32 {
		t.Errorf("%+v %v", n, err)
	}
	for name, b := range map[string][]byte{"nothing": nil, "no address": []byte("reason=connect\x00TUNDEV=vpn0\x00"), "multicast": report("INTERNAL_IP4_ADDRESS=224.0.0.1"), "a command": report("INTERNAL_IP4_ADDRESS=$(reboot)"), "a mask with holes": report("INTERNAL_IP4_NETMASK=255.0.255.0"),
		"a route that is none": report("CISCO_SPLIT_INC=1", "CISCO_SPLIT_INC_0_ADDR=x"), "a route to the host itself": report("CISCO_SPLIT_INC=1", "CISCO_SPLIT_INC_0_ADDR=127.0.0.0", "CISCO_SPLIT_INC_0_MASKLEN=8"), "long": make([]byte, maxReport+1)} {
		if n, err := ParseReport(b); err == nil {
			t.Errorf("%s: %+v", name, n)
		}
	}
	received, sent, ok := ParseCounters([]byte("Inter-|   Receive\n face |bytes\n    lo:  1 2 3 4 5 6 7 8 9\n  vpn0: 1000 2 0 0 0 0 0 0 2000 9 0 0 0 0 0 0\n"), "vpn0")
	if !ok || received != 1000 || sent != 2000 {
		t.Errorf("%d %d %v", received, sent, ok)
	}
}

func TestTunnel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		counters := func() ([]byte, error) { return []byte("vpn0: 1000 2 0 0 0 0 0 0 2000 9"), nil }
		var applied []Network
		apply := func(n Network) error { applied = append(applied, n); return nil }
		end := make(chan struct{})
		why := error(nil)
		launch := func(says []string, tell []byte) Launch {
			return func(ctx context.Context, c Command, hear func(string)) (<-chan struct{}, func() error, error) {
				done := make(chan struct{})
				go func() {
					defer close(done)
					time.Sleep(time.Second + lookEvery/2) // between two looks: what is half written is read by nobody
					for _, line := range says {
						hear(line)
					}
					if tell == nil {
						return
					}
					if err := os.WriteFile(filepath.Join(dir, reportTo), tell, 0o600); err != nil {
						t.Error(err)
					}
					select {
					case <-ctx.Done():
					case <-end:
					}
				}()
				return done, func() error { return why }, nil
			}
		}
		tun, err := Open(t.Context(), config(dir), launch([]string{"Connected to HTTPS on vpn.example.com with ciphersuite (TLS1.3)-(ECDHE-SECP256R1)"}, report()), apply, counters, time.Now)
		if err != nil {
			t.Fatal(err)
		}
		if s := tun.Status(); s.State != Connected || s.Address.String() != "10.20.0.9" || s.Mask != "255.255.255.0" || s.Sent != 2000 || s.Received != 1000 || !strings.HasPrefix(s.TLS, "(TLS1.3)") || s.Group != "phones" || len(applied) != 1 || tun.Network().Gateway.String() != "192.0.2.1" {
			t.Errorf("%+v %+v", s, applied)
		}
		why = errors.New("exit status 1")
		close(end)
		<-tun.Done()
		synctest.Wait()
		if s := tun.Status(); s.State != Disconnected || s.Error == "" {
			t.Errorf("%+v", s)
		}
		tun.Close()
		for says, kind := range map[string]ringfence.Kind{"Server certificate verify failed: signer not found": ringfence.KindInsecure, "Login failed.": ringfence.KindUnauthenticated, "Error reading HTTP response: Input/output error\nFailed to complete authentication": ringfence.KindUnauthenticated, "Session terminated by server; exiting.": ringfence.KindUnavailable, "Auth choice \"x\" not available": ringfence.KindNotFound, "getaddrinfo failed for host": ringfence.KindUnavailable, "something": ringfence.KindUnavailable} {
			if _, err := Open(t.Context(), config(dir), launch([]string{says}, nil), apply, counters, time.Now); ringfence.KindOf(err) != kind {
				t.Errorf("%s: %v", says, err)
			}
		}
		end = make(chan struct{})
		if _, err := Open(t.Context(), config(dir), launch(nil, report("INTERNAL_IP4_ADDRESS=x")), apply, counters, time.Now); ringfence.KindOf(err) != ringfence.KindInvalid {
			t.Errorf("%v", err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, err := Open(ctx, config(dir), launch(nil, []byte("reason=pre-init\x00TUNDEV=vpn0\x00")), apply, counters, time.Now); ringfence.KindOf(err) != ringfence.KindTimeout {
			t.Errorf("%v", err)
		}
	})
}

func FuzzParseReport(f *testing.F) {
	f.Add(report("CISCO_SPLIT_INC=1", "CISCO_SPLIT_INC_0_ADDR=10.21.0.0", "CISCO_SPLIT_INC_0_MASKLEN=16"))
	f.Fuzz(func(t *testing.T, b []byte) {
		n, err := ParseReport(b)
		if err != nil {
			return
		}
		if len(n.Routes) > 2*maxList || len(n.DNS) > 8 || n.Address.IsValid() && !n.Prefix().IsValid() {
			t.Errorf("%+v", n)
		}
	})
}

func FuzzParseCounters(f *testing.F) {
	f.Add([]byte("vpn0: 1 2 3 4 5 6 7 8 9\n"), "vpn0")
	f.Fuzz(func(t *testing.T, b []byte, link string) {
		if received, sent, ok := ParseCounters(b, link); !ok && (received > 0 || sent > 0) {
			t.Errorf("%d %d", received, sent)
		}
	})
}

// TestAgain has a tunnel come back after a server that is gone, soon and then more rarely, and after one that refuses the user, rarely from the start.
func TestAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gone, refused := fault(ringfence.KindUnavailable, "nobody answers", "", nil), fault(ringfence.KindUnauthenticated, "no", "", nil)
		var told []Attempt
		tell := func(a Attempt) {
			if d := time.Until(a.Next); d < firstWait-firstWait/10 || d > longestWait+longestWait/10 {
				t.Errorf("%s after %v", d, a.Err)
			}
			told = append(told, a)
		}
		began, tries, want := time.Now(), 0, &Tunnel{}
		open := func(context.Context) (*Tunnel, error) {
			if tries++; tries < 12 {
				return nil, gone
			}
			return want, nil
		}
		tun, err := Again(t.Context(), gone, open, tell, time.Now)
		if d := time.Since(began); err != nil || tun != want || len(told) != 12 || told[11].Number != 12 || d < 20*time.Minute || d > 40*time.Minute || told[1].Next.Sub(told[0].Next) > 5*time.Second {
			t.Errorf("%v %v %d %s", tun, err, len(told), d)
		}
		told, began, tries = nil, time.Now(), 10
		if _, err := Again(t.Context(), refused, open, tell, time.Now); err != nil || len(told) != 2 || told[0].Next.Sub(began) < 4*time.Minute || !errors.Is(told[0].Err, refused) || !errors.Is(told[1].Err, gone) {
			t.Errorf("%v %+v", err, told)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
		defer cancel()
		tries = 0
		if tun, err := Again(ctx, gone, open, tell, time.Now); ringfence.KindOf(err) != ringfence.KindCancelled || tun != nil || tries > 6 {
			t.Errorf("%v %v %d", tun, err, tries)
		}
	})
}
