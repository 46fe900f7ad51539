package capf

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"io"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"

	"ringfence"
)

func TestInstall(t *testing.T) {
	for _, k := range []Key{RSA2048, RSA3072, ECP256, ECP384} {
		t.Run(string(k), func(t *testing.T) {
			o := newOffice(t)
			want := order(InstallUpgrade)
			want.Key = k
			e := o.book.add(phoneName, want)
			c := client()
			s := o.meet(t, c)
			if s.err != nil || s.phone != nil || s.report.Status != UpgradeSuccess || s.result.Operation != InstallUpgrade {
				t.Fatalf("%+v", s)
			}
			p := c.Keeper.(*pocket)
			if p.cert == nil || !k.matches(p.cert.PublicKey) || p.cert.Subject.CommonName != phoneName {
				t.Fatalf("the phone keeps %+v", p)
			}
			if e.status != UpgradeSuccess || e.last.Serial != hexSerial(p.cert) || s.report.Serial != e.last.Serial || !bytes.Equal(e.last.Certificate, p.cert.Raw) || o.ours.standing() != 1 {
				t.Fatalf("recorded: %+v", e)
			}
			// The order is over: the string is good once.
			s = o.meet(t, c)
			if s.err != nil || s.phone != nil || s.result.Operation != NoPendingOperation || o.ours.standing() != 1 || len(o.book.wrote) != 1 {
				t.Fatalf("the second time: %+v", s)
			}
		})
	}
}

func hexSerial(c *x509.Certificate) string { return c.SerialNumber.Text(16) }

func TestDeleteAndTroubleshoot(t *testing.T) {
	o := newOffice(t)
	c := client()
	keys := newEC(t)
	der := o.ours.lsc(t, phoneName, keys).Certificate
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	c.Keeper = &pocket{cert: cert, key: keys}

	e := o.book.add(phoneName, order(Troubleshoot))
	if s := o.meet(t, c); s.err != nil || s.phone != nil || e.status != TroubleshootSuccess || !bytes.Equal(e.last.Certificate, der) || e.last.Reason != "" {
		t.Fatalf("%+v %+v", s, e)
	}
	// One of somebody else is shown all the same, and said to be so.
	other, err := x509.ParseCertificate(o.ours.lsc(t, "SEP00AABBCCDDEE", keys).Certificate)
	if err != nil {
		t.Fatal(err)
	}
	c.Keeper = &pocket{cert: other, key: keys}
	e = o.book.add(phoneName, order(Troubleshoot))
	if s := o.meet(t, c); s.err != nil || e.status != TroubleshootSuccess || !strings.Contains(e.last.Reason, "id-SEP00AABBCCDDEE") {
		t.Fatalf("%+v %+v", s, e)
	}
	e = o.book.add(phoneName, order(Delete))
	if s := o.meet(t, c); s.err != nil || s.phone != nil || s.result.Operation != Delete || e.status != DeleteSuccess || c.Keeper.Certificate() != nil {
		t.Fatalf("%+v %+v", s, e)
	}
	e = o.book.add(phoneName, order(Delete))
	if s := o.meet(t, c); s.err == nil || s.phone == nil || e.status != DeleteFailed || !strings.Contains(e.last.Reason, "reason 7") {
		t.Fatalf("%+v %+v", s, e)
	}
	e = o.book.add(phoneName, order(Troubleshoot))
	if s := o.meet(t, c); s.err == nil || s.phone == nil || e.status != TroubleshootFailed {
		t.Fatalf("%+v %+v", s, e)
	}
}

