package probe

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"ringfence/internal/network/need"
	"ringfence/internal/network/pac"
	"ringfence/internal/network/proxy"
	"ringfence/internal/network/ready/reflector"
	"ringfence/internal/network/ready/verdict"
	"ringfence/internal/testkit"
)

// serve starts a program in a namespace and waits until something listens at an address there.
func (s *space) serve(at string, name string, args ...string) {
	s.t.Helper()
	cmd := exec.Command(name, args...)
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := s.in(cmd.Start); err != nil {
		s.t.Fatal(err)
	}
	gone := make(chan error, 1)
	go func() { gone <- cmd.Wait() }()
	s.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-gone
	})
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for range 600 {
		if s.in(func() error {
			c, err := net.Dial("tcp", at)
			if err == nil {
				c.Close()
			}
			return err
		}) == nil {
			return
		}
		select {
		case err := <-gone:
			gone <- err
			s.t.Fatalf("%s: %v\n%s", name, err, out.String())
		case <-tick.C:
		}
	}
	s.t.Fatalf("%s does not come up\n%s", name, out.String())
}

// folder is one that a server which gives up root can write to.
func folder(t testing.TB, owner string) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "ready")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	u, err := user.Lookup(owner)
	if err != nil {
		t.Fatal(err)
	}
	uid, gid := must(strconv.Atoi(u.Uid)), must(strconv.Atoi(u.Gid))
	if err := os.Chown(dir, uid, gid); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// squid starts the proxy on the router.
func (l *lab) squid(at, lines string) {
	l.Helper()
	dir := folder(l, "proxy")
	if err := os.WriteFile(filepath.Join(dir, "users"), []byte("alice:secret\n"), 0o644); err != nil {
		l.Fatal(err)
	}
	conf := filepath.Join(dir, "squid.conf")
	text := fmt.Sprintf("pid_filename none\ncache_log %[1]s/cache.log\naccess_log none\ncache_store_log none\ncoredump_dir %[1]s\ncache deny all\nshutdown_lifetime 0 seconds\nvisible_hostname proxy.example.com\npinger_enable off\nnetdb_filename none\nmax_filedescriptors 256\n%[2]s",
		dir, strings.ReplaceAll(lines, "DIR", dir))
	if !strings.Contains(lines, "http_port") {
		text = "http_port " + at + "\n" + text
	}
	if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
		l.Fatal(err)
	}
	l.router.serve(at, testkit.Need(l, "/usr/sbin/squid", "squid-openssl"), "-N", "-n", "ready"+strings.NewReplacer(".", "x", ":", "x").Replace(at)+fmt.Sprint(os.Getpid()), "-f", conf)
}

// web serves files on the router.
func (l *lab) web(at string, handler http.Handler) {
	l.Helper()
	var ln net.Listener
	if err := l.router.in(func() (err error) {
		ln, err = net.Listen("tcp", at)
		return err
	}); err != nil {
		l.Fatal(err)
	}
	s := &http.Server{Handler: handler}
	go func() { _ = s.Serve(ln) }()
	l.Cleanup(func() { s.Close() })
}

func file(text string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/x-ns-proxy-autoconfig")
		_, _ = io.WriteString(w, text)
	})
}

// withTLS starts a second reflector, which speaks TLS.
func (l *lab) withTLS() tls.Certificate {
	l.Helper()
	cert := testkit.NewAuthority("reflector").Issue("reflector")
	leaf, err := x509.ParseCertificate(cert.Certificate[0])
	if err != nil {
		l.Fatal(err)
	}
	sum := sha256.Sum256(leaf.RawSubjectPublicKeyInfo)
	l.reflect(func(c *reflector.Config) {
		c.Listen = netip.MustParseAddrPort("192.0.2.2:8471")
		c.Second = netip.Addr{}
		c.TLS, c.SPKI, c.Issuer = &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"http/1.1"}}, hex.EncodeToString(sum[:]), leaf.Issuer.String()
	})
	return cert
}

