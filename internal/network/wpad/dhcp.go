package wpad

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"

	"ringfence"
)

// Options of DHCP (RFC 2132), and the one of the auto-configuration file, which has no RFC.
const (
	optionDomain   = 15
	optionOverload = 52
	optionType     = 53
	optionServer   = 54
	optionWanted   = 55
	optionWPAD     = 252
	typeAck        = 5
	typeInform     = 8
	headLen        = 236
	maxReply       = 1500
)

// Offer is what a DHCP server says to a host that has an address already.
type Offer struct {
	URL    string // of option 252; "": it names none
	Domain string // of option 15
	Server netip.Addr
}

// Inform is a question for options only (RFC 2131 section 3.4): the address stays as it is.
func Inform(id uint32, own netip.Addr, hardware [6]byte) []byte {
	b := make([]byte, headLen, 300)
	b[0], b[1], b[2] = 1, 1, 6 // BOOTREQUEST, Ethernet
	binary.BigEndian.PutUint32(b[4:], id)
	a := own.As4()
	copy(b[12:], a[:])
	copy(b[28:], hardware[:])
	b = append(b, 99, 130, 83, 99, optionType, 1, typeInform, optionWanted, 3, optionDomain, optionServer, optionWPAD, 255)
	return append(b, make([]byte, 300-len(b))...) // relays of BOOTP want that much
}

// ParseOffer reads the answer to a question with this id.
func ParseOffer(b []byte, id uint32) (o Offer, err error) {
	bad := func(text string) (Offer, error) {
		return Offer{}, &ringfence.Fault{Op: "wpad.dhcp", Kind: ringfence.KindInvalid, Text: text}
	}
	if len(b) < headLen+4 || len(b) > maxReply || b[0] != 2 || string(b[headLen:headLen+4]) != "\x63\x82\x53\x63" {
		return bad(fmt.Sprintf("%d bytes are no answer of a DHCP server", len(b)))
	}
	if binary.BigEndian.Uint32(b[4:]) != id {
		return bad("this answers another question")
	}
	found := map[byte][]byte{} // an option that comes in parts is joined (RFC 3396)
	read := func(b []byte) bool {
		for len(b) > 0 {
			switch n := b[0]; {
			case n == 0:
				b = b[1:]
				continue
			case n == 255:
				return true
			case len(b) < 2 || len(b) < 2+int(b[1]):
				return false
			default:
				found[n] = append(found[n], b[2:2+int(b[1])]...)
				b = b[2+int(b[1]):]
			}
		}
		return true
	}
	if !read(b[headLen+4:]) {
		return bad("an option is cut short")
	}
	if o := found[optionOverload]; len(o) == 1 {
		if o[0]&1 != 0 && !read(b[108:236]) || o[0]&2 != 0 && !read(b[44:108]) {
			return bad("an option is cut short")
		}
	}
	if t := found[optionType]; len(t) != 1 || t[0] != typeAck {
		return bad("this is no acknowledgement")
	}
	if s := found[optionServer]; len(s) == 4 {
		o.Server = netip.AddrFrom4([4]byte(s))
	}
	// Servers end the text with a zero or a line end, as the first clients wanted it.
	clean := func(n byte) (string, bool) {
		s := strings.TrimRight(string(found[n]), "\x00\r\n ")
		return s, !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r >= 0x7f })
	}
	var ok1, ok2 bool
	o.URL, ok1 = clean(optionWPAD)
	o.Domain, ok2 = clean(optionDomain)
	if !ok1 || !ok2 || len(o.URL) > maxURL || len(o.Domain) > 253 {
		return bad("an option holds no text")
	}
	return o, nil
}
