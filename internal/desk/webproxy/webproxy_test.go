package webproxy

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"ringfence"
	"ringfence/internal/desk/flatprofile"
	"ringfence/internal/testkit"
)

// with returns a set of parameters, as a file gives them.
func with(t *testing.T, text string) *flatprofile.Set {
	t.Helper()
	f, err := flatprofile.Parse([]byte("<flat-profile>" + text + "</flat-profile>"))
	if err != nil {
		t.Fatal(err)
	}
	set := flatprofile.NewSet(flatprofile.Parameters())
	set.Add(f, "cfg.xml")
	return set
}

func TestSetting(t *testing.T) {
	for text, want := range map[string]Setting{
		"": {Mode: Off, From: "default"},
		"<Proxy_Mode>Off</Proxy_Mode><Proxy_Host>proxy.example.com</Proxy_Host>":                                                                                                                                            {Mode: Off, From: "cfg.xml:1"},
		"<Proxy_Mode>Manual</Proxy_Mode><Proxy_Host>proxy.example.com</Proxy_Host><Proxy_Username>not asked for</Proxy_Username>":                                                                                           {Mode: Manual, From: "cfg.xml:1", Host: "proxy.example.com:3128"},
		"<Proxy_Mode>Manual</Proxy_Mode><Proxy_Host>2001:db8::1</Proxy_Host><Proxy_Port>8080</Proxy_Port>":                                                                                                                  {Mode: Manual, From: "cfg.xml:1", Host: "[2001:db8::1]:8080"},
		"<Proxy_Mode>Manual</Proxy_Mode><Proxy_Host>p</Proxy_Host><Proxy_Server_Requires_Authentication>Yes</Proxy_Server_Requires_Authentication><Proxy_Username>alice</Proxy_Username><Proxy_Password>s</Proxy_Password>": {Mode: Manual, From: "cfg.xml:1", Host: "p:3128", SignsIn: true, User: "alice", Password: "s"},
		"<Proxy_Mode>Auto</Proxy_Mode>": {Mode: Auto, From: "cfg.xml:1", WPAD: true},
		"<Proxy_Mode>Auto</Proxy_Mode><Use_Auto_Discovery__WPAD_>No</Use_Auto_Discovery__WPAD_><PAC_URL>http://proxy.example.com/pac</PAC_URL>": {Mode: Auto, From: "cfg.xml:1", PAC: "http://proxy.example.com/pac"},
	} {
		if s, err := Of(with(t, text)); err != nil || s != want {
			t.Errorf("%s: %+v %v", text, s, err)
		}
	}
	const auto = "<Proxy_Mode>Auto</Proxy_Mode><Use_Auto_Discovery__WPAD_>No</Use_Auto_Discovery__WPAD_>"
	for text, kind := range map[string]ringfence.Kind{
		"<Proxy_Mode>Maybe</Proxy_Mode>":                                                      ringfence.KindInvalid,
		"<Proxy_Mode>Manual</Proxy_Mode>":                                                     ringfence.KindInvalid,
		"<Proxy_Mode>Manual</Proxy_Mode><Proxy_Host>http://proxy</Proxy_Host>":                ringfence.KindInvalid,
		"<Proxy_Mode>Manual</Proxy_Mode><Proxy_Host>p</Proxy_Host><Proxy_Port>0</Proxy_Port>": ringfence.KindInvalid,
		"<Proxy_Mode>Manual</Proxy_Mode><Proxy_Host>p</Proxy_Host><Proxy_Server_Requires_Authentication>Yes</Proxy_Server_Requires_Authentication>": ringfence.KindInvalid,
		auto: ringfence.KindInvalid,
		auto + "<PAC_URL>tftp://192.0.2.1/pac</PAC_URL>": ringfence.KindInsecure,
		auto + "<PAC_URL>file:///etc/passwd</PAC_URL>":   ringfence.KindInvalid,
	} {
		if s, err := Of(with(t, text)); ringfence.KindOf(err) != kind {
			t.Errorf("%s: %+v %v", text, s, err)
		}
	}
}

// site is a network with names, some of whose ports are elsewhere.
type site struct {
	names map[string]netip.Addr
	ports map[netip.AddrPort]string
}

func (s site) phone(setting Setting) *Phone {
	return &Phone{Setting: setting, Now: time.Now, TLS: &tls.Config{MinVersion: tls.VersionTLS12}, Agent: "phone",
		Lookup: func(_ context.Context, host string) ([]netip.Addr, error) {
			if a, err := netip.ParseAddr(host); err == nil {
				return []netip.Addr{a}, nil
			}
			if a, ok := s.names[host]; ok {
				return []netip.Addr{a}, nil
			}
			return nil, errors.New("no such name")
		},
		Dial: func(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
			at, ok := s.ports[to]
			if !ok {
				return nil, fmt.Errorf("nobody is at %s", to)
			}
			var d net.Dialer
			return d.DialContext(ctx, "tcp", at)
		}}
}

