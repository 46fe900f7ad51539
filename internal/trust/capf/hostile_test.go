package capf

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"math/big"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"ringfence"
	"ringfence/internal/trust/quota"
)

// TestReplay plays a whole recorded session by certificate again: as it was, with the present session id in each message, and with the recorded
// proof before a key of the attacker's.
func TestReplay(t *testing.T) {
	o := newOffice(t)
	want := order(InstallUpgrade)
	want.Auth = ByLSC
	e := o.book.add(phoneName, want)
	near, far := net.Pipe()
	tape := &tapped{Conn: far}
	done := make(chan struct{})
	go func() { defer close(done); _, _ = o.Serve(t.Context(), near) }()
	cl := client()
	proof := o.ours.lsc(t, phoneName, newRSA(t, 2048))
	cl.Proof = &proof
	if _, err := cl.Run(t.Context(), tape); err != nil || e.status != UpgradeSuccess {
		t.Fatal(err)
	}
	<-done
	before := o.ours.standing()

	for name, change := range map[string]func(b []byte, id uint32){
		"as it was": func([]byte, uint32) {},
		"with the id of this session": func(b []byte, id uint32) {
			b[2], b[3], b[4], b[5] = byte(id>>24), byte(id>>16), byte(id>>8), byte(id)
		},
	} {
		e := o.book.add(phoneName, want)
		s := o.script(t)
		go func() {
			for _, b := range tape.sent {
				b = bytes.Clone(b)
				change(b, s.id)
				s.write(b)
			}
		}()
		s.ends(7)
		if s.err == nil || e.status != OperationPending || o.ours.standing() != before || !strings.Contains(e.last.Reason+describe(s.err), "session") {
			t.Errorf("%s: %v %+v", name, s.err, e)
		}
	}
}

// tapped records what is written.
type tapped struct {
	net.Conn
	sent [][]byte
}

func (t *tapped) Write(b []byte) (int, error) {
	t.sent = append(t.sent, bytes.Clone(b))
	return t.Conn.Write(b)
}

// TestUnexpected sends every command in every state. Only one is right, some are allowed, and the others end the session and change nothing.
func TestUnexpected(t *testing.T) {
	o := newOffice(t, func(c *Config) { c.Failures = 10000 })
	key := spki(t, newEC(t).Public())
	reach := map[state]func(*script){
		awaitAuth: func(*script) {},
		awaitKey:  func(s *script) { s.auth("123456"); s.read(cmdKeyRequest) },
		awaitStored: func(s *script) {
			s.auth("123456")
			s.read(cmdKeyRequest)
			s.send(cmdKeyResponse, element{tagPublicKey, key})
			s.read(cmdStoreRequest)
		},
		awaitDeleted: func(s *script) { s.auth("123456"); s.read(cmdDeleteRequest) },
		awaitFetched: func(s *script) { s.auth("123456"); s.read(cmdFetchRequest) },
	}
	for st, walk := range reach {
		right, _ := st.expects()
		for c := range 256 {
			c := command(c)
			if c == right || c == cmdInProgress && st != awaitAuth {
				continue
			}
			op := InstallUpgrade
			switch st {
			case awaitDeleted:
				op = Delete
			case awaitFetched:
				op = Troubleshoot
			}
			e := o.book.add(phoneName, order(op))
			s := o.script(t)
			walk(s)
			want := cmdEnd
			if c == cmdAbortRequest || c == cmdEnd {
				want = cmdAbortResponse
				go s.send(c, byteElement(tagReason, 1))
			} else {
				go s.send(c, byteElement(tagReason, 1), element{tagPublicKey, key})
			}
			s.read(want)
			s.finish()
			if s.err == nil || o.ours.standing() != 0 || e.status != OperationPending || e.claim != "" || s.report.Status == UpgradeSuccess {
				t.Fatalf("%v in state %d: %v %+v", c, st, s.err, e)
			}
		}
	}
	// The right message twice: the second one answers nothing that was asked.
	e := o.book.add(phoneName, order(InstallUpgrade))
	s := o.script(t)
	s.auth("123456")
	s.read(cmdKeyRequest)
	s.send(cmdKeyResponse, element{tagPublicKey, key})
	s.read(cmdStoreRequest)
	go s.send(cmdKeyResponse, element{tagPublicKey, key})
	s.ends(7)
	if s.err == nil || o.ours.standing() != 0 || e.status != OperationPending {
		t.Fatalf("%v %+v", s.err, e)
	}
}

