package sdp

import (
	"slices"
	"strconv"
)

// Bytes returns the description in the order of RFC 8866 section 5, with CRLF line ends.
func (s *Session) Bytes() []byte {
	var room [1024]byte // what is returned may be kept for long, and is no larger than it must be
	return append([]byte(nil), s.Append(room[:0])...)
}

// Append appends the description to b.
func (s *Session) Append(b []byte) []byte {
	b = append(b, "v=0\r\no="...)
	b = token(b, s.Origin.User)
	b = append(b, ' ')
	b = strconv.AppendUint(b, s.Origin.ID, 10)
	b = append(b, ' ')
	b = strconv.AppendUint(b, s.Origin.Version, 10)
	b = append(b, ' ')
	if s.Origin.Addr.Host != "" {
		b = s.Origin.Addr.append(b)
	} else {
		b = append(b, "IN IP4 0.0.0.0"...)
	}
	b = append(b, "\r\n"...)
	name := s.Name
	if name == "" {
		name = "-"
	}
	b = line(b, 's', name)
	b = ordered(b, s.Lines, &s.Connection)
	if !slices.ContainsFunc(s.Lines, func(l Line) bool { return l.Type == 't' }) {
		b = line(b, 't', "0 0")
	}
	b = others(b, s.Lines)
	for i := range s.Attributes {
		b = s.Attributes[i].append(b)
	}
	for i := range s.Media {
		b = s.Media[i].append(b)
	}
	return b
}

// ordered appends i=, u=, e= and p= lines, the connection, b= lines.
func ordered(b []byte, lines []Line, c *Connection) []byte {
	for i := 0; i < len("iuep") && len(lines) > 0; i++ {
		b = linesOf(b, lines, "iuep"[i])
	}
	if c.Host != "" {
		b = append(b, "c="...)
		b = c.append(b)
		b = append(b, "\r\n"...)
	}
	return linesOf(b, lines, 'b')
}

func linesOf(b []byte, lines []Line, kind byte) []byte {
	for i := range lines {
		if l := &lines[i]; l.Type == kind {
			b = line(b, kind, l.Value)
		}
	}
	return b
}

// others appends what ordered does not, in order: t= with its r= lines, z=, and unknown types.
func others(b []byte, lines []Line) []byte {
	for i := range lines {
		switch l := &lines[i]; l.Type {
		case 'i', 'u', 'e', 'p', 'b':
		default:
			b = line(b, l.Type, l.Value)
		}
	}
	return b
}

// line appends one line. A line break in a value would add lines, so it becomes a space.
func line(b []byte, kind byte, v string) []byte {
	b = append(b, kind, '=')
	b = text(b, v)
	return append(b, "\r\n"...)
}

func text(b []byte, v string) []byte {
	start := len(b)
	b = append(b, v...)
	if below(v, ' ') {
		for i, c := range b[start:] {
			if c == '\r' || c == '\n' || c == 0 {
				b[start+i] = ' '
			}
		}
	}
	return b
}

// token appends v as one word, "-" if it is empty.
func token(b []byte, v string) []byte {
	if v == "" {
		return append(b, '-')
	}
	start := len(b)
	b = append(b, v...)
	if below(v, ' '+1) {
		for i, c := range b[start:] {
			switch c {
			case ' ', '\t', '\r', '\n', 0:
				b[start+i] = '_'
			}
		}
	}
	return b
}

func (c *Connection) append(b []byte) []byte {
	if is(c.Type, "IP6") {
		b = append(b, "IN IP6 "...)
	} else {
		b = append(b, "IN IP4 "...)
	}
	return token(b, c.Host)
}

func (a *Attribute) append(b []byte) []byte {
	b = append(b, "a="...)
	b = text(b, a.Name)
	if a.Value != "" {
		b = append(b, ':')
		b = text(b, a.Value)
	}
	return append(b, "\r\n"...)
}

func (m *Media) append(b []byte) []byte {
	b = append(b, "m="...)
	b = token(b, m.Type)
	b = append(b, ' ')
	b = strconv.AppendUint(b, uint64(m.Port), 10)
	if m.Ports > 0 {
		b = append(b, '/')
		b = strconv.AppendUint(b, uint64(m.Ports), 10)
	}
	b = append(b, ' ')
	b = token(b, m.Proto)
	for _, f := range m.Formats {
		b = append(b, ' ')
		b = token(b, f)
	}
	b = append(b, "\r\n"...)
	b = ordered(b, m.Lines, &m.Connection)
	b = others(b, m.Lines)
	if m.Port != 0 { // what a refused section could have carried does not matter (RFC 3264 section 6)
		for i := range m.Codecs {
			b = m.Codecs[i].append(b)
		}
	}
	for i := range m.Crypto {
		b = m.Crypto[i].append(b)
	}
	b = m.appendTyped(b)
	for i := range m.Attributes {
		a := &m.Attributes[i]
		if m.Port == 0 && (is(a.Name, "rtpmap") || is(a.Name, "fmtp")) { // of a format that was named twice: it would now be named by this
			continue
		}
		b = a.append(b)
	}
	return b
}

func (c *Codec) append(b []byte) []byte {
	if c.Name != "" {
		b = append(b, "a=rtpmap:"...)
		b = append(b, formatOf(c.PayloadType)...)
		b = append(b, ' ')
		b = token(b, c.Name)
		b = append(b, '/')
		b = strconv.AppendUint(b, uint64(c.Clock), 10)
		if c.Channels > 1 {
			b = append(b, '/')
			b = strconv.AppendUint(b, uint64(c.Channels), 10)
		}
		b = append(b, "\r\n"...)
	}
	if c.FMTP != "" {
		b = append(b, "a=fmtp:"...)
		b = append(b, formatOf(c.PayloadType)...)
		b = append(b, ' ')
		b = text(b, c.FMTP)
		b = append(b, "\r\n"...)
	}
	return b
}

func (c *Crypto) append(b []byte) []byte {
	b = append(b, "a=crypto:"...)
	b = strconv.AppendInt(b, int64(c.Tag), 10)
	b = append(b, ' ')
	b = token(b, c.Suite)
	b = append(b, " inline:"...)
	b = token(b, c.Inline)
	if c.Params != "" {
		b = append(b, ' ')
		b = text(b, c.Params)
	}
	return append(b, "\r\n"...)
}

// appendTyped appends the attributes that have a field of their own.
func (m *Media) appendTyped(b []byte) []byte {
	b = millis(b, "a=ptime:", m.PTime)
	b = millis(b, "a=maxptime:", m.MaxPTime)
	if m.RTCPPort > 0 {
		b = append(b, "a=rtcp:"...)
		b = strconv.AppendUint(b, uint64(m.RTCPPort), 10)
		if m.RTCPAddr.Host != "" {
			b = append(b, ' ')
			b = m.RTCPAddr.append(b)
		}
		b = append(b, "\r\n"...)
	}
	if m.Mux {
		b = append(b, "a=rtcp-mux\r\n"...)
	}
	if m.Port != 0 && m.IsRTP() || m.Direction != SendRecv {
		b = append(b, "a="...)
		b = append(b, m.Direction.String()...)
		b = append(b, "\r\n"...)
	}
	return b
}

func millis(b []byte, name string, n uint16) []byte {
	if n == 0 {
		return b
	}
	b = append(b, name...)
	b = strconv.AppendUint(b, uint64(n), 10)
	return append(b, "\r\n"...)
}
