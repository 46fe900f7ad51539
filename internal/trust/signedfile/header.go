package signedfile

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	_ "crypto/sha1" // for phones that know nothing else
	_ "crypto/sha256"
	_ "crypto/sha512"
	"crypto/x509"
	"encoding/binary"
	"fmt"
	"time"

	"ringfence"
)

// The tags of a header.
const (
	tagVersion       = 1
	tagHeaderLength  = 2
	tagSigner        = 3
	tagSignerName    = 4
	tagSerial        = 5
	tagIssuerName    = 6
	tagSignatureInfo = 7
	tagDigest        = 8
	tagAlgorithmInfo = 9
	tagAlgorithm     = 10
	tagModulus       = 11
	tagSignature     = 12
	tagFileName      = 14
	tagTime          = 15
	tagEncryption    = 16
	tagSignerVersion = 28
)

// Version is that of a file's format.
type Version struct{ Major, Minor byte }

// The versions.
func (v Version) String() string { return fmt.Sprintf("%d.%d", v.Major, v.Minor) }

// Signer names the certificate that a file is signed with.
type Signer struct {
	Name   string `json:"name"`
	Issuer string `json:"issuer"`
	Serial []byte `json:"serial"` // big-endian
}

// Is reports whether s names the certificate.
func (s Signer) Is(c *x509.Certificate) bool {
	issuer, err := Name(c.RawIssuer)
	return err == nil && issuer == s.Issuer && bytes.Equal(s.Serial, c.SerialNumber.Bytes())
}

// SignerOf returns how a file names a certificate.
func SignerOf(c *x509.Certificate) (Signer, error) {
	name, err := Name(c.RawSubject)
	if err != nil {
		return Signer{}, err
	}
	issuer, err := Name(c.RawIssuer)
	return Signer{Name: name, Issuer: issuer, Serial: c.SerialNumber.Bytes()}, err
}

// File is a file that was read. Nothing in it is to be believed before Verify.
type File struct {
	Version       Version
	SignerVersion Version // of trust lists only
	Signer        Signer
	Digest        crypto.Hash
	Bits          int // of the signer's RSA key
	Signature     []byte
	Name          string
	Time          time.Time
	Header        []Element // as it was read
	Body          []byte    // behind the header: the file itself, encrypted if Sealed is not nil
	BodyOffset    int
	Sealed        *Sealed

	signed []byte // what the signature covers
}

// Options say how a file is signed.
type Options struct {
	Version       Version
	SignerVersion Version // zero: the header has none
	Name          string  // of the file, as the phone asks for it
	Time          time.Time
	Digest        crypto.Hash // SHA-512; or SHA-1, for phones that know nothing else
	extra         []byte      // elements behind the time
}

// modulus is the code of an RSA key's size.
func modulus(bits int) (byte, bool) {
	switch bits {
	case 512:
		return 0, true
	case 1024:
		return 1, true
	case 2048:
		return 2, true
	case 4096:
		return 3, true
	}
	return 0, false
}

func digestCode(h crypto.Hash) (byte, bool) {
	switch h {
	case crypto.SHA1:
		return 1, true
	case crypto.SHA256:
		return 2, true
	case crypto.SHA512:
		return 3, true
	}
	return 0, false
}