func TestOverTLS(t *testing.T) {
	o := newOffice(t)
	o.book.add(phoneName, order(InstallUpgrade))
	key := newRSA(t, 2048)
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(9), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"capf.example"}}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, o.ours.cert, key.Public(), o.ours.key)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(o.ours.cert)
	near, far := net.Pipe()
	done := make(chan error, 1)
	go func() {
		_, err := o.Serve(t.Context(), tls.Server(near, &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}))
		done <- err
	}()
	conn := tls.Client(far, &tls.Config{RootCAs: roots, ServerName: "capf.example"})
	c := client()
	if _, err := c.Run(t.Context(), conn); err != nil || c.Keeper.Certificate() == nil {
		t.Fatal(err)
	}
	go func() { _, _ = io.Copy(io.Discard, conn) }() // the close_notify
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	// Whoever does not speak TLS gets no session.
	near, far = net.Pipe()
	go func() {
		_, err := o.Serve(t.Context(), tls.Server(near, &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}))
		done <- err
	}()
	go func() { _, _ = far.Write([]byte("GET / HTTP/1.0\r\n\r\n")) }()
	b := make([]byte, 1)
	if n, _ := far.Read(b); n == 1 && b[0] == magic {
		t.Error("the server spoke in the clear")
	}
	far.Close()
	if err := <-done; ringfence.KindOf(err) != ringfence.KindInsecure {
		t.Error(err)
	}
}

