package trustlist

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
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

// UnmarshalText reads the name.
func (r *Role) UnmarshalText(b []byte) (err error) {
	*r, err = ParseRole(string(b))
	return err
}

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
	web     *webSignature // of the JSON form; nil: the file has the signature
}

// Parse reads a list in the form of enterprise phones, or in the JSON form (see ParseJSON).
func Parse(b []byte) (*List, error) {
	if len(b) > 0 && b[0] == 'e' { // a version begins with tag 1, a JWS with the base64 of {"
		return ParseJSON(b)
	}
	if len(b) > MaxSize {
		return nil, broken("it is larger than 1 MiB")
	}
	f, err := signedfile.Parse(b)
	if err != nil {
		return nil, err
	}
	if f.Version != version() {
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

// Holders returns the certificates that the list believes in a role.
func (l *List) Holders(role Role) (out []*x509.Certificate) {
	for _, r := range l.Records {
		if r.Role == role && r.Cert != nil {
			out = append(out, r.Cert)
		}
	}
	return out
}

// Signers returns the certificates that may sign a list for phones that hold this one.
func (l *List) Signers() []*x509.Certificate { return l.Holders(SAST) }

// Verify checks that the list is as whoever holds the key of the certificate signed it, and that it names that certificate.
func (l *List) Verify(cert *x509.Certificate) error {
	if l.web != nil {
		return l.web.verify(l.Signer, cert)
	}
	return l.File.Verify(cert)
}

// VerifyBy checks the signature with one of the signers, such as those of the list that a phone holds. It returns who signed.
func (l *List) VerifyBy(signers []*x509.Certificate) (*x509.Certificate, error) {
	var failed error
	for _, c := range signers { // two may have the same names, and other keys
		if !l.Signer.Is(c) {
			continue
		}
		err := l.Verify(c)
		if err == nil {
			return c, nil
		}
		failed = err
	}
	if failed != nil {
		return nil, failed
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
// wanted, with a key each that phones check signatures of; phones remember no more than two.
func Build(o Options, entries []Entry, cert *x509.Certificate, key crypto.Signer) ([]byte, error) {
	if err := check(entries, cert); err != nil {
		return nil, err
	}
	var body []byte
	for _, e := range entries {
		b, err := record(e)
		if err != nil {
			return nil, err
		}
		body = append(body, b...)
	}
	if len(body) > MaxSize-0xffff { // leave room for the header: what is built can be read
		return nil, fault("trustlist.build", ringfence.KindInvalid, "the list is larger than 1 MiB", "leave certificates out", nil)
	}
	return signedfile.Sign(signedfile.Options{Version: version(), SignerVersion: signerVersion(entries), Name: o.Name, Time: o.Time, Digest: o.Digest}, body, cert, key)
}

// version is that of trust lists.
func version() signedfile.Version { return signedfile.Version{Major: 1, Minor: 2} }

// signerVersion tells phones whether there are EC certificates in a list.
func signerVersion(entries []Entry) signedfile.Version {
	v := signedfile.Version{Major: 1}
	for _, e := range entries {
		if _, ec := e.Cert.PublicKey.(*ecdsa.PublicKey); ec {
			v.Minor = 1
		}
	}
	return v
}

// check says whether a list of these entries, signed with the certificate, would serve its phones.
func check(entries []Entry, cert *x509.Certificate) error {
	const op = "trustlist.build"
	var sasts []*x509.Certificate
	for i, e := range entries {
		if slices.ContainsFunc(entries[:i], func(o Entry) bool { return o.Role == e.Role && o.Cert.Equal(e.Cert) }) {
			return fault(op, ringfence.KindInvalid, "the list has "+e.Cert.Subject.String()+" as "+e.Role.String()+" twice", "name each certificate once a role", nil)
		}
		if e.Role == SAST {
			sasts = append(sasts, e.Cert)
		}
	}
	switch {
	case !slices.ContainsFunc(sasts, cert.Equal):
		return fault(op, ringfence.KindInvalid, "the signer is not a SAST of the list", "add its certificate with the role SAST", nil)
	case len(sasts) != 2:
		return fault(op, ringfence.KindInvalid, fmt.Sprintf("the list has %d SASTs, and two are needed", len(sasts)), "with one, its loss strands every phone; phones remember no more than two", nil)
	case bytes.Equal(sasts[0].RawSubjectPublicKeyInfo, sasts[1].RawSubjectPublicKeyInfo):
		return fault(op, ringfence.KindInvalid, "both SASTs have the same key", "the loss of that key would strand every phone; make the second certificate for a key of its own", nil)
	case len(entries) > maxRecords:
		return fault(op, ringfence.KindInvalid, "the list has more than 1000 records", "", nil)
	}
	for _, c := range sasts {
		if why := cannotSign(c); why != "" {
			return fault(op, ringfence.KindUnsupported, "the SAST "+c.Subject.String()+" "+why+", and could never sign a list", "make it an RSA key of 2048 bits: the format has codes for keys of 1024, 2048 and 4096 bits, 1024 are too weak, and most phones take 2048 at most", nil)
		}
	}
	return nil
}

// cannotSign says why the holder of a certificate can sign no list; "" means that it can.
func cannotSign(c *x509.Certificate) string {
	k, ok := c.PublicKey.(*rsa.PublicKey)
	if !ok {
		return "has a key that is not RSA (" + c.PublicKeyAlgorithm.String() + ")"
	}
	if n := k.Size() * 8; n != 2048 && n != 4096 {
		return fmt.Sprintf("has an RSA key of %d bits", k.N.BitLen())
	}
	return ""
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
	// Kept are the SASTs of the old list that are in the new one as well and can sign: only they can sign a later list for phones that miss this step.
	Kept []Record `json:"kept"`
	// Stranded tells that phones are lost: they cannot verify the new list, so they keep the old one and no longer believe what changes; or they can, but
	// it keeps no SAST, so that phones that miss it cannot verify any list after it.
	Stranded bool `json:"stranded"`
}

// Plan says what phones that hold the list old would make of next: they take it only if a SAST of the list that they hold signed it. A list of our own
// Build names its signer as SAST, so for phones that take it, one SAST is always kept.
func Plan(old, next *List) Step {
	s := Step{Added: []Record{}, Removed: []Record{}, Kept: []Record{}}
	who, err := next.VerifyBy(old.Signers())
	if s.Taken = err == nil; s.Taken {
		s.Why = "it is signed by " + who.Subject.String() + ", a SAST of the list that they hold"
	} else if f, ok := errors.AsType[*ringfence.Fault](err); ok {
		s.Why = f.Text
	}
	for _, r := range old.Records {
		switch {
		case !slices.ContainsFunc(next.Records, r.same):
			s.Removed = append(s.Removed, r)
		case r.Role == SAST && r.Cert != nil && cannotSign(r.Cert) == "":
			s.Kept = append(s.Kept, r)
		}
	}
	for _, r := range next.Records {
		if !slices.ContainsFunc(old.Records, r.same) {
			s.Added = append(s.Added, r)
		}
	}
	s.Stranded = !s.Taken || len(s.Kept) == 0
	if s.Taken && s.Stranded {
		s.Why += "; but it keeps none of their SASTs that could sign a list after it"
	}
	return s
}

// same reports whether two records say the same: the very certificate in the same role, or, where a list has no certificate, the same names and key.
func (r Record) same(o Record) bool {
	if r.Role != o.Role || (r.Cert == nil) != (o.Cert == nil) {
		return false
	}
	if r.Cert != nil {
		return r.Cert.Equal(o.Cert)
	}
	return r.Subject == o.Subject && r.Issuer == o.Issuer && bytes.Equal(r.Serial, o.Serial) && bytes.Equal(r.part(tagKey), o.part(tagKey)) && bytes.Equal(r.part(tagHash), o.part(tagHash))
}

func (r Record) part(tag byte) []byte {
	for _, e := range r.Parts {
		if e.Tag == tag {
			return e.Value
		}
	}
	return nil
}

func broken(text string) error {
	return fault("trustlist.read", ringfence.KindInvalid, "the trust list is damaged, or none: "+text, "", nil)
}

func fault(op string, k ringfence.Kind, text, hint string, cause error) error {
	return &ringfence.Fault{Op: op, Kind: k, Text: text, Hint: hint, Err: cause}
}
