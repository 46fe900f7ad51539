package trustlist

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"encoding/binary"
	"fmt"
	"time"

	"ringfence"
	"ringfence/internal/trust/signedfile"
)

// Role says in what a certificate of a list is believed.
type Role uint16

// The roles.
const (
	SAST      Role = 0 // signs trust lists
	CCM       Role = 1 // SIP over TLS
	CCMTFTP   Role = 2 // SIP over TLS, and signs configuration files
	TFTP      Role = 3 // signs configuration files
	CAPF      Role = 4 // gives phones their certificates
	AppServer Role = 7 // serves applications over HTTPS
	TVS       Role = 21
)

// String returns the name of the role as phones show it.
func (r Role) String() string {
	switch r {
	case SAST:
		return "SAST"
	case CCM:
		return "CCM"
	case CCMTFTP:
		return "CCM+TFTP"
	case TFTP:
		return "TFTP"
	case CAPF:
		return "CAPF"
	case AppServer:
		return "APP-SERVER"
	case TVS:
		return "TVS"
	}
	return fmt.Sprintf("role %d", uint16(r))
}

// MarshalText writes the name.
func (r Role) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// ParseRole reads the name of a role.
func ParseRole(text string) (Role, error) {
	for _, r := range [...]Role{SAST, CCM, CCMTFTP, TFTP, CAPF, AppServer, TVS} {
		if r.String() == text {
			return r, nil
		}
	}
	return 0, fault("trustlist.role", ringfence.KindInvalid, fmt.Sprintf("%.40q is no role", text), "roles are SAST, CCM, CCM+TFTP, TFTP, CAPF, APP-SERVER and TVS", nil)
}

// The tags of a record.
const (
	tagLength      = 1
	tagDNS         = 2
	tagSubject     = 3
	tagRole        = 4
	tagIssuer      = 5
	tagSerial      = 6
	tagKey         = 7
	tagSignature   = 8
	tagCertificate = 9
	tagIP          = 10
	tagHash        = 11
)

// The limits of a list.
const (
	MaxSize    = 1 << 20 // bytes
	maxRecords = 1000
)

// Record is one certificate of a list.
type Record struct {
	Role    Role                 `json:"role"`
	Subject string               `json:"subject"`
	Issuer  string               `json:"issuer"`
	Serial  []byte               `json:"serial"` // big-endian
	DNS     string               `json:"dns,omitempty"`
	Cert    *x509.Certificate    `json:"-"` // nil if the list has only its name and key
	Offset  int                  `json:"offset"`
	Parts   []signedfile.Element `json:"-"` // as they were read
}

// List is a list that was read. Nothing in it is to be believed before its signature is verified.
type List struct {
	*signedfile.File
	Records []Record
}

// Parse reads a list.
func Parse(b []byte) (*List, error) {
	if len(b) > MaxSize {
		return nil, broken("it is larger than 1 MiB")
	}
	f, err := signedfile.Parse(b)
	if err != nil {
		return nil, err
	}
	if f.Version != (signedfile.Version{Major: 1, Minor: 2}) {
		return nil, broken("it is a signed file of version " + f.Version.String() + ", and no trust list (1.2)")
	}
	l := &List{File: f}
	for rest, at := f.Body, f.BodyOffset; len(rest) > 0; {
		if len(rest) < 5 || rest[0] != tagLength || binary.BigEndian.Uint16(rest[1:]) != 2 {
			return nil, broken("a record does not begin with its length")
		}
		n := int(binary.BigEndian.Uint16(rest[3:]))
		if n < 5 || n > len(rest) || len(l.Records) == maxRecords {
			return nil, broken("a record is cut off, or there are too many")
		}
		r, err := readRecord(rest[:n], at)
		if err != nil {
			return nil, err
		}
		l.Records = append(l.Records, r)
		rest, at = rest[n:], at+n
	}
	return l, nil
}

func readRecord(b []byte, at int) (Record, error) {
	r := Record{Offset: at}
	var err error
	if r.Parts, err = signedfile.Elements(b, at); err != nil {
		return r, err
	}
	role := false
	for _, e := range r.Parts {
		switch e.Tag {
		case tagDNS:
			r.DNS = e.Text()
		case tagSubject:
			r.Subject = e.Text()
		case tagIssuer:
			r.Issuer = e.Text()
		case tagSerial:
			r.Serial = e.Value
		case tagRole:
			if len(e.Value) != 2 {
				return r, broken("a role has not two bytes")
			}
			r.Role, role = Role(binary.BigEndian.Uint16(e.Value)), true
		case tagCertificate:
			if r.Cert, err = x509.ParseCertificate(e.Value); err != nil {
				return r, broken("a certificate cannot be read")
			}
		}
	}
	if !role || r.Issuer == "" || len(r.Serial) == 0 {
		return r, broken("a record has no role, issuer or serial")
	}
	return r, r.agrees()
}

// agrees checks that a record says of its certificate what the certificate says.
func (r *Record) agrees() error {
	if r.Cert == nil {
		return nil
	}
	s, err := signedfile.SignerOf(r.Cert)
	if err != nil {
		return err
	}
	if s.Name != r.Subject || s.Issuer != r.Issuer || !bytes.Equal(s.Serial, r.Serial) {
		return broken("a record names another certificate than it holds: " + r.Subject)
	}
	return nil
}

// Signers returns the certificates that may sign a list for phones that hold this one.
func (l *List) Signers() (out []*x509.Certificate) {
	for _, r := range l.Records {
		if r.Role == SAST && r.Cert != nil {
			out = append(out, r.Cert)
		}
	}
	return out
}

