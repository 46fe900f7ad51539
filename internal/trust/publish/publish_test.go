package publish

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"ringfence"
	"ringfence/internal/state/store"
	"ringfence/internal/trust/trustlist"
)

// site is a publisher on a real store, with a clock that the test turns and a certificate for whoever asks.
type site struct {
	*testing.T
	*Publisher
	store *store.Store
	at    time.Time
	nth   int64

	revoked []string // serials
}

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err, ringfence.HintOf(err))
	}
}

func (s *site) certify(_ context.Context, service bool, name string, pub crypto.PublicKey) ([][]byte, error) {
	life := 2 * 365 * 24 * time.Hour
	if service {
		life /= 2
	}
	return [][]byte{s.sign(name, pub, life).Raw}, nil
}

// sign signs a certificate by a key that nobody keeps.
func (s *site) sign(name string, pub crypto.PublicKey, life time.Duration) *x509.Certificate {
	s.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	ok(s, err)
	s.nth++
	t := &x509.Certificate{SerialNumber: big.NewInt(s.nth), Subject: pkix.Name{CommonName: name}, NotBefore: s.at, NotAfter: s.at.Add(life)}
	by := &x509.Certificate{Subject: pkix.Name{CommonName: "authority"}}
	der, err := x509.CreateCertificate(rand.Reader, t, by, pub, key)
	ok(s, err)
	c, err := x509.ParseCertificate(der)
	ok(s, err)
	return c
}

func (s *site) nodeCert(name string) *x509.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	ok(s, err)
	return s.sign(name, key.Public(), 30*24*time.Hour)
}

func newSite(t *testing.T) *site {
	t.Helper()
	dir := t.TempDir()
	st, err := store.Open(t.Context(), store.Config{DSN: "sqlite:" + filepath.Join(dir, "a.db"), KeyFile: filepath.Join(dir, "k")})
	ok(t, err)
	t.Cleanup(func() { _ = st.Close() })
	ok(t, st.CreateUser(t.Context(), store.User{ID: "u"}))
	s := &site{T: t, store: st, at: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
	s.Publisher = s.open("node-1")
	return s
}

func (s *site) open(node string) *Publisher {
	s.Helper()
	p, err := Open(s.Context(), Config{Node: node, Services: []trustlist.Role{trustlist.TVS, trustlist.CAPF}, Vault: s.store, Shelf: s.store, Certify: s.certify, Revoked: func(serial string) bool { return slices.Contains(s.revoked, serial) }, Now: func() time.Time { return s.at },
		RSA: func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 2048) }})
	ok(s, err)
	return p
}

// fetch has a device fetch a file, and returns the list.
func (s *site) fetch(file string, device ringfence.DeviceID, proved bool) *trustlist.List {
	s.Helper()
	w := httptest.NewRecorder()
	s.Handler(func(*http.Request, string) (ringfence.DeviceID, bool) { return device, proved }, slog.New(slog.DiscardHandler)).ServeHTTP(w, httptest.NewRequest("GET", "/trustlist/"+file, nil))
	if w.Code != 200 {
		s.Fatalf("%s: %d", file, w.Code)
	}
	l, err := trustlist.Parse(w.Body.Bytes())
	ok(s, err)
	_, err = l.VerifyBy(l.Signers())
	ok(s, err)
	return l
}

func (s *site) device(id ringfence.DeviceID) {
	s.Helper()
	ok(s, s.store.CreateDevice(s.Context(), store.Device{ID: id, User: "u"}))
}

func wantKind(t testing.TB, err error, k ringfence.Kind, text string) {
	t.Helper()
	if err == nil || ringfence.KindOf(err) != k || !strings.Contains(err.Error(), text) {
		t.Fatalf("%v, want %v %q", err, k, text)
	}
}

func version(p *Publisher) int64 {
	l, _ := p.Published()
	return l.Version
}