// TestGoldenFrames compares with what was captured of another implementation.
func TestGoldenFrames(t *testing.T) {
	o := newOffice(t)
	want := order(InstallUpgrade)
	want.Key, want.String = RSA2048, "1234"
	o.book.add(phoneName, want)
	near, far := net.Pipe()
	done := make(chan error, 1)
	go func() {
		_, err := o.Serve(t.Context(), near)
		done <- err
	}()
	defer far.Close()
	id := ""
	read := func(n int) string {
		t.Helper()
		b := make([]byte, n)
		if k, err := far.Read(b); err != nil || k != n { // one Write arrives as one Read
			t.Fatalf("%d bytes, %v: % x", k, err, b[:k])
		}
		got := hex.EncodeToString(b)
		if id == "" {
			id = got[4:12]
		}
		return strings.Replace(got, id, "IDENTITY", 1)
	}
	write := func(text string, more ...byte) {
		t.Helper()
		b, err := hex.DecodeString(strings.ReplaceAll(strings.Replace(text, "IDENTITY", id, 1), " ", ""))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := far.Write(append(b, more...)); err != nil {
			t.Fatal(err)
		}
	}
	compare := func(got, want string) {
		t.Helper()
		if want = strings.ReplaceAll(want, " ", ""); got != want {
			t.Fatalf("got  %s\nwant %s", got, want)
		}
	}
	compare(read(16), "55 01 IDENTITY 0008 070001 03 080001 00")
	write("55 02 IDENTITY 0023 010001 01 070001 03 0b0005 3132333400 0d0010 53455030303131323233333434353500")
	compare(read(17), "55 03 IDENTITY 0009 0a0002 0800 110001 00")
	write("55 11 IDENTITY 0000")
	write("55 04 IDENTITY 0129 09 0126", spki(t, &newRSA(t, 2048).PublicKey)...)
	b := make([]byte, 8192)
	n, err := far.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	if b[0] != 0x55 || b[1] != 9 || int(b[6])<<8|int(b[7]) != n-8 || !bytes.Equal(b[8:13], []byte{3, 0, 1, 1, 4}) || b[15] != 1 || b[18] != 0 || b[19] != 1 || b[20] != 0x30 {
		t.Fatalf("% x", b[:24])
	}
	cert, err := x509.ParseCertificate(b[20:n])
	if err != nil || cert.Subject.CommonName != phoneName {
		t.Fatal(err)
	}
	write("55 0a IDENTITY 0004 010001 01")
	compare(read(12), "55 0f IDENTITY 0004 010001 01")
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// TestSoftphone is a phone of version 2, which is told the size of an RSA key and nothing about kinds.
func TestSoftphone(t *testing.T) {
	o := newOffice(t)
	want := order(InstallUpgrade)
	want.Key, want.Auth, want.Exception = RSA2048, ByNull, "lab"
	want.String = ""
	e := o.book.add("CSFALICE", want)
	s := o.script(t)
	s.send(cmdAuthResponse, byteElement(tagVersion, 2), textElement(tagDevice, "CSFALICE"), byteElement(tagReason, 1))
	if m := s.read(cmdKeyRequest); len(m.elements) != 1 || m.elements[0].tag != tagKeySize {
		t.Fatalf("% x", m.elements)
	}
	s.send(cmdKeyResponse, element{tagPublicKey, spki(t, &newRSA(t, 2048).PublicKey)})
	s.read(cmdStoreRequest)
	s.send(cmdStoreResponse, byteElement(tagReason, 1))
	s.ends(1)
	if e.status != UpgradeSuccess {
		t.Fatalf("%+v", e)
	}
	want.Key = ECP256
	e = o.book.add("CSFALICE", want)
	s = o.script(t)
	s.send(cmdAuthResponse, byteElement(tagVersion, 2), textElement(tagDevice, "CSFALICE"), byteElement(tagReason, 1))
	s.ends(7)
	if e.status != UpgradeFailed || !strings.Contains(e.last.Reason, "RSA") {
		t.Fatalf("%+v", e)
	}
}

func TestWrongString(t *testing.T) {
	o := newOffice(t)
	e := o.book.add(phoneName, order(InstallUpgrade))
	c := client()
	c.String = ""
	if s := o.meet(t, c); ringfence.KindOf(s.err) != ringfence.KindUnauthenticated || e.left != 3 || e.status != OperationPending {
		t.Fatalf("no string is no attempt: %+v %+v", s, e)
	}
	for left := 2; left >= 0; left-- {
		c.String = "123457"
		s := o.meet(t, c)
		if ringfence.KindOf(s.err) != ringfence.KindUnauthenticated || ringfence.KindOf(s.phone) != ringfence.KindDenied || e.left != left {
			t.Fatalf("%+v %+v", s, e)
		}
		if locked := left == 0; e.last.Locked != locked || (e.status == UpgradeFailed) != locked || !strings.Contains(e.last.Reason, "wrong") {
			t.Fatalf("%d left: %+v", left, e)
		}
	}
	c.String = "123456" // too late
	if s := o.meet(t, c); s.result.Operation != NoPendingOperation || o.ours.standing() != 0 || c.Keeper.Certificate() != nil {
		t.Fatalf("%+v", s)
	}
	// Sessions that never come to an end are bounded as well.
	e = o.book.add(phoneName, order(InstallUpgrade))
	for range 3 {
		s := o.script(t)
		s.auth("123456")
		s.read(cmdKeyRequest)
		s.finish()
	}
	if s := o.meet(t, c); s.report.Status != UpgradeFailed || !e.last.Locked || len(o.ours.signed) != 0 {
		t.Fatalf("%+v %+v", s, e)
	}
}

func TestSameString(t *testing.T) {
	for _, c := range []struct {
		a, b string
		same bool
	}{{"1234", "1234", true}, {"1234", "12340", false}, {"1234", "1234\x00", false}, {"0123456789", "0123456789", true}, {"0123456789", "01234567890", false}, {"1234", "", false}} {
		if sameString(c.a, c.b) != c.same {
			t.Errorf("%q and %q", c.a, c.b)
		}
	}
}

func TestUnknownDeviceAndBadNames(t *testing.T) {
	o := newOffice(t)
	c := client()
	if s := o.meet(t, c); ringfence.KindOf(s.err) != ringfence.KindNotFound || ringfence.KindOf(s.phone) != ringfence.KindNotFound {
		t.Fatalf("%+v", s)
	}
	for _, name := range []string{"", "-x", "SEP 1", "a/../b", strings.Repeat("A", 65), "SEP\n"} {
		s := o.script(t)
		s.send(cmdAuthResponse, byteElement(tagVersion, 3), textElement(tagDevice, name))
		s.ends(7)
		if ringfence.KindOf(s.err) != ringfence.KindInvalid || s.report.Name != "" {
			t.Errorf("%q: %+v", name, s.err)
		}
	}
}

func TestOrdersThatCannotBe(t *testing.T) {
	o := newOffice(t)
	for name, c := range map[string]struct {
		change func(*Order)
		kind   ringfence.Kind
	}{
		"no such operation": {func(o *Order) { o.Operation = "Renew" }, ringfence.KindInvalid},
		"no time":           {func(o *Order) { o.CompletesBy = time.Time{} }, ringfence.KindInvalid},
		"three digits":      {func(o *Order) { o.String = "123" }, ringfence.KindInvalid},
		"eleven digits":     {func(o *Order) { o.String = "12345678901" }, ringfence.KindInvalid},
		"letters":           {func(o *Order) { o.String = "12a4" }, ringfence.KindInvalid},
		"no mode":           {func(o *Order) { o.Auth = "" }, ringfence.KindInvalid},
		"null string":       {func(o *Order) { o.Auth = ByNull }, ringfence.KindInsecure},
		"512 bits":          {func(o *Order) { o.Key = "rsa-512" }, ringfence.KindInvalid},
		"1024 bits":         {func(o *Order) { o.Key = RSA1024 }, ringfence.KindInsecure},
		"1024 bits, why":    {func(o *Order) { o.Key, o.WeakKey = RSA1024, "a 7940" }, ringfence.KindUnsupported},
		"P-521":             {func(o *Order) { o.Key = ECP521 }, ringfence.KindUnsupported},
	} {
		t.Run(name, func(t *testing.T) {
			want := order(InstallUpgrade)
			c.change(&want)
			err := o.Check(want)
			if ringfence.KindOf(err) != c.kind || err == nil {
				t.Fatal(err)
			}
			// One that comes to be there all the same is over at the first session, and says why.
			e := o.book.add(phoneName, want)
			s := o.meet(t, client())
			if s.err == nil || e.status != want.Operation.failed() || e.last.Reason == "" || o.ours.standing() != 0 {
				t.Fatalf("%+v %+v", s, e)
			}
			o.guard.sources = map[string]*source{}
		})
	}
	if err := o.Check(order(InstallUpgrade)); err != nil {
		t.Error(err)
	}
	late := order(InstallUpgrade)
	late.CompletesBy = time.Now().Add(-time.Second)
	e := o.book.add(phoneName, late)
	c := client()
	if s := o.meet(t, c); ringfence.KindOf(s.err) != ringfence.KindTimeout || e.status != UpgradeFailed || s.phone != nil || s.result.Operation != NoPendingOperation {
		t.Fatalf("%+v %+v", s, e)
	}
}

// TestCertificateProof has every key prove itself, and every way of not being the device fail.
func TestCertificateProof(t *testing.T) {
	o := newOffice(t, func(c *Config) { c.Failures = 1000 })
	stranger := newAuthority(t, "Somebody Else", time.Now)
	r, e := newRSA(t, 2048), newEC(t)
	seed3 := func(mac string) pkix.Name {
		return pkix.Name{ExtraNames: []pkix.AttributeTypeAndValue{{Type: oid(11), Value: "CP-8841-3PCC"}, {Type: oid(7), Value: "88012BA01234"}, {Type: oid(8), Value: mac}}}
	}
	mine := func(c Credential) func(*Client, *Order) { return func(cl *Client, _ *Order) { cl.Proof = &c } }
	revoked := o.ours.lsc(t, phoneName, newEC(t))
	rc, err := x509.ParseCertificate(revoked.Certificate)
	if err != nil {
		t.Fatal(err)
	}
	if err := o.ours.Revoke(t.Context(), hexSerial(rc), "test"); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		set func(*Client, *Order)
		why string // "" if it is good
	}{
		"LSC, RSA":       {mine(o.ours.lsc(t, phoneName, r)), ""},
		"LSC, ECDSA":     {mine(o.ours.lsc(t, phoneName, e)), ""},
		"MIC, RSA":       {mine(o.maker.mic(t, r, seed3("001122334455"))), ""},
		"MIC, ECDSA, CN": {mine(o.maker.mic(t, e, pkix.Name{CommonName: "CP-8841-SEP001122334455"})), ""},
		"LSC with MIC as SUDI": {func(cl *Client, _ *Order) {
			l, m := o.ours.lsc(t, phoneName, e), o.maker.mic(t, r, seed3("001122334455"))
			cl.Proof, cl.SUDI = &l, &m
		}, ""},
		"old phone": {func(cl *Client, w *Order) {
			l := o.ours.lsc(t, phoneName, r)
			cl.Proof, cl.SHA1, w.Old = &l, true, true
		}, ""},
		"SHA-1 of a phone that is not old": {func(cl *Client, w *Order) { l := o.ours.lsc(t, phoneName, r); cl.Proof, cl.SHA1 = &l, true }, "SHA-512"},
		"no certificate":                   {func(*Client, *Order) {}, "showed no certificate"},
		"LSC of another phone":             {mine(o.ours.lsc(t, "SEP00AABBCCDDEE", r)), "id-SEP00AABBCCDDEE"},
		"LSC that is revoked":              {mine(Credential{revoked.Certificate, revoked.Key}), "revoked"},
		"MIC of another phone":             {mine(o.maker.mic(t, r, seed3("00aabbccddee"))), "SEP00AABBCCDDEE"},
		"MIC without a MAC address":        {mine(o.maker.mic(t, r, seed3("Texas"))), "no MAC address"},
		"MIC of a stranger":                {mine(stranger.mic(t, r, seed3("001122334455"))), "neither ours"},
		"the key of somebody else":         {mine(Credential{o.ours.lsc(t, phoneName, r).Certificate, newRSA(t, 2048)}), "does not hold the key"},
		"SUDI of another phone": {func(cl *Client, _ *Order) {
			l, m := o.ours.lsc(t, phoneName, e), o.maker.mic(t, r, seed3("00aabbccddee"))
			cl.Proof, cl.SUDI = &l, &m
		}, "SEP00AABBCCDDEE"},
		"a key that nobody looks at": {mine(o.maker.mic(t, newRSA(t, 4104), seed3("001122334455"))), "not looked at"},
	} {
		t.Run(name, func(t *testing.T) {
			want := order(InstallUpgrade)
			want.Auth = ByLSC
			cl := client()
			c.set(&cl, &want)
			entry := o.book.add(phoneName, want)
			before := o.ours.standing()
			s := o.meet(t, cl)
			if c.why == "" {
				if s.err != nil || s.phone != nil || entry.status != UpgradeSuccess || o.ours.standing() != before+1 {
					t.Fatalf("%+v %+v", s, entry)
				}
				return
			}
			if s.err == nil || s.phone == nil || entry.status != OperationPending || entry.left != 3 || o.ours.standing() != before || !strings.Contains(entry.last.Reason, c.why) {
				t.Fatalf("%+v %+v", s, entry)
			}
		})
	}
	// Even if our own authority is among the anchors, a revoked LSC does not pass as the certificate of a manufacturer.
	o.Server.c.MICs = NewAnchors([]*x509.Certificate{o.ours.cert})
	again := order(Delete)
	again.Auth = ByMIC
	withRevoked, rv := o.book.add(phoneName, again), client()
	rv.Proof = &revoked
	if s := o.meet(t, rv); s.err == nil || withRevoked.status != OperationPending || withRevoked.claim != "" {
		t.Fatalf("%+v %+v", s, withRevoked)
	}
	// Without anchors no manufacturer is believed.
	o.Server.c.MICs = nil
	want := order(Delete)
	want.Auth = ByMIC
	entry, cl := o.book.add(phoneName, want), client()
	m := o.maker.mic(t, r, seed3("001122334455"))
	cl.Proof = &m
	if s := o.meet(t, cl); s.err == nil || !strings.Contains(entry.last.Reason, "no manufacturer was added") {
		t.Fatalf("%+v %+v", s, entry)
	}
}

