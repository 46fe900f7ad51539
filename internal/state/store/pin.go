package store

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"strings"

	"golang.org/x/crypto/argon2"

	"ringfence"
)

// The cost of a PIN's hash: 19 MiB, two passes, one lane. A PIN is short, so wrong tries must also be counted by whoever asks for it.
const (
	pinPasses = 2
	pinKiB    = 19 << 10
	pinLanes  = 1
)

// HashPIN returns the argon2id hash of a PIN of 4 to 16 digits, for User.PINHash.
func HashPIN(pin string) (string, error) {
	if len(pin) < 4 || len(pin) > 16 || strings.Trim(pin, "0123456789") != "" {
		return "", fault("store.pin", ringfence.KindInvalid, "a PIN has 4 to 16 digits", "", nil)
	}
	salt := make([]byte, 16)
	rand.Read(salt)
	sum := argon2.IDKey([]byte(pin), salt, pinPasses, pinKiB, pinLanes, 32)
	return fmt.Sprintf("argon2id$%d$%d$%d$%s$%s", pinPasses, pinKiB, pinLanes, base64.RawStdEncoding.EncodeToString(salt), base64.RawStdEncoding.EncodeToString(sum)), nil
}

// CheckPIN reports whether pin is the one that hash was made of. An empty or damaged hash fits no PIN.
func CheckPIN(hash, pin string) bool {
	part := strings.Split(hash, "$")
	if len(part) != 6 || len(pin) > 16 || strings.Join(part[:4], "$") != fmt.Sprintf("argon2id$%d$%d$%d", pinPasses, pinKiB, pinLanes) {
		return false
	}
	salt, err1 := base64.RawStdEncoding.DecodeString(part[4])
	want, err2 := base64.RawStdEncoding.DecodeString(part[5])
	if err1 != nil || err2 != nil || len(want) != 32 {
		return false
	}
	return subtle.ConstantTimeCompare(argon2.IDKey([]byte(pin), salt, pinPasses, pinKiB, pinLanes, 32), want) == 1
}
