package enroll

import (
	"crypto/rand"
	"fmt"
	"math/big"
	"strings"

	"golang.org/x/crypto/argon2"

	"ringfence"
)

// An activation code has 16 digits; the first 4 find it.
const (
	codeDigits   = 16
	lookupDigits = 4
)

// ParseCode reads a code as people type it, with spaces and dashes anywhere, and returns its 16 digits.
func ParseCode(text string) (string, error) {
	bad := fault("enroll.code", ringfence.KindInvalid, "an activation code has 16 digits", "type it as 1234 5678 9012 3456", nil)
	if len(text) > 128 {
		return "", bad
	}
	digits := make([]byte, 0, codeDigits)
	for _, r := range text {
		switch {
		case r >= '0' && r <= '9' && len(digits) < codeDigits:
			digits = append(digits, byte(r))
		case strings.ContainsRune(" \t\r\n-\u00a0\u2010\u2011\u2012\u2013\u2212", r): // what telephones and mail programs make of them
		default:
			return "", bad
		}
	}
	if len(digits) != codeDigits {
		return "", bad
	}
	return string(digits), nil
}

// FormatCode returns a code in the form it is read out: "1234 5678 9012 3456".
func FormatCode(code string) string {
	var b strings.Builder
	for i := 0; i < len(code); i++ {
		if i > 0 && i%4 == 0 {
			b.WriteByte(' ')
		}
		b.WriteByte(code[i])
	}
	return b.String()
}

// newCode returns 16 random digits, each code equally likely.
func newCode() (string, error) {
	n, err := rand.Int(rand.Reader, new(big.Int).Exp(big.NewInt(10), big.NewInt(codeDigits), nil))
	if err != nil {
		return "", fault("enroll.code", ringfence.KindInternal, "no random number could be made", "", err)
	}
	return fmt.Sprintf("%0*d", codeDigits, n), nil
}

// Cost says how much work one guess at a code is: argon2id (RFC 9106).
type Cost struct {
	Passes uint32 `json:"t"`
	KiB    uint32 `json:"m"`
	Lanes  uint8  `json:"p"`
}

func defaultCost() Cost { return Cost{Passes: 2, KiB: 19 << 10, Lanes: 1} }

// check bounds the cost, so that a strange node can neither make the search cheap nor the device run out of memory.
func (c Cost) check() error {
	if c.Passes < 1 || c.Passes > 10 || c.KiB < 8<<10 || c.KiB > 256<<10 || c.Lanes < 1 || c.Lanes > 4 || c.Passes*c.KiB < 16<<10 {
		return fault("enroll.code", ringfence.KindInvalid, "the cost of an activation code is out of bounds", "1 to 10 passes over 8 to 256 MiB", nil)
	}
	return nil
}

// text is the form kept with a code; readCost reads it.
func (c Cost) text() string { return fmt.Sprintf("argon2id t=%d m=%d p=%d", c.Passes, c.KiB, c.Lanes) }

func readCost(s string) (c Cost, err error) {
	if _, err := fmt.Sscanf(s, "argon2id t=%d m=%d p=%d", &c.Passes, &c.KiB, &c.Lanes); err != nil {
		return c, fault("enroll.code", ringfence.KindInternal, "the cost kept with a code cannot be read", "", err)
	}
	return c, c.check()
}

// verifier derives V, 32 bytes, from all 16 digits.
func verifier(code string, salt []byte, c Cost) []byte {
	return argon2.IDKey([]byte(code), salt, c.Passes, c.KiB, c.Lanes, 32)
}

func fault(op string, k ringfence.Kind, text, hint string, cause error) error {
	return &ringfence.Fault{Op: op, Kind: k, Text: text, Hint: hint, Err: cause}
}
