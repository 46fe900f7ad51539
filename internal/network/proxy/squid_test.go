package proxy_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"ringfence"
	"ringfence/internal/network/kerberos"
	"ringfence/internal/network/proxy"
	"ringfence/internal/testkit"
)

// free returns a port of loopback that nobody has now.
func free(t testing.TB) int {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().(*net.TCPAddr).Port
}

// place makes a folder that a server which gives up root can write to.
func place(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "squid")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if os.Getuid() == 0 {
		u, err := user.Lookup("proxy")
		if err != nil {
			t.Fatal(err)
		}
		uid, _ := strconv.Atoi(u.Uid)
		gid, _ := strconv.Atoi(u.Gid)
		if err := os.Chown(dir, uid, gid); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// running starts a server and waits until it takes connections.
func running(t testing.TB, port int, env []string, log string, name string, args ...string) {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), env...)
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	gone := make(chan error, 1)
	go func() { gone <- cmd.Wait() }()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-gone
	})
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for range 500 {
		if c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			c.Close()
			return
		}
		select {
		case err := <-gone:
			gone <- err
			text, _ := os.ReadFile(log)
			t.Fatalf("%s: %v\n%s\n%s", name, err, out.String(), text)
		case <-tick.C:
		}
	}
	text, _ := os.ReadFile(log)
	t.Fatalf("%s does not come up\n%s\n%s", name, out.String(), text)
}

// squid starts the proxy with some lines of its own, and returns its address.
func squid(t testing.TB, dir string, env []string, lines string) string {
	t.Helper()
	port := free(t)
	conf := filepath.Join(dir, "squid.conf")
	text := fmt.Sprintf("http_port 127.0.0.1:%d\npid_filename none\ncache_log %[2]s/cache.log\naccess_log none\ncache_store_log none\ncoredump_dir %[2]s\ncache deny all\nshutdown_lifetime 0 seconds\nvisible_hostname proxy.example.com\n"+
		"pinger_enable off\nnetdb_filename none\nmemory_pools off\nmax_filedescriptors 256\n%s", port, dir, lines)
	if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	bin := testkit.Need(t, "/usr/sbin/squid", "squid-openssl")
	running(t, port, env, filepath.Join(dir, "cache.log"), bin, "-N", "-n", fmt.Sprintf("ringfence%d", port), "-f", conf)
	return fmt.Sprintf("127.0.0.1:%d", port)
}

// echo is a server behind the proxy.
func echo(t testing.TB) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = io.Copy(c, c)
			}()
		}
	}()
	return ln.Addr().String()
}

// realm is a key distribution centre with a user, alice, and the proxy's service.
func realm(t testing.TB, dir string) (c *kerberos.Client, keytab, conf string) {
	t.Helper()
	port := free(t)
	conf = filepath.Join(dir, "krb5.conf")
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("krb5.conf", fmt.Sprintf("[libdefaults]\ndefault_realm = EXAMPLE.TEST\ndns_lookup_kdc = false\ndns_lookup_realm = false\n[realms]\nEXAMPLE.TEST = {\nkdc = 127.0.0.1:%d\n}\n", port))
	write("kdc.conf", fmt.Sprintf("[kdcdefaults]\nkdc_listen = \"\"\nkdc_tcp_listen = 127.0.0.1:%d\n[realms]\nEXAMPLE.TEST = {\ndatabase_name = %[2]s/db\nkey_stash_file = %[2]s/stash\nacl_file = %[2]s/acl\nsupported_enctypes = aes256-sha2:normal aes256-cts:normal aes128-cts:normal\ndefault_principal_flags = +preauth\n}\n[logging]\nkdc = FILE:%[2]s/kdc.log\n", port, dir))
	env := []string{"KRB5_CONFIG=" + conf, "KRB5_KDC_PROFILE=" + filepath.Join(dir, "kdc.conf")}
	do := func(name string, args ...string) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), name, args...)
		cmd.Env = append(os.Environ(), env...)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s %q: %v\n%s", name, args, err, out)
		}
	}
	keytab = filepath.Join(dir, "keytab")
	admin := testkit.Need(t, "/usr/sbin/kadmin.local", "krb5-admin-server")
	do(testkit.Need(t, "/usr/sbin/kdb5_util", "krb5-kdc"), "create", "-s", "-W", "-r", "EXAMPLE.TEST", "-P", "master")
	do(admin, "-q", "addprinc -pw secret alice")
	do(admin, "-q", "addprinc -pw secret -e aes128-cts:normal bob")
	do(admin, "-q", "addprinc -pw secret -requires_preauth carol")
	do(admin, "-q", "addprinc -randkey -requires_preauth HTTP/proxy.example.com")
	do(admin, "-q", "ktadd -k "+keytab+" HTTP/proxy.example.com")
	if err := os.Chmod(keytab, 0o644); err != nil {
		t.Fatal(err)
	}
	running(t, port, env, filepath.Join(dir, "kdc.log"), testkit.Need(t, "/usr/sbin/krb5kdc", "krb5-kdc"), "-n")
	return &kerberos.Client{Realm: "EXAMPLE.TEST", User: "alice", Password: "secret", Ask: func(ctx context.Context, b []byte) ([]byte, error) {
		var d net.Dialer
		conn, err := d.DialContext(ctx, "tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			return nil, err
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
		return kerberos.Exchange(conn, b)
	}}, keytab, conf
}

