package phone

import (
	"bytes"
	"context"
	"crypto/rand"
	"slices"
	"strings"
	"time"

	"ringfence"
	"ringfence/internal/sip"
	"ringfence/internal/sip/dialog"
	"ringfence/internal/sip/mediasec"
	"ringfence/internal/sip/sdp"
	"ringfence/internal/sip/transaction"
)

// invited handles a new INVITE on its shard.
func (p *Phone) invited(tx *transaction.Server) {
	m := tx.Request
	p.mu.Lock()
	busy, contact := p.dnd, p.contact
	p.mu.Unlock()
	if require := unsupported(m); require != "" {
		tx.Reply(420, "", func(w *sip.Writer) { w.Header(sip.HeaderUnsupported, require) })
		return
	}
	if !p.knowsPassword(tx) {
		return
	}
	page := isPage(m)
	if page && p.cfg.PageRealm != "" && !p.proves(tx, p.cfg.PageRealm, p.cfg.PagePassword) {
		return
	}
	old, status := p.replaces(m)
	if status != 0 {
		tx.Reply(status, "", nil)
		return
	}
	if busy && old == nil {
		tx.Reply(486, "", func(w *sip.Writer) { warn(w, p.cfg.Domain, "do not disturb") })
		return
	}
	if p.cfg.Screen != nil && old == nil && p.screened(tx) {
		return
	}
	invited, err := p.readOffer(m.Body())
	if err != nil {
		status := 488
		if ringfence.KindOf(err) == ringfence.KindInvalid {
			status = 400
		}
		p.log.Info("call refused", "phone", p.cfg.User, "cause", err)
		tx.Reply(status, "", func(w *sip.Writer) {
			warn(w, p.cfg.Domain, text(err))
			w.Header(sip.HeaderReason, dialog.Reason(ringfence.KindOf(err).Q850(), text(err)))
		})
		return
	}
	c := p.newCall(tx.Shard, true, CallOptions{})
	if err := p.admit(c); err != nil {
		tx.Reply(486, "", func(w *sip.Writer) { warn(w, p.cfg.Domain, text(err)) })
		return
	}
	c.invited, c.replaced, c.page = invited, old, page
	c.s = p.stack.dialogs.Accept(tx, contact, c)
	c.s.Data = c
	c.learn(m)
	c.setState(Ringing)
	switch {
	case old != nil: // it takes the place of a call that was answered already
		if p.spawn(func() {
			if c.Answer(p.ctx, CallOptions{}) == nil {
				p.emit(Event{Kind: Transferred, Call: c})
			}
		}) {
			return
		}
	case p.cfg.Auto != nil:
		c.s.Ring()
		if p.spawn(func() { p.cfg.Auto(p.ctx, c) }) {
			return
		}
	default:
		c.s.Ring()
		offer(p.incoming, c)
		return
	}
	c.s.Reject(480, "", "")
}

// isPage reports whether a caller asks for an answer without anybody doing anything: by Call-Info with answer-after, as servers for such phones do, or by Answer-Mode (RFC 5373).
func isPage(m *sip.Message) bool {
	for line := range m.All(sip.HeaderCallInfo) {
		for v := range sip.Values(line) {
			_, params, _ := bytes.Cut(v, []byte(">"))
			if after, ok := sip.Params(bytes.TrimLeft(params, "; ")).Get("answer-after"); ok && string(after) == "0" {
				return true
			}
		}
	}
	mode, _, _ := bytes.Cut(m.GetName("Answer-Mode"), []byte(";"))
	return sip.EqualFold(bytes.TrimSpace(mode), "Auto")
}

// screened refuses a call, or sends its caller elsewhere, if whoever was told to look at it wants that.
func (p *Phone) screened(tx *transaction.Server) bool {
	from, _ := peerOf(tx.Request)
	status, to := p.cfg.Screen(from)
	if status == 0 {
		return false
	}
	uri := ""
	if to != "" {
		var err error
		if uri, err = p.target(to); err != nil {
			p.log.Warn("a call cannot be forwarded", "phone", p.cfg.User, "to", to, "cause", err)
			status = 480
		}
	}
	tx.Reply(status, "", func(w *sip.Writer) {
		if uri != "" {
			w.Header(sip.HeaderContact, "<"+uri+">")
		}
	})
	return true
}

// maxCredentials is how many credentials of a request are looked at.
const maxCredentials = 8

