package rtp

import (
	"crypto/aes"
	"encoding/hex"
	"testing"
)

// referenceKeystream computes the AES-CM keystream for SSRC 0 and index 0 (RFC 3711 section 4.1.1), where the first
// counter block is the salt shifted left by 16 bits.
func referenceKeystream(t *testing.T, key, salt string, n int) []byte {
	t.Helper()
	k, err := hex.DecodeString(key)
	if err != nil {
		t.Fatal(err)
	}
	iv, err := hex.DecodeString(salt + "0000")
	if err != nil {
		t.Fatal(err)
	}
	block, err := aes.NewCipher(k)
	if err != nil {
		t.Fatal(err)
	}
	out := make([]byte, 0, n+16)
	for i := 0; len(out) < n; i++ {
		iv[15] = byte(i)
		var b [16]byte
		block.Encrypt(b[:], iv)
		out = append(out, b[:]...)
	}
	return out[:n]
}
