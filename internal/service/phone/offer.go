package phone

import (
	"context"
	"crypto/rand"
	mrand "math/rand/v2"
	"slices"
	"strings"
	"time"

	"ringfence"
	"ringfence/internal/media/codec"
	"ringfence/internal/media/rtp"
	"ringfence/internal/sip"
	"ringfence/internal/sip/dialog"
	"ringfence/internal/sip/mediasec"
	"ringfence/internal/sip/sdp"
)

// Payload types that we offer for formats without a static one.
const (
	eventType     = 101 // telephone-event on the clock of G.711 and G.722
	wideEventType = 110 // and on that of Opus
	opusType      = 111
)

// opusFormat is Opus as we want it (RFC 7587 section 6.1): what is above 8 kHz would be thrown away, and packets of one length tell
// nobody what is said (RFC 6562).
const opusFormat = "maxplaybackrate=16000;sprop-maxcapturerate=16000;useinbandfec=1;cbr=1"

func (p *Phone) allowsSuite(s string) bool { return slices.Contains(p.cfg.Suites, rtp.Suite(s)) }

// codecs are the formats the phone speaks, best first, and telephone-event.
func (p *Phone) codecs() []sdp.Codec {
	out := make([]sdp.Codec, 0, 6)
	wide := false
	for _, name := range p.cfg.Codecs {
		switch strings.ToUpper(string(name)) {
		case "PCMU":
			out = append(out, sdp.PCMU())
		case "PCMA":
			out = append(out, sdp.PCMA())
		case "G722":
			out = append(out, sdp.G722())
		case "OPUS":
			c := sdp.Opus(p.cfg.OpusType)
			c.FMTP = opusFormat
			out, wide = append(out, c), true
		}
	}
	if wide {
		out = append(out, sdp.Events(wideEventType, codec.Opus.Clock()))
	}
	return append(out, sdp.Events(eventType, codec.PCMU.Clock())) // beside Opus too: many know no other
}

// freshKeys makes a key for each suite that the phone allows, in its order.
func (p *Phone) freshKeys() ([]sdp.Crypto, error) {
	out := make([]sdp.Crypto, 0, len(p.cfg.Suites))
	for i, suite := range p.cfg.Suites {
		c, err := sdp.NewCrypto(i+1, string(suite), rand.Reader)
		if err != nil {
			return nil, err
		}
		out = append(out, c)
	}
	return out, nil
}

func (c *Call) direction() sdp.Direction {
	if c.holding {
		return sdp.SendOnly
	}
	return sdp.SendRecv
}

func (c *Call) options(dir sdp.Direction, keys []sdp.Crypto) sdp.RewriteOptions {
	return sdp.RewriteOptions{Addr: c.media.addr, RTCP: c.media.addr.Port(), Mux: true, All: c.phone.cfg.AnswerAll, Crypto: keys, Direction: dir,
		Origin: sdp.Origin{ID: mrand.Uint64() >> 2, Version: 1}}
}

// makeOffer describes what we want, with new keys or those in use.
func (c *Call) makeOffer(dir sdp.Direction, rekey bool) (*sdp.Session, error) {
	keys := []sdp.Crypto{}
	if !rekey {
		if ch, ok := c.choice(); ok {
			keys = append(keys, ch.Local)
		}
	}
	if len(keys) == 0 {
		var err error
		if keys, err = c.phone.freshKeys(); err != nil {
			return nil, err
		}
	}
	out, err := sdp.BuildOffer(c.options(dir, keys), c.phone.codecs()...)
	if err != nil {
		return nil, err
	}
	if c.phone.agreement.Agreed() {
		mark(out, mediasec.Requested)
	}
	sdp.SetVersion(c.last, out)
	c.last = out
	return out, nil
}

// mark tells of the agreement on sealed media in a description.
func mark(out *sdp.Session, what string) {
	if i := out.Audio(); i >= 0 {
		out.Media[i].Attributes = append(out.Media[i].Attributes, sdp.Attribute{Name: mediasec.Attribute, Value: what})
	}
}

// apply does so in an answer, if the offer asks for it.
func (c *Call) apply(remote, out *sdp.Session) {
	if i := remote.Audio(); i >= 0 && c.phone.agreement.Agreed() && slices.Contains(remote.Media[i].Attributes, sdp.Attribute{Name: mediasec.Attribute, Value: mediasec.Requested}) {
		mark(out, mediasec.Applied)
	}
}

