package sip

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"strconv"
)

// Writer builds a message by appending to one buffer, which may be reused with [Writer.Reset].
type Writer struct {
	b      []byte
	callID [2]int // where the Call-ID begins and ends in b, if it was written
}

// Reset empties w and makes it append to buf[:0].
func (w *Writer) Reset(buf []byte) { *w = Writer{b: buf[:0]} }

// Bytes returns what was written.
func (w *Writer) Bytes() []byte { return w.b }

// CallID returns the Call-ID that was written, a part of Bytes; it is empty if there is none.
func (w *Writer) CallID() []byte { return w.b[w.callID[0]:w.callID[1]] }

// RequestLine writes the start line of a request. Line breaks in the URI become spaces.
func (w *Writer) RequestLine(method Method, uri string) {
	w.Raw(method.String())
	w.b = append(w.b, ' ')
	start := len(w.b)
	w.Raw(uri)
	w.clean(start)
	w.Raw(" SIP/2.0\r\n")
}

// StatusLine writes the start line of a response. An empty phrase is replaced by the usual one.
func (w *Writer) StatusLine(status int, phrase string) {
	if phrase == "" {
		phrase = Phrase(status)
	}
	w.Raw("SIP/2.0 ")
	w.b = strconv.AppendInt(w.b, int64(status), 10)
	w.b = append(w.b, ' ')
	start := len(w.b)
	w.Raw(phrase)
	w.end(start)
}

// Raw appends text as it is.
func (w *Writer) Raw(s string) { w.b = append(w.b, s...) }

// begin writes the name of a field, its colon and a space, and returns where its value begins; end cleans the value and ends the line.
func (w *Writer) begin(id HeaderID) (start int) {
	w.b = append(w.b, headerNames[id]...)
	return len(w.b)
}

func (w *Writer) end(start int) {
	w.clean(start)
	w.b = append(w.b, '\r', '\n')
}

// Header writes one field. The caller must not pass line breaks; they are dropped, so that a value can never add a field.
func (w *Writer) Header(id HeaderID, value string) {
	start := w.begin(id)
	w.b = append(w.b, value...)
	w.wrote(id, start)
	w.end(start)
}

// Tagged writes a From or To: a name-addr and, unless it is empty, its tag.
func (w *Writer) Tagged(id HeaderID, nameAddr, tag string) {
	start := w.begin(id)
	w.b = append(w.b, nameAddr...)
	if tag != "" {
		w.b = append(append(w.b, ";tag="...), tag...)
	}
	w.end(start)
}

// wrote notes where the value of a field is that has just been written.
func (w *Writer) wrote(id HeaderID, start int) {
	if id == HeaderCallID {
		w.callID = [2]int{start, len(w.b)}
	}
}

// Named writes one field by name.
func (w *Writer) Named(name, value string) {
	w.Raw(name)
	w.Raw(": ")
	start := len(w.b)
	w.b = append(w.b, value...)
	w.end(start)
}

// Value writes one field from bytes, such as a value taken from another message.
func (w *Writer) Value(id HeaderID, value []byte) {
	start := w.begin(id)
	w.b = append(w.b, value...)
	w.wrote(id, start)
	w.end(start)
}

// Uint writes a numeric field.
func (w *Writer) Uint(id HeaderID, n uint64) {
	w.begin(id)
	w.b = strconv.AppendUint(w.b, n, 10)
	w.b = append(w.b, '\r', '\n')
}

// CSeq writes the CSeq field.
func (w *Writer) CSeq(seq uint32, method Method) {
	w.begin(HeaderCSeq)
	w.b = strconv.AppendUint(w.b, uint64(seq), 10)
	w.b = append(w.b, ' ')
	w.Raw(method.String())
	w.b = append(w.b, '\r', '\n')
}