func oid(n int) asn1.ObjectIdentifier { return asn1.ObjectIdentifier{2, 5, 4, n} }

func TestSubject(t *testing.T) {
	type av struct {
		n int
		v string
	}
	for name, c := range map[string]struct {
		in   []av
		want Identity
		ok   bool
	}{
		"state":             {[]av{{11, "CP-8841-3PCC"}, {7, "88012BA01234"}, {8, "000e08abcdef"}}, Identity{"CP-8841-3PCC", "88012BA01234", "000E08ABCDEF"}, true},
		"surname":           {[]av{{11, "CP-8841-3PCC"}, {7, "88012BA01234"}, {4, "000e08abcdef"}}, Identity{"CP-8841-3PCC", "88012BA01234", "000E08ABCDEF"}, true},
		"common name":       {[]av{{11, "EVVBU"}, {3, "CP-7975G-SEP001122334455"}, {5, "PID:CP-7975G SN:FCH12345678"}}, Identity{"EVVBU", "FCH12345678", "001122334455"}, true},
		"product in CN":     {[]av{{3, "CP-7975G-SEP001122334455"}}, Identity{"CP-7975G", "", "001122334455"}, true},
		"name alone":        {[]av{{3, "SEP001122334455"}}, Identity{"", "", "001122334455"}, true},
		"colons":            {[]av{{3, "00:11:22:aa:bb:cc"}}, Identity{"", "", "001122AABBCC"}, true},
		"serial number":     {[]av{{5, "001122334455"}, {11, "CP-8811"}}, Identity{"CP-8811", "", "001122334455"}, true},
		"serial like a MAC": {[]av{{5, "88012BA01234"}, {8, "000e08abcdef"}}, Identity{"", "88012BA01234", "000E08ABCDEF"}, true},
		"said twice":        {[]av{{3, "SEP000E08ABCDEF"}, {8, "000e08abcdef"}}, Identity{"", "", "000E08ABCDEF"}, true},
		"two phones":        {[]av{{3, "SEP001122334455"}, {8, "000e08abcdef"}}, Identity{}, false},
		"nobody":            {[]av{{3, "capf.example"}, {8, "Texas"}, {7, "88012BA01234"}}, Identity{}, false},
		"bad colons":        {[]av{{3, "00:11:22:aa:bbc:c"}}, Identity{}, false},
		"mixed separators":  {[]av{{3, "00:11-22:aa:bb:cc"}}, Identity{}, false},
		"empty":             {nil, Identity{}, false},
	} {
		var n pkix.Name
		for _, a := range c.in {
			n.Names = append(n.Names, pkix.AttributeTypeAndValue{Type: oid(a.n), Value: a.v})
		}
		got, err := Subject(n)
		if got != c.want || (err == nil) != c.ok {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}

// TestReasonsAreSafeToShow puts what a stranger wrote into a certificate before an administrator.
func TestReasonsAreSafeToShow(t *testing.T) {
	o := newOffice(t)
	want := order(InstallUpgrade)
	want.Auth = ByMIC
	e := o.book.add(phoneName, want)
	c := client()
	bad := o.maker.mic(t, newEC(t), pkix.Name{CommonName: "SEP001122334455\x1b[2J\u202e", Organization: []string{strings.Repeat("x", 300)}})
	c.Proof = &bad
	if s := o.meet(t, c); s.err == nil || e.last.Reason == "" || strings.ContainsAny(e.last.Reason, "\x1b\u202e") {
		t.Fatalf("%+v %q", s, e.last.Reason)
	}
	err := fault("test", ringfence.KindDenied, "said \x1b[2J\u202e"+strings.Repeat("y", 600), "", nil)
	if got := describe(err); strings.ContainsAny(got, "\x1b\u202e") || len(got) > 510 || !strings.HasPrefix(got, "said [2Jyy") {
		t.Errorf("%q", got)
	}
}

// TestTemplate looks at the certificate as others read it.
func TestTemplate(t *testing.T) {
	a := newAuthority(t, "Example CAPF", time.Now)
	for _, key := range []crypto.Signer{newRSA(t, 2048), newEC(t)} {
		c, err := x509.ParseCertificate(a.lsc(t, phoneName, key).Certificate)
		if err != nil {
			t.Fatal(err)
		}
		// Go writes the country first and the common name last; here the name of the device comes first.
		if got := c.Subject.ToRDNSequence().String(); !strings.Contains(got, "O=Example") || !bytes.HasPrefix(c.RawSubject[2:], []byte{0x31, 0x18, 0x30, 0x16, 6, 3, 0x55, 4, 3}) {
			t.Errorf("%s % x", got, c.RawSubject[:16])
		}
		usage := x509.KeyUsageDigitalSignature
		if _, ok := key.(*rsa.PrivateKey); ok {
			usage |= x509.KeyUsageKeyEncipherment
		}
		if c.IsCA || c.KeyUsage != usage || len(c.ExtKeyUsage) != 3 || len(c.URIs) != 1 || c.URIs[0].String() != phoneName || c.SerialNumber.BitLen() != 127 || c.SignatureAlgorithm != x509.ECDSAWithSHA256 {
			t.Errorf("%+v", c)
		}
	}
	if _, err := Template("a b", a.cert, newEC(t).Public(), time.Now(), time.Now()); err == nil {
		t.Error("a name with a space is in a certificate")
	}
}