// nonceLife is how long a challenge of ours can be answered.
const nonceLife = time.Minute

// challenges returns the nonces of the phones that challenge callers.
func (s *Stack) challenges() (*sip.Nonces, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var err error
	if s.nonces == nil {
		s.nonces, err = sip.NewNonces(time.Now, rand.Reader, nonceLife)
	}
	return s.nonces, err
}

// knowsPassword challenges a first INVITE, unless nobody wants that. It reports whether the call may go on.
func (p *Phone) knowsPassword(tx *transaction.Server) bool {
	return p.cfg.InviteRealm == "" || p.proves(tx, p.cfg.InviteRealm, p.cfg.Password)
}

// proves challenges a request in a realm, unless its sender answers a challenge of ours with a password. It reports whether it does.
func (p *Phone) proves(tx *transaction.Server, realm, password string) bool {
	nonces, err := p.stack.challenges()
	if err != nil {
		tx.Reply(500, "", nil)
		return false
	}
	m, stale := tx.Request, false
	seen := 0
	for v := range m.All(sip.HeaderAuthorization) { // the caller's own, for its server, can stand there too
		if seen++; seen > maxCredentials {
			break
		}
		cred, err := sip.ParseCredentials(v)
		if err != nil || string(cred.Realm) != realm || string(cred.Username) != p.cfg.AuthUser {
			continue
		}
		state := nonces.Check(cred.Nonce)
		if state == sip.NonceGood && cred.MatchesURI(m.RequestURI()) && cred.Verify(sip.HA1(cred.Algorithm, p.cfg.AuthUser, realm, password), tx.Method.String()) {
			if state = nonces.Use(cred.Nonce, cred.NC); state == sip.NonceGood {
				return true
			}
		}
		stale = state == sip.NonceStale || state == sip.NonceReplay
	}
	p.log.Info("a request was challenged", "phone", p.cfg.User, "method", tx.Method, "from", string(m.Get(sip.HeaderFrom)), "by", tx.Conn.Remote)
	tx.Reply(401, "", func(w *sip.Writer) {
		algorithms := []sip.DigestAlgorithm{sip.DigestSHA256}
		if p.cfg.InviteMD5 {
			algorithms = []sip.DigestAlgorithm{sip.DigestMD5}
		} else if p.cfg.AllowMD5 {
			algorithms = append(algorithms, sip.DigestMD5)
		}
		nonce := nonces.New()
		for _, a := range algorithms { // the strongest first (RFC 8760 section 2.3)
			c := sip.Challenge{Realm: realm, Nonce: nonce, Algorithm: a, Stale: stale}
			w.Header(sip.HeaderWWWAuthenticate, string(c.Append(nil)))
		}
	})
	return false
}

// unsupported lists the extensions that a request requires and a phone does not know.
func unsupported(m *sip.Message) string {
	var out []string
	for line := range m.All(sip.HeaderRequire) {
		for v := range sip.Values(line) {
			switch tag := strings.ToLower(string(v)); tag {
			case "100rel", "timer", "replaces", "outbound", "path", mediasec.Tag:
			default:
				out = append(out, tag)
			}
		}
	}
	return strings.Join(out, ", ")
}

// readOffer reads the description of an INVITE and refuses one that cannot be sealed or understood. It is nil for an INVITE
// without one.
func (p *Phone) readOffer(body []byte) (*sdp.Session, error) {
	if len(body) == 0 {
		return nil, nil
	}
	s, err := sdp.Parse(body)
	if err != nil {
		return nil, err
	}
	if err := s.Sealed(); err != nil {
		return nil, err
	}
	m := &s.Media[s.Audio()]
	if !slices.ContainsFunc(m.Crypto, func(c sdp.Crypto) bool { return c.Supported() && p.allowsSuite(c.Suite) }) {
		return nil, &ringfence.Fault{Op: "phone.offer", Kind: ringfence.KindInsecure, Text: "there is no SRTP suite that both sides allow", Hint: "enable the same suite on both sides"}
	}
	if !slices.ContainsFunc(p.codecs(), func(c sdp.Codec) bool { return !c.IsEvent() && slices.ContainsFunc(m.Codecs, c.Same) }) {
		return nil, &ringfence.Fault{Op: "phone.offer", Kind: ringfence.KindUnsupported, Text: "no audio codec that both sides know"}
	}
	return s, nil
}

