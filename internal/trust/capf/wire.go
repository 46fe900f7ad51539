package capf

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"

	"ringfence"
)

// command is what a message asks or answers.
type command uint8

const (
	cmdAuthRequest    command = 1
	cmdAuthResponse   command = 2
	cmdKeyRequest     command = 3
	cmdKeyResponse    command = 4
	cmdStoreRequest   command = 9
	cmdStoreResponse  command = 10
	cmdFetchRequest   command = 11
	cmdFetchResponse  command = 12
	cmdDeleteRequest  command = 13
	cmdDeleteResponse command = 14
	cmdEnd            command = 15
	cmdRetryLater     command = 16
	cmdInProgress     command = 17
	cmdAbortRequest   command = 20
	cmdAbortResponse  command = 21
	lastCommand       command = 23
)

func (c command) String() string {
	names := [...]string{1: "authenticate", 2: "authenticate response", 3: "key generate", 4: "key generate response", 5: "encrypt response", 6: "encrypt",
		7: "decrypt", 8: "decrypt response", 9: "store certificate", 10: "store certificate response", 11: "fetch certificate", 12: "fetch certificate response",
		13: "delete certificate", 14: "delete certificate response", 15: "end session", 16: "retry later", 17: "request in progress", 18: "status",
		19: "status response", 20: "abort", 21: "abort response", 22: "sign certificate", 23: "sign certificate response"}
	if int(c) < len(names) && names[c] != "" {
		return names[c]
	}
	return fmt.Sprintf("command %d", uint8(c))
}

// tag names an element of a body.
type tag uint8

const (
	tagReason      tag = 1
	tagCertType    tag = 3
	tagCertificate tag = 4
	tagSigned      tag = 6 // the proof with SHA-1
	tagVersion     tag = 7
	tagAuthType    tag = 8
	tagPublicKey   tag = 9
	tagKeySize     tag = 10
	tagPassword    tag = 11
	tagRetryDelay  tag = 12
	tagDevice      tag = 13
	tagSUDI        tag = 16
	tagKeyType     tag = 17
	tagCurve       tag = 18
	tagSignedSHA2  tag = 20 // the proof with SHA-512
)

// Reasons, as element 1 carries them.
const (
	reasonNothing byte = 0 // no action
	reasonDone    byte = 1
	reasonRefused byte = 7 // invalid element; also what a phone hears that did not prove itself
	reasonUnknown byte = 9 // unknown device
)

// The limits of what is read, and the constants of the form.
const (
	magic       = 0x55
	headerLen   = 8
	maxElements = 32
	maxDER      = 4 << 10  // of one certificate
	maxKeyDER   = 2 << 10  // of a SubjectPublicKeyInfo
	maxProof    = 1 << 10  // of one signature
	maxName     = 64       // of a device
	maxBody     = 16 << 10 // of any message: two certificates and four signatures fit
	maxShort    = 64       // of a message that carries next to nothing
)

// element is one tagged value of a body.
type element struct {
	tag   tag
	value []byte
}

// message is one message. Its elements have different tags.
type message struct {
	command  command
	session  uint32
	elements []element
}

// get returns the value of an element.
func (m message) get(t tag) ([]byte, bool) {
	for _, e := range m.elements {
		if e.tag == t {
			return e.value, true
		}
	}
	return nil, false
}

// bytes returns the message with its header in one piece, for one Write: phones stall when the two come apart.
func (m message) bytes() ([]byte, error) {
	n := 0
	for _, e := range m.elements {
		n += 3 + len(e.value)
	}
	if n > maxBody {
		return nil, fault("capf.write", ringfence.KindInternal, "a message is too long to be sent", "the certificate may be too long for a phone", nil)
	}
	b := make([]byte, 0, headerLen+n)
	b = append(b, magic, byte(m.command))
	b = binary.BigEndian.AppendUint32(b, m.session)
	b = binary.BigEndian.AppendUint16(b, uint16(n))
	for _, e := range m.elements {
		b = append(b, byte(e.tag))
		b = binary.BigEndian.AppendUint16(b, uint16(len(e.value)))
		b = append(b, e.value...)
	}
	return b, nil
}

// header is the first eight bytes of a message.
type header struct {
	command command
	session uint32
	length  int
}

