package acme

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"ringfence"
)

const (
	maxCSR = 16 << 10
	// signingTime is how long a certificate may be in the making before the order counts as interrupted.
	signingTime = 5 * time.Minute
)

type orderObject struct {
	Status         Status          `json:"status"`
	Expires        string          `json:"expires,omitempty"`
	Identifiers    []Identifier    `json:"identifiers"`
	Authorizations []string        `json:"authorizations"`
	Finalize       string          `json:"finalize"`
	Certificate    string          `json:"certificate,omitempty"`
	Replaces       string          `json:"replaces,omitempty"`
	Error          json.RawMessage `json:"error,omitempty"`
}

func (s *Server) orderReply(o Order, status int) *reply {
	at := s.c.Base + pathOrder + o.ID
	out := orderObject{Status: o.Status, Identifiers: o.Identifiers, Finalize: at + "/finalize", Replaces: o.Replaces, Error: o.Error,
		Expires: o.Expires.UTC().Format(time.RFC3339)}
	for _, id := range o.Authorizations {
		out.Authorizations = append(out.Authorizations, s.c.Base+pathAuthz+id)
	}
	if o.Status == StatusValid {
		out.Certificate = s.c.Base + pathCert + o.ID
	}
	r := &reply{status: status, location: at, body: out}
	if o.Status == StatusProcessing {
		r.retryAfter = 2 * time.Second
	}
	return r
}

// newOrder opens an order with an authorization for each name (RFC 8555 section 7.4).
func (s *Server) newOrder(q *request) (*reply, error) {
	var ask struct {
		Identifiers []Identifier `json:"identifiers"`
		NotBefore   string       `json:"notBefore"`
		NotAfter    string       `json:"notAfter"`
		Replaces    string       `json:"replaces"`
	}
	if err := readPayload(q.payload, &ask); err != nil {
		return nil, err
	}
	if ask.NotBefore != "" || ask.NotAfter != "" {
		return nil, refuse("malformed", "how long certificates live is decided here: leave out notBefore and notAfter")
	}
	ids, err := readIdentifiers(ask.Identifiers, s.c.MaxIdentifiers)
	if err != nil {
		return nil, err
	}
	ctx := q.Context()
	if err := s.allowed(ctx, q.binding, ids); err != nil {
		return nil, err
	}
	if err := s.replaceable(q, ask.Replaces, ids); err != nil {
		return nil, err
	}
	if wait := s.orders.Take(q.account.ID); wait > 0 {
		return nil, tooMany("too many orders of this account", wait)
	}
	now := s.c.Now().UTC().Truncate(time.Second)
	o := Order{ID: newID(), Account: q.account.ID, Status: StatusPending, Identifiers: ids, Created: now, Expires: now.Add(s.c.OrderLife), Replaces: ask.Replaces}
	var list []Authorization
	for _, id := range ids {
		a := Authorization{ID: newID(), Account: o.Account, Order: o.ID, Identifier: id, Status: StatusPending, Expires: o.Expires}
		if id.Type == "dns" {
			a.Identifier.Value, a.Wildcard = strings.CutPrefix(id.Value, "*.")
		}
		for _, kind := range challengeTypes(a) {
			a.Challenges = append(a.Challenges, Challenge{Type: kind, Token: newID(), Status: StatusPending})
		}
		o.Authorizations = append(o.Authorizations, a.ID)
		list = append(list, a)
	}
	if err := s.c.State.CreateOrder(ctx, o, list); err != nil {
		if ringfence.KindOf(err) == ringfence.KindConflict && o.Replaces != "" {
			return nil, refuse("alreadyReplaced", "another order replaces that certificate already")
		}
		return nil, err
	}
	return s.orderReply(o, http.StatusCreated), nil
}

