package interop_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/crypto/ocsp"

	"ringfence/internal/node/config"
	"ringfence/internal/testkit"
	"ringfence/internal/trust/ca"
)

// TestRevocationByOpenSSL has OpenSSL ask about certificates by OCSP and by list: good ones, revoked ones, one of an authority that was
// followed by another, and strangers.
func TestRevocationByOpenSSL(t *testing.T) {
	s := newSite(t, func(c *config.Config) {
		c.API.Revocation, c.Domain = netip.MustParseAddrPort("127.0.0.1:0"), "localhost"
	})
	openssl := testkit.Need(t, "openssl", "openssl")
	run := func(args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(s.Ctx, openssl, args...)
		cmd.Dir = s.home
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Logf("openssl %s: %v", strings.Join(args, " "), err)
		}
		return string(out)
	}
	issue := func(file, name string) *x509.Certificate {
		t.Helper()
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		s.OK(err)
		out, err := s.Node.Authority.Issue(s.Ctx, ca.Request{Role: ca.RoleCTI, Name: name, PublicKey: key.Public()})
		s.OK(err)
		s.file(file+".pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: out.Chain[0]}))
		s.file(file+".issuer.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: out.Chain[1]}))
		return out.Leaf
	}
	base := fmt.Sprintf("http://localhost:%d", s.Node.Bound("revocation").Port())
	ask := func(file, want string) {
		t.Helper()
		out := run("ocsp", "-url", base+"/ocsp", "-issuer", file+".issuer.pem", "-cert", file+".pem", "-CAfile", "ca.pem", "-no_nonce", "-verify_other", file+".issuer.pem")
		if !strings.Contains(out, "Response verify OK") || !strings.Contains(out, file+".pem: "+want) {
			t.Errorf("%s: want %s\n%s", file, want, out)
		}
	}
	fetch := func(leaf *x509.Certificate) {
		t.Helper()
		if len(leaf.OCSPServer) != 1 || leaf.OCSPServer[0] != base+"/ocsp" || len(leaf.CRLDistributionPoints) != 1 {
			t.Fatalf("the certificate says %v %v", leaf.OCSPServer, leaf.CRLDistributionPoints)
		}
		res, err := http.Get(leaf.CRLDistributionPoints[0])
		s.OK(err)
		defer res.Body.Close()
		var b bytes.Buffer
		_, err = b.ReadFrom(res.Body)
		s.OK(err)
		if res.StatusCode != 200 || res.Header.Get("Content-Type") != "application/pkix-crl" {
			t.Fatal(res.Status)
		}
		s.file("list.crl", b.Bytes())
		run("crl", "-inform", "DER", "-in", "list.crl", "-out", "list.pem")
	}
	check := func(file string, good bool) {
		t.Helper()
		out := run("verify", "-CAfile", "ca.pem", "-untrusted", file+".issuer.pem", "-crl_check", "-CRLfile", "list.pem", file+".pem")
		if strings.Contains(out, file+".pem: OK") != good || !good && !strings.Contains(out, "certificate revoked") {
			t.Errorf("%s: %s", file, out)
		}
	}
	// GnuTLS must say the same.
	certtool := func(file, want string) {
		t.Helper()
		chain := append(s.read(file+".pem"), s.read(file+".issuer.pem")...)
		s.file("chain.pem", chain)
		cmd := exec.CommandContext(s.Ctx, testkit.Need(t, "certtool", "gnutls-bin"), "--verify", "--load-ca-certificate", "ca.pem", "--load-crl", "list.pem", "--infile", "chain.pem")
		cmd.Dir = s.home
		out, err := cmd.CombinedOutput()
		if !strings.Contains(string(out), want) || (err == nil) != strings.HasPrefix(want, "Verified") {
			t.Errorf("%s: %v, want %q in %s", file, err, want, out)
		}
	}
	ocsptool := func(file, want string) {
		t.Helper()
		cmd := exec.CommandContext(s.Ctx, testkit.Need(t, "ocsptool", "gnutls-bin"), "--ask="+base+"/ocsp", "--load-cert", file+".pem", "--load-issuer", file+".issuer.pem", "--load-signer", file+".issuer.pem")
		cmd.Dir = s.home
		if out, _ := cmd.CombinedOutput(); !strings.Contains(string(out), "Certificate Status: "+want) || !strings.Contains(string(out), "Verifying OCSP Response: Success") {
			t.Errorf("%s: want %s in %s", file, want, out)
		}
	}
	one, two := issue("one", "dashboard-1"), issue("two", "dashboard-2")
	ask("one", "good")
	fetch(one)
	check("one", true)
	certtool("one", "Verified. The certificate is trusted")
	ocsptool("one", "good")
	s.OK(s.Node.Authority.Revoke(s.Ctx, two.SerialNumber.Text(16), "key compromise"))
	ask("two", "revoked")
	if out := run("ocsp", "-url", base+"/ocsp", "-issuer", "two.issuer.pem", "-cert", "two.pem", "-CAfile", "ca.pem", "-no_nonce"); !strings.Contains(out, "keyCompromise") {
		t.Errorf("%s", out)
	}
	// The next authority answers for itself, and the one before it is still answered for.
	s.OK(s.Node.Authority.Rotate(s.Ctx))
	three := issue("three", "dashboard-3")
	if bytes.Equal(three.AuthorityKeyId, one.AuthorityKeyId) {
		t.Fatal("the authority did not change")
	}
	ask("three", "good")
	ask("two", "revoked")
	s.OK(s.Node.Authority.Revoke(s.Ctx, three.SerialNumber.Text(16), "superseded"))
	fetch(three)
	check("three", false)
	certtool("three", "revoked")
	ocsptool("three", "revoked")
	ocsptool("two", "revoked")
	// A certificate that nobody signed here is unknown, and one of another authority is nobody's business here.
	out := run("ocsp", "-url", base+"/ocsp", "-issuer", "three.issuer.pem", "-serial", "0x1234", "-CAfile", "ca.pem", "-no_nonce", "-verify_other", "three.issuer.pem")
	if !strings.Contains(out, "0x1234: unknown") {
		t.Errorf("%s", out)
	}
	if out := run("ocsp", "-url", base+"/ocsp", "-issuer", "ca.pem", "-serial", "0x1234", "-no_nonce"); !strings.Contains(out, "unauthorized (6)") {
		t.Errorf("%s", out)
	}
	// By GET, and what is no question.
	q, err := ocsp.CreateRequest(one, parseFile(t, s, "one.issuer.pem"), nil)
	s.OK(err)
	get := func(path string) (int, []byte) {
		t.Helper()
		res, err := http.Get(base + path)
		s.OK(err)
		defer res.Body.Close()
		var b bytes.Buffer
		_, err = b.ReadFrom(res.Body)
		s.OK(err)
		return res.StatusCode, b.Bytes()
	}
	if status, b := get("/ocsp/" + base64.StdEncoding.EncodeToString(q)); status != 200 {
		t.Errorf("%d %s", status, b)
	} else if r, err := ocsp.ParseResponseForCert(b, one, parseFile(t, s, "one.issuer.pem")); err != nil || r.Status != ocsp.Good {
		t.Errorf("%v %+v", err, r)
	}
	if status, b := get("/ocsp/AAAA"); status != 200 || !bytes.Equal(b, ocsp.MalformedRequestErrorResponse) {
		t.Errorf("%d %x", status, b)
	}
	for path, want := range map[string]int{"/ocsp/!!": 400, "/crl/1234.crl": 404, "/crl/x": 404, "/": 404, "/api/v1/version": 404} {
		if status, _ := get(path); status != want {
			t.Errorf("%s: %d, want %d", path, status, want)
		}
	}
}

func parseFile(t *testing.T, s *site, name string) *x509.Certificate {
	t.Helper()
	b, err := os.ReadFile(s.path(name))
	s.OK(err)
	block, _ := pem.Decode(b)
	c, err := x509.ParseCertificate(block.Bytes)
	s.OK(err)
	return c
}