// TestPublishedByItself goes through a node's certificates: each change makes a list that phones take, and nothing else does.
func TestPublishedByItself(t *testing.T) {
	s := newSite(t)
	if version(s.Publisher) != 0 {
		t.Fatal("something was published before there was anything to say")
	}
	cert := s.nodeCert("node-1")
	ok(t, s.Present(t.Context(), cert))
	ok(t, s.Present(t.Context(), cert))
	if version(s.Publisher) != 1 {
		t.Fatalf("version %d", version(s.Publisher))
	}
	s.device("SEP001122334455")
	itl := s.fetch("ITLSEP001122334455.tlv", "SEP001122334455", true)
	ctl := s.fetch("CTLFile.tlv", "", false)
	js := s.fetch("ITLFile.json", "", false)
	if len(itl.Signers()) != 2 || len(itl.Holders(trustlist.CCM)) != 1 || len(itl.Holders(trustlist.TVS)) != 1 || len(itl.Holders(trustlist.CAPF)) != 1 || len(itl.Holders(trustlist.TFTP)) != 2 || len(itl.Holders(trustlist.AppServer)) != 1 {
		t.Errorf("%+v", itl.Records)
	}
	if len(ctl.Holders(trustlist.TVS)) != 0 || len(ctl.Holders(trustlist.CAPF)) != 1 || len(js.Records) != len(itl.Records) {
		t.Errorf("%+v", ctl.Records)
	}
	service, err := s.Service(trustlist.TVS)
	ok(t, err)
	if !service.Leaf.Equal(itl.Holders(trustlist.TVS)[0]) {
		t.Error("the service presents another certificate than the list says")
	}
	holders, err := s.Holders(t.Context())
	ok(t, err)
	if len(holders) != 1 || holders[0].Version != 1 || !holders[0].Proved || holders[0].Kind != "itl" {
		t.Errorf("%+v", holders)
	}
	// Renewal, and a second node.
	renewed := s.nodeCert("node-1")
	ok(t, s.Present(t.Context(), renewed))
	other := s.open("node-2")
	ok(t, other.Present(t.Context(), s.nodeCert("node-2")))
	ok(t, s.Maintain(t.Context())) // hears of it
	next := s.fetch("ITLFile.tlv", "", false)
	if version(s.Publisher) != 3 || len(next.Holders(trustlist.CCM)) != 2 || len(next.Holders(trustlist.TVS)) != 2 {
		t.Errorf("version %d: %+v", version(s.Publisher), next.Records)
	}
	if _, err := next.VerifyBy(itl.Signers()); err != nil {
		t.Error("a phone with the first list would not take the third:", err)
	}
	// A node that is gone leaves the list when its certificate ends.
	s.at = s.at.Add(31 * 24 * time.Hour)
	ok(t, s.Present(t.Context(), s.nodeCert("node-1")))
	if l := s.fetch("ITLFile.tlv", "", false); len(l.Holders(trustlist.CCM)) != 1 {
		t.Errorf("%+v", l.Records)
	}
	// After a restart it is all there.
	again := s.open("node-1")
	if version(again) != version(s.Publisher) {
		t.Error("another version after a restart")
	}
	if c, err := again.Service(trustlist.CAPF); err != nil || c.Leaf == nil {
		t.Error(err)
	}
}

// TestNobodyIsStranded replaces both signers. A phone that missed the first step would be lost by the second, so that one waits for it.
func TestNobodyIsStranded(t *testing.T) {
	s := newSite(t)
	cert := s.nodeCert("node-1")
	ok(t, s.Present(t.Context(), cert))
	s.device("SEP001122334455")
	s.device("SEP00AABBCCDDEE")
	first := s.fetch("ITLSEP001122334455.tlv", "SEP001122334455", true)
	s.fetch("ITLSEP00AABBCCDDEE.tlv", "SEP00AABBCCDDEE", false)

	plan, err := s.Plan(t.Context(), "a")
	ok(t, err)
	if plan.By != "b" || plan.lost() || len(plan.Added) != 2 || len(plan.Removed) != 2 || version(s.Publisher) != 1 {
		t.Errorf("%+v", plan)
	}
	_, err = s.Rotate(t.Context(), "c", false)
	wantKind(t, err, ringfence.KindInvalid, "no signer")
	_, err = s.Rotate(t.Context(), "a", false)
	ok(t, err)
	second := s.fetch("ITLSEP001122334455.tlv", "SEP001122334455", true)
	if _, err := second.VerifyBy(first.Signers()); err != nil || version(s.Publisher) != 2 {
		t.Error(err)
	}
	// The other phone still holds the first list.
	plan, err = s.Plan(t.Context(), "b")
	ok(t, err)
	if lost := plan.Lost(); len(lost) != 1 || lost[0].Device != "SEP00AABBCCDDEE" {
		t.Errorf("%+v", plan)
	}
	_, err = s.Rotate(t.Context(), "b", false)
	wantKind(t, err, ringfence.KindConflict, "1 are known")
	if version(s.Publisher) != 2 {
		t.Error("it was published all the same")
	}
	s.fetch("ITLSEP00AABBCCDDEE.tlv", "SEP00AABBCCDDEE", false)
	_, err = s.Rotate(t.Context(), "b", false)
	ok(t, err)
	third := s.fetch("ITLFile.tlv", "", false)
	if _, err := third.VerifyBy(second.Signers()); err != nil {
		t.Error(err)
	}
	if _, err := third.VerifyBy(first.Signers()); err == nil {
		t.Error("a phone that missed two steps would take it, which this test is not about")
	}
	// By force, and what it costs is said.
	_, err = s.Rotate(t.Context(), "a", false)
	wantKind(t, err, ringfence.KindConflict, "2 are known")
	x, err := s.Rotate(t.Context(), "a", true)
	ok(t, err)
	if len(x.Lost()) != 2 || version(s.Publisher) != 4 {
		t.Errorf("%+v", x)
	}
}

