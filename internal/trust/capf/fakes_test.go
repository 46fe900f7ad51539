package capf

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"net"
	"sync"
	"testing"
	"time"

	"ringfence"
)

const phoneName = "SEP001122334455"

// book keeps orders as a store would: each method is one step under one lock.
type book struct {
	mu     sync.Mutex
	orders map[string]*entry // by the name on the wire
	fail   map[string]error  // by method
	late   bool              // Record fails after it did its work
	before func()            // Record does anything
	wrote  []Outcome         // Refuse and Record that took effect
	now    func() time.Time
}

type entry struct {
	Order
	left   int
	status Status
	last   Outcome
	claim  string
	until  time.Time
	serial string
}

func newBook(now func() time.Time) *book {
	return &book{orders: map[string]*entry{}, fail: map[string]error{}, now: now}
}

func (b *book) add(name string, o Order) *entry {
	e := &entry{Order: o, left: 3, status: OperationPending}
	b.orders[name] = e
	return e
}

func (b *book) byID(id string) *entry {
	for _, e := range b.orders {
		if e.ID == id {
			return e
		}
	}
	return nil
}

func (b *book) Pending(_ context.Context, name string) (Order, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.fail["Pending"]; err != nil {
		return Order{}, err
	}
	e := b.orders[name]
	if e == nil {
		return Order{}, fault("book", ringfence.KindNotFound, "no such device", "", nil)
	}
	if e.status != OperationPending {
		return Order{Device: e.Device, Operation: NoPendingOperation}, nil
	}
	return e.Order, nil
}

func (b *book) Spend(_ context.Context, id string) (int, bool, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	e := b.byID(id)
	if e.left == 0 {
		return 0, false, b.fail["Spend"]
	}
	e.left--
	return e.left, true, b.fail["Spend"]
}

func (b *book) Refuse(_ context.Context, id string, o Outcome) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	e := b.byID(id)
	if e.claim == "" && e.status == OperationPending {
		e.status, e.last = o.Status, o
		b.wrote = append(b.wrote, o)
	}
	return b.fail["Refuse"]
}

func (b *book) Claim(_ context.Context, id, session string, until time.Time) (string, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.fail["Claim"]; err != nil {
		return "", err
	}
	e := b.byID(id)
	if e.status != OperationPending || e.claim != "" && b.now().Before(e.until) {
		return "", fault("book", ringfence.KindConflict, "another session has the order", "", nil)
	}
	orphan := e.serial
	e.claim, e.until = session, until
	return orphan, nil
}

func (b *book) Issued(_ context.Context, id, session, serial string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.byID(id).serial = serial
	return b.fail["Issued"]
}

func (b *book) Record(ctx context.Context, id, session string, o Outcome) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.before != nil {
		b.before()
	}
	if err := b.fail["Record"]; err != nil && !b.late {
		return err
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	e := b.byID(id)
	if e.claim != session || e.status != OperationPending {
		return fault("book", ringfence.KindConflict, "the session does not have the order", "", nil)
	}
	e.status, e.last, e.claim, e.serial = o.Status, o, "", ""
	b.wrote = append(b.wrote, o)
	return b.fail["Record"]
}

func (b *book) Stale(_ context.Context, now time.Time) (abandoned []Abandoned, overdue []Order, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, e := range b.orders {
		switch {
		case e.status != OperationPending:
		case e.claim != "" && !now.Before(e.until):
			abandoned = append(abandoned, Abandoned{e.ID, e.Operation, e.claim, e.serial})
		case e.claim == "" && !now.Before(e.CompletesBy):
			overdue = append(overdue, e.Order)
		}
	}
	return abandoned, overdue, b.fail["Stale"]
}

func (b *book) look(name string) entry {
	b.mu.Lock()
	defer b.mu.Unlock()
	return *b.orders[name]
}

// authority signs LSCs and MICs.
type authority struct {
	cert *x509.Certificate
	key  crypto.Signer
	now  func() time.Time

	mu      sync.Mutex
	signed  map[string]bool // serials
	revoked map[string]string
	fail    map[string]error
	bend    func(pub crypto.PublicKey) crypto.PublicKey // what it signs instead
}

func newAuthority(t testing.TB, name string, now func() time.Time) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: now().Add(-time.Hour), NotAfter: now().Add(1e5 * time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, Subject: pkix.Name{CommonName: name, Organization: []string{"Example"}, OrganizationalUnit: []string{"Voice"}, Country: []string{"ZZ"},
			Province: []string{"Here"}, Locality: []string{"Town"}}}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{cert: cert, key: key, now: now, signed: map[string]bool{}, revoked: map[string]string{}, fail: map[string]error{}}
}

func (a *authority) IssueLSC(_ context.Context, device ringfence.DeviceID, name string, pub crypto.PublicKey) ([]byte, error) {
	if err := a.fail["Issue"]; err != nil {
		return nil, err
	}
	if a.bend != nil {
		pub = a.bend(pub)
	}
	tmpl, err := Template(name, a.cert, pub, a.now().Add(-time.Minute), a.now().Add(90*24*time.Hour))
	if err != nil {
		return nil, err
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, a.cert, pub, a.key)
	a.mu.Lock()
	a.signed[fmt.Sprintf("%x", tmpl.SerialNumber)] = true
	a.mu.Unlock()
	return der, err
}

func (a *authority) Revoke(ctx context.Context, serial, reason string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.fail["Revoke"]; err != nil {
		return err
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if _, ok := a.revoked[serial]; ok {
		return fault("test", ringfence.KindConflict, "revoked before", "", nil)
	}
	a.revoked[serial] = reason
	return nil
}

// standing counts the certificates that were signed and hold.
func (a *authority) standing() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.signed) - len(a.revoked)
}

