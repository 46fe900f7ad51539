package enroll

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"encoding/pem"
	"fmt"
	"slices"
	"time"

	"ringfence"
	"ringfence/internal/state/store"
)

// Issuer signs and verifies device certificates; *ca.Authority is one.
type Issuer interface {
	// IssueDevice signs a certificate for the key of a PKCS #10 request, whose other wishes it ignores.
	IssueDevice(ctx context.Context, csr []byte, id ringfence.DeviceID, sipURI string) (chain [][]byte, err error)
	// VerifyDevice returns whose certificate it is, if it is good at now.
	VerifyDevice(chain []*x509.Certificate, now time.Time) (ringfence.DeviceID, error)
	// RootPEM returns the trust anchor.
	RootPEM() []byte
}

// Codes keeps activation codes, devices and the audit; *store.Store is one.
type Codes interface {
	CreateActivation(ctx context.Context, a store.Activation, now time.Time) error
	Activation(ctx context.Context, lookup string) (store.Activation, error)
	UseActivation(ctx context.Context, lookup string, device ringfence.DeviceID, now time.Time) error
	ReleaseActivation(ctx context.Context, lookup string, device ringfence.DeviceID, usedAt time.Time) error
	SpendAttempt(ctx context.Context, lookup string) (bool, error)
	Device(ctx context.Context, id ringfence.DeviceID) (store.Device, error)
	AppendAudit(ctx context.Context, a store.AuditEntry) error
	Secret(ctx context.Context, name string) ([]byte, error)
	CreateSecret(ctx context.Context, name string, secret []byte) error
}

var _ Codes = (*store.Store)(nil)

// Config says how codes are given out and checked. Zero values mean the default named beside them.
type Config struct {
	Issuer Issuer
	Codes  Codes
	// Bootstrap tells what a device is handed with its certificate.
	Bootstrap func(ctx context.Context, id ringfence.DeviceID) (Bootstrap, error)
	Now       func() time.Time // time.Now

	Lifetime    time.Duration // of a code: 24 hours, which is also the most
	Attempts    int           // wrong tries until a code is dead: 5
	Cost        Cost          // argon2id: 2 passes over 19 MiB in 1 lane
	PerMinute   int           // messages from one source address: 30
	AnswerAfter time.Duration // the time that any answer to hello and request takes at least: 50 ms
}

const (
	longestLife = 24 * time.Hour
	decoyName   = "enroll/decoy/v1"
)

// Service gives out activation codes and certificates. Its methods may be called from any goroutine.
type Service struct {
	c        Config
	decoy    []byte // makes up the answers for unknown lookups; the same on all nodes and after a restart
	nonceKey []byte // makes the server's nonces; new at each start
	limit    *limiter
	clock    ratchet // decides which codes are too old
}

// New prepares the service; the first time it makes and keeps a key for made-up answers.
func New(ctx context.Context, c Config) (*Service, error) {
	const op = "enroll.config"
	if c.Issuer == nil || c.Codes == nil || c.Bootstrap == nil {
		return nil, fault(op, ringfence.KindInvalid, "enrolment needs an issuer, codes and a bootstrap", "", nil)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Lifetime == 0 {
		c.Lifetime = longestLife
	}
	if c.Attempts == 0 {
		c.Attempts = 5
	}
	if c.Cost == (Cost{}) {
		c.Cost = defaultCost()
	}
	if c.PerMinute == 0 {
		c.PerMinute = 30
	}
	if c.AnswerAfter == 0 {
		c.AnswerAfter = 50 * time.Millisecond
	}
	if c.Lifetime < 0 || c.Lifetime > longestLife || c.Attempts < 0 || c.Attempts > 20 || c.PerMinute < 0 || c.AnswerAfter < 0 {
		return nil, fault(op, ringfence.KindInvalid, "a limit of enrolment is out of bounds", "codes live 24 hours and take 20 tries at most", nil)
	}
	if err := c.Cost.check(); err != nil {
		return nil, err
	}
	s := &Service{c: c, nonceKey: make([]byte, 32), limit: newLimiter(c.PerMinute, c.Now), clock: ratchet{now: c.Now}}
	rand.Read(s.nonceKey)
	if _, err := s.anchors(); err != nil {
		return nil, err
	}
	return s, s.loadDecoy(ctx)
}

// anchors returns what a device is to believe, as it is now.
func (s *Service) anchors() (out []*x509.Certificate, err error) {
	const op = "enroll.anchors"
	for rest := s.c.Issuer.RootPEM(); ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		a, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fault(op, ringfence.KindInternal, "the trust anchor cannot be read", "", err)
		}
		out = append(out, a)
	}
	if len(out) == 0 {
		return nil, fault(op, ringfence.KindInternal, "the issuer has no trust anchor", "", nil)
	}
	return out, nil
}

