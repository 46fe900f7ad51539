package tvs

import (
	"encoding/binary"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"

	"ringfence"
	"ringfence/internal/trust/trustlist"
)

// Command says what a message is.
type Command byte

// The commands. An answer has the number of its request plus one.
const (
	VerifyRequest  Command = 1 // is this certificate believed?
	VerifyResponse Command = 2
	QueryRequest   Command = 3 // which certificate has this name, and is it believed?
	QueryResponse  Command = 4
)

// The fixed parts of a header.
const (
	protocol   = 0x57
	version    = 1
	headerSize = 10
)

// The tags of elements. Captures of phones show 1, 2, 3, 7, 8 and 9; of the query they show the order subject, issuer, serial, and the lengths, but the
// tags of the last two are cut off. We write 4 and 5, and read 5 and 6 as well, which is how records of trust lists have them.
const (
	tagDevice      = 1
	tagCertificate = 2
	tagSubject     = 3
	tagIssuer      = 4
	tagSerial      = 5
	tagSerialAlt   = 6
	tagStatus      = 7
	tagRoles       = 8
	tagTTL         = 9
)

// The limits of a message.
const (
	maxBody        = 16 << 10 // bytes
	maxElements    = 16
	maxCertificate = 8 << 10
	maxDevice      = 64 // bytes of text
	maxName        = 2 << 10
	maxSerial      = 21 // 20 octets (RFC 5280 section 4.1.2.2), and the zero before a first bit that is set
	maxRoles       = 32
)

// Message is one request or answer. Which fields count depends on the command.
type Message struct {
	Command Command
	Session uint32 // chosen by who asks
	Device  string // such as CP-8841-SEP001122334455; nobody has proved it
	Cert    []byte // DER
	Subject string
	Issuer  string
	Serial  []byte // big-endian, without leading zeros
	Valid   bool
	Roles   []trustlist.Role
	TTL     uint32 // seconds
}

// Parse reads one whole message.
func Parse(b []byte) (*Message, error) {
	if len(b) < headerSize {
		return nil, broken("it is cut off")
	}
	m, n, err := parseHeader([headerSize]byte(b))
	if err != nil {
		return nil, err
	}
	if len(b)-headerSize != n {
		return nil, broken("its length is not what its header says")
	}
	return m, m.parseBody(b[headerSize:])
}

// receive reads one message of the given command. It takes no more bytes than the message has, and none of the body before the header is checked.
func receive(r io.Reader, want ...Command) (*Message, error) {
	const op = "tvs.read"
	var head [headerSize]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, lost(op, err)
	}
	m, n, err := parseHeader(head)
	if err != nil {
		return nil, err
	}
	known := false
	for _, c := range want {
		known = known || c == m.Command
	}
	if !known {
		return nil, broken("its command is not one that is expected here")
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(r, body); err != nil {
		return nil, lost(op, err)
	}
	return m, m.parseBody(body)
}

func parseHeader(b [headerSize]byte) (m *Message, body int, err error) {
	n := int(binary.BigEndian.Uint16(b[8:]))
	switch {
	case b[0] != protocol || b[1] != version:
		return nil, 0, broken("it is of another protocol or version")
	case b[2] < byte(VerifyRequest) || b[2] > byte(QueryResponse):
		return nil, 0, broken("its command is unknown")
	case n > maxBody:
		return nil, 0, broken("it is longer than 16 KiB")
	}
	// The byte before the session is zero in requests. In answers it has been seen with rubbish in it, so nobody looks at it.
	return &Message{Command: Command(b[2]), Session: binary.BigEndian.Uint32(b[4:])}, n, nil
}

// parseBody reads the elements. Unknown ones are passed over, because firmware differs; known ones come once.
func (m *Message) parseBody(b []byte) error {
	var seen [tagTTL + 1][]byte // by tag; nil: not there
	for count := 0; len(b) > 0; count++ {
		if len(b) < 3 || count == maxElements {
			return broken("an element has no length, or there are too many")
		}
		tag, n := b[0], int(binary.BigEndian.Uint16(b[1:]))
		if len(b)-3 < n {
			return broken("an element is cut off")
		}
		value := b[3 : 3+n : 3+n]
		b = b[3+n:]
		if tag == 0 || int(tag) >= len(seen) {
			continue
		}
		if seen[tag] != nil {
			return broken("an element is there twice")
		}
		seen[tag] = value
	}
	if v := seen[tagCertificate]; v != nil {
		if len(v) == 0 || len(v) > maxCertificate {
			return broken("the certificate is empty or longer than 8 KiB")
		}
		m.Cert = v
	}
	if m.Command == VerifyRequest || m.Command == QueryRequest {
		return m.parseRequest(&seen)
	}
	return m.parseResponse(&seen)
}

