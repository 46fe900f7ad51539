package est

import (
	"bytes"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"slices"

	"ringfence"
	"ringfence/internal/trust/ca"
)

const opRead = "est.read"

// readRequest reads a certificate request in base64 and its challengePassword, which is "" if there is none. The request is signed by
// its own key, and that key is one that the authority certifies.
func readRequest(text []byte) (*x509.CertificateRequest, string, error) {
	invalid := func(text, hint string) (*x509.CertificateRequest, string, error) {
		return nil, "", fault(opRead, ringfence.KindInvalid, text, hint, nil)
	}
	if len(text) > maxBody {
		return invalid("the request is too long", "")
	}
	text = bytes.Map(func(r rune) rune { // white space means nothing (RFC 8951 section 3.1)
		if r == ' ' || r == '\t' || r == '\r' || r == '\n' {
			return -1
		}
		return r
	}, text)
	der, err := base64.StdEncoding.Strict().DecodeString(string(text))
	if err != nil || len(der) == 0 || len(der) > maxRequest {
		return invalid("the certificate request is not base64, or too long", "send PKCS #10 in DER, in base64, without the lines that begin with -----")
	}
	if _, err := ca.CSRKey(der); err != nil {
		return nil, "", err
	}
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return invalid("the certificate request cannot be read", "it must be PKCS #10 in DER")
	}
	password, err := challengePassword(csr)
	if err != nil {
		return nil, "", err
	}
	return csr, password, nil
}

// attribute is one of a certificate request (RFC 2986 section 4.1).
type attribute struct {
	Type   asn1.ObjectIdentifier
	Values []asn1.RawValue `asn1:"set"`
}

func oidChallengePassword() asn1.ObjectIdentifier {
	return asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 7} // RFC 2985 section 5.4.1
}

// challengePassword returns the attribute of that name, which x509 does not read.
func challengePassword(csr *x509.CertificateRequest) (string, error) {
	unreadable := fault(opRead, ringfence.KindInvalid, "the attributes of the certificate request cannot be read", "", nil)
	var info struct {
		Raw        asn1.RawContent
		Version    int
		Subject    asn1.RawValue
		PublicKey  asn1.RawValue
		Attributes []asn1.RawValue `asn1:"tag:0,set"`
	}
	if rest, err := asn1.Unmarshal(csr.RawTBSCertificateRequest, &info); err != nil || len(rest) > 0 {
		return "", unreadable
	}
	password, seen := "", 0
	for _, raw := range info.Attributes {
		var a attribute
		if rest, err := asn1.Unmarshal(raw.FullBytes, &a); err != nil || len(rest) > 0 {
			return "", unreadable
		}
		switch {
		case a.Type.Equal(asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 7, 36}): // id-cmc-changeSubjectName, RFC 6402 section 2.8
			return "", fault(opRead, ringfence.KindUnsupported, "a change of the subject name is not offered", "enrol the device anew", nil)
		case !a.Type.Equal(oidChallengePassword()):
			continue
		}
		if seen++; seen > 1 || len(a.Values) != 1 {
			return "", unreadable
		}
		v := a.Values[0]
		switch v.Tag {
		case asn1.TagUTF8String, asn1.TagPrintableString, asn1.TagIA5String, asn1.TagT61String:
		default:
			return "", unreadable
		}
		if v.Class != asn1.ClassUniversal || v.IsCompound || len(v.Bytes) == 0 || len(v.Bytes) > 255 {
			return "", unreadable
		}
		password = string(v.Bytes)
	}
	return password, nil
}

// exporterLabel is that of RFC 9266 section 2.
const exporterLabel = "EXPORTER-Channel-Binding"

