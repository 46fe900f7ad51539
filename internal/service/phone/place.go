package phone

import (
	"cmp"
	"context"
	mrand "math/rand/v2"
	"slices"
	"strconv"
	"time"

	"ringfence"
	"ringfence/internal/sip"
	"ringfence/internal/sip/dialog"
	"ringfence/internal/sip/sdp"
)

// maxRedirects bounds how many 3xx answers a call follows.
const maxRedirects = 5

// Call calls number: digits, a user name or a sip: address. It returns as soon as the INVITE is on its way; see
// [Call.WaitAnswered].
func (p *Phone) Call(ctx context.Context, number string, opt CallOptions) (*Call, error) {
	uri, err := p.target(number)
	if err != nil {
		return nil, err
	}
	c, err := p.place(ctx, uri, Peer{Number: number, Address: uri}, opt, nil)
	if err != nil {
		return nil, err
	}
	return c, nil
}

// place is [Phone.Call] for a URI. outcome, if not nil, hears on the call's shard how it went, also if place fails after it
// has made the call; only if the result is nil does it hear nothing.
func (p *Phone) place(ctx context.Context, uri string, peer Peer, opt CallOptions, outcome func(error)) (*Call, error) {
	if !p.Registered() {
		return nil, &ringfence.Fault{Op: "phone.call", Kind: ringfence.KindUnavailable, Text: "the phone is not registered", Err: p.Registration().Err}
	}
	shards := p.stack.txs.Shards()
	c := p.newCall(shards[mrand.IntN(len(shards))], false, opt)
	c.peer = peer
	if err := p.admit(c); err != nil {
		return nil, err
	}
	if outcome != nil && p.cfg.Audio != nil {
		opt.Audio, opt.Hear = p.cfg.Audio(c)
	}
	m, err := p.openMedia(ctx, c, opt.Audio, opt.Hear)
	if err != nil {
		p.mu.Lock()
		delete(p.calls, c)
		p.mu.Unlock()
		return nil, err
	}
	c.shard.Do(func() {
		c.media, c.onAnswer = m, outcome
		if err = c.invite(uri); err != nil {
			c.finish(err)
		}
	})
	return c, err
}

// invite sends an INVITE to uri. It runs on the shard, as everything below.
func (c *Call) invite(uri string) error {
	conn := c.phone.currentConn()
	if conn == nil {
		return &ringfence.Fault{Op: "phone.call", Kind: ringfence.KindUnavailable, Text: "the connection to the server was lost"}
	}
	c.uri, c.visited = uri, append(c.visited, uri)
	offer, err := c.makeOffer(sdp.SendRecv, true)
	if err != nil {
		return err
	}
	c.offered = offer
	p := c.phone
	p.mu.Lock()
	routes, contact := slices.Clone(p.routes), p.contact
	p.mu.Unlock()
	c.s = p.stack.dialogs.Invite(c.shard, dialog.Invitation{Conn: conn, URI: uri, Routes: routes, From: p.nameAddr(), To: "<" + uri + ">", Contact: contact, SDP: offer.Bytes(),
		Extra: func(w *sip.Writer) {
			p.authorize(w, sip.INVITE, uri)
			p.agreement.Write(w, sip.INVITE)
			if c.opt.Private {
				w.Header(sip.HeaderPrivacy, "id")
			}
			if c.opt.Replaces != "" {
				w.Header(sip.HeaderReplaces, c.opt.Replaces)
				w.Header(sip.HeaderRequire, "replaces")
			}
			if c.opt.referredBy != "" {
				w.Header(sip.HeaderReferredBy, c.opt.referredBy)
			}
		}}, c)
	c.s.Data = c
	c.learn(nil)
	if !c.ring.Active() {
		wait := c.opt.RingTime
		if wait <= 0 {
			wait = 3 * time.Minute
		}
		c.shard.After(&c.ring, wait, func() {
			if c.s.State() == dialog.Early {
				c.giveUp = &ringfence.Fault{Op: "phone.call", Kind: ringfence.KindTimeout, Text: "nobody answered"}
				c.s.Cancel("")
			}
		})
	}
	return nil
}

// Progress implements dialog.User.
func (c *Call) Progress(s *dialog.Session, m *sip.Message) {
	if s != c.s {
		return
	}
	c.learn(m)
	if len(m.Body()) > 0 {
		// Early media; a description we cannot use is left to the final answer to decide.
		_ = c.accept(c.offered, m.Body(), false)
	}
	if m.Status() >= 180 {
		c.setStatus(m.Status())
		c.setState(Ringing)
	}
}