func (a *authority) VerifyDevice(chain []*x509.Certificate, now time.Time) (ringfence.DeviceID, error) {
	if err := chain[0].CheckSignatureFrom(a.cert); err != nil {
		return "", fault("test", ringfence.KindUnauthenticated, "unknown issuer", "", nil)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, ok := a.revoked[fmt.Sprintf("%x", chain[0].SerialNumber)]; ok {
		return "", fault("test", ringfence.KindDenied, "revoked", "", nil)
	}
	return ringfence.DeviceID("id-" + chain[0].Subject.CommonName), nil
}

// mic makes a certificate as a manufacturer would.
func (a *authority) mic(t testing.TB, key crypto.Signer, subject pkix.Name) Credential {
	t.Helper()
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(77), NotBefore: a.now().Add(-time.Hour), NotAfter: a.now().Add(1e4 * time.Hour), Subject: subject}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, a.cert, key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	return Credential{der, key}
}

func (a *authority) lsc(t testing.TB, name string, key crypto.Signer) Credential {
	t.Helper()
	der, err := a.IssueLSC(t.Context(), "", name, key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return Credential{der, key}
}

// pocket is where a test's phone keeps its LSC.
type pocket struct {
	cert *x509.Certificate
	key  crypto.Signer
	fail error
}

func (p *pocket) Store(c *x509.Certificate, k crypto.Signer) error {
	if p.fail == nil {
		p.cert, p.key = c, k
	}
	return p.fail
}

func (p *pocket) Delete() (bool, error) {
	had := p.cert != nil
	p.cert, p.key = nil, nil
	return had, p.fail
}

func (p *pocket) Certificate() []byte {
	if p.cert == nil {
		return nil
	}
	return p.cert.Raw
}

// office is a server with what it works with.
type office struct {
	*Server
	book  *book
	ours  *authority
	maker *authority
}

func newOffice(t testing.TB, change ...func(*Config)) *office {
	t.Helper()
	now := time.Now
	o := &office{book: newBook(now), ours: newAuthority(t, "Example CAPF", now), maker: newAuthority(t, "Example Manufacturing", now)}
	c := Config{Orders: o.book, Issuer: o.ours, LSCs: o.ours, MICs: NewAnchors([]*x509.Certificate{o.maker.cert})}
	for _, f := range change {
		f(&c)
	}
	var err error
	if o.Server, err = New(c); err != nil {
		t.Fatal(err)
	}
	return o
}

// order is what a test orders unless it says otherwise.
func order(op Operation) Order {
	return Order{ID: "order-1", Device: "id-" + phoneName, Operation: op, Auth: ByString, String: "123456", Key: ECP256, CompletesBy: time.Now().Add(time.Hour)}
}

func client() Client { return Client{Name: phoneName, String: "123456", Keeper: &pocket{}} }

// served is how a session went on both sides.
type served struct {
	report Report
	err    error // of the server
	result Result
	phone  error
}

// meet lets a client and the server meet over a pipe.
func (o *office) meet(t testing.TB, c Client) served {
	t.Helper()
	near, far := net.Pipe()
	var s served
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.report, s.err = o.Serve(t.Context(), near)
	}()
	s.result, s.phone = c.Run(t.Context(), far)
	far.Close()
	<-done
	return s
}

// script is a phone that sends messages by hand.
type script struct {
	t    testing.TB
	conn net.Conn
	id   uint32
	done chan struct{}
	served
}

func (o *office) script(t testing.TB) *script {
	t.Helper()
	near, far := net.Pipe()
	s := &script{t: t, conn: far, done: make(chan struct{})}
	go func() {
		defer close(s.done)
		s.report, s.err = o.Serve(t.Context(), near)
	}()
	t.Cleanup(func() { far.Close(); <-s.done })
	s.id = s.read(cmdAuthRequest).session
	return s
}

func (s *script) read(want command) message {
	s.t.Helper()
	m, err := readMessage(s.conn, func(header) (int, error) { return maxBody, nil })
	if err != nil {
		s.t.Fatalf("instead of %s: %v", want, err)
	}
	if m.command != want {
		s.t.Fatalf("the server sent %s, not %s: % x", m.command, want, m.elements)
	}
	return m
}

func (s *script) send(c command, e ...element) {
	s.t.Helper()
	b, err := message{command: c, session: s.id, elements: e}.bytes()
	if err != nil {
		s.t.Fatal(err)
	}
	s.write(b)
}

// write does not mind if the server has seen enough: what it thinks of it is in its report.
func (s *script) write(b []byte) { _, _ = s.conn.Write(b) }

func (s *script) auth(word string) {
	s.t.Helper()
	s.send(cmdAuthResponse, byteElement(tagReason, 1), byteElement(tagVersion, 3), textElement(tagPassword, word), textElement(tagDevice, phoneName))
}

// finish waits for the server to be done.
func (s *script) finish() {
	s.conn.Close()
	<-s.done
}

// ends expects the goodbye with a reason.
func (s *script) ends(reason byte) {
	s.t.Helper()
	m := s.read(cmdEnd)
	if v, _ := m.get(tagReason); !bytes.Equal(v, []byte{reason}) {
		s.t.Fatalf("the session ended with reason % x, not %d", v, reason)
	}
	s.finish()
}

func newRSA(t testing.TB, bits int) *rsa.PrivateKey {
	t.Helper()
	k, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func newEC(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func spki(t testing.TB, pub crypto.PublicKey) []byte {
	t.Helper()
	b, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
