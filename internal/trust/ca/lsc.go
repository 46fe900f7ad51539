package ca

import (
	"context"
	"crypto"
	"crypto/x509"
	"net/url"
	"strings"
	"time"

	"ringfence"
)

// lscLife is how long the certificate lives that an enterprise phone gets by CAPF: such a phone gets the next one only when an administrator orders it.
const lscLife = 365 * dayLong

// IssueLSC signs a certificate of role device that looks as an enterprise phone expects it. fill makes the template; it gets the authority that will sign, the
// times, and the URIs that the certificate must carry beside its own. The chain is DER, the leaf first.
func (a *Authority) IssueLSC(ctx context.Context, id ringfence.DeviceID, sipURI string, pub crypto.PublicKey, fill func(issuer *x509.Certificate, from, until time.Time, also ...*url.URL) (*x509.Certificate, error)) ([][]byte, error) {
	const op = "ca.lsc"
	rule, _ := RoleDevice.rule()
	req := Request{Role: RoleDevice, Name: string(id), PublicKey: pub}
	if sipURI != "" {
		req.URIs = []string{sipURI}
	}
	uris, err := rule.check(req)
	if err != nil {
		return nil, err
	}
	if err := checkKey(op, pub); err != nil {
		return nil, err
	}
	is, now := a.issuing.Load(), a.now()
	t, err := fill(is.cert, now.Add(-backdate), now.Add(lscLife), uris...)
	if err != nil {
		return nil, err
	}
	out, err := a.finish(ctx, is, t, req)
	return out.Chain, err
}

// deviceOf returns the device that a certificate is about: the one of its URI, since the common name may be what a phone calls itself.
func deviceOf(c *x509.Certificate) string {
	for _, u := range c.URIs {
		if id, ok := strings.CutPrefix(u.String(), devicePrefix); ok {
			if name, err := url.PathUnescape(id); err == nil {
				return name
			}
		}
	}
	return c.Subject.CommonName
}
