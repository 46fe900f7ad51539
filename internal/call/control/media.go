package control

import (
	"crypto/rand"
	"fmt"

	"ringfence"
	"ringfence/internal/call/registrar"
	"ringfence/internal/media/relay"
	"ringfence/internal/media/rtp"
	"ringfence/internal/sip/dialog"
	"ringfence/internal/sip/sdp"
	"ringfence/internal/sip/transport"
)

type contact = registrar.Contact

// hear takes the peer's offer, refusing one that cannot be sealed. Without one (a late offer, RFC 3261 section 13.2.1) we
// offer in our 200, and the peer answers in its ACK.
func (l *Leg) hear(body []byte) error {
	if len(body) == 0 {
		l.late = true
		return nil
	}
	offer, err := sdp.Parse(body)
	if err != nil {
		return err
	}
	i := offer.Audio()
	if i < 0 {
		return &ringfence.Fault{Op: "call.media", Kind: ringfence.KindInsecure, Text: "the offer has no audio"}
	}
	if err := sdp.SealedOr(&offer.Media[i], l.exception); err != nil {
		return err
	}
	l.heard = offer
	return nil
}

// open makes the leg's media ports, once.
func (l *Leg) open() error {
	if l.media != nil {
		return nil
	}
	media, err := l.call.ctl.cfg.Media.Open(l.ID)
	if err != nil {
		return err
	}
	l.media = media
	return nil
}

// options are for a description of ours, with our keys if it is to have any.
func (l *Leg) options(conn *transport.Conn, sealed bool) sdp.RewriteOptions {
	if sealed && l.ours == nil {
		l.ours, _ = sdp.NewCryptos(rand.Reader) // without randomness there is no key, and without a key no description
	}
	o := sdp.RewriteOptions{Addr: l.call.ctl.mediaAddr(conn, l.media.Local().Port()), Mux: true, Origin: l.origin(), Exception: l.exception}
	if sealed {
		o.Crypto = l.ours
	}
	return o
}

// offering is options for an offer of ours. A device with an exception that signals in the clear is offered plain RTP: keys would
// be no secret there, and it is there because it cannot do better.
func (l *Leg) offering(conn *transport.Conn) sdp.RewriteOptions {
	return l.options(conn, l.exception == "" || conn.Secure() && !l.plain)
}

// answering is options for our answer to an offer, which says whether there are keys.
func (l *Leg) answering(offer *sdp.Session) sdp.RewriteOptions {
	i := offer.Audio()
	return l.options(l.session.Conn, l.exception == "" || i >= 0 && len(offer.Media[i].Crypto) > 0)
}

func (l *Leg) origin() sdp.Origin {
	if l.sent != nil {
		return l.sent.Origin
	}
	return sdp.Origin{ID: uint64(l.Since.UnixNano()) >> 10, Version: 1}
}

// offerFor makes our offer to this leg: what the other leg offered, or the codec that it agreed on already.
func (l *Leg) offerFor(other *Leg, conn *transport.Conn) ([]byte, error) {
	if err := l.open(); err != nil {
		return nil, err
	}
	var offer *sdp.Session
	var err error
	switch {
	case other.agreed && other.session.State() == dialog.Confirmed:
		offer, err = sdp.BuildOffer(l.offering(conn), codecsOf(other)...)
	case other.late:
		offer, err = sdp.BuildOffer(l.offering(conn), append([]sdp.Codec{sdp.Opus(111), sdp.Events(110, 48000)}, everyPhone()...)...)
	default:
		offer, err = sdp.Rewrite(other.heard, l.offering(conn))
	}
	if err != nil {
		return nil, err
	}
	l.sent = offer
	return offer.Bytes(), nil
}

// accept takes the peer's answer to our offer and sets the leg's keys and address.
func (l *Leg) accept(body []byte) error {
	answer, err := sdp.Parse(body)
	if err != nil {
		return err
	}
	choice, err := sdp.Accept(l.sent, answer)
	if err != nil {
		return err
	}
	l.heard = answer
	return l.agree(choice)
}

// answerFor makes our answer to this leg's offer out of what the other leg answered, and sets this leg's keys and address.
func (l *Leg) answerFor(other *Leg) ([]byte, error) {
	if err := l.open(); err != nil {
		return nil, err
	}
	if l.agreed && l.sent != nil && l.session.State() == dialog.Early { // it was answered by a provisional response already
		return l.sent.Bytes(), nil
	}
	o := l.answering(l.heard)
	o.Offer = l.heard
	answer, err := sdp.Rewrite(other.heard, o)
	if err != nil {
		return nil, err
	}
	choice, err := sdp.Accept(l.heard, answer)
	if err != nil {
		return nil, err
	}
	l.sent = answer
	// Accept speaks from the offerer's side; we are the answerer here.
	choice.Local, choice.Remote = choice.Remote, choice.Local
	choice.Direction = choice.Direction.Reverse()
	choice.RTP, choice.RTCP, _ = l.heard.Remote(l.heard.Audio())
	return answer.Bytes(), l.agree(choice)
}

