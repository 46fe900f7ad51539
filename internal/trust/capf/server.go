package capf

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"net"
	"slices"
	"time"

	"ringfence"
	"ringfence/internal/trust/quota"
)

// Config says what a server works with. Zero values mean the default named beside them.
type Config struct {
	Orders Orders
	Issuer Issuer
	LSCs   LSCs
	MICs   MICs             // nil: certificates of manufacturers prove nothing
	Keys   []Key            // what the authority certifies: RSA from 2048 bits, P-256 and P-384
	Now    func() time.Time // time.Now; when an order is too old

	Step    time.Duration // for each message of a phone: 30 seconds
	Making  time.Duration // for the key, and again each time the phone says that it is at it: 2 minutes
	Session time.Duration // for all of it: 10 minutes
	Retry   time.Duration // after which a phone that was sent away comes again: 1 minute

	Sessions  int // at one time: 256
	PerSource int // of them from one address: 64, since a branch may share one
	Failures  int // of one address in a minute: 10
}

// Server serves phones. Its methods may be called from any goroutine.
type Server struct {
	c     Config
	guard *guard
}

// New prepares a server.
func New(c Config) (*Server, error) {
	const op = "capf.config"
	if c.Orders == nil || c.Issuer == nil || c.LSCs == nil {
		return nil, fault(op, ringfence.KindInvalid, "CAPF needs orders, an issuer and something that verifies its certificates", "", nil)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Keys == nil {
		c.Keys = []Key{RSA2048, RSA3072, RSA4096, ECP256, ECP384}
	}
	for _, d := range []struct {
		v        *time.Duration
		ordinary time.Duration
	}{{&c.Step, 30 * time.Second}, {&c.Making, 2 * time.Minute}, {&c.Session, 10 * time.Minute}, {&c.Retry, time.Minute}} {
		if *d.v == 0 {
			*d.v = d.ordinary
		}
		if *d.v < time.Second || *d.v > time.Hour {
			return nil, fault(op, ringfence.KindInvalid, "a time of CAPF is out of bounds", "each is between a second and an hour", nil)
		}
	}
	for _, n := range []struct {
		v        *int
		ordinary int
	}{{&c.Sessions, 256}, {&c.PerSource, 64}, {&c.Failures, 10}} {
		if *n.v == 0 {
			*n.v = n.ordinary
		}
		if *n.v < 1 || *n.v > 10000 {
			return nil, fault(op, ringfence.KindInvalid, "a limit of CAPF is out of bounds", "each is between 1 and 10000", nil)
		}
	}
	c.Keys = slices.Clone(c.Keys)
	return &Server{c: c, guard: &guard{perMinute: float64(c.Failures), sessions: c.Sessions, perSource: c.PerSource, now: c.Now, sources: map[string]*source{}}}, nil
}

// Check says whether an order can be carried out at all: call it when an administrator gives one. The fault says what is refused and why.
func (s *Server) Check(o Order) error { return o.check(s.c.Keys) }

// Report is what became of a session.
type Report struct {
	Source    string
	Name      string // as the phone gave it; empty if it did not come to that
	Device    ringfence.DeviceID
	Order     string
	Operation Operation
	Status    Status // empty if no order was concerned
	Reason    string
	Serial    string // of the certificate that was installed or shown, lower-case hexadecimal; empty if none was
}

// Serve serves one phone on a connection that is, or becomes, sealed, and closes it. It returns when the session is over or ctx is done. The
// error is nil if the session took its course, which it also does when nothing was ordered.
func (s *Server) Serve(ctx context.Context, conn net.Conn) (Report, error) {
	defer conn.Close()
	ctx, cancel := context.WithTimeout(ctx, s.c.Session)
	defer cancel()
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })() // wakes whoever reads or writes

	ss := &session{s: s, report: Report{Source: conn.RemoteAddr().String()}, id: newSession()}
	from := quota.Source(ss.report.Source)
	// Before the handshake, which is the dearest part of a session: whoever is one too many is not told so.
	leave, refusal := s.guard.enter(from)
	if leave == nil {
		return ss.report, fault("capf.limit", ringfence.KindOverload, refusal, "", nil)
	}
	defer leave()
	w := wire{conn: conn, ctx: ctx}
	if h, ok := conn.(interface{ HandshakeContext(context.Context) error }); ok {
		hs, stop := context.WithTimeout(ctx, s.c.Step)
		err := h.HandshakeContext(hs)
		stop()
		if err != nil {
			return ss.report, fault("capf.tls", ringfence.KindInsecure, "the connection could not be sealed", "", err)
		}
	}
	if !s.guard.patient(from) {
		_ = w.send(ss.later(), s.c.Step)
		return ss.report, fault("capf.limit", ringfence.KindOverload, "this address failed too often", "", nil)
	}

	err := ss.run(ctx, w)
	if err != nil && !ss.harmless {
		switch ringfence.KindOf(err) {
		case ringfence.KindInvalid, ringfence.KindUnauthenticated, ringfence.KindDenied, ringfence.KindNotFound:
			s.guard.failed(from)
		}
	}
	return ss.report, err
}

