package sdp

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"ringfence"
)

// The limits of a description, checked before or while it is read. They are several times what real devices send.
const (
	MaxSize       = 16384 // bytes
	MaxLines      = 600
	MaxLine       = 2048 // bytes of one line
	MaxMedia      = 16
	MaxFormats    = 64  // formats of one m-line
	MaxAttributes = 200 // attributes of one section
)

// audio is a Session with room for its only section, which is what most have, and a line of keys: one allocation.
type audio struct {
	Session
	media  [1]Media
	crypto [1]Crypto
}

// description is audio with room for the formats that phones have in common: one allocation instead of six, and no larger
// than those.
type description struct {
	audio
	lines   [1]Line
	codecs  [4]Codec
	formats [4]string
}

// addMedia appends a section for up to n formats.
func (d *description) addMedia(n int) *Media {
	if len(d.Media) > 0 {
		d.Media = append(d.Media, Media{})
	} else {
		d.Media = d.media[:]
		if n <= len(d.formats) {
			d.media[0].Formats, d.media[0].Codecs = d.formats[:0], d.codecs[:0]
			return &d.media[0]
		}
	}
	m := &d.Media[len(d.Media)-1]
	m.Formats, m.Codecs = make([]string, 0, n), make([]Codec, 0, n)
	return m
}

// addCrypto appends a line to section m.
func (d *audio) addCrypto(m *Media, c *Crypto) {
	switch {
	case m.Crypto == nil && m == &d.media[0]:
		m.Crypto = d.crypto[:0]
	case len(m.Crypto) == cap(m.Crypto):
		m.Crypto = slices.Grow(m.Crypto, 3) // of more than one line there is most often one for each suite
	}
	m.Crypto = append(m.Crypto, *c)
}

type reader struct {
	*description
	m       *Media // section being read; nil at session level
	line    int
	sawV    bool
	sessDir Direction
	attrs   int // attributes in this section
}

func (r *reader) fault(text string) error {
	return &ringfence.Fault{Op: "sdp.parse", Kind: ringfence.KindInvalid, Text: fmt.Sprintf("session description line %d: %s", r.line, text)}
}

// Parse reads a session description. It copies b once and keeps no reference to it. It tolerates LF line ends, a missing
// final line end, blank lines, missing o=, s=, c= and t= lines and lines in the wrong order; it refuses control
// characters, anything over the limits, and m-lines that it cannot understand. Errors are ringfence.KindInvalid and hold
// nothing that was received.
func Parse(b []byte) (*Session, error) {
	r := reader{description: &description{}}
	r.Name, r.Origin.User, r.Lines = "-", "-", r.lines[:0]
	if len(b) > MaxSize {
		return nil, r.fault(fmt.Sprintf("longer than %d bytes", MaxSize))
	}
	rest := string(b)
	for more := true; more; {
		if r.line++; r.line > MaxLines {
			return nil, r.fault("too many lines")
		}
		line := rest
		end := strings.IndexByte(rest, '\n')
		if more = end >= 0; more {
			line, rest = rest[:end], rest[end+1:]
		}
		for n := len(line); n > 0 && (line[n-1] == '\r' || line[n-1] == ' ' || line[n-1] == '\t'); n-- {
			line = line[:n-1]
		}
		if line == "" {
			continue
		}
		if len(line) > MaxLine {
			return nil, r.fault("too long")
		}
		if hasControl(line) {
			return nil, r.fault("control character")
		}
		if len(line) < 2 || line[1] != '=' {
			return nil, r.fault("not of the form <type>=<value>")
		}
		value := line[2:]
		for value != "" && (value[0] == ' ' || value[0] == '\t') {
			value = value[1:]
		}
		if err := r.read(line[0], value); err != nil {
			return nil, err
		}
	}
	if !r.sawV {
		return nil, r.fault("no v=0 line")
	}
	r.finish()
	return &r.Session, nil
}

