package control

import (
	"ringfence"
	"ringfence/internal/media/codec"
	"ringfence/internal/media/player"
	"ringfence/internal/media/relay"
	"ringfence/internal/sip/dialog"
	"ringfence/internal/sip/sdp"
)

// connect joins two legs, whatever state each is in: a leg that waits for our answer gets it, and one that has agreed on its
// media keeps it. Both end up with the same codec, so that the relay passes it on unchanged.
func (call *Call) connect(a, b *Leg) error {
	if a.agreed && !b.agreed || b.late && !b.agreed {
		a, b = b, a
	}
	if a.late && !a.agreed {
		return a.offerTo(b)
	}
	switch {
	case a.agreed: // both have
		if !a.choice.Codec.Same(b.choice.Codec) {
			return &ringfence.Fault{Op: "call.connect", Kind: ringfence.KindUnsupported,
				Text: "the two sides speak different codecs: " + a.choice.Codec.Name + " and " + b.choice.Codec.Name}
		}
	case b.agreed: // only a waits
		if err := a.answerWith(codecsOf(b)); err != nil {
			return err
		}
	default: // both wait
		if err := a.answerWith(common(a.heard, b.heard)); err != nil {
			return err
		}
		if err := b.answerWith(codecsOf(a)); err != nil {
			return err
		}
	}
	a.silence()
	b.silence()
	if err := a.mapPayloads(b); err != nil {
		return err
	}
	if err := b.mapPayloads(a); err != nil {
		return err
	}
	return call.join(a, b)
}

// offerTo answers a leg whose INVITE had no offer with one of ours, for what the other leg speaks. They are joined once the ACK has brought the answer.
func (l *Leg) offerTo(other *Leg) error {
	switch {
	case l.session.State() != dialog.Early || l.session.UAC:
		return &ringfence.Fault{Op: "call.connect", Kind: ringfence.KindConflict, Text: "the leg does not wait for an answer"}
	case !other.agreed:
		if err := other.answerWith(own()); err != nil {
			return err
		}
	}
	offer, err := l.offerLate(other)
	if err != nil {
		return err
	}
	other.silence()
	l.session.Answer(offer, nil)
	return nil
}

// mapPayloads makes what a sends arrive under the numbers that b uses for the same formats.
func (l *Leg) mapPayloads(b *Leg) error {
	m := map[uint8]uint8{}
	if from, to := l.choice.Codec.PayloadType, b.choice.Codec.PayloadType; from != to {
		m[from] = to
	}
	if l.choice.Events.Name != "" && b.choice.Events.Name != "" && l.choice.Events.PayloadType != b.choice.Events.PayloadType {
		m[l.choice.Events.PayloadType] = b.choice.Events.PayloadType
	}
	return l.media.SetPayloadMap(m)
}

func codecsOf(l *Leg) []sdp.Codec {
	out := []sdp.Codec{l.choice.Codec}
	if l.choice.Events.Name != "" {
		out = append(out, l.choice.Events)
	}
	return out
}

// common lists the audio formats that both offers have, in the order of the first.
func common(a, b *sdp.Session) (out []sdp.Codec) {
	i, j := a.Audio(), b.Audio()
	if i < 0 || j < 0 {
		return nil
	}
	for _, c := range a.Media[i].Codecs {
		for _, d := range b.Media[j].Codecs {
			if c.Same(d) {
				out = append(out, c)
				break
			}
		}
	}
	return out
}

// everyPhone lists the codecs that phones have in common, for an offer whose other side is not known yet.
func everyPhone() []sdp.Codec {
	return []sdp.Codec{sdp.G722(), sdp.PCMA(), sdp.PCMU(), sdp.Events(101, 8000)}
}

// own lists the codecs that we can play and hear ourselves, the one that costs most last.
func own() []sdp.Codec {
	return append(everyPhone(), sdp.Opus(111), sdp.Events(110, 48000))
}

// encoder returns what encodes sound for the leg.
func (l *Leg) encoder() (codec.Codec, error) {
	return codec.NewFor(codec.Name(l.choice.Codec.Name), l.choice.Codec.FMTP)
}

// format says how what it encodes is labelled.
func (l *Leg) format() relay.Format {
	return player.FormatOf(codec.Name(l.choice.Codec.Name), l.choice.Codec.PayloadType)
}

// answerWith answers the leg's waiting INVITE with the first of these codecs that its offer has.
func (l *Leg) answerWith(codecs []sdp.Codec) error {
	if l.session == nil || l.session.State() != dialog.Early || l.session.UAC {
		return &ringfence.Fault{Op: "call.connect", Kind: ringfence.KindConflict, Text: "the leg does not wait for an answer"}
	}
	if l.late {
		return &ringfence.Fault{Op: "call.connect", Kind: ringfence.KindUnsupported, Text: "the phone made no offer", Hint: "let the phone make the offer (early offer)"}
	}
	answer, err := l.pick(codecs)
	if err != nil {
		return err
	}
	l.session.Answer(answer, nil)
	return nil
}

// pick makes our answer to the leg's waiting offer with the first of these codecs that it has, and puts it into force.
func (l *Leg) pick(codecs []sdp.Codec) ([]byte, error) {
	if err := l.open(); err != nil {
		return nil, err
	}
	answer, choice, err := sdp.Answer(l.heard, l.answering(l.heard), codecs...)
	if err != nil {
		return nil, err
	}
	l.sent = answer
	return answer.Bytes(), l.agree(choice)
}
