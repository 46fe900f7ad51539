package signedfile

import (
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/binary"
	"strings"

	"ringfence"
)

// MaxSize bounds a file, in bytes.
const MaxSize = 8 << 20

// TagPadding is the one tag without length and value.
const TagPadding = 13

// Element is one tag with its value.
type Element struct {
	Tag    byte
	Offset int    // of the tag, in what was read
	Value  []byte // part of what was read; nil for padding
}

// Elements reads elements one behind the other; base is added to their offsets. It fails if one is cut off.
func Elements(b []byte, base int) ([]Element, error) {
	var out []Element
	for i := 0; i < len(b); {
		e := Element{Tag: b[i], Offset: base + i}
		if e.Tag == TagPadding {
			out = append(out, e)
			i++
			continue
		}
		if len(b)-i < 3 {
			return nil, broken("a tag has no length")
		}
		n := int(binary.BigEndian.Uint16(b[i+1:]))
		if len(b)-i-3 < n {
			return nil, broken("a value is cut off")
		}
		e.Value = b[i+3 : i+3+n : i+3+n]
		out = append(out, e)
		i += 3 + n
	}
	return out, nil
}

// Append appends one element. The value must be shorter than 64 KiB.
func Append(b []byte, tag byte, value []byte) []byte {
	b = binary.BigEndian.AppendUint16(append(b, tag), uint16(len(value)))
	return append(b, value...)
}

// AppendText appends a text with the zero byte that ends it.
func AppendText(b []byte, tag byte, text string) []byte {
	return Append(b, tag, append([]byte(text), 0))
}

// Text returns the text of a value: without the zero byte that ends it, and of printable characters only.
func (e Element) Text() string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == 0xfffd {
			return '?'
		}
		return r
	}, strings.TrimSuffix(string(e.Value), "\x00"))
}

// Name writes a distinguished name (DER) as these files have it: the parts in the order of the certificate, each as RFC 4514 has it.
func Name(raw []byte) (string, error) {
	var seq pkix.RDNSequence
	if rest, err := asn1.Unmarshal(raw, &seq); err != nil || len(rest) > 0 {
		return "", broken("the name in a certificate cannot be read")
	}
	parts := make([]string, len(seq))
	for i, rdn := range seq {
		parts[i] = pkix.RDNSequence{rdn}.String()
	}
	return strings.Join(parts, ","), nil
}

func broken(text string) error {
	return &ringfence.Fault{Op: "signedfile.read", Kind: ringfence.KindInvalid, Text: "the file is damaged or of another kind: " + text}
}

func fault(op string, k ringfence.Kind, text, hint string, cause error) error {
	return &ringfence.Fault{Op: op, Kind: k, Text: text, Hint: hint, Err: cause}
}