// TestOtherSession sends the right message with the id of another session, in each state.
func TestOtherSession(t *testing.T) {
	o := newOffice(t)
	key := spki(t, newEC(t).Public())
	for n := range 3 {
		e := o.book.add(phoneName, order(InstallUpgrade))
		s := o.script(t)
		right := s.id
		say := func(at int, c command, e ...element) { // a wrong id is refused before the body is read, so nobody waits for that
			if at == n {
				s.id = right ^ 0x80
				go s.send(c, e...)
				return
			}
			s.send(c, e...)
		}
		say(0, cmdAuthResponse, byteElement(tagVersion, 3), textElement(tagPassword, "123456"), textElement(tagDevice, phoneName))
		if n > 0 {
			s.read(cmdKeyRequest)
			say(1, cmdKeyResponse, element{tagPublicKey, key})
		}
		if n > 1 {
			s.read(cmdStoreRequest)
			say(2, cmdStoreResponse, byteElement(tagReason, 1))
		}
		s.ends(7)
		if ringfence.KindOf(s.err) != ringfence.KindInvalid || e.status != OperationPending || o.ours.standing() != 0 || !strings.Contains(s.report.Reason, "another session") {
			t.Errorf("message %d: %v %+v", n, s.err, e)
		}
	}
}

// TestBadServer is what a phone does not take from a server.
func TestBadServer(t *testing.T) {
	frame := func(id uint32, c command, e ...element) []byte {
		b, err := message{command: c, session: id, elements: e}.bytes()
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	hello, ask := frame(1, cmdAuthRequest), frame(1, cmdKeyRequest, byteElement(tagCurve, 0), byteElement(tagKeyType, 1))
	done := frame(1, cmdEnd, byteElement(tagReason, 1))
	foreign := certificateElement(newAuthority(t, "Example", time.Now).lsc(t, phoneName, newEC(t)).Certificate, certLSC)
	for name, in := range map[string][][]byte{
		"another session":           {hello, frame(2, cmdKeyRequest, byteElement(tagCurve, 0), byteElement(tagKeyType, 1)), frame(2, cmdEnd, byteElement(tagReason, 1))},
		"a certificate unasked":     {hello, frame(1, cmdStoreRequest, foreign), done},
		"hello twice":               {hello, hello, done},
		"two keys":                  {hello, ask, ask, done},
		"delete after a key":        {hello, ask, frame(1, cmdDeleteRequest), done},
		"a certificate for others":  {hello, ask, frame(1, cmdStoreRequest, foreign), frame(1, cmdEnd, byteElement(tagReason, 7))},
		"an end without a reason":   {hello, frame(1, cmdEnd)},
		"an end with reason 3":      {hello, frame(1, cmdEnd, byteElement(tagReason, 3))},
		"a weak key":                {hello, frame(1, cmdKeyRequest, shortElement(tagKeySize, 512)), frame(1, cmdEnd, byteElement(tagReason, 7))},
		"a delay that is no number": {frame(1, cmdRetryLater, element{tagRetryDelay, []byte("soon")})},
		"nothing":                   {},
	} {
		p := &pocket{}
		c := client()
		c.Keeper = p
		conn := &canned{in: bytes.NewReader(bytes.Join(in, nil))}
		if r, err := c.Run(t.Context(), conn); err == nil || p.cert != nil || r.Certificate != nil {
			t.Errorf("%s: %+v %v", name, r, err)
		}
	}
	for _, c := range []Client{{}, {Name: "a b", Keeper: &pocket{}}, {Name: phoneName}} {
		if _, err := c.Run(t.Context(), &canned{}); err == nil {
			t.Errorf("%+v runs", c)
		}
	}
}

// TestTimeRunsOut lets the time of an order end while the phone makes its key.
func TestTimeRunsOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOffice(t)
		want := order(InstallUpgrade)
		want.CompletesBy = time.Now().Add(time.Minute)
		e := o.book.add(phoneName, want)
		s := o.script(t)
		s.auth("123456")
		s.read(cmdKeyRequest)
		time.Sleep(time.Minute)
		s.send(cmdKeyResponse, element{tagPublicKey, spki(t, newEC(t).Public())})
		s.ends(7)
		if len(o.ours.signed) != 0 || e.status != UpgradeFailed || !strings.Contains(e.last.Reason, "completed by") {
			t.Fatalf("%+v", e)
		}
	})
}