func (r *reader) read(kind byte, v string) error {
	if !r.sawV && kind != 'v' {
		return r.fault("the first line is not v=0")
	}
	switch kind {
	case 'v':
		if r.sawV || v != "0" {
			return r.fault("version is not 0, or repeated")
		}
		r.sawV = true
		return nil
	case 'm':
		return r.section(v)
	case 'a':
		return r.attribute(v)
	case 'c':
		c, ok := parseConnection(v)
		switch {
		case !ok:
			return r.fault("malformed connection")
		case r.m == nil:
			r.Connection = c
		case r.m.Connection.Host == "": // several addresses of one section are layers; the first is the base
			r.m.Connection = c
		}
		return nil
	case 'k':
		return nil
	}
	if r.m != nil {
		r.m.Lines = append(r.m.Lines, Line{kind, v})
		return nil
	}
	switch kind {
	case 'o':
		return r.origin(v)
	case 's':
		if v != "" {
			r.Name = v
		}
		return nil
	}
	r.Lines = append(r.Lines, Line{kind, v})
	return nil
}

// origin reads o=. Broken ids are common ("-", hex, negative), and only matter to the side that made them.
func (r *reader) origin(v string) error {
	var few [8]string
	f := fields(v, few[:0])
	if len(f) < 6 {
		return r.fault("malformed origin")
	}
	if len(f) > 6 { // a user name with spaces
		f = append([]string{strings.Join(f[:len(f)-5], "_")}, f[len(f)-5:]...)
	}
	o := &r.Origin
	o.User, o.Addr.Type, o.Addr.Host = f[0], addrType(f[4]), f[5]
	o.ID, _ = strconv.ParseUint(f[1], 10, 64)
	o.Version, _ = strconv.ParseUint(f[2], 10, 64)
	return nil
}

func addrType(s string) string {
	if is(s, "IP6") {
		return "IP6"
	}
	return "IP4"
}

func parseConnection(v string) (Connection, bool) {
	var few [4]string
	f := fields(v, few[:0])
	if len(f) != 3 || !is(f[0], "IN") || !is(f[1], "IP4") && !is(f[1], "IP6") {
		return Connection{}, false
	}
	host, _, _ := cut(f[2], '/')
	return Connection{Type: addrType(f[1]), Host: host}, host != ""
}

// section reads "type port[/count] proto formats".
func (r *reader) section(v string) error {
	var few [24]string
	f := fields(v, few[:0])
	if len(f) < 3 {
		return r.fault("malformed media line")
	}
	if len(r.Media) >= MaxMedia {
		return r.fault("too many media sections")
	}
	if len(f)-3 > MaxFormats {
		return r.fault("too many formats")
	}
	portText, countText, hasCount := cut(f[1], '/')
	port, ok := number(portText, math.MaxUint16)
	if !ok {
		return r.fault("malformed media port")
	}
	count, ok := number(countText, math.MaxUint16)
	if hasCount && (!ok || count == 0) {
		return r.fault("malformed number of media ports")
	}
	if len(f) == 3 && port != 0 {
		return r.fault("media line without formats")
	}
	m := r.addMedia(len(f) - 3)
	m.Type, m.Port, m.Ports, m.Proto, m.Direction = f[0], uint16(port), uint16(count), f[2], r.sessDir
	r.m, r.attrs = m, 0
	if !m.IsRTP() {
		for _, format := range f[3:] {
			if !slices.Contains(m.Formats, format) {
				m.Formats = append(m.Formats, format)
			}
		}
		return nil
	}
	var seen [2]uint64 // a bit for each payload type
	for _, format := range f[3:] {
		pt, ok := number(format, 127)
		switch {
		case ok && seen[pt/64]&(1<<(pt%64)) == 0:
			seen[pt/64] |= 1 << (pt % 64)
			if len(format) > 1 && format[0] == '0' {
				format = formatOf(uint8(pt))
			}
			m.Codecs = append(m.Codecs, Codec{PayloadType: uint8(pt)})
			m.Formats = append(m.Formats, format)
		case ok:
		case port != 0:
			return r.fault("malformed payload type")
		case !slices.Contains(m.Formats, format): // a refused line often says "*"
			m.Formats = append(m.Formats, format)
		}
	}
	return nil
}

func (r *reader) attribute(v string) error {
	if r.attrs++; r.attrs > MaxAttributes {
		return r.fault("too many attributes")
	}
	name, value, _ := cut(v, ':')
	a := Attribute{Name: trim(name), Value: trim(value)}
	if a.Name == "" {
		return r.fault("attribute without a name")
	}
	if r.known(a.Name, a.Value) {
		return nil
	}
	if lower := strings.ToLower(a.Name); lower != a.Name && r.known(lower, a.Value) {
		return nil
	}
	list := &r.Attributes
	if r.m != nil {
		list = &r.m.Attributes
	}
	if *list == nil {
		*list = make([]Attribute, 0, 4) // who sends one sends several
	}
	*list = append(*list, a)
	return nil
}

