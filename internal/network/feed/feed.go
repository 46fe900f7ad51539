package feed

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/json" // refuses a member that is there twice

	"ringfence"
	"ringfence/internal/network/need"
)

// Feed is what was signed.
type Feed struct {
	Serial int64     `json:"serial"` // grows with each change of the set
	Made   time.Time `json:"made"`
	Set    need.Set  `json:"set"`
}

// Bounds of a feed.
const (
	MaxSize  = 8 << 20 // bytes of the signed text
	typeJOSE = "ringfence-requirements+json"
)

// Sign returns a feed in compact form.
func Sign(f Feed, key ed25519.PrivateKey) ([]byte, error) {
	if f.Serial < 1 {
		return nil, fault(ringfence.KindInvalid, "a feed has a serial number from 1 on", "")
	}
	payload, err := json.Marshal(f)
	if err != nil {
		return nil, fault(ringfence.KindInternal, "the set cannot be written", "")
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.EdDSA, Key: key}, (&jose.SignerOptions{}).WithType(typeJOSE).WithHeader("kid", ID(key.Public().(ed25519.PublicKey))))
	if err != nil {
		return nil, fault(ringfence.KindInternal, "the key cannot sign", "")
	}
	signed, err := signer.Sign(payload)
	if err != nil {
		return nil, fault(ringfence.KindInternal, "the feed cannot be signed", "")
	}
	text, err := signed.CompactSerialize()
	return append([]byte(text), '\n'), err
}

// ID names a key: the SHA-256 of its bytes, in base64url.
func ID(key ed25519.PublicKey) string {
	sum := sha256.Sum256(key)
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// Open returns what is in a feed, if this key signed it and it is later than the last that was taken: a serial number that is not above after is refused.
func Open(text []byte, key ed25519.PublicKey, after int64) (Feed, error) {
	if len(text) > MaxSize {
		return Feed{}, fault(ringfence.KindInvalid, "the feed is larger than 8 MiB", "")
	}
	web, err := jose.ParseSignedCompact(string(bytes.TrimSpace(text)), []jose.SignatureAlgorithm{jose.EdDSA})
	if err != nil || len(web.Signatures) != 1 {
		return Feed{}, fault(ringfence.KindInvalid, "that is no signed feed", "fetch it anew: GET /api/v1/network/sets/NAME/feed")
	}
	if typ, _ := web.Signatures[0].Protected.ExtraHeaders[jose.HeaderType].(string); typ != typeJOSE {
		return Feed{}, fault(ringfence.KindInvalid, "what was signed there is no feed of requirements", "")
	}
	payload, err := web.Verify(key)
	if err != nil {
		return Feed{}, fault(ringfence.KindInsecure, "the feed was not signed by the key "+ID(key)+": it is somebody else's, or was changed", "compare the key with what `ringfence network feed key` prints at the node")
	}
	var f Feed
	if err := json.Unmarshal(payload, &f); err != nil {
		return Feed{}, fault(ringfence.KindInvalid, "the feed was signed, and its set cannot be read", "it may be of another release")
	}
	if f.Serial <= after {
		return Feed{}, fault(ringfence.KindConflict, fmt.Sprintf("the feed has the serial number %d, and %d was taken already: it is older, or the same", f.Serial, after), "nothing was taken")
	}
	if wrong := f.Set.Check(); len(wrong) > 0 {
		return Feed{}, fault(ringfence.KindInvalid, "the feed was signed, and its set is wrong: "+wrong[0], "it may be of another release")
	}
	return f, nil
}

// KeyPEM writes a public key as a file has it (RFC 8410).
func KeyPEM(key ed25519.PublicKey) ([]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return nil, fault(ringfence.KindInternal, "the key cannot be written", "")
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), nil
}

// ParseKey reads what KeyPEM wrote.
func ParseKey(text []byte) (ed25519.PublicKey, error) {
	bad := fault(ringfence.KindInvalid, "the key is no Ed25519 public key in PEM form", "`ringfence network feed key` at the node prints it")
	if len(text) > 4096 {
		return nil, bad
	}
	block, rest := pem.Decode(text)
	if block == nil || block.Type != "PUBLIC KEY" || len(bytes.TrimSpace(rest)) > 0 {
		return nil, bad
	}
	any, err := x509.ParsePKIXPublicKey(block.Bytes)
	key, ok := any.(ed25519.PublicKey)
	if err != nil || !ok {
		return nil, bad
	}
	return key, nil
}

func fault(k ringfence.Kind, text, hint string) error {
	return &ringfence.Fault{Op: "feed", Kind: k, Text: text, Hint: hint}
}