// TestTruncated cuts the phone's side of a whole session at every byte: the certificate counts only if all of it arrived.
func TestTruncated(t *testing.T) {
	o := newOffice(t)
	key := spki(t, newEC(t).Public())
	for cut := 0; ; cut++ {
		e := o.book.add(phoneName, order(InstallUpgrade))
		s := o.script(t)
		left := cut
		send := func(m message) bool {
			m.session = s.id
			b, err := m.bytes()
			if err != nil {
				t.Fatal(err)
			}
			n := min(left, len(b))
			left -= n
			s.write(b[:n])
			return n == len(b)
		}
		all := send(message{command: cmdAuthResponse, elements: []element{byteElement(tagVersion, 3), textElement(tagPassword, "123456"), textElement(tagDevice, phoneName)}})
		if all {
			s.read(cmdKeyRequest)
			all = send(message{command: cmdKeyResponse, elements: []element{{tagPublicKey, key}}})
		}
		if all {
			s.read(cmdStoreRequest)
			all = send(message{command: cmdStoreResponse, elements: []element{byteElement(tagReason, 1)}})
		}
		if all {
			s.ends(1)
			if s.err != nil || e.status != UpgradeSuccess || o.ours.standing() != 1 {
				t.Fatalf("%v %+v", s.err, e)
			}
			break
		}
		s.finish()
		if s.err == nil || e.status != OperationPending || e.claim != "" || o.ours.standing() != 0 {
			t.Fatalf("cut at %d: %v %+v", cut, s.err, e)
		}
	}
}

// TestPhoneSaysNo is the end of the order, and of the certificate.
func TestPhoneSaysNo(t *testing.T) {
	o := newOffice(t)
	e := o.book.add(phoneName, order(InstallUpgrade))
	c := client()
	c.Keeper = &pocket{fail: errors.New("full")}
	if s := o.meet(t, c); s.err == nil || s.phone == nil || e.status != UpgradeFailed || len(o.ours.signed) != 1 || o.ours.standing() != 0 {
		t.Fatalf("%+v %+v", s, e)
	}
	e = o.book.add(phoneName, order(InstallUpgrade))
	c = client()
	c.Keys = []Key{RSA2048}
	if s := o.meet(t, c); s.err == nil || e.status != UpgradeFailed || len(o.ours.signed) != 1 {
		t.Fatalf("%+v %+v", s, e)
	}
	for name, key := range map[string][]byte{
		"another curve":      spki(t, mustKey(ecdsa.GenerateKey(elliptic.P384(), rand.Reader)).Public()),
		"RSA":                spki(t, newRSA(t, 2048).Public()),
		"RSA exponent three": spki(t, &rsa.PublicKey{N: newRSA(t, 2048).N, E: 3}),
		"RSA even modulus":   spki(t, &rsa.PublicKey{N: new(big.Int).Lsh(big.NewInt(3), 2046), E: 65537}),
	} {
		want := order(InstallUpgrade)
		if strings.HasPrefix(name, "RSA e") {
			want.Key = RSA2048
		}
		e := o.book.add(phoneName, want)
		s := o.script(t)
		s.auth("123456")
		s.read(cmdKeyRequest)
		s.send(cmdKeyResponse, element{tagPublicKey, key})
		s.ends(7)
		if e.status != UpgradeFailed || len(o.ours.signed) != 1 {
			t.Errorf("%s: %v %+v", name, s.err, e)
		}
	}
	// The key that the phone has already is not certified again.
	want := order(InstallUpgrade)
	want.Auth = ByLSC
	k := newEC(t)
	proof := o.ours.lsc(t, phoneName, k)
	e = o.book.add(phoneName, want)
	c = client()
	c.Proof, c.Generate = &proof, func(Key) (crypto.Signer, error) { return k, nil }
	if s := o.meet(t, c); s.err == nil || e.status != UpgradeFailed || len(o.ours.signed) != 2 {
		t.Fatalf("%+v %+v", s, e)
	}
}