// known reads an attribute that has a field of its own; its name is in lower case. It reports false for one that is only kept.
func (r *reader) known(name, value string) bool {
	m := r.m
	if m == nil {
		d, ok := parseDirection(name)
		if ok {
			r.sessDir = d
		}
		return ok || name == "crypto" // not allowed at session level, and not kept (RFC 4568 section 4.1)
	}
	switch name {
	case "rtpmap":
		return m.setMap(value)
	case "fmtp":
		return m.setFMTP(value)
	case "crypto":
		if c, ok := parseCrypto(value); ok {
			r.addCrypto(m, &c)
		} else {
			m.BadCrypto++
		}
		return true
	case "rtcp-mux":
		m.Mux = true
		return true
	case "ptime":
		return setMillis(&m.PTime, value)
	case "maxptime":
		return setMillis(&m.MaxPTime, value)
	case "rtcp":
		return m.setRTCP(value)
	}
	d, ok := parseDirection(name)
	if ok {
		m.Direction = d
	}
	return ok
}

func parseDirection(name string) (Direction, bool) {
	switch name {
	case "sendrecv":
		return SendRecv, true
	case "sendonly":
		return SendOnly, true
	case "recvonly":
		return RecvOnly, true
	case "inactive":
		return Inactive, true
	}
	return 0, false
}

func setMillis(to *uint16, v string) bool {
	whole, _, _ := cut(v, '.') // "20.0" is seen
	n, ok := number(whole, math.MaxUint16)
	if !ok || n == 0 || *to != 0 {
		return false
	}
	*to = uint16(n)
	return true
}

func (m *Media) setRTCP(v string) bool {
	portText, addr, _ := cut(v, ' ')
	port, ok := number(portText, math.MaxUint16)
	if !ok || port == 0 || m.RTCPPort != 0 {
		return false
	}
	if addr != "" {
		c, ok := parseConnection(addr)
		if !ok {
			return false
		}
		m.RTCPAddr = c
	}
	m.RTCPPort = uint16(port)
	return true
}

func (m *Media) codec(pt string) *Codec {
	n, ok := number(pt, 127)
	if !ok {
		return nil
	}
	for i := range m.Codecs {
		if m.Codecs[i].PayloadType == uint8(n) {
			return &m.Codecs[i]
		}
	}
	return nil
}

// setMap reads "pt name/clock[/channels]".
func (m *Media) setMap(v string) bool {
	pt, rest, _ := cut(v, ' ')
	name, clocks, _ := cut(trim(rest), '/')
	clockText, channelText, hasChannels := cut(clocks, '/')
	clock, ok := number(trim(clockText), math.MaxUint32)
	c := m.codec(pt)
	if c == nil || c.Name != "" || !ok || clock == 0 || name == "" || below(name, ' '+1) {
		return false
	}
	channels, ok := number(trim(channelText), math.MaxUint8)
	if hasChannels && !ok {
		return false
	}
	if channels == 1 {
		channels = 0
	}
	c.Name, c.Clock, c.Channels = name, uint32(clock), uint8(channels)
	return true
}

// setFMTP reads "pt parameters", which may come before the a=rtpmap of the payload type.
func (m *Media) setFMTP(v string) bool {
	pt, params, _ := cut(v, ' ')
	params = trim(params)
	c := m.codec(pt)
	if c == nil || c.FMTP != "" || params == "" {
		return false
	}
	c.FMTP = params
	return true
}

// finish names the formats of static payload types that nobody named, and knows the old way to hold.
func (r *reader) finish() {
	for i := range r.Media {
		m := &r.Media[i]
		for j := range m.Codecs {
			if c := &m.Codecs[j]; c.Name == "" {
				fmtp := c.FMTP
				*c = staticCodec(c.PayloadType)
				c.FMTP = fmtp
			}
		}
		c := &m.Connection
		if c.Host == "" {
			c = &r.Connection
		}
		if c.isUnspecified() && !r.has("ice-ufrag", m) {
			m.Direction = m.Direction.And(SendOnly) // the old hold: it cannot receive (RFC 3264 section 8.4)
		}
	}
}

// has reports whether section m or the session has an attribute.
func (r *reader) has(name string, m *Media) bool {
	_, here := m.Get(name)
	_, above := r.Get(name)
	return here || above
}
