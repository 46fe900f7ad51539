package sip

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"math/bits"
)

// Limits bound what a message may be before work is done on it. A field that is 0 has the value of [DefaultLimits].
type Limits struct {
	Message int // bytes of the whole message, at most 65,535
	Headers int // header fields, at most 255
	Header  int // bytes of one header field, name and folded lines included
	Body    int // bytes of the body
}

// DefaultLimits are generous for telephony and small enough for 10,000 hostile peers.
func DefaultLimits() Limits { return Limits{Message: 65535, Headers: 128, Header: 8192, Body: 32768} }

func (l Limits) orDefault() Limits {
	d := DefaultLimits()
	if l == (Limits{}) {
		return d
	}
	return Limits{
		Message: min(cmp.Or(l.Message, d.Message), 65535),
		Headers: min(cmp.Or(l.Headers, d.Headers), 255), // Message.first counts in bytes
		Header:  cmp.Or(l.Header, d.Header),
		Body:    cmp.Or(l.Body, d.Body),
	}
}

// ParseError says why a message was not accepted and what a server should answer.
type ParseError struct {
	Status int    // response code to send if the message is a request, e.g. 400, 413 or 505
	Reason string // reason phrase to send: names the fault, holds nothing received
	Offset int    // byte at which the fault was seen
}

// Error returns the reason with the offset.
func (e *ParseError) Error() string { return fmt.Sprintf("sip: %s (at byte %d)", e.Reason, e.Offset) }

func bad(offset int, reason string) *ParseError {
	return &ParseError{Status: 400, Reason: reason, Offset: offset}
}

// Parse reads one whole message from b, which m keeps and may change (folded lines are unfolded in place, RFC 3261
// section 7.3.1). Bytes after the body named by Content-Length are ignored, as for a datagram (section 18.3).
// On error the message is unusable, except that its start line and the header fields read so far may be used to answer.
func (m *Message) Parse(b []byte, lim Limits) error {
	m.Reset()
	lim = lim.orDefault()
	if len(b) > lim.Message {
		return &ParseError{Status: 513, Reason: "Message Too Large", Offset: lim.Message}
	}
	m.raw = b
	pos, err := m.parseStartLine(b)
	if err != nil {
		// A request of another version is refused with 505, which needs its fields (RFC 3261 section 21.5.6).
		if pe, ok := err.(*ParseError); ok && pe.Status == 505 {
			_, _ = m.parseFields(b, pos, lim)
		}
		return err
	}
	pos, err = m.parseFields(b, pos, lim)
	if err != nil {
		return err
	}
	length, ok, err := m.contentLength()
	if err != nil {
		return err
	}
	rest := len(b) - pos
	switch {
	case !ok:
		length = rest
	case length > rest:
		return bad(pos, "Content-Length Larger Than Message")
	}
	if length > lim.Body {
		return &ParseError{Status: 413, Reason: "Request Entity Too Large", Offset: pos}
	}
	m.body = span{uint16(pos), uint16(pos + length)}
	m.raw = b[:pos+length]
	return nil
}

const sipVersion = "SIP/2.0"

func (m *Message) parseStartLine(b []byte) (next int, err error) {
	end := bytes.IndexByte(b, '\n')
	if end < 1 || b[end-1] != '\r' {
		return 0, bad(0, "Bad Start Line")
	}
	line := b[:end-1]
	if len(line) > 4 && line[3] == '/' && EqualFold(line[:4], "SIP/") {
		return end + 1, m.parseStatusLine(line)
	}
	return end + 1, m.parseRequestLine(line)
}

