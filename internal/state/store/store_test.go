package store

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"ringfence"
	"ringfence/internal/testkit"
)

// place is where a test's database lives; the same suite runs on every place.
type testPlace struct {
	name string
	dsn  func(t testing.TB) string
}

func places(t testing.TB, pgArgs ...string) []testPlace {
	pg := testkit.NewPostgres(t, pgArgs...)
	return []testPlace{
		{"sqlite", func(t testing.TB) string { return "sqlite:" + filepath.Join(t.TempDir(), "a b%20?#.db") }},
		{"postgres", pg.DSN},
	}
}

func open(t testing.TB, c Config) *Store {
	t.Helper()
	s, err := Open(context.Background(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func config(t testing.TB, p testPlace) Config {
	return Config{DSN: p.dsn(t), KeyFile: filepath.Join(t.TempDir(), "seal.key"), BusyTimeout: 300 * time.Millisecond}
}

// TestStore runs every check of the suite on SQLite and on PostgreSQL.
func TestStore(t *testing.T) {
	suite := []struct {
		name string
		run  func(*testing.T, *Store)
	}{
		{"users", checkUsers}, {"devices", checkDevices}, {"digest", checkDigest}, {"activation", checkActivation},
		{"activation race", checkActivationRace}, {"certificates", checkCertificates}, {"bindings", checkBindings},
		{"versions", checkVersions}, {"cdrs", checkCDRs}, {"call journal", checkCallJournal}, {"audit", checkAudit}, {"tokens", checkTokens}, {"grants", checkGrants}, {"trust lists", checkTrustLists}, {"CAPF orders", checkCAPF}, {"documents", checkDocuments}, {"settings", checkSettings}, {"leases", checkLeases},
		{"secrets", checkSecrets}, {"exceptions", checkExceptions}, {"tx", checkTx}, {"tx counter", checkTxCounter},
		{"text", checkText0}, {"cancel", checkCancel}, {"moved seal", checkMovedSeal},
	}
	for _, p := range places(t, "fsync=off") {
		t.Run(p.name, func(t *testing.T) {
			for _, c := range suite {
				t.Run(c.name, func(t *testing.T) { c.run(t, open(t, config(t, p))) })
			}
			t.Run("reopen", func(t *testing.T) { checkReopen(t, config(t, p)) })
			t.Run("locked", func(t *testing.T) { checkLocked(t, config(t, p)) })
			t.Run("newer", func(t *testing.T) { checkNewer(t, config(t, p)) })
			t.Run("together", func(t *testing.T) { checkTogether(t, config(t, p)) })
		})
	}
}

func ctx() context.Context { return context.Background() }

func noErr(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%v (hint: %s)", err, ringfence.HintOf(err))
	}
}

func wantKind(t *testing.T, err error, k ringfence.Kind) {
	t.Helper()
	if _, ok := errors.AsType[*ringfence.Fault](err); !ok || ringfence.KindOf(err) != k {
		t.Fatalf("got %v (%v), want a fault of kind %v", err, ringfence.KindOf(err), k)
	}
}

func same(t *testing.T, got, want any) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("\n got %+v\nwant %+v", got, want)
	}
}

func at(sec int) time.Time { return time.Date(2026, 1, 2, 3, 4, sec, 567000, time.UTC) }

func alice() User {
	return User{ID: "alice", Name: "Alice Ü", Numbers: []ringfence.Number{"+4930111", "100"}, Voicemail: true, DoNotDisturb: true, TollClass: "national",
		Forward: Forwarding{Always: "1", Busy: "2", NoAnswer: "3", Unreachable: "4", NoAnswerAfter: 20 * time.Second}}
}

func addAlice(t *testing.T, s *Store, devices ...ringfence.DeviceID) {
	t.Helper()
	noErr(t, s.CreateUser(ctx(), alice()))
	for _, d := range devices {
		noErr(t, s.CreateDevice(ctx(), Device{ID: d, User: "alice", Kind: "softphone", Created: at(0)}))
	}
}

func checkUsers(t *testing.T, s *Store) {
	a := alice()
	hash, err := HashPIN("4711")
	noErr(t, err)
	a.PINHash = hash
	noErr(t, s.CreateUser(ctx(), a))
	wantKind(t, s.CreateUser(ctx(), a), ringfence.KindConflict)
	wantKind(t, s.CreateUser(ctx(), User{ID: "bob", Numbers: []ringfence.Number{"7", "100"}}), ringfence.KindConflict)
	_, err = s.User(ctx(), "bob") // all or nothing
	wantKind(t, err, ringfence.KindNotFound)
	noErr(t, s.CreateUser(ctx(), User{ID: "bob", Numbers: []ringfence.Number{"7"}}))
	got, err := s.User(ctx(), "alice")
	noErr(t, err)
	same(t, got, a)
	got, err = s.UserByNumber(ctx(), "+4930111")
	noErr(t, err)
	same(t, got, a)
	all, err := s.Users(ctx(), "", 10)
	noErr(t, err)
	same(t, all, []User{a, {ID: "bob", Numbers: []ringfence.Number{"7"}}})
	all, err = s.Users(ctx(), "alice", 10)
	noErr(t, err)
	same(t, len(all), 1)
	a.Numbers, a.DoNotDisturb = []ringfence.Number{"200"}, false
	noErr(t, s.UpdateUser(ctx(), a))
	got, err = s.User(ctx(), "alice")
	noErr(t, err)
	same(t, got, a)
	_, err = s.UserByNumber(ctx(), "100")
	wantKind(t, err, ringfence.KindNotFound)
	wantKind(t, s.UpdateUser(ctx(), User{ID: "carol"}), ringfence.KindNotFound)
	wantKind(t, s.CreateUser(ctx(), User{ID: "dan", Forward: Forwarding{NoAnswerAfter: -time.Second}}), ringfence.KindInvalid)
	noErr(t, s.DeleteUser(ctx(), "alice"))
	wantKind(t, s.DeleteUser(ctx(), "alice"), ringfence.KindNotFound)
	_, err = s.UserByNumber(ctx(), "200")
	wantKind(t, err, ringfence.KindNotFound)
}

