package sip

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// The worked examples of RFC 7616 section 3.9.1 and RFC 2617 section 3.5. The SHA-512/256 response was computed with
// another implementation for the same inputs.
func digestExamples() []struct{ value, user, realm, password, response string } {
	const common = `Digest username="Mufasa", realm="http-auth@example.org", uri="/dir/index.html", ` +
		`nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", nc=00000001, ` +
		`cnonce="f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ", qop=auth, opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS"`
	const md5, sha256 = "8ca523f5e9506fed4657c9700eebdbec", "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"
	const sha512 = "430d05014cecc49cab6fbe03176d41a1da86cbfe24a16580e22aaad928d960d0"
	return []struct{ value, user, realm, password, response string }{
		{common + `, response="` + md5 + `", algorithm=MD5`, "Mufasa", "http-auth@example.org", "Circle of Life", md5},
		{common + `, response="` + sha256 + `", algorithm=SHA-256`, "Mufasa", "http-auth@example.org", "Circle of Life", sha256},
		{common + `, response="` + sha512 + `", algorithm=SHA-512-256`, "Mufasa", "http-auth@example.org", "Circle of Life", sha512},
		{`Digest username="Mufasa", realm="testrealm@host.com", nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093", uri="/dir/index.html", ` +
			`qop=auth, nc=00000001, cnonce="0a4f113b", response="6629fae49393a05397450978507c4ef1", opaque="5ccc069c403ebaf9f0171e9517f40e41"`,
			"Mufasa", "testrealm@host.com", "Circle Of Life", "6629fae49393a05397450978507c4ef1"},
	}
}

func TestDigestExamples(t *testing.T) {
	for _, ex := range digestExamples() {
		c, err := ParseCredentials([]byte(ex.value))
		if err != nil {
			t.Fatal(err)
		}
		ha1 := HA1(c.Algorithm, ex.user, ex.realm, ex.password)
		if !c.Verify(ha1, "GET") {
			t.Errorf("%v: the right password was refused", c.Algorithm)
		}
		if c.Verify(ha1, "POST") || c.Verify(HA1(c.Algorithm, ex.user, ex.realm, "wrong"), "GET") || c.Verify(nil, "GET") || c.Verify(ha1[1:], "GET") {
			t.Errorf("%v: a wrong method, password or key was accepted", c.Algorithm)
		}
		upper := c
		upper.Response = bytes.ToUpper(c.Response)
		if !upper.Verify(ha1, "GET") {
			t.Errorf("%v: upper case hex was refused", c.Algorithm)
		}
		ch := Challenge{Realm: ex.realm, Nonce: string(c.Nonce), Opaque: string(c.Opaque), Algorithm: c.Algorithm, QOP: true}
		got := ch.Authorize(Answer{Username: ex.user, Password: ex.password, Method: "GET", URI: "/dir/index.html", CNonce: string(c.CNonce), NC: 1})
		if !strings.Contains(got, `response="`+ex.response+`"`) {
			t.Errorf("%v: Authorize = %s", c.Algorithm, got)
		}
	}
}

// TestDigestWithoutQOP: the answer to an old server is RFC 2617's (checked by hand against its formula), and our own
// server side never takes it.
func TestDigestWithoutQOP(t *testing.T) {
	ch, err := ParseChallenge([]byte(`Digest realm="BroadWorks", nonce="abc"`))
	if err != nil || ch.QOP || ch.Algorithm != DigestMD5 {
		t.Fatalf("challenge = %+v, %v", ch, err)
	}
	c, err := ParseCredentials([]byte(ch.Authorize(Answer{Username: "u", Password: "p", Method: "REGISTER", URI: "sip:example.com"})))
	if err != nil {
		t.Fatal(err)
	}
	var h [32]byte
	ha1 := HA1(DigestMD5, "u", "BroadWorks", "p")
	ha2 := hex.EncodeToString(DigestMD5.sum(&h, []byte("REGISTER:sip:example.com")))
	want := hex.EncodeToString(DigestMD5.sum(&h, []byte(hex.EncodeToString(ha1)+":abc:"+ha2)))
	if string(c.Response) != want {
		t.Errorf("response %s, want %s", c.Response, want)
	}
	if c.Verify(ha1, "REGISTER") {
		t.Error("credentials without qop were accepted")
	}
}

