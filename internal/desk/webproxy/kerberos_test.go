package webproxy

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"ringfence"
	"ringfence/internal/network/kerberos"
	"ringfence/internal/testkit"
)

// centre runs a key distribution centre of the realm EXAMPLE.TEST with the user alice and the service of a proxy, and returns how it is asked, and the files of the service.
func centre(t *testing.T) (ask func(context.Context, []byte) ([]byte, error), keytab, conf string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "krb5") // where the helper of a proxy that gave up root can read
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	at := fmt.Sprintf("127.0.0.1:%d", free(t))
	file := func(name string) string { return filepath.Join(dir, name) }
	keytab, conf = file("keytab"), file("krb5.conf")
	for name, text := range map[string]string{"krb5.conf": "[libdefaults]\ndefault_realm = EXAMPLE.TEST\ndns_lookup_kdc = false\ndns_lookup_realm = false\n",
		"kdc.conf": "[kdcdefaults]\nkdc_listen = \"\"\nkdc_tcp_listen = " + at + "\n[realms]\nEXAMPLE.TEST = {\ndatabase_name = " + file("db") + "\nkey_stash_file = " + file("stash") + "\nsupported_enctypes = aes256-cts:normal\ndefault_principal_flags = +preauth\n}\n[logging]\nkdc = FILE:" + file("log") + "\n"} {
		if err := os.WriteFile(file(name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	command := func(name string, args ...string) *exec.Cmd {
		cmd := exec.Command(name, args...)
		cmd.Env = append(os.Environ(), "KRB5_CONFIG="+conf, "KRB5_KDC_PROFILE="+file("kdc.conf"))
		return cmd
	}
	admin := testkit.Need(t, "/usr/sbin/kadmin.local", "krb5-admin-server")
	for _, step := range [][]string{{testkit.Need(t, "/usr/sbin/kdb5_util", "krb5-kdc"), "create", "-s", "-W", "-r", "EXAMPLE.TEST", "-P", "master"}, {admin, "-q", "addprinc -pw secret alice"}, {admin, "-q", "addprinc -randkey HTTP/negotiate.example.com"}, {admin, "-q", "ktadd -k " + keytab + " HTTP/negotiate.example.com"}} {
		if out, err := command(step[0], step[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%q: %v: %s", step, err, out)
		}
	}
	if err := os.Chmod(keytab, 0o644); err != nil {
		t.Fatal(err)
	}
	kdc := command(testkit.Need(t, "/usr/sbin/krb5kdc", "krb5-kdc"), "-n")
	if err := kdc.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = kdc.Process.Kill(); _ = kdc.Wait() })
	ask = func(ctx context.Context, b []byte) ([]byte, error) {
		var d net.Dialer
		conn, err := d.DialContext(ctx, "tcp", at)
		if err != nil {
			return nil, err
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
		return kerberos.Exchange(conn, b)
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for range 250 {
		if c, err := net.Dial("tcp", at); err == nil {
			_ = c.Close()
			return ask, keytab, conf
		}
		<-tick.C
	}
	t.Fatal("the key distribution centre does not come up")
	return nil, "", ""
}

// TestKerberos signs in at a proxy that takes tickets of Kerberos and nothing else.
func TestKerberos(t *testing.T) {
	ask, keytab, conf := centre(t)
	at := squid(t, "auth_param negotiate program /usr/bin/env KRB5_CONFIG="+conf+" KRB5RCACHETYPE=none /usr/lib/squid/negotiate_kerberos_auth -s HTTP/negotiate.example.com@EXAMPLE.TEST -k "+keytab+"\nacl known proxy_auth REQUIRED\nhttp_access allow known\nhttp_access deny all\n")
	target := echo(t)
	world := site{names: map[string]netip.Addr{"negotiate.example.com": netip.MustParseAddr("192.0.2.1")}, ports: map[netip.AddrPort]string{netip.MustParseAddrPort("192.0.2.1:3128"): at}}
	way := func(password string, tickets bool) (net.Conn, Use, error) {
		p := world.phone(Setting{Mode: Manual, From: "cfg.xml:3", Host: "negotiate.example.com:3128", SignsIn: true, User: "alice", Password: password})
		if tickets {
			p.Ticket = (&kerberos.Client{Realm: "EXAMPLE.TEST", User: "alice", Password: password, Ask: ask}).Token
		}
		return p.Connect(t.Context(), Provisioning, target.Addr().String(), target.Port())
	}
	if conn, u, err := way("secret", true); err != nil || conn == nil || u.Scheme != "negotiate" || u.Warning != "" || !arrives(conn) {
		t.Errorf("%+v %v", u, err)
	}
	if conn, u, err := way("guess", true); conn != nil || ringfence.KindOf(err) != ringfence.KindUnauthenticated {
		t.Errorf("a wrong password: %+v %v", u, err)
	}
	if conn, u, err := way("secret", false); conn != nil || err == nil { // the proxy knows no NTLM
		t.Errorf("without a realm: %+v %v", u, err)
	}
}

// TestOffered goes by the file that a DHCP server named, without asking DNS, and around no file that cannot be had.
func TestOffered(t *testing.T) {
	world := site{names: map[string]netip.Addr{"wpad.example.com": netip.MustParseAddr("192.0.2.80")}, ports: map[netip.AddrPort]string{}}
	p := world.phone(Setting{Mode: Auto, From: "cfg.xml:3", WPAD: true})
	p.Domains = []string{"example.com"}
	p.Offered = func() (string, netip.Addr) { return "http://192.0.2.81/proxy.pac", netip.MustParseAddr("192.0.2.1") }
	if conn, u, err := p.Connect(t.Context(), Provisioning, "prov.example.com", 443); conn != nil || err == nil {
		t.Errorf("%+v %v", u, err)
	}
	p.Domains = nil
	p.Offered = func() (string, netip.Addr) { return "", netip.Addr{} }
	if conn, u, err := p.Connect(t.Context(), Provisioning, "prov.example.com", 443); conn != nil || err != nil || u.Way != Direct || u.Because != "Proxy_Mode is Auto (cfg.xml:3), and WPAD found no file (asked: DHCP)" {
		t.Errorf("%+v %v", u, err)
	}
}