func checkDevices(t *testing.T, s *Store) {
	d := Device{ID: "alice-desk", User: "alice", Kind: "desk", State: DeviceActive, Created: at(1), Profile: DeviceProfile{
		Auth: []ringfence.Auth{ringfence.AuthCertificate, ringfence.AuthDigestMD5}, Plain: &PlainException{Until: at(9), Reason: "old firmware"}}}
	wantKind(t, s.CreateDevice(ctx(), d), ringfence.KindInvalid) // no such user
	addAlice(t, s)
	noErr(t, s.CreateDevice(ctx(), d))
	wantKind(t, s.CreateDevice(ctx(), d), ringfence.KindConflict)
	got, err := s.Device(ctx(), "alice-desk")
	noErr(t, err)
	same(t, got, d)
	d.State, d.Profile = DeviceRevoked, DeviceProfile{}
	noErr(t, s.UpdateDevice(ctx(), d))
	list, err := s.DevicesOf(ctx(), "alice")
	noErr(t, err)
	same(t, list, []Device{d})
	d.State = "asleep"
	wantKind(t, s.UpdateDevice(ctx(), d), ringfence.KindInvalid)
	noErr(t, s.DeleteUser(ctx(), "alice"))
	list, err = s.Devices(ctx(), "", 5)
	noErr(t, err)
	same(t, len(list), 0)
}

func checkDigest(t *testing.T, s *Store) {
	addAlice(t, s, "d1", "d2")
	d := DigestSecret{Device: "d1", Username: "alice", Realm: "example.com", Algorithm: ringfence.AuthDigestSHA256, HA1: []byte(strings.Repeat("k", 32))}
	noErr(t, s.PutDigestSecret(ctx(), d))
	got, err := s.DigestSecret(ctx(), "alice", "example.com", ringfence.AuthDigestSHA256)
	noErr(t, err)
	same(t, got, d)
	d.HA1 = []byte(strings.Repeat("n", 32))
	noErr(t, s.PutDigestSecret(ctx(), d))
	got, err = s.DigestSecret(ctx(), "alice", "example.com", ringfence.AuthDigestSHA256)
	noErr(t, err)
	same(t, got, d)
	other := d
	other.Device = "d2"
	wantKind(t, s.PutDigestSecret(ctx(), other), ringfence.KindConflict)
	other.HA1 = other.HA1[:16]
	wantKind(t, s.PutDigestSecret(ctx(), other), ringfence.KindInvalid)
	n, err := s.DeleteDigestSecrets(ctx(), "d1")
	noErr(t, err)
	same(t, n, 1)
	_, err = s.DigestSecret(ctx(), "alice", "example.com", ringfence.AuthDigestSHA256)
	wantKind(t, err, ringfence.KindNotFound)
}

func activation(lookup string, d ringfence.DeviceID) Activation {
	return Activation{Lookup: lookup, Device: d, Verifier: []byte("verifier"), Salt: []byte("salt"), Params: "p", Expires: at(30), AttemptsLeft: 2}
}

func checkActivation(t *testing.T, s *Store) {
	addAlice(t, s, "d1", "d2")
	a := activation("1234", "d1")
	noErr(t, s.CreateActivation(ctx(), a, at(0)))
	got, err := s.Activation(ctx(), "1234")
	noErr(t, err)
	same(t, got, a)
	wantKind(t, s.CreateActivation(ctx(), activation("1234", "d2"), at(0)), ringfence.KindConflict)
	wantKind(t, s.UseActivation(ctx(), "1234", "d2", at(1)), ringfence.KindConflict)
	wantKind(t, s.UseActivation(ctx(), "1234", "d1", at(30)), ringfence.KindConflict) // expired
	noErr(t, s.UseActivation(ctx(), "1234", "d1", at(1)))
	wantKind(t, s.UseActivation(ctx(), "1234", "d1", at(1)), ringfence.KindConflict)
	noErr(t, s.ReleaseActivation(ctx(), "1234", "d1", at(1)))
	wantKind(t, s.ReleaseActivation(ctx(), "1234", "d1", at(1)), ringfence.KindNotFound)
	for _, want := range []bool{true, true, false} {
		ok, err := s.SpendAttempt(ctx(), "1234")
		noErr(t, err)
		same(t, ok, want)
	}
	got, err = s.Activation(ctx(), "1234")
	noErr(t, err)
	if got.AttemptsLeft != 0 || got.Live(at(1)) {
		t.Fatalf("still live: %+v", got)
	}
	noErr(t, s.CreateActivation(ctx(), activation("1234", "d2"), at(1))) // a dead lookup is taken over
	noErr(t, s.CreateActivation(ctx(), activation("9999", "d2"), at(1))) // and withdrawn by a newer code
	_, err = s.Activation(ctx(), "1234")
	wantKind(t, err, ringfence.KindNotFound)
	n, err := s.PurgeActivations(ctx(), at(31))
	noErr(t, err)
	same(t, n, 1)
}