func TestParseCredentialsRefuses(t *testing.T) {
	good := digestExamples()[0].value
	if _, err := ParseCredentials([]byte(strings.ReplaceAll(good, ", ", " ,\t"))); err != nil {
		t.Errorf("white space: %v", err)
	}
	for name, v := range map[string]string{
		"empty":             "",
		"other scheme":      "Basic dXNlcjpwYXNz",
		"bearer":            "Bearer abc",
		"no parameters":     "Digest ",
		"twice":             good + `, username="x"`,
		"unknown algorithm": strings.Replace(good, "algorithm=MD5", "algorithm=MD5-sess", 1),
		"auth-int":          strings.Replace(good, "qop=auth", "qop=auth-int", 1),
		"short response":    strings.Replace(good, "8ca523f5", "8c", 1),
		"short nc":          strings.Replace(good, "nc=00000001", "nc=1", 1),
		"zero nc":           strings.Replace(good, "nc=00000001", "nc=00000000", 1),
		"no nc":             strings.Replace(good, "nc=00000001, ", "", 1),
		"no cnonce":         strings.Replace(good, "cnonce=", "x=", 1),
		"open quote":        good + `, x="abc`,
		"userhash":          good + `, userhash=true`,
		"no equals sign":    good + `, abc`,
		"too long":          good + `, x="` + strings.Repeat("a", maxAuthValue) + `"`,
		"too many":          good + strings.Repeat(", a=b", maxAuthParams),
	} {
		if c, err := ParseCredentials([]byte(v)); err == nil {
			t.Errorf("%s: accepted as %+v", name, c)
		}
	}
}