func free(t *testing.T) int {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().(*net.TCPAddr).Port
}

// squid starts a web proxy of somebody else with some lines of its own, and returns its address.
func squid(t *testing.T, lines string) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "squid") // where a server that gives up root can write
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if u, err := user.Lookup("proxy"); err == nil && os.Getuid() == 0 {
		uid, _ := strconv.Atoi(u.Uid)
		gid, _ := strconv.Atoi(u.Gid)
		if err := os.Chown(dir, uid, gid); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	port := free(t)
	for name, text := range map[string]string{"users": "alice:secret\n", "squid.conf": fmt.Sprintf("http_port 127.0.0.1:%d\npid_filename none\ncache_log %[2]s/cache.log\naccess_log none\ncache_store_log none\ncoredump_dir %[2]s\ncache deny all\nshutdown_lifetime 0 seconds\n"+
		"visible_hostname proxy.example.com\npinger_enable off\nnetdb_filename none\nmemory_pools off\nmax_filedescriptors 256\n%s", port, dir, strings.ReplaceAll(lines, "HOME", dir))} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	hash, err := exec.CommandContext(t.Context(), testkit.Need(t, "/usr/bin/openssl", "openssl"), "passwd", "-apr1", "-salt", "ringfenc", "secret").Output()
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "basic"), append([]byte("alice:"), hash...), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(testkit.Need(t, "/usr/sbin/squid", "squid-openssl"), "-N", "-n", fmt.Sprintf("ringfence%d", port), "-f", filepath.Join(dir, "squid.conf"))
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	at := fmt.Sprintf("127.0.0.1:%d", port)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for range 500 {
		if c, err := net.Dial("tcp", at); err == nil {
			_ = c.Close()
			return at
		}
		<-tick.C
	}
	text, _ := os.ReadFile(filepath.Join(dir, "cache.log"))
	t.Fatalf("squid does not come up: %s", text)
	return ""
}

// echo is a server that only the proxy reaches.
func echo(t *testing.T) netip.AddrPort {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(c, c); _ = c.Close() }()
		}
	}()
	return netip.MustParseAddrPort(ln.Addr().String())
}

// arrives reports whether what is sent comes back.
func arrives(conn net.Conn) bool {
	defer conn.Close()
	b := make([]byte, 7)
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	_, err := conn.Write([]byte("through"))
	if err == nil {
		_, err = io.ReadFull(conn, b)
	}
	return err == nil && string(b) == "through"
}

