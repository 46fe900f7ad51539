package names

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ringfence/internal/network/catalogue"
	"ringfence/internal/network/need"
	"ringfence/internal/testkit"
)

func set(t testing.TB, name string) *need.Set {
	t.Helper()
	s, err := catalogue.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func rendered(t testing.TB, s *need.Set, target string, o Options) (string, []need.Loss) {
	t.Helper()
	text, lost, err := Render(s, target, o)
	if err != nil {
		t.Fatal(err)
	}
	return text, lost
}

func file(t testing.TB, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestPAC has the library that browsers' files are tested with find the way for each name of the set, for names below it, and for strangers that look alike.
func TestPAC(t *testing.T) {
	s := set(t, "webex-calling")
	text, lost := rendered(t, s, "pac", Options{Proxy: "proxy.example.com:3128", Otherwise: "other.example.com:8080"})
	if len(lost) == 0 || !strings.Contains(lost[0].Why, "never goes by a web proxy") {
		t.Errorf("%v", lost)
	}
	want := map[string]string{"example.com": "PROXY other.example.com:8080", "com": "PROXY other.example.com:8080", "toString": "PROXY other.example.com:8080", "hasOwnProperty": "PROXY other.example.com:8080"}
	const ours = "PROXY proxy.example.com:3128"
	for _, d := range s.Domains {
		host, below, _ := split(d.Pattern)
		want[host] = ours
		want[strings.ToUpper(host)+"."] = ours
		want["evil"+host] = "PROXY other.example.com:8080"
		want[host+".evil.example"] = "PROXY other.example.com:8080"
		if below {
			want["a.b."+host] = ours
		}
	}
	for _, d := range s.Domains { // a name that stands alone may be below one that does not
		if host, below, _ := split(d.Pattern); below {
			for name := range want {
				if n := strings.ToLower(strings.TrimSuffix(name, ".")); n == host || strings.HasSuffix(n, "."+host) {
					want[name] = ours
				}
			}
		}
	}
	var hosts []string
	for h := range want {
		hosts = append(hosts, h)
	}
	in, err := json.Marshal(hosts)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), testkit.Need(t, "/usr/bin/python3", "python3"), "-c", `import sys, json, pacparser
pacparser.init()
pacparser.parse_pac_file(sys.argv[1])
print(json.dumps({h: pacparser.find_proxy("https://" + h + "/", h) for h in json.load(sys.stdin)}))`, file(t, "proxy.pac", text))
	cmd.Stdin = strings.NewReader(string(in))
	var complaint strings.Builder
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err, string(out), complaint.String())
	}
	var got map[string]string
	if err := json.Unmarshal(out, &got); err != nil {
		t.Fatal(err)
	}
	for h, w := range want {
		if got[h] != w {
			t.Errorf("%s: %q, want %q", h, got[h], w)
		}
	}
}

// TestSquid has Squid read its file, without a word of warning.
func TestSquid(t *testing.T) {
	text, _ := rendered(t, set(t, "webex-calling"), "squid", Options{})
	conf := file(t, "squid.conf", text+"http_port 127.0.0.1:3128\nhttp_access deny all\ncache_effective_user root\n")
	out, err := exec.CommandContext(t.Context(), testkit.Need(t, "squid", "squid-openssl"), "-k", "parse", "-f", conf).CombinedOutput()
	if err != nil || strings.Contains(string(out), "WARNING") || strings.Contains(string(out), "ERROR") || !strings.Contains(string(out), "http_access allow ringfence_webex_calling") {
		t.Errorf("%v\n%s", err, out)
	}
	if !strings.Contains(text, "acl ringfence_webex_calling dstdomain .webex.com\n") || !strings.Contains(text, "port 443 6970 80 8443\n") {
		t.Error(text)
	}
}