func checkActivationRace(t *testing.T, s *Store) {
	addAlice(t, s, "d1")
	noErr(t, s.CreateActivation(ctx(), activation("1234", "d1"), at(0)))
	var wg sync.WaitGroup
	won := make(chan error, 16)
	for range cap(won) {
		wg.Go(func() { won <- s.UseActivation(ctx(), "1234", "d1", at(1)) })
	}
	wg.Wait()
	close(won)
	n := 0
	for err := range won {
		if err == nil {
			n++
			continue
		}
		wantKind(t, err, ringfence.KindConflict)
	}
	same(t, n, 1)
}

func checkCertificates(t *testing.T, s *Store) {
	c := Certificate{Serial: "ab12", Subject: "CN=d1,O=Example", Role: "device", Name: "d1", Device: "d1", NotBefore: at(0), NotAfter: at(40), PEM: "pem"}
	entry := AuditEntry{At: at(0), Who: "ca", What: "certificate.issue", Target: "ab12", Outcome: "done"}
	noErr(t, s.RecordCertificate(ctx(), c, entry))
	wantKind(t, s.RecordCertificate(ctx(), c, entry), ringfence.KindConflict)
	wantKind(t, s.RevokeCertificate(ctx(), "cd", at(5), "lost", entry), ringfence.KindNotFound)
	noErr(t, s.RevokeCertificate(ctx(), "ab12", at(5), "lost", entry))
	wantKind(t, s.RevokeCertificate(ctx(), "ab12", at(6), "again", entry), ringfence.KindConflict)
	c.RevokedAt, c.Reason = at(5), "lost"
	got, err := s.Certificate(ctx(), "ab12")
	noErr(t, err)
	same(t, got, c)
	for _, when := range []struct{ sec, want int }{{39, 1}, {40, 0}} {
		list, err := s.RevokedCertificates(ctx(), at(when.sec))
		noErr(t, err)
		same(t, len(list), when.want)
	}
	list, err := s.CertificatesOf(ctx(), "d1")
	noErr(t, err)
	same(t, list, []Certificate{c})
	list, err = s.Certificates(ctx(), "ab12", 5)
	noErr(t, err)
	same(t, len(list), 0)
	log, err := s.Audit(ctx(), 0, 10)
	noErr(t, err)
	same(t, len(log), 2) // one for each act that took place
	for i, d := range []Certificate{{Serial: "b1", Role: "trunk", Name: "t1", NotAfter: at(40)}, {Serial: "b2", Role: "trunk", Name: "t1", NotAfter: at(60)}, {Serial: "b3", Role: "trunk", Name: "t2", NotAfter: at(10)}} {
		d.NotBefore = at(i)
		noErr(t, s.RecordCertificate(ctx(), d, entry))
	}
	find := func(f CertificateFilter) (serials string) {
		t.Helper()
		f.Now, f.Limit = at(20), 10
		list, err := s.FindCertificates(ctx(), f)
		noErr(t, err)
		for _, c := range list {
			serials += c.Serial + " "
		}
		return serials
	}
	same(t, find(CertificateFilter{}), "ab12 b1 b2 b3 ")
	same(t, find(CertificateFilter{After: "b1"}), "b2 b3 ")
	same(t, find(CertificateFilter{State: "live"}), "b1 b2 ")
	same(t, find(CertificateFilter{State: "expired"}), "b3 ")
	same(t, find(CertificateFilter{State: "revoked", Role: "device"}), "ab12 ")
	same(t, find(CertificateFilter{Role: "trunk", Name: "t2"}), "b3 ")
	counts, err := s.CountCertificates(ctx(), at(20))
	noErr(t, err)
	same(t, counts, []CertificateCount{{Role: "device", Revoked: 1}, {Role: "trunk", Live: 2, Expired: 1}})
	last, err := s.LastCertificates(ctx(), at(20))
	noErr(t, err)
	same(t, last, []LastCertificate{{Role: "trunk", Name: "t1", NotAfter: at(60)}})
}

func binding(i int) Binding {
	return Binding{AOR: fmt.Sprintf("sip:u%d@example.com", i%7), Device: "d1", Instance: fmt.Sprintf("urn:uuid:%d", i), RegID: 1,
		Contact: fmt.Sprintf("sip:u@192.0.2.1:%d;transport=tls", i), Path: []string{"<sip:edge;lr>"}, FlowToken: "f", CallID: "c", CSeq: 4294967295, Expires: at(30),
		GRUU: "g", UserAgent: "UA", Updated: at(1), Proof: ringfence.Proof{ID: "p", Verdict: ringfence.Sealed, At: at(1),
			TLS: &ringfence.TLSProof{Version: "TLS 1.3", Suite: "TLS_AES_128_GCM_SHA256", Group: "X25519MLKEM768", PeerSubject: "CN=d1"}}}
}