func mustKey(k *ecdsa.PrivateKey, err error) *ecdsa.PrivateKey {
	if err != nil {
		panic(err)
	}
	return k
}

// TestWhatFailsBehind has each thing that the server asks of others fail.
func TestWhatFailsBehind(t *testing.T) {
	down := fault("test", ringfence.KindUnavailable, "the database is down", "", nil)
	for _, where := range []string{"Pending", "Claim", "Issued", "Spend"} {
		o := newOffice(t)
		e := o.book.add(phoneName, order(InstallUpgrade))
		o.book.fail[where] = down
		s := o.meet(t, client())
		if s.err == nil || e.status != OperationPending || o.ours.standing() != 0 || s.result.RetryAfter != time.Minute {
			t.Errorf("%s: %+v %+v", where, s, e)
		}
		if !errors.Is(s.err, error(down)) {
			t.Errorf("%s: the cause is lost: %v", where, s.err)
		}
	}
	o := newOffice(t)
	e := o.book.add(phoneName, order(InstallUpgrade))
	o.ours.fail["Issue"] = down
	if s := o.meet(t, client()); s.result.RetryAfter == 0 || e.status != OperationPending {
		t.Errorf("%+v %+v", s, e)
	}
	o.ours.fail["Issue"] = fault("test", ringfence.KindDenied, "the device is revoked", "", nil)
	if s := o.meet(t, client()); s.result.RetryAfter != 0 || e.status != UpgradeFailed || !strings.Contains(e.last.Reason, "the device is revoked") {
		t.Errorf("%+v %+v", s, e)
	}
	// An authority that signs something else is not believed, and what it signed is revoked.
	o.ours.fail = map[string]error{}
	o.ours.bend = func(crypto.PublicKey) crypto.PublicKey { return newEC(t).Public() }
	e = o.book.add(phoneName, order(InstallUpgrade))
	if s := o.meet(t, client()); s.err == nil || e.status != OperationPending || len(o.ours.signed) != 1 || o.ours.standing() != 0 {
		t.Errorf("%+v %+v", s, e)
	}
}

// TestOrphan is a certificate that could not be revoked when its session failed: the next session does it, or the sweep.
func TestOrphan(t *testing.T) {
	for name, c := range map[string]struct{ sweep, revoked bool }{"next session": {}, "sweep": {sweep: true}, "revoked by hand, next session": {revoked: true}, "revoked by hand, sweep": {true, true}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := newOffice(t)
				e := o.book.add(phoneName, order(InstallUpgrade))
				down := fault("test", ringfence.KindUnavailable, "the database is down", "", nil)
				o.ours.fail["Revoke"] = down
				s := o.script(t)
				s.auth("123456")
				s.read(cmdKeyRequest)
				s.send(cmdKeyResponse, element{tagPublicKey, spki(t, newEC(t).Public())})
				s.read(cmdStoreRequest)
				s.finish()
				if s.err == nil || e.claim == "" || e.serial == "" || o.ours.standing() != 1 {
					t.Fatalf("%v %+v", s.err, e)
				}
				cl := client()
				if s := o.meet(t, cl); ringfence.KindOf(s.err) != ringfence.KindConflict || s.result.RetryAfter == 0 || cl.Keeper.Certificate() != nil {
					t.Fatalf("the claim has not run out: %+v", s)
				}
				if err := o.Sweep(t.Context()); err != nil || e.claim == "" {
					t.Fatal("a claim was swept away that has not run out")
				}
				time.Sleep(11 * time.Minute)
				if err := o.Sweep(t.Context()); !errors.Is(err, error(down)) || e.claim == "" || o.ours.standing() != 1 {
					t.Fatalf("the sweep did not say that it could not revoke: %v", err)
				}
				o.ours.fail = map[string]error{}
				if c.revoked {
					if err := o.ours.Revoke(t.Context(), e.serial, "by hand"); err != nil {
						t.Fatal(err)
					}
				}
				if c.sweep {
					if err := o.Sweep(t.Context()); err != nil || e.claim != "" || e.status != OperationPending || o.ours.standing() != 0 {
						t.Fatalf("%v %+v", err, e)
					}
				}
				e.left = 1
				if s := o.meet(t, cl); s.err != nil || e.status != UpgradeSuccess || len(o.ours.signed) != 2 || o.ours.standing() != 1 {
					t.Fatalf("%+v %+v", s, e)
				}
			})
		})
	}
}