func (c *Call) setStatus(status int) {
	c.mu.Lock()
	c.status = status
	c.mu.Unlock()
}

// Answered implements dialog.User.
func (c *Call) Answered(s *dialog.Session, m *sip.Message) {
	if s != c.s {
		return
	}
	c.ring.Stop()
	c.learn(m)
	var err error
	switch {
	case len(m.Body()) > 0:
		err = c.accept(c.offered, m.Body(), false)
	case c.sealedMedia() == nil:
		err = &ringfence.Fault{Op: "phone.call", Kind: ringfence.KindInvalid, Text: "the call was answered without a session description"}
	}
	if err != nil {
		c.abort(err)
		return
	}
	c.up()
}

// up is reached when the call is answered and has keys.
func (c *Call) up() {
	c.setState(Up)
	if old := c.replaced; old != nil {
		c.replaced = nil
		old.hangup("")
	}
	c.outcome(nil, false)
}

// abort ends an answered call that cannot be used, and tells the far end why.
func (c *Call) abort(err error) {
	c.insecure = err
	c.s.Bye(dialog.Reason(ringfence.KindOf(err).Q850(), text(err)))
}

// text returns what a fault says, for a Warning or Reason: never more than is safe to show.
func text(err error) string {
	f, ok := err.(*ringfence.Fault)
	if !ok {
		return "refused"
	}
	if f.Hint != "" {
		return f.Text + "; " + f.Hint
	}
	return f.Text
}

// Ended implements dialog.User.
func (c *Call) Ended(s *dialog.Session, e dialog.End) {
	if s != c.s {
		return
	}
	if e.Message != nil && c.again(e) {
		return
	}
	c.finish(c.cause(e))
}

// again places the call once more, where a refusal asks for that: with credentials, or elsewhere.
func (c *Call) again(e dialog.End) bool {
	if c.giveUp != nil {
		return false
	}
	if c.phone.agreement.Heard(e.Message) {
		return c.invite(c.uri) == nil
	}
	switch {
	case (e.Status == 401 || e.Status == 407) && c.phone.challenged(e.Message, &c.tries):
		return c.invite(c.uri) == nil
	case e.Status >= 300 && e.Status < 400:
		for _, uri := range contacts(e.Contacts) {
			if c.redirects < maxRedirects && !slices.Contains(c.visited, uri) {
				c.redirects++
				return c.invite(uri) == nil
			}
		}
	}
	return false
}

// contacts returns the SIP addresses of a 3xx, the most wanted first (RFC 3261 section 20.10, q).
func contacts(values []string) []string {
	type choice struct {
		uri string
		q   float64
	}
	var found []choice
	for _, v := range values {
		a, err := sip.ParseNameAddr([]byte(v))
		if err != nil || !a.URI.IsSIP() {
			continue
		}
		q := 1.0
		if text, ok := a.Params.Get("q"); ok {
			q, _ = strconv.ParseFloat(string(text), 64)
		}
		found = append(found, choice{a.URI.String(), q})
	}
	slices.SortStableFunc(found, func(a, b choice) int { return cmp.Compare(b.q, a.q) })
	out := make([]string, 0, len(found))
	for _, f := range found {
		out = append(out, f.uri)
	}
	return out
}

// cause says why a session ended; nil for a normal good-bye.
func (c *Call) cause(e dialog.End) error {
	switch {
	case c.insecure != nil:
		return c.insecure
	case c.giveUp != nil:
		return c.giveUp
	case e.Err != nil:
		return e.Err
	case e.Message != nil:
		return refusal("phone.call", "the call was refused", e.Message)
	case e.Status >= 300 && c.incoming && e.Remote:
		_, why := parseReason([]byte(e.Reason))
		if why == "" {
			why = "the caller gave up"
		}
		return &ringfence.Fault{Op: "phone.call", Kind: ringfence.KindCancelled, Text: why}
	case e.Status >= 300 && !c.incoming:
		return rejected("phone.call", "the call was refused", &RejectedError{Status: e.Status, Phrase: e.Phrase})
	}
	if cause, why := parseReason([]byte(e.Reason)); e.Remote && cause == ringfence.KindInsecure.Q850() {
		return &ringfence.Fault{Op: "phone.call", Kind: ringfence.KindInsecure, Text: "the far end ended the call: " + why}
	}
	return nil
}
