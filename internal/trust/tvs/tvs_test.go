package tvs_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"errors"
	"io"
	"math/big"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"ringfence"
	"ringfence/internal/trust/signedfile"
	"ringfence/internal/trust/trustlist"
	"ringfence/internal/trust/tvs"
)

const device = "CP-8841-SEP001122334455"

// book is what is believed in a test.
type book struct {
	certs []*x509.Certificate
	known map[[sha256.Size]byte]tvs.Standing
	err   error
}

func (b *book) add(c *x509.Certificate, s tvs.Standing) {
	if b.known == nil {
		b.known = map[[sha256.Size]byte]tvs.Standing{}
	}
	b.certs = append(b.certs, c)
	b.known[sha256.Sum256(c.Raw)] = s
}

func (b *book) Believed(_ context.Context, hash [sha256.Size]byte) (tvs.Standing, error) {
	s, ok := b.known[hash]
	if b.err != nil || ok {
		return s, b.err
	}
	return s, &ringfence.Fault{Op: "book", Kind: ringfence.KindNotFound, Text: "unknown"}
}

func (b *book) Named(_ context.Context, serial []byte) (out []*x509.Certificate, err error) {
	for _, c := range b.certs {
		if bytes.Equal(c.SerialNumber.Bytes(), serial) {
			out = append(out, c)
		}
	}
	return out, b.err
}

// someDay is when tests happen; certificates made by certify are good for a year around it.
func someDay() time.Time { return time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC) }

func certify(t testing.TB, name string, serial int64) (*x509.Certificate, crypto.Signer) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tpl := &x509.Certificate{SerialNumber: big.NewInt(serial), Subject: pkix.Name{Country: []string{"ZZ"}, Organization: []string{"Example, Inc"}, CommonName: name},
		NotBefore: someDay().AddDate(-1, 0, 0), NotAfter: someDay().AddDate(1, 0, 0)}
	der, err := x509.CreateCertificate(rand.Reader, tpl, tpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c, key
}

// serve starts a server whose clock stands still at the given time, and returns what a connection to it comes to.
func serve(t testing.TB, b tvs.Book, now time.Time) (dial func() net.Conn, last func() tvs.Event) {
	t.Helper()
	var mu sync.Mutex
	var heard tvs.Event
	s, err := tvs.New(tvs.Config{Book: b, Now: func() time.Time { return now }, Heard: func(e tvs.Event) {
		mu.Lock()
		defer mu.Unlock()
		heard = e
	}})
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	t.Cleanup(all.Wait)
	return func() net.Conn {
			near, far := net.Pipe()
			all.Go(func() { _ = s.Handle(t.Context(), far) })
			return near
		}, func() tvs.Event {
			all.Wait()
			mu.Lock()
			defer mu.Unlock()
			return heard
		}
}

