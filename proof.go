package ringfence

import "time"

// Verdict is the outcome of verifying a connection or a leg.
type Verdict string

// The verdicts.
const (
	Sealed    Verdict = "sealed"    // signalling over verified TLS, and media (if any) over SRTP
	Exception Verdict = "exception" // plain, by a named exception that expires
	Refused   Verdict = "refused"   // it could not be sealed, so it was not served
)

// TLSProof is what was verified about a TLS connection.
type TLSProof struct {
	Version     string   `json:"version"`              // "TLS 1.3"
	Suite       string   `json:"suite"`                // IANA name
	Group       string   `json:"group"`                // key-exchange group, e.g. "X25519MLKEM768"
	PeerSubject string   `json:"peer_subject"`         // distinguished name, RFC 4514; empty if the peer showed no certificate
	PeerNames   []string `json:"peer_names,omitempty"` // subject alternative names
	PeerIssuer  string   `json:"peer_issuer,omitempty"`
	Anchor      string   `json:"anchor,omitempty"` // subject of the trust anchor the chain ends in
	Resumed     bool     `json:"resumed"`
}

// MediaProof is what was seen on the media of a leg. Counts are packets since the media session began.
type MediaProof struct {
	Suite      string  `json:"suite"` // SRTP suite, IANA SDES name, e.g. "AEAD_AES_256_GCM"
	DSCP       uint8   `json:"dscp"`
	PacketsIn  uint64  `json:"packets_in"`
	PacketsOut uint64  `json:"packets_out"`
	Lost       uint64  `json:"lost"`      // by gaps in the sequence numbers received
	Rejected   uint64  `json:"rejected"`  // did not authenticate, or were replayed
	Overrun    uint64  `json:"overrun"`   // thrown away unread by this host's kernel, because its queue was full
	JitterMS   float64 `json:"jitter_ms"` // RFC 3550 section 6.4.1
	MOS        float64 `json:"mos"`       // ITU-T G.107 estimate, 1.0 to 4.5
}

// Auth says how the peer proved who it is, strongest first.
type Auth string

// The ways to prove an identity.
const (
	AuthCertificate  Auth = "certificate"    // mutual TLS
	AuthDigestSHA256 Auth = "digest-sha-256" // RFC 8760 over TLS
	AuthDigestMD5    Auth = "digest-md5"     // weaker: RFC 3261 digest over TLS, where the device's profile allows it
	AuthToken        Auth = "token"          // an access token over TLS (RFC 8898), where the device's profile allows it
	AuthNone         Auth = "none"
)

// Proof is the evidence about one connection or one leg: what was verified, when, and with which verdict.
type Proof struct {
	ID      string      `json:"id"`   // leg or connection id
	Peer    string      `json:"peer"` // who, e.g. "device alice-desk"
	Verdict Verdict     `json:"verdict"`
	Reason  string      `json:"reason,omitempty"` // why, whenever the verdict is not sealed
	Auth    Auth        `json:"auth,omitempty"`
	Via     string      `json:"via,omitempty"` // the edge proxy between, whose connection TLS then describes; empty: none
	TLS     *TLSProof   `json:"tls,omitempty"`
	Media   *MediaProof `json:"media,omitempty"`
	At      time.Time   `json:"at"`
}
