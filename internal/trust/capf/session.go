package capf

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"

	"ringfence"
)

// state is what a session waits for.
type state uint8

const (
	over state = iota
	awaitAuth
	awaitKey
	awaitStored
	awaitDeleted
	awaitFetched
)

// expects returns the one message that moves a state on, and how long its body may be.
func (st state) expects() (command, int) {
	switch st {
	case awaitAuth:
		return cmdAuthResponse, maxBody
	case awaitKey:
		return cmdKeyResponse, maxKeyDER + maxShort
	case awaitStored:
		return cmdStoreResponse, maxShort
	case awaitDeleted:
		return cmdDeleteResponse, maxShort
	case awaitFetched:
		return cmdFetchResponse, maxDER + maxShort
	}
	return 0, 0
}

// maxProgress is how often a phone may say that it is still at it.
const maxProgress = 16

// session is one session with a phone. Its steps are pure but for what they ask of the order's keeper and of the issuer.
type session struct {
	s      *Server
	report Report
	id     uint32

	state    state
	progress int
	version  byte
	order    Order            // since authentication began
	claim    string           // not empty while the session has the order
	known    crypto.PublicKey // the key that the phone proved itself with
	issued   string           // the serial of a certificate that does not count yet
	der      []byte
	answer   byte // the reason that a phone hears if the session fails
	final    bool // the failure is the end of the order
	locked   bool
	unclear  bool // whether the success was recorded is not known
	harmless bool // the failure says nothing about who is at the other end
}

// run is the session: it speaks first, then each message of the phone is a step.
func (ss *session) run(ctx context.Context, w wire) error {
	ss.state, ss.answer = awaitAuth, reasonRefused
	out := message{command: cmdAuthRequest, session: ss.id, elements: []element{byteElement(tagVersion, 3), byteElement(tagAuthType, 0)}}
	for {
		if err := w.send(out, ss.s.c.Step); err != nil {
			if ss.state == over { // what was agreed is recorded; that the phone did not wait for the goodbye changes nothing
				return nil
			}
			return ss.undo(ctx, err)
		}
		if ss.state == over {
			return nil
		}
		m, err := ss.next(w)
		if err == nil {
			out, err = ss.step(ctx, m)
		}
		if err != nil {
			err = ss.undo(ctx, err)
			if !hungUp(err) {
				_ = w.send(ss.goodbye(err), ss.s.c.Step)
			}
			return err
		}
	}
}

// hungUp reports whether nobody is there to be told.
func hungUp(err error) bool {
	f, ok := errors.AsType[*ringfence.Fault](err)
	return ok && f.Op == "capf.read" && f.Kind == ringfence.KindUnavailable
}

// next reads the next message that a phone may send now.
func (ss *session) next(w wire) (message, error) {
	for {
		patience := ss.s.c.Step
		if ss.state == awaitKey {
			patience = ss.s.c.Making
		}
		m, err := w.receive(patience, ss.admit)
		if err != nil || m.command != cmdInProgress {
			return m, err
		}
	}
}

// admit looks at a header before the body is read.
func (ss *session) admit(h header) (int, error) {
	want, limit := ss.state.expects()
	switch {
	case h.session != ss.id:
		return 0, fault("capf.session", ringfence.KindInvalid, "a message belongs to another session", "it may be a recording of one", nil)
	case h.command == want:
		return limit, nil
	case h.command == cmdAbortRequest, h.command == cmdEnd:
		return maxShort, nil
	case h.command == cmdInProgress && ss.state != awaitAuth:
		if ss.progress++; ss.progress > maxProgress {
			return 0, fault("capf.session", ringfence.KindTimeout, "the phone only says that it is at it", "", nil)
		}
		return maxShort, nil
	}
	return 0, fault("capf.session", ringfence.KindInvalid, "the phone sent "+h.command.String()+" where "+want.String()+" is expected", "", nil)
}