// TestRecordFails is a store that fails when the phone has stored the certificate: what counts is what the store took down.
func TestRecordFails(t *testing.T) {
	for _, late := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			o := newOffice(t)
			e := o.book.add(phoneName, order(InstallUpgrade))
			o.book.fail["Record"], o.book.late = fault("test", ringfence.KindUnavailable, "the connection to the database broke", "", nil), late
			if s := o.meet(t, client()); ringfence.KindOf(s.err) != ringfence.KindUnavailable || s.result.RetryAfter != time.Minute || o.ours.standing() != 1 {
				t.Fatalf("%+v", s)
			}
			o.book.fail, o.book.late = map[string]error{}, false
			time.Sleep(11 * time.Minute)
			if err := o.Sweep(t.Context()); err != nil {
				t.Fatal(err)
			}
			if late && (e.status != UpgradeSuccess || o.ours.standing() != 1) || !late && (e.status != OperationPending || o.ours.standing() != 0) {
				t.Fatalf("taken down %v: %+v, %d stand", late, e, o.ours.standing())
			}
		})
	}
	// One that another session has taken over meanwhile is not this one's any more.
	o := newOffice(t)
	o.book.add(phoneName, order(InstallUpgrade))
	o.book.fail["Record"] = fault("test", ringfence.KindConflict, "another session has the order", "", nil)
	if s := o.meet(t, client()); s.err == nil || o.ours.standing() != 0 || len(o.ours.signed) != 1 {
		t.Fatalf("%+v", s)
	}
}

// TestOverdue is an order that no phone came for.
func TestOverdue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOffice(t)
		e := o.book.add(phoneName, order(Delete))
		if err := o.Sweep(t.Context()); err != nil || e.status != OperationPending {
			t.Fatalf("%v %+v", err, e)
		}
		time.Sleep(time.Hour)
		if err := o.Sweep(t.Context()); err != nil || e.status != DeleteFailed || !strings.Contains(e.last.Reason, "completed by") {
			t.Fatalf("%v %+v", err, e)
		}
		o.book.fail["Stale"] = fault("test", ringfence.KindUnavailable, "the database is down", "", nil)
		if err := o.Sweep(t.Context()); err == nil {
			t.Error("the sweep could not look and does not say so")
		}
	})
}

// TestTwoSessionsAtOnce lets two sessions of one device race: one order, one certificate.
func TestTwoSessionsAtOnce(t *testing.T) {
	o := newOffice(t)
	e := o.book.add(phoneName, order(InstallUpgrade))
	first := o.script(t)
	first.auth("123456")
	first.read(cmdKeyRequest)
	c := client()
	if s := o.meet(t, c); ringfence.KindOf(s.err) != ringfence.KindConflict || s.result.RetryAfter != time.Minute || e.claim == "" {
		t.Fatalf("%+v %+v", s, e)
	}
	first.send(cmdKeyResponse, element{tagPublicKey, spki(t, newEC(t).Public())})
	first.read(cmdStoreRequest)
	first.send(cmdStoreResponse, byteElement(tagReason, 1))
	first.ends(1)
	if e.status != UpgradeSuccess || o.ours.standing() != 1 {
		t.Fatalf("%+v", e)
	}
	e = o.book.add(phoneName, order(InstallUpgrade))
	e.left = 20
	var all sync.WaitGroup
	var mu sync.Mutex
	won := 0
	for range 16 {
		all.Go(func() {
			c := client()
			if o.meet(t, c); c.Keeper.Certificate() != nil {
				mu.Lock()
				won++
				mu.Unlock()
			}
		})
	}
	all.Wait()
	if won != 1 || o.ours.standing() != 2 || o.book.look(phoneName).status != UpgradeSuccess {
		t.Fatalf("%d phones have a certificate, %d stand", won, o.ours.standing())
	}
}

