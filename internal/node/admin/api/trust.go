package api

import "time"

// TrustStatus is the state of trust on one page.
type TrustStatus struct {
	Authorities  []Authority         `json:"authorities"`
	Certificates []CertificateCounts `json:"certificates" doc:"by role"`
	Next         []Expiry            `json:"next" doc:"the identities whose last certificate ends first, at most ten"`
	Refused      []RefusedConnection `json:"refused" doc:"the last SIP connections that were not let in, the latest first"`
}

// Authority is one of the authority's own certificates.
type Authority struct {
	Kind      string    `json:"kind" enum:"root,issuing,former root"`
	Subject   string    `json:"subject"`
	Serial    string    `json:"serial"`
	NotBefore time.Time `json:"not_before"`
	NotAfter  time.Time `json:"not_after"`
	Renewal   time.Time `json:"renewal,omitzero" doc:"when its successor is signed"`
	Signs     bool      `json:"signs" doc:"whether it signs the certificates of others now"`
	ByHand    bool      `json:"by_hand,omitempty" doc:"its successor must be requested and imported, since the key of the root is elsewhere"`
	KeyAway   bool      `json:"key_away,omitempty" doc:"whether its key is kept elsewhere"`
	PEM       string    `json:"pem" doc:"the certificate"`
}

// AuthorityRequest asks another authority to certify the next issuing authority.
type AuthorityRequest struct {
	CSR string `json:"csr" doc:"certificate request (PKCS #10) as PEM"`
}

// ImportAuthority brings what answers a request.
type ImportAuthority struct {
	File    []byte `json:"file" maxLength:"393216" doc:"the certificate and the authorities above it up to a root, PEM or DER, in base64; in any order"`
	NewRoot bool   `json:"new_root,omitempty" doc:"go on although it ends in another root, which enrolled phones do not know"`
}

// ImportedAuthority is what came of it.
type ImportedAuthority struct {
	Notes       []string    `json:"notes" doc:"what was repaired"`
	NewRoot     bool        `json:"new_root"`
	Authorities []Authority `json:"authorities"`
}

// RootPassphrase is what the key of the root is encrypted by.
type RootPassphrase struct {
	Passphrase string `json:"passphrase" minLength:"12" maxLength:"1024"`
}

// RootKey is the key of the root, encrypted.
type RootKey struct {
	PEM string `json:"pem" doc:"PKCS #8, encrypted"`
}

// ForgetRoot takes the key of the root out.
type ForgetRoot struct {
	SHA256 string `json:"sha256" maxLength:"64" doc:"fingerprint of the root's certificate, so that it is the right one"`
}

// CertificateCounts is how many certificates a role has.
type CertificateCounts struct {
	Role    string `json:"role"`
	Live    int    `json:"live"`
	Expired int    `json:"expired"`
	Revoked int    `json:"revoked"`
}

// Expiry is until when an identity has a good certificate.
type Expiry struct {
	Role  string    `json:"role"`
	Name  string    `json:"name"`
	Until time.Time `json:"until"`
	Renew string    `json:"renew" doc:"how it gets the next one"`
}

// RefusedConnection is a connection that was not let in, and why.
type RefusedConnection struct {
	At     time.Time `json:"at"`
	Flow   string    `json:"flow"`
	Remote string    `json:"remote"`
	Cause  string    `json:"cause"`
	Hint   string    `json:"hint,omitempty"`
}

// CertificateRecord is a certificate that this authority signed.
type CertificateRecord struct {
	Certificate
	Role  string `json:"role"`
	Name  string `json:"name"`
	State string `json:"state" enum:"live,expired,revoked"`
	PEM   string `json:"pem,omitempty" doc:"with the authority that signed it; only where one certificate is shown"`
}

// NewCertificate asks for a certificate. Everything but the key in the request is ignored.
type NewCertificate struct {
	Role  string   `json:"role" enum:"device,proxy,trunk,cti,admin,machine" doc:"what its holder is; it decides what the certificate may say"`
	Name  string   `json:"name" minLength:"1" maxLength:"64" example:"carrier-1"`
	CSR   string   `json:"csr" maxLength:"24576" doc:"certificate request (PKCS #10) as PEM; only its key is taken"`
	Hosts []string `json:"hosts,omitempty" maxItems:"20" doc:"host names and addresses; proxies, trunks and machines only"`
	URIs  []string `json:"uris,omitempty" maxItems:"20" doc:"sip: and sips: URIs (RFC 5922); devices, proxies and trunks only"`
	Days  int      `json:"days,omitempty" minimum:"1" maximum:"180" doc:"how long it lives; the role's usual time if it is not given"`
}

// IssuedOrNot is what became of one request of many.
type IssuedOrNot struct {
	Issued *Issued  `json:"issued,omitempty"`
	Error  *Problem `json:"error,omitempty"`
}

// Rehearsal says who would stand without a good certificate at a time, if nothing were done until then.
type Rehearsal struct {
	At       time.Time `json:"at"`
	OK       bool      `json:"ok" doc:"whether nobody would be lost"`
	Lost     []Loss    `json:"lost"`
	Renewing []Expiry  `json:"renewing" doc:"whose certificate ends before, and who gets the next one without anybody's help"`
}

// Loss is somebody who would be lost.
type Loss struct {
	Role  string    `json:"role"`
	Name  string    `json:"name"`
	Until time.Time `json:"until"`
	Why   string    `json:"why"`
	Do    string    `json:"do"`
}
