package acme_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ringfence/internal/testkit"
	"ringfence/internal/trust/acme"
)

// TestDehydrated lets a client made of shell, curl and openssl show a name by HTTP and a wildcard by DNS, with an account key on
// P-384 and certificate keys of RSA, and revoke.
func TestDehydrated(t *testing.T) {
	dehydrated := testkit.Need(t, "/usr/bin/dehydrated", "dehydrated")
	testkit.Need(t, "/usr/bin/curl", "curl")
	dir := t.TempDir()
	files := filepath.Join(dir, "challenges")
	for _, d := range []string{files, dir + "/etc"} {
		if err := os.Mkdir(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	web := httptest.NewServer(http.StripPrefix("/.well-known/acme-challenge/", http.FileServer(http.Dir(files))))
	t.Cleanup(web.Close)
	s := newSite(t, func(c *acme.Config) { c.HTTPPort = netip.MustParseAddrPort(web.Listener.Addr().String()).Port() })
	s.zone.here("pbx.example.org")
	b := s.bind("pbx.example.org", "*.example.org")
	// The hook writes the record into a file, which is the zone of this test.
	hook := "#!/bin/sh\nif [ \"$1\" = deploy_challenge ]; then printf '%s %s' \"$2\" \"$4\" >'" + dir + "/record'; fi\n"
	for name, text := range map[string]string{
		"root.pem": string(s.ca.pem()), "hook.sh": hook,
		"etc/config": "CA='" + s.base + "/acme/directory'\nBASEDIR='" + dir + "'\nWELLKNOWN='" + files + "'\nCURL_OPTS='--cacert " + dir + "/root.pem'\nACCOUNT_KEY_ALGO=secp384r1\nKEY_ALGO=rsa\nKEYSIZE=2048\n" +
			"EAB_KID='" + b.ID + "'\nEAB_HMAC_KEY='" + base64.RawURLEncoding.EncodeToString(b.Key) + "'\nCONTACT_EMAIL=admin@example.org\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	run := func(args ...string) string {
		t.Helper()
		ctx, done := context.WithTimeout(t.Context(), time.Minute)
		defer done()
		cmd := exec.CommandContext(ctx, dehydrated, append(args, "--config", dir+"/etc/config")...)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("dehydrated %s: %v\n%s\n%s", strings.Join(args, " "), err, out, s.log)
		}
		return string(out)
	}
	leaf := func(alias string) *x509.Certificate {
		t.Helper()
		text, err := os.ReadFile(filepath.Join(dir, "certs", alias, "cert.pem"))
		if err != nil {
			t.Fatal(err)
		}
		block, _ := pem.Decode(text)
		if block == nil {
			t.Fatalf("%s", text)
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	run("--register", "--accept-terms")
	run("--cron", "--domain", "pbx.example.org", "--alias", "pbx")
	first := leaf("pbx")
	if err := first.VerifyHostname("pbx.example.org"); err != nil || first.PublicKeyAlgorithm != x509.RSA {
		t.Errorf("%v %v", err, first.PublicKeyAlgorithm)
	}
	run("--revoke", filepath.Join(dir, "certs", "pbx", "cert.pem"))
	if len(s.ca.revoked) != 1 {
		t.Errorf("revoked: %v", s.ca.revoked)
	}
	s.zone.read(dir + "/record")
	run("--cron", "--domain", "*.example.org", "--alias", "any", "--challenge", "dns-01", "--hook", dir+"/hook.sh", "--algo", "secp384r1")
	second := leaf("any")
	if key, ok := second.PublicKey.(*ecdsa.PublicKey); !ok || key.Curve != elliptic.P384() || second.VerifyHostname("x.example.org") != nil {
		t.Errorf("%v %T", second.DNSNames, second.PublicKey)
	}
	run("--account")
}