func TestSlowPhone(t *testing.T) {
	for name, want := range map[string]time.Duration{"says nothing": 30 * time.Second, "a byte at a time": 30 * time.Second, "thinks about a key": 2 * time.Minute,
		"is at it for ever": 10 * time.Minute, "does not store": 149 * time.Second} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := newOffice(t)
				e := o.book.add(phoneName, order(InstallUpgrade))
				start := time.Now()
				s := o.script(t)
				acted := make(chan struct{})
				go func() {
					defer close(acted)
					switch name {
					case "says nothing":
						return
					case "a byte at a time":
						for _, b := range []byte{0x55, 2, 0, 0, 0, 0, 0, 0x23} {
							s.write([]byte{b})
							time.Sleep(20 * time.Second)
						}
						return
					}
					s.auth("123456")
					s.read(cmdKeyRequest)
					switch name {
					case "is at it for ever":
						for range 30 {
							time.Sleep(100 * time.Second)
							s.send(cmdInProgress)
						}
					case "does not store":
						time.Sleep(119 * time.Second)
						s.send(cmdKeyResponse, element{tagPublicKey, spki(s.t, newEC(s.t).Public())})
						s.read(cmdStoreRequest)
					}
				}()
				<-s.done
				// The goodbye waits for a reader that is not there, for another 30 seconds at most.
				if took := time.Since(start); ringfence.KindOf(s.err) != ringfence.KindTimeout || took < want || took > want+30*time.Second {
					t.Errorf("after %v: %v", took, s.err)
				}
				if o.ours.standing() != 0 || e.status != OperationPending || e.claim != "" {
					t.Errorf("%+v", e)
				}
				s.conn.Close()
				<-acted
			})
		})
	}
	// A phone that does not read cannot hold a session either.
	synctest.Test(t, func(t *testing.T) {
		o := newOffice(t)
		near, far := net.Pipe()
		defer far.Close()
		if _, err := o.Serve(t.Context(), near); ringfence.KindOf(err) != ringfence.KindTimeout {
			t.Error(err)
		}
	})
	// Progress without end, at once.
	o := newOffice(t)
	o.book.add(phoneName, order(InstallUpgrade))
	s := o.script(t)
	s.auth("123456")
	s.read(cmdKeyRequest)
	go func() {
		for range maxProgress + 1 {
			s.send(cmdInProgress)
		}
	}()
	s.ends(7)
	if !strings.Contains(s.err.Error(), "at it") {
		t.Error(s.err)
	}
}

// TestServiceStops is the end of all sessions, and leaves nothing half-way.
func TestServiceStops(t *testing.T) {
	o := newOffice(t)
	e := o.book.add(phoneName, order(InstallUpgrade))
	ctx, cancel := context.WithCancel(t.Context())
	near, far := net.Pipe()
	defer far.Close()
	done := make(chan error, 1)
	go func() {
		_, err := o.Serve(ctx, near)
		done <- err
	}()
	s := &script{t: t, conn: far}
	s.id = s.read(cmdAuthRequest).session
	s.auth("123456")
	s.read(cmdKeyRequest)
	s.send(cmdKeyResponse, element{tagPublicKey, spki(t, newEC(t).Public())})
	s.read(cmdStoreRequest)
	cancel()
	if err := <-done; ringfence.KindOf(err) != ringfence.KindCancelled {
		t.Error(err)
	}
	if len(o.ours.signed) != 1 || o.ours.standing() != 0 || e.status != OperationPending || e.claim != "" {
		t.Errorf("%+v", e)
	}
}

