package tvs_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"ringfence/internal/testkit"
	"ringfence/internal/trust/trustlist"
	"ringfence/internal/trust/tvs"
)

// TestOpenSSL has OpenSSL make the certificates, say their hash and names, and carry bytes that are written by hand.
func TestOpenSSL(t *testing.T) {
	openssl, dir := testkit.Need(t, "openssl", "openssl"), t.TempDir()
	run := func(stdin []byte, args ...string) []byte {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		cmd := exec.CommandContext(ctx, openssl, args...)
		var errs bytes.Buffer
		cmd.Dir, cmd.Stdin, cmd.Stderr = dir, bytes.NewReader(stdin), &errs
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("openssl %s: %v\n%s", strings.Join(args, " "), err, errs.String())
		}
		return out
	}
	newCert := func(name, subject, days string, more ...string) *x509.Certificate {
		t.Helper()
		run(nil, append([]string{"req", "-x509", "-nodes", "-keyout", name + ".key", "-out", name + ".pem", "-subj", subject, "-days", days}, more...)...)
		text, err := os.ReadFile(filepath.Join(dir, name+".pem"))
		if err != nil {
			t.Fatal(err)
		}
		block, _ := pem.Decode(text)
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	newCert("tvs", "/O=Example/CN=tvs.example", "30", "-newkey", "rsa:2048")
	node := newCert("node", `/C=ZZ/O=Example, Inc/OU=a+b \"c\"/CN=sast.example`, "30", "-newkey", "rsa:2048", "-set_serial", "0x81001")
	stranger := newCert("stranger", `/C=ZZ/O=Example, Inc/OU=a+b \"c\"/CN=sast.example`, "30", "-newkey", "rsa:2048", "-set_serial", "0x81001")

	// The hash by which the book knows the certificate is the one that OpenSSL prints.
	_, text, ok := strings.Cut(string(run(nil, "x509", "-in", "node.pem", "-noout", "-fingerprint", "-sha256")), "=")
	hash, err := hex.DecodeString(strings.ReplaceAll(strings.TrimSpace(text), ":", ""))
	if !ok || err != nil || len(hash) != sha256.Size {
		t.Fatalf("%q %v", text, err)
	}
	b := &book{certs: []*x509.Certificate{stranger, node}, known: map[[sha256.Size]byte]tvs.Standing{[sha256.Size]byte(hash): {Roles: []trustlist.Role{trustlist.CCMTFTP}}}}

	s, err := tvs.New(tvs.Config{Book: b})
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, "tvs.pem"), filepath.Join(dir, "tvs.key"))
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	all.Go(func() {
		_ = s.Serve(ctx, tls.NewListener(ln, &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}))
	})
	defer all.Wait()
	defer cancel()
	ask := func(version string, req []byte) []byte {
		t.Helper()
		return run(req, "s_client", "-connect", ln.Addr().String(), "-quiet", "-verify_return_error", "-CAfile", "tvs.pem", version)
	}

	one := "\x00\x00\x00\x01"
	// The exchange that was captured, to the byte: OpenSSL makes a certificate of 831 bytes of these words.
	captured := newCert("captured", "/C=ZZ/O=Example/CN=sast.example", "3650", "-newkey", "rsa:2048", "-set_serial", "0x1001")
	b.add(captured, tvs.Standing{Roles: []trustlist.Role{trustlist.CCMTFTP}})
	req := append(unhex(t, "57 01 01 00 00000001 035d 01 0018 43502d383834312d53455030303131323233333434353500 02 033f"), captured.Raw...)
	if got := ask("-tls1_3", req); !bytes.Equal(got, unhex(t, "57 01 02 00 00000001 000f 07 0001 00 08 0001 02 09 0004 00015180")) {
		t.Errorf("captured: %x", got)
	}
	name := unhex(t, "01 0018 0143502d383834312d534550303031313232333334343535")
	yes := unhex(t, "57 01 02 00 00000001 000f 070001 00 080001 02 090004 00015180")
	for _, version := range []string{"-tls1_2", "-tls1_3"} {
		if got := ask(version, message(1, one, name, element(2, run(nil, "x509", "-in", "node.pem", "-outform", "DER")))); !bytes.Equal(got, yes) {
			t.Errorf("%s: %x", version, got)
		}
	}
	if got := ask("-tls1_3", message(1, one, name, element(2, stranger.Raw))); !bytes.Equal(got, unhex(t, "57 01 02 00 00000001 0004 070001 01")) {
		t.Errorf("a twin: %x", got)
	}
	// By the names that OpenSSL prints, from the last to the first. Of two with the same names and serial number, the one that is believed counts.
	names := func(which string) []byte {
		_, text, ok := strings.Cut(string(run(nil, "x509", "-in", "node.pem", "-noout", "-"+which, "-nameopt", "RFC2253")), "=")
		if !ok {
			t.Fatalf("%q", text)
		}
		return append([]byte(strings.TrimSpace(text)), 0)
	}
	query := message(3, one, name, element(3, names("subject")), element(4, names("issuer")), element(5, []byte{8, 0x10, 0x01}))
	if got, want := ask("-tls1_3", query), message(4, one, element(7, []byte{0}), element(2, node.Raw), element(8, []byte{2}), unhex(t, "090004 00015180")); !bytes.Equal(got, want) {
		t.Errorf("%x\nand not\n%x", got, want)
	}
}
