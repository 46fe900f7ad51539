package trustlist

import (
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"math"
	"strings"
	"time"
	"unicode"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/cryptosigner"
	"github.com/go-jose/go-jose/v4/json" // distinguishes upper and lower case, and refuses a member that is there twice

	"ringfence"
	"ringfence/internal/trust/signedfile"
)

// The JSON form: a JWS in compact serialisation (RFC 7515) whose payload is the list. There is one algorithm, so that nobody can choose another.
const (
	typeJSON   = "trustlist+jws"
	algorithm  = jose.RS512
	thumbprint = jose.HeaderKey("x5t#S256") // of the signer's certificate (RFC 7515 section 4.1.8)
	// MaxJSON bounds the JSON form, in bytes: base64 of base64 is longer by half and more.
	MaxJSON   = 2 << 20
	maxHeader = 512
)

type listJSON struct {
	Version string       `json:"version"`
	Name    string       `json:"name"`
	Time    string       `json:"time"` // RFC 3339, UTC, to the second
	Signer  nameJSON     `json:"signer"`
	Records []recordJSON `json:"records"`
}

type nameJSON struct {
	Subject string `json:"subject"`
	Issuer  string `json:"issuer"`
	Serial  string `json:"serial"` // big-endian, in hexadecimal
}

type recordJSON struct {
	Role string `json:"role"`
	nameJSON
	Certificate []byte `json:"certificate"` // DER
}

// BuildJSON makes and signs a list in the JSON form, for phones of any vendor. It has the same records, version and signer as one of Build, and the same
// rules; it is signed with SHA-512 always.
func BuildJSON(o Options, entries []Entry, cert *x509.Certificate, key crypto.Signer) ([]byte, error) {
	const op = "trustlist.build"
	if err := check(entries, cert); err != nil {
		return nil, err
	}
	switch {
	case o.Digest != 0 && o.Digest != crypto.SHA512:
		return nil, fault(op, ringfence.KindUnsupported, "a list in the JSON form is signed with SHA-512", "SHA-1 is for old phones, which read the other form", nil)
	case !printable(o.Name) || len(o.Name) > 255:
		return nil, fault(op, ringfence.KindInvalid, "a list needs a printable name of 1 to 255 bytes", "", nil)
	case o.Time.Unix() < 0 || o.Time.Unix() > math.MaxUint32:
		return nil, fault(op, ringfence.KindInvalid, "the time of a list is not before 1970, and not after 2106", "", nil)
	}
	if mine, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool }); !ok || !mine.Equal(cert.PublicKey) {
		return nil, fault(op, ringfence.KindInvalid, "the key is not that of the certificate of "+cert.Subject.CommonName, "give the key that the certificate was made for", nil)
	}
	signer, err := nameOf(cert)
	if err != nil {
		return nil, err
	}
	doc := listJSON{Version: version().String(), Name: o.Name, Time: o.Time.UTC().Format(time.RFC3339), Signer: signer}
	for _, e := range entries {
		if _, err := ParseRole(e.Role.String()); err != nil {
			return nil, err
		}
		n, err := nameOf(e.Cert)
		if err != nil {
			return nil, err
		}
		doc.Records = append(doc.Records, recordJSON{Role: e.Role.String(), nameJSON: n, Certificate: e.Cert.Raw})
	}
	payload, err := json.Marshal(doc)
	if err != nil {
		return nil, fault(op, ringfence.KindInternal, "the list could not be written", "", err)
	}
	sum := sha256.Sum256(cert.Raw)
	s, err := jose.NewSigner(jose.SigningKey{Algorithm: algorithm, Key: cryptosigner.Opaque(key)},
		(&jose.SignerOptions{}).WithType(typeJSON).WithHeader(thumbprint, base64.RawURLEncoding.EncodeToString(sum[:])))
	if err != nil {
		return nil, fault(op, ringfence.KindInternal, "the list could not be signed", "", err)
	}
	signed, err := s.Sign(payload)
	if err != nil {
		return nil, fault(op, ringfence.KindInternal, "the list could not be signed", "", err)
	}
	text, err := signed.CompactSerialize()
	if err != nil {
		return nil, fault(op, ringfence.KindInternal, "the list could not be written", "", err)
	}
	if len(text) > MaxJSON {
		return nil, fault(op, ringfence.KindInvalid, "the list is larger than 2 MiB", "leave certificates out", nil)
	}
	return []byte(text), nil
}

func nameOf(c *x509.Certificate) (nameJSON, error) {
	s, err := signedfile.SignerOf(c)
	if err != nil {
		return nameJSON{}, err
	}
	if !printable(s.Name) || !printable(s.Issuer) || len(s.Serial) == 0 {
		return nameJSON{}, fault("trustlist.build", ringfence.KindUnsupported, "a certificate has an empty or unprintable subject, issuer or serial number", "", nil)
	}
	return nameJSON{Subject: s.Name, Issuer: s.Issuer, Serial: hex.EncodeToString(s.Serial)}, nil
}

func printable(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
}

// webSignature is the signature of a list in the JSON form.
type webSignature struct {
	jws        *jose.JSONWebSignature
	thumbprint [sha256.Size]byte
}

