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

type reader struct {
	s        *Session
	m        *Media // section being read; nil at session level
	line     int
	sawV     bool
	dirs     []bool // per section: whether it had a direction of its own
	sessDir  Direction
	attrs    int // attributes in this section
	deferred []Attribute
}

func (r *reader) fault(text string) error {
	return &ringfence.Fault{Op: "sdp.parse", Kind: ringfence.KindInvalid, Text: fmt.Sprintf("session description line %d: %s", r.line, text)}
}

// Parse reads a session description. It copies b once and keeps no reference to it. It tolerates LF line ends, a missing
// final line end, blank lines, missing o=, s=, c= and t= lines and lines in the wrong order; it refuses control
// characters, anything over the limits, and m-lines that it cannot understand. Errors are ringfence.KindInvalid and hold
// nothing that was received.
func Parse(b []byte) (*Session, error) {
	r := &reader{s: &Session{Name: "-", Origin: Origin{User: "-"}}}
	if len(b) > MaxSize {
		return nil, r.fault(fmt.Sprintf("longer than %d bytes", MaxSize))
	}
	for line := range strings.SplitSeq(string(b), "\n") {
		r.line++
		if r.line > MaxLines {
			return nil, r.fault("too many lines")
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
		for i := 0; i < len(line); i++ {
			if c := line[i]; c < ' ' && c != '\t' || c == 0x7f {
				return nil, r.fault("control character")
			}
		}
		if len(line) < 2 || line[1] != '=' {
			return nil, r.fault("not of the form <type>=<value>")
		}
		if err := r.read(line[0], strings.TrimLeft(line[2:], " \t")); err != nil {
			return nil, err
		}
	}
	if !r.sawV {
		return nil, r.fault("no v=0 line")
	}
	if err := r.endSection(); err != nil {
		return nil, err
	}
	r.finish()
	return r.s, nil
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
		if err := r.endSection(); err != nil {
			return err
		}
		return r.media(v)
	case 'a':
		return r.attribute(v)
	case 'c':
		c, ok := parseConnection(v)
		switch {
		case !ok:
			return r.fault("malformed connection")
		case r.m == nil:
			r.s.Connection = c
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
			r.s.Name = v
		}
		return nil
	}
	r.s.Lines = append(r.s.Lines, Line{kind, v})
	return nil
}

// fields appends the words of v, so that few of them need no memory.
func fields(v string, to []string) []string {
	for f := range strings.FieldsSeq(v) {
		to = append(to, f)
	}
	return to
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
	id, _ := strconv.ParseUint(f[1], 10, 64)
	version, _ := strconv.ParseUint(f[2], 10, 64)
	r.s.Origin = Origin{User: f[0], ID: id, Version: version, Addr: Connection{Type: addrType(f[4]), Host: f[5]}}
	return nil
}

func addrType(s string) string {
	if strings.EqualFold(s, "IP6") {
		return "IP6"
	}
	return "IP4"
}

func parseConnection(v string) (Connection, bool) {
	var few [4]string
	f := fields(v, few[:0])
	if len(f) != 3 || !strings.EqualFold(f[0], "IN") || !strings.EqualFold(f[1], "IP4") && !strings.EqualFold(f[1], "IP6") {
		return Connection{}, false
	}
	host, _, _ := strings.Cut(f[2], "/")
	return Connection{Type: addrType(f[1]), Host: host}, host != ""
}

// media reads "type port[/count] proto formats".
func (r *reader) media(v string) error {
	var few [24]string
	f := fields(v, few[:0])
	if len(f) < 3 {
		return r.fault("malformed media line")
	}
	if len(r.s.Media) >= MaxMedia {
		return r.fault("too many media sections")
	}
	if len(f)-3 > MaxFormats {
		return r.fault("too many formats")
	}
	portText, countText, hasCount := strings.Cut(f[1], "/")
	port, err := strconv.ParseUint(portText, 10, 16)
	if err != nil {
		return r.fault("malformed media port")
	}
	m := Media{Type: f[0], Port: uint16(port), Proto: f[2]}
	if hasCount {
		count, err := strconv.ParseUint(countText, 10, 16)
		if err != nil || count == 0 {
			return r.fault("malformed number of media ports")
		}
		m.Ports = uint16(count)
	}
	if len(f) == 3 && port != 0 {
		return r.fault("media line without formats")
	}
	rtp := isRTP(m.Proto)
	m.Formats = make([]string, 0, len(f)-3)
	if rtp {
		m.Codecs = make([]Codec, 0, len(f)-3)
	}
	for _, format := range f[3:] {
		if slices.Contains(m.Formats, format) {
			continue
		}
		if rtp {
			pt, err := strconv.ParseUint(format, 10, 7)
			if err != nil {
				if port == 0 { // a refused line often says "*"
					m.Formats = append(m.Formats, format)
					continue
				}
				return r.fault("malformed payload type")
			}
			if slices.ContainsFunc(m.Codecs, func(c Codec) bool { return c.PayloadType == uint8(pt) }) {
				continue
			}
			if len(format) > 1 && format[0] == '0' {
				format = strconv.FormatUint(pt, 10)
			}
			m.Codecs = append(m.Codecs, Codec{PayloadType: uint8(pt)})
		}
		m.Formats = append(m.Formats, format)
	}
	r.s.Media = append(r.s.Media, m)
	r.m = &r.s.Media[len(r.s.Media)-1]
	r.dirs = append(r.dirs, false)
	r.attrs = 0
	return nil
}