// allowed asks the policy for each name.
func (s *Server) allowed(ctx context.Context, b Binding, ids []Identifier) error {
	var bad []problem
	for _, id := range ids {
		err := s.c.Policy.Allow(ctx, b, id)
		switch {
		case err == nil:
		case ringfence.KindOf(err) == ringfence.KindDenied:
			p := refuse("rejectedIdentifier", "this account may not have the name")
			p.Status, p.Identifier = 0, &id
			bad = append(bad, *p)
			s.c.Log.Warn("an ACME order was refused", "binding", b.ID, "name", id.Value, "err", err)
		default:
			return err
		}
	}
	return refuseNames(bad)
}

// replaceable checks what an order says that it renews (RFC 9773 section 5).
func (s *Server) replaceable(q *request, certID string, ids []Identifier) error {
	if certID == "" {
		return nil
	}
	if !isCertID(certID) {
		return refuse("malformed", "replaces is no certificate identifier (RFC 9773 section 4.1)")
	}
	old, err := s.c.State.OrderByCertificate(q.Context(), certID)
	if ringfence.KindOf(err) == ringfence.KindNotFound && err != nil || err == nil && old.Account != q.account.ID {
		return refuse("unauthorized", "this account has no certificate that the order could replace")
	}
	if err == nil && !slices.ContainsFunc(ids, func(id Identifier) bool { return slices.Contains(old.Identifiers, id) }) {
		return refuse("malformed", "the order has no name in common with the certificate that it is to replace")
	}
	return err
}

// owned returns an order of the account as it is now.
func (s *Server) owned(q *request) (Order, error) {
	id := q.PathValue("id")
	if !isID(id) {
		return Order{}, refuse("malformed", "there is no such order").with(http.StatusNotFound)
	}
	o, err := s.c.State.Order(q.Context(), id)
	if err != nil {
		return Order{}, err
	}
	if err := q.own(o.Account); err != nil {
		return Order{}, err
	}
	return s.settle(q.Context(), o)
}

func (s *Server) order(q *request) (*reply, error) {
	if err := q.reads(); err != nil {
		return nil, err
	}
	o, err := s.owned(q)
	if err != nil {
		return nil, err
	}
	return s.orderReply(o, 0), nil
}

// settle brings an order to where its authorizations and the time have taken it (section 7.1.6).
func (s *Server) settle(ctx context.Context, o Order) (Order, error) {
	for range 3 {
		next, why, err := s.nextStatus(ctx, o)
		if err != nil || next == o.Status {
			return o, err
		}
		was := o
		o.Status = next
		if why != nil {
			o.Error = why.record()
		}
		if err = s.c.State.UpdateOrder(ctx, o); err == nil {
			o.Version++
			return o, nil
		}
		if ringfence.KindOf(err) != ringfence.KindConflict {
			return Order{}, err
		}
		if o, err = s.c.State.Order(ctx, was.ID); err != nil {
			return Order{}, err
		}
	}
	return Order{}, fault("acme.order", ringfence.KindConflict, "the order changes all the time", "", nil)
}

func (s *Server) nextStatus(ctx context.Context, o Order) (Status, *problem, error) {
	now := s.c.Now()
	switch o.Status {
	case StatusProcessing:
		if now.Sub(o.Started) > signingTime {
			return StatusInvalid, refuse("serverInternal", "the server was interrupted; order again"), nil
		}
		return o.Status, nil, nil
	case StatusPending, StatusReady:
	default:
		return o.Status, nil, nil
	}
	if !now.Before(o.Expires) {
		return StatusInvalid, refuse("malformed", "the order expired before it was finished"), nil
	}
	next := StatusReady
	for _, id := range o.Authorizations {
		a, err := s.c.State.Authorization(ctx, id)
		if err != nil {
			return "", nil, err
		}
		switch a.at(now) {
		case StatusValid:
		case StatusPending:
			next = StatusPending
		default:
			p := refuse("unauthorized", "the authorization for "+a.Identifier.Value+" is "+string(a.at(now)))
			for _, c := range a.Challenges { // why, in the words of the challenge
				if c.Status == StatusInvalid && c.Error != nil {
					_ = json.Unmarshal(c.Error, p)
					p.Detail = a.Identifier.Value + ": " + p.Detail
				}
			}
			return StatusInvalid, p, nil
		}
	}
	return next, nil, nil
}