func parseHeader(b [headerLen]byte) (header, error) {
	h := header{command: command(b[1]), session: binary.BigEndian.Uint32(b[2:]), length: int(binary.BigEndian.Uint16(b[6:]))}
	if b[0] != magic {
		return h, malformed("the message does not begin as one of CAPF does")
	}
	if h.command == 0 || h.command > lastCommand {
		return h, malformed("there is no " + h.command.String())
	}
	return h, nil
}

// parseBody reads the elements of a body, which must fill it exactly. Elements that nobody knows are kept, and nobody looks at them; one that
// comes twice is refused, because two readers might disagree on which counts.
func parseBody(b []byte) ([]element, error) {
	var out []element
	var seen [256]bool
	for len(b) > 0 {
		if len(b) < 3 {
			return nil, malformed("an element is cut off")
		}
		if len(out) == maxElements {
			return nil, malformed("the message has too many elements")
		}
		t, n := tag(b[0]), int(binary.BigEndian.Uint16(b[1:]))
		if n > len(b)-3 {
			return nil, malformed(fmt.Sprintf("element %d says that it has %d bytes, and %d follow", t, n, len(b)-3))
		}
		if seen[t] {
			return nil, malformed(fmt.Sprintf("element %d comes twice", t))
		}
		seen[t] = true
		out = append(out, element{t, b[3 : 3+n]})
		b = b[3+n:]
	}
	return out, nil
}

// readMessage reads one message. admit is asked before the body is read, and says how long the body may be.
func readMessage(r io.Reader, admit func(header) (limit int, err error)) (message, error) {
	var first [headerLen]byte
	if _, err := io.ReadFull(r, first[:]); err != nil {
		return message{}, broken(err)
	}
	h, err := parseHeader(first)
	if err != nil {
		return message{}, err
	}
	limit, err := admit(h)
	if err != nil {
		return message{}, err
	}
	if h.length > limit {
		return message{}, malformed(fmt.Sprintf("the message %s has a body of %d bytes; %d are taken", h.command, h.length, limit))
	}
	body := make([]byte, h.length)
	if _, err := io.ReadFull(r, body); err != nil {
		return message{}, broken(err)
	}
	m := message{command: h.command, session: h.session}
	m.elements, err = parseBody(body)
	return m, err
}

func malformed(text string) error {
	return fault("capf.read", ringfence.KindInvalid, text, "", nil)
}

// broken words the end of a connection.
func broken(err error) error {
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return fault("capf.read", ringfence.KindTimeout, "the other side did not answer in time", "", nil)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return fault("capf.read", ringfence.KindUnavailable, "the other side hung up", "", nil)
	}
	return fault("capf.read", ringfence.KindUnavailable, "the connection broke", "", err)
}

// The forms of values.

func byteElement(t tag, v byte) element { return element{t, []byte{v}} }

func shortElement(t tag, v uint16) element {
	return element{t, binary.BigEndian.AppendUint16(nil, v)}
}

func textElement(t tag, s string) element { return element{t, append([]byte(s), 0)} }

// byteOf returns the value of an element that is one byte; ok is false if the element is missing.
func (m message) byteOf(t tag) (v byte, ok bool, err error) {
	b, ok := m.get(t)
	if !ok {
		return 0, false, nil
	}
	if len(b) != 1 {
		return 0, true, malformed(fmt.Sprintf("element %d has %d bytes; it should have one", t, len(b)))
	}
	return b[0], true, nil
}

// shortOf is byteOf for 16 bits.
func (m message) shortOf(t tag) (v uint16, ok bool, err error) {
	b, ok := m.get(t)
	if !ok {
		return 0, false, nil
	}
	if len(b) != 2 {
		return 0, true, malformed(fmt.Sprintf("element %d has %d bytes; it should have two", t, len(b)))
	}
	return binary.BigEndian.Uint16(b), true, nil
}

// textOf returns the text of an element without the NUL at its end.
func (m message) textOf(t tag, limit int) (s string, ok bool, err error) {
	b, ok := m.get(t)
	if !ok {
		return "", false, nil
	}
	if len(b) == 0 || b[len(b)-1] != 0 {
		return "", true, malformed(fmt.Sprintf("the text of element %d does not end in a zero byte", t))
	}
	b = b[:len(b)-1]
	if len(b) > limit {
		return "", true, malformed(fmt.Sprintf("the text of element %d is longer than %d bytes", t, limit))
	}
	if i := bytes.IndexFunc(b, func(r rune) bool { return r < 0x20 || r > 0x7e }); i >= 0 {
		return "", true, malformed(fmt.Sprintf("the text of element %d has a byte that is no printable ASCII", t))
	}
	return string(b), true, nil
}

