package keys

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
)

// An EncryptedPrivateKeyInfo (RFC 5958 section 3) by PBES2 (RFC 8018 section 6.2): PBKDF2 with HMAC-SHA256, then AES-256-CBC. OpenSSL reads and writes it.
type (
	encryptedKey struct {
		Algorithm pkix.AlgorithmIdentifier
		Data      []byte
	}
	pbes2Params struct {
		KDF    pkix.AlgorithmIdentifier
		Cipher pkix.AlgorithmIdentifier
	}
	pbkdf2Params struct {
		Salt   []byte
		Rounds int
		Length int `asn1:"optional"`
		PRF    pkix.AlgorithmIdentifier
	}
)

const (
	rounds    = 600_000    // as OWASP advises for PBKDF2 with HMAC-SHA256
	maxRounds = 10_000_000 // what a file may ask of us
)

func oidPBES2() asn1.ObjectIdentifier  { return asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 13} }
func oidPBKDF2() asn1.ObjectIdentifier { return asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 12} }
func oidHMAC() asn1.ObjectIdentifier   { return asn1.ObjectIdentifier{1, 2, 840, 113549, 2, 9} }
func oidAES() asn1.ObjectIdentifier {
	return asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 42}
}

// Seal returns the key encrypted by a passphrase (DER), to be kept somewhere else.
func (k *Key) Seal(passphrase []byte) ([]byte, error) {
	plain, err := k.Marshal()
	if err != nil {
		return nil, errors.New("the key cannot be written")
	}
	salt, iv := make([]byte, 16), make([]byte, aes.BlockSize)
	rand.Read(salt)
	rand.Read(iv)
	block, err := derive(passphrase, salt, rounds)
	if err != nil {
		return nil, err
	}
	pad := aes.BlockSize - len(plain)%aes.BlockSize
	for range pad {
		plain = append(plain, byte(pad))
	}
	cipher.NewCBCEncrypter(block, iv).CryptBlocks(plain, plain)
	kdf, err1 := asn1.Marshal(pbkdf2Params{Salt: salt, Rounds: rounds, PRF: pkix.AlgorithmIdentifier{Algorithm: oidHMAC(), Parameters: asn1.NullRawValue}})
	ivDER, err2 := asn1.Marshal(iv)
	params, err3 := asn1.Marshal(pbes2Params{KDF: pkix.AlgorithmIdentifier{Algorithm: oidPBKDF2(), Parameters: asn1.RawValue{FullBytes: kdf}},
		Cipher: pkix.AlgorithmIdentifier{Algorithm: oidAES(), Parameters: asn1.RawValue{FullBytes: ivDER}}})
	if err := errors.Join(err1, err2, err3); err != nil {
		return nil, err
	}
	return asn1.Marshal(encryptedKey{pkix.AlgorithmIdentifier{Algorithm: oidPBES2(), Parameters: asn1.RawValue{FullBytes: params}}, plain})
}

func derive(passphrase, salt []byte, n int) (cipher.Block, error) {
	key, err := pbkdf2.Key(sha256.New, string(passphrase), salt, n, 32)
	if err != nil {
		return nil, errors.New("no key can be derived from the passphrase")
	}
	return aes.NewCipher(key)
}

// Unseal reads what Seal wrote, or `openssl pkcs8 -topk8 -v2 aes256`.
func Unseal(der, passphrase []byte) (*Key, error) {
	form := errors.New("the key is not encrypted by PBES2 with HMAC-SHA256 and AES-256-CBC")
	var e encryptedKey
	if rest, err := asn1.Unmarshal(der, &e); err != nil || len(rest) > 0 || !e.Algorithm.Algorithm.Equal(oidPBES2()) {
		return nil, form
	}
	var p pbes2Params
	if rest, err := asn1.Unmarshal(e.Algorithm.Parameters.FullBytes, &p); err != nil || len(rest) > 0 || !p.KDF.Algorithm.Equal(oidPBKDF2()) || !p.Cipher.Algorithm.Equal(oidAES()) {
		return nil, form
	}
	var kdf pbkdf2Params
	if rest, err := asn1.Unmarshal(p.KDF.Parameters.FullBytes, &kdf); err != nil || len(rest) > 0 || !kdf.PRF.Algorithm.Equal(oidHMAC()) {
		return nil, form
	}
	var iv []byte
	if rest, err := asn1.Unmarshal(p.Cipher.Parameters.FullBytes, &iv); err != nil || len(rest) > 0 || len(iv) != aes.BlockSize || len(e.Data) == 0 || len(e.Data)%aes.BlockSize != 0 {
		return nil, form
	}
	if kdf.Rounds < 1 || kdf.Rounds > maxRounds || len(kdf.Salt) > 1024 {
		return nil, errors.New("the key asks for an unreasonable derivation")
	}
	block, err := derive(passphrase, kdf.Salt, kdf.Rounds)
	if err != nil {
		return nil, err
	}
	plain := make([]byte, len(e.Data))
	cipher.NewCBCDecrypter(block, iv).CryptBlocks(plain, e.Data)
	wrong := errors.New("the passphrase is wrong, or the key is damaged")
	pad := int(plain[len(plain)-1])
	if pad < 1 || pad > aes.BlockSize {
		return nil, wrong
	}
	for _, b := range plain[len(plain)-pad:] {
		if subtle.ConstantTimeByteEq(b, byte(pad)) != 1 {
			return nil, wrong
		}
	}
	k, err := Parse(plain[:len(plain)-pad])
	if err != nil {
		return nil, wrong
	}
	return k, nil
}

// SignRequest signs a certificate request for this key (PKCS #10, RFC 2986).
func (k *Key) SignRequest(template *x509.CertificateRequest) ([]byte, error) {
	return x509.CreateCertificateRequest(rand.Reader, template, k.priv)
}
