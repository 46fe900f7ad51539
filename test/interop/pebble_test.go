package interop_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"ringfence/internal/node/config"
	"ringfence/internal/testkit"
	"ringfence/internal/trust/publicname"
	"ringfence/internal/trust/tlspolicy"
)

// pebble is an ACME server that nobody here wrote, with an authority that is a new one at each start.
type pebble struct {
	dir, manage netip.AddrPort
	http, tls   netip.AddrPort // where it looks at challenges
	tlsCA       *testkit.Authority
	anchor      string // file with the authority of its TLS certificates
	run         *program
}

// newPebble builds pebble from the tools of this repository, and starts it with a DNS in which everything below public.example is here.
func newPebble(t *testing.T, ctx context.Context, more string) *pebble {
	t.Helper()
	home := t.TempDir()
	bin := filepath.Join(home, "pebble")
	build := exec.CommandContext(ctx, "go", "build", "-C", "../../tools", "-o", bin, "github.com/letsencrypt/pebble/v2/cmd/pebble")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("pebble cannot be built: %v\n%s", err, out)
	}
	p := &pebble{dir: freePort(t), manage: freePort(t), http: freePort(t), tls: freePort(t), tlsCA: testkit.NewAuthority("Pebble's TLS"), anchor: filepath.Join(home, "anchor.pem")}
	cert := p.tlsCA.Issue("127.0.0.1")
	key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	write := func(name, kind string, der []byte) string {
		file := filepath.Join(home, name)
		if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	write("anchor.pem", "CERTIFICATE", p.tlsCA.Root())
	conf := filepath.Join(home, "pebble.json")
	text := fmt.Sprintf(`{"pebble": {"listenAddress": %q, "managementListenAddress": %q, "certificate": %q, "privateKey": %q, "httpPort": %d, "tlsPort": %d, "domainBlocklist": ["blocked.public.example"],
		"retryAfter": {"authz": 1, "order": 1}, "keyAlgorithm": "ecdsa"%s}}`, p.dir, p.manage, write("cert.pem", "CERTIFICATE", cert.Certificate[0]), write("key.pem", "PRIVATE KEY", key), p.http.Port(), p.tls.Port(), more)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	dns := dnsmasq(t, ctx, home, "address=/public.example/127.0.0.1\n")
	// Nonces that are refused are part of the exercise; the waiting before it looks at a challenge is not.
	p.run = start(t, home, "/usr/bin/env", "PEBBLE_VA_NOSLEEP=1", "PEBBLE_WFE_NONCEREJECT=15", bin, "-config", conf, "-dnsserver", dns)
	p.run.wait(ctx, `ACME directory available`)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if c, err := net.Dial("tcp", p.dir.String()); err == nil {
			_ = c.Close()
			return p
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatal("pebble does not listen")
		}
	}
}

// root returns the root that pebble signs under, as its management tells.
func (p *pebble) root(t *testing.T) *x509.CertPool {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: p.tlsCA.Client("", "127.0.0.1"), DisableKeepAlives: true}, Timeout: 10 * time.Second}
	res, err := client.Get("https://" + p.manage.String() + "/roots/0")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(io.LimitReader(res.Body, 64<<10))
	pool := x509.NewCertPool()
	if err != nil || !pool.AppendCertsFromPEM(b) {
		t.Fatalf("%v: %s", err, b)
	}
	return pool
}