// verify is signedfile's Verify for the JSON form.
func (w *webSignature) verify(signer signedfile.Signer, cert *x509.Certificate) error {
	const op = "trustlist.verify"
	if !signer.Is(cert) {
		return fault(op, ringfence.KindDenied, "the list is signed by "+signer.Name+", and not by "+cert.Subject.String(), "", nil)
	}
	if why := cannotSign(cert); why != "" {
		return fault(op, ringfence.KindUnsupported, "the signer "+why, "", nil)
	}
	if sha256.Sum256(cert.Raw) != w.thumbprint {
		return fault(op, ringfence.KindDenied, "the list is signed with another certificate of "+signer.Name, "it has the same names and serial number, but is not the one that the phone knows", nil)
	}
	if _, err := w.jws.Verify(cert.PublicKey.(*rsa.PublicKey)); err != nil {
		return fault(op, ringfence.KindDenied, "the signature of "+signer.Name+" does not hold: the list was changed, or is signed with another key", "", nil)
	}
	return nil
}

// ParseJSON reads a list in the JSON form. As with Parse, nothing in it is to be believed before it is verified.
func ParseJSON(b []byte) (*List, error) {
	if len(b) > MaxJSON {
		return nil, broken("it is larger than 2 MiB")
	}
	text := strings.TrimSuffix(string(b), "\n")
	parts := strings.SplitN(text, ".", 4)
	// Decoders of base64 pass over line feeds, which then anybody could put in.
	if len(parts) != 3 || parts[2] == "" || len(parts[0]) > maxHeader || strings.ContainsAny(text, "\r\n") {
		return nil, broken("it is no JWS in compact serialisation")
	}
	web, err := readHeader(parts[0])
	if err != nil {
		return nil, err
	}
	if web.jws, err = jose.ParseSignedCompact(text, []jose.SignatureAlgorithm{algorithm}); err != nil || len(web.jws.Signatures) != 1 {
		return nil, broken("the JWS cannot be read")
	}
	var doc listJSON
	if err := json.Unmarshal(web.jws.UnsafePayloadWithoutVerification(), &doc); err != nil {
		return nil, broken("its payload is not the JSON of a list")
	}
	sig := web.jws.Signatures[0].Signature
	l := &List{web: web, File: &signedfile.File{Version: version(), Digest: crypto.SHA512, Bits: len(sig) * 8, Signature: sig, Name: doc.Name}}
	at, err := time.Parse("2006-01-02T15:04:05Z", doc.Time)
	switch {
	case doc.Version != version().String():
		return nil, broken("it has another version than 1.2")
	case !printable(doc.Name) || len(doc.Name) > 255:
		return nil, broken("its name is missing, too long or not printable")
	case err != nil || at.Unix() < 0 || at.Unix() > math.MaxUint32:
		return nil, broken("its time is not one in UTC, to the second, between 1970 and 2106")
	case len(doc.Records) > maxRecords:
		return nil, broken("there are too many records")
	}
	l.Time = at
	if l.Signer, err = doc.Signer.read(); err != nil {
		return nil, err
	}
	entries := make([]Entry, 0, len(doc.Records))
	for _, r := range doc.Records {
		read, err := r.read()
		if err != nil {
			return nil, err
		}
		l.Records = append(l.Records, read)
		entries = append(entries, Entry{Role: read.Role, Cert: read.Cert})
	}
	l.SignerVersion = signerVersion(entries)
	return l, nil
}

// readHeader reads the protected header. It has three members and no other: a key, an address or an extension that is named there would be the word of
// whoever wrote it.
func readHeader(head string) (*webSignature, error) {
	b, err := base64.RawURLEncoding.Strict().DecodeString(head)
	if err != nil {
		return nil, broken("the header of the JWS cannot be read")
	}
	var members map[string]any
	if err := json.Unmarshal(b, &members); err != nil || len(members) != 3 || members["alg"] != string(algorithm) || members["typ"] != typeJSON {
		return nil, broken("the header of the JWS is not that of a trust list")
	}
	sum, _ := members[string(thumbprint)].(string)
	if b, err = base64.RawURLEncoding.Strict().DecodeString(sum); err != nil || len(b) != sha256.Size {
		return nil, broken("the header of the JWS does not say who signed")
	}
	return &webSignature{thumbprint: [sha256.Size]byte(b)}, nil
}

func (n nameJSON) read() (signedfile.Signer, error) {
	serial, err := hex.DecodeString(n.Serial)
	if err != nil || len(serial) == 0 || hex.EncodeToString(serial) != n.Serial || !printable(n.Subject) || !printable(n.Issuer) {
		return signedfile.Signer{}, broken("a subject, issuer or serial number is missing or not printable")
	}
	return signedfile.Signer{Name: n.Subject, Issuer: n.Issuer, Serial: serial}, nil
}

func (r recordJSON) read() (Record, error) {
	role, err := ParseRole(r.Role)
	if err != nil {
		return Record{}, broken("a record has an unknown role")
	}
	n, err := r.nameJSON.read()
	if err != nil {
		return Record{}, err
	}
	cert, err := x509.ParseCertificate(r.Certificate)
	if err != nil {
		return Record{}, broken("a certificate cannot be read")
	}
	out := Record{Role: role, Subject: n.Name, Issuer: n.Issuer, Serial: n.Serial, Cert: cert}
	return out, out.agrees()
}
