package sdp

import (
	"net/netip"
	"slices"
	"strconv"

	"ringfence"
)

// formatOf returns the format that names a payload type on an m-line. strconv makes no new string for those below 100.
func formatOf(pt uint8) string {
	const dynamic = "100101102103104105106107108109110111" +
		"112113114115116117118119120121122123124125126127"
	if pt < 100 || pt > 127 {
		return strconv.Itoa(int(pt))
	}
	at := 3 * int(pt-100)
	return dynamic[at : at+3]
}

// BuildOffer makes an offer of one audio section with these codecs, first the one we like best. Payload types must differ.
func BuildOffer(o RewriteOptions, codecs ...Codec) (*Session, error) {
	out := &description{}
	m := out.addMedia(len(codecs))
	m.Direction, m.PTime = o.Direction, 20
	for i := range codecs {
		c := &codecs[i]
		if c.PayloadType > 127 || c.Name == "" || slices.Contains(m.Formats, formatOf(c.PayloadType)) {
			return nil, &ringfence.Fault{Op: "sdp.offer", Kind: ringfence.KindInternal, Text: "a codec without a name, or two with one payload type"}
		}
		m.addCodec(c)
	}
	o.Offer = nil
	return o.assemble(&out.audio, out.Media, 0)
}

// Choice is what an offer and its answer agreed on.
type Choice struct {
	Codec     Codec          // with the payload type to send and the far side's parameters
	Others    []Codec        // further formats that both listed: the far side may change to one at any time (RFC 3264 section 6.1)
	Events    Codec          // telephone-event with the codec's clock; Name is empty if there is none
	PTime     uint16         // milliseconds a packet that the far side wants; 20 if it did not say
	Direction Direction      // seen from us
	RTP       netip.AddrPort // where to send; invalid if the far side named no address
	RTCP      netip.AddrPort
	Remote    Crypto // the far side's key; zero for a plain leg
	Local     Crypto // ours
}

// Answer answers offer: it accepts the first audio section that is not refused with the codec that comes first in
// supported (and with o.All all others that both have), and telephone-event if both have it; every other section is refused with port 0. In o, Offer may be left
// nil. It fails with ringfence.KindInsecure if the offer cannot be sealed and no exception is named, and with
// KindUnsupported if no codec is shared.
func Answer(offer *Session, o RewriteOptions, supported ...Codec) (*Session, Choice, error) {
	at := offer.Audio()
	if at < 0 {
		return nil, Choice{}, invalid("there is no audio in the offer")
	}
	from := &offer.Media[at]
	var ch Choice
	formats := 2 // a codec and telephone-event
	if o.All {
		formats = min(len(supported), len(from.Codecs))
	}
	made := &description{}
	m := made.addMedia(formats)
	m.PTime, m.Direction = from.PTime, from.Direction.Reverse().And(o.Direction)
	for _, want := range supported {
		i := indexCodec(from.Codecs, &want)
		if i < 0 || want.IsEvent() {
			continue
		}
		want.PayloadType = from.Codecs[i].PayloadType
		m.addCodec(&want)
		if ch.Codec.Name != "" {
			ch.Others = append(ch.Others, from.Codecs[i])
			continue
		}
		if ch.Codec = from.Codecs[i]; !o.All {
			break
		}
	}
	if ch.Codec.Name == "" {
		return nil, Choice{}, &ringfence.Fault{Op: "sdp.answer", Kind: ringfence.KindUnsupported, Text: "no audio codec that both sides know"}
	}
	ch.Events = answerEvents(m, from, supported, ch.Codec.Clock)
	o.Offer = offer
	out, err := o.assemble(&made.audio, offer.Media, at)
	if err != nil {
		return nil, Choice{}, err
	}
	ours := &out.Media[at]
	ch.Direction, ch.PTime = ours.Direction, max(from.PTime, 10)
	if from.PTime == 0 {
		ch.PTime = 20
	}
	ch.RTP, ch.RTCP, _ = offer.Remote(at)
	if len(ours.Crypto) > 0 {
		ch.Remote, ch.Local, _ = pairCrypto(from, o.Crypto)
	}
	return out, ch, nil
}

