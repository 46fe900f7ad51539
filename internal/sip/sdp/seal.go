package sdp

import (
	"fmt"

	"ringfence"
)

// Sealed returns nil if section m may be served: it is refused (port 0), it is not audio (which [Rewrite] and [Answer]
// refuse), or it is RTP/SAVP or RTP/SAVPF with at least one a=crypto line that we support. Otherwise it returns a
// ringfence.KindInsecure fault that names the cause.
func Sealed(m *Media) error {
	if m.Port == 0 || !is(m.Type, "audio") {
		return nil
	}
	if !isSAVP(m.Proto) {
		return notSealed(m)
	}
	if len(m.Crypto) == 0 {
		if m.BadCrypto > 0 {
			return insecure("the a=crypto line is malformed", "")
		}
		return insecure("the audio is offered as SRTP, but without an a=crypto line", "switch SDES keys (RFC 4568) on at the far end")
	}
	var first error
	for i := range m.Crypto {
		c := &m.Crypto[i]
		if c.good {
			return nil
		}
		err := c.check()
		if err == nil {
			return nil
		}
		if first == nil {
			first = err
		}
	}
	return &ringfence.Fault{Op: "sdp.sealed", Kind: ringfence.KindInsecure, Text: "no a=crypto line that we support", Err: first,
		Hint: "enable AEAD_AES_256_GCM, AEAD_AES_128_GCM or AES_CM_128_HMAC_SHA1_80 at the far end"}
}

// SealedOr is [Sealed], except that exception, which names why this leg may use plain RTP, lets RTP/AVP pass if it is not empty.
func SealedOr(m *Media, exception string) error {
	if exception != "" && isAVP(m.Proto) {
		return nil
	}
	return Sealed(m)
}

func notSealed(m *Media) error {
	switch {
	case isDTLS(m.Proto):
		return insecure("DTLS-SRTP (UDP/TLS/RTP/SAVPF) is not offered yet", "use SRTP with a=crypto (RTP/SAVP)")
	case is(m.Proto, "RTP/AVP") || is(m.Proto, "RTP/AVPF"):
		if len(m.Crypto) > 0 || m.BadCrypto > 0 {
			return insecure("the audio is offered as plain RTP with optional encryption (a=crypto with RTP/AVP)",
				"make SRTP mandatory (RTP/SAVP) at the far end")
		}
		return insecure("the audio is offered as plain RTP (RTP/AVP)", "switch SRTP on at the far end")
	}
	return insecure("the audio uses a transport that is not SRTP", "use SRTP with a=crypto (RTP/SAVP)")
}

func insecure(text, hint string) error {
	return &ringfence.Fault{Op: "sdp.sealed", Kind: ringfence.KindInsecure, Text: text, Hint: hint}
}

func isSAVP(proto string) bool {
	return is(proto, "RTP/SAVP") || is(proto, "RTP/SAVPF")
}

func isAVP(proto string) bool {
	return is(proto, "RTP/AVP") || is(proto, "RTP/AVPF")
}

func isDTLS(proto string) bool {
	return is(proto, "UDP/TLS/RTP/SAVPF") || is(proto, "UDP/TLS/RTP/SAVP")
}

// Sealed returns the first fault of [Sealed] over the sections, and a fault if no section is audio that is not refused.
func (s *Session) Sealed() error {
	for i := range s.Media {
		if err := Sealed(&s.Media[i]); err != nil {
			return err
		}
	}
	if s.Audio() < 0 {
		return invalid("there is no audio in the session description")
	}
	return nil
}

func invalid(format string, args ...any) error {
	return &ringfence.Fault{Op: "sdp.negotiate", Kind: ringfence.KindInvalid, Text: fmt.Sprintf(format, args...)}
}

// ChooseCrypto picks a line of the section that we support: of the best suite in the order of [Suites], the first one.
func ChooseCrypto(m *Media) (Crypto, bool) {
	for _, suite := range Suites() {
		if i := supported(m.Crypto, suite); i >= 0 {
			return m.Crypto[i], true
		}
	}
	return Crypto{}, false
}

// pairCrypto picks the line of the offer to accept and the key of ours to answer with: the best suite both have. The
// answer carries the tag of the offer (RFC 4568 section 5.1.2).
func pairCrypto(offer *Media, ours []Crypto) (remote, local Crypto, ok bool) {
	for _, suite := range Suites() {
		i, j := supported(offer.Crypto, suite), supported(ours, suite)
		if i >= 0 && j >= 0 {
			local = ours[j]
			local.Tag = offer.Crypto[i].Tag
			return offer.Crypto[i], local, true
		}
	}
	return Crypto{}, Crypto{}, false
}

// supported returns the index of the first line of a suite that we support, or -1.
func supported(list []Crypto, suite string) int {
	for i := range list {
		if c := &list[i]; c.Suite == suite && c.Supported() {
			return i
		}
	}
	return -1
}