// raw sends bytes and returns whatever comes back.
func raw(t testing.TB, c net.Conn, request []byte) []byte {
	t.Helper()
	defer c.Close()
	go func() { _, _ = c.Write(request) }()
	b, err := io.ReadAll(c)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// element writes one by hand.
func element(tag byte, value []byte) []byte {
	return append([]byte{tag, byte(len(value) >> 8), byte(len(value))}, value...)
}

// message writes one by hand.
func message(command byte, session string, elements ...[]byte) []byte {
	body := bytes.Join(elements, nil)
	return slices.Concat([]byte{0x57, 1, command, 0}, []byte(session), []byte{byte(len(body) >> 8), byte(len(body))}, body)
}

const session = "\x00\x00\x03\xe9"

func TestVerify(t *testing.T) {
	good, _ := certify(t, "good", 1)
	once, _ := certify(t, "revoked", 2)
	stranger, _ := certify(t, "stranger", 3)
	onlyTVS, _ := certify(t, "tvs", 4)
	twin, _ := certify(t, "good", 1) // the same names and serial, another key
	b := &book{}
	b.add(good, tvs.Standing{Roles: []trustlist.Role{trustlist.CCMTFTP, trustlist.TVS, trustlist.CCMTFTP, 0x1234}})
	b.add(once, tvs.Standing{Roles: []trustlist.Role{trustlist.CCM}, Revoked: true})
	b.add(onlyTVS, tvs.Standing{Roles: []trustlist.Role{trustlist.TVS}})
	for name, c := range map[string]struct {
		cert *x509.Certificate
		now  time.Time
		ttl  time.Duration // 0: not believed
		why  string
	}{
		"good":               {good, someDay(), 24 * time.Hour, ""},
		"in its last hour":   {good, good.NotAfter.Add(-time.Hour), time.Hour, ""},
		"in its last second": {good, good.NotAfter.Add(-time.Second), time.Second, ""},
		"expired":            {good, good.NotAfter, 0, "expired"},
		"long expired":       {good, good.NotAfter.AddDate(1, 0, 0), 0, "expired"},
		"not valid yet":      {good, good.NotBefore.Add(-time.Second), 0, "not valid yet"},
		"revoked":            {once, someDay(), 0, "revoked"},
		"a stranger":         {stranger, someDay(), 0, "unknown"},
		"a twin":             {twin, someDay(), 0, "unknown"},
		"only a TVS":         {onlyTVS, someDay(), 0, "no role"},
	} {
		dial, last := serve(t, b, c.now)
		a, err := tvs.Verify(t.Context(), dial(), device, c.cert)
		if err != nil || a.Valid != (c.ttl > 0) || a.TTL != c.ttl || a.Allows(trustlist.TVS) || a.Allows(trustlist.TFTP) != a.Valid || a.Allows(trustlist.CCM) != a.Valid || a.Allows(trustlist.SAST) || a.Allows(trustlist.CAPF) {
			t.Errorf("%s: %+v %v", name, a, err)
		}
		if a.Valid && !slices.Equal(a.Roles, []trustlist.Role{trustlist.CCMTFTP}) {
			t.Errorf("%s: %v", name, a.Roles)
		}
		if e := last(); e.Device != device || e.Valid != a.Valid || !strings.Contains(e.Why, c.why) || (c.why == "") != (e.Why == "") || e.Err != nil || e.Hash != sha256.Sum256(c.cert.Raw) || e.Subject != c.cert.Subject.String() {
			t.Errorf("%s: %+v", name, e)
		}
	}
}

// TestShown has a certificate with a name that would write into a log.
func TestShown(t *testing.T) {
	nasty, _ := certify(t, "a\nfake: line\x1b[2J"+strings.Repeat("é", 300), 1)
	dial, last := serve(t, &book{}, someDay())
	if a, err := tvs.Verify(t.Context(), dial(), device, nasty); err != nil || a.Valid {
		t.Errorf("%+v %v", a, err)
	}
	if e := last(); strings.ContainsAny(e.Subject, "\n\x1b") || len(e.Subject) > 260 || !utf8.ValidString(e.Subject) || !strings.HasPrefix(e.Subject, "CN=a?fake: line?[2J") {
		t.Errorf("%q", e.Subject)
	}
}

// TestListBook answers from the entries that the list is built of.
func TestListBook(t *testing.T) {
	node, _ := certify(t, "node", 0x81)
	other, _ := certify(t, "node", 0x81)
	gone, _ := certify(t, "gone", 3)
	stranger, _ := certify(t, "stranger", 4)
	odd, _ := certify(t, "odd", 5)
	b := tvs.NewListBook([]trustlist.Entry{{Role: trustlist.SAST, Cert: node}, {Role: trustlist.TFTP, Cert: node}, {Role: trustlist.TVS, Cert: node}, {Role: trustlist.CCM, Cert: other}, {Role: trustlist.CCM, Cert: gone}, {Role: trustlist.CCM, Cert: odd}},
		func(_ context.Context, c *x509.Certificate) (bool, error) {
			if c.Equal(odd) {
				return false, &ringfence.Fault{Op: "store", Kind: ringfence.KindUnavailable, Text: "the database is away"}
			}
			return c.Equal(gone), nil
		})
	dial, _ := serve(t, b, someDay())
	for name, c := range map[string]struct {
		cert  *x509.Certificate
		roles []trustlist.Role
	}{"node": {node, []trustlist.Role{trustlist.SAST, trustlist.TFTP}}, "other": {other, []trustlist.Role{trustlist.CCM}}, "gone": {gone, nil}, "stranger": {stranger, nil}} {
		if a, err := tvs.Verify(t.Context(), dial(), device, c.cert); err != nil || a.Valid != (c.roles != nil) || !slices.Equal(a.Roles, c.roles) {
			t.Errorf("%s: %+v %v", name, a, err)
		}
	}
	if _, err := tvs.Verify(t.Context(), dial(), device, odd); ringfence.KindOf(err) != ringfence.KindUnavailable {
		t.Errorf("%v", err)
	}
	who, err := signedfile.SignerOf(gone)
	if err != nil {
		t.Fatal(err)
	}
	if a, err := tvs.Query(t.Context(), dial(), device, who); err != nil || a.Valid {
		t.Errorf("%+v %v", a, err)
	}
	if who, err = signedfile.SignerOf(node); err != nil {
		t.Fatal(err)
	}
	if a, err := tvs.Query(t.Context(), dial(), device, who); err != nil || !a.Cert.Equal(node) {
		t.Errorf("%+v %v", a, err)
	}
	// A book without a word on revocation.
	dial, _ = serve(t, tvs.NewListBook([]trustlist.Entry{{Role: trustlist.CCM, Cert: gone}}, nil), someDay())
	if a, err := tvs.Verify(t.Context(), dial(), device, gone); err != nil || !a.Allows(trustlist.CCM) {
		t.Errorf("%+v %v", a, err)
	}
}

// TestQuery asks as a phone does that has a list signed by somebody it does not know.
func TestQuery(t *testing.T) {
	good, _ := certify(t, "good", 0x81) // DER has a zero before it
	revoked, _ := certify(t, "good", 0x81)
	b := &book{}
	b.add(revoked, tvs.Standing{Roles: []trustlist.Role{trustlist.SAST}, Revoked: true}) // the same names: one that is believed counts
	b.add(good, tvs.Standing{Roles: []trustlist.Role{trustlist.SAST, trustlist.TFTP}, TTL: time.Hour})
	dial, last := serve(t, b, someDay())
	who, err := signedfile.SignerOf(good)
	if err != nil {
		t.Fatal(err)
	}
	if who.Name != `C=ZZ,O=Example\, Inc,CN=good` {
		t.Fatal(who.Name)
	}
	for name, ask := range map[string]signedfile.Signer{
		"as files have it": who,
		"by semicolons":    {Name: `C=ZZ;O=Example\, Inc;CN=good`, Issuer: `C=ZZ;O=Example\, Inc;CN=good`, Serial: who.Serial},
		"from the end":     {Name: `CN=good;O=Example\, Inc;C=ZZ`, Issuer: `CN=good,O=Example\, Inc,C=ZZ`, Serial: []byte{0, 0x81}},
		"without subject":  {Issuer: who.Issuer, Serial: who.Serial},
	} {
		a, err := tvs.Query(t.Context(), dial(), device, ask)
		if err != nil || !a.Valid || !a.Cert.Equal(good) || a.TTL != time.Hour || !a.Allows(trustlist.SAST) || !a.Allows(trustlist.TFTP) || a.Allows(trustlist.CCM) {
			t.Errorf("%s: %+v %v", name, a, err)
		}
		if e := last(); !e.Valid || e.Command != tvs.QueryRequest || e.Hash != sha256.Sum256(good.Raw) || e.Why != "" {
			t.Errorf("%s: %+v", name, e)
		}
	}
	for name, ask := range map[string]signedfile.Signer{
		"another issuer":  {Name: who.Name, Issuer: "CN=somebody", Serial: who.Serial},
		"another subject": {Name: "CN=somebody", Issuer: who.Issuer, Serial: who.Serial},
		"another serial":  {Name: who.Name, Issuer: who.Issuer, Serial: []byte{0x82}},
	} {
		if a, err := tvs.Query(t.Context(), dial(), device, ask); err != nil || a.Valid || a.Cert != nil {
			t.Errorf("%s: %+v %v", name, a, err)
		}
		if e := last(); e.Valid || !strings.HasPrefix(e.Why, "no certificate") {
			t.Errorf("%s: %+v", name, e)
		}
	}
}

// TestCaptured holds the bytes to exchanges that were captured: a request to verify of a program, and a query of a phone, the names in it shortened.
func TestCaptured(t *testing.T) {
	cert, _ := certify(t, "good", 0x1001)
	b := &book{}
	b.add(cert, tvs.Standing{Roles: []trustlist.Role{trustlist.CCMTFTP}})
	dial, _ := serve(t, b, someDay())
	verify := "57 01 02 00 00000001 000f 070001 00 080001 02 090004 00015180"
	one := "\x00\x00\x00\x01"
	for name, req := range map[string][]byte{
		"a zero behind the device": message(1, one, unhex(t, "01 0018 43502d383834312d53455030303131323233333434353500"), element(2, cert.Raw)),
		"a one before the device":  message(1, one, unhex(t, "01 0018 0143502d383834312d534550303031313232333334343535"), element(2, cert.Raw)),
	} {
		if got := raw(t, dial(), req); !bytes.Equal(got, unhex(t, verify)) {
			t.Errorf("%s: %x", name, got)
		}
	}
	stranger, _ := certify(t, "stranger", 2)
	if got := raw(t, dial(), message(1, session, element(1, []byte(device)), element(2, stranger.Raw))); !bytes.Equal(got, unhex(t, "57 01 02 00 000003e9 0004 070001 01")) {
		t.Errorf("not believed: %x", got)
	}
	// The query: device, subject, issuer and serial; then the certificate between status and roles.
	name := append([]byte(`C=ZZ,O=Example\, Inc,CN=good`), 0)
	want := message(4, session, unhex(t, "070001 00"), element(2, cert.Raw), unhex(t, "080001 02"), unhex(t, "090004 00015180"))
	for tags, tag := range map[string][2]byte{"4 and 5": {4, 5}, "5 and 6": {5, 6}} {
		req := message(3, session, unhex(t, "01 0018 0143502d383836312d534550423030304234424130414545"), element(3, name), element(tag[0], name), element(tag[1], []byte{0x10, 0x01}))
		if got := raw(t, dial(), req); !bytes.Equal(got, want) {
			t.Errorf("query with the tags %s: %x", tags, got)
		}
	}
	// What we send ourselves, byte by byte.
	m := &tvs.Message{Command: tvs.VerifyRequest, Session: 1, Device: device, Cert: cert.Raw}
	if got, err := m.Append(nil); err != nil || !bytes.Equal(got, message(1, one, unhex(t, "01 0018 0143502d383834312d534550303031313232333334343535"), element(2, cert.Raw))) {
		t.Errorf("%x %v", got, err)
	}
	// The answer of a phone system that was captured had rubbish in the reserved byte.
	want[3] = 0xf7
	if m, err := tvs.Parse(want); err != nil || !m.Valid || m.Session != 0x3e9 || m.TTL != 86400 || !bytes.Equal(m.Cert, cert.Raw) || !slices.Equal(m.Roles, []trustlist.Role{trustlist.CCMTFTP}) {
		t.Errorf("%+v %v", m, err)
	}
}

// TestHostile sends what no phone sends. The service answers to none of it, or says that the certificate is not believed.
func TestHostile(t *testing.T) {
	cert, _ := certify(t, "good", 1)
	b := &book{}
	b.add(cert, tvs.Standing{Roles: []trustlist.Role{trustlist.CCM}})
	dial, last := serve(t, b, someDay())
	name, der := element(1, []byte(device)), element(2, cert.Raw)
	good := message(1, session, name, der)

	// Cut off at every byte, with the length of the header left and corrected.
	for i := range good {
		c := dial()
		go func() {
			_, _ = c.Write(good[:i])
			_ = c.Close()
		}()
		if e := last(); ringfence.KindOf(e.Err) != ringfence.KindUnavailable || e.Valid {
			t.Fatalf("cut at %d: %+v", i, e)
		}
		if _, err := tvs.Parse(good[:i]); ringfence.KindOf(err) != ringfence.KindInvalid {
			t.Fatalf("cut at %d: %v", i, err)
		}
		if i < 10 {
			continue
		}
		short := bytes.Clone(good[:i])
		short[8], short[9] = byte((i-10)>>8), byte(i-10)
		if got := raw(t, dial(), short); len(got) > 0 || last().Err == nil {
			t.Fatalf("cut at %d: %x", i, got)
		}
	}
	none := map[string][]byte{
		"another protocol":       append([]byte{0x55}, good[1:]...),
		"another version":        append([]byte{0x57, 2}, good[2:]...),
		"command 0":              message(0, session, name, der),
		"command 5":              message(5, session, name, der),
		"an answer":              message(2, session, element(7, []byte{0})),
		"an answer to a query":   message(4, session, element(7, []byte{1})),
		"nothing in it":          message(1, session),
		"no device":              message(1, session, der),
		"no name of the device":  message(1, session, element(1, []byte{1}), der),
		"a long device":          message(1, session, element(1, bytes.Repeat([]byte("A"), 66)), der),
		"a line feed":            message(1, session, element(1, []byte("CP-8841\nfake")), der),
		"no UTF-8":               message(1, session, element(1, []byte{0xff, 0xfe}), der),
		"no certificate":         message(1, session, name),
		"an empty certificate":   message(1, session, name, element(2, nil)),
		"two certificates":       message(1, session, name, der, der),
		"two certificates again": message(1, session, name, element(2, nil), der),
		"two devices":            message(1, session, name, name, der),
		"a long certificate":     message(1, session, name, element(2, make([]byte, 8<<10+1))),
		"many elements":          message(1, session, name, der, bytes.Repeat(element(99, nil), 15)),
		"half an element":        message(1, session, name, der, []byte{99, 0}),
		"a longer element":       message(1, session, name, der, []byte{99, 0xff, 0xff, 0}),
		"a query without names":  message(3, session, name),
		"a query without serial": message(3, session, name, element(3, []byte("CN=a")), element(4, []byte("CN=a"))),
		"a long serial":          message(3, session, name, element(3, []byte("CN=a")), element(4, []byte("CN=a")), element(5, make([]byte, 22))),
		"a long issuer":          message(3, session, name, element(4, bytes.Repeat([]byte("A"), 3<<10)), element(5, []byte{1})),
	}
	for what, req := range none {
		if got := raw(t, dial(), req); len(got) > 0 {
			t.Errorf("%s: %x", what, got)
		}
		if e := last(); ringfence.KindOf(e.Err) != ringfence.KindInvalid || e.Valid {
			t.Errorf("%s: %+v", what, e)
		}
	}
	// Nothing of the body is waited for when the header says that it is too long.
	if got := raw(t, dial(), append([]byte{0x57, 1, 1, 0}, session+"\x40\x01"...)); len(got) > 0 || ringfence.KindOf(last().Err) != ringfence.KindInvalid {
		t.Errorf("%x", got)
	}
	no := message(2, session, element(7, []byte{1}))
	for what, req := range map[string][]byte{
		"rubbish for a certificate":  message(1, session, name, element(2, []byte("rubbish"))),
		"bytes behind a certificate": message(1, session, name, element(2, append(bytes.Clone(cert.Raw), 0))),
		"half a certificate":         message(1, session, name, element(2, cert.Raw[:len(cert.Raw)/2])),
	} {
		if got := raw(t, dial(), req); !bytes.Equal(got, no) {
			t.Errorf("%s: %x", what, got)
		}
	}
	// Elements that we do not know change nothing, before and behind, and neither does another request in the same breath.
	yes := raw(t, dial(), good)
	if len(yes) != 10+4+4+7 {
		t.Fatalf("%x", yes)
	}
	if got := raw(t, dial(), message(1, session, element(0, nil), element(99, []byte("x")), name, der, element(99, []byte("y")), element(0xff, nil))); !bytes.Equal(got, yes) {
		t.Errorf("%x", got)
	}
	if got := raw(t, dial(), append(bytes.Clone(good), good...)); !bytes.Equal(got, yes) {
		t.Errorf("%x", got)
	}
}

// TestNoAnswer is a store that cannot tell: phones would remember a "no".
func TestNoAnswer(t *testing.T) {
	cert, _ := certify(t, "good", 1)
	dial, last := serve(t, &book{err: &ringfence.Fault{Op: "store", Kind: ringfence.KindUnavailable, Text: "the database is away"}}, someDay())
	for what, req := range map[string][]byte{
		"verify": message(1, session, element(1, []byte(device)), element(2, cert.Raw)),
		"query":  message(3, session, element(1, []byte(device)), element(4, []byte("CN=a")), element(5, []byte{1})),
	} {
		if got := raw(t, dial(), req); len(got) > 0 || ringfence.KindOf(last().Err) != ringfence.KindUnavailable {
			t.Errorf("%s: %x %v", what, got, last().Err)
		}
	}
}

// TestClient puts liars at the other end.
func TestClient(t *testing.T) {
	cert, _ := certify(t, "good", 1)
	other, _ := certify(t, "other", 1)
	who, err := signedfile.SignerOf(cert)
	if err != nil {
		t.Fatal(err)
	}
	// liar answers with what make makes of the session.
	liar := func(answer func(session string) []byte) net.Conn {
		near, far := net.Pipe()
		go func() {
			defer far.Close()
			head := make([]byte, 10)
			if _, err := io.ReadFull(far, head); err != nil {
				return
			}
			if _, err := io.ReadFull(far, make([]byte, int(head[8])<<8|int(head[9]))); err != nil {
				return
			}
			_, _ = far.Write(answer(string(head[4:8])))
		}()
		return near
	}
	valid := element(7, []byte{0})
	for name, c := range map[string]struct {
		answer func(string) []byte
		kind   ringfence.Kind
	}{
		"another session":   {func(string) []byte { return message(2, "else", valid) }, ringfence.KindInvalid},
		"another command":   {func(s string) []byte { return message(4, s, valid, element(2, cert.Raw)) }, ringfence.KindInvalid},
		"no status":         {func(s string) []byte { return message(2, s, element(8, []byte{1})) }, ringfence.KindInvalid},
		"a long status":     {func(s string) []byte { return message(2, s, element(7, []byte{0, 0})) }, ringfence.KindInvalid},
		"a short time":      {func(s string) []byte { return message(2, s, valid, element(9, []byte{1})) }, ringfence.KindInvalid},
		"very many roles":   {func(s string) []byte { return message(2, s, valid, element(8, make([]byte, 33))) }, ringfence.KindInvalid},
		"two statuses":      {func(s string) []byte { return message(2, s, element(7, []byte{1}), valid) }, ringfence.KindInvalid},
		"nothing":           {func(string) []byte { return nil }, ringfence.KindUnavailable},
		"half":              {func(s string) []byte { return message(2, s, valid)[:12] }, ringfence.KindUnavailable},
		"a hundred roles":   {func(s string) []byte { return message(2, s, valid, element(8, make([]byte, 100))) }, ringfence.KindInvalid},
		"more than allowed": {func(s string) []byte { return append([]byte{0x57, 1, 2, 0}, s+"\xff\xff"...) }, ringfence.KindInvalid},
	} {
		if a, err := tvs.Verify(t.Context(), liar(c.answer), device, cert); ringfence.KindOf(err) != c.kind || err == nil || a.Valid {
			t.Errorf("%s: %+v %v", name, a, err)
		}
	}
	// A status that is neither is a no; what is said beside a no does not count; nobody is remembered for ever; a TVS cannot make another.
	for name, answer := range map[string]func(string) []byte{
		"2":             func(s string) []byte { return message(2, s, element(7, []byte{2})) },
		"no with roles": func(s string) []byte { return message(2, s, element(7, []byte{1}), element(8, []byte{1})) },
	} {
		if a, err := tvs.Verify(t.Context(), liar(answer), device, cert); err != nil || a.Valid || a.Allows(trustlist.CCM) || len(a.Roles) > 0 {
			t.Errorf("%s: %+v %v", name, a, err)
		}
	}
	a, err := tvs.Verify(t.Context(), liar(func(s string) []byte {
		return message(2, s, valid, element(8, []byte{21, 4}), element(9, []byte{0xff, 0xff, 0xff, 0xff}))
	}), device, cert)
	if err != nil || a.TTL != 30*24*time.Hour || a.Allows(trustlist.TVS) || !a.Allows(trustlist.CAPF) || !slices.Equal(a.Roles, []trustlist.Role{trustlist.CAPF}) {
		t.Errorf("%+v %v", a, err)
	}
	for name, c := range map[string]struct {
		der  []byte
		kind ringfence.Kind
	}{"another certificate": {other.Raw, ringfence.KindDenied}, "rubbish": {[]byte("rubbish"), ringfence.KindInvalid}, "nothing": {nil, ringfence.KindInvalid}} {
		if a, err := tvs.Query(t.Context(), liar(func(s string) []byte { return message(4, s, valid, element(2, c.der)) }), device, who); ringfence.KindOf(err) != c.kind || err == nil || a.Valid {
			t.Errorf("%s: %+v %v", name, a, err)
		}
	}
	if _, err := tvs.Verify(t.Context(), liar(nil), "a\nb", cert); ringfence.KindOf(err) != ringfence.KindInvalid {
		t.Errorf("%v", err)
	}
	if _, err := tvs.Verify(t.Context(), liar(nil), device, &x509.Certificate{Raw: make([]byte, 10000)}); ringfence.KindOf(err) != ringfence.KindInvalid {
		t.Errorf("%v", err)
	}
}

// TestSlow has both ends wait for a peer that says nothing, or one byte after the other.
func TestSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var e tvs.Event
		s, err := tvs.New(tvs.Config{Book: &book{}, Heard: func(got tvs.Event) { e = got }})
		if err != nil {
			t.Fatal(err)
		}
		for name, drip := range map[string]bool{"silent": false, "dripping": true} {
			near, far := net.Pipe()
			start := time.Now()
			go func() {
				for _, b := range message(1, session, element(1, []byte(device)), element(2, make([]byte, 5000))) {
					if !drip {
						return
					}
					if _, err := near.Write([]byte{b}); err != nil {
						return
					}
					time.Sleep(time.Second)
				}
			}()
			if err := s.Handle(t.Context(), far); ringfence.KindOf(err) != ringfence.KindTimeout || time.Since(start) != 10*time.Second || !errors.Is(e.Err, err) {
				t.Errorf("%s: %v after %v", name, err, time.Since(start))
			}
			near.Close()
		}
		// A peer that asks and does not read the answer.
		near, far := net.Pipe()
		go func() {
			_, _ = near.Write(message(1, session, element(1, []byte(device)), element(2, []byte("x"))))
		}()
		if err := s.Handle(t.Context(), far); ringfence.KindOf(err) != ringfence.KindTimeout {
			t.Errorf("%v", err)
		}
		// The node stops.
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, far = net.Pipe()
		start := time.Now()
		if err := s.Handle(ctx, far); ringfence.KindOf(err) != ringfence.KindTimeout || time.Since(start) != time.Second {
			t.Errorf("%v after %v", err, time.Since(start))
		}
		// A service that takes the question and is silent.
		cert, _ := certify(t, "x", 1)
		near, far = net.Pipe()
		go func() { _, _ = io.Copy(io.Discard, far) }()
		start = time.Now()
		if _, err := tvs.Verify(t.Context(), near, device, cert); ringfence.KindOf(err) != ringfence.KindTimeout || time.Since(start) != 10*time.Second {
			t.Errorf("%v after %v", err, time.Since(start))
		}
	})
}

