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
	"math/big"
	"strings"
	"testing"
	"time"

	"ringfence"
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
	if s := trustlist.Plan(first, whole); s.Taken || !strings.Contains(s.Why, "CN=c") {
		t.Errorf("%+v", s)
	}
	if s := trustlist.Plan(first, first); !s.Taken || len(s.Added)+len(s.Removed) != 0 {
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