// clean takes line breaks and zero bytes out of what was written since from.
func (w *Writer) clean(from int) {
	rest := w.b[from:]
	if len(rest) >= 8 {
		hits := lineBits(binary.LittleEndian.Uint64(rest[len(rest)-8:]))
		for ; len(rest) > 8; rest = rest[8:] {
			hits |= lineBits(binary.LittleEndian.Uint64(rest))
		}
		if hits == 0 {
			return
		}
	}
	for i := from; i < len(w.b); i++ {
		if c := w.b[i]; c == '\r' || c == '\n' || c == 0 {
			w.b[i] = ' '
		}
	}
}

// lineBits is not 0 if one of the eight bytes of x is below 0x10, as line breaks and zero are.
func lineBits(x uint64) uint64 {
	const ones, high = 0x0101010101010101, 0x8080808080808080
	return (x - 0x10*ones) &^ x & high
}

// Copy writes every field of m with this id.
func (w *Writer) Copy(m *Message, id HeaderID) {
	for v := range m.All(id) {
		w.Value(id, v)
	}
}

// Body ends the header with Content-Type (unless body is empty), Content-Length and the body.
func (w *Writer) Body(contentType string, body []byte) {
	if len(body) > 0 {
		w.Header(HeaderContentType, contentType)
	}
	w.Uint(HeaderContentLength, uint64(len(body)))
	w.Raw("\r\n")
	w.b = append(w.b, body...)
}

// Response writes the status line and the fields every response copies from its request: Via, From, To with toTag added
// if it has none, Call-ID and CSeq (RFC 3261 section 8.2.6.2); a field that the request lacks is left out. A 100 also
// copies Timestamp (section 8.2.6.1). The caller adds more fields and ends with [Writer.Body].
func (w *Writer) Response(req *Message, status int, phrase string, toTag string) {
	w.ResponseTo(req, status, phrase, toTag, netip.AddrPort{})
}

// ResponseTo is Response to a request that came from source over a stream: a client that asked for it with rport learns its
// address as we see it, which is how it finds out about a NAT (RFC 3581 section 4).
func (w *Writer) ResponseTo(req *Message, status int, phrase string, toTag string, source netip.AddrPort) {
	w.StatusLine(status, phrase)
	w.vias(req, source)
	w.first(req, HeaderFrom)
	if to := req.Get(HeaderTo); to != nil {
		start := w.begin(HeaderTo)
		w.b = append(w.b, to...)
		if toTag != "" && len(req.ToTag()) == 0 {
			w.Raw(";tag=")
			w.Raw(toTag)
		}
		w.end(start)
	}
	w.first(req, HeaderCallID)
	w.first(req, HeaderCSeq)
	if status == 100 {
		w.first(req, HeaderTimestamp)
	}
}

// first writes the first field of m with this id, if there is one.
func (w *Writer) first(m *Message, id HeaderID) {
	if v := m.Get(id); v != nil {
		w.Value(id, v)
	}
}