// Sign puts a header with a signature before body. The key must be RSA with 2048 or 4096 bits, and that of the certificate: phones check no
// other signatures.
func Sign(o Options, body []byte, cert *x509.Certificate, key crypto.Signer) ([]byte, error) {
	const op = "signedfile.sign"
	pub, ok := cert.PublicKey.(*rsa.PublicKey)
	size, fits := byte(0), false
	if ok {
		size, fits = modulus(pub.Size() * 8)
	}
	if !fits || pub.Size() < 256 {
		return nil, fault(op, ringfence.KindUnsupported, "the signer "+cert.Subject.CommonName+" has no RSA key of 2048 or 4096 bits", "phones check no other signatures; most take 2048 bits only", nil)
	}
	if mine, ok := key.Public().(*rsa.PublicKey); !ok || !mine.Equal(pub) {
		return nil, fault(op, ringfence.KindInvalid, "the key is not that of the certificate of "+cert.Subject.CommonName, "give the key that the certificate was made for", nil)
	}
	if o.Digest == 0 {
		o.Digest = crypto.SHA512
	}
	digest, ok := digestCode(o.Digest)
	if !ok || o.Digest == crypto.SHA256 {
		return nil, fault(op, ringfence.KindUnsupported, "files are signed with SHA-512, or with SHA-1 for old phones", "", nil)
	}
	if o.Name == "" || len(o.Name) > 255 || len(body) > MaxSize {
		return nil, fault(op, ringfence.KindInvalid, "a signed file needs a name of 1 to 255 bytes, and has 8 MiB at most", "", nil)
	}
	signer, err := SignerOf(cert)
	if err != nil {
		return nil, err
	}
	before, after := o.around(signer, digest, size)
	length := len(before) + 3 + pub.Size() + len(after)
	for length%4 != 0 {
		after = append(after, TagPadding)
		length++
	}
	if length > 0xffff {
		return nil, fault(op, ringfence.KindInvalid, "the header would be too long", "the signer has a very long name", nil)
	}
	binary.BigEndian.PutUint16(before[8:], uint16(length)) // behind version (5 bytes) and the tag and length of this element
	h := o.Digest.New()
	h.Write(before)
	h.Write(after)
	h.Write(body)
	sig, err := key.Sign(rand.Reader, h.Sum(nil), o.Digest)
	if err != nil {
		return nil, fault(op, ringfence.KindInternal, "the file could not be signed", "", err)
	}
	out := make([]byte, 0, length+len(body))
	out = Append(append(out, before...), tagSignature, sig)
	return append(append(out, after...), body...), nil
}

// around returns the header before and behind the signature. The header's length is left open.
func (o Options) around(signer Signer, digest, size byte) (before, after []byte) {
	before = Append(before, tagVersion, []byte{o.Version.Major, o.Version.Minor})
	before = Append(before, tagHeaderLength, []byte{0, 0})
	if o.SignerVersion != (Version{}) {
		before = Append(before, tagSignerVersion, []byte{o.SignerVersion.Major, o.SignerVersion.Minor})
	}
	who := AppendText(nil, tagSignerName, signer.Name)
	who = AppendText(who, tagIssuerName, signer.Issuer)
	who = Append(who, tagSerial, signer.Serial)
	before = Append(before, tagSigner, who)
	algorithm := Append(Append(nil, tagAlgorithm, []byte{0}), tagModulus, []byte{size})
	before = Append(before, tagSignatureInfo, Append(Append(nil, tagDigest, []byte{digest}), tagAlgorithmInfo, algorithm))
	after = AppendText(nil, tagFileName, o.Name)
	after = Append(after, tagTime, binary.BigEndian.AppendUint32(nil, uint32(o.Time.Unix())))
	return before, append(after, o.extra...)
}

// Parse reads a signed file. It checks the form alone; [File.Verify] says whether it is true.
func Parse(b []byte) (*File, error) {
	if len(b) > MaxSize+0xffff {
		return nil, broken("it is larger than 8 MiB")
	}
	if len(b) < 10 || b[0] != tagVersion || b[5] != tagHeaderLength || binary.BigEndian.Uint16(b[6:]) != 2 {
		return nil, broken("it begins with no header")
	}
	n := int(binary.BigEndian.Uint16(b[8:]))
	if n < 10 || n > len(b) {
		return nil, broken("the header is longer than the file")
	}
	elements, err := Elements(b[:n], 0)
	if err != nil {
		return nil, err
	}
	f := &File{Header: elements, Body: b[n:], BodyOffset: n}
	for _, e := range elements {
		if err := f.take(e); err != nil {
			return nil, err
		}
		if e.Tag == tagSignature {
			f.signed = append(append(make([]byte, 0, len(b)), b[:e.Offset]...), b[e.Offset+3+len(e.Value):]...)
		}
	}
	if f.Signature == nil || f.Digest == 0 || f.Signer.Issuer == "" || len(f.Signer.Serial) == 0 {
		return nil, broken("it has no signature, or no signer")
	}
	return f, nil
}

