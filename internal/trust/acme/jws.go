package acme

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"slices"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/json" // refuses names that are there twice
)

const (
	maxBody      = 64 << 10 // bytes of a request
	maxProtected = 8 << 10  // characters of a protected header
	maxSignature = 1 << 10  // characters of a signature
	maxRSA       = 4096     // bits
	minRSA       = 2048
)

func algorithms() []jose.SignatureAlgorithm {
	return []jose.SignatureAlgorithm{jose.ES256, jose.ES384, jose.EdDSA, jose.RS256}
}

// signed is a message whose form was checked and whose signature was not.
type signed struct {
	jws   *jose.JSONWebSignature
	alg   jose.SignatureAlgorithm
	key   *jose.JSONWebKey // "jwk"; nil if there is a kid
	kid   string
	nonce string
	url   string
	body  []byte // the payload, to be used after verify only
}

// openJWS reads a message in flattened JSON serialization (RFC 7515 section 7.2.2) with exactly what RFC 8555 section 6.2 asks for.
func openJWS(text []byte, algs []jose.SignatureAlgorithm) (*signed, error) {
	malformed := func(detail string) (*signed, error) { return nil, refuse("malformed", detail) }
	if len(text) > maxBody {
		return malformed("the message is too long")
	}
	var outer struct {
		Protected  *string         `json:"protected"`
		Payload    *string         `json:"payload"`
		Signature  *string         `json:"signature"`
		Header     json.RawMessage `json:"header"`
		Signatures json.RawMessage `json:"signatures"`
	}
	if err := json.Unmarshal(text, &outer); err != nil {
		return malformed("the message is no JSON object, or a name is in it twice")
	}
	switch {
	case outer.Signatures != nil:
		return malformed("the message must have one signature, in the flattened form")
	case outer.Header != nil:
		return malformed("the message must not have an unprotected header")
	case outer.Protected == nil || outer.Payload == nil || outer.Signature == nil:
		return malformed("the message lacks protected, payload or signature")
	case len(*outer.Protected) > maxProtected || len(*outer.Signature) > maxSignature:
		return malformed("the protected header or the signature is too long")
	}
	head, err := base64.RawURLEncoding.Strict().DecodeString(*outer.Protected)
	if err != nil {
		return malformed("the protected header is not base64url")
	}
	body, err := base64.RawURLEncoding.Strict().DecodeString(*outer.Payload)
	if err != nil {
		return malformed("the payload is not base64url")
	}
	var h struct {
		Alg   jose.SignatureAlgorithm `json:"alg"`
		Nonce string                  `json:"nonce"`
		URL   string                  `json:"url"`
		Kid   *string                 `json:"kid"`
		JWK   json.RawMessage         `json:"jwk"`
		Crit  json.RawMessage         `json:"crit"`
		B64   json.RawMessage         `json:"b64"`
	}
	if err := json.Unmarshal(head, &h); err != nil {
		return malformed("the protected header is no JSON object, or a name is in it twice")
	}
	if !slices.Contains(algs, h.Alg) {
		p := refuse("badSignatureAlgorithm", "the signature algorithm is not taken here")
		for _, a := range algs {
			p.Algorithms = append(p.Algorithms, string(a))
		}
		return nil, p
	}
	if h.Crit != nil || h.B64 != nil {
		return malformed("critical header parameters are not understood")
	}
	if (h.JWK == nil) == (h.Kid == nil) {
		return malformed("the protected header must have either jwk or kid")
	}
	out := &signed{alg: h.Alg, nonce: h.Nonce, url: h.URL, body: body}
	if h.Kid != nil {
		out.kid = *h.Kid
	} else if out.key, err = readKey(h.JWK); err != nil {
		return nil, err
	}
	if out.jws, err = jose.ParseSignedCompact(*outer.Protected+"."+*outer.Payload+"."+*outer.Signature, algs); err != nil || len(out.jws.Signatures) != 1 {
		return malformed("the message is no JWS")
	}
	return out, nil
}

// verify checks the signature. The payload means something only afterwards.
func (m *signed) verify(key any) error {
	if k, ok := key.(*jose.JSONWebKey); ok {
		key = k.Key // the kid and alg that a JWK may carry decide nothing
	}
	if _, err := m.jws.Verify(key); err != nil {
		return refuse("malformed", "the signature is wrong")
	}
	return nil
}

// readKey reads a public key of a kind that accounts may have.
func readKey(text []byte) (*jose.JSONWebKey, error) {
	bad := func(detail string) (*jose.JSONWebKey, error) { return nil, refuse("badPublicKey", detail) }
	if len(text) > maxProtected {
		return bad("the key is too long")
	}
	var private struct {
		D json.RawMessage `json:"d"`
		K json.RawMessage `json:"k"`
	}
	var k jose.JSONWebKey
	if err := json.Unmarshal(text, &private); err != nil || private.D != nil || private.K != nil {
		return bad("the key is no JWK, or a secret one; if it was secret, make a new one")
	}
	if err := k.UnmarshalJSON(text); err != nil || !k.IsPublic() || !k.Valid() {
		return bad("the key is no JWK with a public key")
	}
	switch pub := k.Key.(type) {
	case *ecdsa.PublicKey:
		if pub.Curve != elliptic.P256() && pub.Curve != elliptic.P384() {
			return bad("keys on curves are P-256, P-384 or Ed25519")
		}
	case ed25519.PublicKey:
	case *rsa.PublicKey:
		if n := pub.N.BitLen(); n < minRSA || n > maxRSA || pub.E < 3 || pub.E&1 == 0 {
			return bad("RSA keys have 2048 to 4096 bits")
		}
	default:
		return bad("keys are RSA, P-256, P-384 or Ed25519")
	}
	return &jose.JSONWebKey{Key: k.Key}, nil
}

// thumbprint identifies a key (RFC 7638).
func thumbprint(k *jose.JSONWebKey) (string, error) {
	sum, err := k.Thumbprint(crypto.SHA256)
	if err != nil || len(sum) != sha256.Size {
		return "", refuse("badPublicKey", "the key has no thumbprint")
	}
	return base64.RawURLEncoding.EncodeToString(sum), nil
}

// readPayload decodes a payload that is a JSON object. Members that we do not know are ignored, as section 6.1 wants it.
func readPayload(body []byte, into any) error {
	if len(body) == 0 {
		return refuse("malformed", "the payload is empty, which asks to read and not to do (RFC 8555 section 6.3)")
	}
	if body[0] != '{' {
		return refuse("malformed", "the payload is no JSON object")
	}
	if err := json.Unmarshal(body, into); err != nil {
		return refuse("malformed", "the payload is not the JSON expected here, or a name is in it twice")
	}
	return nil
}