// step takes a message that was admitted and returns the answer. After an error the session is over.
func (ss *session) step(ctx context.Context, m message) (message, error) {
	switch m.command {
	case cmdAbortRequest:
		return message{}, fault("capf.session", ringfence.KindCancelled, "the phone aborted the session", "", nil)
	case cmdEnd:
		return message{}, fault("capf.session", ringfence.KindCancelled, "the phone ended the session", "", nil)
	}
	switch ss.state {
	case awaitAuth:
		return ss.authenticate(ctx, m)
	case awaitKey:
		return ss.certify(ctx, m)
	case awaitStored:
		return ss.stored(ctx, m)
	case awaitDeleted:
		return ss.deleted(ctx, m)
	case awaitFetched:
		return ss.fetched(ctx, m)
	}
	return message{}, fault("capf.session", ringfence.KindInternal, "the session is over", "", nil)
}

// authenticate finds the order of the device that the phone says it is, and makes it prove that.
func (ss *session) authenticate(ctx context.Context, m message) (message, error) {
	const op = "capf.authenticate"
	version, ok, err := m.byteOf(tagVersion)
	if err != nil {
		return message{}, err
	}
	// Softphones answer with version 2, which has RSA keys only.
	if !ok || version != 2 && version != 3 {
		return message{}, fault(op, ringfence.KindUnsupported, fmt.Sprintf("the phone speaks version %d of the protocol", version), "versions 2 and 3 are spoken here", nil)
	}
	ss.version = version
	name, ok, err := m.textOf(tagDevice, maxName)
	if err != nil {
		return message{}, err
	}
	if !ok || !isDeviceName(name) {
		return message{}, malformed("the phone gave no name that a device can have")
	}
	ss.report.Name = name
	o, err := ss.s.c.Orders.Pending(ctx, name)
	if ringfence.KindOf(err) == ringfence.KindNotFound && err != nil {
		ss.answer = reasonUnknown
		return message{}, fault(op, ringfence.KindNotFound, "there is no device "+name, "add it, or correct the name in the phone", nil)
	}
	if err != nil {
		return message{}, err
	}
	ss.report.Device, ss.report.Operation = o.Device, o.Operation
	if o.Operation == NoPendingOperation {
		ss.state = over
		return ss.end(reasonNothing), nil
	}
	ss.order, ss.report.Order = o, o.ID
	if err := o.check(ss.s.c.Keys); err != nil {
		ss.final = true
		return message{}, err
	}
	if err := ss.inTime(); err != nil {
		ss.answer = reasonNothing
		return message{}, err
	}
	if err := ss.prove(ctx, name, m); err != nil {
		return message{}, err
	}
	return ss.begin(ctx)
}

// inTime says whether the order may still be completed.
func (ss *session) inTime() error {
	if ss.s.c.Now().Before(ss.order.CompletesBy) {
		return nil
	}
	ss.final = true
	return tooLate(ss.order)
}

func tooLate(o Order) error {
	return fault("capf.order", ringfence.KindTimeout, "the operation was to be completed by "+o.CompletesBy.UTC().Format("2006-01-02 15:04 UTC"), "order it again", nil)
}

// prove checks what the phone proved itself with, and counts the attempt: a guess at the string before it is known whether it is right, and a
// certificate only when it is, because it cannot be guessed, and so strangers cannot use up the attempts.
func (ss *session) prove(ctx context.Context, name string, m message) error {
	const op = "capf.authenticate"
	o := ss.order
	guess := ""
	switch o.Auth {
	case ByString:
		var err error
		if guess, _, err = m.textOf(tagPassword, maxString); err != nil {
			return err
		}
		if guess == "" {
			ss.harmless = true // phones ask when they start, before anybody typed it
			return fault(op, ringfence.KindUnauthenticated, "the phone sent no authentication string", "type it at the phone", nil)
		}
	case ByLSC, ByMIC:
		var err error
		if ss.known, err = ss.s.checkProof(o, name, ss.id, m); err != nil {
			return err
		}
	case ByNull:
	}
	left, ok, err := ss.s.c.Orders.Spend(ctx, o.ID)
	if err != nil {
		return err
	}
	if !ok {
		ss.final, ss.locked = true, true
		return fault(op, ringfence.KindDenied, "the operation was attempted too often and is locked", "order it again, with another string", nil)
	}
	if o.Auth != ByString || sameString(o.String, guess) {
		return nil
	}
	if left <= 0 {
		ss.final, ss.locked = true, true
		return fault(op, ringfence.KindUnauthenticated, "the authentication string is wrong; that was the last attempt, and the operation is locked", "order it again, with another string", nil)
	}
	return fault(op, ringfence.KindUnauthenticated, "the authentication string is wrong; attempts left: "+fmt.Sprint(left), "type it again at the phone", nil)
}