// makeAnswer answers an offer. Our key stays as long as the far end's does: whoever changes theirs gets a new one of ours
// (RFC 4568 section 7.1.4).
func (c *Call) makeAnswer(remote *sdp.Session) (*sdp.Session, sdp.Choice, error) {
	if now, ok := c.choice(); ok {
		out, ch, err := sdp.Answer(remote, c.options(c.direction(), []sdp.Crypto{now.Local}), c.phone.codecs()...)
		if err == nil && ch.Remote.Suite == now.Remote.Suite && ch.Remote.Inline == now.Remote.Inline {
			c.apply(remote, out)
			sdp.SetVersion(c.last, out)
			c.last = out
			return out, ch, nil
		}
	}
	keys, err := c.phone.freshKeys()
	if err != nil {
		return nil, sdp.Choice{}, err
	}
	out, ch, err := sdp.Answer(remote, c.options(c.direction(), keys), c.phone.codecs()...)
	if err != nil {
		return nil, sdp.Choice{}, err
	}
	c.apply(remote, out)
	sdp.SetVersion(c.last, out)
	c.last = out
	return out, ch, nil
}

// choice returns what is agreed now.
func (c *Call) choice() (sdp.Choice, bool) {
	if m := c.sealedMedia(); m != nil {
		m.mu.Lock()
		defer m.mu.Unlock()
		return m.choice, true
	}
	return sdp.Choice{}, false
}

func (c *Call) sealedMedia() *media {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.sealed
}

// accept takes the far end's answer to our offer.
func (c *Call) accept(ours *sdp.Session, body []byte, wait bool) error {
	if len(body) == 0 {
		return &ringfence.Fault{Op: "phone.answer", Kind: ringfence.KindInvalid, Text: "the answer holds no session description"}
	}
	answer, err := sdp.Parse(body)
	if err != nil {
		return err
	}
	ch, err := sdp.Accept(ours, answer)
	if err != nil {
		return err
	}
	return c.agree(ch, wait)
}

// agree puts a choice into force, and notices hold and new keys.
func (c *Call) agree(ch sdp.Choice, wait bool) error {
	before, was := c.choice()
	if err := c.media.agree(ch, wait); err != nil {
		return err
	}
	c.mu.Lock()
	c.sealed = c.media
	c.mu.Unlock()
	if wait {
		c.shard.After(&c.swap, 2*time.Second, c.media.confirmed)
	}
	if held := !ch.Direction.Sends(); held != c.held {
		c.held = held
		kind := CallResumed
		if held {
			kind = CallHeld
		}
		c.tell(CallEvent{Kind: kind})
	}
	if was && (before.Local.Inline != ch.Local.Inline && before.Remote.Inline != ch.Remote.Inline) {
		c.tell(CallEvent{Kind: CallRekeyed})
	}
	return nil
}

// Offered implements dialog.User: the far end changes the session.
func (c *Call) Offered(s *dialog.Session, o *dialog.Offer) {
	if s != c.s || c.media == nil {
		o.Reject(500, "", nil)
		return
	}
	if len(o.SDP) == 0 {
		out, err := c.makeOffer(c.direction(), false)
		if err != nil {
			o.Reject(500, "", nil)
			return
		}
		o.Propose(out.Bytes(), func(answer []byte) {
			if err := c.accept(out, answer, false); err != nil {
				c.abort(err)
			}
		})
		return
	}
	remote, err := c.phone.readOffer(o.SDP)
	var out *sdp.Session
	var ch sdp.Choice
	if err == nil {
		out, ch, err = c.makeAnswer(remote)
	}
	if err == nil {
		err = c.agree(ch, true)
	}
	if err != nil {
		o.Reject(488, "", func(w *sip.Writer) { warn(w, c.phone.cfg.Domain, text(err)) })
		return
	}
	o.Answer(out.Bytes())
}

// Hold puts the far end on hold: it hears our source as hold music, and we do not hear it (RFC 3264 section 8.4).
func (c *Call) Hold(ctx context.Context) error { return c.modify(ctx, true, false) }

// Resume takes the far end back.
func (c *Call) Resume(ctx context.Context) error { return c.modify(ctx, false, false) }

// Rekey changes the keys of both directions.
func (c *Call) Rekey(ctx context.Context) error {
	var hold bool
	c.shard.Do(func() { hold = c.holding })
	return c.modify(ctx, hold, true)
}

// modify sends an offer inside the call. While another one is pending it waits for its turn.
func (c *Call) modify(ctx context.Context, hold, rekey bool) error {
	for {
		err := c.run(ctx, func(done func(error)) { c.propose(hold, rekey, done) })
		if state, _ := c.State(); ringfence.KindOf(err) != ringfence.KindConflict || state != Up {
			return err
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return err
		}
	}
}

func (c *Call) propose(hold, rekey bool, done func(error)) {
	if c.s.State() != dialog.Confirmed || c.sealedMedia() == nil {
		done(notUp("phone.modify"))
		return
	}
	before, last := c.holding, c.last
	c.holding = hold
	out, err := c.makeOffer(c.direction(), rekey)
	if err != nil {
		c.holding = before
		done(err)
		return
	}
	c.s.Modify(out.Bytes(), func(answer []byte, err error) {
		if err == nil {
			err = c.accept(out, answer, false)
			if err != nil { // the far end believes in an answer that we cannot use
				c.abort(err)
			}
		} else {
			c.holding, c.last = before, last
		}
		done(err)
	})
}