// TestSignersGrowOld has time pass: one signer is replaced, and the other months later.
func TestSignersGrowOld(t *testing.T) {
	s := newSite(t)
	ok(t, s.Present(t.Context(), s.nodeCert("node-1")))
	held := s.fetch("ITLFile.tlv", "", false)
	changed := 0
	for day := range 700 {
		s.at = s.at.Add(24 * time.Hour)
		ok(t, s.Maintain(t.Context()))
		if l := s.fetch("ITLFile.tlv", "", false); version(s.Publisher) > int64(changed)+1 {
			changed++
			if _, err := l.VerifyBy(held.Signers()); err != nil {
				t.Fatalf("day %d: %v", day, err)
			}
			held = l
		}
	}
	if changed != 2 {
		t.Errorf("the signers were replaced %d times", changed)
	}
}

// TestNames is what is served under which name.
func TestNames(t *testing.T) {
	s := newSite(t)
	h := s.Handler(func(*http.Request, string) (ringfence.DeviceID, bool) { return "nobody", false }, slog.New(slog.DiscardHandler))
	get := func(method, file string) int {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(method, "/trustlist/"+file, nil))
		return w.Code
	}
	if get("GET", "ITLFile.tlv") != 404 {
		t.Error("a list before the first")
	}
	ok(t, s.Present(t.Context(), s.nodeCert("node-1")))
	for file, want := range map[string]int{"ITLFile.tlv": 200, "CTLFile.tlv": 200, "ITLFile.json": 200, "ITLSEP0011223344FF.tlv": 200, "CTLSEP0011223344FF.tlv": 200,
		"ITLSEP0011223344ff.tlv": 404, "ITLSEP0011.tlv": 404, "XTLFile.tlv": 404, "ITLFile.tlv/..": 404, "": 404, ".tlv": 404, "CTLFile.json": 404} {
		if got := get("GET", file); got != want {
			t.Errorf("%q: %d", file, got)
		}
	}
	if get("POST", "ITLFile.tlv") != 405 || get("HEAD", "ITLFile.tlv") != 200 {
		t.Error("methods")
	}
	if holders, err := s.Holders(t.Context()); err != nil || len(holders) != 0 { // there is no such device
		t.Error(holders, err)
	}
}

// TestWhatWaitsIsSaid has a list wait, because a phone holds one that would not lead to it: also after a restart and at other nodes it is said until somebody
// publishes it, and not afterwards.
func TestWhatWaitsIsSaid(t *testing.T) {
	s := newSite(t)
	ok(t, s.Present(t.Context(), s.nodeCert("node-1")))
	s.device("SEP001122334455")
	s.fetch("ITLSEP001122334455.tlv", "SEP001122334455", true)
	for _, slot := range Slots() { // the phone misses both
		_, err := s.Rotate(t.Context(), slot, true)
		ok(t, err)
	}
	cert := s.nodeCert("node-1")
	ok(t, s.Present(t.Context(), cert))
	waits := func(who string, p *Publisher, want bool) {
		t.Helper()
		if _, why := p.Published(); (why != "") != want {
			t.Errorf("%s: %q", who, why)
		}
	}
	was := version(s.Publisher)
	waits("the node itself", s.Publisher, true)
	other := s.open("node-1")
	waits("after a restart", other, true)
	ok(t, other.Present(t.Context(), cert))
	waits("after a restart, with the same certificate", other, true)
	ok(t, other.Refresh(t.Context()))
	waits("looked at again", other, true)
	_, err := s.Publish(t.Context(), true)
	ok(t, err)
	waits("the node that published", s.Publisher, false)
	ok(t, other.Refresh(t.Context()))
	waits("another node", other, false)
	if version(other) != was+1 {
		t.Errorf("version %d after %d", version(other), was)
	}
}

