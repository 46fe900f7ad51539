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
func ParseQuote(b []byte, six bool) (Quote, error) {
	kind := byte(11)
	if six {
		kind = 3
	}
	if len(b) < 2 || b[0] != kind || b[1] != 0 {
		return Quote{}, invalid("this does not say that hops came to their end")
	}
	return quoted(b, six, udp)
}

// ParseRefusal is the same for a segment of TCP that somebody on the way says cannot reach its destination.
func ParseRefusal(b []byte, six bool) (Quote, error) {
	kind := byte(3)
	if six {
		kind = 1
	}
	if len(b) < 2 || b[0] != kind {
		return Quote{}, invalid("this does not say that a destination cannot be reached")
	}
	return quoted(b, six, tcp)
}

// The protocols over IP.
const (
	tcp = 6
	udp = 17
)

func invalid(text string) error {
	return &ringfence.Fault{Op: "datagram.quote", Kind: ringfence.KindInvalid, Text: text}
}

func quoted(b []byte, six bool, protocol byte) (q Quote, err error) {
	headed := 20
	if six {
		headed = 40
	}
	if len(b) < 8+headed+8 || len(b) > maxQuote {
		return q, invalid("it quotes too little, or too much")
	}
	in := b[8:]
	var from, to netip.Addr
	switch {
	case !six && in[0]>>4 == 4:
		headed = int(in[0]&15) * 4
		if headed < 20 || len(in) < headed+8 || in[9] != protocol || binary.BigEndian.Uint16(in[6:])&0x1fff != 0 {
			return q, invalid("it quotes another head")
		}
		q.Mark, from, to = in[1]>>2, netip.AddrFrom4([4]byte(in[12:])), netip.AddrFrom4([4]byte(in[16:]))
	case six && in[0]>>4 == 6 && in[6] == protocol:
		q.Mark, from, to = uint8(binary.BigEndian.Uint16(in)>>4&0xff)>>2, netip.AddrFrom16([16]byte(in[8:])), netip.AddrFrom16([16]byte(in[24:]))
	default:
		return q, invalid("it quotes another head")
	}
	ports := in[headed:]
	q.From, q.To = netip.AddrPortFrom(from, binary.BigEndian.Uint16(ports)), netip.AddrPortFrom(to, binary.BigEndian.Uint16(ports[2:]))
	return q, nil
}
