package probe

import (
	"crypto/tls"
	"io"
	"log"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"ringfence/internal/network/names"
	"ringfence/internal/network/need"
	"ringfence/internal/network/ready/verdict"
	"ringfence/internal/testkit"
)

// V10: Squid takes TLS apart, and leaves the names alone that are rendered for it.
func TestSquidBump(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.withTLS()
	set := &need.Set{ID: "test", Title: "A test", Domains: []need.Domain{{ID: "d", Pattern: "*.service.example.com"}}}
	splice, _, err := names.Render(set, "squid-splice", names.Options{})
	if err != nil {
		t.Fatal(err)
	}
	dir := folder(t, "proxy")
	openssl := testkit.Need(t, "/usr/bin/openssl", "openssl")
	for _, cmd := range []*exec.Cmd{exec.Command(openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=Example Inspector", "-addext", "basicConstraints=critical,CA:TRUE", "-keyout", dir+"/ca.pem", "-out", dir+"/ca.crt"),
		exec.Command(testkit.Need(t, "/usr/lib/squid/security_file_certgen", "squid-openssl"), "-c", "-s", dir+"/db", "-M", "4MB"), exec.Command("sh", "-c", "cat "+dir+"/ca.crt >> "+dir+"/ca.pem && chown -R proxy "+dir)} {
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", cmd.Args, err, out)
		}
	}
	bump := "sslcrtd_program /usr/lib/squid/security_file_certgen -s " + dir + "/db -M 4MB\nsslcrtd_children 1\ntls_outgoing_options flags=DONT_VERIFY_PEER\nsslproxy_cert_error allow all\nhttp_access allow all\n"
	port := func(n string) string {
		return "http_port 10.0.0.1:" + n + " ssl-bump generate-host-certificates=on dynamic_cert_mem_cache_size=4MB tls-cert=" + dir + "/ca.pem\n"
	}
	l.squid("10.0.0.1:3128", port("3128")+bump+"ssl_bump bump all\n")
	l.squid("10.0.0.1:3129", port("3129")+bump+splice+"ssl_bump bump all\n")
	web := webRows()
	web[2].ToPorts = web[2].ToPorts[:1]
	r := l.run("proxy", withWeb(Web{Proxy: "10.0.0.1:3128"}), web...)
	c := check(t, r, "proxy/10.0.0.1:3128")
	is(t, c, verdict.Fail, verdict.Intercepted, "to 443")
	if !strings.Contains(c.Seen, "Example Inspector") || !strings.Contains(c.Change, "squid-splice") {
		t.Errorf("%+v", c)
	}
	with := func(name string) func(*Config) {
		return func(c *Config) {
			withWeb(Web{Proxy: "10.0.0.1:3129"})(c)
			c.Name = name
		}
	}
	is(t, check(t, l.run("proxy", with("calls.service.example.com"), web...), "proxy/10.0.0.1:3129"), verdict.Pass, "")
	is(t, check(t, l.run("proxy", with("other.example.org"), web...), "proxy/10.0.0.1:3129"), verdict.Fail, verdict.Intercepted, "to 443")
}

// V10: mitmproxy stands on the way without being named, takes TLS apart, and leaves one name alone.
func TestMitmproxy(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.withTLS()
	l.router.rules("table ip t {\n chain p { type nat hook prerouting priority -100\n iifname inside tcp dport 443 redirect to :8080\n}\n}")
	dir := folder(t, "root")
	l.router.serve("10.0.0.1:8080", testkit.Need(t, "/usr/bin/mitmdump", "mitmproxy"), "--quiet", "--mode", "transparent", "--listen-host", "10.0.0.1", "--listen-port", "8080", "--ssl-insecure", "--set", "confdir="+filepath.Join(dir, "conf"),
		"--ignore-hosts", `^exempt\.service\.example\.com`)
	rows := []need.Need{row("web", "tcp", "1024-65535", "443")}
	rows[0].Protocol = "HTTPS"
	with := func(name string) func(*Config) {
		return func(c *Config) { c.TLS, c.Name = &tls.Config{InsecureSkipVerify: true}, name }
	}
	r := l.run("tls", with("calls.service.example.com"), rows...)
	c := check(t, r, "tls")
	is(t, c, verdict.Fail, verdict.Intercepted)
	if !strings.Contains(c.Seen, "mitmproxy") {
		t.Errorf("%+v", c)
	}
	c = check(t, l.run("tls", with("exempt.service.example.com"), rows...), "tls")
	is(t, c, verdict.Pass, "")
}

// A machine that has the reflector's own key, but loses what was agreed on within TLS, is found by that.
func TestLostWithin(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	cert := l.withTLS()
	rows := []need.Need{row("web", "tcp", "1024-65535", "443")}
	with := func(c *Config) { c.TLS, c.Name = &tls.Config{InsecureSkipVerify: true}, "calls.service.example.com" }
	is(t, check(t, l.run("tcp tls", with, rows...), "tls"), verdict.Pass, "")
	l.router.rules("table ip t {\n chain p { type nat hook prerouting priority -100\n iifname inside tcp dport 443 redirect to :8443\n}\n}")
	var ln net.Listener
	if err := l.router.in(func() (err error) {
		ln, err = tls.Listen("tcp", "10.0.0.1:8443", &tls.Config{Certificates: []tls.Certificate{cert}})
		return err
	}); err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: http.NotFoundHandler(), ErrorLog: log.New(io.Discard, "", 0)}
	go func() { _ = s.Serve(ln) }()
	t.Cleanup(func() { s.Close() })
	c := check(t, l.run("tls", with, rows...), "tls")
	is(t, c, verdict.Fail, verdict.Replaced)
	if !strings.Contains(c.Seen, `(ALPN) is "", not "http/1.1"`) || !strings.Contains(c.Seen, "is answered with 404") {
		t.Errorf("%+v", c)
	}
}