// replaces finds the call that an INVITE replaces (RFC 3891 section 3). status is not 0 if the INVITE must be refused.
func (p *Phone) replaces(m *sip.Message) (old *Call, status int) {
	v := m.Get(sip.HeaderReplaces)
	if len(v) == 0 {
		return nil, 0
	}
	id, rest, _ := strings.Cut(string(v), ";")
	params := sip.Params(rest)
	to, okTo := params.Get("to-tag")
	from, okFrom := params.Get("from-tag")
	_, earlyOnly := params.Get("early-only")
	if !okTo || !okFrom {
		return nil, 400
	}
	for _, c := range p.Calls() {
		c.mu.Lock()
		match := c.ids == dialogIDs{callID: strings.TrimSpace(id), local: string(to), remote: string(from)}
		state := c.state
		c.mu.Unlock()
		switch {
		case !match:
		case state == Up && earlyOnly:
			return nil, 486
		case state == Up, state == Ringing && !c.incoming:
			return c, 0
		}
	}
	return nil, 481
}

// Answer takes an incoming call. opt says what it says and where it is heard; the phone's Config.Audio fills what opt leaves
// nil.
func (c *Call) Answer(ctx context.Context, opt CallOptions) error {
	if state, err := c.State(); !c.incoming || state != Ringing {
		if err != nil {
			return err
		}
		return &ringfence.Fault{Op: "phone.answer", Kind: ringfence.KindConflict, Text: "there is no ringing call to answer"}
	}
	source, sink := opt.Audio, opt.Hear
	if c.phone.cfg.Audio != nil && (source == nil || sink == nil) {
		s, h := c.phone.cfg.Audio(c)
		if source == nil {
			source = s
		}
		if sink == nil {
			sink = h
		}
	}
	m, err := c.phone.openMedia(ctx, c, source, sink)
	if err != nil {
		c.shard.Do(func() { c.s.Reject(500, "", "") })
		return err
	}
	c.shard.Do(func() { err = c.answer(m) })
	return err
}

// answer runs on the shard.
func (c *Call) answer(m *media) error {
	if c.s.State() != dialog.Early || c.media != nil {
		m.close()
		_, err := c.State()
		if err == nil {
			err = notUp("phone.answer")
		}
		return err
	}
	c.media = m
	if c.invited == nil {
		out, err := c.makeOffer(sdp.SendRecv, true)
		if err != nil {
			c.s.Reject(500, "", "")
			return err
		}
		c.offered, c.late = out, true
		c.s.Answer(out.Bytes(), nil)
		return nil
	}
	out, ch, err := c.makeAnswer(c.invited)
	if err != nil {
		c.insecure = err
		c.s.RejectWith(488, "", dialog.Reason(ringfence.KindOf(err).Q850(), text(err)), func(w *sip.Writer) { warn(w, c.phone.cfg.Domain, text(err)) })
		return err
	}
	if err := c.agree(ch, false); err != nil {
		c.s.Reject(500, "", "")
		return err
	}
	c.s.Answer(out.Bytes(), nil)
	c.up()
	return nil
}

// Reject declines an incoming call with a final response, usually 486 or 603.
func (c *Call) Reject(status int) error {
	if !c.incoming || status < 300 || status > 699 {
		return &ringfence.Fault{Op: "phone.reject", Kind: ringfence.KindInvalid, Text: "only an incoming call can be rejected, with 300 to 699"}
	}
	var err error
	c.shard.Do(func() {
		if c.s.State() != dialog.Early {
			err = notUp("phone.reject")
			return
		}
		c.s.Reject(status, "", "")
	})
	return err
}

// Redirect sends the caller of an incoming call elsewhere (302).
func (c *Call) Redirect(number string) error {
	uri, err := c.phone.target(number)
	if err != nil {
		return err
	}
	c.shard.Do(func() {
		if !c.incoming || c.s.State() != dialog.Early {
			err = notUp("phone.redirect")
			return
		}
		c.s.RejectWith(302, "", "", func(w *sip.Writer) { w.Header(sip.HeaderContact, "<"+uri+">") })
	})
	return err
}

// Confirmed implements dialog.User: our answer has arrived.
func (c *Call) Confirmed(s *dialog.Session, m *sip.Message) {
	if s != c.s {
		return
	}
	if !c.late {
		c.media.confirmed()
		return
	}
	c.late = false
	if err := c.accept(c.offered, m.Body(), false); err != nil {
		c.abort(err)
		return
	}
	c.up()
}