// TestPublicNamesByPebble has a whole node order, present and renew a certificate for its public names, by both kinds of challenge.
func TestPublicNamesByPebble(t *testing.T) {
	t.Parallel()
	bin := product(t) // before any clock runs
	mac := []byte("a MAC key of thirty-two bytes, or so")
	for _, kind := range []string{publicname.HTTP01, publicname.TLSALPN01} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
			defer cancel()
			more := ""
			if kind == publicname.TLSALPN01 {
				more = fmt.Sprintf(`, "externalAccountBindingRequired": true, "externalAccountMACKeys": {"kid-1": %q}`, base64.RawURLEncoding.EncodeToString(mac))
			}
			p := newPebble(t, ctx, more)
			names := []string{"pbx.public.example", "voice.public.example"}
			s := newSite(t, func(c *config.Config) {
				c.Observe.Authorities = p.anchor
				c.Trust.Public = config.Public{Directory: "https://" + p.dir.String() + "/dir", Names: names, Contact: []string{"hostmaster@public.example"}, Agree: true, Challenge: kind, Listen: p.http}
				if kind == publicname.TLSALPN01 {
					c.Trust.Public.Listen = p.tls
					file := filepath.Join(filepath.Dir(p.anchor), "eab.key")
					if err := os.WriteFile(file, []byte(base64.URLEncoding.EncodeToString(mac)+"\n"), 0o600); err != nil {
						t.Fatal(err)
					}
					c.Trust.Public.Binding = config.Binding{ID: "kid-1", KeyFile: file}
				}
			})
			ordered := func(serial string) publicname.Status {
				t.Helper()
				var st publicname.Status
				s.Until("a certificate of pebble", func() bool {
					st = s.Node.Public.Status()
					if st.Failures > 0 {
						t.Fatalf("%+v", st)
					}
					return st.State == publicname.Waiting && st.Serial != serial
				})
				return st
			}
			first := ordered("")
			if first.Account == "" || !strings.Contains(first.Issuer, "Pebble") {
				t.Errorf("%+v", first)
			}
			// It is presented as soon as a setting says so, and the next one without being asked.
			_, err := s.Node.Settings.EditTLS(s.Ctx, "test", "", true, func(tree tlspolicy.Tree) (tlspolicy.Tree, error) {
				return tree.Set(tlspolicy.Edit{Place: "/interface/https", Setting: "identity", Values: []string{"public"}})
			})
			s.OK(err)
			roots := p.root(t)
			presented := func(name string) string {
				t.Helper()
				d := tls.Dialer{Config: &tls.Config{RootCAs: roots, ServerName: name}}
				c, err := d.DialContext(s.Ctx, "tcp", s.HTTPS.String())
				s.OK(err)
				defer c.Close()
				return c.(*tls.Conn).ConnectionState().PeerCertificates[0].SerialNumber.Text(16)
			}
			for _, n := range names {
				if got := presented(n); got != first.Serial {
					t.Errorf("%s: presented is %s, ordered was %s", n, got, first.Serial)
				}
			}
			cli := &built{Site: s.Site, bin: bin, data: filepath.Dir(s.Node.SocketPath())}
			var told struct {
				State, Serial string
				Steps         []struct{ Text string }
			}
			cli.run(&told, "trust", "public", "renew")
			second := ordered(first.Serial)
			if told.State != "waiting" || told.Serial != second.Serial || len(told.Steps) < 4 || !strings.HasPrefix(told.Steps[len(told.Steps)-1].Text, "in use as public until ") {
				t.Errorf("renew says %+v", told)
			}
			if text := string(cli.do("trust", "status")); !strings.Contains(text, "pbx.public.example") {
				t.Errorf("trust status says\n%s", text)
			}
			if text := string(cli.do("trust", "rehearse", "--at", "+100d")); !strings.Contains(text, "Nobody would be lost") {
				t.Errorf("trust rehearse says\n%s", text)
			}
			if got := presented(names[0]); got != second.Serial {
				t.Errorf("presented is %s, renewed was %s", got, second.Serial)
			}
			if c, err := net.Dial("tcp", s.Node.Config.Trust.Public.At().String()); err == nil {
				_ = c.Close()
				t.Error("the port of challenges is open although no order runs")
			}
			// The authority is gone: the certificate stays, and what that comes to is said.
			p.run.stop()
			if _, err := cli.try("trust", "public", "renew"); err == nil || !strings.Contains(err.Error(), "there is no sealed connection to "+p.dir.String()) {
				t.Errorf("renew without an authority: %v", err)
			}
			if text, err := cli.try("trust", "rehearse", "--at", "+100d"); err == nil || !strings.Contains(string(text), "it could not be renewed") {
				t.Errorf("rehearsed without an authority: %v\n%s", err, text)
			}
			if got := presented(names[0]); got != second.Serial {
				t.Errorf("presented is %s, renewed was %s", got, second.Serial)
			}
			// It lasts beyond a start, without another order.
			s.Restart()
			if st := s.Node.Public.Status(); st.Serial != second.Serial || st.Account != first.Account {
				t.Errorf("after a start: %+v", st)
			}
			entries, err := s.Node.Store.Audit(s.Ctx, 0, 50)
			s.OK(err)
			n := 0
			for _, e := range entries {
				if e.Who == "trust/publicname" && e.Outcome == "done" {
					n++
				}
			}
			if n != 2 {
				t.Errorf("%d orders are in the audit", n)
			}
		})
	}
}

// TestPebbleRefuses shows what an administrator is told when a name is refused, when the authority finds nothing at a name, and when it wants a binding.
func TestPebbleRefuses(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	plain := newPebble(t, ctx, "")
	bound := newPebble(t, ctx, `, "externalAccountBindingRequired": true`)
	for name, c := range map[string]struct {
		of   *pebble
		name string
		at   netip.AddrPort
		text string
		hint string
	}{
		"blocked":           {plain, "blocked.public.example", plain.http, "blocked.public.example", "trust.public.names"},
		"nothing there":     {plain, "pbx.public.example", freePort(t), "refuses pbx.public.example", "the authority must reach this node"},
		"a binding":         {bound, "pbx.public.example", bound.http, "makes accounts only for those", "trust.public.binding"},
		"nobody knows whom": {plain, "pbx.public.example", plain.http, "certificate signed by unknown authority", "ringfence tls set /interface/public-acme anchors"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, func(cfg *config.Config) {
				if name != "nobody knows whom" {
					cfg.Observe.Authorities = c.of.anchor
				}
				cfg.Trust.Public = config.Public{Directory: "https://" + c.of.dir.String() + "/dir", Names: []string{c.name}, Agree: true, Listen: c.at}
			})
			var st publicname.Status
			s.Until("a failure", func() bool {
				st = s.Node.Public.Status()
				return st.State == publicname.Waiting && st.Failures > 0
			})
			if !strings.Contains(st.Error, c.text) || !strings.Contains(st.Hint, c.hint) || st.Next.Before(time.Now()) || st.Serial != "" {
				b, err := json.MarshalIndent(st, "", " ")
				t.Errorf("%s %v", b, err)
			}
			if !slices.Equal(st.Names, []string{c.name}) {
				t.Errorf("%q", st.Names)
			}
		})
	}
}