func webRows() []need.Need {
	web := row("web", "tcp", "1024-65535", "443 6970")
	web.Protocol = "HTTPS"
	return []need.Need{row("sip", "tcp", "5060-5080", "8934"), row("media", "udp", "19560-19660", "5004"), web}
}

func withWeb(w Web, domains ...string) func(*Config) {
	return func(c *Config) {
		if w.Lookup == nil {
			w.Lookup = func(_ context.Context, host string) ([]netip.Addr, error) {
				if strings.HasPrefix(host, "wpad.") || strings.HasPrefix(host, "proxy.") {
					return []netip.Addr{netip.MustParseAddr("10.0.0.1")}, nil
				}
				return nil, nil
			}
		}
		c.Web, c.TLS, c.Name = &w, &tls.Config{InsecureSkipVerify: true}, "service.example.com"
		for i, d := range domains {
			c.Set.Domains = append(c.Set.Domains, need.Domain{ID: fmt.Sprint("d", i), Pattern: d})
		}
		for i, auth := range [][]string{{"none", "basic", "ntlm"}, {"none", "basic", "digest"}} {
			c.Set.Proxies = append(c.Set.Proxies, need.Proxy{ID: fmt.Sprint("x-", i), Product: fmt.Sprint("Product ", i), SetUp: []string{"manual", "pac"}, Authentication: auth})
		}
	}
}

// V08: a proxy that wants Digest lets the web through, but for the port that it does not know; SIP and media have their own way, and the web none.
func TestProxy(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.withTLS()
	l.router.rules(`table ip t { chain f { type filter hook forward priority 0; policy accept
 tcp dport { 443, 6970 } drop
 udp dport 5004 drop
}
}`)
	l.squid("10.0.0.1:3128", "auth_param digest program /usr/lib/squid/digest_file_auth DIR/users\nauth_param digest realm proxy\nacl known proxy_auth REQUIRED\nacl tls port 443\nhttp_access deny CONNECT !tls\nhttp_access allow known\nhttp_access deny all\n")
	r := l.run("tcp udp proxy", withWeb(Web{Proxy: "proxy.corp.example:3128", Who: proxy.Credentials{User: "alice", Password: "secret"}, Products: []string{"x-0"}}), webRows()...)
	is(t, check(t, r, "proxy/found"), verdict.Pass, "")
	c := check(t, r, "proxy/proxy.corp.example:3128")
	is(t, c, verdict.Warn, verdict.Proxy, "to 6970")
	if c.Values["used"] != "digest MD5" || c.Values["authentication"] != "digest" || c.Values["outside"] != "192.0.2.1" || !strings.Contains(c.Seen, "lets through ports 443") {
		t.Errorf("%+v", c)
	}
	is(t, check(t, r, "proxy/x-0"), verdict.Fail, verdict.Login)
	is(t, check(t, r, "proxy/x-1"), verdict.Pass, "")
	d := check(t, r, "proxy/direct")
	is(t, d, verdict.Warn, verdict.Dropped)
	if !strings.Contains(d.Seen, "open for sip; it is closed for media") || d.Values["web"] == "" {
		t.Errorf("%+v", d)
	}
	// Without an account, and with a wrong one.
	r = l.run("proxy", withWeb(Web{Proxy: "10.0.0.1:3128"}), webRows()...)
	is(t, check(t, r, "proxy/10.0.0.1:3128"), verdict.Fail, verdict.Login, "to 443")
	r = l.run("proxy", withWeb(Web{Proxy: "10.0.0.1:3128", Who: proxy.Credentials{User: "alice", Password: "guess"}}), webRows()...)
	if c := check(t, r, "proxy/10.0.0.1:3128"); c.Status != verdict.Fail || !strings.Contains(c.Seen, "does not accept these credentials by digest") {
		t.Errorf("%+v", c)
	}
	r = l.run("proxy", withWeb(Web{Proxy: "10.0.0.1:3129"}), webRows()...)
	if c := check(t, r, "proxy/10.0.0.1:3129"); c.Status != verdict.Fail || c.Cause != verdict.Proxy || !strings.Contains(c.Change, "reach the proxy") {
		t.Errorf("%+v", c)
	}
}