// answerEvents accepts telephone-event of the clock of the chosen codec (RFC 4733 section 2.1), else of any we support.
func answerEvents(m, from *Media, supported []Codec, clock uint32) Codec {
	for _, exact := range [...]bool{true, false} {
		for _, want := range supported {
			if !want.IsEvent() || exact && want.Clock != clock {
				continue
			}
			if i := indexCodec(from.Codecs, &want); i >= 0 {
				events := from.Codecs[i]
				want.PayloadType = events.PayloadType
				m.addCodec(&want)
				return events
			}
		}
	}
	return Codec{}
}

// Accept reads the answer to an offer of ours, both as sent. It fails if the answer breaks RFC 3264 or RFC 4568: another
// number of sections, other media, a codec or a key that was not offered, or audio that is refused or not sealed
// (unless the offer was plain by an exception).
func Accept(offer, answer *Session) (Choice, error) {
	if len(answer.Media) != len(offer.Media) {
		return Choice{}, invalid("the answer has %d media sections, the offer %d", len(answer.Media), len(offer.Media))
	}
	at := offer.Audio()
	if at < 0 || !is(answer.Media[at].Type, "audio") {
		return Choice{}, invalid("the answer has other media than the offer")
	}
	ours, theirs := &offer.Media[at], &answer.Media[at]
	if theirs.Port == 0 {
		return Choice{}, &ringfence.Fault{Op: "sdp.accept", Kind: ringfence.KindUnsupported, Text: "the far side refused the audio"}
	}
	ch := Choice{Direction: theirs.Direction.Reverse().And(ours.Direction), PTime: theirs.PTime}
	if ch.PTime == 0 {
		ch.PTime = 20
	}
	if err := acceptKeys(ours, theirs, &ch); err != nil {
		return Choice{}, err
	}
	for i := range theirs.Codecs {
		// The answerer may use its own payload type, but should not (RFC 3264 section 6.1); its number is the one to send.
		switch c := &theirs.Codecs[i]; {
		case indexCodec(ours.Codecs, c) < 0:
		case c.IsEvent():
			if ch.Events.Name == "" {
				ch.Events = *c
			}
		case ch.Codec.Name == "":
			ch.Codec = *c
		default:
			ch.Others = append(ch.Others, *c)
		}
	}
	if ch.Codec.Name == "" {
		return Choice{}, &ringfence.Fault{Op: "sdp.accept", Kind: ringfence.KindUnsupported, Text: "the answer has no codec of the offer"}
	}
	if ch.Events.Name != "" && ch.Events.Clock != ch.Codec.Clock { // one of the codec's clock is better (RFC 4733 section 2.1)
		for i := range theirs.Codecs {
			if c := &theirs.Codecs[i]; c.IsEvent() && c.Clock == ch.Codec.Clock && indexCodec(ours.Codecs, c) >= 0 {
				ch.Events = *c
				break
			}
		}
	}
	ch.RTP, ch.RTCP, _ = answer.Remote(at)
	return ch, nil
}

func acceptKeys(ours, theirs *Media, ch *Choice) error {
	if isAVP(ours.Proto) { // we offered plain RTP by an exception
		if !isAVP(theirs.Proto) {
			return invalid("the answer has another profile than the offer")
		}
		return nil
	}
	if err := Sealed(theirs); err != nil {
		return err
	}
	if len(theirs.Crypto) != 1 {
		return insecure("the answer has several a=crypto lines", "an answer picks one (RFC 4568 section 5.1.2)")
	}
	ch.Remote = theirs.Crypto[0]
	i := slices.IndexFunc(ours.Crypto, func(c Crypto) bool { return c.Tag == ch.Remote.Tag && c.Suite == ch.Remote.Suite })
	if i < 0 {
		return insecure("the answer picks an a=crypto line that was not offered", "")
	}
	if ours.Crypto[i].Inline == ch.Remote.Inline {
		return insecure("the answer repeats our media key", "each side must make its own key (RFC 4568 section 7.1.2)")
	}
	ch.Local = ours.Crypto[i]
	return nil
}