// TestSquidSplice has Squid read the names that it shall leave sealed.
func TestSquidSplice(t *testing.T) {
	text, lost := rendered(t, set(t, "webex-calling"), "squid-splice", Options{})
	conf := file(t, "squid.conf", text+"ssl_bump bump all\nhttp_port 127.0.0.1:3128\nhttp_access deny all\ncache_effective_user root\n")
	out, err := exec.CommandContext(t.Context(), testkit.Need(t, "squid", "squid-openssl"), "-k", "parse", "-f", conf).CombinedOutput()
	if err != nil || strings.Contains(string(out), "WARNING") || strings.Contains(string(out), "ERROR") || !strings.Contains(string(out), "ssl_bump splice ringfence_webex_calling_tls") || len(lost) != 0 {
		t.Errorf("%v %v\n%s", lost, err, out)
	}
	if !strings.Contains(text, "acl ringfence_webex_calling_tls ssl::server_name --client-requested .webex.com\n") {
		t.Error(text)
	}
}

// TestResolvers has dnsmasq and unbound read theirs.
func TestResolvers(t *testing.T) {
	s := set(t, "dedicated-instance")
	if _, lost := rendered(t, s, "unbound", Options{}); len(lost) != 10 || !strings.Contains(lost[0].Why, "--customer") {
		t.Errorf("%v", lost)
	}
	text, lost := rendered(t, s, "unbound", Options{Customer: "acme"})
	if len(lost) != 0 || strings.Count(text, "forward-addr") != 10 || strings.Count(text, "forward-zone") != 5 || !strings.Contains(text, `name: "acme.emea.wxc-di.webex.com."`) {
		t.Errorf("%v %s", lost, text)
	}
	if out, err := exec.CommandContext(t.Context(), testkit.Need(t, "unbound-checkconf", "unbound"), file(t, "unbound.conf", "server:\n\tchroot: \"\"\n\tdirectory: \"\"\n\tusername: \"\"\n"+text)).CombinedOutput(); err != nil {
		t.Errorf("%v %s", err, out)
	}
	for _, s := range []*need.Set{s, set(t, "webex-calling")} {
		text, lost := rendered(t, s, "dnsmasq", Options{Customer: "acme", Set: "inet#ringfence#names"})
		if out, err := exec.CommandContext(t.Context(), testkit.Need(t, "dnsmasq", "dnsmasq-base"), "--test", "-C", file(t, "dnsmasq.conf", text)).CombinedOutput(); err != nil {
			t.Errorf("%v %s", err, out)
		}
		for _, l := range lost {
			if !strings.HasPrefix(l.Why, "wider: ") {
				t.Errorf("%+v", l)
			}
		}
	}
}

// TestBIND has named read its own, ask the name servers of a zone and nobody else, and answer with what they say.
func TestBIND(t *testing.T) {
	named, check := testkit.Need(t, "/usr/sbin/named", "bind9"), testkit.Need(t, "/usr/bin/named-checkconf", "bind9-utils")
	s := set(t, "dedicated-instance")
	text, lost := rendered(t, s, "bind", Options{Customer: "acme"})
	if len(lost) != 0 || strings.Count(text, "forward only") != 5 {
		t.Errorf("%v %s", lost, text)
	}
	if out, err := exec.CommandContext(t.Context(), check, file(t, "named.conf", text)).CombinedOutput(); err != nil {
		t.Errorf("%v %s", err, out)
	}
	if _, lost := rendered(t, s, "bind", Options{}); len(lost) != 10 {
		t.Errorf("%v", lost)
	}
	// One zone, whose name server is a dnsmasq on loopback.
	port := func() string {
		c, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_, p, _ := net.SplitHostPort(c.LocalAddr().String())
		return p
	}
	zone, front := port(), port()
	one := &need.Set{ID: "one", Title: "One", Forwarders: []need.Forwarder{{ID: "f", Zone: "acme.example", Address: netip.MustParseAddr("127.0.0.1")}}}
	text, _ = rendered(t, one, "bind", Options{})
	text = strings.Replace(text, "127.0.0.1;", "127.0.0.1 port "+zone+";", 1) // the rendering is for port 53
	dir := t.TempDir()
	conf := file(t, "named.conf", fmt.Sprintf("options { directory %q; pid-file none; session-keyfile none; listen-on port %s { 127.0.0.1; }; listen-on-v6 { none; }; recursion yes; dnssec-validation no; };\ncontrols { };\n%s", dir, front, text))
	start := func(name string, args ...string) {
		cmd := exec.Command(name, args...)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		})
	}
	start(testkit.Need(t, "dnsmasq", "dnsmasq-base"), "-k", "-C", "/dev/null", "-p", zone, "-a", "127.0.0.1", "-z", "-R", "-h", "--address=/sip.acme.example/192.0.2.7")
	start(named, "-g", "-c", conf, "-4")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	r := net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, "127.0.0.1:"+front)
	}}
	for {
		at, err := r.LookupNetIP(ctx, "ip4", "sip.acme.example.")
		if err == nil && len(at) == 1 && at[0] == netip.MustParseAddr("192.0.2.7") {
			return
		}
		if ctx.Err() != nil {
			t.Fatalf("%v %v", at, err)
		}
		<-time.After(100 * time.Millisecond)
	}
}

