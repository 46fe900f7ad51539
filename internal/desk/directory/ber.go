package directory

import (
	"encoding/binary"
	"io"

	"ringfence"
)

// Tags of BER (X.690), as LDAP uses them (RFC 4511 section 5.1: definite lengths alone).
const (
	tagBoolean     = 0x01
	tagInteger     = 0x02
	tagOctets      = 0x04
	tagEnumerated  = 0x0a
	tagSequence    = 0x30
	tagSet         = 0x31
	maxMessage     = 1 << 20
	maxElements    = 512 // of one sequence or set
	constructed    = 0x20
	contextual     = 0x80
	application    = 0x40
	highTag        = 0x1f
	opBind         = application | constructed
	opBindAnswer   = application | constructed | 1
	opUnbind       = application | 2
	opSearch       = application | constructed | 3
	opEntry        = application | constructed | 4
	opSearchDone   = application | constructed | 5
	opReference    = application | constructed | 19
	opExtended     = application | constructed | 23
	opExtendedDone = application | constructed | 24
)

// element is one value of BER.
type element struct {
	tag  byte
	body []byte
}

func bad(text string) error {
	return &ringfence.Fault{Op: "directory.parse", Kind: ringfence.KindInvalid, Text: text}
}

// tlv writes an element.
func tlv(tag byte, body ...[]byte) []byte {
	n := 0
	for _, b := range body {
		n += len(b)
	}
	out := []byte{tag}
	switch {
	case n < 128:
		out = append(out, byte(n))
	case n < 256:
		out = append(out, 0x81, byte(n))
	case n < 1<<16:
		out = append(out, 0x82, byte(n>>8), byte(n))
	default:
		out = append(out, 0x83, byte(n>>16), byte(n>>8), byte(n))
	}
	for _, b := range body {
		out = append(out, b...)
	}
	return out
}

func octets(s string) []byte { return tlv(tagOctets, []byte(s)) }

// integer writes a number that is not negative.
func integer(tag byte, n uint32) []byte {
	b := binary.BigEndian.AppendUint32([]byte{0}, n)
	for len(b) > 1 && b[0] == 0 && b[1] < 0x80 {
		b = b[1:]
	}
	return tlv(tag, b)
}

// next takes the first element of b.
func next(b []byte) (e element, rest []byte, err error) {
	if len(b) < 2 || b[0]&highTag == highTag {
		return e, nil, bad("an element is cut short")
	}
	n, head := int(b[1]), 2
	if n >= 0x80 {
		size := n & 0x7f
		if size < 1 || size > 4 || len(b) < 2+size {
			return e, nil, bad("an element has no length")
		}
		n = 0
		for _, x := range b[2 : 2+size] {
			n = n<<8 | int(x)
		}
		head += size
	}
	if n > maxMessage || len(b) < head+n {
		return e, nil, bad("an element is cut short")
	}
	return element{b[0], b[head : head+n]}, b[head+n:], nil
}

// all takes a body apart.
func all(b []byte) (out []element, err error) {
	for len(b) > 0 {
		var e element
		if e, b, err = next(b); err != nil {
			return nil, err
		}
		if out = append(out, e); len(out) > maxElements {
			return nil, bad("there are too many elements")
		}
	}
	return out, nil
}

// number reads an integer that is not negative.
func (e element) number() (uint32, bool) {
	b := e.body
	for len(b) > 1 && b[0] == 0 {
		b = b[1:]
	}
	if len(b) == 0 || len(b) > 4 || len(e.body) > 5 || e.body[0]&0x80 != 0 {
		return 0, false
	}
	n := uint32(0)
	for _, x := range b {
		n = n<<8 | uint32(x)
	}
	return n, true
}

// readMessage reads one message of a server, and not a byte more: what comes behind the answer to StartTLS must come within TLS.
func readMessage(r io.Reader) ([]byte, error) {
	head := make([]byte, 2, 6)
	if _, err := io.ReadFull(r, head); err != nil {
		return nil, err
	}
	if head[0] != tagSequence {
		return nil, bad("this is no message of LDAP")
	}
	n := int(head[1])
	if n >= 0x80 {
		size := n & 0x7f
		if size < 1 || size > 4 {
			return nil, bad("a message has no length")
		}
		head = head[:2+size]
		if _, err := io.ReadFull(r, head[2:]); err != nil {
			return nil, err
		}
		n = 0
		for _, x := range head[2:] {
			n = n<<8 | int(x)
		}
	}
	if n > maxMessage {
		return nil, bad("a message is larger than 1 MiB")
	}
	out := make([]byte, len(head)+n)
	copy(out, head)
	if _, err := io.ReadFull(r, out[len(head):]); err != nil {
		return nil, err
	}
	return out, nil
}
