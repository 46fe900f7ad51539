package capf

import (
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ringfence/internal/testkit"
)

// otherPhone is a phone of which no byte was made by this package or by Go: OpenSSL has the keys, signs, and speaks TLS; the messages are written
// out below from the description of the protocol.
type otherPhone struct {
	t   *testing.T
	dir string
	in  io.WriteCloser
	out io.Reader
	id  []byte
}

// openssl runs one command in the phone's folder and returns what it prints.
func (p *otherPhone) openssl(stdin []byte, args ...string) []byte {
	p.t.Helper()
	c := exec.CommandContext(p.t.Context(), testkit.Need(p.t, "/usr/bin/openssl", "openssl"), args...)
	c.Dir, c.Stdin = p.dir, bytes.NewReader(stdin)
	var errs bytes.Buffer
	c.Stderr = &errs
	out, err := c.Output()
	if err != nil {
		p.t.Fatalf("openssl %s: %v\n%s%s", strings.Join(args, " "), err, out, errs.Bytes())
	}
	return out
}

// dial begins a session over openssl s_client.
func (p *otherPhone) dial(addr string) {
	p.t.Helper()
	c := exec.CommandContext(p.t.Context(), testkit.Need(p.t, "/usr/bin/openssl", "openssl"), "s_client", "-quiet", "-connect", addr, "-CAfile", "capf.pem", "-verify_return_error", "-verify_hostname", "capf.example")
	c.Dir = p.dir
	in, err := c.StdinPipe()
	if err != nil {
		p.t.Fatal(err)
	}
	out, err := c.StdoutPipe()
	if err != nil {
		p.t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { in.Close(); _ = c.Process.Kill(); _ = c.Wait() })
	p.in, p.out = in, out
	b := make([]byte, 16)
	if _, err := io.ReadFull(p.out, b); err != nil {
		p.t.Fatal(err)
	}
	p.id = bytes.Clone(b[2:6])
	p.same(b, "\x55\x01", "\x00\x08\x07\x00\x01\x03\x08\x00\x01\x00")
}

func (p *otherPhone) same(got []byte, head, rest string) {
	p.t.Helper()
	if want := head + string(p.id) + rest; string(got) != want {
		p.t.Fatalf("the server sent % x, not % x", got, want)
	}
}

// say sends a command with a body.
func (p *otherPhone) say(cmd byte, body []byte) {
	p.t.Helper()
	b := append([]byte{0x55, cmd}, p.id...)
	b = append(b, byte(len(body)>>8), byte(len(body)))
	if _, err := p.in.Write(append(b, body...)); err != nil {
		p.t.Fatal(err)
	}
}

func (p *otherPhone) hear(head, rest string) {
	p.t.Helper()
	b := make([]byte, len(head)+4+len(rest))
	if _, err := io.ReadFull(p.out, b); err != nil {
		p.t.Fatal(err)
	}
	p.same(b, head, rest)
}

// field is a tag, a length and a value.
func field(tag byte, value ...byte) []byte {
	return append([]byte{tag, byte(len(value) >> 8), byte(len(value))}, value...)
}

// sign is what a phone's key makes of data: with RSA, padding of type 1 around the bare digest.
func (p *otherPhone) sign(key, digest string, data []byte) []byte {
	p.t.Helper()
	if strings.HasPrefix(key, "ec") {
		return p.openssl(data, "dgst", "-"+digest, "-sign", key)
	}
	d := p.openssl(data, "dgst", "-"+digest, "-binary")
	if err := os.WriteFile(filepath.Join(p.dir, "digest"), d, 0o600); err != nil {
		p.t.Fatal(err)
	}
	return p.openssl(nil, "pkeyutl", "-sign", "-inkey", key, "-in", "digest", "-pkeyopt", "rsa_padding_mode:pkcs1")
}

