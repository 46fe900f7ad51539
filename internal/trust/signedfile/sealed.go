package signedfile

import (
	"bytes"
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha512"
	"crypto/subtle"
	"crypto/x509"
	"encoding/binary"

	"ringfence"
)

// The tags of an encrypted file, besides those of a header.
const (
	tagBodyInfo       = 17
	tagBodyAlgorithm  = 18
	tagIV             = 19
	tagPadCount       = 20
	tagKeyInfo        = 21
	tagKeyAlgorithm   = 22
	tagKeyBits        = 23
	tagKeyKind        = 24
	tagKey            = 25
	tagPlainAlgorithm = 26
	tagPlainDigest    = 27
)

// filler pads what is encrypted: a carriage return, which changes no XML.
const filler = 0x0d

// Sealed is how the body of a file is encrypted: AES-128-CBC, its key under the phone's RSA key.
type Sealed struct {
	IV     []byte
	Key    []byte // encrypted (RSAES-PKCS1-v1_5)
	Bits   int    // of the phone's key
	Pad    int    // bytes of filler at the end
	Digest crypto.Hash
	Plain  []byte // digest of the file before
}

func (f *File) takeSealed(e Element) error {
	if f.Sealed == nil {
		f.Sealed = &Sealed{}
	}
	s, v := f.Sealed, e.Value
	switch e.Tag {
	case tagPlainAlgorithm:
		if len(v) != 1 || v[0] < 1 || v[0] > 3 {
			return broken("the digest of what is encrypted is unknown")
		}
		s.Digest = [...]crypto.Hash{crypto.SHA1, crypto.SHA256, crypto.SHA512}[v[0]-1]
	case tagPlainDigest:
		s.Plain = v
	case tagEncryption:
		parts, err := Elements(v, e.Offset+3)
		if err != nil {
			return err
		}
		for _, p := range parts {
			inner, err := Elements(p.Value, p.Offset+3)
			if err != nil {
				return err
			}
			for _, i := range inner {
				switch v := i.Value; {
				case i.Tag == tagIV && len(v) == aes.BlockSize:
					s.IV = v
				case i.Tag == tagPadCount && len(v) == 2:
					s.Pad = int(binary.BigEndian.Uint16(v))
				case i.Tag == tagKeyBits && len(v) == 2:
					s.Bits = int(binary.BigEndian.Uint16(v))
				case i.Tag == tagKey:
					s.Key = v
				case i.Tag == tagBodyAlgorithm && len(v) == 1 && v[0] == 0, i.Tag == tagKeyAlgorithm && len(v) == 1 && v[0] == 0, i.Tag == tagKeyKind && len(v) == 1 && v[0] == 1:
				default:
					return broken("the encryption is unknown")
				}
			}
		}
	}
	return nil
}

// Encrypt encrypts a file to the key of a phone's certificate, which must be RSA, and signs it.
func Encrypt(o Options, plain []byte, phone, cert *x509.Certificate, key crypto.Signer) ([]byte, error) {
	const op = "signedfile.encrypt"
	to, ok := phone.PublicKey.(*rsa.PublicKey)
	if !ok || to.Size() < 256 {
		return nil, fault(op, ringfence.KindUnsupported, "the phone "+phone.Subject.CommonName+" has no RSA key of 2048 bits or more", "these files can be encrypted to no other key; hand the file over by HTTPS instead", nil)
	}
	if len(plain) > MaxSize-aes.BlockSize {
		return nil, fault(op, ringfence.KindInvalid, "the file is larger than 8 MiB", "", nil)
	}
	secret, iv := make([]byte, 16), make([]byte, aes.BlockSize)
	rand.Read(secret)
	rand.Read(iv)
	//lint:ignore SA1019 these phones know no other padding; what is sealed so is sealed once, by us, and nobody is told why it failed
	wrapped, err := rsa.EncryptPKCS1v15(rand.Reader, to, secret)
	if err != nil {
		return nil, fault(op, ringfence.KindInternal, "the key could not be encrypted", "", err)
	}
	pad := aes.BlockSize - len(plain)%aes.BlockSize
	body := append(bytes.Clone(plain), bytes.Repeat([]byte{filler}, pad)...)
	block, err := aes.NewCipher(secret)
	if err != nil {
		return nil, fault(op, ringfence.KindInternal, "the file could not be encrypted", "", err)
	}
	cipher.NewCBCEncrypter(block, iv).CryptBlocks(body, body)
	two := func(n int) []byte { return binary.BigEndian.AppendUint16(nil, uint16(n)) }
	bodyInfo := Append(Append(Append(nil, tagBodyAlgorithm, []byte{0}), tagIV, iv), tagPadCount, two(pad))
	keyInfo := Append(Append(Append(Append(nil, tagKeyAlgorithm, []byte{0}), tagKeyBits, two(8*len(wrapped))), tagKeyKind, []byte{1}), tagKey, wrapped)
	sum := sha512.Sum512(plain)
	o.extra = Append(nil, tagEncryption, Append(Append(nil, tagBodyInfo, bodyInfo), tagKeyInfo, keyInfo))
	o.extra = Append(Append(o.extra, tagPlainAlgorithm, []byte{3}), tagPlainDigest, sum[:])
	o.Version = Version{2, 0}
	return Sign(o, body, cert, key)
}

// Decrypt returns the file that was encrypted to a phone's key. Verify the signature first.
func (f *File) Decrypt(key crypto.Decrypter) ([]byte, error) {
	const op = "signedfile.decrypt"
	s := f.Sealed
	if s == nil || s.IV == nil || s.Key == nil || len(f.Body) == 0 || len(f.Body)%aes.BlockSize != 0 || s.Pad < 1 || s.Pad > aes.BlockSize || s.Digest == 0 {
		return nil, fault(op, ringfence.KindInvalid, "the file is not encrypted, or the encryption is damaged", "", nil)
	}
	wrong := fault(op, ringfence.KindDenied, "the file cannot be decrypted with this key", "it was encrypted to the key of another phone, or to an older key of this one", nil)
	// A wrong key gives a random secret (RFC 3218), and then the digest does not fit: nobody learns where it failed.
	//lint:ignore SA1019 see Encrypt
	secret, err := key.Decrypt(rand.Reader, s.Key, &rsa.PKCS1v15DecryptOptions{SessionKeyLen: 16})
	if err != nil {
		return nil, wrong
	}
	block, err := aes.NewCipher(secret)
	if err != nil {
		return nil, wrong
	}
	plain := make([]byte, len(f.Body))
	cipher.NewCBCDecrypter(block, s.IV).CryptBlocks(plain, f.Body)
	end := plain[len(plain)-s.Pad:]
	plain = plain[:len(plain)-s.Pad]
	h := s.Digest.New()
	h.Write(plain)
	if subtle.ConstantTimeCompare(h.Sum(nil), s.Plain)&subtle.ConstantTimeCompare(end, bytes.Repeat([]byte{filler}, s.Pad)) != 1 {
		return nil, wrong
	}
	return plain, nil
}