func checkBindings(t *testing.T, s *Store) {
	var many []Binding
	for i := range 1001 {
		many = append(many, binding(i))
	}
	noErr(t, s.PutBindings(ctx(), many))
	seen := map[BindingKey]Binding{}
	noErr(t, s.AllBindings(ctx(), at(2), func(b Binding) error { seen[b.Key()] = b; return nil }))
	same(t, len(seen), 1001)
	for _, b := range many {
		same(t, seen[b.Key()], b)
	}
	b := binding(0)
	b.Contact = "sip:new@192.0.2.2"
	old := binding(0)
	old.Contact = "sip:old@192.0.2.2"
	noErr(t, s.PutBindings(ctx(), []Binding{old, b})) // the later one of a key wins
	list, err := s.Bindings(ctx(), b.AOR, at(2))
	noErr(t, err)
	same(t, len(list), 143)
	found := false
	for _, x := range list {
		found = found || reflect.DeepEqual(x, b)
	}
	same(t, found, true)
	list, err = s.Bindings(ctx(), b.AOR, at(30))
	noErr(t, err)
	same(t, len(list), 0)

	bad := []Binding{binding(5000), {AOR: "x"}}
	wantKind(t, s.PutBindings(ctx(), bad), ringfence.KindInvalid)
	plain := Binding{AOR: "sip:z@example.com", Contact: "sip:z@192.0.2.9", Expires: at(30), Device: "d2"}
	noErr(t, s.ApplyBindings(ctx(), []Binding{plain}, []BindingKey{b.Key(), {"nobody", "c:x"}}))
	list, err = s.Bindings(ctx(), b.AOR, at(2))
	noErr(t, err)
	same(t, len(list), 142)
	stop := errors.New("enough")
	if err := s.AllBindings(ctx(), at(2), func(Binding) error { return stop }); err != stop {
		t.Fatalf("got %v", err)
	}
	n, err := s.DeleteBindingsOf(ctx(), "d1")
	noErr(t, err)
	same(t, n, 1000)
	early := plain
	early.Contact, early.Expires = "sip:early@192.0.2.9", at(10)
	noErr(t, s.PutBindings(ctx(), []Binding{early}))
	noErr(t, s.ExpireBindings(ctx(), []BindingKey{plain.Key(), early.Key(), {"nobody", "c:x"}}, at(20)))
	list, err = s.Bindings(ctx(), plain.AOR, at(0))
	noErr(t, err)
	same(t, list, []Binding{plain})
	n, err = s.PurgeBindings(ctx(), at(30))
	noErr(t, err)
	same(t, n, 1)
}

func checkVersions(t *testing.T, s *Store) {
	_, err := s.ConfigVersion(ctx(), 0)
	wantKind(t, err, ringfence.KindNotFound)
	v := ConfigVersion{N: 1, YAML: "a: 1\n", Author: "alice", At: at(1), Note: "first"}
	noErr(t, s.AddConfigVersion(ctx(), v))
	wantKind(t, s.AddConfigVersion(ctx(), v), ringfence.KindConflict)
	v3 := v
	v3.N = 3
	wantKind(t, s.AddConfigVersion(ctx(), v3), ringfence.KindConflict)
	v2 := v
	v2.N = 2
	noErr(t, s.AddConfigVersion(ctx(), v2))
	got, err := s.ConfigVersion(ctx(), 0)
	noErr(t, err)
	same(t, got, v2)
	got, err = s.ConfigVersion(ctx(), 1)
	noErr(t, err)
	same(t, got, v)
	// Another node's are told apart; those that say no node are anybody's.
	v3.Node = "node-2"
	noErr(t, s.AddConfigVersion(ctx(), v3))
	list, err := s.ConfigVersions(ctx(), "node-1", 5)
	noErr(t, err)
	same(t, list, []ConfigVersion{v2, v})
	list, err = s.ConfigVersions(ctx(), "node-2", 2)
	noErr(t, err)
	same(t, list, []ConfigVersion{v3, v2})
	for before, want := range map[int64]ConfigVersion{0: v2, 3: v2, 2: v} {
		got, err = s.ConfigVersionBefore(ctx(), "node-1", before)
		noErr(t, err)
		same(t, got, want)
	}
	got, err = s.ConfigVersionBefore(ctx(), "node-2", 0)
	noErr(t, err)
	same(t, got, v3)
	_, err = s.ConfigVersionBefore(ctx(), "node-1", 1)
	wantKind(t, err, ringfence.KindNotFound)
	v4, v5 := v3, v3
	v4.N, v4.Node, v5.N = 4, "node-1", 5
	noErr(t, s.AddConfigVersion(ctx(), v4))
	noErr(t, s.AddConfigVersion(ctx(), v5))
	list, err = s.LatestConfigVersions(ctx())
	noErr(t, err)
	same(t, list, []ConfigVersion{v4, v5})
}

