package oidc

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"

	"ringfence"
)

const (
	leeway = time.Minute
	// oldest is how long ago an ID token may have been made: it was asked for a moment ago.
	oldest = 10 * time.Minute
	// maxDate bounds a NumericDate, in seconds: the year 9999.
	maxDate = 253402300799
)

// claims are those of an ID token (OpenID Connect Core section 2). What is checked has a field, and everything is in rest.
type claims struct {
	Issuer   string   `json:"iss"`
	Subject  string   `json:"sub"`
	Audience audience `json:"aud"`
	Party    *string  `json:"azp"`
	Expires  *date    `json:"exp"`
	Issued   *date    `json:"iat"`
	NotUntil *date    `json:"nbf"`
	Nonce    string   `json:"nonce"`
	AtHash   *string  `json:"at_hash"`

	rest map[string]json.RawMessage
}

// audience is one string or a list of them (RFC 7519 section 4.1.3).
type audience []string

// UnmarshalJSON implements json.Unmarshaler.
func (a *audience) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '"' {
		*a = make(audience, 1)
		return json.Unmarshal(b, &(*a)[0])
	}
	return json.Unmarshal(b, (*[]string)(a))
}

// date is a NumericDate (RFC 7519 section 2).
type date struct{ time.Time }

// UnmarshalJSON implements json.Unmarshaler.
func (d *date) UnmarshalJSON(b []byte) error {
	var n float64
	if err := json.Unmarshal(b, &n); err != nil || n < 0 || n > maxDate {
		return errors.New("no date")
	}
	d.Time = time.Unix(int64(n), 0)
	return nil
}

func wrong(text string, cause error) error {
	return fault(ringfence.KindInsecure, "what the provider says about you cannot be believed: "+text, "begin again; if it stays so, an administrator looks at the node's log and at the provider", cause)
}

// open checks the form and the signature of an ID token, and returns its claims and its algorithm.
func (p *Provider) open(ctx context.Context, m *metadata, token string) (*claims, jose.SignatureAlgorithm, error) {
	signed, err := jose.ParseSignedCompact(token, m.algs)
	if err != nil || len(signed.Signatures) != 1 {
		return nil, "", wrong("the ID token cannot be read, or is signed by an algorithm that the provider does not name", err)
	}
	head := signed.Signatures[0].Protected
	if kind, there := head.ExtraHeaders[jose.HeaderType]; there {
		// A token of another type must not pass for an ID token (RFC 8725 section 3.11).
		if text, ok := kind.(string); !ok || !strings.EqualFold(text, "JWT") {
			return nil, "", wrong("this is a token of another type", nil)
		}
	}
	alg := jose.SignatureAlgorithm(head.Algorithm)
	keys, err := p.find(ctx, m, head.KeyID, alg)
	if err != nil {
		return nil, "", err
	}
	c, err := verified(signed, keys)
	if err == nil {
		return c, alg, nil
	}
	more, ferr := p.findNew(ctx, m, head.KeyID, alg)
	if ferr != nil {
		return nil, "", ferr
	}
	if more != nil {
		c, err = verified(signed, more)
	}
	return c, alg, err
}

// verified returns the claims that one of the keys signed.
func verified(signed *jose.JSONWebSignature, keys []jose.JSONWebKey) (*claims, error) {
	if len(keys) == 0 {
		return nil, wrong("the ID token is signed by a key that the provider does not publish", nil)
	}
	for _, k := range keys[:min(len(keys), 4)] {
		if text, err := signed.Verify(k.Key); err == nil {
			return parseClaims(text)
		}
	}
	return nil, wrong("the signature of the ID token is wrong", nil)
}

func parseClaims(text []byte) (*claims, error) {
	c := &claims{}
	if err := errors.Join(json.Unmarshal(text, c), json.Unmarshal(text, &c.rest)); err != nil {
		return nil, wrong("the claims of the ID token cannot be read", err)
	}
	// Names are compared without case there; what is checked has to be what is written.
	for name := range c.rest {
		if low := strings.ToLower(name); low != name && slices.Contains([]string{"iss", "sub", "aud", "azp", "exp", "iat", "nbf", "nonce", "at_hash"}, low) {
			return nil, wrong("the ID token has a claim "+clip(name), nil)
		}
	}
	return c, nil
}

// expected is what an ID token has to say.
type expected struct {
	issuer, client, nonce, access string
	alg                           jose.SignatureAlgorithm
	now                           time.Time
}

