package dhcp

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"math/bits"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Message types of DHCPv4 (RFC 2132 section 9.6).
const (
	discover = 1
	offer    = 2
	request  = 3
	decline  = 4
	ack      = 5
	nak      = 6
	release  = 7
	inform   = 8
)

const (
	head4   = 236
	magic   = "\x63\x82\x53\x63"
	least4  = 300 // bytes: relays of BOOTP want that much (RFC 1542 section 2.1)
	accepts = 1472
)

// wanted4 are the options that are asked for.
func wanted4() []byte {
	return []byte{1, 2, 3, 6, 15, 42, 43, 51, 58, 59, 60, 66, 125, 150, 159, 160, 252}
}

// message4 is a question.
type message4 struct {
	kind      byte
	id        uint32
	elapsed   time.Duration
	broadcast bool
	client    netip.Addr // ciaddr: the address that the phone has
	hardware  [6]byte
	requested netip.Addr // option 50
	server    netip.Addr // option 54
	host      string
	class     string
}

func (m message4) bytes() []byte {
	b := make([]byte, head4, least4)
	b[0], b[1], b[2] = 1, 1, 6 // BOOTREQUEST, Ethernet
	binary.BigEndian.PutUint32(b[4:], m.id)
	binary.BigEndian.PutUint16(b[8:], uint16(min(m.elapsed/time.Second, 65535)))
	if m.broadcast {
		b[10] = 0x80
	}
	if m.client.Is4() {
		a := m.client.As4()
		copy(b[12:], a[:])
	}
	copy(b[28:], m.hardware[:])
	b = append(b, magic...)
	b = append(b, 53, 1, m.kind, 61, 7, 1)
	b = append(b, m.hardware[:]...) // RFC 2132 section 9.14: hardware type and address
	put := func(code byte, data []byte) {
		if len(data) > 0 && len(data) < 256 {
			b = append(append(b, code, byte(len(data))), data...)
		}
	}
	if m.requested.Is4() {
		put(50, m.requested.AsSlice())
	}
	if m.server.Is4() {
		put(54, m.server.AsSlice())
	}
	if m.kind != decline && m.kind != release { // RFC 2131 table 5
		put(12, []byte(m.host))
		put(60, []byte(m.class))
		put(57, []byte{accepts >> 8, accepts & 255})
		put(55, wanted4())
	}
	b = append(b, 255)
	if len(b) < least4 {
		b = append(b, make([]byte, least4-len(b))...)
	}
	return b
}

// options4 reads the options of a message; those that come in parts are joined (RFC 3396), and name fields that hold options are read as well (RFC 2131 section 4.1).
func options4(b []byte) (map[byte][]byte, error) {
	out := map[byte][]byte{}
	read := func(b []byte) bool {
		for len(b) > 0 {
			switch code := b[0]; {
			case code == 0:
				b = b[1:]
			case code == 255:
				return true
			case len(b) < 2 || len(b) < 2+int(b[1]):
				return false
			default:
				out[code] = append(out[code], b[2:2+int(b[1])]...)
				b = b[2+int(b[1]):]
			}
		}
		return true
	}
	if !read(b[head4+4:]) {
		return nil, bad("an option is cut short")
	}
	if o := out[52]; len(o) == 1 && (o[0]&1 != 0 && !read(b[108:236]) || o[0]&2 != 0 && !read(b[44:108])) {
		return nil, bad("an option is cut short")
	}
	return out, nil
}

// ParseV4 reads a server's answer to the question with this id of the phone with this hardware address. kind is its message type.
func ParseV4(b []byte, id uint32, hardware [6]byte) (a Answer, kind byte, err error) {
	switch {
	case len(b) < head4+4 || len(b) > maxMessage || b[0] != 2 || string(b[head4:head4+4]) != magic:
		return a, 0, bad("%d bytes are no answer of a DHCP server", len(b))
	case binary.BigEndian.Uint32(b[4:]) != id:
		return a, 0, bad("this answers another question")
	case b[1] != 1 || b[2] != 6 || !bytes.Equal(b[28:34], hardware[:]):
		return a, 0, bad("this answers another host")
	}
	found, err := options4(b)
	if err != nil {
		return a, 0, err
	}
	if t := found[53]; len(t) == 1 {
		kind = t[0]
	}
	if kind != offer && kind != ack && kind != nak {
		return a, kind, bad("message type %d is none of a server", kind)
	}
	if s := found[54]; len(s) == 4 && usable(netip.AddrFrom4([4]byte(s))) { // each answer names its server (RFC 2131 table 3)
		a.Server, a.id = netip.AddrFrom4([4]byte(s)), s
	} else {
		return a, kind, bad("the answer names no server")
	}
	a.Family, a.Options, a.places = IPv4, []Option{}, map[uint16]string{}
	if own := netip.AddrFrom4([4]byte(b[16:20])); !own.IsUnspecified() {
		if !usable(own) {
			return a, kind, bad("%s is no address for a host", own)
		}
		a.Address = netip.PrefixFrom(own, 32)
	}
	a.Class, _ = words(found[60]) // tells what option 43 is
	for _, code := range slices.Sorted(keys(found)) {
		switch code {
		case 52, 53, 61:
			continue
		}
		o := Option{Code: uint16(code), Name: name4(code)}
		o.Value, o.Problem = a.option4(code, found[code])
		a.Options = append(a.Options, o)
	}
	if kind == nak {
		return a, kind, nil
	}
	time32 := func(code byte) time.Duration {
		if v := found[code]; len(v) == 4 {
			return seconds(binary.BigEndian.Uint32(v))
		}
		return 0
	}
	a.times(time32(51), time32(58), time32(59))
	return a, kind, nil
}