// VerifyBy checks the signature with one of the signers, such as those of the list that a phone holds. It returns who signed.
func (l *List) VerifyBy(signers []*x509.Certificate) (*x509.Certificate, error) {
	for _, c := range signers {
		if l.Signer.Is(c) {
			return c, l.Verify(c)
		}
	}
	return nil, fault("trustlist.verify", ringfence.KindDenied, "the list is signed by "+l.Signer.Name+", who may not sign it", "a phone takes only lists signed by a SAST of the list that it holds", nil)
}

// Entry is a certificate for a new list.
type Entry struct {
	Role Role
	Cert *x509.Certificate
}

// Options say how a list is built.
type Options struct {
	Name   string // such as ITLFile.tlv or CTLFile.tlv
	Time   time.Time
	Digest crypto.Hash // SHA-512; or SHA-1, for phones that know nothing else
}

// Build makes and signs a list. The signer must be a SAST of the list. A list with one SAST strands its phones when that key is lost, so two are
// wanted; phones remember no more than two.
func Build(o Options, entries []Entry, cert *x509.Certificate, key crypto.Signer) ([]byte, error) {
	const op = "trustlist.build"
	sasts, mine := 0, false
	version := signedfile.Version{Major: 1}
	var body []byte
	for _, e := range entries {
		if e.Role == SAST {
			sasts++
			mine = mine || e.Cert.Equal(cert)
		}
		b, err := record(e)
		if err != nil {
			return nil, err
		}
		if _, ec := e.Cert.PublicKey.(*ecdsa.PublicKey); ec {
			version.Minor = 1
		}
		body = append(body, b...)
	}
	switch {
	case !mine:
		return nil, fault(op, ringfence.KindInvalid, "the signer is not a SAST of the list", "add its certificate with the role SAST", nil)
	case sasts != 2:
		return nil, fault(op, ringfence.KindInvalid, fmt.Sprintf("the list has %d SASTs, and two are needed", sasts), "with one, its loss strands every phone; phones remember no more than two", nil)
	case len(entries) > maxRecords:
		return nil, fault(op, ringfence.KindInvalid, "the list has more than 1000 records", "", nil)
	}
	return signedfile.Sign(signedfile.Options{Version: signedfile.Version{Major: 1, Minor: 2}, SignerVersion: version, Name: o.Name, Time: o.Time, Digest: o.Digest}, body, cert, key)
}

// record writes one record, in the order in which phones have always seen them.
func record(e Entry) ([]byte, error) {
	const op = "trustlist.build"
	s, err := signedfile.SignerOf(e.Cert)
	if err != nil {
		return nil, err
	}
	var key []byte
	switch k := e.Cert.PublicKey.(type) {
	case *rsa.PublicKey:
		key = x509.MarshalPKCS1PublicKey(k)
	case *ecdsa.PublicKey:
		if key, err = k.Bytes(); err != nil {
			return nil, fault(op, ringfence.KindUnsupported, "the key of "+s.Name+" is on a curve that phones do not know", "", err)
		}
	default:
		return nil, fault(op, ringfence.KindUnsupported, "the key of "+s.Name+" is neither RSA nor ECDSA", "phones know no others", nil)
	}
	b := signedfile.Append(nil, tagLength, []byte{0, 0})
	b = signedfile.AppendText(b, tagSubject, s.Name)
	b = signedfile.AppendText(b, tagIssuer, s.Issuer)
	b = signedfile.Append(b, tagSerial, s.Serial)
	b = signedfile.Append(b, tagRole, binary.BigEndian.AppendUint16(nil, uint16(e.Role)))
	b = signedfile.Append(b, tagKey, key)
	b = signedfile.Append(b, tagSignature, e.Cert.Signature)
	b = signedfile.Append(b, tagCertificate, e.Cert.Raw)
	if len(b) > 0xffff {
		return nil, fault(op, ringfence.KindInvalid, "the certificate of "+s.Name+" is too long for a list", "", nil)
	}
	binary.BigEndian.PutUint16(b[3:], uint16(len(b)))
	return b, nil
}

// Step is what phones that hold one list would make of another.
type Step struct {
	Taken   bool     `json:"taken"` // they would take it
	Why     string   `json:"why"`
	Added   []Record `json:"added"`
	Removed []Record `json:"removed"`
	// Stranded tells that phones would take the list and then nothing would be left that could sign the next one for those who miss it: no SAST of
	// the old list is in the new one.
	Stranded bool `json:"stranded"`
}

// Plan says what phones that hold the list old would make of next.
func Plan(old, next *List) Step {
	s := Step{Added: []Record{}, Removed: []Record{}}
	who, err := next.VerifyBy(old.Signers())
	if s.Taken = err == nil; s.Taken {
		s.Why = "it is signed by " + who.Subject.String() + ", a SAST of the list that they hold"
	} else if f, ok := err.(*ringfence.Fault); ok {
		s.Why = f.Text
	}
	has := func(l *List, r Record) bool {
		for _, o := range l.Records {
			if o.Role == r.Role && o.Issuer == r.Issuer && bytes.Equal(o.Serial, r.Serial) {
				return true
			}
		}
		return false
	}
	kept := false
	for _, r := range old.Records {
		if has(next, r) {
			kept = kept || r.Role == SAST
		} else {
			s.Removed = append(s.Removed, r)
		}
	}
	for _, r := range next.Records {
		if !has(old, r) {
			s.Added = append(s.Added, r)
		}
	}
	s.Stranded = s.Taken && !kept
	return s
}

func broken(text string) error {
	return fault("trustlist.read", ringfence.KindInvalid, "the trust list is damaged, or none: "+text, "", nil)
}

func fault(op string, k ringfence.Kind, text, hint string, cause error) error {
	return &ringfence.Fault{Op: op, Kind: k, Text: text, Hint: hint, Err: cause}
}
