package dhcp

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Message types of DHCPv6 (RFC 8415 section 7.3).
const (
	solicit     = 1
	advertise   = 2
	request6    = 3
	renew6      = 5
	rebind6     = 6
	reply       = 7
	release6    = 8
	decline6    = 9
	information = 11
)

// Options of DHCPv6 that make up an exchange (RFC 8415 section 21).
const (
	optClient     = 1
	optServer     = 2
	optIANA       = 3
	optIAAddr     = 5
	optWanted     = 6
	optPreference = 7
	optElapsed    = 8
	optStatus     = 13
	optClass      = 16
	optVendor     = 17
)

// wanted6 are the options that are asked for: besides those that tell of the phone the longest waits (RFC 8415 section 18.2), and the time after which information is asked for anew.
func wanted6(kind byte) []uint16 {
	out := []uint16{17, 23, 24, 31, 56, 82, 159, 160}
	if kind == information {
		out = append(out, 32, 83)
	}
	return out
}

// message6 is a question.
type message6 struct {
	kind      byte
	id        uint32 // 24 bits
	elapsed   time.Duration
	hardware  [6]byte
	server    []byte     // its DUID
	address   netip.Addr // the one that the phone has, or was offered
	noAddress bool       // Information-request
	class     string
}

// duid is the phone's identifier: DUID-LL (RFC 8415 section 11.4), since nothing of a phone is as sure to stay as its hardware address.
func duid(hardware [6]byte) []byte {
	return append([]byte{0, 3, 0, 1}, hardware[:]...)
}

// iaid numbers the phone's one association.
func iaid(hardware [6]byte) []byte { return hardware[2:] }

func (m message6) bytes() []byte {
	b := binary.BigEndian.AppendUint32(nil, m.id)
	b[0] = m.kind
	put := func(code uint16, data []byte) {
		b = binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(b, code), uint16(len(data)))
		b = append(b, data...)
	}
	put(optClient, duid(m.hardware))
	if m.server != nil {
		put(optServer, m.server)
	}
	put(optElapsed, binary.BigEndian.AppendUint16(nil, uint16(min(m.elapsed/(10*time.Millisecond), 65535))))
	if !m.noAddress {
		ia := append(bytes.Clone(iaid(m.hardware)), make([]byte, 8)...)
		if m.address.Is6() {
			ia = append(ia, 0, optIAAddr, 0, 24)
			ia = append(append(ia, m.address.AsSlice()...), make([]byte, 8)...)
		}
		put(optIANA, ia)
	}
	if m.kind != release6 && m.kind != decline6 {
		var want []byte
		for _, code := range wanted6(m.kind) {
			want = binary.BigEndian.AppendUint16(want, code)
		}
		put(optWanted, want)
		if m.class != "" && len(m.class) < 256 {
			data := binary.BigEndian.AppendUint32(nil, phoneMaker)
			data = append(binary.BigEndian.AppendUint16(data, uint16(len(m.class))), m.class...)
			put(optClass, data)
		}
	}
	return b
}

// option6 is one option as it stands, several of a code included.
type option6 struct {
	code uint16
	data []byte
}

func options6(b []byte) (out []option6, ok bool) {
	for len(b) > 0 {
		if len(b) < 4 || len(b) < 4+int(binary.BigEndian.Uint16(b[2:])) || len(out) >= maxOptions {
			return nil, false
		}
		n := int(binary.BigEndian.Uint16(b[2:]))
		out = append(out, option6{binary.BigEndian.Uint16(b), b[4 : 4+n]})
		b = b[4+n:]
	}
	return out, true
}

// status reads a status code (RFC 8415 section 21.13): "" is success.
func status(b []byte) string {
	if len(b) < 2 || binary.BigEndian.Uint16(b) == 0 {
		return ""
	}
	text := map[uint16]string{1: "UnspecFail", 2: "NoAddrsAvail", 3: "NoBinding", 4: "NotOnLink", 5: "UseMulticast", 6: "NoPrefixAvail"}[binary.BigEndian.Uint16(b)]
	text = cmp.Or(text, "a status that is not known")
	if said, why := words(b[2:]); why == "" {
		text += ": " + said
	}
	return text
}

// ParseV6 reads a server's answer to the question with this id of the phone with this hardware address. kind is its message type; refused is what the server says against the question.
func ParseV6(b []byte, id uint32, hardware [6]byte) (a Answer, kind byte, refused string, err error) {
	if len(b) < 4 || len(b) > maxMessage {
		return a, 0, "", bad("%d bytes are no answer of a DHCPv6 server", len(b))
	}
	if kind = b[0]; kind != advertise && kind != reply {
		return a, kind, "", bad("message type %d is none of a server", kind)
	}
	if binary.BigEndian.Uint32(b)&0xffffff != id {
		return a, kind, "", bad("this answers another question")
	}
	found, ok := options6(b[4:])
	if !ok {
		return a, kind, "", bad("an option is cut short")
	}
	a.Family, a.Options, a.places = IPv6, []Option{}, map[uint16]string{}
	count, client := map[uint16]int{}, false
	for _, o := range found {
		if count[o.code]++; count[o.code] > 1 && (o.code == optClient || o.code == optServer) { // RFC 8415 section 21: once
			return a, kind, "", bad("option %d is there twice", o.code)
		}
		switch o.code {
		case optClient:
			if !bytes.Equal(o.data, duid(hardware)) {
				return a, kind, "", bad("this answers another host")
			}
			client = true
		case optServer:
			if len(o.data) < 3 || len(o.data) > 130 { // RFC 8415 section 11.1
				return a, kind, "", bad("the server's identifier has %d bytes", len(o.data))
			}
			a.id = bytes.Clone(o.data)
		case optPreference:
			if len(o.data) == 1 {
				a.pref = int(o.data[0])
			}
		case optStatus:
			refused = cmp.Or(refused, status(o.data))
		case optIANA:
			if len(o.data) >= 12 && bytes.Equal(o.data[:4], iaid(hardware)) {
				refused = cmp.Or(refused, a.association(o.data))
			}
		}
	}
	if a.id == nil || !client { // sections 16.3 and 16.10; a question of ours always names the phone
		return a, kind, "", bad("the answer names no server, or not whom it is for")
	}
	for _, o := range found {
		if o.code == optClient || o.code == optServer || o.code == optIANA || o.code == optStatus {
			continue
		}
		w := Option{Code: o.code, Name: name6(o.code)}
		w.Value, w.Problem = a.option6(o)
		a.Options = append(a.Options, w)
	}
	slices.SortStableFunc(a.Options, func(x, y Option) int { return cmp.Compare(x.Code, y.Code) })
	return a, kind, refused, nil
}