func keys[K cmp.Ordered, V any](m map[K]V) func(func(K) bool) {
	return func(yield func(K) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

func name4(code byte) string {
	names := map[byte]string{1: "subnet mask", 2: "time offset", 3: "router", 6: "DNS server", 12: "host name", 15: "domain name", 28: "broadcast address", 41: "NIS server", 42: "NTP server", 43: "vendor-specific information",
		51: "lease time", 54: "server", 56: "message", 58: "renewal time (T1)", 59: "rebinding time (T2)", 60: "vendor class identifier", 66: "TFTP server name", 67: "boot file", 125: "vendor-identifying vendor-specific information",
		150: "TFTP server", 159: "provisioning server", 160: "provisioning URL", 252: "file that names the web proxy"}
	return cmp.Or(names[code], "not known")
}

// option4 understands one option.
func (a *Answer) option4(code byte, b []byte) (value, why string) {
	hosts := func(to *[]netip.Addr) (string, string) {
		found, why := addresses(b, 4)
		if why == "" {
			*to = found
		}
		return join(found, addr), why
	}
	switch code {
	case 1:
		if len(b) != 4 {
			return "", "it has not 4 bytes"
		}
		mask := binary.BigEndian.Uint32(b)
		ones := bits.LeadingZeros32(^mask)
		if mask != ^uint32(0)<<(32-ones) || ones == 0 {
			return "", short(b) + " is no mask of a subnet"
		}
		if a.Address.IsValid() {
			a.Address = netip.PrefixFrom(a.Address.Addr(), ones)
		}
		return netip.AddrFrom4([4]byte(b)).String(), ""
	case 2:
		if len(b) != 4 {
			return "", "it has not 4 bytes"
		}
		d := time.Duration(int32(binary.BigEndian.Uint32(b))) * time.Second
		if d < -14*time.Hour || d > 14*time.Hour {
			return "", fmt.Sprintf("%v is no offset of a time zone", d)
		}
		a.TimeOffset = &d
		return d.String(), ""
	case 3:
		return hosts(&a.Routers)
	case 6:
		return hosts(&a.DNS)
	case 28, 41, 54: // what a handbook prints as 41, the lease time, is 51
		var ignored []netip.Addr
		if code == 28 {
			return short(b), ""
		}
		return hosts(&ignored)
	case 42:
		var found []netip.Addr
		value, why = hosts(&found)
		for _, x := range found {
			a.NTP = append(a.NTP, x.String())
		}
		return value, why
	case 12:
		return name(b)
	case 15:
		if value, why = name(b); why == "" {
			a.Domains = append(a.Domains, value)
		}
		return value, why
	case 43:
		return a.vendor43(b)
	case 51, 58, 59:
		if len(b) != 4 {
			return "", "it has not 4 bytes"
		}
		return lifetime(seconds(binary.BigEndian.Uint32(b))), ""
	case 56, 60, 67:
		return words(b)
	case 66, 150, 159, 160:
		if value, why = place(b); why == "" {
			a.places[uint16(code)] = value
		}
		return value, why
	case 125:
		return a.vendor125(b)
	case 252:
		if value, why = word(b); why == "" && !strings.HasPrefix(value, "http://") && !strings.HasPrefix(value, "https://") {
			why = "it is no address of a file by http or https"
		}
		if why == "" {
			a.WPAD = value
		}
		return value, why
	}
	return short(b), ""
}

func lifetime(d time.Duration) string {
	if d == Forever {
		return "without end"
	}
	return d.String()
}