func (r *reader) attribute(v string) error {
	if r.attrs++; r.attrs > MaxAttributes {
		return r.fault("too many attributes")
	}
	name, value, _ := strings.Cut(v, ":")
	name, value = strings.TrimSpace(name), strings.TrimSpace(value)
	if name == "" {
		return r.fault("attribute without a name")
	}
	if d, ok := parseDirection(name); ok {
		if r.m == nil {
			r.sessDir = d
		} else {
			r.m.Direction = d
			r.dirs[len(r.dirs)-1] = true
		}
		return nil
	}
	a := Attribute{Name: name, Value: value}
	if r.m == nil {
		if !strings.EqualFold(name, "crypto") { // not allowed at session level (RFC 4568 section 4.1)
			r.s.Attributes = append(r.s.Attributes, a)
		}
		return nil
	}
	if !r.mediaAttribute(a) {
		r.m.Attributes = append(r.m.Attributes, a)
	}
	return nil
}

func parseDirection(name string) (Direction, bool) {
	switch strings.ToLower(name) {
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

// mediaAttribute reads an attribute that has a field of its own. It reports false for one that is only kept.
func (r *reader) mediaAttribute(a Attribute) bool {
	m := r.m
	switch strings.ToLower(a.Name) {
	case "crypto":
		if c, ok := parseCrypto(a.Value); ok {
			m.Crypto = append(m.Crypto, c)
		} else {
			m.BadCrypto++
		}
		return true
	case "rtcp-mux":
		m.Mux = true
		return true
	case "ptime":
		return setMillis(&m.PTime, a.Value)
	case "maxptime":
		return setMillis(&m.MaxPTime, a.Value)
	case "rtcp":
		return m.setRTCP(a.Value)
	case "rtpmap":
		return m.setMap(a.Value)
	case "fmtp":
		r.deferred = append(r.deferred, a) // may come before its rtpmap
		return true
	}
	return false
}

func setMillis(to *uint16, v string) bool {
	whole, _, _ := strings.Cut(v, ".") // "20.0" is seen
	n, err := strconv.ParseUint(whole, 10, 16)
	if err != nil || n == 0 || *to != 0 {
		return false
	}
	*to = uint16(n)
	return true
}

func (m *Media) setRTCP(v string) bool {
	portText, addr, _ := strings.Cut(v, " ")
	port, err := strconv.ParseUint(portText, 10, 16)
	if err != nil || port == 0 || m.RTCPPort != 0 {
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
	n, err := strconv.ParseUint(pt, 10, 7)
	if err != nil {
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
	pt, rest, _ := strings.Cut(v, " ")
	c := m.codec(pt)
	name, clocks, _ := strings.Cut(strings.TrimSpace(rest), "/")
	clockText, channelText, hasChannels := strings.Cut(clocks, "/")
	clock, err := strconv.ParseUint(strings.TrimSpace(clockText), 10, 32)
	if c == nil || c.Name != "" || err != nil || clock == 0 || name == "" || strings.ContainsAny(name, " \t") {
		return false
	}
	channels := uint64(0)
	if hasChannels {
		if channels, err = strconv.ParseUint(strings.TrimSpace(channelText), 10, 8); err != nil {
			return false
		}
	}
	if channels == 1 {
		channels = 0
	}
	c.Name, c.Clock, c.Channels = name, uint32(clock), uint8(min(channels, math.MaxUint8))
	return true
}

// endSection gives the formats of the section just read their parameters and, for static types, their names.
func (r *reader) endSection() error {
	if r.m == nil {
		return nil
	}
	for _, a := range r.deferred {
		pt, params, _ := strings.Cut(a.Value, " ")
		if c := r.m.codec(pt); c != nil && c.FMTP == "" && strings.TrimSpace(params) != "" {
			c.FMTP = strings.TrimSpace(params)
			continue
		}
		r.m.Attributes = append(r.m.Attributes, a)
	}
	r.deferred = r.deferred[:0]
	for i, c := range r.m.Codecs {
		if c.Name == "" {
			static := staticCodec(c.PayloadType)
			static.FMTP = c.FMTP
			r.m.Codecs[i] = static
		}
	}
	return nil
}

// finish applies session-wide defaults to each section.
func (r *reader) finish() {
	_, ice := r.s.Get("ice-ufrag")
	for i := range r.s.Media {
		m := &r.s.Media[i]
		if !r.dirs[i] {
			m.Direction = r.sessDir
		}
		c := m.Connection
		if c.Host == "" {
			c = r.s.Connection
		}
		_, mediaICE := m.Get("ice-ufrag")
		if addr, ok := c.IP(); ok && addr.IsUnspecified() && !ice && !mediaICE {
			m.Direction = m.Direction.And(SendOnly) // the old hold: it cannot receive (RFC 3264 section 8.4)
		}
	}
}