// parseStatusLine reads SIP-Version SP 3DIGIT SP Reason-Phrase.
func (m *Message) parseStatusLine(line []byte) error {
	if len(line) < len(sipVersion)+4 || line[len(sipVersion)] != ' ' {
		return bad(0, "Bad Status Line")
	}
	if version := line[:len(sipVersion)]; string(version) != sipVersion && !EqualFold(version, sipVersion) {
		return &ParseError{Status: 505, Reason: "Version Not Supported"}
	}
	status := 0
	for _, c := range line[8:11] {
		if c < '0' || c > '9' {
			return bad(8, "Bad Status Code")
		}
		status = status*10 + int(c-'0')
	}
	if status < 100 || status > 699 {
		return bad(8, "Bad Status Code")
	}
	reason := len(line)
	if len(line) > 11 {
		if line[11] != ' ' {
			return bad(11, "Bad Status Line")
		}
		reason = 12
	}
	for i := reason; i < len(line); i++ {
		if line[i] < ' ' && line[i] != '\t' || line[i] == 0x7f {
			return bad(i, "Bad Reason Phrase")
		}
	}
	m.status = uint16(status)
	m.reason = span{uint16(reason), uint16(len(line))}
	return nil
}

// parseRequestLine reads Method SP Request-URI SP SIP-Version, with single spaces only.
func (m *Message) parseRequestLine(line []byte) error {
	sp := bytes.IndexByte(line, ' ')
	if sp <= 0 || !isToken(line[:sp]) {
		return bad(0, "Bad Method")
	}
	m.method = LookupMethod(line[:sp])
	m.methodText = span{0, uint16(sp)}
	m.request = true
	uriEnd := sp + 1 + bytes.IndexByte(line[sp+1:], ' ')
	if uriEnd <= sp+1 {
		return bad(sp, "Bad Request-URI")
	}
	for i := sp + 1; i < uriEnd; i++ {
		if chars[line[i]]&notInURI != 0 {
			return bad(i, "Bad Request-URI")
		}
	}
	m.uri = span{uint16(sp + 1), uint16(uriEnd)}
	version := line[uriEnd+1:]
	if string(version) != sipVersion && !EqualFold(version, sipVersion) {
		if len(version) > 4 && EqualFold(version[:4], "SIP/") && bytes.IndexByte(version, ' ') < 0 {
			return &ParseError{Status: 505, Reason: "Version Not Supported", Offset: uriEnd + 1}
		}
		return bad(uriEnd, "Bad Request Line")
	}
	return nil
}

func (m *Message) parseFields(b []byte, pos int, lim Limits) (next int, err error) {
	for {
		if pos+1 >= len(b) {
			return 0, bad(len(b), "Missing End Of Headers")
		}
		if b[pos] == '\r' {
			if b[pos+1] != '\n' {
				return 0, bad(pos, "Bare CR")
			}
			return pos + 2, nil
		}
		if len(m.fields) >= lim.Headers {
			return 0, bad(pos, "Too Many Header Fields")
		}
		end, plain := plainEnd(b, pos, lim.Header)
		if !plain {
			if end, err = fieldEnd(b, pos, lim.Header); err != nil {
				return 0, err
			}
		}
		if err := m.parseField(b, pos, end, plain); err != nil {
			return 0, err
		}
		pos = end + 2
	}
}

// plainEnd is fieldEnd for nearly every field: one line of printable ASCII. What is not plain may be right or wrong.
func plainEnd(b []byte, pos, limit int) (end int, plain bool) {
	const ones, high = 0x0101010101010101, 0x8080808080808080
	b = b[:min(len(b), pos+limit+10)] // CRLF of the longest field, and a whole step beyond
	for end = pos; end+8 <= len(b); end += 8 {
		// The high bit is set in each byte that is below ' ', above '~' or behind such a one.
		x := binary.LittleEndian.Uint64(b[end:])
		if hits := ((x - ' '*ones) | x | (x + ones)) & high; hits != 0 {
			end += bits.TrailingZeros64(hits) / 8
			return end, end > pos && end-pos <= limit && end+2 < len(b) && b[end] == '\r' && b[end+1] == '\n' && !isBlank(b[end+2])
		}
	}
	return 0, false
}

// fieldEnd returns the offset of the CRLF that ends the field starting at pos, unfolding continued lines in place.
func fieldEnd(b []byte, pos, limit int) (int, error) {
	from := pos
	for {
		window := b[from:min(len(b), pos+limit+2)]
		i := bytes.IndexByte(window, '\n')
		if i < 0 {
			if len(b)-pos > limit {
				return 0, bad(pos, "Header Field Too Large")
			}
			return 0, bad(len(b), "Missing End Of Headers")
		}
		lf := from + i
		if lf == pos || b[lf-1] != '\r' {
			return 0, bad(lf, "Bare LF")
		}
		if lf+1 < len(b) && (b[lf+1] == ' ' || b[lf+1] == '\t') {
			b[lf-1], b[lf] = ' ', ' '
			from = lf + 1
			continue
		}
		return lf - 1, nil
	}
}