// certificateElement wraps a certificate as element 4 carries it: a tag and a length of its own, and two bytes for the type.
func certificateElement(der []byte, kind byte) element {
	v := binary.BigEndian.AppendUint16([]byte{1}, uint16(len(der)+2))
	return element{tagCertificate, append(append(v, 0, kind), der...)}
}

// Types of certificates, in elements 3 and 4.
const (
	certLSC byte = 1
	certMIC byte = 2
)

// certificateOf returns the DER of the certificate in element 4. The two bytes that say of which type it is are not looked at: who issued it decides.
func (m message) certificateOf() (der []byte, ok bool, err error) {
	b, ok := m.get(tagCertificate)
	if !ok {
		return nil, false, nil
	}
	if len(b) < 5 || b[0] != 1 || int(binary.BigEndian.Uint16(b[1:])) != len(b)-3 {
		return nil, true, malformed("the lengths in the certificate element do not agree")
	}
	der = b[5:]
	return der, true, checkDER(der, maxDER)
}

// checkDER holds a structure to one ASN.1 SEQUENCE that fills the bytes, before a parser is let at them.
func checkDER(b []byte, limit int) error {
	if len(b) > limit {
		return malformed(fmt.Sprintf("a structure has %d bytes; %d are taken", len(b), limit))
	}
	bad := malformed("a structure is not exactly one SEQUENCE in DER")
	if len(b) < 2 || b[0] != 0x30 {
		return bad
	}
	n, head := int(b[1]), 2
	if n >= 0x80 { // long form, with the fewest bytes that do (X.690 section 10.1)
		k := n & 0x7f
		if k < 1 || k > 2 || len(b) < 2+k {
			return bad
		}
		n, head = 0, 2+k
		for _, c := range b[2 : 2+k] {
			n = n<<8 | int(c)
		}
		if n < 0x80 || k == 2 && n < 0x100 {
			return bad
		}
	}
	if head+n != len(b) {
		return bad
	}
	return nil
}

// Digests, as they stand before a signature.
const (
	digestSHA1   byte = 1
	digestSHA512 byte = 3
)

// tagged is a value with a byte and a length before it, as they are inside elements 16 and 20.
type tagged struct {
	kind  byte
	value []byte
}

func appendTagged(b []byte, t tagged) []byte {
	b = binary.BigEndian.AppendUint16(append(b, t.kind), uint16(len(t.value)))
	return append(b, t.value...)
}

// parseTagged reads exactly n values.
func parseTagged(b []byte, n int) ([]tagged, error) {
	out := make([]tagged, 0, n)
	for range n {
		if len(b) < 3 || int(binary.BigEndian.Uint16(b[1:])) > len(b)-3 {
			return nil, malformed("a signed element is cut off")
		}
		size := int(binary.BigEndian.Uint16(b[1:]))
		out = append(out, tagged{b[0], b[3 : 3+size]})
		b = b[3+size:]
	}
	if len(b) > 0 {
		return nil, malformed("something follows inside a signed element")
	}
	return out, nil
}

// parseSUDI reads element 16: a certificate, and signatures with SHA-1 and with SHA-512. The place of the first two says what they are;
// the last must say SHA-512.
func parseSUDI(b []byte) (der, sha1, sha512 []byte, err error) {
	parts, err := parseTagged(b, 3)
	if err != nil {
		return nil, nil, nil, err
	}
	if parts[2].kind != digestSHA512 {
		return nil, nil, nil, malformed("the last signature of the SUDI element is not one with SHA-512")
	}
	if len(parts[1].value) > maxProof || len(parts[2].value) > maxProof {
		return nil, nil, nil, malformed("a signature in the SUDI element is too long")
	}
	return parts[0].value, parts[1].value, parts[2].value, checkDER(parts[0].value, maxDER)
}

func fault(op string, k ringfence.Kind, text, hint string, cause error) error {
	return &ringfence.Fault{Op: op, Kind: k, Text: text, Hint: hint, Err: cause}
}
