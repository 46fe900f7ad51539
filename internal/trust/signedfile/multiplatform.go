package signedfile

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/md5"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"

	"ringfence"
)

const saltedMark = "Salted__"

// Digest is the hash by which a key is made of a passphrase.
type Digest string

// The digests of openssl enc: SHA-256 since its version 1.1.0, MD5 before, which is read here and not written.
const (
	DigestSHA256 Digest = "SHA-256"
	DigestMD5    Digest = "MD5"
)

// derive is EVP_BytesToKey of OpenSSL with one round, for a key of 32 and an IV of 16 bytes.
func derive(digest Digest, passphrase string, salt []byte) (key, iv []byte) {
	var all, last []byte
	for len(all) < 48 {
		h := sha256.New()
		if digest == DigestMD5 {
			h = md5.New()
		}
		h.Write(last)
		h.Write([]byte(passphrase))
		h.Write(salt)
		last = h.Sum(nil)
		all = append(all, last...)
	}
	return all[:32], all[32:48]
}

// EncryptPassphrase encrypts as `openssl enc -aes-256-cbc -md sha256 -pass` does, which phones undo with --key in a profile rule. It has no
// protection against changes: hand such files over by HTTPS.
func EncryptPassphrase(plain []byte, passphrase string) ([]byte, error) {
	if passphrase == "" || len(plain) > MaxSize {
		return nil, fault("signedfile.encrypt", ringfence.KindInvalid, "a passphrase is needed, and the file has 8 MiB at most", "", nil)
	}
	salt := make([]byte, 8)
	rand.Read(salt)
	key, iv := derive(DigestSHA256, passphrase, salt)
	pad := aes.BlockSize - len(plain)%aes.BlockSize
	body := append(bytes.Clone(plain), bytes.Repeat([]byte{byte(pad)}, pad)...)
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fault("signedfile.encrypt", ringfence.KindInternal, "the file could not be encrypted", "", err)
	}
	cipher.NewCBCEncrypter(block, iv).CryptBlocks(body, body)
	return append(append([]byte(saltedMark), salt...), body...), nil
}

// DecryptPassphrase undoes EncryptPassphrase.
func DecryptPassphrase(b []byte, passphrase string) ([]byte, error) {
	return DecryptPassphraseWith(b, passphrase, DigestSHA256)
}

// Salted reports whether a file begins as `openssl enc` begins it.
func Salted(b []byte) bool { return bytes.HasPrefix(b, []byte(saltedMark)) }

// DecryptPassphraseWith undoes `openssl enc -aes-256-cbc -md DIGEST`. A wrong passphrase or digest is found out by the padding alone, so one time in
// some 256 by what comes out: look at it.
func DecryptPassphraseWith(b []byte, passphrase string, digest Digest) ([]byte, error) {
	const op = "signedfile.decrypt"
	body, ok := bytes.CutPrefix(b, []byte(saltedMark))
	if !ok || len(b) > MaxSize+64 || len(body) < 8+aes.BlockSize || (len(body)-8)%aes.BlockSize != 0 {
		return nil, broken("it was not written by openssl enc")
	}
	key, iv := derive(digest, passphrase, body[:8])
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fault(op, ringfence.KindInternal, "the file could not be decrypted", "", err)
	}
	plain := make([]byte, len(body)-8)
	cipher.NewCBCDecrypter(block, iv).CryptBlocks(plain, body[8:])
	pad := int(plain[len(plain)-1])
	if pad < 1 || pad > aes.BlockSize || !bytes.Equal(plain[len(plain)-pad:], bytes.Repeat([]byte{byte(pad)}, pad)) {
		return nil, fault(op, ringfence.KindDenied, "the passphrase is wrong, or the file was changed", "", nil)
	}
	return plain[:len(plain)-pad], nil
}

// The bounds of RFC 8188.
const (
	codingHeader = 16 + 4 + 1
	codingTag    = 16
	recordSize   = 4096
)