// begin takes the order for this session and tells the phone what to do.
func (ss *session) begin(ctx context.Context) (message, error) {
	const op = "capf.begin"
	b := make([]byte, 16)
	rand.Read(b)
	claim := fmt.Sprintf("%x", b)
	orphan, err := ss.s.c.Orders.Claim(ctx, ss.order.ID, claim, ss.s.c.Now().Add(ss.s.c.Session+undoTime))
	if err != nil {
		return message{}, err
	}
	ss.claim = claim
	if orphan != "" {
		ss.issued = orphan // revoked by undo if this fails now, and found again if that fails too
		if err := ss.s.revoke(ctx, orphan, neverRecorded); err != nil {
			return message{}, err
		}
		ss.issued = ""
	}
	switch ss.order.Operation {
	case Delete:
		ss.state = awaitDeleted
		return message{command: cmdDeleteRequest, session: ss.id}, nil
	case Troubleshoot:
		ss.state = awaitFetched
		return message{command: cmdFetchRequest, session: ss.id}, nil
	}
	ss.state = awaitKey
	out := message{command: cmdKeyRequest, session: ss.id}
	curve, number := ss.order.Key.curve()
	switch {
	case curve == nil && ss.version < 3:
		out.elements = []element{shortElement(tagKeySize, uint16(ss.order.Key.bits()))}
	case curve == nil:
		out.elements = []element{shortElement(tagKeySize, uint16(ss.order.Key.bits())), byteElement(tagKeyType, 0)}
	case ss.version < 3:
		ss.final = true
		return message{}, fault(op, ringfence.KindUnsupported, "the phone speaks version 2 of the protocol, which has RSA keys only", "order an RSA key", nil)
	default:
		out.elements = []element{byteElement(tagCurve, number), byteElement(tagKeyType, 1)}
	}
	return out, nil
}