// association reads an IA_NA (section 21.4) with its first address that is good, and returns what the server says against it.
func (a *Answer) association(b []byte) string {
	t1, t2 := seconds(binary.BigEndian.Uint32(b[4:])), seconds(binary.BigEndian.Uint32(b[8:]))
	inner, ok := options6(b[12:])
	if !ok || t1 > t2 && t2 > 0 { // such an association is passed over
		return "an association is ill-formed"
	}
	refused := ""
	for _, o := range inner {
		switch o.code {
		case optStatus:
			refused = cmp.Or(refused, status(o.data))
		case optIAAddr:
			if len(o.data) < 24 || a.Address.IsValid() {
				continue
			}
			own := netip.AddrFrom16([16]byte(o.data[:16]))
			preferred, valid := seconds(binary.BigEndian.Uint32(o.data[16:])), seconds(binary.BigEndian.Uint32(o.data[20:]))
			if !usable(own) || own.Is4In6() || valid == 0 || preferred > valid { // section 21.6
				continue
			}
			a.Address, a.Preferred = netip.PrefixFrom(own, 128), preferred
			if t1 == 0 && preferred != Forever { // section 14.2
				t1 = preferred / 2
			}
			if t2 == 0 && preferred != Forever {
				t2 = preferred / 5 * 4
			}
			a.times(valid, t1, t2)
		}
	}
	return refused
}

func name6(code uint16) string {
	names := map[uint16]string{7: "preference", 17: "vendor-specific information", 20: "reconfigure accept", 23: "DNS server", 24: "domain list", 31: "SNTP server", 32: "refresh time", 56: "NTP server", 82: "longest wait of a Solicit",
		83: "longest wait of an Information-request", 159: "provisioning server", 160: "provisioning URL"}
	return cmp.Or(names[code], "not known")
}

// option6 understands one option.
func (a *Answer) option6(o option6) (value, why string) {
	b := o.data
	switch o.code {
	case optPreference:
		return short(b), ""
	case optVendor:
		if len(b) < 4 {
			return "", "it is cut short"
		}
		return a.enterprise(optVendor, binary.BigEndian.Uint32(b), b[4:], true)
	case 23, 31:
		found, why := addresses(b, 16)
		if why == "" && o.code == 23 {
			a.DNS = append(a.DNS, found[:min(len(found), maxAddresses-min(len(a.DNS), maxAddresses))]...)
		}
		for _, x := range found {
			if o.code == 31 && len(a.NTP) < maxAddresses {
				a.NTP = append(a.NTP, x.String())
			}
		}
		return join(found, addr), why
	case 24:
		found, why := names(b)
		if why == "" && len(a.Domains) == 0 {
			a.Domains = found
		}
		return strings.Join(found, ", "), why
	case 56:
		return a.ntp6(b)
	case 32, 82, 83:
		if len(b) != 4 {
			return "", "it has not 4 bytes"
		}
		d := seconds(binary.BigEndian.Uint32(b))
		if o.code == 32 {
			a.Lifetime = max(d, 10*time.Minute) // section 7.6: IRT_MINIMUM
		}
		return lifetime(d), ""
	case 159, 160:
		if value, why = word(b); why != "" && len(b) == 16 {
			if found, bad := addresses(b, 16); bad == "" {
				value, why = "["+found[0].String()+"]", ""
			}
		}
		if why == "" {
			a.places[o.code] = value
		}
		return value, why
	}
	return short(b), ""
}

// ntp6 reads time servers by address, by multicast address and by name (RFC 5908).
func (a *Answer) ntp6(b []byte) (string, string) {
	inner, ok := options6(b)
	if !ok || len(inner) == 0 {
		return "", "an option within it is cut short"
	}
	var found []string
	for _, o := range inner {
		switch {
		case o.code == 1 && len(o.data) == 16:
			if x := netip.AddrFrom16([16]byte(o.data)); usable(x) || x.IsLinkLocalUnicast() {
				found = append(found, x.String())
			}
		case o.code == 3:
			if s, why := names(o.data); why == "" {
				found = append(found, s[0])
			}
		}
	}
	if len(found) == 0 {
		return "", "it names no server"
	}
	for _, s := range found {
		if len(a.NTP) < maxAddresses {
			a.NTP = append(a.NTP, s)
		}
	}
	return strings.Join(found, ", "), ""
}
