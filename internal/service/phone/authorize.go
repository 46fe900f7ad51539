package phone

import (
	"crypto/rand"
	"encoding/hex"

	"ringfence/internal/sip"
)

// challenge is the digest challenge the phone answers now, for every request until the server sends another.
type challenge struct {
	c    sip.Challenge
	with sip.HeaderID // the field that carries the answer
	nc   uint32
	ok   bool
}

// challenged takes the challenge of a 401 or 407 and reports whether to send the request again. tries counts how often that
// was done for this request: a challenge that is no more than the one we just answered means a wrong password.
func (p *Phone) challenged(m *sip.Message, tries *int) bool {
	if p.cfg.Password == "" || *tries >= 3 {
		return false
	}
	floor := sip.DigestSHA256
	if p.cfg.AllowMD5 {
		floor = sip.DigestMD5
	}
	field, with := sip.HeaderWWWAuthenticate, sip.HeaderAuthorization
	if m.Status() == 407 {
		field, with = sip.HeaderProxyAuthenticate, sip.HeaderProxyAuthorization
	}
	c, ok := m.StrongestChallenge(field, floor)
	if !ok || *tries > 0 && !c.Stale {
		return false
	}
	*tries++
	p.mu.Lock()
	p.chal = challenge{c: c, with: with, ok: true}
	p.mu.Unlock()
	return true
}

// authorize answers the challenge in hand, if there is one.
func (p *Phone) authorize(w *sip.Writer, method sip.Method, uri string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.chal.ok {
		return
	}
	p.chal.nc++
	var cnonce [12]byte
	_, _ = rand.Read(cnonce[:])
	w.Header(p.chal.with, p.chal.c.Authorize(sip.Answer{Username: p.cfg.AuthUser, Password: p.cfg.Password,
		Method: method.String(), URI: uri, CNonce: hex.EncodeToString(cnonce[:]), NC: p.chal.nc}))
}