// certify has the phone's key certified and sends it the certificate, which does not count yet.
func (ss *session) certify(ctx context.Context, m message) (message, error) {
	const op = "capf.certify"
	spki, ok := m.get(tagPublicKey)
	if !ok {
		ss.final = true
		return message{}, fault(op, ringfence.KindUnavailable, "the phone could not make the key"+ss.said(m), "it may be that it cannot make one of this kind: order another", errNo)
	}
	if err := checkDER(spki, maxKeyDER); err != nil {
		return message{}, err
	}
	pub, err := x509.ParsePKIXPublicKey(spki)
	if err != nil {
		return message{}, fault(op, ringfence.KindInvalid, "the public key of the phone cannot be read", "", err)
	}
	if !ss.order.Key.matches(pub) {
		ss.final = true
		return message{}, fault(op, ringfence.KindInvalid, "the phone made another key than "+string(ss.order.Key), "it may be that it cannot make one of this kind: order another", nil)
	}
	if k, ok := ss.known.(interface{ Equal(crypto.PublicKey) bool }); ok && k.Equal(pub) {
		ss.final = true
		return message{}, fault(op, ringfence.KindInvalid, "the phone sent the key that it had before", "each certificate is for a new key", nil)
	}
	if err := ss.inTime(); err != nil {
		return message{}, err
	}
	der, err := ss.s.c.Issuer.IssueLSC(ctx, ss.order.Device, ss.report.Name, pub)
	if err != nil {
		switch ringfence.KindOf(err) {
		case ringfence.KindInvalid, ringfence.KindDenied, ringfence.KindUnsupported, ringfence.KindInsecure, ringfence.KindNotFound:
			ss.final = true
		}
		return message{}, fault(op, ringfence.KindOf(err), "the authority did not sign the certificate", ringfence.HintOf(err), err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return message{}, fault(op, ringfence.KindInternal, "the certificate that the authority signed cannot be read", "", err)
	}
	ss.issued, ss.der = fmt.Sprintf("%x", cert.SerialNumber), der
	if k, ok := cert.PublicKey.(interface{ Equal(crypto.PublicKey) bool }); !ok || !k.Equal(pub) || len(der) > maxDER {
		return message{}, fault(op, ringfence.KindInternal, "the authority signed another key, or a certificate too long for a phone", "", nil)
	}
	if err := ss.s.c.Orders.Issued(ctx, ss.order.ID, ss.claim, ss.issued); err != nil {
		return message{}, err
	}
	ss.state = awaitStored
	return message{command: cmdStoreRequest, session: ss.id, elements: []element{byteElement(tagCertType, certLSC), certificateElement(der, certLSC)}}, nil
}

// errNo is the cause of a failure that the phone announced.
var errNo = errors.New("the phone said no")

// said words the reason that a phone gave.
func (ss *session) said(m message) string {
	r, ok, err := m.byteOf(tagReason)
	if !ok || err != nil {
		return ", without a reason"
	}
	if r == reasonRefused {
		return " (reason 7, invalid element)"
	}
	return fmt.Sprintf(" (reason %d)", r)
}

// done reports whether the phone said that it did what it was told.
func (m message) done() (bool, error) {
	r, ok, err := m.byteOf(tagReason)
	return ok && r == reasonDone, err
}

func (ss *session) stored(ctx context.Context, m message) (message, error) {
	ok, err := m.done()
	if err != nil {
		return message{}, err
	}
	if !ok {
		ss.final = true
		return message{}, fault("capf.store", ringfence.KindUnavailable, "the phone did not store the certificate"+ss.said(m), "see its status messages, and order it again", errNo)
	}
	return ss.succeed(ctx, Outcome{Serial: ss.issued, Certificate: ss.der})
}

func (ss *session) deleted(ctx context.Context, m message) (message, error) {
	ok, err := m.done()
	if err != nil {
		return message{}, err
	}
	if !ok {
		ss.final = true
		return message{}, fault("capf.delete", ringfence.KindUnavailable, "the phone deleted no certificate"+ss.said(m), "it may have none", errNo)
	}
	return ss.succeed(ctx, Outcome{})
}

func (ss *session) fetched(ctx context.Context, m message) (message, error) {
	der, ok, err := m.certificateOf()
	if err != nil {
		return message{}, err
	}
	if r, given, err := m.byteOf(tagReason); err != nil {
		return message{}, err
	} else if !ok || given && r != reasonDone {
		ss.final = true
		return message{}, fault("capf.fetch", ringfence.KindUnavailable, "the phone showed no certificate"+ss.said(m), "it may have none", errNo)
	}
	cert, err := readCertificate(der)
	if err != nil {
		return message{}, err
	}
	o := Outcome{Serial: fmt.Sprintf("%x", cert.SerialNumber), Certificate: der}
	if err := ss.s.belongs(ss.order, ss.report.Name, cert); err != nil {
		o.Reason = "the phone has a certificate that it could not prove itself with: " + describe(err)
	}
	return ss.succeed(ctx, o)
}

// succeed records that the order was carried out, and only then says goodbye.
func (ss *session) succeed(ctx context.Context, o Outcome) (message, error) {
	o.Status, o.At, o.Source = ss.order.Operation.success(), ss.s.c.Now(), ss.report.Source
	// The phone has done it: that is taken down even if the service stops right now.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTime)
	defer cancel()
	if err := ss.s.c.Orders.Record(ctx, ss.order.ID, ss.claim, o); err != nil {
		ss.unclear = ringfence.KindOf(err) != ringfence.KindConflict
		return message{}, err
	}
	ss.report.Status, ss.report.Reason, ss.report.Serial = o.Status, o.Reason, o.Serial
	ss.issued, ss.claim, ss.state = "", "", over
	return ss.end(reasonDone), nil
}

// undoTime is how long what a failed session leaves may take.
const undoTime = 10 * time.Second

// undo leaves nothing half-way after an error: the certificate that does not count is revoked, and the order is open again, or over.
func (ss *session) undo(ctx context.Context, cause error) error {
	ss.state = over
	if _, ok := errors.AsType[*ringfence.Fault](cause); !ok {
		cause = fault("capf.session", ringfence.KindInternal, "the order could not be carried out", "", cause)
	}
	if ss.order.ID == "" {
		ss.report.Reason = describe(cause)
		return cause
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTime)
	defer cancel()
	o := Outcome{Status: OperationPending, Reason: describe(cause), At: ss.s.c.Now(), Source: ss.report.Source, Serial: ss.issued, Locked: ss.locked}
	if ss.final {
		o.Status = ss.order.Operation.failed()
	}
	ss.report.Status, ss.report.Reason = o.Status, o.Reason
	if ss.unclear {
		// The phone did what it should, and the store may have taken that down before it failed, or not. It knows: if it did not, the claim runs
		// out with the serial in it. Revoking now could leave a success on record whose certificate does not hold.
		return fault("capf.record", ringfence.KindUnavailable, "the phone did what was ordered, and whether that was recorded is not known", "the order shows it when the store is back", cause)
	}
	if ss.issued != "" {
		if err := ss.s.revoke(ctx, ss.issued, "the phone did not say that it stored it"); err != nil {
			// The claim is left to run out, with the serial in it: whoever claims the order next revokes it, or Sweep does.
			ss.report.Status = OperationPending
			return fault("capf.undo", ringfence.KindInternal, "the certificate "+ss.issued+" that no phone said it stored could not be revoked", "it is tried again in the next session", errors.Join(err, cause))
		}
	}
	var err error
	if ss.claim != "" {
		err = ss.s.c.Orders.Record(ctx, ss.order.ID, ss.claim, o)
	} else {
		err = ss.s.c.Orders.Refuse(ctx, ss.order.ID, o)
	}
	if err != nil {
		return fault("capf.undo", ringfence.KindOf(cause), "how the session ended could not be recorded", "", errors.Join(cause, err))
	}
	return cause
}

// describe words an error for the administrator, with its hint.
func describe(err error) string {
	text := err.Error()
	if f, ok := errors.AsType[*ringfence.Fault](err); ok && f.Text != "" {
		text = f.Text
		if f.Err != nil && !errors.Is(f.Err, errNo) {
			text += ": " + f.Err.Error()
		}
	}
	if hint := ringfence.HintOf(err); hint != "" {
		text += " (" + hint + ")"
	}
	return clean(text, 500)
}

// clean makes a text that may have parts from outside, such as names in certificates, safe to show.
func clean(s string, limit int) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return -1
	}, s)
	if r := []rune(s); len(r) > limit {
		return string(r[:limit]) + " ..."
	}
	return s
}

