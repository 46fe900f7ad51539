package acme_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"ringfence/internal/testkit"
	"ringfence/internal/trust/acme"
)

// freePort returns a port of loopback that was free a moment ago.
func freePort(t *testing.T) uint16 {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return netip.MustParseAddrPort(l.Addr().String()).Port()
}

// TestCertbot lets certbot have, renew and revoke a certificate, change its account and leave.
func TestCertbot(t *testing.T) {
	certbot, openssl := testkit.Need(t, "/usr/bin/certbot", "certbot"), testkit.Need(t, "/usr/bin/openssl", "openssl")
	port := freePort(t)
	// Certbot's own listener may come a moment after it says so, hence more than one look.
	s := newSite(t, func(c *acme.Config) { c.HTTPPort, c.Tries, c.Pause = port, 3, 200*time.Millisecond })
	s.zone.here("pbx.example.org")
	s.zone.here("gw.example.org")
	dir := t.TempDir()
	roots := filepath.Join(dir, "root.pem")
	if err := os.WriteFile(roots, s.ca.pem(), 0o600); err != nil {
		t.Fatal(err)
	}
	b := s.bind("pbx.example.org", "gw.example.org")
	run := func(fails bool, args ...string) string {
		t.Helper()
		ctx, done := context.WithTimeout(t.Context(), 2*time.Minute)
		defer done()
		args = append(args, "--non-interactive", "--server", s.base+"/acme/directory", "--config-dir", dir+"/etc", "--work-dir", dir+"/work", "--logs-dir", dir+"/log")
		cmd := exec.CommandContext(ctx, certbot, args...)
		cmd.Env = append(os.Environ(), "REQUESTS_CA_BUNDLE="+roots)
		out, err := cmd.CombinedOutput()
		if (err != nil) != fails {
			t.Fatalf("certbot %s: %v\n%s\n%s", strings.Join(args, " "), err, out, s.log)
		}
		return string(out)
	}
	web := []string{"certonly", "--standalone", "--preferred-challenges", "http", "--http-01-address", "127.0.0.1", "--http-01-port", strconv.Itoa(int(port)), "--cert-name", "pbx",
		"--agree-tos", "-m", "admin@example.org", "--no-eff-email"}
	with := func(more ...string) []string { return append(append([]string(nil), web...), more...) }

	out := run(true, with("-d", "pbx.example.org")...)
	if !strings.Contains(strings.ToLower(out), "eab") {
		t.Errorf("certbot was not told that a binding is needed:\n%s", out)
	}
	run(true, with("-d", "pbx.example.org", "--eab-kid", b.ID, "--eab-hmac-key", base64.RawURLEncoding.EncodeToString(make([]byte, 32)))...)
	run(false, with("-d", "pbx.example.org", "-d", "gw.example.org", "--eab-kid", b.ID, "--eab-hmac-key", base64.RawURLEncoding.EncodeToString(b.Key))...)
	live := filepath.Join(dir, "etc", "live", "pbx")
	first, err := tls.LoadX509KeyPair(filepath.Join(live, "fullchain.pem"), filepath.Join(live, "privkey.pem"))
	if err != nil {
		t.Fatal(err)
	}
	verify, err := exec.Command(openssl, "verify", "-CAfile", roots, "-verify_hostname", "gw.example.org", filepath.Join(live, "cert.pem")).CombinedOutput()
	if err != nil {
		t.Errorf("openssl does not believe the certificate: %s", verify)
	}
	// Certbot 2.1 under Python 3.11 loses the problem on the way to the terminal; its log has it.
	run(true, with("-d", "other.example.org", "--force-renewal")...)
	said, err := os.ReadFile(filepath.Join(dir, "log", "letsencrypt.log"))
	if err != nil || !strings.Contains(string(said), "other.example.org: this account may not have the name") {
		t.Errorf("certbot was not told why: %v\n%s", err, said)
	}
	run(false, "renew", "--force-renewal", "--no-random-sleep-on-renew")
	second, err := tls.LoadX509KeyPair(filepath.Join(live, "fullchain.pem"), filepath.Join(live, "privkey.pem"))
	if err != nil {
		t.Fatal(err)
	}
	a, err := x509.ParseCertificate(first.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(second.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	if a.SerialNumber.Cmp(c.SerialNumber) == 0 || len(c.DNSNames) != 2 {
		t.Error("it was not renewed")
	}
	run(false, "update_account", "-m", "other@example.org")
	run(false, "revoke", "--cert-name", "pbx", "--reason", "superseded", "--no-delete-after-revoke")
	if reason, ok := s.ca.revoked[c.SerialNumber.String()]; !ok || reason != 4 {
		t.Errorf("revoked: %v", s.ca.revoked)
	}
	run(false, "unregister")
	if text := strings.Join(s.audit, "\n"); !strings.Contains(text, "deactivated by its holder") {
		t.Errorf("audit:\n%s", text)
	}
}
