package datagram

import (
	"encoding/binary"
	"net/netip"

	"ringfence"
)

// Quote is the head of a datagram of ours as a router saw it and gave it back, when its hops were at their end.
type Quote struct {
	From, To netip.AddrPort // as the router saw them: behind a NAT, the sender is another one
	Mark     uint8          // DSCP
}

const maxQuote = 1500

// ParseQuote reads a message of ICMP without the header of IP (RFC 792; for IPv6 RFC 4443) and returns what it quotes, if it says that the hops of a UDP datagram came to their end.
func ParseQuote(b []byte, six bool) (q Quote, err error) {
	bad := func(text string) (Quote, error) {
		return Quote{}, &ringfence.Fault{Op: "datagram.quote", Kind: ringfence.KindInvalid, Text: text}
	}
	kind, headed := byte(11), 20
	if six {
		kind, headed = 3, 40
	}
	if len(b) < 8+headed+8 || len(b) > maxQuote || b[0] != kind || b[1] != 0 {
		return bad("this does not say that hops came to their end")
	}
	in := b[8:]
	var from, to netip.Addr
	switch {
	case !six && in[0]>>4 == 4:
		headed = int(in[0]&15) * 4
		if headed < 20 || len(in) < headed+8 || in[9] != 17 || binary.BigEndian.Uint16(in[6:])&0x1fff != 0 {
			return bad("it quotes no head of UDP")
		}
		q.Mark, from, to = in[1]>>2, netip.AddrFrom4([4]byte(in[12:])), netip.AddrFrom4([4]byte(in[16:]))
	case six && in[0]>>4 == 6 && in[6] == 17:
		q.Mark, from, to = uint8(binary.BigEndian.Uint16(in)>>4&0xff)>>2, netip.AddrFrom16([16]byte(in[8:])), netip.AddrFrom16([16]byte(in[24:]))
	default:
		return bad("it quotes no head of UDP")
	}
	ports := in[headed:]
	q.From, q.To = netip.AddrPortFrom(from, binary.BigEndian.Uint16(ports)), netip.AddrPortFrom(to, binary.BigEndian.Uint16(ports[2:]))
	return q, nil
}
