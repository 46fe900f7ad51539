package token

import (
	"context"
	"encoding/json"
	"time"

	"github.com/go-jose/go-jose/v4"

	"ringfence"
	"ringfence/internal/state/store"
)

const (
	typeAccess = "at+jwt" // RFC 9068 section 2.1
	leeway     = 30 * time.Second
	// maxToken bounds what is looked at, in bytes.
	maxToken = 4096
)

// claims are those of an access token (RFC 9068 section 2.2).
type claims struct {
	Issuer   string             `json:"iss"`
	Subject  ringfence.UserID   `json:"sub"`
	Audience string             `json:"aud"`
	Expires  int64              `json:"exp"`
	Issued   int64              `json:"iat"`
	ID       string             `json:"jti"`
	Client   string             `json:"client_id"`
	Scope    string             `json:"scope"`
	Device   ringfence.DeviceID `json:"device"`
	Grant    string             `json:"grant"`
}

// Access is what a good access token says.
type Access struct {
	Device  ringfence.DeviceID
	User    ringfence.UserID
	Client  string
	Scope   string
	Grant   string
	Expires time.Time
}

func (s *Server) sign(g store.Grant, user ringfence.UserID, now time.Time) (string, error) {
	k := s.keys.Load().signer(now)
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: k.priv, KeyID: k.ID}}, (&jose.SignerOptions{}).WithType(typeAccess))
	if err != nil {
		return "", err
	}
	text, err := json.Marshal(claims{Issuer: s.c.Issuer(), Subject: user, Audience: s.c.Audience, Expires: now.Add(s.c.AccessLife).Unix(), Issued: now.Unix(),
		ID: randomText(16), Client: g.Client, Scope: g.Scope, Device: g.Device, Grant: g.ID})
	if err != nil {
		return "", err
	}
	signed, err := signer.Sign(text)
	if err != nil {
		return "", err
	}
	return signed.CompactSerialize()
}

// Verify returns what an access token says, if it is one of ours, in its time, and its grant and device still hold. The fault says what
// is wrong with it.
func (s *Server) Verify(ctx context.Context, token string) (Access, error) {
	_, a, _, err := s.check(ctx, token)
	return a, err
}

// check is Verify with all the claims, and with how often the store was asked.
func (s *Server) check(ctx context.Context, token string) (c claims, a Access, looked int, err error) {
	none := func(err error) (claims, Access, int, error) { return claims{}, Access{}, looked, err }
	if c, err = s.open(ctx, token); err != nil {
		return none(err)
	}
	now := s.c.Now()
	switch {
	case c.Issuer != s.c.Issuer() || c.Audience != s.c.Audience:
		return none(refused("the token is for somebody else"))
	case now.After(time.Unix(c.Expires, 0).Add(leeway)):
		return none(refused("the token has expired"))
	case now.Add(leeway).Before(time.Unix(c.Issued, 0)):
		return none(refused("the token is from the future; is a clock wrong?"))
	}
	looked++
	g, err := s.c.Grants.Grant(ctx, c.Grant)
	switch {
	case err != nil && ringfence.KindOf(err) != ringfence.KindNotFound:
		return none(err)
	case err != nil || g.Device != c.Device || !g.Holds(now):
		return none(refused("the sign-in of this token was revoked or is over"))
	}
	looked++
	d, err := s.device(ctx, g.Device)
	if err != nil {
		return none(err)
	}
	return c, Access{Device: d.ID, User: d.User, Client: c.Client, Scope: c.Scope, Grant: c.Grant, Expires: time.Unix(c.Expires, 0)}, looked, nil
}

// open checks the form and the signature of a token and nothing else.
func (s *Server) open(ctx context.Context, token string) (claims, error) {
	if len(token) > maxToken {
		return claims{}, refused("the token is too long")
	}
	signed, err := jose.ParseSignedCompact(token, []jose.SignatureAlgorithm{jose.ES256})
	if err != nil || len(signed.Signatures) != 1 {
		return claims{}, refused("the token cannot be read")
	}
	head := signed.Signatures[0].Protected
	if kind, _ := head.ExtraHeaders[jose.HeaderType].(string); kind != typeAccess {
		return claims{}, refused("the token is no access token")
	}
	k := s.keys.Load().find(head.KeyID)
	if k == nil && s.reload.allow(s.c.Now()) { // another node may have made a new one
		if err := s.loadKeys(ctx); err != nil {
			return claims{}, err
		}
		k = s.keys.Load().find(head.KeyID)
	}
	if k == nil {
		return claims{}, refused("the token is signed with an unknown key")
	}
	text, err := signed.Verify(k.priv.Public())
	var c claims
	if err != nil || json.Unmarshal(text, &c) != nil {
		return claims{}, refused("the signature of the token is wrong")
	}
	return c, nil
}

func refused(text string) error {
	return fault("token.verify", ringfence.KindUnauthenticated, text, "sign in again", nil)
}
