package sdp

import (
	"net/netip"
	"strings"
)

// Session is one session description. The zero value is not valid; use [Parse], [BuildOffer], [Answer] or [Rewrite].
type Session struct {
	Origin     Origin
	Name       string      // s=; "-" if it was missing
	Connection Connection  // session-level c=; zero if absent
	Lines      []Line      // session-level lines not named here, in order, without k= (RFC 8866 section 5.12: never used)
	Attributes []Attribute // session-level attributes, in order; the direction is moved to each media section
	Media      []Media
}

// Origin is the o= line (RFC 8866 section 5.2). ID and Version are 0 if they were missing or not numeric.
type Origin struct {
	User    string // "-" if empty
	ID      uint64
	Version uint64
	Addr    Connection
}

// Connection is the c= line, or the address part of o= (RFC 8866 section 5.7).
type Connection struct {
	Type string // "IP4" or "IP6"
	Host string // an address or a host name, without a multicast TTL
}

// IP returns the host as an address. ok is false if it is absent or a host name.
func (c Connection) IP() (addr netip.Addr, ok bool) {
	a, err := netip.ParseAddr(c.Host)
	return a.Unmap(), err == nil && a.Zone() == ""
}

// isUnspecified reports whether the host is the address of nobody. Such an address begins with a zero or a colon, in all ways to write it.
func (c *Connection) isUnspecified() bool {
	if c.Host == "" || c.Host[0] != '0' && c.Host[0] != ':' {
		return false
	}
	a, ok := c.IP()
	return ok && a.IsUnspecified()
}

// ConnectionOf returns the connection for an address.
func ConnectionOf(a netip.Addr) Connection {
	a = a.Unmap()
	if a.Is6() {
		return Connection{Type: "IP6", Host: a.String()}
	}
	return Connection{Type: "IP4", Host: a.String()}
}

// Line is a line of a type that has no field of its own, such as i=, b= or t=.
type Line struct {
	Type  byte
	Value string
}

// Attribute is an a= line; Value is empty for a property attribute such as "ice-lite".
type Attribute struct{ Name, Value string }

// Direction says which way media may flow, seen from the side that wrote the description (RFC 8866 section 6.7).
type Direction uint8

// The directions. The zero value is the default.
const (
	SendRecv Direction = iota
	SendOnly
	RecvOnly
	Inactive
)

// String returns the attribute name, e.g. "sendonly".
func (d Direction) String() string {
	switch d {
	case SendOnly:
		return "sendonly"
	case RecvOnly:
		return "recvonly"
	case Inactive:
		return "inactive"
	}
	return "sendrecv"
}

// Sends reports whether the side that wrote it may send.
func (d Direction) Sends() bool { return d == SendRecv || d == SendOnly }

// Receives reports whether the side that wrote it wants to receive.
func (d Direction) Receives() bool { return d == SendRecv || d == RecvOnly }

// Reverse returns the same direction seen from the other side.
func (d Direction) Reverse() Direction { return direction(d.Receives(), d.Sends()) }

// And returns what both directions, seen from the same side, allow.
func (d Direction) And(o Direction) Direction {
	return direction(d.Sends() && o.Sends(), d.Receives() && o.Receives())
}

func direction(send, recv bool) Direction {
	switch {
	case send && recv:
		return SendRecv
	case send:
		return SendOnly
	case recv:
		return RecvOnly
	}
	return Inactive
}

// Media is one m= section (RFC 8866 section 5.14).
type Media struct {
	Type       string     // "audio", "video", "image", "application", ...
	Proto      string     // "RTP/SAVP", "udptl", ...
	Port       uint16     // 0: refused or disabled
	Ports      uint16     // number of ports if the m-line had "/n", else 0
	PTime      uint16     // milliseconds a packet; 0 if absent
	MaxPTime   uint16     // milliseconds; 0 if absent
	RTCPPort   uint16     // a=rtcp port (RFC 3605); 0 if absent
	BadCrypto  uint16     // a=crypto lines that were malformed, and are not kept
	Mux        bool       // a=rtcp-mux (RFC 5761)
	Direction  Direction  // effective: session default and the old c=0.0.0.0 hold are applied (RFC 3264 section 8.4)
	Formats    []string   // as on the m-line; payload types for RTP
	Codecs     []Codec    // for RTP, one for each format, in the order of the m-line
	Crypto     []Crypto   // well-formed a=crypto lines, in order (RFC 4568)
	Connection Connection // media-level c=; zero if absent
	RTCPAddr   Connection // a=rtcp address; zero if absent
	Lines      []Line     // media-level lines not named here, in order, without k=
	Attributes []Attribute
}

// Codec is one RTP payload format: a=rtpmap with its a=fmtp.
type Codec struct {
	PayloadType uint8  // 0 to 127
	Channels    uint8  // 0 and 1 mean one
	Clock       uint32 // Hz
	Name        string // as received, e.g. "opus"; empty for a dynamic type that has no a=rtpmap
	FMTP        string // format parameters; may be empty
}