func checkCDRs(t *testing.T, s *Store) {
	c := CDR{Call: "c1", Start: at(1), End: at(9), From: "100", To: "200", Direction: "internal", Cause: "normal", Verdict: ringfence.Sealed,
		Legs: []ringfence.Proof{{ID: "c1-a", Verdict: ringfence.Sealed, At: at(2), Media: &ringfence.MediaProof{Suite: "AEAD_AES_256_GCM", MOS: 4.4}}}}
	noErr(t, s.KeepCDRs(ctx(), []CDR{c}))
	again := c
	again.Cause = "the first record of a call stays"
	noErr(t, s.KeepCDRs(ctx(), []CDR{again}))
	got, err := s.CDR(ctx(), "c1")
	noErr(t, err)
	same(t, got, c)
	for _, r := range []struct {
		from, to time.Time
		want     int
	}{{at(1), time.Time{}, 1}, {at(0), at(1), 0}, {at(2), time.Time{}, 0}, {at(0), at(2), 1}} {
		list, err := s.CDRs(ctx(), r.from, r.to, 5)
		noErr(t, err)
		same(t, len(list), r.want)
	}
	// Records of before had the proof as JSON; what is damaged is said.
	_, err = s.writer.ExecContext(ctx(), `UPDATE cdrs SET legs='[{"id":"old","peer":"","verdict":"sealed","at":"2026-01-02T03:04:05Z"}]', proofs=NULL`)
	noErr(t, err)
	got, err = s.CDR(ctx(), "c1")
	noErr(t, err)
	same(t, got.Legs, []ringfence.Proof{{ID: "old", Verdict: ringfence.Sealed, At: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}})
	for _, bad := range [][]byte{{2, 0}, {0, 0}} {
		_, err = s.writer.ExecContext(ctx(), `UPDATE cdrs SET proofs=$1`, bad)
		noErr(t, err)
		_, err = s.CDR(ctx(), "c1")
		wantKind(t, err, ringfence.KindInternal)
	}
	wantKind(t, s.KeepCDRs(ctx(), []CDR{{Call: "c3", Legs: make([]ringfence.Proof, maxRecordList+1)}}), ringfence.KindInvalid)
	// Many at once: all of them or none.
	many := make([]CDR, 500)
	for i := range many {
		many[i] = CDR{Call: ringfence.CallID(fmt.Sprint("m", i)), Start: at(1), End: at(2), Verdict: ringfence.Sealed}
	}
	noErr(t, s.KeepCDRs(ctx(), nil))
	bad := CDR{Call: "bad", Start: at(1), End: at(2), Cause: "a zero byte \x00"}
	wantKind(t, s.KeepCDRs(ctx(), append(many[:20:20], bad)), ringfence.KindInvalid)
	_, err = s.CDR(ctx(), "m0")
	wantKind(t, err, ringfence.KindNotFound)
	noErr(t, s.KeepCDRs(ctx(), many))
	n, err := s.PurgeCDRs(ctx(), at(2))
	noErr(t, err)
	same(t, n, 501)
}

func checkAudit(t *testing.T, s *Store) {
	for i := range 3 {
		noErr(t, s.AppendAudit(ctx(), AuditEntry{At: at(i), Who: "w", What: fmt.Sprint(i), Target: "t", Outcome: "done"}))
	}
	list, err := s.Audit(ctx(), 0, 2)
	noErr(t, err)
	same(t, []string{list[0].What, list[1].What}, []string{"2", "1"})
	list, err = s.Audit(ctx(), list[1].ID, 5)
	noErr(t, err)
	same(t, len(list), 1)
	for _, q := range []string{`UPDATE audit SET who='x'`, `DELETE FROM audit`} {
		_, err = s.exec(ctx(), "test", q)
		wantKind(t, err, ringfence.KindInvalid)
	}
	list, err = s.Audit(ctx(), 0, 5)
	noErr(t, err)
	same(t, len(list), 3)
}

func checkTokens(t *testing.T, s *Store) {
	tok := Token{ID: "t1", Hash: HashToken("secret"), Name: "backup", Scopes: []string{"read"}, Expires: at(9)}
	noErr(t, s.CreateToken(ctx(), tok))
	wantKind(t, s.CreateToken(ctx(), Token{ID: "t2", Hash: tok.Hash}), ringfence.KindConflict)
	wantKind(t, s.CreateToken(ctx(), Token{ID: "t2", Hash: "secret"}), ringfence.KindInvalid)
	got, err := s.TokenByHash(ctx(), HashToken("secret"), at(8))
	noErr(t, err)
	same(t, got, tok)
	_, err = s.TokenByHash(ctx(), HashToken("secret"), at(9))
	wantKind(t, err, ringfence.KindNotFound)
	list, err := s.Tokens(ctx())
	noErr(t, err)
	same(t, list, []Token{tok})
	noErr(t, s.DeleteToken(ctx(), "t1"))
	wantKind(t, s.DeleteToken(ctx(), "t1"), ringfence.KindNotFound)
}