func (s *Service) loadDecoy(ctx context.Context) (err error) {
	if s.decoy, err = s.c.Codes.Secret(ctx, decoyName); err == nil || ringfence.KindOf(err) != ringfence.KindNotFound {
		return err
	}
	fresh := make([]byte, 32)
	rand.Read(fresh)
	if err := s.c.Codes.CreateSecret(ctx, decoyName, fresh); err != nil && ringfence.KindOf(err) != ringfence.KindConflict {
		return err
	}
	s.decoy, err = s.c.Codes.Secret(ctx, decoyName) // another node may have been first
	return err
}

// NewCode makes a one-time code for a device and withdraws the one it had. Only its verifier is kept: the code cannot be shown
// again. With 4 digits to find it, a few thousand codes can be live at once; beyond that it is KindOverload.
func (s *Service) NewCode(ctx context.Context, id ringfence.DeviceID) (code string, expires time.Time, err error) {
	const op, tries = "enroll.code", 50
	d, err := s.c.Codes.Device(ctx, id)
	if err != nil {
		return "", time.Time{}, err
	}
	if d.State != store.DeviceActive {
		return "", time.Time{}, fault(op, ringfence.KindDenied, "the device "+string(id)+" is revoked", "activate it first", nil)
	}
	if code, err = newCode(); err != nil {
		return "", time.Time{}, err
	}
	now := s.clock.read()
	expires = now.Add(s.c.Lifetime)
	for range tries {
		var lookup string
		if lookup, err = newCode(); err != nil {
			return "", time.Time{}, err
		}
		code = lookup[:lookupDigits] + code[lookupDigits:]
		a := store.Activation{Lookup: code[:lookupDigits], Device: id, Params: s.c.Cost.text(), Salt: make([]byte, 16), Expires: expires, AttemptsLeft: s.c.Attempts}
		if was, err := s.c.Codes.Activation(ctx, a.Lookup); err == nil && was.Live(now) && was.Device != id {
			continue // spares the work of deriving; CreateActivation decides
		}
		rand.Read(a.Salt)
		a.Verifier = verifier(code, a.Salt, s.c.Cost)
		if err = s.c.Codes.CreateActivation(ctx, a, now); err == nil {
			return code, expires, s.audit(ctx, "enroll.code", string(id), "done")
		}
		if ringfence.KindOf(err) != ringfence.KindConflict {
			return "", time.Time{}, err
		}
	}
	return "", time.Time{}, fault(op, ringfence.KindOverload, "too many activation codes are waiting to be used", "enrol some devices first, or wait until old codes expire", nil)
}

// start is the state of one hello: what the node answers with, and later checks a request against.
type start struct {
	act   store.Activation
	known bool
	cost  Cost
	session
}

// begin looks a code up, or makes one up that looks the same from outside.
func (s *Service) begin(ctx context.Context, lookup string, nonce, exported []byte) (start, error) {
	st := start{session: session{exporter: exported, deviceNonce: nonce}}
	// The nonce needs no memory: it is fixed by this connection, lookup and nonce, and unknown to others.
	st.serverNonce = keyed(s.nonceKey, "nonce", exported, []byte(lookup), nonce)
	made := store.Activation{Lookup: lookup, Verifier: keyed(s.decoy, "verifier", []byte(lookup)), Salt: s.decoySalt(lookup), Params: s.c.Cost.text()}
	act, err := s.c.Codes.Activation(ctx, lookup)
	switch {
	case err == nil:
		st.act, st.known = act, true
	case ringfence.KindOf(err) == ringfence.KindNotFound:
		st.act = made
	default:
		return start{}, err
	}
	st.cost, err = readCost(st.act.Params)
	return st, err
}

// decoySalt changes about as often as the salt of real codes would, at a different time of day for each lookup.
func (s *Service) decoySalt(lookup string) []byte {
	shift := binary.BigEndian.Uint32(keyed(s.decoy, "shift", []byte(lookup)))
	life := int64(longestLife / time.Second)
	epoch := (s.c.Now().Unix() + int64(shift)%life) / life
	return keyed(s.decoy, "salt", []byte(lookup), binary.BigEndian.AppendUint64(nil, uint64(epoch)))[:16]
}

// keyed is HMAC-SHA256 over a label and parts, each with its length.
func keyed(key []byte, label string, parts ...[]byte) []byte {
	m := hmac.New(sha256.New, key)
	for _, p := range append([][]byte{[]byte(label)}, parts...) {
		m.Write(binary.BigEndian.AppendUint32(nil, uint32(len(p))))
		m.Write(p)
	}
	return m.Sum(nil)
}

