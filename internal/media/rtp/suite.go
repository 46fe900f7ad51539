package rtp

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"strings"

	"github.com/pion/srtp/v3"

	"ringfence"
)

// Suite is an SRTP crypto suite by its IANA SDES name (RFC 4568 section 6.2, RFC 7714 section 14.2).
type Suite string

// The suites this node offers.
const (
	AEAD_AES_256_GCM        Suite = "AEAD_AES_256_GCM"        // RFC 7714
	AEAD_AES_128_GCM        Suite = "AEAD_AES_128_GCM"        // RFC 7714
	AES_CM_128_HMAC_SHA1_80 Suite = "AES_CM_128_HMAC_SHA1_80" // RFC 4568 section 6.2.1
)

// Suites returns every suite, the preferred one first: GCM is the stronger and about three times the cheaper.
func Suites() []Suite { return []Suite{AEAD_AES_256_GCM, AEAD_AES_128_GCM, AES_CM_128_HMAC_SHA1_80} }

// KeyLen returns the length of the master key in octets, 0 for an unknown suite.
func (s Suite) KeyLen() int {
	switch s {
	case AEAD_AES_256_GCM:
		return 32
	case AEAD_AES_128_GCM, AES_CM_128_HMAC_SHA1_80:
		return 16
	}
	return 0
}

// SaltLen returns the length of the master salt in octets, 0 for an unknown suite.
func (s Suite) SaltLen() int {
	switch s {
	case AEAD_AES_256_GCM, AEAD_AES_128_GCM:
		return 12
	case AES_CM_128_HMAC_SHA1_80:
		return 14
	}
	return 0
}

// Known reports whether the suite is one this node can run.
func (s Suite) Known() bool { return s.KeyLen() > 0 }

func (s Suite) profile() srtp.ProtectionProfile {
	switch s {
	case AEAD_AES_256_GCM:
		return srtp.ProtectionProfileAeadAes256Gcm
	case AEAD_AES_128_GCM:
		return srtp.ProtectionProfileAeadAes128Gcm
	}
	return srtp.ProtectionProfileAes128CmHmacSha1_80
}

// aead reports whether the authentication tag comes from the cipher itself, which moves the SRTCP index to the very end.
func (s Suite) aead() bool { return s != AES_CM_128_HMAC_SHA1_80 }

// Overhead is the most octets that sealing adds to a packet: the tag, and for SRTCP the index (RFC 3711 section 3.4).
const Overhead = 16 + 4

// Keys is the master key and salt for one direction of one leg. Its text forms never show Master.
type Keys struct {
	Suite  Suite
	Master []byte // key followed by salt
}

// NewKeys draws fresh keys for suite from the system's random source. The error is a KindUnsupported fault.
func NewKeys(suite Suite) (Keys, error) {
	if !suite.Known() {
		return Keys{}, unknownSuite("rtp.keys", suite)
	}
	k := Keys{Suite: suite, Master: make([]byte, suite.KeyLen()+suite.SaltLen())}
	_, _ = rand.Read(k.Master) // never fails since Go 1.24: it ends the process instead
	return k, nil
}

// IsZero reports whether there are no keys at all.
func (k Keys) IsZero() bool { return k.Suite == "" && len(k.Master) == 0 }

// Equal compares in constant time.
func (k Keys) Equal(o Keys) bool {
	return k.Suite == o.Suite && subtle.ConstantTimeCompare(k.Master, o.Master) == 1
}

// Check reports whether the suite is known and Master has its length.
func (k Keys) Check() error {
	if !k.Suite.Known() {
		return unknownSuite("rtp.keys", k.Suite)
	}
	if want := k.Suite.KeyLen() + k.Suite.SaltLen(); len(k.Master) != want {
		return &ringfence.Fault{Op: "rtp.keys", Kind: ringfence.KindInvalid,
			Text: fmt.Sprintf("%s needs %d octets of key and salt, these are %d", k.Suite, want, len(k.Master))}
	}
	return nil
}

