package trustlist_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"ringfence"
	"ringfence/internal/testkit"
	"ringfence/internal/trust/signedfile"
	"ringfence/internal/trust/trustlist"
)

// holder is a key with its certificate.
type holder struct {
	key  crypto.Signer
	cert *x509.Certificate
}

func newHolder(t testing.TB, name string, serial int64, ec bool) holder {
	t.Helper()
	var key crypto.Signer
	var err error
	if ec {
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	} else {
		key, err = rsa.GenerateKey(rand.Reader, 2048)
	}
	if err != nil {
		t.Fatal(err)
	}
	return certify(t, name, serial, key)
}

// certify makes a certificate that signs itself.
func certify(t testing.TB, name string, serial int64, key crypto.Signer) holder {
	t.Helper()
	tpl := &x509.Certificate{SerialNumber: big.NewInt(serial), Subject: pkix.Name{Country: []string{"ZZ"}, Organization: []string{"Example"}, CommonName: name}, NotBefore: time.Unix(0, 0), NotAfter: time.Unix(4e9, 0)}
	der, err := x509.CreateCertificate(rand.Reader, tpl, tpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return holder{key, c}
}

func build(t testing.TB, by holder, entries ...trustlist.Entry) []byte {
	t.Helper()
	b, err := trustlist.Build(trustlist.Options{Name: "ITLFile.tlv", Time: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}, entries, by.cert, by.key)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func parse(t testing.TB, b []byte) *trustlist.List {
	t.Helper()
	l, err := trustlist.Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func entry(r trustlist.Role, h holder) trustlist.Entry { return trustlist.Entry{Role: r, Cert: h.cert} }

func TestBuildAndRead(t *testing.T) {
	a, b, node := newHolder(t, "sast-a", 0x1001, false), newHolder(t, "sast-b", 0x1002, false), newHolder(t, "node-1", 0x81, true)
	raw := build(t, a, entry(trustlist.SAST, a), entry(trustlist.SAST, b), entry(trustlist.CCMTFTP, a), entry(trustlist.CAPF, node), entry(trustlist.TVS, node))
	l := parse(t, raw)
	if l.Name != "ITLFile.tlv" || l.SignerVersion != (signedfile.Version{Major: 1, Minor: 1}) || len(l.Records) != 5 || l.Records[3].Role != trustlist.CAPF || l.Records[3].Subject != "C=ZZ,O=Example,CN=node-1" ||
		hex.EncodeToString(l.Records[3].Serial) != "81" || !l.Records[4].Cert.Equal(node.cert) {
		t.Errorf("%+v", l)
	}
	// The first record begins where the header ends, with its own length.
	if at := l.Records[0].Offset; at != l.BodyOffset || !bytes.Equal(raw[at:at+3], []byte{1, 0, 2}) || int(raw[at+3])<<8|int(raw[at+4]) != l.Records[1].Offset-at {
		t.Errorf("%d %x", at, raw[at:at+5])
	}
	var tags []byte
	for _, e := range l.Records[0].Parts {
		tags = append(tags, e.Tag)
	}
	if !bytes.Equal(tags, []byte{1, 3, 5, 6, 4, 7, 8, 9}) {
		t.Errorf("the order is %v", tags)
	}
	if who, err := l.VerifyBy(l.Signers()); err != nil || !who.Equal(a.cert) {
		t.Errorf("%v %v", who, err)
	}
	if _, err := l.VerifyBy([]*x509.Certificate{b.cert}); ringfence.KindOf(err) != ringfence.KindDenied {
		t.Errorf("%v", err)
	}
	var out strings.Builder
	if err := l.Show(&out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"BYTEPOS", "RSA 2048 with SHA-512", "Record 1: SAST", "Record 3: CCM+TFTP", "Record 5: TVS", "C=ZZ,O=Example,CN=node-1", "until 2096-10-02"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("it does not show %q:\n%s", want, out.String())
		}
	}
}

func TestBuildRefuses(t *testing.T) {
	a, b, c := newHolder(t, "a", 1, false), newHolder(t, "b", 2, false), newHolder(t, "c", 3, false)
	o := trustlist.Options{Name: "ITLFile.tlv", Time: time.Unix(0, 0)}
	for name, entries := range map[string][]trustlist.Entry{
		"one SAST":            {entry(trustlist.SAST, a)},
		"three SASTs":         {entry(trustlist.SAST, a), entry(trustlist.SAST, b), entry(trustlist.SAST, c)},
		"a signer outside it": {entry(trustlist.SAST, b), entry(trustlist.SAST, c)},
		"nobody":              {},
	} {
		if _, err := trustlist.Build(o, entries, a.cert, a.key); ringfence.KindOf(err) != ringfence.KindInvalid {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := trustlist.Build(o, []trustlist.Entry{entry(trustlist.SAST, a), entry(trustlist.SAST, b)}, a.cert, b.key); ringfence.KindOf(err) != ringfence.KindInvalid {
		t.Errorf("a key of somebody else: %v", err)
	}
}

// TestBuildRefusesSASTs are second signers that would be none when the first is lost.
func TestBuildRefusesSASTs(t *testing.T) {
	a, b, ec := newHolder(t, "a", 1, false), newHolder(t, "b", 2, false), newHolder(t, "ec", 3, true)
	again := certify(t, "a-again", 4, a.key)
	odd, err := rsa.GenerateKey(rand.Reader, 3072)
	if err != nil {
		t.Fatal(err)
	}
	large, err := rsa.GenerateKey(rand.Reader, 4096)
	if err != nil {
		t.Fatal(err)
	}
	o := trustlist.Options{Name: "ITLFile.tlv", Time: time.Unix(0, 0)}
	for name, c := range map[string]struct {
		second holder
		kind   ringfence.Kind
		text   string
	}{
		"the same":              {a, ringfence.KindInvalid, "twice"},
		"the same key":          {again, ringfence.KindInvalid, "the same key"},
		"an EC key":             {ec, ringfence.KindUnsupported, "CN=ec"},
		"a key of another size": {certify(t, "odd", 5, odd), ringfence.KindUnsupported, "3072"},
		"another RSA key":       {b, 0, ""},
		"a key with 4096 bits":  {certify(t, "large", 6, large), 0, ""},
	} {
		_, err := trustlist.Build(o, []trustlist.Entry{entry(trustlist.SAST, a), entry(trustlist.SAST, c.second), entry(trustlist.TVS, ec)}, a.cert, a.key)
		if c.text == "" {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if err == nil || ringfence.KindOf(err) != c.kind || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := trustlist.Build(o, []trustlist.Entry{entry(trustlist.SAST, a), entry(trustlist.SAST, b), entry(trustlist.TVS, ec), entry(trustlist.TVS, ec)}, a.cert, a.key); ringfence.KindOf(err) != ringfence.KindInvalid {
		t.Errorf("a record twice: %v", err)
	}
}

// TestWorkedExample pins where things are in a list of the published form: 392 bytes of header for this signer, and a first record of 1449 bytes for the
// certificate that OpenSSL makes of these words.
func TestWorkedExample(t *testing.T) {
	dir := t.TempDir()
	openssl := func(args ...string) []byte {
		t.Helper()
		cmd := exec.Command(testkit.Need(t, "openssl", "openssl"), args...)
		cmd.Dir = dir
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("openssl %s: %v", strings.Join(args, " "), err)
		}
		return out
	}
	openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "key.pem", "-out", "cert.pem", "-subj", "/C=ZZ/O=Example/CN=sast.example", "-set_serial", "0x1001", "-days", "3650")
	cert, err := x509.ParseCertificate(openssl("x509", "-in", "cert.pem", "-outform", "DER"))
	if err != nil {
		t.Fatal(err)
	}
	key, err := x509.ParsePKCS8PrivateKey(pemOf(t, filepath.Join(dir, "key.pem")))
	if err != nil {
		t.Fatal(err)
	}
	a := holder{key.(crypto.Signer), cert}
	b, err := trustlist.Build(trustlist.Options{Name: "ITLFile.tlv", Time: time.Unix(0x5f5e1000, 0), Digest: crypto.SHA1},
		[]trustlist.Entry{entry(trustlist.SAST, a), entry(trustlist.SAST, newHolder(t, "b", 2, false))}, a.cert, a.key)
	if err != nil {
		t.Fatal(err)
	}
	name := append([]byte("C=ZZ,O=Example,CN=sast.example"), 0)
	hexed := func(s string) []byte {
		t.Helper()
		out, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	public := x509.MarshalPKCS1PublicKey(cert.PublicKey.(*rsa.PublicKey))
	for at, want := range map[int][]byte{
		0x000: hexed("01 0002 01 02"),
		0x005: hexed("02 0002 01 88"),
		0x00a: hexed("1c 0002 01 00"),
		0x00f: hexed("03 0049"),
		0x012: append(hexed("04 001f"), name...),
		0x034: append(hexed("06 001f"), name...),
		0x056: hexed("05 0002 10 01"),
		0x05b: hexed("07 000f"),
		0x05e: hexed("08 0001 01"),
		0x062: hexed("09 0008"),
		0x065: hexed("0a 0001 00"),
		0x069: hexed("0b 0001 02"),
		0x06d: hexed("0c 0100"),
		0x170: append(hexed("0e 000c"), "ITLFile.tlv\x00"...),
		0x17f: hexed("0f 0004 5f5e1000"),
		0x186: hexed("0d 0d"),
		0x188: slices.Concat(hexed("01 0002 05a9"), hexed("03 001f"), name, hexed("05 001f"), name, hexed("06 0002 1001"), hexed("04 0002 0000"), hexed("07 010e"), public,
			hexed("08 0100"), cert.Signature, hexed("09 033f"), cert.Raw, hexed("01 0002")), // and the second record
	} {
		if !bytes.Equal(b[at:at+len(want)], want) {
			t.Errorf("at %#x there is %x, and not %x", at, b[at:at+len(want)], want)
		}
	}
	// OpenSSL checks the signature over all but itself.
	for file, content := range map[string][]byte{"signed": slices.Concat(b[:0x6d], b[0x170:]), "signature": b[0x70:0x170]} {
		if err := os.WriteFile(filepath.Join(dir, file), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "public.pem"), openssl("x509", "-in", "cert.pem", "-noout", "-pubkey"), 0o600); err != nil {
		t.Fatal(err)
	}
	if out := openssl("dgst", "-sha1", "-verify", "public.pem", "-signature", "signature", "signed"); !strings.HasPrefix(string(out), "Verified OK") {
		t.Errorf("%s", out)
	}
}

func pemOf(t *testing.T, file string) []byte {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(b)
	if block == nil {
		t.Fatalf("%s is no PEM", file)
	}
	return block.Bytes
}

// TestPlan goes through a roll-over of both signers, and through ways to do it wrong.
func TestPlan(t *testing.T) {
	a, b, c, d := newHolder(t, "a", 1, false), newHolder(t, "b", 2, false), newHolder(t, "c", 3, false), newHolder(t, "d", 4, false)
	first := parse(t, build(t, a, entry(trustlist.SAST, a), entry(trustlist.SAST, b), entry(trustlist.CCM, a)))
	half := parse(t, build(t, b, entry(trustlist.SAST, b), entry(trustlist.SAST, c), entry(trustlist.CCM, c)))
	whole := parse(t, build(t, c, entry(trustlist.SAST, c), entry(trustlist.SAST, d), entry(trustlist.CCM, c)))
	if s := trustlist.Plan(first, half); !s.Taken || s.Stranded || len(s.Added) != 2 || len(s.Removed) != 2 {
		t.Errorf("%+v", s)
	}
	if s := trustlist.Plan(half, whole); !s.Taken || s.Stranded {
		t.Errorf("%+v", s)
	}
	// A phone that was off during the first half is lost by the second.
	if s := trustlist.Plan(first, whole); s.Taken || !s.Stranded || !strings.Contains(s.Why, "CN=c") {
		t.Errorf("%+v", s)
	}
	if s := trustlist.Plan(first, first); !s.Taken || len(s.Added)+len(s.Removed) != 0 {
		t.Errorf("%+v", s)
	}
}

// TestPlanForeign has lists that our own Build would not make.
func TestPlanForeign(t *testing.T) {
	a, b, c, d, ec := newHolder(t, "a", 1, false), newHolder(t, "b", 2, false), newHolder(t, "c", 3, false), newHolder(t, "d", 4, false), newHolder(t, "ec", 5, true)
	old := parse(t, build(t, a, entry(trustlist.SAST, a), entry(trustlist.SAST, b)))
	// sign puts the records of a list behind the signature of somebody else.
	sign := func(raw []byte, by holder) *trustlist.List {
		t.Helper()
		l := parse(t, raw)
		signed, err := signedfile.Sign(signedfile.Options{Version: l.Version, SignerVersion: l.SignerVersion, Name: l.Name, Time: l.Time}, l.Body, by.cert, by.key)
		if err != nil {
			t.Fatal(err)
		}
		return parse(t, signed)
	}
	others := build(t, c, entry(trustlist.SAST, c), entry(trustlist.SAST, d))
	// Taken by phones that are there. Those that miss it hold two SASTs that no list after it names.
	if s := trustlist.Plan(old, sign(others, a)); !s.Taken || !s.Stranded || len(s.Kept) != 0 || !strings.Contains(s.Why, "keeps none") {
		t.Errorf("%+v", s)
	}
	if s := trustlist.Plan(old, sign(others, c)); s.Taken || !s.Stranded {
		t.Errorf("%+v", s)
	}
	// A SAST that can sign nothing keeps nobody: the record of an EC key, made a SAST by its role.
	raw := build(t, c, entry(trustlist.SAST, c), entry(trustlist.SAST, d), entry(trustlist.CCM, ec))
	l := parse(t, raw)
	at := l.Records[2].Offset
	for _, e := range l.Records[2].Parts {
		if e.Tag == 4 {
			at = e.Offset + 3
		}
	}
	copy(raw[at:], []byte{0, 0})
	withEC := sign(raw, c)
	if got := withEC.Signers(); len(got) != 3 || !got[2].Equal(ec.cert) {
		t.Fatalf("%d SASTs", len(got))
	}
	only := build(t, a, entry(trustlist.SAST, a), entry(trustlist.SAST, b), entry(trustlist.CCM, ec))
	l = parse(t, only)
	for _, r := range l.Records {
		for _, e := range r.Parts {
			if e.Tag == 4 {
				copy(only[e.Offset+3:], []byte{0, 3}) // TFTP
				if r.Cert.Equal(ec.cert) {
					copy(only[e.Offset+3:], []byte{0, 0})
				}
			}
		}
	}
	if s := trustlist.Plan(withEC, sign(only, c)); !s.Taken || !s.Stranded || len(s.Kept) != 0 {
		t.Errorf("%+v", s)
	}
	// Of our own lists one SAST is always kept.
	if s := trustlist.Plan(old, parse(t, build(t, b, entry(trustlist.SAST, b), entry(trustlist.SAST, c)))); !s.Taken || s.Stranded || len(s.Kept) != 1 || !s.Kept[0].Cert.Equal(b.cert) {
		t.Errorf("%+v", s)
	}
}

// TestPlanComparesCertificates has a certificate replaced by another with the same issuer and serial number.
func TestPlanComparesCertificates(t *testing.T) {
	a, b := newHolder(t, "a", 1, false), newHolder(t, "b", 2, false)
	node, twin := newHolder(t, "node", 3, true), newHolder(t, "node", 3, true)
	old := parse(t, build(t, a, entry(trustlist.SAST, a), entry(trustlist.SAST, b), entry(trustlist.CCM, node), entry(trustlist.TVS, node)))
	next := parse(t, build(t, a, entry(trustlist.SAST, a), entry(trustlist.SAST, b), entry(trustlist.CCM, twin), entry(trustlist.TVS, node)))
	s := trustlist.Plan(old, next)
	if len(s.Added) != 1 || len(s.Removed) != 1 {
		t.Fatalf("%+v", s)
	}
	if !s.Added[0].Cert.Equal(twin.cert) || s.Added[0].Role != trustlist.CCM || !s.Removed[0].Cert.Equal(node.cert) || s.Removed[0].Role != trustlist.CCM {
		t.Errorf("%+v", s)
	}
	// A SAST with the names of another and its own key signs nothing that phones take which hold the other.
	forged := newHolder(t, "a", 1, false)
	if s := trustlist.Plan(old, parse(t, build(t, forged, entry(trustlist.SAST, forged), entry(trustlist.SAST, b)))); s.Taken || !s.Stranded || !strings.Contains(s.Why, "does not hold") {
		t.Errorf("%+v", s)
	}
}

func TestHostile(t *testing.T) {
	a, b := newHolder(t, "a", 1, false), newHolder(t, "b", 2, false)
	raw := build(t, a, entry(trustlist.SAST, a), entry(trustlist.SAST, b))
	for i := range raw {
		if l, err := trustlist.Parse(raw[:i]); err == nil {
			if _, err := l.VerifyBy([]*x509.Certificate{a.cert}); err == nil {
				t.Fatalf("it may be cut off at %d", i)
			}
		}
		changed := bytes.Clone(raw)
		changed[i] ^= 0x10
		if l, err := trustlist.Parse(changed); err == nil {
			if _, err := l.VerifyBy([]*x509.Certificate{a.cert}); err == nil {
				t.Fatalf("byte %d may be changed", i)
			}
		}
	}
	// A file that is signed well, but is no list.
	other, err := signedfile.Sign(signedfile.Options{Version: signedfile.Version{Major: 1}, Name: "x", Time: time.Unix(0, 0)}, []byte("x"), a.cert, a.key)
	if err != nil {
		t.Fatal(err)
	}
	// A record that names somebody else than its certificate, signed well.
	lie := signedfile.Append(nil, 1, []byte{0, 0})
	lie = signedfile.AppendText(lie, 3, "CN=somebody else")
	lie = signedfile.AppendText(lie, 5, "C=ZZ,O=Example,CN=a")
	lie = signedfile.Append(signedfile.Append(signedfile.Append(lie, 6, []byte{1}), 4, []byte{0, 0}), 9, a.cert.Raw)
	lie[3], lie[4] = byte(len(lie)>>8), byte(len(lie))
	lied, err := signedfile.Sign(signedfile.Options{Version: signedfile.Version{Major: 1, Minor: 2}, Name: "x", Time: time.Unix(0, 0)}, lie, a.cert, a.key)
	if err != nil {
		t.Fatal(err)
	}
	for name, bad := range map[string][]byte{"another file": other, "a lie": lied, "nothing": {}, "too much": make([]byte, trustlist.MaxSize+1)} {
		if _, err := trustlist.Parse(bad); ringfence.KindOf(err) != ringfence.KindInvalid {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestRoles(t *testing.T) {
	for _, r := range []trustlist.Role{trustlist.SAST, trustlist.CCM, trustlist.CCMTFTP, trustlist.TFTP, trustlist.CAPF, trustlist.AppServer, trustlist.TVS} {
		if got, err := trustlist.ParseRole(r.String()); err != nil || got != r {
			t.Errorf("%s: %v %v", r, got, err)
		}
	}
	if _, err := trustlist.ParseRole("role 9"); err == nil || trustlist.Role(9).String() != "role 9" {
		t.Error(err)
	}
}

func FuzzParseRole(f *testing.F) {
	f.Add("CCM+TFTP")
	f.Fuzz(func(t *testing.T, in string) {
		if r, err := trustlist.ParseRole(in); (err == nil) != (in == r.String() && !strings.HasPrefix(in, "role ")) {
			t.Fatalf("%q: %v %v", in, r, err)
		}
		var r trustlist.Role
		if err := r.UnmarshalText([]byte(in)); err == nil && r.String() != in {
			t.Fatalf("%q was read as %v", in, r)
		}
	})
}

func FuzzParse(f *testing.F) {
	a, b := newHolder(f, "a", 1, false), newHolder(f, "b", 2, true)
	raw := build(f, a, entry(trustlist.SAST, a), entry(trustlist.SAST, newHolder(f, "c", 3, false)), entry(trustlist.TVS, b))
	f.Add(raw)
	f.Add(raw[:400])
	f.Fuzz(func(t *testing.T, in []byte) {
		l, err := trustlist.Parse(in)
		if err != nil {
			if ringfence.KindOf(err) != ringfence.KindInvalid {
				t.Fatal(err)
			}
			return
		}
		var out strings.Builder
		if err := l.Show(&out); err != nil {
			t.Fatal(err)
		}
		for _, c := range out.String() {
			if c < ' ' && c != '\n' {
				t.Fatalf("%q", out.String())
			}
		}
	})
}
