package sdp

import (
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"strings"

	"ringfence"
)

// The SRTP suites that the product seals media with (RFC 7714, RFC 4568).
const (
	AES256GCM = "AEAD_AES_256_GCM"
	AES128GCM = "AEAD_AES_128_GCM"
	AESCM128  = "AES_CM_128_HMAC_SHA1_80"
)

// Suites returns the supported suites, best first.
func Suites() [3]string { return [3]string{AES256GCM, AES128GCM, AESCM128} }

// Crypto is one a=crypto line (RFC 4568 section 9.1). Printing or logging it shows the suite and never the key.
type Crypto struct {
	Tag    int    // 1 to 999,999,999
	Suite  string // e.g. AES256GCM
	Inline string `json:"-"` // after "inline:": base64 of master key and salt, then "|lifetime" and "|MKI:length" if given
	Params string // session parameters, separated by spaces; may be empty

	good bool // Key is known to succeed
}

// String returns the line without the key.
func (c Crypto) String() string { return fmt.Sprintf("%d %s inline:redacted", c.Tag, c.Suite) }

// GoString returns the same as String.
func (c Crypto) GoString() string { return c.String() }

// LogValue returns the line without the key.
func (c Crypto) LogValue() slog.Value { return slog.StringValue(c.String()) }

// suiteSizes returns the bytes of master key and salt of a supported suite (RFC 7714 section 12, RFC 4568 section 6.2).
func suiteSizes(suite string) (key, salt int, ok bool) {
	switch suite {
	case AES256GCM:
		return 32, 12, true
	case AES128GCM:
		return 16, 12, true
	case AESCM128:
		return 16, 14, true
	}
	return 0, 0, false
}

// NewCrypto makes a line with a fresh key read from random (use crypto/rand.Reader).
func NewCrypto(tag int, suite string, random io.Reader) (Crypto, error) {
	key, salt, ok := suiteSizes(suite)
	if !ok {
		return Crypto{}, &ringfence.Fault{Op: "sdp.crypto", Kind: ringfence.KindUnsupported, Text: "the SRTP suite is not supported"}
	}
	var buf [64]byte
	if _, err := io.ReadFull(random, buf[:key+salt]); err != nil {
		return Crypto{}, noRandomness(err)
	}
	inline := base64.StdEncoding.EncodeToString(buf[:key+salt])
	clear(buf[:])
	return Crypto{Tag: tag, Suite: suite, Inline: inline, good: true}, nil
}

// NewCryptos makes one line a supported suite, best first, tagged from 1.
func NewCryptos(random io.Reader) ([]Crypto, error) {
	var buf [128]byte // one read for all: asking for randomness costs more than the bytes
	if _, err := io.ReadFull(random, buf[:]); err != nil {
		return nil, noRandomness(err)
	}
	defer clear(buf[:])
	suites := Suites()
	out := make([]Crypto, 0, len(suites))
	var text [192]byte
	defer clear(text[:])
	rest, end := buf[:], text[:0]
	var ends [len(suites)]int
	for i, suite := range suites {
		key, salt, _ := suiteSizes(suite)
		end = base64.StdEncoding.AppendEncode(end, rest[:key+salt])
		ends[i], rest = len(end), rest[key+salt:]
	}
	keys, start := string(end), 0 // one string for all of them
	for i, suite := range suites {
		out = append(out, Crypto{Tag: i + 1, Suite: suite, Inline: keys[start:ends[i]], good: true})
		start = ends[i]
	}
	return out, nil
}

func noRandomness(err error) error {
	return &ringfence.Fault{Op: "sdp.crypto", Kind: ringfence.KindInternal, Text: "no randomness for a media key", Err: err}
}

// Key returns the master key and salt. It fails for everything that we could not seal with: an unknown suite, a key of
// the wrong length, a master key index, or session parameters that weaken or change SRTP. The error names the cause and
// never holds the key.
func (c Crypto) Key() (key, salt []byte, err error) {
	var room keyRoom
	defer clear(room[:])
	raw, keyLen, err := c.decode(&room)
	if err != nil {
		return nil, nil, err
	}
	own := append([]byte(nil), raw...)
	return own[:keyLen:keyLen], own[keyLen:], nil
}

// keyRoom has room for the longest key and salt, and to spare, so that a longer one is seen to be longer.
type keyRoom [64]byte

// decode writes the master key and salt into room; the first keyLen bytes are the key.
func (c *Crypto) decode(room *keyRoom) (raw []byte, keyLen int, err error) {
	keyLen, saltLen, ok := suiteSizes(c.Suite)
	if !ok {
		return nil, 0, cryptoFault(c, "its suite is not supported")
	}
	if c.Params != "" {
		for p := range strings.FieldsSeq(c.Params) {
			// RFC 4568 section 6.3: window size hints do no harm; a leading "-" marks what may be ignored.
			if !strings.HasPrefix(p, "WSH=") && !strings.HasPrefix(p, "-") {
				return nil, 0, cryptoFault(c, "it asks for session parameters that are not supported")
			}
		}
	}
	text, rest, _ := strings.Cut(c.Inline, "|")
	if strings.ContainsAny(rest, ":;") {
		return nil, 0, cryptoFault(c, "it uses a master key index or several keys")
	}
	if rest != "" && !validLifetime(rest) {
		return nil, 0, cryptoFault(c, "its key lifetime is malformed")
	}
	n, ok := decodeKey(room[:], text)
	if !ok || n != keyLen+saltLen {
		return nil, 0, cryptoFault(c, "its key has the wrong length")
	}
	return room[:n], keyLen, nil
}

// decodeKey decodes base64 with or without its padding.
func decodeKey(to []byte, text string) (n int, ok bool) {
	var source [len(keyRoom{}) / 3 * 4]byte
	if len(text) > len(source) {
		return 0, false
	}
	defer clear(source[:])
	b := source[:copy(source[:], text)]
	n, err := base64.StdEncoding.Decode(to, b)
	if err != nil {
		n, err = base64.RawStdEncoding.Decode(to, b)
	}
	return n, err == nil
}

// Supported reports whether Key succeeds.
func (c Crypto) Supported() bool { return c.good || c.check() == nil }

// check returns the error of Key, and keeps no key.
func (c *Crypto) check() error {
	var room keyRoom
	defer clear(room[:])
	_, _, err := c.decode(&room)
	return err
}

func cryptoFault(c *Crypto, why string) error {
	return &ringfence.Fault{Op: "sdp.crypto", Kind: ringfence.KindInsecure,
		Text: "a=crypto with tag " + strconv.Itoa(c.Tag) + " cannot be used: " + why}
}

// validLifetime accepts "2^n" and a decimal number of packets (RFC 4568 section 6.1).
func validLifetime(s string) bool {
	s = strings.TrimPrefix(s, "2^")
	n, err := strconv.ParseUint(s, 10, 48)
	return err == nil && n > 0
}

// parseCrypto reads "tag suite inline:key [params]".
func parseCrypto(v string) (Crypto, bool) {
	tagText, rest, _ := cut(v, ' ')
	suite, rest, _ := cut(strings.TrimLeft(rest, " "), ' ')
	keys, params, _ := strings.Cut(strings.TrimLeft(rest, " "), " ")
	tag, ok := number(tagText, 999999999)
	if !ok || suite == "" || len(keys) <= len("inline:") || !is(keys[:7], "inline:") {
		return Crypto{}, false
	}
	c := Crypto{Tag: int(tag), Suite: suite, Inline: keys[7:]}
	if params != "" {
		c.Params = strings.Join(strings.Fields(params), " ")
	}
	c.good = c.check() == nil
	return c, true
}