// check is OpenID Connect Core section 3.1.3.7 and 3.1.3.8.
func (c *claims) check(e expected) error {
	switch {
	case c.Issuer != e.issuer:
		return wrong("it is from "+clip(c.Issuer), nil)
	case !isShown(strings.ReplaceAll(c.Subject, " ", ""), 255) || len(c.Subject) > 255: // section 2: ASCII, and it goes into the audit
		return wrong("it names nobody", nil)
	case !slices.Contains(c.Audience, e.client):
		return wrong("it is for somebody else", nil)
	case c.Party != nil && *c.Party != e.client:
		return wrong("it was given to somebody else", nil)
	case len(c.Audience) > 1 && c.Party == nil:
		return wrong("it is for several and does not say to whom it was given", nil)
	case c.Expires == nil || !e.now.Before(c.Expires.Add(leeway)):
		return wrong("it has expired; is a clock wrong?", nil)
	case c.Issued == nil || c.Issued.After(e.now.Add(leeway)):
		return wrong("it is from the future; is a clock wrong?", nil)
	case c.Issued.Before(e.now.Add(-oldest)):
		return wrong("it is old", nil)
	case c.NotUntil != nil && c.NotUntil.After(e.now.Add(leeway)):
		return wrong("it is from the future; is a clock wrong?", nil)
	case e.nonce == "" || subtle.ConstantTimeCompare([]byte(c.Nonce), []byte(e.nonce)) != 1:
		return wrong("it answers another question (nonce)", nil)
	case c.AtHash != nil && subtle.ConstantTimeCompare([]byte(*c.AtHash), []byte(halfHash(e.alg, e.access))) != 1:
		return wrong("it belongs to another access token (at_hash)", nil)
	}
	return nil
}

// halfHash is the left half of the hash of an access token, by the hash of the algorithm (OpenID Connect Core section 3.1.3.6).
func halfHash(alg jose.SignatureAlgorithm, access string) string {
	var sum []byte
	switch {
	case strings.HasSuffix(string(alg), "256"):
		s := sha256.Sum256([]byte(access))
		sum = s[:]
	case strings.HasSuffix(string(alg), "384"):
		s := sha512.Sum384([]byte(access))
		sum = s[:]
	default: // 512, and Ed25519, which uses SHA-512
		s := sha512.Sum512([]byte(access))
		sum = s[:]
	}
	return base64.RawURLEncoding.EncodeToString(sum[:len(sum)/2])
}

// more asks the provider for the claims that it does not put into the ID token. They count only if they are about the same person
// (OpenID Connect Core section 5.3.2).
func (p *Provider) more(ctx context.Context, m *metadata, access string, c *claims) error {
	b, err := p.get(ctx, m.UserInfo, access)
	if err != nil {
		return err
	}
	more, err := parseMore(b)
	if err != nil {
		return err
	}
	var subject string
	if json.Unmarshal(more["sub"], &subject) != nil || subject != c.Subject {
		return wrong("its userinfo is about somebody else", nil)
	}
	c.rest = more
	return nil
}

func parseMore(b []byte) (map[string]json.RawMessage, error) {
	var out map[string]json.RawMessage
	if json.Unmarshal(b, &out) != nil {
		return nil, wrong("its userinfo cannot be read", nil)
	}
	return out, nil
}

// userOf applies the rule of the configuration. An address that the provider has not verified could be anybody's.
func userOf(c *claims, claim, strip string) (ringfence.UserID, error) {
	var text string
	if raw, there := c.rest[claim]; !there || json.Unmarshal(raw, &text) != nil || text == "" {
		return "", fault(ringfence.KindDenied, "the provider does not say your "+claim, "an administrator lets the provider tell this client that claim, or names another in oauth.provider.claim", nil)
	}
	if claim == "email" && !bytes.Equal(c.rest["email_verified"], []byte("true")) {
		return "", fault(ringfence.KindDenied, "the provider has not verified your address", "verify it there and begin again", nil)
	}
	if strip != "" {
		cut := len(text) - len(strip)
		if cut <= 0 || !strings.EqualFold(text[cut:], strip) {
			return "", fault(ringfence.KindDenied, "the provider knows you as "+clip(text)+", and only those that end in "+strip+" have a phone here", "", nil)
		}
		text = text[:cut]
	}
	if !isShown(text, 64) {
		return "", fault(ringfence.KindDenied, "the provider knows you as "+clip(text)+", which is no name of a user here", "", nil)
	}
	return ringfence.UserID(text), nil
}