func TestDigestEscapes(t *testing.T) {
	ch := Challenge{Realm: `a "b" \c`, Nonce: "n", Algorithm: DigestSHA256, QOP: true, Stale: true}
	back, err := ParseChallenge(ch.Append(nil))
	if err != nil || back != ch {
		t.Fatalf("challenge = %+v, %v", back, err)
	}
	value := back.Authorize(Answer{Username: `o"neil\`, Password: "p", Method: "INVITE", URI: "sip:x@example.com", CNonce: "c", NC: 0xab})
	c, err := ParseCredentials([]byte(value))
	if err != nil || string(c.Username) != `o"neil\` || string(c.Realm) != ch.Realm || c.NC != 0xab {
		t.Fatalf("credentials = %+v, %v", c, err)
	}
	if !c.Verify(HA1(DigestSHA256, `o"neil\`, ch.Realm, "p"), "INVITE") {
		t.Error("escaped names do not verify")
	}
	if !c.MatchesURI([]byte("SIP:x@EXAMPLE.com")) || c.MatchesURI([]byte("sip:y@example.com")) {
		t.Error("URI comparison")
	}
	evil := back.Authorize(Answer{Username: "a\r\nX: y", Method: "INVITE", URI: "sip:x", CNonce: "c", NC: 1})
	if strings.ContainsAny(evil, "\r\n") {
		t.Error("a line break passed")
	}
	if s := fmt.Sprintf("%v %+v %#v", Answer{Password: "hunter2"}, Answer{Password: "hunter2"}, Answer{Password: "hunter2"}); strings.Contains(s, "hunter2") {
		t.Errorf("the password is printed: %s", s)
	}
}

func TestStrongestChallenge(t *testing.T) {
	parse := func(fields ...string) *Message {
		m := new(Message)
		text := "SIP/2.0 401 Unauthorized\r\nVia: SIP/2.0/TLS a;branch=z9hG4bKx\r\n"
		for _, f := range fields {
			text += "WWW-Authenticate: " + f + "\r\n"
		}
		if err := m.Parse([]byte(text+"Content-Length: 0\r\n\r\n"), Limits{}); err != nil {
			t.Fatal(err)
		}
		return m
	}
	m := parse(`Digest realm="r", nonce="1", algorithm=MD5, qop="auth"`, `Digest realm="r", nonce="2", algorithm=SHA-256, qop="auth,auth-int"`,
		`Digest realm="r", nonce="3", algorithm=SHA-1, qop="auth"`, `Basic realm="r"`, `Digest realm="r", nonce="4", qop="auth-int", algorithm=SHA-512-256`)
	if c, ok := m.StrongestChallenge(HeaderWWWAuthenticate, DigestMD5); !ok || c.Nonce != "2" {
		t.Errorf("strongest = %+v, %v", c, ok)
	}
	if c, ok := parse(`Digest realm="r", nonce="1"`).StrongestChallenge(HeaderWWWAuthenticate, DigestSHA256); ok {
		t.Errorf("talked down to %+v", c)
	}
}

type testClock struct{ t time.Time }

func (c *testClock) now() time.Time { return c.t }

func newTestNonces(t *testing.T, life time.Duration) (*Nonces, *testClock) {
	t.Helper()
	clock := &testClock{time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
	n, err := NewNonces(clock.now, rand.Reader, life)
	if err != nil {
		t.Fatal(err)
	}
	return n, clock
}

func TestNonceLife(t *testing.T) {
	n, clock := newTestNonces(t, time.Minute)
	nonce := []byte(n.New())
	if got := n.Check(nonce); got != NonceGood {
		t.Fatalf("fresh: %v", got)
	}
	for i := range nonce { // every change of one character is noticed
		forged := bytes.Clone(nonce)
		forged[i] ^= 1
		if got := n.Check(forged); got != NonceForged {
			t.Errorf("changed at %d: %v", i, got)
		}
	}
	other, _ := newTestNonces(t, time.Minute)
	if other.Check(nonce) != NonceForged || n.Check(nil) != NonceForged || n.Check(nonce[1:]) != NonceForged {
		t.Error("a nonce of another server or length was accepted")
	}
	clock.t = clock.t.Add(59 * time.Second)
	young := []byte(n.New())
	clock.t = clock.t.Add(2 * time.Second)
	n.New() // makes a new key
	if n.Check(young) != NonceGood || n.Check(nonce) != NonceStale {
		t.Errorf("after a key change: young %v, old %v", n.Check(young), n.Check(nonce))
	}
	clock.t = clock.t.Add(-time.Hour)
	if n.Check(young) == NonceGood {
		t.Error("a nonce from the future was accepted")
	}
}

func TestNonceReplay(t *testing.T) {
	n, _ := newTestNonces(t, time.Minute)
	nonce := []byte(n.New())
	for _, step := range []struct {
		count uint32
		want  NonceState
	}{
		{0, NonceReplay}, {1, NonceGood}, {1, NonceReplay}, {3, NonceGood}, {2, NonceGood}, {2, NonceReplay}, {3, NonceReplay},
		{66, NonceGood}, {3, NonceReplay}, {2, NonceReplay}, {4, NonceGood}, {1 << 30, NonceGood}, {66, NonceReplay}, {1<<30 - 63, NonceGood}, {1<<30 - 64, NonceReplay},
	} {
		if got := n.Use(nonce, step.count); got != step.want {
			t.Errorf("count %d: %v, want %v", step.count, got, step.want)
		}
	}
	if n.Use([]byte("forged"), 1) != NonceForged {
		t.Error("a forged nonce was counted")
	}
}

// TestNonceTableOverflows fills the table several times over: no count may pass twice, however much was forgotten.
func TestNonceTableOverflows(t *testing.T) {
	n, clock := newTestNonces(t, time.Hour)
	var nonces [][]byte
	for range nonceBuckets * 4 * 3 {
		clock.t = clock.t.Add(time.Microsecond)
		nonces = append(nonces, []byte(n.New()))
	}
	for i, nonce := range nonces {
		if got := n.Use(nonce, 1); got != NonceGood {
			t.Fatalf("nonce %d: %v", i, got)
		}
	}
	remembered := 0
	for i, nonce := range nonces {
		switch got := n.Use(nonce, 1); got {
		case NonceReplay:
			remembered++
		case NonceStale:
		default:
			t.Fatalf("nonce %d was accepted twice: %v", i, got)
		}
	}
	if remembered != nonceBuckets*4 {
		t.Errorf("%d nonces are remembered, want %d", remembered, nonceBuckets*4)
	}
}

func TestVerifyDoesNotAllocate(t *testing.T) {
	n, _ := newTestNonces(t, time.Hour)
	ch := Challenge{Realm: "r", Nonce: n.New(), Algorithm: DigestSHA256, QOP: true}
	value := []byte(ch.Authorize(Answer{Username: "u", Password: "p", Method: "REGISTER", URI: "sip:example.com", CNonce: "abcdef", NC: 1}))
	ha1 := HA1(DigestSHA256, "u", "r", "p")
	count := uint32(0)
	allocs := testing.AllocsPerRun(100, func() {
		c, err := ParseCredentials(value)
		count++
		if err != nil || n.Check(c.Nonce) != NonceGood || !c.Verify(ha1, "REGISTER") || n.Use(c.Nonce, count) != NonceGood {
			t.Fatal("refused")
		}
	})
	if allocs > 0 {
		t.Errorf("%v allocations", allocs)
	}
}

func BenchmarkVerify(b *testing.B) {
	n, err := NewNonces(time.Now, rand.Reader, time.Hour)
	if err != nil {
		b.Fatal(err)
	}
	ch := Challenge{Realm: "r", Nonce: n.New(), Algorithm: DigestSHA256, QOP: true}
	value := []byte(ch.Authorize(Answer{Username: "u", Password: "p", Method: "REGISTER", URI: "sip:example.com", CNonce: "abcdef", NC: 1}))
	ha1 := HA1(DigestSHA256, "u", "r", "p")
	b.ReportAllocs()
	for count := uint32(1); b.Loop(); count++ {
		c, err := ParseCredentials(value)
		if err != nil || !c.Verify(ha1, "REGISTER") || n.Use(c.Nonce, count) != NonceGood {
			b.Fatal("refused")
		}
	}
}

func FuzzCredentials(f *testing.F) {
	for _, ex := range digestExamples() {
		f.Add([]byte(ex.value))
	}
	f.Add([]byte(`Digest realm="r\"", nonce=",", qop="auth,auth-int", stale=TRUE, algorithm=SHA-256`))
	f.Fuzz(func(t *testing.T, v []byte) {
		if c, err := ParseCredentials(v); err == nil {
			c.Verify(make([]byte, c.Algorithm.Size()), "REGISTER")
			c.MatchesURI([]byte("sip:example.com"))
		}
		if ch, err := ParseChallenge(v); err == nil {
			ch.QOP = true // what Append offers
			back, err := ParseChallenge(ch.Append(nil))
			printable := !bytes.ContainsFunc(v, func(r rune) bool { return r < ' ' || r == 0x7f })
			if printable && (err != nil || back != ch) && len(v) < 1000 {
				t.Fatalf("%+v came back as %+v, %v", ch, back, err)
			}
			ch.Authorize(Answer{Username: "u", CNonce: "c", NC: 1})
		}
	})
}

// TestNonceRace has many goroutines send the same counts: each passes exactly once.
func TestNonceRace(t *testing.T) {
	n, err := NewNonces(time.Now, rand.Reader, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	nonce := []byte(n.New())
	var passed [65]atomic.Int32
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for count := uint32(1); count < uint32(len(passed)); count++ {
				if n.Use(nonce, count) == NonceGood {
					passed[count].Add(1)
				}
			}
		})
	}
	wg.Wait()
	for count := 1; count < len(passed); count++ {
		if got := passed[count].Load(); got != 1 {
			t.Errorf("count %d passed %d times", count, got)
		}
	}
}