// TestServiceStopsAtTheEnd stops the service when the phone has stored the certificate: that is taken down all the same.
func TestServiceStopsAtTheEnd(t *testing.T) {
	o := newOffice(t)
	e := o.book.add(phoneName, order(InstallUpgrade))
	ctx, cancel := context.WithCancel(t.Context())
	o.book.before = cancel
	near, far := net.Pipe()
	defer far.Close()
	done := make(chan error, 1)
	go func() {
		_, err := o.Serve(ctx, near)
		done <- err
	}()
	c := client()
	_, _ = c.Run(t.Context(), far) // that it hears the goodbye is not certain
	if err := <-done; err != nil || e.status != UpgradeSuccess || e.claim != "" || o.ours.standing() != 1 || c.Keeper.Certificate() == nil {
		t.Fatalf("%v %+v", err, e)
	}
}

func TestSourcesThatFail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOffice(t, func(c *Config) { c.Failures = 3 })
		c := client()
		for range 3 {
			if s := o.meet(t, c); ringfence.KindOf(s.err) != ringfence.KindNotFound {
				t.Fatal(s.err)
			}
		}
		e := o.book.add(phoneName, order(InstallUpgrade))
		if s := o.meet(t, c); ringfence.KindOf(s.err) != ringfence.KindOverload || s.result.RetryAfter != time.Minute || e.left != 3 {
			t.Fatalf("%+v", s)
		}
		time.Sleep(time.Minute)
		if s := o.meet(t, c); s.err != nil || e.status != UpgradeSuccess {
			t.Fatalf("%+v", s)
		}
	})
	// Phones that ask before anybody typed the string are no attackers, and may share an address.
	o := newOffice(t, func(c *Config) { c.Failures = 3 })
	o.book.add(phoneName, order(InstallUpgrade))
	c := client()
	c.String = ""
	for range 5 {
		if s := o.meet(t, c); ringfence.KindOf(s.err) != ringfence.KindUnauthenticated {
			t.Fatal(s.err)
		}
	}
	// One too many is hung up on, before anything that costs.
	o = newOffice(t, func(c *Config) { c.PerSource = 1 })
	first := o.script(t)
	near, far := net.Pipe()
	defer far.Close()
	if r, err := o.Serve(t.Context(), near); ringfence.KindOf(err) != ringfence.KindOverload || r.Name != "" {
		t.Fatal(err)
	}
	first.finish()
	o.script(t).finish()
	g := &guard{perMinute: 2, sessions: 3, perSource: 2, now: time.Now, sources: map[string]*source{}}
	var leave []func()
	for _, c := range []struct{ key, why string }{{"a", ""}, {"a", ""}, {"a", "from this address"}, {"b", ""}, {"c", "too many sessions"}} {
		l, why := g.enter(c.key)
		if (c.why == "") != (l != nil) || !strings.Contains(why, c.why) {
			t.Fatalf("%+v: %q", c, why)
		}
		if l != nil {
			leave = append(leave, l)
		}
	}
	for _, l := range leave {
		l()
	}
	if l, _ := g.enter("c"); l == nil || g.open != 1 {
		t.Fatal("a place that was left is not free")
	}
	if g.failed("d"); !g.patient("d") {
		t.Fatal("two failures are allowed")
	}
	if g.failed("d"); g.patient("d") || !g.patient("c") {
		t.Fatal("the wrong source has to wait")
	}
	for i := range 2 * maxSources {
		g.failed(string(rune('A'+i%26)) + time.Duration(i).String())
	}
	if len(g.sources) > maxSources+1 {
		t.Fatalf("%d sources are remembered", len(g.sources))
	}
	for in, want := range map[string]string{"192.0.2.7:99": "192.0.2.7", "[::ffff:192.0.2.7]:99": "192.0.2.7", "[2001:db8:1:2:3:4:5:6]:99": "2001:db8:1:2::/64", "pipe": "pipe"} {
		if got := quota.Source(in); got != want {
			t.Errorf("%s counts as %s", in, got)
		}
	}
}