// parseField adds the field between pos and end. plain tells that it has no control character.
func (m *Message) parseField(b []byte, pos, end int, plain bool) error {
	line := b[pos:end]
	n := bytes.IndexByte(line[:min(len(line), len(headerIndex))], ':')
	id := LookupHeader(line[:max(n, 0)])
	i := n
	if id == HeaderOther { // unknown, or not followed by its colon at once
		for n = 0; n < len(line) && chars[line[n]]&inToken != 0; {
			n++
		}
		for i = n; i < len(line) && isBlank(line[i]); {
			i++
		}
		if n == 0 || i == len(line) || line[i] != ':' {
			return bad(pos, "Bad Header Field Name")
		}
		id = LookupHeader(line[:n])
	}
	nameEnd, start := pos+n, pos+i+1
	for start < end && isBlank(b[start]) {
		start++
	}
	for end > start && isBlank(b[end-1]) {
		end--
	}
	if !plain {
		if at := controlAt(b[start:end]); at >= 0 {
			return bad(start+at, "Control Character In Header Field")
		}
	}
	m.fields = append(m.fields, field{id: id, name: span{uint16(pos), uint16(nameEnd)}, value: span{uint16(start), uint16(end)}})
	if m.first[id] == 0 {
		m.first[id] = uint8(len(m.fields))
	} else {
		m.again |= 1 << id
	}
	return nil
}

// controlAt returns the offset of the first control character in b that the grammar does not allow, or -1. Tabs are
// white space; any other is only allowed in a quoted string, after a backslash (RFC 3261 section 25.1, quoted-pair).
func controlAt(b []byte) int {
	if len(b) < 8 {
		for _, c := range b {
			if c < ' ' || c == 0x7f {
				return slowControlAt(b)
			}
		}
		return -1
	}
	var hits uint64
	for rest := b; len(rest) > 8; rest = rest[8:] {
		hits |= controlBits(binary.LittleEndian.Uint64(rest))
	}
	hits |= controlBits(binary.LittleEndian.Uint64(b[len(b)-8:]))
	if hits != 0 {
		return slowControlAt(b)
	}
	return -1
}

// controlBits is not 0 if one of the eight bytes of x is below 0x20 or is DEL. A borrow can only add hits to a hit.
func controlBits(x uint64) uint64 {
	const ones, high = 0x0101010101010101, 0x8080808080808080
	del := x ^ 0x7f*ones
	return ((x-0x20*ones)&^x | (del-ones)&^del) & high
}

func slowControlAt(b []byte) int {
	quoted := false
	for i := 0; i < len(b); i++ {
		switch c := b[i]; {
		case quoted && c == '\\' && i+1 < len(b):
			i++ // quoted-pair; CR and LF cannot be here
			if b[i] == '\r' {
				return i
			}
		case c == '"':
			quoted = !quoted
		case c < ' ' && c != '\t' || c == 0x7f:
			return i
		}
	}
	return -1
}

func (m *Message) contentLength() (n int, ok bool, err error) {
	if !m.Has(HeaderContentLength) {
		return 0, false, nil
	}
	for v := range m.All(HeaderContentLength) {
		length, valid := parseUint(v, 1<<31-1)
		if !valid {
			return 0, false, bad(0, "Bad Content-Length")
		}
		if ok && int(length) != n {
			return 0, false, bad(0, "Contradicting Content-Length")
		}
		n, ok = int(length), true
	}
	return n, ok, nil
}

// parseUint reads decimal digits only; ok is false for anything else and above limit.
func parseUint(b []byte, limit uint64) (n uint64, ok bool) {
	if len(b) == 0 || len(b) > 19 {
		return 0, false
	}
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + uint64(c-'0')
	}
	return n, n <= limit
}