// Phrase returns the usual reason phrase of a status code (RFC 3261 section 21 and extensions).
func Phrase(status int) string {
	switch status {
	case 100:
		return "Trying"
	case 180:
		return "Ringing"
	case 181:
		return "Call Is Being Forwarded"
	case 182:
		return "Queued"
	case 183:
		return "Session Progress"
	case 200:
		return "OK"
	case 202:
		return "Accepted"
	case 204:
		return "No Notification"
	case 300:
		return "Multiple Choices"
	case 301:
		return "Moved Permanently"
	case 302:
		return "Moved Temporarily"
	case 305:
		return "Use Proxy"
	case 380:
		return "Alternative Service"
	case 400:
		return "Bad Request"
	case 401:
		return "Unauthorized"
	case 403:
		return "Forbidden"
	case 404:
		return "Not Found"
	case 405:
		return "Method Not Allowed"
	case 406:
		return "Not Acceptable"
	case 407:
		return "Proxy Authentication Required"
	case 408:
		return "Request Timeout"
	case 410:
		return "Gone"
	case 412:
		return "Conditional Request Failed"
	case 413:
		return "Request Entity Too Large"
	case 414:
		return "Request-URI Too Long"
	case 415:
		return "Unsupported Media Type"
	case 416:
		return "Unsupported URI Scheme"
	case 420:
		return "Bad Extension"
	case 421:
		return "Extension Required"
	case 422:
		return "Session Interval Too Small"
	case 423:
		return "Interval Too Brief"
	case 430:
		return "Flow Failed"
	case 439:
		return "First Hop Lacks Outbound Support"
	case 480:
		return "Temporarily Unavailable"
	case 481:
		return "Call/Transaction Does Not Exist"
	case 482:
		return "Loop Detected"
	case 483:
		return "Too Many Hops"
	case 484:
		return "Address Incomplete"
	case 486:
		return "Busy Here"
	case 487:
		return "Request Terminated"
	case 488:
		return "Not Acceptable Here"
	case 489:
		return "Bad Event"
	case 491:
		return "Request Pending"
	case 500:
		return "Server Internal Error"
	case 501:
		return "Not Implemented"
	case 503:
		return "Service Unavailable"
	case 504:
		return "Server Time-out"
	case 505:
		return "Version Not Supported"
	case 513:
		return "Message Too Large"
	case 600:
		return "Busy Everywhere"
	case 603:
		return "Decline"
	case 604:
		return "Does Not Exist Anywhere"
	case 606:
		return "Not Acceptable"
	}
	return "Unknown"
}

// vias copies the Via fields. If source is known, the first value says where the request came from: received where that is not what it
// says itself, or where rport asks for it, and that filled (RFC 3261 section 18.2.1, RFC 3581 section 4).
func (w *Writer) vias(req *Message, source netip.AddrPort) {
	top := source.IsValid()
	for v := range req.All(HeaderVia) {
		value, rest := nextValue(v)
		if !top || value == nil {
			w.Value(HeaderVia, v)
			continue
		}
		top = false
		via, err := req.TopVia()
		if err != nil {
			w.Value(HeaderVia, v)
			continue
		}
		start := w.begin(HeaderVia)
		part, left := cut(value, ';')
		w.b = append(w.b, part...)
		var rport, asked, told bool
		for left != nil {
			var name, number []byte
			if nameEnd, end, _, plain := plainParam(left); plain {
				name, number, part = left[:nameEnd], left[min(nameEnd+1, end):end], left[:end]
				if left = left[end:]; len(left) > 0 {
					left = left[1:]
				} else {
					left = nil
				}
			} else {
				part, left = cut(left, ';')
				name, number, _, _ = nextParam(part)
			}
			switch {
			case EqualFold(name, "rport"):
				asked = asked || !rport && len(number) == 0
				if rport = true; asked {
					w.Raw(";rport=")
					w.b = strconv.AppendUint(w.b, uint64(source.Port()), 10)
					continue
				}
			case EqualFold(name, "received"): // who sends a request does not say where it came from
				told = true
				continue
			}
			w.b = append(append(w.b, ';'), part...)
		}
		if !asked && !told && via.from(source.Addr()) {
			w.b = append(w.b[:start], v...)
			w.end(start)
			continue
		}
		w.Raw(";received=")
		w.b = source.Addr().WithZone("").AppendTo(w.b)
		if len(rest) > 0 {
			w.Raw(", ")
			w.b = append(w.b, trim(rest)...)
		}
		w.end(start)
	}
}

// from reports whether the sent-by is this address.
func (v *Via) from(source netip.Addr) bool {
	var text [48]byte
	b := source.AppendTo(text[:0])
	host := v.Host
	if n := len(host); n > 1 && host[0] == '[' {
		host = host[1 : n-1]
	}
	if bytes.Equal(host, b) { // nearly always
		return true
	}
	a, err := netip.ParseAddr(string(host))
	return err == nil && a.Unmap() == source.Unmap().WithZone("")
}