func checkGrants(t *testing.T, s *Store) {
	noErr(t, s.CreateUser(ctx(), User{ID: "u"}))
	noErr(t, s.CreateDevice(ctx(), Device{ID: "d", User: "u"}))
	noErr(t, s.CreateDevice(ctx(), Device{ID: "e", User: "u"}))
	g := Grant{ID: "g1", Device: "d", Client: "phone", Scope: "sip", Refresh: HashToken("1"), Created: at(1), Used: at(1), Expires: at(100)}
	noErr(t, s.CreateGrant(ctx(), g))
	wantKind(t, s.CreateGrant(ctx(), g), ringfence.KindConflict)
	wantKind(t, s.CreateGrant(ctx(), Grant{ID: "g2", Device: "nobody", Refresh: HashToken("x")}), ringfence.KindInvalid)
	noErr(t, s.CreateGrant(ctx(), Grant{ID: "g2", Device: "e", Client: "phone", Refresh: HashToken("x"), Created: at(2), Expires: at(50)}))
	noErr(t, s.RotateGrant(ctx(), "g1", HashToken("1"), HashToken("2"), at(3)))
	wantKind(t, s.RotateGrant(ctx(), "g1", HashToken("1"), HashToken("3"), at(3)), ringfence.KindConflict)
	wantKind(t, s.RotateGrant(ctx(), "g1", HashToken("2"), HashToken("3"), at(100)), ringfence.KindConflict)
	for _, secret := range []string{"1", "2"} {
		got, err := s.GrantByRefresh(ctx(), HashToken(secret))
		noErr(t, err)
		same(t, got.ID, "g1")
		same(t, got.Used, at(3))
	}
	_, err := s.GrantByRefresh(ctx(), "")
	wantKind(t, err, ringfence.KindNotFound)
	all, err := s.Grants(ctx(), "")
	noErr(t, err)
	same(t, len(all), 2)
	same(t, all[0].ID, "g2")
	all, err = s.Grants(ctx(), "d")
	noErr(t, err)
	same(t, len(all), 1)
	noErr(t, s.RevokeGrant(ctx(), "g1", at(4)))
	noErr(t, s.RevokeGrant(ctx(), "g1", at(5)))
	wantKind(t, s.RevokeGrant(ctx(), "nothing", at(5)), ringfence.KindNotFound)
	got, err := s.Grant(ctx(), "g1")
	noErr(t, err)
	same(t, got.Revoked, at(4))
	same(t, got.Holds(at(4)), false)
	wantKind(t, s.RotateGrant(ctx(), "g1", HashToken("2"), HashToken("3"), at(6)), ringfence.KindConflict)
	n, err := s.PurgeGrants(ctx(), at(10))
	noErr(t, err)
	same(t, n, 1)
	noErr(t, s.DeleteDevice(ctx(), "e"))
	_, err = s.Grant(ctx(), "g2")
	wantKind(t, err, ringfence.KindNotFound)
}

func checkTrustLists(t *testing.T, s *Store) {
	noErr(t, s.CreateUser(ctx(), User{ID: "lists"}))
	noErr(t, s.CreateDevice(ctx(), Device{ID: "SEP1", User: "lists"}))
	_, err := s.TrustList(ctx(), 0)
	wantKind(t, err, ringfence.KindNotFound)
	for v := int64(1); v <= 3; v++ {
		noErr(t, s.AddTrustList(ctx(), TrustList{Version: v, ITL: []byte{0, byte(v)}, CTL: []byte{1, byte(v)}, JSON: []byte("a.b.c"), Made: at(int(v)), Note: "why"}))
	}
	wantKind(t, s.AddTrustList(ctx(), TrustList{Version: 3}), ringfence.KindConflict)
	l, err := s.TrustList(ctx(), 0)
	noErr(t, err)
	same(t, l, TrustList{Version: 3, ITL: []byte{0, 3}, CTL: []byte{1, 3}, JSON: []byte("a.b.c"), Made: at(3), Note: "why"})
	h := ListHolder{Device: "SEP1", Kind: "itl", Version: 2, Fetched: at(5), Proved: true}
	noErr(t, s.HoldList(ctx(), h))
	noErr(t, s.HoldList(ctx(), ListHolder{Device: "SEP1", Kind: "itl", Version: 1, Fetched: at(6)})) // a claim without proof that it went back
	noErr(t, s.HoldList(ctx(), ListHolder{Device: "SEP1", Kind: "itl", Version: 3, Fetched: at(6)})) // or that it has a newer one
	wantKind(t, s.HoldList(ctx(), ListHolder{Device: "nobody", Kind: "itl", Version: 1, Fetched: at(6)}), ringfence.KindInvalid)
	all, err := s.ListHolders(ctx())
	noErr(t, err)
	same(t, all, []ListHolder{h})
	n, err := s.PurgeTrustLists(ctx(), 3)
	noErr(t, err)
	same(t, n, 1) // the second is held
	noErr(t, s.DeleteDevice(ctx(), "SEP1"))
	all, err = s.ListHolders(ctx())
	noErr(t, err)
	same(t, len(all), 0)
}