// coding derives the key and the base of the nonces (RFC 8188 section 2.2).
func coding(ikm, salt []byte) (cipher.AEAD, []byte, error) {
	prk, err := hkdf.Extract(sha256.New, ikm, salt)
	if err != nil {
		return nil, nil, err
	}
	key, err := hkdf.Expand(sha256.New, prk, "Content-Encoding: aes128gcm\x00", 16)
	if err != nil {
		return nil, nil, err
	}
	nonce, err := hkdf.Expand(sha256.New, prk, "Content-Encoding: nonce\x00", 12)
	if err != nil {
		return nil, nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, nil, err
	}
	gcm, err := cipher.NewGCM(block)
	return gcm, nonce, err
}

// nonceOf returns the nonce of a record.
func nonceOf(base []byte, record uint64) []byte {
	n := bytes.Clone(base)
	for i := range 8 {
		n[11-i] ^= byte(record >> (8 * i))
	}
	return n
}

// EncryptCoding applies the content coding aes128gcm (RFC 8188) with input keying material of 16 bytes or more. id names the key to the
// reader; it may be empty.
func EncryptCoding(plain, ikm []byte, id string) ([]byte, error) {
	if len(ikm) < 16 || len(id) > 255 || len(plain) > MaxSize {
		return nil, fault("signedfile.encrypt", ringfence.KindInvalid, "16 bytes of keying material are needed, a name of 255 bytes at most, and a file of 8 MiB at most", "", nil)
	}
	salt := make([]byte, 16)
	rand.Read(salt)
	return encode(plain, ikm, salt, id, recordSize)
}

func encode(plain, ikm, salt []byte, id string, size int) ([]byte, error) {
	gcm, base, err := coding(ikm, salt)
	if err != nil {
		return nil, fault("signedfile.encrypt", ringfence.KindInternal, "the file could not be encrypted", "", err)
	}
	out := binary.BigEndian.AppendUint32(bytes.Clone(salt), uint32(size))
	out = append(append(out, byte(len(id))), id...)
	room := size - codingTag - 1
	for record := uint64(0); ; record++ {
		n := min(len(plain), room)
		last := n == len(plain)
		piece := append(bytes.Clone(plain[:n]), 1)
		if last {
			piece[n] = 2
		}
		out = gcm.Seal(out, nonceOf(base, record), piece, nil)
		if plain = plain[n:]; last {
			return out, nil
		}
	}
}

// DecryptCoding undoes the content coding aes128gcm (RFC 8188).
func DecryptCoding(b, ikm []byte) (plain []byte, id string, err error) {
	const op = "signedfile.decrypt"
	if len(b) > 2*MaxSize || len(b) < codingHeader || len(b) < codingHeader+int(b[20]) {
		return nil, "", broken("it is no aes128gcm (RFC 8188)")
	}
	size, id := int(binary.BigEndian.Uint32(b[16:])), string(b[codingHeader:codingHeader+int(b[20])])
	if size < codingTag+2 {
		return nil, "", broken("the records are shorter than RFC 8188 allows")
	}
	gcm, base, err := coding(ikm, b[:16])
	if err != nil {
		return nil, "", fault(op, ringfence.KindInternal, "the file could not be decrypted", "", err)
	}
	wrong := fault(op, ringfence.KindDenied, "the key is wrong, or the file was changed or cut off", "", nil)
	rest := b[codingHeader+len(id):]
	for record := uint64(0); ; record++ {
		n := min(len(rest), size)
		piece, err := gcm.Open(nil, nonceOf(base, record), rest[:n], nil)
		if err != nil {
			return nil, "", wrong
		}
		rest = rest[n:]
		piece = bytes.TrimRight(piece, "\x00")
		end := len(piece) - 1
		if end < 0 || piece[end] != 1 && piece[end] != 2 || (piece[end] == 2) != (len(rest) == 0) {
			return nil, "", wrong
		}
		plain = append(plain, piece[:end]...)
		if piece[end] == 2 {
			return plain, id, nil
		}
	}
}