// TestNobodyTakesAProofBack has somebody else fetch in the name of a phone that proved which list it holds.
func TestNobodyTakesAProofBack(t *testing.T) {
	s := newSite(t)
	ok(t, s.Present(t.Context(), s.nodeCert("node-1")))
	s.device("SEP001122334455")
	s.fetch("ITLSEP001122334455.tlv", "SEP001122334455", true)
	_, err := s.Rotate(t.Context(), "a", false)
	ok(t, err)
	s.fetch("ITLSEP001122334455.tlv", "SEP001122334455", false) // anybody knows the name of the file
	_, err = s.Rotate(t.Context(), "b", false)
	wantKind(t, err, ringfence.KindConflict, "1 are known")
	s.fetch("ITLSEP001122334455.tlv", "SEP001122334455", true)
	_, err = s.Rotate(t.Context(), "b", false)
	ok(t, err)
	// A phone that has lost its certificate is not held against everybody for ever.
	for _, days := range []int{29, 2} {
		_, err = s.Rotate(t.Context(), "a", false)
		wantKind(t, err, ringfence.KindConflict, "1 are known")
		s.at = s.at.AddDate(0, 0, days)
		s.fetch("ITLSEP001122334455.tlv", "SEP001122334455", false)
	}
	_, err = s.Rotate(t.Context(), "a", false)
	ok(t, err)
}

// TestRevoked has what the lists name revoked: a service has another certificate at once, and a signer signs nothing more.
func TestRevoked(t *testing.T) {
	s := newSite(t)
	cert := s.nodeCert("node-1")
	ok(t, s.Present(t.Context(), cert))
	service := func() string {
		c, err := s.Service(trustlist.TVS)
		ok(t, err)
		return c.Leaf.SerialNumber.Text(16)
	}
	bad := service()
	s.revoked = []string{bad}
	ok(t, s.Present(t.Context(), cert))
	if service() == bad || version(s.Publisher) != 2 {
		t.Errorf("still %s, version %d", bad, version(s.Publisher))
	}
	for _, slot := range Slots() { // the one that signed last, and then the one that took over
		was := s.fetch("ITLFile.tlv", "", false)
		signer, err := was.VerifyBy(was.Signers())
		ok(t, err)
		s.revoked = append(s.revoked, signer.SerialNumber.Text(16))
		ok(t, s.Maintain(t.Context()))
		now := s.fetch("ITLFile.tlv", "", false)
		by, err := now.VerifyBy(was.Signers())
		if err != nil || by.Equal(signer) {
			t.Errorf("%s: the next list is of %v, %v", slot, by, err)
		}
		for _, r := range now.Records {
			if r.Cert != nil && slices.Contains(s.revoked, r.Cert.SerialNumber.Text(16)) {
				t.Errorf("%s: %v is still in the list", slot, r.Role)
			}
		}
	}
	// If phones would be lost it is an administrator's decision.
	s.device("SEP001122334455")
	s.fetch("ITLSEP001122334455.tlv", "SEP001122334455", true)
	for _, r := range s.fetch("ITLFile.tlv", "", false).Records {
		if r.Role == trustlist.SAST {
			s.revoked = append(s.revoked, r.Cert.SerialNumber.Text(16))
		}
	}
	was := version(s.Publisher)
	wantKind(t, errors.Join(s.Maintain(t.Context()), s.Maintain(t.Context())), ringfence.KindConflict, "would be lost")
	if version(s.Publisher) > was+1 {
		t.Error("phones were lost")
	}
	// While one of two is revoked, the other signs.
	s = newSite(t)
	ok(t, s.Present(t.Context(), cert))
	l := s.fetch("ITLFile.tlv", "", false)
	bad1, err := l.VerifyBy(l.Signers())
	ok(t, err)
	s.revoked = []string{bad1.SerialNumber.Text(16)}
	ok(t, s.Present(t.Context(), s.nodeCert("node-1")))
	if by, err := s.fetch("ITLFile.tlv", "", false).VerifyBy(l.Signers()); err != nil || by.Equal(bad1) {
		t.Errorf("signed by %v, %v", by, err)
	}
}