// V09: the file is found by DNS, by DHCP and by its address; ones that loop, are broken or say different things are told of.
func TestAutoConfiguration(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.withTLS()
	const good = `function FindProxyForURL(url, host) { return dnsDomainIs(host, ".example.com") ? "PROXY 10.0.0.1:3128; DIRECT" : "DIRECT" }`
	mux := http.NewServeMux()
	mux.Handle("/wpad.dat", file(good))
	mux.Handle("/other.pac", file(strings.ReplaceAll(good, "3128", "3129")))
	mux.Handle("/loop.pac", file("function FindProxyForURL(url, host) { for (;;) ; }"))
	mux.Handle("/broken.pac", file("function FindProxyForURL(url, host) {"))
	l.web("10.0.0.1:80", mux)
	l.squid("10.0.0.1:3128", "http_access allow all\n")
	dir := folder(t, "nobody")
	l.router.serve("10.0.0.1:53", testkit.Need(t, "/usr/sbin/dnsmasq", "dnsmasq-base"), "-k", "-C", "/dev/null", "--no-resolv", "--no-hosts", "--interface=inside", "--bind-interfaces", "--pid-file", "--dhcp-leasefile="+dir+"/leases",
		"--dhcp-range=10.0.0.100,10.0.0.200,255.255.255.0,1h", "--dhcp-option=252,http://10.0.0.1/wpad.dat", "--user=root")
	r := l.run("proxy", withWeb(Web{Domain: "corp.example.com", DHCP: netip.MustParseAddrPort("10.0.0.1:67"), PAC: "http://10.0.0.1/wpad.dat"}, "*.service.example.com", "other.example.org"), webRows()...)
	c := check(t, r, "proxy/found")
	is(t, c, verdict.Warn, verdict.Proxy)
	if !strings.Contains(c.Seen, "wpad.example.com has the address 10.0.0.1") || c.Values["http://wpad.corp.example.com/wpad.dat: PROXY 10.0.0.1:3128; DIRECT"] != "service.example.com" || c.Values["http://10.0.0.1/wpad.dat: DIRECT"] != "other.example.org" || strings.Count(c.Seen, "http://10.0.0.1/wpad.dat") != 2 {
		t.Errorf("%+v", c)
	}
	is(t, check(t, r, "proxy/10.0.0.1:3128"), verdict.Pass, "")
	for path, says := range map[string]string{"loop.pac": "does not come to its end", "broken.pac": "line 1", "none.pac": "answers 404"} {
		r := l.run("proxy", withWeb(Web{PAC: "http://10.0.0.1/" + path}, "*.service.example.com"), webRows()...)
		c := check(t, r, "proxy/found")
		is(t, c, verdict.Fail, verdict.Proxy)
		if !strings.Contains(c.Seen, says) {
			t.Errorf("%s: %+v", path, c)
		}
	}
	r = l.run("proxy", withWeb(Web{PAC: "http://10.0.0.1/other.pac", Proxy: "10.0.0.1:3128"}, "*.service.example.com"), webRows()...)
	is(t, check(t, r, "proxy/found"), verdict.Warn, verdict.Proxy)
	// DHCP without the option, and a server that is not there.
	r = l.run("proxy", withWeb(Web{DHCP: netip.MustParseAddrPort("10.0.0.9:67")}), webRows()...)
	if c := check(t, r, "proxy/found"); c.Status != verdict.Fail || !strings.Contains(c.Seen, "does not answer") {
		t.Errorf("%+v", c)
	}
	if _, err := pac.Parse([]byte(good)); err != nil {
		t.Error(err)
	}
}