// linked checks what ties a request to its connection (RFC 7030 section 3.5): whoever carries somebody else's request over a connection
// of their own has another value there.
func (s *Server) linked(op string, cs *tls.ConnectionState, password string) error {
	if password == "" {
		if s.c.Linked {
			return fault(op, ringfence.KindInsecure, "the request is not tied to its connection", "put tls-unique, or tls-exporter in TLS 1.3, into the challengePassword (RFC 7030 section 3.5)", nil)
		}
		return nil
	}
	want := cs.TLSUnique
	if cs.Version >= tls.VersionTLS13 {
		v, err := cs.ExportKeyingMaterial(exporterLabel, nil, 32)
		if err != nil {
			return fault(op, ringfence.KindInternal, "the connection exports no key", "", err)
		}
		want = v
	}
	if len(want) == 0 {
		return fault(op, ringfence.KindInsecure, "this connection has no value that a request could be tied to", "use TLS 1.3, or a connection that is not resumed", nil)
	}
	if subtle.ConstantTimeCompare([]byte(password), []byte(base64.StdEncoding.EncodeToString(want))) != 1 {
		return fault(op, ringfence.KindDenied, "the request was made for another connection", "the challengePassword must be tls-unique, or tls-exporter in TLS 1.3, in base64 (RFC 7030 section 3.5); leave it out if the device cannot know it", nil)
	}
	return nil
}

// sameHolder checks that a request is for the subject and the names of a certificate (RFC 7030 section 4.2.2).
func sameHolder(csr *x509.CertificateRequest, old *x509.Certificate) error {
	const op, hint = "est.renew", "a renewal keeps the subject and the subjectAltName; for others, enrol anew"
	if !sameName(csr.RawSubject, old.RawSubject) {
		return fault(op, ringfence.KindDenied, "the request is for another subject than the certificate", hint, nil)
	}
	a, okA := altNames(csr.Extensions)
	b, okB := altNames(old.Extensions)
	if !okA || !okB || !slices.EqualFunc(a, b, bytes.Equal) {
		return fault(op, ringfence.KindDenied, "the request has other names (subjectAltName) than the certificate", hint, nil)
	}
	return nil
}

// sameName compares names by their values: devices spell the same text in different string types.
func sameName(a, b []byte) bool {
	var x, y pkix.RDNSequence
	restX, errX := asn1.Unmarshal(a, &x)
	restY, errY := asn1.Unmarshal(b, &y)
	if errX != nil || errY != nil || len(restX)+len(restY) > 0 {
		return false
	}
	return slices.EqualFunc(x, y, func(p, q pkix.RelativeDistinguishedNameSET) bool {
		return slices.EqualFunc(p, q, func(v, w pkix.AttributeTypeAndValue) bool {
			s, okS := v.Value.(string)
			t, okT := w.Value.(string)
			return v.Type.Equal(w.Type) && okS && okT && s == t
		})
	})
}

// altNames returns the names of a subjectAltName extension, each in DER, sorted; none if there is no such extension.
func altNames(list []pkix.Extension) (names [][]byte, ok bool) {
	for _, e := range list {
		if !e.Id.Equal(asn1.ObjectIdentifier{2, 5, 29, 17}) {
			continue
		}
		var raw []asn1.RawValue
		if rest, err := asn1.Unmarshal(e.Value, &raw); err != nil || len(rest) > 0 || names != nil {
			return nil, false
		}
		for _, n := range raw {
			names = append(names, n.FullBytes)
		}
	}
	slices.SortFunc(names, bytes.Compare)
	return names, true
}

// isFor checks that the authority signed the key that it was asked for.
func isFor(op string, der []byte, csr *x509.CertificateRequest) error {
	c, err := x509.ParseCertificate(der)
	if err != nil || !bytes.Equal(c.RawSubjectPublicKeyInfo, csr.RawSubjectPublicKeyInfo) {
		return fault(op, ringfence.KindInternal, "the authority signed another key than it was asked for", "", err)
	}
	return nil
}

// wantedAttributes is a CsrAttrs (RFC 7030 section 4.5.2).
func wantedAttributes() ([]byte, error) {
	curve, err := asn1.Marshal(asn1.ObjectIdentifier{1, 2, 840, 10045, 3, 1, 7}) // secp256r1
	if err != nil {
		return nil, fault("est.attributes", ringfence.KindInternal, "the attributes cannot be written", "", err)
	}
	out, err := asn1.Marshal(struct {
		Link asn1.ObjectIdentifier
		Key  attribute
		Sign asn1.ObjectIdentifier
	}{oidChallengePassword(), attribute{asn1.ObjectIdentifier{1, 2, 840, 10045, 2, 1}, []asn1.RawValue{{FullBytes: curve}}}, asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}})
	if err != nil {
		return nil, fault("est.attributes", ringfence.KindInternal, "the attributes cannot be written", "", err)
	}
	return out, nil
}
