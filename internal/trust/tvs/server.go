package tvs

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"ringfence"
	"ringfence/internal/trust/quota"
	"ringfence/internal/trust/trustlist"
)

// Standing is what the organisation thinks of a certificate.
type Standing struct {
	Roles   []trustlist.Role
	TTL     time.Duration // for how long a phone may remember it; zero: Config.TTL
	Revoked bool
}

// Book knows which certificates are believed. A certificate that it does not know is a fault of KindNotFound; any other fault means that it cannot tell.
type Book interface {
	// Believed returns what is known of the certificate with the SHA-256 hash of its DER form.
	Believed(ctx context.Context, hash [sha256.Size]byte) (Standing, error)
	// Named returns the certificates with a serial number (big-endian, without leading zeros), of whatever issuer; none is no fault.
	Named(ctx context.Context, serial []byte) ([]*x509.Certificate, error)
}

// Event is one exchange, for logs and counters. What is of the device is its own claim.
type Event struct {
	Remote  string
	Device  string
	Command Command
	Subject string // of the certificate, as RFC 4514 has it
	Hash    [sha256.Size]byte
	Valid   bool
	Roles   []trustlist.Role
	TTL     time.Duration
	Why     string // why it is not believed
	Err     error  // why there was no answer; nil: there was one
}

// Config says how to serve. Zero values stand for what is said of each.
type Config struct {
	Book      Book
	Heard     func(Event)      // nil: nobody hears; called once an exchange, on its goroutine
	Now       func() time.Time // of certificates; nil: time.Now
	TTL       time.Duration    // for how long a phone may remember an answer; a day
	Timeout   time.Duration    // of a whole exchange, with the handshake; 10 s
	Max       int              // connections at once; 256
	PerSource int              // of them from one address (IPv6: one /64); a quarter. Phones behind one NAT share it.
}

const (
	dayTTL = 24 * time.Hour
	// maxTTL bounds how long an answer is remembered, on both sides.
	maxTTL = 30 * 24 * time.Hour
	// maxNamed bounds how many certificates with one serial number are looked at.
	maxNamed = 64
)

// Server answers. Make one with New.
type Server struct {
	c Config

	mu       sync.Mutex
	busy     int
	bySource map[string]int
	refused  uint64
}

// New makes a server.
func New(c Config) (*Server, error) {
	const op = "tvs.new"
	if c.Book == nil {
		return nil, fault(op, ringfence.KindInvalid, "the service needs a book of certificates", "", nil)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Heard == nil {
		c.Heard = func(Event) {}
	}
	c.TTL, c.Timeout, c.Max = or(c.TTL, dayTTL), or(c.Timeout, 10*time.Second), or(c.Max, 256)
	c.PerSource = or(c.PerSource, max(1, c.Max/4))
	if c.TTL < time.Second || c.TTL > maxTTL || c.Timeout < 0 || c.Max < 0 || c.PerSource < 0 {
		return nil, fault(op, ringfence.KindInvalid, "the service needs a time to live of 1 s to 30 days, and no negative limit", "", nil)
	}
	return &Server{c: c, bySource: map[string]int{}}, nil
}

func or[T comparable](v, otherwise T) T {
	var zero T
	if v == zero {
		return otherwise
	}
	return v
}

// Serve answers on the connections of a listener, which must speak TLS as a server, until the context ends; then it closes the listener and what is open.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	stop := context.AfterFunc(ctx, func() { _ = ln.Close() })
	defer stop()
	defer ln.Close()
	var all sync.WaitGroup
	defer all.Wait()
	pause := time.Duration(0)
	for {
		conn, err := ln.Accept()
		switch {
		case ctx.Err() != nil:
			if err == nil {
				_ = conn.Close()
			}
			return nil
		case errors.Is(err, net.ErrClosed):
			return fault("tvs.serve", ringfence.KindUnavailable, "the listener was closed", "", err)
		case err != nil: // out of descriptors, for example: others need a moment to give some back
			pause = min(max(2*pause, 5*time.Millisecond), time.Second)
			select {
			case <-time.After(pause):
			case <-ctx.Done():
			}
			continue
		}
		pause = 0
		source := quota.Source(conn.RemoteAddr().String())
		if !s.enter(source) {
			_ = rawOf(conn).Close() // without a word: an alert would wait for a peer that may not read
			continue
		}
		all.Go(func() {
			defer s.leave(source)
			_ = s.Handle(ctx, conn) // Heard was told
		})
	}
}

// Refused returns how many connections were closed at once because there were too many.
func (s *Server) Refused() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.refused
}

func (s *Server) enter(source string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.busy >= s.c.Max || s.bySource[source] >= s.c.PerSource {
		s.refused++
		return false
	}
	s.busy++
	s.bySource[source]++
	return true
}

func (s *Server) leave(source string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.busy--
	if s.bySource[source]--; s.bySource[source] <= 0 {
		delete(s.bySource, source)
	}
}

// rawOf is what is below TLS.
func rawOf(c net.Conn) net.Conn {
	if t, ok := c.(interface{ NetConn() net.Conn }); ok {
		return t.NetConn()
	}
	return c
}