// TestSquid (V08) holds each scheme against a real proxy that wants each: the one that it wants is let in, and no other.
func TestSquid(t *testing.T) {
	dir := place(t)
	if err := os.WriteFile(filepath.Join(dir, "users"), []byte("alice:secret\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	hash, err := exec.CommandContext(t.Context(), testkit.Need(t, "/usr/bin/openssl", "openssl"), "passwd", "-apr1", "-salt", "ringfenc", "secret").Output()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "basic"), append([]byte("alice:"), hash...), 0o644); err != nil {
		t.Fatal(err)
	}
	tickets, keytab, conf := realm(t, place(t))
	const gate = "\nacl known proxy_auth REQUIRED\nhttp_access allow known\nhttp_access deny all\n"
	target := echo(t)
	env := []string{"KRB5_CONFIG=" + conf, "KRB5RCACHETYPE=none"}
	proxies := map[proxy.Scheme]string{
		proxy.None:      squid(t, place(t), nil, "http_access allow all\n"),
		proxy.Basic:     squid(t, place(t), nil, "auth_param basic program /usr/lib/squid/basic_ncsa_auth "+dir+"/basic\nauth_param basic realm a proxy, here"+gate),
		proxy.Digest:    squid(t, place(t), nil, "auth_param digest program /usr/lib/squid/digest_file_auth "+dir+"/users\nauth_param digest realm proxy"+gate),
		proxy.NTLM:      squid(t, place(t), nil, "auth_param ntlm program /usr/lib/squid/ntlm_fake_auth -v"+gate),
		proxy.Negotiate: squid(t, place(t), env, "auth_param negotiate program /usr/lib/squid/negotiate_kerberos_auth -s HTTP/proxy.example.com@EXAMPLE.TEST -k "+keytab+gate),
	}
	dialer := func(at string) *proxy.Dialer {
		return &proxy.Dialer{Name: "proxy.example.com", Who: proxy.Credentials{User: "alice", Password: "secret", Domain: "EXAMPLE", Token: tickets.Token}, Dial: func(ctx context.Context) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "tcp", at)
		}}
	}
	for wanted, at := range proxies {
		for _, used := range proxy.Schemes() {
			d := dialer(at)
			d.Only = []proxy.Scheme{used}
			conn, out, err := d.Connect(t.Context(), target)
			if wanted == proxy.None {
				used = proxy.None
			}
			if !slices.Equal(out.Offered, []proxy.Scheme{wanted}) || (err == nil) != (used == wanted) {
				t.Errorf("the proxy wants %s, %s is tried: %v %+v", wanted, used, err, out)
			}
			if err != nil {
				if ringfence.KindOf(err) != ringfence.KindUnauthenticated {
					t.Errorf("%s at %s: %v", used, wanted, err)
				}
				continue
			}
			if out.Used != used {
				t.Errorf("%s: %+v", wanted, out)
			}
			_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
			b := make([]byte, 7)
			if _, err := conn.Write([]byte("through")); err != nil {
				t.Error(err)
			}
			if _, err := io.ReadFull(conn, b); err != nil || string(b) != "through" {
				t.Errorf("%s: %q %v", wanted, b, err)
			}
			conn.Close()
		}
	}
	for _, wrong := range []proxy.Scheme{proxy.Basic, proxy.Digest} {
		d := dialer(proxies[wrong])
		d.Only, d.Who.Password = []proxy.Scheme{wrong}, "guess"
		if _, _, err := d.Connect(t.Context(), target); ringfence.KindOf(err) != ringfence.KindUnauthenticated {
			t.Errorf("%s, a wrong password: %v", wrong, err)
		}
	}
	d := dialer(proxies[proxy.Basic])
	if _, _, err := d.Connect(t.Context(), target); ringfence.KindOf(err) != ringfence.KindInsecure {
		t.Errorf("a password in the clear: %v", err)
	}
	t.Run("kerberos", func(t *testing.T) {
		for _, user := range []string{"bob", "carol"} { // an AES-128 key only; no proof before the answer
			c := *tickets
			c.User = user
			if token, err := c.Token(t.Context(), "HTTP/proxy.example.com"); err != nil || len(token) < 100 {
				t.Errorf("%s: %v", user, err)
			}
		}
		for name, c := range map[string]struct {
			user, password, service string
			kind                    ringfence.Kind
		}{
			"password":    {"alice", "guess", "HTTP/proxy.example.com", ringfence.KindUnauthenticated},
			"no preauth":  {"carol", "guess", "HTTP/proxy.example.com", ringfence.KindUnauthenticated},
			"user":        {"mallory", "secret", "HTTP/proxy.example.com", ringfence.KindUnauthenticated},
			"service":     {"alice", "secret", "HTTP/other.example.com", ringfence.KindNotFound},
			"no service":  {"alice", "secret", "proxy", ringfence.KindInvalid},
			"unreachable": {"alice", "secret", "HTTP/proxy.example.com", ringfence.KindUnavailable},
		} {
			k := *tickets
			k.User, k.Password = c.user, c.password
			if name == "unreachable" {
				k.Ask = func(context.Context, []byte) ([]byte, error) {
					return nil, &ringfence.Fault{Kind: ringfence.KindUnavailable, Text: "no way", Err: errors.ErrUnsupported}
				}
			}
			if _, err := k.Token(t.Context(), c.service); ringfence.KindOf(err) != c.kind {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
}
