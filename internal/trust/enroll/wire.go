package enroll

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"encoding/json"
	"encoding/pem"
	"io"
	"strings"
	"unicode"

	"ringfence"
)

// Paths of the protocol, and the bounds of what travels on it, in bytes.
const (
	pathHello   = "/enrol/v1/hello"
	pathRequest = "/enrol/v1/request"
	pathRenew   = "/enrol/v1/renew"

	maxBody   = 32 << 10  // of a request
	maxAnswer = 512 << 10 // of an answer
	nonceLen  = 32

	exporterLabel = "EXPORTER-ringfence-enrol"
	serverLabel   = "ringfence enrol server v1"
	deviceLabel   = "ringfence enrol device v1"
)

type helloMsg struct {
	Lookup string `json:"lookup"`
	Nonce  []byte `json:"nonce"`
}

type helloReply struct {
	Salt    []byte   `json:"salt"`
	Params  Cost     `json:"params"`
	Nonce   []byte   `json:"server_nonce"`
	MAC     []byte   `json:"mac"`
	Anchors []string `json:"anchors"` // PEM
}

type requestMsg struct {
	Lookup string `json:"lookup"`
	Nonce  []byte `json:"nonce"` // the same as in hello
	CSR    []byte `json:"csr"`   // PKCS #10, DER
	MAC    []byte `json:"mac"`
}

type renewMsg struct {
	CSR []byte `json:"csr"`
}

type certReply struct {
	Chain  []string           `json:"chain"` // PEM, leaf first
	Device ringfence.DeviceID `json:"device"`
	Bootstrap
}

// Bootstrap is what a device needs to know next to its certificate.
type Bootstrap struct {
	User   ringfence.UserID `json:"user"`
	Domain string           `json:"domain"` // of the user's address-of-record
	SIP    Endpoint         `json:"sip"`
	Extra  json.RawMessage  `json:"extra,omitempty"` // whatever else the node hands to its devices
}

// Endpoint is where SIP over TLS is spoken.
type Endpoint struct {
	Host string `json:"host"`
	Port uint16 `json:"port"`
}

// aor is the user's address-of-record as a SIP URI, or "" if it is not known.
func (b Bootstrap) aor() string {
	if b.User == "" || b.Domain == "" {
		return ""
	}
	return "sip:" + string(b.User) + "@" + b.Domain
}

type errorReply struct {
	Error struct {
		Kind string `json:"kind"`
		Text string `json:"text"`
		Hint string `json:"hint,omitempty"`
	} `json:"error"`
}

// readJSON decodes exactly one JSON value of at most limit bytes. Unknown members are refused if strict: a device must
// understand the answers of a newer node, but a node knows what it may be asked.
func readJSON(r io.Reader, limit int64, strict bool, into any) error {
	const op = "enroll.read"
	b, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return fault(op, ringfence.KindInvalid, "the message was cut off", "", err)
	}
	if int64(len(b)) > limit {
		return fault(op, ringfence.KindInvalid, "the message is too long", "", nil)
	}
	d := json.NewDecoder(bytes.NewReader(b))
	if strict {
		d.DisallowUnknownFields()
	}
	if err := d.Decode(into); err != nil {
		return fault(op, ringfence.KindInvalid, "the message is not the JSON expected here", "", nil)
	}
	if _, err := d.Token(); err != io.EOF {
		return fault(op, ringfence.KindInvalid, "something follows the message", "", nil)
	}
	return nil
}

func (m helloMsg) check() error { return checkStart(m.Lookup, m.Nonce) }

func (m requestMsg) check() error {
	if len(m.MAC) != sha256.Size || len(m.CSR) == 0 {
		return fault("enroll.read", ringfence.KindInvalid, "the message lacks a proof or a certificate request", "", nil)
	}
	return checkStart(m.Lookup, m.Nonce)
}

func checkStart(lookup string, nonce []byte) error {
	if len(lookup) != lookupDigits || strings.Trim(lookup, "0123456789") != "" || len(nonce) != nonceLen {
		return fault("enroll.read", ringfence.KindInvalid, "the message lacks a lookup of 4 digits or a nonce of 32 bytes", "", nil)
	}
	return nil
}

// exporter returns the value that only the two ends of this very connection know (RFC 8446 section 7.5).
func exporter(cs *tls.ConnectionState) ([]byte, error) {
	const op = "enroll.exporter"
	if cs == nil || cs.Version < tls.VersionTLS13 {
		return nil, fault(op, ringfence.KindInsecure, "enrolment needs TLS 1.3", "connect with TLS 1.3", nil)
	}
	v, err := cs.ExportKeyingMaterial(exporterLabel, nil, 32)
	if err != nil {
		return nil, fault(op, ringfence.KindInternal, "the connection exports no key", "", err)
	}
	return v, nil
}

// session is what both proofs cover besides their own part. All parts have a fixed length, so their concatenation is unambiguous.
type session struct{ exporter, deviceNonce, serverNonce []byte }

func (s session) prove(v []byte, label string, sum [sha256.Size]byte) []byte {
	m := hmac.New(sha256.New, v)
	for _, part := range [][]byte{[]byte(label), s.exporter, s.deviceNonce, s.serverNonce, sum[:]} {
		m.Write(part)
	}
	return m.Sum(nil)
}

func (s session) serverProof(v []byte, anchors []*x509.Certificate) []byte {
	h := sha256.New()
	for _, a := range anchors {
		h.Write(binary.BigEndian.AppendUint32(nil, uint32(len(a.Raw))))
		h.Write(a.Raw)
	}
	return s.prove(v, serverLabel, [sha256.Size]byte(h.Sum(nil)))
}

func (s session) deviceProof(v, csr []byte) []byte {
	return s.prove(v, deviceLabel, sha256.Sum256(csr))
}

// maxCerts bounds a list of certificates.
const maxCerts = 16

// readCerts reads a list of PEM certificates.
func readCerts(list []string) ([]*x509.Certificate, error) {
	const op = "enroll.read"
	if len(list) == 0 || len(list) > maxCerts {
		return nil, fault(op, ringfence.KindInvalid, "the list of certificates is empty or too long", "", nil)
	}
	out := make([]*x509.Certificate, 0, len(list))
	for _, s := range list {
		block, rest := pem.Decode([]byte(s))
		if block == nil || block.Type != "CERTIFICATE" || len(bytes.TrimSpace(rest)) > 0 {
			return nil, fault(op, ringfence.KindInvalid, "a certificate is not PEM", "", nil)
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fault(op, ringfence.KindInvalid, "a certificate cannot be read", "", err)
		}
		out = append(out, c)
	}
	return out, nil
}

func writeCert(der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

// told turns a refusal of the node into a fault. The words come from outside: they are bounded and stripped of control characters.
func told(op string, e errorReply) error {
	clean := func(s string) string {
		s = strings.Map(func(r rune) rune {
			if unicode.IsPrint(r) {
				return r
			}
			return -1
		}, s)
		if r := []rune(s); len(r) > 300 {
			s = string(r[:300])
		}
		return s
	}
	kind := ringfence.KindUnavailable
	for k := ringfence.KindInvalid; k <= ringfence.KindCancelled; k++ {
		if k.String() == e.Error.Kind {
			kind = k
		}
	}
	text := clean(e.Error.Text)
	if text == "" {
		text = "the node refused without a reason"
	}
	return fault(op, kind, text, clean(e.Error.Hint), nil)
}
