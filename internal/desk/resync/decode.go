package resync

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"io"
	"slices"
	"strings"

	"ringfence"
	"ringfence/internal/desk/flatprofile"
	"ringfence/internal/trust/signedfile"
)

// maxCodings is how many content codings may lie over each other.
const maxCodings = 3

// Decode takes apart what a server sent: its content codings, what `openssl enc` did with a key, and gzip. how says what was there. A key of the rule
// does not stand in for keying material of RFC 8188, nor the other way round: the header field of the answer says which is meant.
func Decode(b []byte, codings []string, key, material string) (plain []byte, how []string, err error) {
	if len(codings) > maxCodings {
		return nil, nil, bad("%d content codings lie over each other", len(codings))
	}
	coded := false
	for _, coding := range slices.Backward(codings) { // the last was applied last (RFC 9110 section 8.4)
		switch strings.ToLower(strings.TrimSpace(coding)) {
		case "", "identity":
		case "gzip", "x-gzip":
			if b, err = unzip(b); err != nil {
				return nil, nil, err
			}
			how = append(how, "gzip")
		case "aes128gcm":
			if material == "" {
				return nil, nil, &ringfence.Fault{Op: "resync.decode", Kind: ringfence.KindDenied, Text: "the file has the content coding aes128gcm, and the phone has no keying material", Hint: "set IKM_HTTP_Encrypt_Content"}
			}
			if b, _, err = signedfile.DecryptCoding(b, keying(material)); err != nil {
				return nil, nil, err
			}
			how, coded = append(how, "RFC 8188"), true
		default:
			return nil, nil, bad("the content coding %.40q is not known", coding)
		}
	}
	if signedfile.Salted(b) {
		if key == "" {
			return nil, nil, &ringfence.Fault{Op: "resync.decode", Kind: ringfence.KindDenied, Text: "the file is encrypted, and the rule has no key", Hint: `write [--key "$SA"] before the address, and the key into GPP_SA`}
		}
		digest := signedfile.Digest("")
		if b, digest, err = unseal(b, key); err != nil {
			return nil, nil, err
		}
		how = append(how, "AES-256-CBC with "+string(digest))
	} else if key != "" && !coded {
		how = append(how, "not encrypted, although the rule has a key")
	}
	if zipped(b) {
		if b, err = unzip(b); err != nil {
			return nil, nil, err
		}
		how = append(how, "gzip")
	}
	return b, how, nil
}

// keying reads keying material: base64url without padding, as RFC 8188 writes it, or else the bytes as they stand.
func keying(material string) []byte {
	if b, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(material, "=")); err == nil && len(b) >= 16 {
		return b
	}
	return []byte(material)
}

// unseal tries the digests that openssl enc has had. The padding can be right by chance, so what comes out must look like a file.
func unseal(b []byte, key string) ([]byte, signedfile.Digest, error) {
	var first error
	for _, digest := range []signedfile.Digest{signedfile.DigestSHA256, signedfile.DigestMD5} {
		plain, err := signedfile.DecryptPassphraseWith(b, key, digest)
		if err == nil && !zipped(plain) && !bytes.HasPrefix(bytes.TrimLeft(plain, "\ufeff \t\r\n"), []byte("<")) && !bytes.HasPrefix(plain, []byte("-----BEGIN ")) {
			err = &ringfence.Fault{Op: "resync.decode", Kind: ringfence.KindDenied, Text: "the key is wrong, or the file was changed"}
		}
		if err == nil {
			return plain, digest, nil
		}
		if first == nil || ringfence.KindOf(first) != ringfence.KindDenied {
			first = err
		}
	}
	return nil, "", first
}

func zipped(b []byte) bool { return bytes.HasPrefix(b, []byte{0x1f, 0x8b}) }

// unzip reads gzip (RFC 1952) up to the size of a profile.
func unzip(b []byte) ([]byte, error) {
	r, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		return nil, bad("the file is no gzip: %v", err)
	}
	out, err := io.ReadAll(io.LimitReader(r, flatprofile.MaxSize+1))
	switch {
	case err != nil:
		return nil, bad("the file is no whole gzip: %v", err)
	case len(out) > flatprofile.MaxSize:
		return nil, bad("the file is larger than 10 MiB, once it is unpacked")
	}
	return out, nil
}