// finalize checks a certificate request against the order and has the certificate signed (section 7.4).
func (s *Server) finalize(q *request) (*reply, error) {
	var ask struct {
		CSR string `json:"csr"`
	}
	if err := readPayload(q.payload, &ask); err != nil {
		return nil, err
	}
	o, err := s.owned(q)
	if err != nil {
		return nil, err
	}
	if o.Status != StatusReady {
		return nil, refuse("orderNotReady", "the order is "+string(o.Status))
	}
	der, ok := decodeDER(ask.CSR, maxCSR)
	if !ok {
		return nil, refuse("badCSR", "the certificate request is not base64url, or too long")
	}
	csr, err := readCSR(der, o.Identifiers, q.thumb)
	if err != nil {
		return nil, err
	}
	// Once more: what the account may have can have changed since it ordered.
	if err := s.allowed(q.Context(), q.binding, o.Identifiers); err != nil {
		return nil, err
	}
	// The client may vanish, but a step that has begun is finished.
	ctx := context.WithoutCancel(q.Context())
	o.Status, o.Started = StatusProcessing, s.c.Now()
	if err := s.c.State.UpdateOrder(ctx, o); err != nil {
		return nil, err
	}
	o.Version++
	chain, leaf, signErr := s.sign(ctx, q, o, csr)
	switch {
	case signErr == nil:
		o.Status, o.Chain, o.CertID, o.NotAfter = StatusValid, chain, certID(leaf), leaf.NotAfter
	default:
		p := problemOf(signErr)
		o.Status, o.Error = StatusInvalid, p.record()
		s.c.Log.Error("an ACME certificate could not be signed", "order", o.ID, "err", signErr, "hint", ringfence.HintOf(signErr))
	}
	if err := s.c.State.UpdateOrder(ctx, o); err != nil {
		if leaf != nil {
			s.c.Log.Error("an ACME certificate was signed and could not be kept; revoke it", "order", o.ID, "serial", leaf.SerialNumber.Text(16))
		}
		return nil, err
	}
	if signErr != nil {
		return nil, signErr
	}
	return s.orderReply(o, 0), nil
}

// sign has a certificate signed and checks that it is the one that was wanted.
func (s *Server) sign(ctx context.Context, q *request, o Order, csr *x509.CertificateRequest) (chain []byte, leaf *x509.Certificate, err error) {
	w := Wanted{Account: q.account.ID, Binding: q.account.Binding, PublicKey: csr.PublicKey}
	for _, id := range o.Identifiers {
		if id.Type == "dns" {
			w.DNSNames = append(w.DNSNames, id.Value)
			continue
		}
		a, err := netip.ParseAddr(id.Value)
		if err != nil {
			return nil, nil, err
		}
		w.IPs = append(w.IPs, a)
	}
	ders, err := s.c.Issuer.Sign(ctx, w)
	if err != nil {
		if f := ringfence.KindOf(err); f == ringfence.KindInvalid || f == ringfence.KindDenied {
			p := refuse("badCSR", "the authority refuses: "+textOf(err))
			p.cause = err
			return nil, nil, p
		}
		return nil, nil, err
	}
	for _, der := range ders {
		chain = append(chain, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	if len(ders) == 0 {
		return nil, nil, fault("acme.sign", ringfence.KindInternal, "the authority returned no certificate", "", nil)
	}
	if leaf, err = x509.ParseCertificate(ders[0]); err != nil {
		return nil, nil, fault("acme.sign", ringfence.KindInternal, "the authority's certificate cannot be read", "", err)
	}
	if !bytes.Equal(leaf.RawSubjectPublicKeyInfo, csr.RawSubjectPublicKeyInfo) || !slices.Equal(namesIn(leaf.DNSNames, leaf.IPAddresses), sorted(o.Identifiers)) {
		return nil, nil, fault("acme.sign", ringfence.KindInternal, "the authority signed another key or other names than it was asked for", "", nil)
	}
	return chain, leaf, nil
}