// pipes is a listener without sockets.
type pipes struct {
	conns chan net.Conn
	once  sync.Once
	done  chan struct{}
}

func newPipes() *pipes { return &pipes{conns: make(chan net.Conn), done: make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		if c == nil {
			return nil, errors.New("too many open files")
		}
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}
func (p *pipes) Close() error   { p.once.Do(func() { close(p.done) }); return nil }
func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }

// from is a connection with an address.
type from struct {
	net.Conn
	addr string
}

func (f from) RemoteAddr() net.Addr {
	a, err := net.ResolveTCPAddr("tcp", f.addr)
	if err != nil {
		panic(err)
	}
	return a
}

// TestServe fills the service up, from one source and from many, and stops it.
func TestServe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, err := tvs.New(tvs.Config{Book: &book{}, Max: 4, PerSource: 2})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ln, over := newPipes(), make(chan error, 1)
		go func() { over <- s.Serve(ctx, ln) }()
		open := func(addr string) net.Conn {
			near, far := net.Pipe()
			ln.conns <- from{far, addr}
			synctest.Wait()
			return near
		}
		isOpen := func(c net.Conn) bool {
			_ = c.SetReadDeadline(time.Now().Add(time.Millisecond))
			_, err := c.Read(make([]byte, 1))
			return err != io.EOF
		}
		var kept []net.Conn
		for i, want := range map[string]bool{"a": true} { // one source may have two
			for n, addr := range []string{"192.0.2.1:1", "[::ffff:192.0.2.1]:2", "192.0.2.1:3"} {
				c := open(addr)
				if isOpen(c) != (want && n < 2) {
					t.Errorf("%s %d", i, n)
				}
				kept = append(kept, c)
			}
		}
		for n, addr := range []string{"[2001:db8::1]:1", "[2001:db8::ffff]:1", "[2001:db8::2]:1", "198.51.100.7:1"} { // and all together four
			if c := open(addr); isOpen(c) != (n < 2) {
				t.Errorf("%s", addr)
			}
		}
		if s.Refused() != 3 {
			t.Errorf("%d", s.Refused())
		}
		kept[0].Close()
		synctest.Wait()
		if c := open("198.51.100.7:2"); !isOpen(c) {
			t.Error("the place was not given back")
		}
		ln.conns <- nil // a failure of the listener that passes
		time.Sleep(time.Second)
		if c := open("198.51.100.7:3"); isOpen(c) {
			t.Error("five at once")
		}
		cancel()
		if err := <-over; err != nil {
			t.Error(err)
		}
		if isOpen(kept[1]) {
			t.Error("a connection is left")
		}
	})
}