// offerLate makes the offer that goes into our 200 to a caller who made none: what the answering leg speaks.
func (l *Leg) offerLate(other *Leg) ([]byte, error) {
	if err := l.open(); err != nil {
		return nil, err
	}
	offer, err := sdp.BuildOffer(l.offering(l.session.Conn), codecsOf(other)...)
	if err != nil {
		return nil, err
	}
	l.sent = offer
	return offer.Bytes(), nil
}

// agree puts what an offer and its answer agreed on into force.
func (l *Leg) agree(choice sdp.Choice) error {
	var remote rtp.Keys
	var err error
	if choice.Local.Suite == "" && choice.Remote.Suite == "" && l.exception != "" {
		err = l.media.SetPlain(l.exception)
	} else {
		remote, err = l.seal(choice)
	}
	if err != nil {
		return err
	}
	mux := false
	if i := l.heard.Audio(); i >= 0 {
		mux = l.heard.Media[i].Mux
	}
	if err := l.media.SetRemote(relay.RemoteParams{Addr: choice.RTP, RTCP: choice.RTCP, Mux: mux, Keys: remote, Signalling: l.session.Conn.Remote.Addr()}); err != nil {
		return err
	}
	l.media.Hold(direction(choice.Direction))
	l.choice, l.agreed = choice, true
	c := l.call.ctl
	l.media.OnTimeout(c.cfg.Silence, func() { c.cfg.Shard.Post(l.fellSilent) })
	return nil
}

// fellSilent ends a call whose phone has vanished: nothing it sends arrives any more, and nobody said good-bye.
func (l *Leg) fellSilent() {
	if l.ended || l.call.over || l.holding { // a phone that holds may well say nothing
		return
	}
	why := fmt.Sprintf("no media from %s for %s", l.Device, l.call.ctl.cfg.Silence)
	l.call.ctl.cfg.Log.Warn("a call ended: "+why, "call", l.call.ID, "leg", l.ID, "hint", "is the phone still there, and do the media ports get through?")
	l.call.end(nil, dialog.Reason(41, why), why)
}

// seal puts our key of a choice into force and returns the peer's.
func (l *Leg) seal(choice sdp.Choice) (remote rtp.Keys, err error) {
	local, err := keys(choice.Local)
	if err != nil {
		return remote, err
	}
	if remote, err = keys(choice.Remote); err != nil {
		return remote, err
	}
	return remote, l.media.SetLocalKeys(local)
}

func keys(c sdp.Crypto) (rtp.Keys, error) {
	return rtp.ParseInline(rtp.Suite(c.Suite), "inline:"+c.Inline)
}

func direction(d sdp.Direction) relay.Direction {
	switch {
	case d.Sends() && d.Receives():
		return relay.SendRecv
	case d.Sends():
		return relay.SendOnly
	case d.Receives():
		return relay.RecvOnly
	}
	return relay.Inactive
}

// Offered implements dialog.User: a new offer on an established leg (hold, resume, new address, new keys) is answered here,
// with the codec in use; the other side is not disturbed.
func (l *Leg) Offered(s *dialog.Session, o *dialog.Offer) {
	if !l.agreed || l.media == nil {
		o.Reject(491, "", nil)
		return
	}
	if len(o.SDP) == 0 {
		o.Propose(l.sent.Bytes(), func(answer []byte) {
			if len(answer) > 0 {
				_ = l.accept(answer) // on failure the old agreement stays in force
			}
		})
		return
	}
	answer, err := l.reanswer(o.SDP)
	if err != nil {
		status, phrase := ringfence.KindOf(err).SIP()
		l.call.ctl.cfg.Log.Warn("a change of media was refused", "leg", l.ID, "cause", text(err))
		o.Reject(status, phrase, l.call.warning(err))
		return
	}
	o.Answer(answer)
	l.call.holdChanged(l)
}

func (l *Leg) reanswer(body []byte) ([]byte, error) {
	offer, err := sdp.Parse(body)
	if err != nil {
		return nil, err
	}
	i := offer.Audio()
	if i < 0 {
		return nil, &ringfence.Fault{Op: "call.media", Kind: ringfence.KindUnsupported, Text: "the new offer has no audio"}
	}
	if err := sdp.SealedOr(&offer.Media[i], l.exception); err != nil {
		return nil, err
	}
	o := l.answering(offer)
	codecs := []sdp.Codec{l.choice.Codec}
	if l.choice.Events.Name != "" {
		codecs = append(codecs, l.choice.Events)
	}
	answer, choice, err := sdp.Answer(offer, o, codecs...)
	if err != nil {
		return nil, err
	}
	sdp.SetVersion(l.sent, answer)
	l.heard = offer
	if err := l.agree(choice); err != nil {
		return nil, err
	}
	l.sent = answer
	return answer.Bytes(), nil
}
