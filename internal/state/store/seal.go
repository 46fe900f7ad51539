package store

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"strings"

	"ringfence"
)

// sealVersion begins every sealed text: AES-256-GCM (NIST SP 800-38D) with a random 96-bit nonce. The form is
// "rf1.KEYID.BASE64(nonce || ciphertext || tag)"; the associated data names the place, so a sealed text moved to another row,
// column or table does not open.
const sealVersion = "rf1"

// sealer seals and opens secrets under one key. Random nonces are safe for 2^32 secrets a key, far above what a node keeps.
type sealer struct {
	id   string // fingerprint of the key, safe to show
	aead cipher.AEAD
}

func newSealer(key []byte) (*sealer, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fault("store.seal", ringfence.KindInternal, "the sealing key has the wrong length", "", nil)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, fault("store.seal", ringfence.KindInternal, "the cipher is not available", "", err)
	}
	sum := sha256.Sum256(append([]byte("ringfence seal key id v1\x00"), key...))
	return &sealer{id: hex.EncodeToString(sum[:6]), aead: aead}, nil
}

// place is the associated data: each part with its length, so that no two places have the same bytes.
func place(parts ...string) []byte {
	b := []byte("ringfence seal v1")
	for _, p := range parts {
		b = binary.BigEndian.AppendUint32(b, uint32(len(p)))
		b = append(b, p...)
	}
	return b
}

// seal returns the sealed text of a secret kept in table.column of the row named by key.
func (s *sealer) seal(secret []byte, table, column string, key ...string) string {
	nonce := make([]byte, s.aead.NonceSize(), s.aead.NonceSize()+len(secret)+s.aead.Overhead())
	rand.Read(nonce) // never fails (crypto/rand, Go 1.24)
	out := s.aead.Seal(nonce, nonce, secret, place(append([]string{table, column}, key...)...))
	return sealVersion + "." + s.id + "." + base64.RawStdEncoding.EncodeToString(out)
}

// open returns the secret of a sealed text that was sealed for the same place under the same key.
func (s *sealer) open(sealed, table, column string, key ...string) ([]byte, error) {
	const op = "store.unseal"
	version, rest, _ := strings.Cut(sealed, ".")
	id, body, ok := strings.Cut(rest, ".")
	if version != sealVersion || !ok {
		return nil, fault(op, ringfence.KindUnsupported, "a sealed value of "+table+" has an unknown form", "was it written by a newer version?", nil)
	}
	if id != s.id {
		return nil, fault(op, ringfence.KindConflict, "a value of "+table+" was sealed with key "+id+", the key file holds "+s.id, "put back the key file that belongs to this database", nil)
	}
	raw, err := base64.RawStdEncoding.DecodeString(body)
	n := s.aead.NonceSize()
	// One secret has one text: the decoder would overlook line ends and spare bits.
	if err != nil || len(raw) < n+s.aead.Overhead() || base64.RawStdEncoding.EncodeToString(raw) != body {
		return nil, fault(op, ringfence.KindInvalid, "a sealed value of "+table+" is damaged", "restore the database from a backup", nil)
	}
	secret, err := s.aead.Open(nil, raw[:n], raw[n:], place(append([]string{table, column}, key...)...))
	if err != nil {
		return nil, fault(op, ringfence.KindInvalid, "a sealed value of "+table+" was changed or moved", "restore the database from a backup, and find out who can write to it", nil)
	}
	return secret, nil
}