func TestServeClosed(t *testing.T) {
	s, err := tvs.New(tvs.Config{Book: &book{}})
	if err != nil {
		t.Fatal(err)
	}
	ln := newPipes()
	ln.Close()
	if err := s.Serve(t.Context(), ln); ringfence.KindOf(err) != ringfence.KindUnavailable {
		t.Error(err)
	}
}

func TestNew(t *testing.T) {
	for name, c := range map[string]tvs.Config{"no book": {}, "short": {Book: &book{}, TTL: time.Millisecond}, "long": {Book: &book{}, TTL: 31 * 24 * time.Hour}, "negative": {Book: &book{}, Max: -1}} {
		if _, err := tvs.New(c); ringfence.KindOf(err) != ringfence.KindInvalid {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestTLS asks over TLS, with the service known by its certificate alone.
func TestTLS(t *testing.T) {
	mine, key := certify(t, "tvs", 1)
	b := &book{}
	b.add(mine, tvs.Standing{Roles: []trustlist.Role{trustlist.AppServer, trustlist.TVS}})
	s, err := tvs.New(tvs.Config{Book: b, Now: someDay})
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
		_ = s.Serve(ctx, tls.NewListener(ln, &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{mine.Raw}, PrivateKey: key}}, MinVersion: tls.VersionTLS12}))
	})
	defer all.Wait()
	defer cancel()
	other, _ := certify(t, "tvs", 1)
	dial := func(now time.Time, certs ...*x509.Certificate) (net.Conn, error) {
		c, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		over := tls.Client(c, &tls.Config{InsecureSkipVerify: true, VerifyConnection: tvs.OneOf(certs, func() time.Time { return now }), MinVersion: tls.VersionTLS12})
		return over, over.Handshake()
	}
	c, err := dial(someDay(), other, mine)
	if err != nil {
		t.Fatal(err)
	}
	if a, err := tvs.Verify(t.Context(), c, device, mine); err != nil || !a.Valid || !slices.Equal(a.Roles, []trustlist.Role{trustlist.AppServer}) {
		t.Errorf("%+v %v", a, err)
	}
	if c, err = dial(someDay(), other); ringfence.KindOf(err) != ringfence.KindUnauthenticated {
		t.Errorf("a twin is not it: %v", err)
	}
	c.Close()
	if c, err = dial(mine.NotAfter.Add(time.Second), mine); ringfence.KindOf(err) != ringfence.KindUnauthenticated {
		t.Errorf("expired: %v", err)
	}
	c.Close()
}

func FuzzParse(f *testing.F) {
	cert, _ := certify(f, "good", 0x81)
	f.Add(message(1, session, element(1, []byte("\x01"+device)), element(2, cert.Raw)))
	f.Fuzz(func(t *testing.T, in []byte) {
		m, err := tvs.Parse(in)
		if err != nil {
			if ringfence.KindOf(err) != ringfence.KindInvalid {
				t.Fatal(err)
			}
			return
		}
		for _, s := range []string{m.Device, m.Subject, m.Issuer} {
			if strings.ContainsAny(s, "\x00\r\n\x1b") {
				t.Fatalf("%q", s)
			}
		}
		// What was read and is written is read again as the same, and written as the same.
		once, err := m.Append(nil)
		if err != nil {
			t.Fatal(err)
		}
		again, err := tvs.Parse(once)
		if err != nil {
			t.Fatalf("%v of %x", err, once)
		}
		twice, err := again.Append(nil)
		if err != nil || !bytes.Equal(once, twice) || again.Valid != m.Valid || again.Session != m.Session || again.Device != m.Device || again.Issuer != m.Issuer {
			t.Fatalf("%v\n%x\n%x", err, once, twice)
		}
	})
}