func (m *Message) parseRequest(seen *[tagTTL + 1][]byte) (err error) {
	// Phones put a byte 1 before the text, other programs a zero behind it.
	device := seen[tagDevice]
	if len(device) > 0 && device[0] == 1 {
		device = device[1:]
	}
	if m.Device, err = text(device, maxDevice); err != nil || m.Device == "" {
		return broken("the name of the device is missing, too long or not printable")
	}
	if m.Command == VerifyRequest {
		if m.Cert == nil {
			return broken("there is no certificate")
		}
		return nil
	}
	m.Cert = nil
	issuer, serial := seen[tagIssuer], seen[tagSerial]
	if issuer == nil && seen[tagSerialAlt] != nil {
		issuer, serial = seen[tagSerial], seen[tagSerialAlt]
	}
	if m.Subject, err = text(seen[tagSubject], maxName); err != nil {
		return err
	}
	if m.Issuer, err = text(issuer, maxName); err != nil {
		return err
	}
	if m.Issuer == "" || len(serial) == 0 || len(serial) > maxSerial {
		return broken("the issuer or the serial number is missing or too long")
	}
	m.Serial = trim(serial)
	return nil
}

func (m *Message) parseResponse(seen *[tagTTL + 1][]byte) error {
	status := seen[tagStatus]
	if len(status) != 1 {
		return broken("the status has not one byte")
	}
	m.Valid = status[0] == 0
	if m.Valid && m.Command == QueryResponse && m.Cert == nil {
		return broken("there is no certificate")
	}
	if len(seen[tagRoles]) > maxRoles {
		return broken("there are too many roles")
	}
	for _, r := range seen[tagRoles] {
		m.Roles = append(m.Roles, trustlist.Role(r))
	}
	if v := seen[tagTTL]; v != nil {
		if len(v) != 4 {
			return broken("the time to live has not four bytes")
		}
		m.TTL = binary.BigEndian.Uint32(v)
	}
	return nil
}

// text reads a text with or without the zero that ends it.
func text(b []byte, most int) (string, error) {
	if n := len(b); n > 0 && b[n-1] == 0 {
		b = b[:n-1]
	}
	s := string(b)
	if len(s) > most || !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return "", broken("a name is too long or not printable")
	}
	return s, nil
}

// trim removes leading zeros, but leaves one byte.
func trim(serial []byte) []byte {
	for len(serial) > 1 && serial[0] == 0 {
		serial = serial[1:]
	}
	return serial
}

// Append appends the message as it goes over the wire. It fails if a part is longer than a reader would take.
func (m *Message) Append(b []byte) ([]byte, error) {
	var body []byte
	add := func(tag byte, value []byte) {
		body = binary.BigEndian.AppendUint16(append(body, tag), uint16(len(value)))
		body = append(body, value...)
	}
	if len(m.Device) > maxDevice || len(m.Cert) > maxCertificate || len(m.Subject) > maxName || len(m.Issuer) > maxName || len(m.Serial) > maxSerial || len(m.Roles) > maxRoles {
		return b, fault("tvs.write", ringfence.KindInvalid, "a name, a certificate or the list of roles is too long to be asked about", "", nil)
	}
	switch m.Command {
	case VerifyRequest, QueryRequest:
		add(tagDevice, append([]byte{1}, m.Device...))
		if m.Command == VerifyRequest {
			add(tagCertificate, m.Cert)
			break
		}
		add(tagSubject, append([]byte(m.Subject), 0))
		add(tagIssuer, append([]byte(m.Issuer), 0))
		add(tagSerial, m.Serial)
	case VerifyResponse, QueryResponse:
		if !m.Valid {
			add(tagStatus, []byte{1})
			break
		}
		add(tagStatus, []byte{0})
		if m.Command == QueryResponse {
			add(tagCertificate, m.Cert)
		}
		roles := make([]byte, len(m.Roles))
		for i, r := range m.Roles {
			if r > 0xff {
				return b, fault("tvs.write", ringfence.KindInvalid, r.String()+" has no room in an answer", "roles go up to 255 there", nil)
			}
			roles[i] = byte(r)
		}
		add(tagRoles, roles)
		add(tagTTL, binary.BigEndian.AppendUint32(nil, m.TTL))
	}
	b = binary.BigEndian.AppendUint32(append(b, protocol, version, byte(m.Command), 0), m.Session)
	b = binary.BigEndian.AppendUint16(b, uint16(len(body)))
	return append(b, body...), nil
}

func broken(what string) error {
	return fault("tvs.read", ringfence.KindInvalid, "the message is damaged, or none of this protocol: "+what, "", nil)
}

func fault(op string, k ringfence.Kind, what, hint string, cause error) error {
	return &ringfence.Fault{Op: op, Kind: k, Text: what, Hint: hint, Err: cause}
}
