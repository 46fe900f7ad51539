package sdp

import (
	"net/netip"
	"slices"

	"ringfence"
)

// RewriteOptions are what one leg is to see of us: our address, keys and ids.
type RewriteOptions struct {
	Addr   netip.AddrPort // where we receive RTP of this leg
	RTCP   uint16         // where we receive RTCP, if it is not Addr's port plus one; ignored with Mux
	Mux    bool           // RTP and RTCP share a port (RFC 5761); in an answer only if the offer had it
	Crypto []Crypto       // our keys for this leg, best first; an answer carries the best one that the offer has
	Origin Origin         // our session id and version; the user name and address in it are not used
	// Direction is what we want, seen from us. In a Rewrite and an Answer it can only narrow.
	Direction Direction
	// Offer is the offer being answered, as it was received from the leg that gets the result. It is nil for an offer.
	Offer *Session
	// All makes an answer list every codec that both sides have, not only the one that we choose.
	All bool
	// Feedback makes an offer use the profile with feedback: RTP/SAVPF (RFC 5124). An answer repeats the offer's profile.
	Feedback bool
	// Exception names the exception that lets this leg use plain RTP. It is empty for every other leg, and then a
	// description without keys is never made.
	Exception string
}

// Rewrite makes the description that the other leg gets from the one that this leg sent. Only media formats, packet
// times and the direction of its first audio section pass; addresses, names, ids, keys, ICE candidates and every
// attribute that is not on the list of media-format attributes do not. Every other section is refused with port 0, so
// that the result has as many sections as the offer, in the same order (RFC 3264 section 6). s is not changed; the result
// may share its list of codecs, and an offer that of o.Crypto, so that those may not be changed in place.
//
// It fails with ringfence.KindInsecure if the result would not be sealed and no exception is named.
func Rewrite(s *Session, o RewriteOptions) (*Session, error) {
	at := s.Audio()
	if at < 0 {
		return nil, invalid("there is no audio in the session description")
	}
	from := &s.Media[at]
	out := &audio{}
	out.Media = out.media[:]
	m := &out.media[0]
	m.PTime, m.MaxPTime, m.Direction = from.PTime, from.MaxPTime, from.Direction.And(o.Direction)
	m.copyCodecs(from)
	for i := range from.Attributes {
		if a := &from.Attributes[i]; formatAttribute(a.Name) {
			m.Attributes = append(m.Attributes, *a)
		}
	}
	return o.assemble(out, s.Media, at)
}

// formatAttribute is the allow list: attributes about the format of media that name no host, person, key or network.
func formatAttribute(name string) bool {
	return is(name, "silencesupp") || is(name, "annexb")
}

// copyCodecs gives m the codecs of from that have a name. Most often those are all, and then both have the same list.
func (m *Media) copyCodecs(from *Media) {
	n := len(from.Codecs)
	same := n == len(from.Formats)
	for i := 0; same && i < n; i++ {
		c := &from.Codecs[i]
		same = c.Name != "" && from.Formats[i] == formatOf(c.PayloadType)
	}
	if same {
		m.Codecs, m.Formats = from.Codecs[:n:n], from.Formats[:n:n]
		return
	}
	m.Codecs, m.Formats = make([]Codec, 0, n), make([]string, 0, n)
	for i := range from.Codecs {
		if c := &from.Codecs[i]; c.Name != "" {
			m.addCodec(c)
		}
	}
}

func (m *Media) addCodec(c *Codec) {
	m.Codecs = append(m.Codecs, *c)
	m.Formats = append(m.Formats, formatOf(c.PayloadType))
}

// assemble completes out, whose only section is our audio, and puts the sections of like, or of o.Offer, refused around it.
// at is the place of audio in like.
func (o *RewriteOptions) assemble(out *audio, like []Media, at int) (*Session, error) {
	if !o.Addr.IsValid() || o.Addr.Port() == 0 || o.Addr.Addr().IsUnspecified() {
		return nil, &ringfence.Fault{Op: "sdp.rewrite", Kind: ringfence.KindInternal, Text: "no media address for the session description"}
	}
	m := &out.Media[0]
	if len(m.Codecs) == 0 {
		return nil, &ringfence.Fault{Op: "sdp.rewrite", Kind: ringfence.KindUnsupported, Text: "no audio codec that both sides know"}
	}
	if o.Offer != nil {
		like, at = o.Offer.Media, o.Offer.Audio()
		if at < 0 {
			return nil, invalid("there is no audio in the offer being answered")
		}
	}
	if err := o.seal(m, out, at); err != nil {
		return nil, err
	}
	m.Type, m.Port = "audio", o.Addr.Port()
	m.Mux = o.Mux && (o.Offer == nil || o.Offer.Media[at].Mux)
	if o.RTCP != 0 && !m.Mux && o.RTCP != m.Port+1 {
		m.RTCPPort = o.RTCP
	}
	out.Name, out.Connection = "-", ConnectionOf(o.Addr.Addr())
	out.Origin.User, out.Origin.ID, out.Origin.Version, out.Origin.Addr = "-", o.Origin.ID, o.Origin.Version, out.Connection
	if len(like) > 1 {
		out.Media = make([]Media, len(like))
		for i := range like {
			if i == at {
				out.Media[i] = *m
			} else {
				out.Media[i] = refused(&like[i])
			}
		}
	}
	return &out.Session, nil
}

// seal sets the profile and the keys of our section.
func (o *RewriteOptions) seal(m *Media, out *audio, at int) error {
	if o.Offer == nil {
		m.Crypto = o.supported()
		switch {
		case len(m.Crypto) > 0 && o.Feedback:
			m.Proto = "RTP/SAVPF"
		case len(m.Crypto) > 0:
			m.Proto = "RTP/SAVP"
		case o.Exception != "":
			m.Proto = "RTP/AVP"
		default:
			return insecure("there is no media key for this leg", "")
		}
		return nil
	}
	offer := &o.Offer.Media[at]
	m.Proto = offer.Proto
	if o.Exception != "" && isAVP(offer.Proto) {
		return nil
	}
	if err := Sealed(offer); err != nil {
		return err
	}
	_, local, ok := pairCrypto(offer, o.Crypto)
	if !ok {
		return insecure("there is no SRTP suite that both sides support", "enable the same suite on both sides")
	}
	out.addCrypto(m, &local)
	return nil
}

// supported returns the keys that we support: most often all, and then it is the same list.
func (o *RewriteOptions) supported() []Crypto {
	n := len(o.Crypto)
	if !slices.ContainsFunc(o.Crypto, func(c Crypto) bool { return !c.Supported() }) {
		return o.Crypto[:n:n]
	}
	return slices.DeleteFunc(slices.Clone(o.Crypto), func(c Crypto) bool { return !c.Supported() })
}

// refused is a section with port 0. It keeps what RFC 3264 section 6 wants to recognise the line by, and one format.
func refused(m *Media) Media {
	r := Media{Type: m.Type, Proto: m.Proto, Formats: []string{"0"}}
	if len(m.Formats) > 0 {
		r.Formats = slices.Clone(m.Formats[:1])
	}
	return r
}

// SetVersion gives next the ids of prev, the description sent before it in the same dialog, and prev's version plus one
// if anything else changed (RFC 3264 section 8). Without prev it leaves next alone. It reports whether anything changed.
func SetVersion(prev, next *Session) (changed bool) {
	if prev == nil {
		return true
	}
	next.Origin.ID, next.Origin.Version = prev.Origin.ID, prev.Origin.Version
	if string(prev.Bytes()) == string(next.Bytes()) {
		return false
	}
	next.Origin.Version++
	return true
}