// Same reports whether two codecs are the same format, whatever their payload types and parameters.
func (c Codec) Same(o Codec) bool { return c.same(&o) }

func (c *Codec) same(o *Codec) bool {
	return c.Clock == o.Clock && max(c.Channels, 1) == max(o.Channels, 1) && c.Name != "" && is(c.Name, o.Name)
}

// indexCodec returns the index of the first codec in list that is the same as c, or -1.
func indexCodec(list []Codec, c *Codec) int {
	for i := range list {
		if c.same(&list[i]) {
			return i
		}
	}
	return -1
}

// IsEvent reports whether the codec is RFC 4733 telephone-event.
func (c Codec) IsEvent() bool { return is(c.Name, "telephone-event") }

// PCMU returns G.711 mu-law with its static payload type 0 (RFC 3551).
func PCMU() Codec { return staticCodec(0) }

// PCMA returns G.711 A-law with its static payload type 8 (RFC 3551).
func PCMA() Codec { return staticCodec(8) }

// G722 returns G.722 with its static payload type 9; its RTP clock is 8000 by history (RFC 3551 section 4.5.2).
func G722() Codec { return staticCodec(9) }

// Opus returns Opus with a dynamic payload type (RFC 7587: always 48000 Hz and 2 channels on the line).
func Opus(payloadType uint8) Codec {
	return Codec{PayloadType: payloadType, Name: "opus", Clock: 48000, Channels: 2, FMTP: "useinbandfec=1"}
}

// Events returns telephone-event for digits 0 to 15 at the given clock (RFC 4733).
func Events(payloadType uint8, clock uint32) Codec {
	return Codec{PayloadType: payloadType, Name: "telephone-event", Clock: clock, FMTP: "0-15"}
}

// statics are the formats that RFC 3551 section 6 assigns to payload types.
var statics = [35]Codec{
	0: {Name: "PCMU", Clock: 8000}, 3: {Name: "GSM", Clock: 8000}, 4: {Name: "G723", Clock: 8000}, 7: {Name: "LPC", Clock: 8000},
	8: {Name: "PCMA", Clock: 8000}, 9: {Name: "G722", Clock: 8000}, 13: {Name: "CN", Clock: 8000}, 15: {Name: "G728", Clock: 8000},
	18: {Name: "G729", Clock: 8000}, 26: {Name: "JPEG", Clock: 90000}, 31: {Name: "H261", Clock: 90000}, 32: {Name: "MPV", Clock: 90000},
	34: {Name: "H263", Clock: 90000},
}

// staticCodec returns the format of a payload type; it has no name if RFC 3551 assigns none.
func staticCodec(pt uint8) (c Codec) {
	if int(pt) < len(statics) {
		c = statics[pt]
	}
	c.PayloadType = pt
	return c
}

// IsRTP reports whether the section's protocol is a profile of RTP.
func (m *Media) IsRTP() bool { return isRTP(m.Proto) }

func isRTP(proto string) bool {
	switch proto {
	case "RTP/AVP", "RTP/SAVP", "RTP/AVPF", "RTP/SAVPF":
		return true
	}
	for part := range strings.SplitSeq(proto, "/") {
		if strings.EqualFold(part, "RTP") {
			return true
		}
	}
	return false
}

// Get returns the value of the first attribute of the section with this name.
func (m *Media) Get(name string) (value string, ok bool) { return find(m.Attributes, name) }

// Get returns the value of the first session-level attribute with this name.
func (s *Session) Get(name string) (value string, ok bool) { return find(s.Attributes, name) }

func find(list []Attribute, name string) (string, bool) {
	for i := range list {
		if a := &list[i]; is(a.Name, name) {
			return a.Value, true
		}
	}
	return "", false
}

// Audio returns the index of the first audio section that is not refused, or -1.
func (s *Session) Audio() int {
	for i := range s.Media {
		if s.Media[i].Port != 0 && is(s.Media[i].Type, "audio") {
			return i
		}
	}
	return -1
}

// Remote returns where the writer of s wants RTP and RTCP for section i. ok is false if the section is refused or its
// address is missing or a host name, which the relay does not resolve.
func (s *Session) Remote(i int) (rtp, rtcp netip.AddrPort, ok bool) {
	m := &s.Media[i]
	c := m.Connection
	if c.Host == "" {
		c = s.Connection
	}
	addr, ok := c.IP()
	if !ok || m.Port == 0 {
		return netip.AddrPort{}, netip.AddrPort{}, false
	}
	rtp = netip.AddrPortFrom(addr, m.Port)
	switch {
	case m.Mux:
		return rtp, rtp, true
	case m.RTCPPort != 0:
		if a, ok := m.RTCPAddr.IP(); ok {
			addr = a
		}
		return rtp, netip.AddrPortFrom(addr, m.RTCPPort), true
	}
	return rtp, netip.AddrPortFrom(addr, m.Port+1), true // 65535 wraps to 0: no RTCP
}