// TestWords looks at what no judge is at hand for.
func TestWords(t *testing.T) {
	di, wc := set(t, "dedicated-instance"), set(t, "webex-calling")
	for target, want := range map[string][]string{
		"windows-dns": {"Add-DnsServerConditionalForwarderZone -Name 'acme.emea.wxc-di.webex.com' -MasterServers "},
		"ios-dns":     {`ip dns name-list 1 permit .*\.acme\.`, " dns forwarder ", "ip dns view-list ringfence\n view ringfence-1 10\n  restrict name-group 1\n", " view default 60\nip dns server view-group ringfence\n"},
	} {
		text, lost := rendered(t, di, target, Options{Customer: "acme"})
		for _, w := range want {
			if !strings.Contains(text, w) || len(lost) > 0 {
				t.Errorf("%s: %v %s", target, lost, text)
			}
		}
	}
	text, lost := rendered(t, wc, "panos-no-decrypt", Options{})
	if !strings.Contains(text, "list [ webex.com/ *.webex.com/ ]\n") || !strings.HasSuffix(text, "top\n") || len(lost) == 0 || !strings.HasPrefix(lost[0].Why, "wider: ") {
		t.Errorf("%v %s", lost, text)
	}
	if text, lost = rendered(t, wc, "url-list", Options{}); !strings.Contains("\n"+text, "\n.webex.com\n") || strings.ContainsAny(text, "# *") || len(lost) > 0 {
		t.Errorf("%v %s", lost, text)
	}
}

// TestHostile takes nothing into a rendering that would be more than a name there.
func TestHostile(t *testing.T) {
	for _, pattern := range []string{"", "*", "*.", "a", "a b.example", "\"});alert(1);({\".example", "a.example\nhttp_access allow all", "*.*.example", ".example", "-a.example", strings.Repeat("a", 64) + ".example"} {
		for _, target := range Targets() {
			if text, _, err := Render(&need.Set{Domains: []need.Domain{{ID: "x", Pattern: pattern}}}, target, Options{}); err == nil {
				t.Errorf("%q for %s: %s", pattern, target, text)
			}
		}
	}
	for _, o := range []Options{{Proxy: "a"}, {Proxy: "a:0"}, {Proxy: "a\";:1"}, {Otherwise: "http://a:1"}, {Customer: "a.b"}, {Customer: "a\nserver"}, {Set: "inet#a"}, {Set: "inet#a#b c"}} {
		if _, _, err := Render(&need.Set{}, "pac", o); err == nil {
			t.Errorf("%+v", o)
		}
	}
	if _, _, err := Render(&need.Set{}, "hosts", Options{}); err == nil {
		t.Error("a target that is not there")
	}
}