const neverRecorded = "the session that it was made in did not come to its end"

// revoke withdraws a certificate, and is content if somebody did that before.
func (s *Server) revoke(ctx context.Context, serial, reason string) error {
	err := s.c.Issuer.Revoke(ctx, serial, reason)
	if err != nil && ringfence.KindOf(err) == ringfence.KindConflict {
		return nil
	}
	return err
}

// Sweep clears away what sessions left that did not come to their end, because a node stopped or a store failed: it revokes their
// certificates and opens their orders again. It also ends the orders whose time is over and that no phone came for. Call it now and then, on one node
// or on all.
func (s *Server) Sweep(ctx context.Context) error {
	now := s.c.Now()
	abandoned, overdue, err := s.c.Orders.Stale(ctx, now)
	if err != nil {
		return err
	}
	var all error
	for _, a := range abandoned {
		if a.Serial != "" {
			if err := s.revoke(ctx, a.Serial, neverRecorded); err != nil {
				all = errors.Join(all, err)
				continue
			}
		}
		err := s.c.Orders.Record(ctx, a.Order, a.Session, Outcome{Status: OperationPending, Reason: "the last session did not come to its end", At: now, Serial: a.Serial})
		if err != nil && ringfence.KindOf(err) != ringfence.KindConflict { // a session took it over meanwhile
			all = errors.Join(all, err)
		}
	}
	for _, o := range overdue {
		all = errors.Join(all, s.c.Orders.Refuse(ctx, o.ID, Outcome{Status: o.Operation.failed(), Reason: describe(tooLate(o)), At: now}))
	}
	if all != nil {
		return fault("capf.sweep", ringfence.KindOf(all), "not everything that unfinished sessions left could be cleared away", "it is tried again", all)
	}
	return nil
}

// newSession returns a session id: random, so that nobody knows what a proof will have to cover, and not zero.
func newSession() uint32 {
	for {
		var b [4]byte
		rand.Read(b[:])
		if n := binary.BigEndian.Uint32(b[:]); n != 0 {
			return n
		}
	}
}

// wire reads and writes messages, each within its time.
type wire struct {
	conn net.Conn
	ctx  context.Context
}

// within sets the deadline, unless the session is over: then the one that woke everybody stays.
func (w wire) within(d time.Duration) error {
	if err := w.conn.SetDeadline(time.Now().Add(d)); err != nil {
		return broken(err)
	}
	if w.ctx.Err() != nil {
		_ = w.conn.SetDeadline(time.Unix(1, 0))
	}
	return nil
}

func (w wire) send(m message, d time.Duration) error {
	b, err := m.bytes()
	if err != nil {
		return err
	}
	if err := w.within(d); err != nil {
		return err
	}
	if _, err := w.conn.Write(b); err != nil {
		return w.why(broken(err))
	}
	return nil
}

func (w wire) receive(d time.Duration, admit func(header) (int, error)) (message, error) {
	if err := w.within(d); err != nil {
		return message{}, err
	}
	m, err := readMessage(w.conn, admit)
	if err != nil {
		err = w.why(err)
	}
	return m, err
}

// why puts the end of the session before the error that it made.
func (w wire) why(err error) error {
	switch w.ctx.Err() {
	case nil:
		return err
	case context.DeadlineExceeded:
		return fault("capf.session", ringfence.KindTimeout, "the session took too long", "", nil)
	}
	return fault("capf.session", ringfence.KindCancelled, "the session was cut short, because the service stops", "", nil)
}