// Handle reads one request from a connection, answers it and closes the connection. A TLS handshake that has not been made yet is part of the timeout.
// What cannot be answered for sure is not answered at all.
func (s *Server) Handle(ctx context.Context, conn net.Conn) error {
	defer conn.Close()
	ctx, cancel := context.WithTimeout(ctx, s.c.Timeout)
	defer cancel()
	_ = conn.SetDeadline(time.Now().Add(s.c.Timeout))
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()

	var e Event
	if a := conn.RemoteAddr(); a != nil {
		e.Remote = a.String()
	}
	e.Err = s.exchange(ctx, conn, &e)
	s.c.Heard(e)
	return e.Err
}

func (s *Server) exchange(ctx context.Context, conn io.ReadWriter, e *Event) error {
	req, err := receive(conn, VerifyRequest, QueryRequest)
	if err != nil {
		return err
	}
	e.Device, e.Command = req.Device, req.Command
	ans := &Message{Command: req.Command + 1, Session: req.Session}
	var cert *x509.Certificate
	if req.Command == VerifyRequest {
		cert, err = s.verify(ctx, req, e)
	} else {
		cert, err = s.query(ctx, req, e)
	}
	if err != nil {
		return err
	}
	if e.Valid {
		ans.Valid, ans.Cert, ans.Roles, ans.TTL = true, cert.Raw, e.Roles, uint32(e.TTL/time.Second)
	}
	b, err := ans.Append(nil)
	if err != nil {
		return err
	}
	if _, err := conn.Write(b); err != nil { // in one piece: phones read it with one call
		return lost("tvs.write", err)
	}
	return nil
}

func (s *Server) verify(ctx context.Context, req *Message, e *Event) (*x509.Certificate, error) {
	e.Hash = sha256.Sum256(req.Cert)
	cert, err := x509.ParseCertificate(req.Cert)
	if err != nil {
		e.Why = "it cannot be read as a certificate"
		return nil, nil
	}
	return cert, s.judge(ctx, cert, e)
}

// query finds the certificate by its names. If several have them, one that is believed counts.
func (s *Server) query(ctx context.Context, req *Message, e *Event) (*x509.Certificate, error) {
	e.Subject, e.Why = req.Subject, "no certificate has these names and this serial number"
	found, err := s.c.Book.Named(ctx, req.Serial)
	if err != nil {
		return nil, fault("tvs.query", ringfence.KindOf(err), "it could not be found out which certificate is meant", "", err)
	}
	for _, cert := range found[:min(len(found), maxNamed)] {
		if !bytes.Equal(cert.SerialNumber.Bytes(), req.Serial) || !named(cert.RawIssuer, req.Issuer) || req.Subject != "" && !named(cert.RawSubject, req.Subject) {
			continue
		}
		if err := s.judge(ctx, cert, e); err != nil {
			return nil, err
		}
		if e.Valid {
			return cert, nil
		}
	}
	return nil, nil
}

// judge says in e whether a certificate is believed.
func (s *Server) judge(ctx context.Context, cert *x509.Certificate, e *Event) error {
	e.Hash, e.Subject, e.Why = sha256.Sum256(cert.Raw), shown(cert.Subject.String()), ""
	st, err := s.c.Book.Believed(ctx, e.Hash)
	now := s.c.Now()
	switch {
	case err != nil && ringfence.KindOf(err) == ringfence.KindNotFound:
		e.Why = "it is unknown"
	case err != nil:
		return fault("tvs.verify", ringfence.KindOf(err), "it could not be found out whether the certificate is believed", "", err)
	case st.Revoked:
		e.Why = "it is revoked"
	case now.Before(cert.NotBefore):
		e.Why = "it is not valid yet"
	case cert.NotAfter.Sub(now) < time.Second:
		e.Why = "it has expired"
	default:
		for _, r := range st.Roles {
			if r != trustlist.TVS && r <= 0xff && !slices.Contains(e.Roles, r) && len(e.Roles) < maxRoles {
				e.Roles = append(e.Roles, r)
			}
		}
		if len(e.Roles) == 0 {
			e.Why = "it has no role that this service may speak for"
			break
		}
		e.Valid = true
		// Nobody is to remember an answer for longer than the certificate lives.
		e.TTL = max(min(or(st.TTL, s.c.TTL), cert.NotAfter.Sub(now), maxTTL), time.Second).Truncate(time.Second)
	}
	return nil
}

// shown is a name from a stranger's certificate, fit for a log.
func shown(name string) string {
	name = strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, name)
	if len(name) > 256 {
		name = strings.ToValidUTF8(name[:256], "") + "…"
	}
	return name
}

// named reports whether text is a name (DER) as phones write it: the parts as RFC 4514 has them, in the order of the certificate or from the last to
// the first, with commas between as in signed files, or with semicolons.
func named(raw []byte, text string) bool {
	var seq pkix.RDNSequence
	if rest, err := asn1.Unmarshal(raw, &seq); err != nil || len(rest) > 0 {
		return false
	}
	parts := make([]string, len(seq))
	for i, rdn := range seq {
		parts[i] = pkix.RDNSequence{rdn}.String()
	}
	for range 2 {
		if text == strings.Join(parts, ",") || text == strings.Join(parts, ";") {
			return true
		}
		slices.Reverse(parts)
	}
	return false
}

// lost says what became of a connection.
func lost(op string, err error) error {
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return fault(op, ringfence.KindTimeout, "the other side took too long", "", err)
	case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
		return fault(op, ringfence.KindUnavailable, "the other side closed the connection before the message was whole", "", err)
	}
	return fault(op, ringfence.KindUnavailable, "the connection failed", "", err)
}