// retry reports whether it is us who cannot serve now, so that the phone should come again.
func (ss *session) retry(err error) bool {
	if ss.final || errors.Is(err, errNo) {
		return false
	}
	f, ok := errors.AsType[*ringfence.Fault](err)
	if !ok {
		return true
	}
	switch f.Kind {
	case ringfence.KindOverload, ringfence.KindBusy, ringfence.KindConflict:
		return true
	case ringfence.KindUnavailable, ringfence.KindInternal:
		return !hungUp(err)
	}
	return false
}

func (ss *session) goodbye(err error) message {
	switch {
	case errors.Is(err, errNo):
		return ss.end(reasonRefused)
	case ringfence.KindOf(err) == ringfence.KindCancelled:
		return message{command: cmdAbortResponse, session: ss.id, elements: []element{byteElement(tagReason, reasonDone)}}
	case ss.retry(err):
		return ss.later()
	}
	return ss.end(ss.answer)
}

func (ss *session) end(reason byte) message {
	return message{command: cmdEnd, session: ss.id, elements: []element{byteElement(tagReason, reason)}}
}

// later sends the phone away for a while, in seconds.
func (ss *session) later() message {
	return message{command: cmdRetryLater, session: ss.id, elements: []element{shortElement(tagRetryDelay, uint16(min(ss.s.c.Retry/time.Second, 65535)))}}
}