// TestSquid goes by proxies of somebody else: each scheme of signing in, by hand, by a file at an address, and by one that WPAD finds.
func TestSquid(t *testing.T) {
	const gate = "\nacl known proxy_auth REQUIRED\nhttp_access allow known\nhttp_access deny all\n"
	target := echo(t)
	proxies := map[string]string{
		"none":      squid(t, "http_access allow all\n"),
		"basic":     squid(t, "auth_param basic program /usr/lib/squid/basic_ncsa_auth HOME/basic\nauth_param basic realm proxy"+gate),
		"digest":    squid(t, "auth_param digest program /usr/lib/squid/digest_file_auth HOME/users\nauth_param digest realm proxy"+gate),
		"ntlm":      squid(t, "auth_param ntlm program /usr/lib/squid/ntlm_fake_auth -v"+gate),
		"negotiate": squid(t, "auth_param negotiate program /usr/lib/squid/negotiate_wrapper_auth --ntlm /usr/lib/squid/ntlm_fake_auth -v --kerberos /usr/lib/squid/negotiate_kerberos_auth"+gate),
	}
	world := site{names: map[string]netip.Addr{}, ports: map[netip.AddrPort]string{}}
	i := byte(0)
	for scheme, at := range proxies {
		i++
		world.names[scheme+".example.com"] = netip.AddrFrom4([4]byte{192, 0, 2, i})
		world.ports[netip.AddrPortFrom(world.names[scheme+".example.com"], 3128)] = at
	}
	manual := func(scheme string, known bool) Setting {
		s := Setting{Mode: Manual, From: "cfg.xml:3", Host: scheme + ".example.com:3128"}
		if known {
			s.SignsIn, s.User, s.Password = true, "alice", "secret"
		}
		return s
	}
	for scheme := range proxies {
		p := world.phone(manual(scheme, scheme != "none"))
		conn, u, err := p.Connect(t.Context(), Provisioning, target.Addr().String(), target.Port())
		if err != nil || conn == nil || u.Scheme != scheme || u.Way != "PROXY "+scheme+".example.com:3128" || u.Because != "Proxy_Mode is Manual (cfg.xml:3)" || (u.Warning != "") != (scheme == "basic") || !arrives(conn) {
			t.Errorf("%s: %+v %v", scheme, u, err)
		}
		if scheme == "none" {
			continue
		}
		if conn, u, err := world.phone(manual(scheme, false)).Connect(t.Context(), Provisioning, target.Addr().String(), target.Port()); conn != nil || ringfence.KindOf(err) != ringfence.KindUnauthenticated || u.Error == "" {
			t.Errorf("%s, and nobody signs in: %+v %v", scheme, u, err)
		}
	}
	wrong := manual("digest", true)
	wrong.Password = "guess"
	if conn, u, err := world.phone(wrong).Connect(t.Context(), Provisioning, target.Addr().String(), target.Port()); conn != nil || ringfence.KindOf(err) != ringfence.KindUnauthenticated {
		t.Errorf("a wrong password: %+v %v", u, err)
	}

	script, asked := "", 0
	files := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked++
		if r.URL.Path != "/wpad.dat" || script == "" {
			w.WriteHeader(404)
			return
		}
		_, _ = io.WriteString(w, script)
	}))
	t.Cleanup(files.Close)
	world.names["wpad.branch.example.com"] = netip.MustParseAddr("192.0.2.80")
	world.ports[netip.MustParseAddrPort("192.0.2.80:80")] = files.Listener.Addr().String()
	byURL := Setting{Mode: Auto, From: "cfg.xml:3", PAC: "http://wpad.branch.example.com/wpad.dat"}
	byWPAD := Setting{Mode: Auto, From: "cfg.xml:3", WPAD: true}
	const file = `function FindProxyForURL(url, host) {
	if (host == "direct.example.com") return "DIRECT";
	if (isInNet(host, "192.0.2.0", "255.255.255.0")) return "SOCKS none.example.com:1080";
	return "PROXY dead.example.com:3128; PROXY none.example.com:3128; DIRECT";
}`
	for name, s := range map[string]Setting{"PAC_URL (http://wpad.branch.example.com/wpad.dat, from 192.0.2.80:80)": byURL, "WPAD by DNS (http://wpad.branch.example.com/wpad.dat, from 192.0.2.80:80)": byWPAD} {
		script, asked = file, 0
		p := world.phone(s)
		p.Domains = []string{"nothing.example.com", "branch.example.com"}
		conn, u, err := p.Connect(t.Context(), Provisioning, target.Addr().String(), target.Port())
		if err != nil || conn == nil || u.Way != "PROXY none.example.com:3128" || !strings.HasPrefix(u.Because, name+" says ") || !arrives(conn) {
			t.Errorf("%s: %+v %v", name, u, err)
		}
		if conn, u, err := p.Connect(t.Context(), Report, "direct.example.com", 443); conn != nil || err != nil || u.Way != Direct {
			t.Errorf("%s: %+v %v", name, u, err)
		}
		if conn, u, err := p.Connect(t.Context(), Upgrade, "192.0.2.7", 443); conn != nil || ringfence.KindOf(err) != ringfence.KindUnsupported {
			t.Errorf("%s: %+v %v", name, u, err)
		}
		if uses := p.Uses(); asked != 1 || len(uses) != 3 || uses[1].Application != Report {
			t.Errorf("%s: asked %d times, %+v", name, asked, uses)
		}
		for bad, kind := range map[string]ringfence.Kind{"function FindProxyForURL(u, h) { for (;;) {} }": ringfence.KindOverload, "nothing of the kind (": ringfence.KindInvalid, `function FindProxyForURL(u, h) { return "PROXY dead.example.com:3128"; }`: ringfence.KindUnavailable} {
			script = bad
			p := world.phone(s)
			p.Domains = []string{"branch.example.com"}
			if conn, u, err := p.Connect(t.Context(), Provisioning, "prov.example.com", 443); conn != nil || err == nil || ringfence.KindOf(err) != kind {
				t.Errorf("%s: %s: %+v %v", name, bad, u, err)
			}
		}
		script = ""
		p = world.phone(s)
		p.Domains = []string{"branch.example.com"}
		if conn, u, err := p.Connect(t.Context(), Provisioning, "prov.example.com", 443); conn != nil || err == nil { // who has the name and no file is not gone around
			t.Errorf("%s: %+v %v", name, u, err)
		}
	}
	p := world.phone(byWPAD)
	p.Domains = []string{"nothing.example.com"}
	if conn, u, err := p.Connect(t.Context(), Provisioning, "prov.example.com", 443); conn != nil || err != nil || u.Way != Direct || !strings.Contains(u.Because, "WPAD found no file (asked: wpad.nothing.example.com)") {
		t.Errorf("%+v %v", u, err)
	}
	if conn, u, err := world.phone(Setting{Mode: Off, From: "default"}).Connect(t.Context(), Provisioning, "prov.example.com", 443); conn != nil || err != nil || u.Way != Direct || u.Because != "Proxy_Mode is Off (default)" {
		t.Errorf("%+v %v", u, err)
	}
	if _, _, err := world.phone(byWPAD).Connect(t.Context(), "SIP", "pbx.example.com", 5061); ringfence.KindOf(err) != ringfence.KindInternal {
		t.Errorf("signalling went by the proxy: %v", err)
	}
}