// Inline returns the key parameter of an SDP crypto attribute, "inline:" and base64 (RFC 4568 section 6.1). It is the one
// method that reveals the key.
func (k Keys) Inline() string { return "inline:" + base64.StdEncoding.EncodeToString(k.Master) }

// maxInline bounds a key parameter: the longest legal one (60 characters of key, a lifetime, an MKI) is far below it.
const maxInline = 256

// ParseInline reads the key parameter of an SDP crypto attribute for suite: "inline:key[|lifetime][|MKI:length]". A lifetime
// is checked and then ignored, because no call comes near the 2^48 packets a key may seal. An MKI, or a second key (which
// needs one), is refused as KindUnsupported; anything malformed is KindInvalid. Errors never repeat the text that was read.
func ParseInline(suite Suite, s string) (Keys, error) {
	if !suite.Known() {
		return Keys{}, unknownSuite("rtp.inline", suite)
	}
	bad := func(text string) (Keys, error) {
		return Keys{}, &ringfence.Fault{Op: "rtp.inline", Kind: ringfence.KindInvalid, Text: text}
	}
	no := func(text, hint string) (Keys, error) {
		return Keys{}, &ringfence.Fault{Op: "rtp.inline", Kind: ringfence.KindUnsupported, Text: text, Hint: hint}
	}
	if len(s) > maxInline {
		return bad(fmt.Sprintf("the key parameter is longer than %d characters", maxInline))
	}
	s, ok := strings.CutPrefix(s, "inline:")
	if !ok {
		return bad(`the key method is not "inline:"`)
	}
	if strings.Contains(s, ";") {
		return no("more than one key in a crypto attribute", "offer one crypto line per key")
	}
	parts := strings.Split(s, "|")
	for i, p := range parts[1:] {
		switch {
		case strings.Contains(p, ":"):
			return no("the key has a master key identifier (MKI)", "switch MKI off on the peer")
		case i > 0 || !lifetime(p):
			return bad("the key's lifetime is not a number between 1 and 2^48")
		}
	}
	raw, err := base64.RawStdEncoding.Strict().DecodeString(strings.TrimRight(parts[0], "="))
	if err != nil || len(parts[0])-len(strings.TrimRight(parts[0], "=")) > 2 {
		return bad("the key is not base64")
	}
	k := Keys{Suite: suite, Master: raw}
	if err := k.Check(); err != nil {
		return bad(err.(*ringfence.Fault).Text)
	}
	return k, nil
}

// lifetime reports whether s is a key lifetime in packets: "2^n" or a decimal number (RFC 4568 section 9.2).
func lifetime(s string) bool {
	if exp, ok := strings.CutPrefix(s, "2^"); ok {
		n, err := strconv.ParseUint(exp, 10, 8)
		return err == nil && n <= 48
	}
	n, err := strconv.ParseUint(s, 10, 64)
	return err == nil && n >= 1 && n <= 1<<48
}

func unknownSuite(op string, s Suite) error {
	name := string(s)
	if len(name) > 64 {
		name = name[:64]
	}
	return &ringfence.Fault{Op: op, Kind: ringfence.KindUnsupported, Text: fmt.Sprintf("the SRTP suite %q is not offered here", name),
		Hint: "use AEAD_AES_256_GCM, AEAD_AES_128_GCM or AES_CM_128_HMAC_SHA1_80"}
}

// String names the suite and hides the key.
func (k Keys) String() string { return string(k.Suite) + " (key hidden)" }

// GoString hides the key from %#v.
func (k Keys) GoString() string {
	return fmt.Sprintf("rtp.Keys{Suite:%q, Master:hidden}", string(k.Suite))
}

// Format hides the key from every other verb, such as %x or %d.
func (k Keys) Format(f fmt.State, verb rune) {
	s := k.String()
	if verb == 'v' && f.Flag('#') {
		s = k.GoString()
	}
	_, _ = io.WriteString(f, s)
}

// LogValue hides the key from log/slog.
func (k Keys) LogValue() slog.Value { return slog.StringValue(k.String()) }

// MarshalText hides the key from encoding/json and its like.
func (k Keys) MarshalText() ([]byte, error) { return []byte(k.String()), nil }
