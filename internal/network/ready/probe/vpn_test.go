package probe

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ringfence/internal/network/ready/carrier"
	"ringfence/internal/network/ready/reflector"
	"ringfence/internal/network/ready/verdict"
	"ringfence/internal/testkit"
)

// counted looks at tunnels and counters in a namespace.
type counted struct{ *space }

func (c counted) Tunnel(local netip.Addr) (name string, ok bool) {
	_ = c.in(func() error { name, ok = carrier.Host{}.Tunnel(local); return nil })
	return name, ok
}

func (c counted) Counters() (datagrams, segments uint64, ok bool) {
	_ = c.in(func() error { datagrams, segments, ok = carrier.Host{}.Counters(); return nil })
	return datagrams, segments, ok
}

// V17: a phone's VPN (AnyConnect, as ocserv and openconnect speak it) goes through the site's firewall. If that lets its TLS pass and not its DTLS, all still works and media go by TCP in TCP, which is told.
func TestVPN(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		rules  string
		status verdict.Status
		cause  verdict.Cause
		says   string
	}{
		"DTLS passes":     {"", verdict.Pass, "", "datagrams carry it: "},
		"DTLS is blocked": {"table ip t {\n chain f { type filter hook forward priority 0; udp dport 4443 drop; }\n}", verdict.Warn, verdict.Doubled, "a TCP connection carries it: "},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			if c.rules != "" {
				l.router.rules(c.rules)
			}
			l.vpn()
			l.reflect(func(c *reflector.Config) {
				c.Listen, c.Second = netip.MustParseAddrPort("10.9.0.1:8470"), netip.Addr{}
			})
			r := l.run("tcp udp voice", func(k *Config) { k.Carrier, k.Voice = counted{l.site}, 2*time.Second }, row("signalling", "tcp", "1024-65535", "443"), media())
			is(t, check(t, r, "tcp/signalling"), verdict.Pass, "")
			is(t, check(t, r, "udp/media"), verdict.Pass, "")
			got := check(t, r, "tunnel")
			is(t, got, c.status, c.cause)
			if !strings.HasPrefix(got.Seen, c.says) || !strings.Contains(got.Title, "(vpn0)") || (c.status == verdict.Warn) != strings.Contains(got.Change, "DTLS") {
				t.Errorf("%+v", got)
			}
			// Beside the VPN there is no tunnel to speak of.
			l.reflect(beside)
			r = l.run("voice", func(k *Config) { k.Carrier = counted{l.site} }, media())
			for _, k := range r.Checks {
				if k.ID == "tunnel" {
					t.Errorf("%+v", k)
				}
			}
		})
	}
}

func beside(c *reflector.Config) {
	c.Listen, c.Second = netip.MustParseAddrPort("192.0.2.2:8471"), netip.Addr{}
}

// vpn runs a gateway in the cloud, and a client of it at the site whose interface vpn0 leads to 10.9.0.1 there.
func (l *lab) vpn() {
	l.Helper()
	dir := folder(l, "nobody")
	write := func(name, text string) string {
		l.Helper()
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(text), 0o700); err != nil {
			l.Fatal(err)
		}
		return file
	}
	cert := testkit.NewAuthority("Example VPN").Issue("vpn.example.com")
	key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		l.Fatal(err)
	}
	certFile := write("cert.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Certificate[0]})))
	keyFile := write("key.pem", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})))
	users := filepath.Join(dir, "users")
	cmd := exec.CommandContext(l.Context(), testkit.Need(l, "/usr/bin/ocpasswd", "ocserv"), "-c", users, "phone")
	cmd.Stdin = strings.NewReader("secret\nsecret\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		l.Fatalf("ocpasswd: %v\n%s", err, out)
	}
	conf := write("ocserv.conf", `auth = "plain[passwd=`+users+`]"
listen-host = 192.0.2.2
tcp-port = 4443
udp-port = 4443
run-as-user = nobody
run-as-group = nogroup
socket-file = `+dir+`/socket
pid-file = `+dir+`/pid
server-cert = `+certFile+`
server-key = `+keyFile+`
isolate-workers = false
max-clients = 4
max-same-clients = 2
keepalive = 60
dpd = 90
mobile-dpd = 90
device = vpns
ipv4-network = 10.9.0.0
ipv4-netmask = 255.255.255.0
route = 10.9.0.0/255.255.255.0
use-occtl = false
cisco-client-compat = true
`)
	l.cloud.serve("192.0.2.2:4443", testkit.Need(l, "/usr/sbin/ocserv", "ocserv"), "-f", "-c", conf)
	up := filepath.Join(dir, "up")
	ip := testkit.Need(l, "/sbin/ip", "iproute2")
	script := write("script", `#!/bin/sh
[ "$reason" = connect ] || exit 0
`+ip+` link set "$TUNDEV" up mtu "$INTERNAL_IP4_MTU"
`+ip+` address add "$INTERNAL_IP4_ADDRESS/32" dev "$TUNDEV"
`+ip+` route add 10.9.0.1/32 dev "$TUNDEV"
echo up > `+up+"\n")
	parsed, err := x509.ParseCertificate(cert.Certificate[0])
	if err != nil {
		l.Fatal(err)
	}
	pin := sha256.Sum256(parsed.RawSubjectPublicKeyInfo)
	password := write("password", "secret\n")
	log := filepath.Join(dir, "client.log")
	l.site.serve("", "/bin/sh", "-c", "exec "+testkit.Need(l, "/usr/sbin/openconnect", "openconnect")+" --protocol anyconnect --non-inter -u phone --passwd-on-stdin --script "+script+" --servercert pin-sha256:"+
		base64.StdEncoding.EncodeToString(pin[:])+" -i vpn0 192.0.2.2:4443 <"+password+" >"+log+" 2>&1")
	// What it said last is how it is connected.
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for range 600 {
		said, _ := os.ReadFile(log)
		if _, err := os.Stat(up); err == nil && strings.Contains(string(said), "Configured as") {
			return
		}
		<-tick.C
	}
	said, _ := os.ReadFile(log)
	l.Fatalf("openconnect does not connect\n%s", said)
}