// redeem checks the device's proof, uses the code up and has a certificate signed.
func (s *Service) redeem(ctx context.Context, m requestMsg, exported []byte) (certReply, error) {
	const op = "enroll.request"
	wrong := fault(op, ringfence.KindUnauthenticated, "the activation code is wrong", "check the code, or ask for a new one", nil)
	st, err := s.begin(ctx, m.Lookup, m.Nonce, exported)
	if err != nil {
		return certReply{}, err
	}
	left := false
	if st.known {
		if left, err = s.c.Codes.SpendAttempt(ctx, m.Lookup); err != nil {
			return certReply{}, err
		}
	}
	proved := hmac.Equal(m.MAC, st.deviceProof(st.act.Verifier, m.CSR))
	if !st.known {
		return certReply{}, wrong
	}
	id := st.act.Device
	if !proved {
		return certReply{}, firstOf(s.audit(ctx, op, string(id), "wrong code"), wrong)
	}
	// From here on the device has proved that it knows the code, and is told the truth about it.
	now := s.clock.read()
	switch {
	case !st.act.UsedAt.IsZero():
		err = fault(op, ringfence.KindConflict, "the activation code was used at "+st.act.UsedAt.Format("2006-01-02 15:04 UTC"), "ask for a new code; if it was not you, tell your administrator", nil)
	case !now.Before(st.act.Expires):
		err = fault(op, ringfence.KindDenied, "the activation code expired at "+st.act.Expires.Format("2006-01-02 15:04 UTC"), "ask for a new code", nil)
	case !left:
		err = fault(op, ringfence.KindDenied, "the activation code was tried too often", "ask for a new code", nil)
	}
	if err != nil {
		return certReply{}, firstOf(s.audit(ctx, op, string(id), faultText(err)), err)
	}
	return s.certify(ctx, op, id, m.CSR, func() (undo func(), err error) {
		if err := s.c.Codes.UseActivation(ctx, m.Lookup, id, now); err != nil {
			return nil, err
		}
		return func() { // the audit below says why, whether or not this works
			_ = s.c.Codes.ReleaseActivation(context.WithoutCancel(ctx), m.Lookup, id, now)
		}, nil
	})
}

// certify signs a certificate for an active device; take, if it is not nil, pays for it first and can be undone.
func (s *Service) certify(ctx context.Context, op string, id ringfence.DeviceID, csr []byte, take func() (func(), error)) (certReply, error) {
	d, err := s.c.Codes.Device(ctx, id)
	if err != nil {
		return certReply{}, err
	}
	if d.State != store.DeviceActive {
		err := fault(op, ringfence.KindDenied, "the device "+string(id)+" is revoked", "ask your administrator", nil)
		return certReply{}, firstOf(s.audit(ctx, op, string(id), faultText(err)), err)
	}
	if len(d.Profile.Auth) > 0 && !slices.Contains(d.Profile.Auth, ringfence.AuthCertificate) {
		err := fault(op, ringfence.KindDenied, "the device "+string(id)+" proves itself in another way than by certificate", "sign in with this code instead, or ask for a device with a certificate", nil)
		return certReply{}, firstOf(s.audit(ctx, op, string(id), faultText(err)), err)
	}
	b, err := s.c.Bootstrap(ctx, id)
	if err != nil {
		return certReply{}, err
	}
	undo := func() {}
	if take != nil {
		if undo, err = take(); err != nil {
			return certReply{}, err
		}
	}
	chain, err := s.c.Issuer.IssueDevice(ctx, csr, id, b.aor())
	if err != nil {
		undo()
		return certReply{}, firstOf(s.audit(context.WithoutCancel(ctx), op, string(id), faultText(err)), err)
	}
	reply := certReply{Device: id, Bootstrap: b}
	for _, der := range chain {
		reply.Chain = append(reply.Chain, writeCert(der))
	}
	return reply, s.audit(context.WithoutCancel(ctx), op, string(id), "done")
}

// renew signs a certificate for a fresh key of a device that holds a good one.
func (s *Service) renew(ctx context.Context, chain []*x509.Certificate, csr []byte) (certReply, error) {
	const op = "enroll.renew"
	id, err := s.c.Issuer.VerifyDevice(chain, s.c.Now())
	if err != nil {
		return certReply{}, err
	}
	r, err := x509.ParseCertificateRequest(csr)
	if err != nil {
		return certReply{}, fault(op, ringfence.KindInvalid, "the certificate request cannot be read", "it must be PKCS #10 in DER", nil)
	}
	if bytes.Equal(r.RawSubjectPublicKeyInfo, chain[0].RawSubjectPublicKeyInfo) {
		return certReply{}, fault(op, ringfence.KindInvalid, "the renewal is for the same key", "make a new key for each renewal", nil)
	}
	return s.certify(ctx, op, id, csr, nil)
}

func (s *Service) audit(ctx context.Context, what, target, outcome string) error {
	return s.c.Codes.AppendAudit(ctx, store.AuditEntry{At: s.c.Now(), Who: "trust/enroll", What: what, Target: target, Outcome: outcome})
}

// faultText is the outcome of a failure in the audit.
func faultText(err error) string { return fmt.Sprintf("%v", err) }

func firstOf(errs ...error) error {
	for _, e := range errs {
		if e != nil {
			return e
		}
	}
	return nil
}