// Beginning returns the header that b begins with, signature and all; ok is false if it is not whole. It says for certain which file it is of, if that file is signed.
func Beginning(b []byte) (header []byte, ok bool) {
	if len(b) < 10 || b[0] != tagVersion || b[5] != tagHeaderLength || binary.BigEndian.Uint16(b[6:]) != 2 {
		return nil, false
	}
	n := int(binary.BigEndian.Uint16(b[8:]))
	if n < 10 || n > len(b) {
		return nil, false
	}
	return b[:n], true
}

// take reads one element of the header.
func (f *File) take(e Element) (err error) {
	v := e.Value
	short := func(n int) bool { return len(v) != n }
	switch e.Tag {
	case tagVersion, tagSignerVersion:
		if short(2) {
			return broken("a version has not two bytes")
		}
		if e.Tag == tagVersion {
			f.Version = Version{v[0], v[1]}
		} else {
			f.SignerVersion = Version{v[0], v[1]}
		}
	case tagSigner, tagSignatureInfo, tagAlgorithmInfo:
		inner, err := Elements(v, e.Offset+3)
		if err != nil {
			return err
		}
		for _, i := range inner {
			if i.Tag == tagSigner || i.Tag == tagSignatureInfo || i.Tag == e.Tag {
				return broken("a part of the header holds itself")
			}
			if err := f.take(i); err != nil {
				return err
			}
		}
	case tagSignerName:
		f.Signer.Name = e.Text()
	case tagIssuerName:
		f.Signer.Issuer = e.Text()
	case tagSerial:
		f.Signer.Serial = v
	case tagDigest:
		if short(1) || v[0] < 1 || v[0] > 3 {
			return broken("the digest is unknown")
		}
		f.Digest = [...]crypto.Hash{crypto.SHA1, crypto.SHA256, crypto.SHA512}[v[0]-1]
	case tagAlgorithm:
		if short(1) || v[0] != 0 {
			return broken("the signature is not RSA")
		}
	case tagModulus:
		if short(1) || v[0] > 3 {
			return broken("the size of the signer's key is unknown")
		}
		f.Bits = [...]int{512, 1024, 2048, 4096}[v[0]]
	case tagSignature:
		if f.Signature != nil {
			return broken("it has two signatures")
		}
		f.Signature = v
	case tagFileName:
		f.Name = e.Text()
	case tagTime:
		if short(4) {
			return broken("the time has not four bytes")
		}
		f.Time = time.Unix(int64(binary.BigEndian.Uint32(v)), 0).UTC()
	case tagEncryption, tagPlainAlgorithm, tagPlainDigest:
		return f.takeSealed(e)
	}
	return nil
}

// Verify checks that the file is as whoever holds the key of the certificate signed it, and that it names that certificate.
func (f *File) Verify(cert *x509.Certificate) error {
	const op = "signedfile.verify"
	if !f.Signer.Is(cert) {
		return fault(op, ringfence.KindDenied, fmt.Sprintf("the file is signed by %s (serial %x of %s), not by %s", f.Signer.Name, f.Signer.Serial, f.Signer.Issuer, cert.Subject), "", nil)
	}
	pub, ok := cert.PublicKey.(*rsa.PublicKey)
	if !ok || pub.Size() < 128 {
		return fault(op, ringfence.KindUnsupported, "the signer's key is not RSA, or too short", "", nil)
	}
	h := f.Digest.New()
	h.Write(f.signed)
	if err := rsa.VerifyPKCS1v15(pub, f.Digest, h.Sum(nil), f.Signature); err != nil {
		return fault(op, ringfence.KindDenied, "the signature of "+f.Signer.Name+" does not hold: the file was changed, or is signed with another key", "", nil)
	}
	return nil
}
