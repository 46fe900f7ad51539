package acme

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"hash/fnv"
	"net/http"
	"time"

	"ringfence"
)

const maxCertificate = 32 << 10

// certificate returns the chain of an order (RFC 8555 section 7.4.2).
func (s *Server) certificate(q *request) (*reply, error) {
	if err := q.reads(); err != nil {
		return nil, err
	}
	o, err := s.owned(q)
	if err != nil {
		return nil, err
	}
	if o.Status != StatusValid {
		return nil, refuse("malformed", "the order has no certificate").with(http.StatusNotFound)
	}
	return &reply{pem: o.Chain}, nil
}

// leafOf returns the certificate of an order.
func leafOf(o Order) (*x509.Certificate, error) {
	block, _ := pem.Decode(o.Chain)
	if block == nil {
		return nil, fault("acme.certificate", ringfence.KindInternal, "the certificate of the order "+o.ID+" cannot be read", "", nil)
	}
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, fault("acme.certificate", ringfence.KindInternal, "the certificate of the order "+o.ID+" cannot be read", "", err)
	}
	return c, nil
}

// revoke revokes a certificate for the account that has it, for one that may have all its names, or for its own key (section 7.6).
func (s *Server) revoke(q *request) (*reply, error) {
	var ask struct {
		Certificate string `json:"certificate"`
		Reason      int    `json:"reason"`
	}
	if err := readPayload(q.payload, &ask); err != nil {
		return nil, err
	}
	der, ok := decodeDER(ask.Certificate, maxCertificate)
	if !ok {
		return nil, refuse("malformed", "the certificate is not base64url, or too long")
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, refuse("malformed", "the certificate cannot be read")
	}
	// Those that a holder may give (RFC 5280 section 5.3.1): not the authority's own, nor the ones for a hold.
	switch ask.Reason {
	case 0, 1, 3, 4, 5, 9:
	default:
		return nil, refuse("badRevocationReason", "reasons are 0 (unspecified), 1 (key compromise), 3 (affiliation changed), 4 (superseded), 5 (cessation of operation) and 9 (privilege withdrawn)")
	}
	ctx := q.Context()
	o, err := s.c.State.OrderByCertificate(ctx, certID(leaf))
	if err != nil {
		return nil, err
	}
	ours, err := leafOf(o)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(ours.Raw, der) {
		return nil, refuse("malformed", "there is no such certificate here").with(http.StatusNotFound)
	}
	who := "by the account " + q.account.ID
	switch {
	case q.account.ID == "":
		if spki, err := x509.MarshalPKIXPublicKey(q.key.Key); err != nil || !bytes.Equal(spki, leaf.RawSubjectPublicKeyInfo) {
			return nil, refuse("unauthorized", "the request is signed by another key than the certificate's")
		}
		who = "by its own key"
	case o.Account != q.account.ID:
		if err := s.controls(q, o.Identifiers); err != nil {
			return nil, err
		}
	}
	if err := s.c.Audit(ctx, "acme.revoke", o.CertID, who); err != nil {
		return nil, err
	}
	if err := s.c.Issuer.Revoke(ctx, leaf, ask.Reason); err != nil {
		if ringfence.KindOf(err) == ringfence.KindConflict {
			return nil, refuse("alreadyRevoked", "the certificate is revoked already")
		}
		return nil, err
	}
	return &reply{}, nil
}

// controls refuses unless the account has a good authorization for every name.
func (s *Server) controls(q *request, names []Identifier) error {
	for _, id := range names {
		ok, err := s.c.State.Authorized(q.Context(), q.account.ID, id, s.c.Now())
		if err != nil {
			return err
		}
		if !ok {
			return refuse("unauthorized", "the certificate belongs to another account, and this one has not shown that it controls all its names")
		}
	}
	return nil
}

const (
	renewAt    = 2.0 / 3 // of a certificate's life
	renewSpan  = 1.0 / 30
	renewAgain = 6 * time.Hour // when to ask again
)

// renewalInfo tells when a certificate should be renewed (RFC 9773 section 4.2).
func (s *Server) renewalInfo(w http.ResponseWriter, r *http.Request) {
	out, err := s.renewal(r)
	s.write(w, out, err)
}

func (s *Server) renewal(r *http.Request) (*reply, error) {
	id := r.PathValue("id")
	if !isCertID(id) {
		return nil, refuse("malformed", "that is no certificate identifier (RFC 9773 section 4.1)")
	}
	o, err := s.c.State.OrderByCertificate(r.Context(), id)
	if err != nil {
		return nil, err
	}
	leaf, err := leafOf(o)
	if err != nil {
		return nil, err
	}
	revoked, err := s.c.Issuer.Revoked(r.Context(), leaf)
	if err != nil {
		return nil, err
	}
	life := leaf.NotAfter.Sub(leaf.NotBefore)
	span := time.Duration(float64(life) * renewSpan)
	// Machines that were set up in one go shall not come back in one go; a client picks within its window, and windows differ a little.
	h := fnv.New32a()
	_, _ = h.Write([]byte(id)) // never fails
	shift := time.Duration(float64(span) * float64(h.Sum32()%1000) / 1000)
	start := leaf.NotBefore.Add(time.Duration(float64(life) * renewAt)).Add(shift)
	if revoked {
		start = s.c.Now().Add(-2 * span)
	}
	return &reply{retryAfter: renewAgain, body: map[string]any{"suggestedWindow": map[string]string{
		"start": start.UTC().Format(time.RFC3339), "end": start.Add(span).UTC().Format(time.RFC3339)}}}, nil
}