func checkCAPF(t *testing.T, s *Store) {
	noErr(t, s.CreateUser(ctx(), User{ID: "capf"}))
	noErr(t, s.CreateDevice(ctx(), Device{ID: "sep1", User: "capf"}))
	o := CAPFOrder{ID: "o1", Device: "sep1", Operation: "Install/Upgrade", Auth: "By Authentication String", String: "1234", Key: "ec-p256", CompletesBy: at(100), Attempts: 2, CAPFOutcome: CAPFOutcome{Status: "Operation Pending"}}
	noErr(t, s.AddCAPFOrder(ctx(), o, at(1)))
	o.ID = "o2"
	noErr(t, s.AddCAPFOrder(ctx(), o, at(2))) // in the place of the first
	got, err := s.OpenCAPFOrder(ctx(), "sep1")
	noErr(t, err)
	o.Open, o.Created, o.Certificate = true, at(2), []byte{}
	same(t, got, o)
	var sealed string
	noErr(t, s.reader.QueryRowContext(ctx(), `SELECT secret FROM capf_orders WHERE id='o2'`).Scan(&sealed))
	if strings.Contains(sealed, "1234") || sealed == "" {
		t.Error("the string is not sealed")
	}
	for _, want := range []struct {
		left int
		ok   bool
	}{{1, true}, {0, true}, {0, false}} {
		left, ok, err := s.SpendCAPFAttempt(ctx(), "o2")
		noErr(t, err)
		same(t, left, want.left)
		same(t, ok, want.ok)
	}
	noErr(t, s.RefuseCAPFOrder(ctx(), "o2", CAPFOutcome{Status: "Operation Pending", Reason: "wrong string", At: at(3), Source: "192.0.2.1"}, true))
	orphan, err := s.ClaimCAPFOrder(ctx(), "o2", "s1", at(10), at(4))
	noErr(t, err)
	same(t, orphan, "")
	noErr(t, s.RefuseCAPFOrder(ctx(), "o2", CAPFOutcome{Status: "Upgrade Failed"}, false)) // does nothing
	wantKind(t, s.AddCAPFOrder(ctx(), CAPFOrder{ID: "o3", Device: "sep1"}, at(5)), ringfence.KindConflict)
	_, err = s.ClaimCAPFOrder(ctx(), "o2", "s2", at(10), at(9))
	wantKind(t, err, ringfence.KindConflict)
	noErr(t, s.NoteCAPFIssued(ctx(), "o2", "s1", "aa"))
	wantKind(t, s.NoteCAPFIssued(ctx(), "o2", "s2", "bb"), ringfence.KindConflict)
	stale, err := s.StaleCAPFOrders(ctx(), at(9))
	noErr(t, err)
	same(t, len(stale), 0)
	stale, err = s.StaleCAPFOrders(ctx(), at(10))
	noErr(t, err)
	same(t, len(stale), 1)
	same(t, stale[0].Issued, "aa")
	orphan, err = s.ClaimCAPFOrder(ctx(), "o2", "s2", at(20), at(11))
	noErr(t, err)
	same(t, orphan, "aa")
	done := CAPFOutcome{Status: "Upgrade Success", At: at(12), Source: "192.0.2.1", Serial: "bb", Certificate: []byte{1, 2}}
	wantKind(t, s.RecordCAPFOrder(ctx(), "o2", "s1", done, false), ringfence.KindConflict)
	noErr(t, s.RecordCAPFOrder(ctx(), "o2", "s2", done, false))
	wantKind(t, s.RecordCAPFOrder(ctx(), "o2", "s2", done, false), ringfence.KindConflict)
	_, err = s.OpenCAPFOrder(ctx(), "sep1")
	wantKind(t, err, ringfence.KindNotFound)
	all, err := s.CAPFOrders(ctx(), "", 10)
	noErr(t, err)
	same(t, len(all), 1)
	same(t, all[0].CAPFOutcome, done)
	same(t, all[0].String, "")
	noErr(t, s.AddCAPFOrder(ctx(), CAPFOrder{ID: "o4", Device: "sep1", CompletesBy: at(30)}, at(20)))
	stale, err = s.StaleCAPFOrders(ctx(), at(30))
	noErr(t, err)
	same(t, len(stale), 1)
	noErr(t, s.DeleteDevice(ctx(), "sep1"))
	all, err = s.CAPFOrders(ctx(), "sep1", 10)
	noErr(t, err)
	same(t, len(all), 0)
}

func checkDocuments(t *testing.T, s *Store) {
	d := Document{Kind: "thing", ID: "a", Owner: "o", Tag: "t", State: "open", Until: at(10), Keys: []string{"k1", "k2"}, Body: []byte("hidden")}
	e := Document{Kind: "thing", ID: "b", Owner: "o", State: "done", Body: []byte{}}
	noErr(t, s.CreateDocuments(ctx(), d, e))
	for _, bad := range []Document{{Kind: "thing", ID: "a"}, {Kind: "thing", ID: "c", Keys: []string{"k2"}}} {
		wantKind(t, s.CreateDocuments(ctx(), Document{Kind: "thing", ID: "half"}, bad), ringfence.KindConflict)
	}
	_, err := s.Document(ctx(), "thing", "half")
	wantKind(t, err, ringfence.KindNotFound)
	var body string
	noErr(t, s.reader.QueryRowContext(ctx(), `SELECT body FROM documents WHERE id='a'`).Scan(&body))
	if strings.Contains(body, "hidden") {
		t.Error("a body is not sealed")
	}
	got, err := s.DocumentByKey(ctx(), "thing", "k2")
	noErr(t, err)
	d.Keys = nil
	same(t, got, d)
	d.Keys, d.State = []string{"k3"}, "done"
	noErr(t, s.ReplaceDocument(ctx(), d))
	wantKind(t, s.ReplaceDocument(ctx(), d), ringfence.KindConflict)
	wantKind(t, s.ReplaceDocument(ctx(), Document{Kind: "thing", ID: "none"}), ringfence.KindNotFound)
	_, err = s.DocumentByKey(ctx(), "thing", "k1")
	wantKind(t, err, ringfence.KindNotFound)
	for _, x := range []struct {
		owner, tag, state, after string
		want                     int
	}{{"o", "", "", "", 2}, {"o", "t", "", "", 1}, {"", "", "done", "", 2}, {"o", "", "", "a", 1}, {"p", "", "", "", 0}} {
		all, err := s.Documents(ctx(), "thing", x.owner, x.tag, x.state, x.after, 10)
		noErr(t, err)
		same(t, len(all), x.want)
	}
	n, err := s.ForgetDocuments(ctx(), "thing", at(11))
	noErr(t, err)
	same(t, n, 1)
	noErr(t, s.CreateDocuments(ctx(), Document{Kind: "thing", ID: "again", Keys: []string{"k3"}}))
	noErr(t, s.DeleteDocument(ctx(), "thing", "b"))
	wantKind(t, s.DeleteDocument(ctx(), "thing", "b"), ringfence.KindNotFound)
}