// TestAnotherPhone installs an LSC by string, and with that LSC the next one, with RSA and with ECDSA; OpenSSL judges the certificates.
func TestAnotherPhone(t *testing.T) {
	for name, k := range map[string]struct {
		key  Key
		asks string // the body of key generate
		make []string
	}{
		"rsa": {RSA2048, "\x0a\x00\x02\x08\x00\x11\x00\x01\x00", []string{"RSA", "-pkeyopt", "rsa_keygen_bits:2048"}},
		"ec":  {ECP256, "\x12\x00\x01\x00\x11\x00\x01\x01", []string{"EC", "-pkeyopt", "ec_paramgen_curve:P-256"}},
	} {
		t.Run(name, func(t *testing.T) {
			o := newOffice(t)
			addr := listen(t, o)
			p := &otherPhone{t: t, dir: t.TempDir()}
			if err := os.WriteFile(filepath.Join(p.dir, "capf.pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: o.ours.cert.Raw}), 0o600); err != nil {
				t.Fatal(err)
			}
			device := append([]byte(phoneName), 0)
			install := func(which string, auth ...byte) []byte {
				t.Helper()
				key := name + which
				p.openssl(nil, append([]string{"genpkey", "-out", key, "-algorithm"}, k.make...)...)
				p.say(2, append(append(append(field(1, 1), field(7, 3)...), auth...), field(13, device...)...))
				p.hear("\x55\x03", "\x00"+string(rune(len(k.asks)))+k.asks)
				p.say(17, nil)
				p.say(4, field(9, p.openssl(nil, "pkey", "-in", key, "-pubout", "-outform", "DER")...))
				head := make([]byte, 20)
				if _, err := io.ReadFull(p.out, head); err != nil {
					t.Fatal(err)
				}
				n := int(head[6])<<8 | int(head[7])
				if head[0] != 0x55 || head[1] != 9 || string(head[8:13]) != "\x03\x00\x01\x01\x04" || string(head[15:16]) != "\x01" || string(head[18:20]) != "\x00\x01" {
					t.Fatalf("% x", head)
				}
				der := make([]byte, n-12)
				if _, err := io.ReadFull(p.out, der); err != nil {
					t.Fatal(err)
				}
				p.say(10, field(1, 1))
				p.hear("\x55\x0f", "\x00\x04\x01\x00\x01\x01")
				p.judge(der, key)
				return der
			}

			want := order(InstallUpgrade)
			want.Key = k.key
			o.book.add(phoneName, want)
			p.dial(addr)
			lsc := install("1", field(11, []byte("123456\x00")...)...)

			want.ID, want.Auth, want.String = "order-2", ByLSC, ""
			o.book.add(phoneName, want)
			p.dial(addr)
			shown := append([]byte{1, byte((len(lsc) + 2) >> 8), byte(len(lsc) + 2), 0, 1}, lsc...)
			proof := append(bytes.Clone(device), lsc...)
			session := append([]byte{p.id[3], p.id[2], p.id[1], p.id[0]}, lsc...)
			sudi := append(append(field(0, lsc...), field(1, p.sign(name+"1", "sha1", session)...)...), field(3, p.sign(name+"1", "sha512", session)...)...)
			auth := append(field(4, shown...), field(6, p.sign(name+"1", "sha1", proof)...)...)
			auth = append(auth, field(20, field(3, p.sign(name+"1", "sha512", proof)...)...)...)
			install("2", append(auth, field(16, sudi...)...)...)
			waitFor(t, func() bool { return o.book.look(phoneName).status == UpgradeSuccess })
			if o.ours.standing() != 2 {
				t.Error("there are not two certificates")
			}
		})
	}
}

// judge has OpenSSL look at an LSC.
func (p *otherPhone) judge(der []byte, key string) {
	p.t.Helper()
	if err := os.WriteFile(filepath.Join(p.dir, "lsc.pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		p.t.Fatal(err)
	}
	for _, purpose := range []string{"sslclient", "sslserver"} {
		if out := p.openssl(nil, "verify", "-x509_strict", "-purpose", purpose, "-CAfile", "capf.pem", "lsc.pem"); !strings.Contains(string(out), "OK") {
			p.t.Errorf("%s", out)
		}
	}
	if a, b := p.openssl(nil, "x509", "-in", "lsc.pem", "-noout", "-pubkey"), p.openssl(nil, "pkey", "-in", key, "-pubout"); !bytes.Equal(a, b) {
		p.t.Error("the certificate is for another key")
	}
	usage := "Digital Signature, Key Encipherment\n"
	if strings.HasPrefix(key, "ec") {
		usage = "Digital Signature\n"
	}
	text := string(p.openssl(nil, "x509", "-in", "lsc.pem", "-noout", "-text"))
	for _, want := range []string{"Subject: CN = " + phoneName + ", C = ZZ, ST = Here, L = Town, O = Example, OU = Voice\n", "Basic Constraints: critical\n", "CA:FALSE\n", "Key Usage: critical\n", usage,
		"TLS Web Server Authentication, TLS Web Client Authentication, IPSec End System\n", "URI:" + phoneName + "\n", "ecdsa-with-SHA256"} {
		if !strings.Contains(text, want) {
			p.t.Errorf("OpenSSL does not see %q in\n%s", want, text)
		}
	}
}

// listen serves CAPF on loopback.
func listen(t *testing.T, o *office) string {
	t.Helper()
	key := newRSA(t, 2048)
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(9), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"capf.example"}}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, o.ours.cert, key.Public(), o.ours.key)
	if err != nil {
		t.Fatal(err)
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func(c net.Conn) {
				if _, err := o.Serve(t.Context(), c); err != nil {
					t.Error(err)
				}
			}(conn)
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return l.Addr().String()
}

// waitFor waits for something that happens on another goroutine.
func waitFor(t *testing.T, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.After(10 * time.Second); !ok(); {
		select {
		case <-tick.C:
		case <-end:
			t.Fatal("it did not happen within ten seconds")
		}
	}
}