func checkSettings(t *testing.T, s *Store) {
	noErr(t, s.PutSetting(ctx(), "a", "1"))
	noErr(t, s.PutSetting(ctx(), "a", "2"))
	v, err := s.Setting(ctx(), "a")
	noErr(t, err)
	same(t, v, "2")
	noErr(t, s.DeleteSetting(ctx(), "a"))
	_, err = s.Setting(ctx(), "a")
	wantKind(t, err, ringfence.KindNotFound)
}

func checkSecrets(t *testing.T, s *Store) {
	noErr(t, s.CreateSecret(ctx(), "n", []byte("one")))
	wantKind(t, s.CreateSecret(ctx(), "n", []byte("two")), ringfence.KindConflict)
	wantKind(t, s.ReplaceSecret(ctx(), "n", []byte("two"), []byte("three")), ringfence.KindConflict)
	noErr(t, s.ReplaceSecret(ctx(), "n", []byte("one"), []byte("three")))
	v, err := s.Secret(ctx(), "n")
	noErr(t, err)
	same(t, string(v), "three")
	sealed, err := s.sealedSecret(ctx(), "n")
	noErr(t, err)
	if strings.Contains(sealed, "three") {
		t.Fatal("the secret is on disk in the clear")
	}
	noErr(t, s.DeleteSecret(ctx(), "n"))
	wantKind(t, s.ReplaceSecret(ctx(), "n", nil, nil), ringfence.KindNotFound)
}

func checkExceptions(t *testing.T, s *Store) {
	e := Exception{Subject: "device d1", Until: at(9), Reason: "old firmware"}
	noErr(t, s.PutException(ctx(), e))
	wantKind(t, s.PutException(ctx(), Exception{Subject: "x", Reason: "for ever"}), ringfence.KindInvalid)
	list, err := s.Exceptions(ctx(), at(8))
	noErr(t, err)
	same(t, list, []Exception{e})
	list, err = s.Exceptions(ctx(), at(9))
	noErr(t, err)
	same(t, len(list), 0)
	noErr(t, s.DeleteException(ctx(), e.Subject))
	wantKind(t, s.DeleteException(ctx(), e.Subject), ringfence.KindNotFound)
}

func checkTx(t *testing.T, s *Store) {
	stop := errors.New("stop")
	err := s.Tx(ctx(), func(tx *Tx) error {
		noErr(t, tx.CreateUser(ctx(), alice()))
		if _, err := tx.User(ctx(), "alice"); err != nil {
			t.Errorf("a transaction does not see its own write: %v", err)
		}
		if _, err := s.User(ctx(), "alice"); ringfence.KindOf(err) != ringfence.KindNotFound {
			t.Errorf("others see an open transaction: %v", err)
		}
		return stop
	})
	if err != stop {
		t.Fatalf("got %v", err)
	}
	_, err = s.User(ctx(), "alice")
	wantKind(t, err, ringfence.KindNotFound)
	noErr(t, s.Tx(ctx(), func(tx *Tx) error {
		return firstOf(tx.CreateUser(ctx(), alice()), tx.AppendAudit(ctx(), AuditEntry{At: at(0)}))
	}))
	_, err = s.User(ctx(), "alice")
	noErr(t, err)
}

// checkTxCounter adds to one setting from many goroutines by reading and writing it: no addition may be lost.
func checkTxCounter(t *testing.T, s *Store) {
	noErr(t, s.PutSetting(ctx(), "n", ""))
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for done := 0; done < 5; {
				err := s.Tx(ctx(), func(tx *Tx) error {
					v, err := tx.Setting(ctx(), "n")
					if err != nil {
						return err
					}
					return tx.PutSetting(ctx(), "n", v+"x")
				})
				switch {
				case err == nil:
					done++
				case ringfence.KindOf(err) != ringfence.KindOverload:
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	v, err := s.Setting(ctx(), "n")
	noErr(t, err)
	same(t, v, strings.Repeat("x", 20))
}

func checkText0(t *testing.T, s *Store) {
	for _, bad := range []string{"a\x00b", "\xff"} {
		wantKind(t, s.PutSetting(ctx(), bad, ""), ringfence.KindInvalid)
		_, err := s.Setting(ctx(), bad)
		wantKind(t, err, ringfence.KindInvalid)
	}
}

func checkCancel(t *testing.T, s *Store) {
	c, stop := context.WithCancel(ctx())
	stop()
	wantKind(t, s.PutSetting(c, "a", "1"), ringfence.KindCancelled)
	_, err := s.Setting(c, "a")
	wantKind(t, err, ringfence.KindCancelled)
}

// checkMovedSeal moves a sealed value from one row to another behind the store's back.
func checkMovedSeal(t *testing.T, s *Store) {
	noErr(t, s.CreateSecret(ctx(), "a", []byte("one")))
	noErr(t, s.CreateSecret(ctx(), "b", []byte("two")))
	_, err := s.exec(ctx(), "test", `UPDATE secrets SET sealed=(SELECT sealed FROM secrets WHERE name='a') WHERE name='b'`)
	noErr(t, err)
	_, err = s.Secret(ctx(), "b")
	wantKind(t, err, ringfence.KindInvalid)
}
