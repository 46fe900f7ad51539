package capf

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/subtle"
	"fmt"
	"slices"
	"strings"
	"time"

	"ringfence"
)

// Operation is what an administrator wants of a device, in the words that administrators of such phones know.
type Operation string

// The operations.
const (
	NoPendingOperation Operation = "No Pending Operation"
	InstallUpgrade     Operation = "Install/Upgrade"
	Delete             Operation = "Delete"
	Troubleshoot       Operation = "Troubleshoot" // fetch the certificate that the phone has
)

// Authentication is how a device proves that it is the one that the order is for.
type Authentication string

// The authentication modes. By existing certificate, a phone shows its LSC or the one that its manufacturer installed (MIC); which comes first
// if it has both is told to it in its configuration file, so the server takes either.
const (
	ByString Authentication = "By Authentication String"
	ByLSC    Authentication = "By Existing Certificate (Precedence to LSC)"
	ByMIC    Authentication = "By Existing Certificate (Precedence to MIC)"
	ByNull   Authentication = "By Null String" // whoever says the name: only under a named exception
)

// Status is how far an order is.
type Status string

// The statuses. All but OperationPending are the end of an order.
const (
	OperationPending    Status = "Operation Pending"
	UpgradeSuccess      Status = "Upgrade Success"
	UpgradeFailed       Status = "Upgrade Failed"
	DeleteSuccess       Status = "Delete Success"
	DeleteFailed        Status = "Delete Failed"
	TroubleshootSuccess Status = "Troubleshoot Success"
	TroubleshootFailed  Status = "Troubleshoot Failed"
)

// success and failed return the end of an order for this operation.
func (o Operation) success() Status {
	switch o {
	case Delete:
		return DeleteSuccess
	case Troubleshoot:
		return TroubleshootSuccess
	}
	return UpgradeSuccess
}

func (o Operation) failed() Status {
	switch o {
	case Delete:
		return DeleteFailed
	case Troubleshoot:
		return TroubleshootFailed
	}
	return UpgradeFailed
}

// Key is a kind and size of key that a phone can be told to make.
type Key string

// The keys. RSA with 512 bits, which the protocol can ask for as well, is not among them: it can be broken in an afternoon.
const (
	RSA1024 Key = "rsa-1024" // only for phones that can do no better, with a reason; see [Order]
	RSA2048 Key = "rsa-2048"
	RSA3072 Key = "rsa-3072"
	RSA4096 Key = "rsa-4096"
	ECP256  Key = "ec-p256"
	ECP384  Key = "ec-p384"
	ECP521  Key = "ec-p521"
)

func (k Key) bits() int {
	switch k {
	case RSA1024:
		return 1024
	case RSA2048:
		return 2048
	case RSA3072:
		return 3072
	case RSA4096:
		return 4096
	}
	return 0
}

// curve returns the curve and its number on the wire; nil for RSA.
func (k Key) curve() (elliptic.Curve, byte) {
	switch k {
	case ECP256:
		return elliptic.P256(), 0
	case ECP384:
		return elliptic.P384(), 1
	case ECP521:
		return elliptic.P521(), 2
	}
	return nil, 0
}

// keyOn returns the key that the elements of a key generate request ask for.
func keyOn(kind byte, bits uint16, curve byte) (Key, bool) {
	for _, k := range [...]Key{RSA1024, RSA2048, RSA3072, RSA4096, ECP256, ECP384, ECP521} {
		c, number := k.curve()
		if kind == 0 && c == nil && k.bits() == int(bits) || kind == 1 && c != nil && number == curve {
			return k, true
		}
	}
	return "", false
}

// matches reports whether a public key is of this kind and size.
func (k Key) matches(pub crypto.PublicKey) bool {
	switch p := pub.(type) {
	case *rsa.PublicKey:
		return k.bits() > 0 && p.N.BitLen() == k.bits() && p.N.Bit(0) == 1 && p.E >= 65537 && p.E&1 == 1
	case *ecdsa.PublicKey:
		c, _ := k.curve()
		return c != nil && p.Curve == c
	}
	return false
}

// The lengths of an authentication string.
const (
	minString = 4
	maxString = 10
)

// Order is what an administrator scheduled for one device.
type Order struct {
	ID        string             // names this order, and no other after it
	Device    ringfence.DeviceID // whose order it is
	Operation Operation
	Auth      Authentication

	String    string // the one-time string, 4 to 10 digits; only with ByString
	Exception string // the name of the exception that allows ByNull
	// Old takes a proof by certificate that is made with SHA-1 and covers no session id. Such a proof can be used again by who received it.
	Old bool

	Key     Key    // what to make; only with InstallUpgrade
	WeakKey string // why RSA1024 is asked for

	CompletesBy time.Time
}

// check says whether an order can be carried out at all; keys are those that the authority certifies.
func (o Order) check(keys []Key) error {
	const op = "capf.order"
	invalid := func(text, hint string) error { return fault(op, ringfence.KindInvalid, text, hint, nil) }
	switch o.Operation {
	case NoPendingOperation:
		return nil
	case InstallUpgrade, Delete, Troubleshoot:
	default:
		return invalid(fmt.Sprintf("there is no operation %.40q", o.Operation), "operations are Install/Upgrade, Delete and Troubleshoot")
	}
	if o.ID == "" || o.Device == "" || o.CompletesBy.IsZero() {
		return invalid("an order needs an id, a device and a time until which it is to be completed", "")
	}
	switch o.Auth {
	case ByString:
		if n := len(o.String); n < minString || n > maxString || strings.Trim(o.String, "0123456789") != "" {
			return invalid("the authentication string is not 4 to 10 digits", "take more digits where they can be typed: four can be guessed in a few thousand tries")
		}
	case ByLSC, ByMIC:
	case ByNull:
		if o.Exception == "" {
			return fault(op, ringfence.KindInsecure, "by null string anybody who says the name of the device gets its certificate", "order it by authentication string, or name the exception that allows it", nil)
		}
	default:
		return invalid(fmt.Sprintf("there is no authentication mode %.60q", o.Auth), "modes are by string, by existing certificate and, as an exception, by null string")
	}
	if o.Operation != InstallUpgrade {
		return nil
	}
	if c, _ := o.Key.curve(); c == nil && o.Key.bits() == 0 {
		return invalid(fmt.Sprintf("a key %.40q cannot be ordered", o.Key), "keys are rsa-2048, rsa-3072, rsa-4096, ec-p256, ec-p384 and ec-p521; RSA with 512 bits is not made at all")
	}
	if o.Key == RSA1024 && o.WeakKey == "" {
		return fault(op, ringfence.KindInsecure, "RSA with 1024 bits is too weak for a certificate of today", "order rsa-2048, or say why this phone cannot", nil)
	}
	if !slices.Contains(keys, o.Key) {
		return fault(op, ringfence.KindUnsupported, "the authority does not certify keys "+string(o.Key), "it certifies "+keyList(keys), nil)
	}
	return nil
}

func keyList(keys []Key) string {
	s := make([]string, len(keys))
	for i, k := range keys {
		s[i] = string(k)
	}
	return strings.Join(s, ", ")
}

// sameString compares in a time that depends on neither.
func sameString(want, got string) bool {
	pad := func(s string) []byte { // both are at most maxString long; the length goes along
		b := make([]byte, maxString+1)
		b[maxString] = byte(copy(b, s))
		return b
	}
	return len(got) <= maxString && subtle.ConstantTimeCompare(pad(want), pad(got)) == 1
}

// Outcome is what became of an order in a session.
type Outcome struct {
	Status      Status
	Reason      string // in words for an administrator; empty with a success that has nothing to add
	At          time.Time
	Source      string // the address of the phone
	Serial      string // of the certificate in question, lower-case hexadecimal
	Certificate []byte // DER: what was installed, or what the phone showed for Troubleshoot
	Locked      bool   // too many attempts were made
}

// Orders keeps what was scheduled. Each method is one atomic step, on all nodes together.
type Orders interface {
	// Pending returns the open order of the device with this name on the wire, such as SEP001122334455, or one with NoPendingOperation. A
	// device that is not known is KindNotFound.
	Pending(ctx context.Context, name string) (Order, error)
	// Spend counts an attempt to be served, before it is known whether it succeeds, and returns how many are left after it; ok is false
	// if none was left before.
	Spend(ctx context.Context, id string) (left int, ok bool, err error)
	// Refuse notes that a session was turned away before it had the order. With OperationPending the order stays open; any other status is its
	// end. An order that some session has claimed, or that is over, stays as it is.
	Refuse(ctx context.Context, id string, o Outcome) error
	// Claim gives the order to one session until a time; KindConflict if another one has it and its time is not over, or if the order is. orphan
	// is the serial that a session before it noted with Issued without coming to its Record: its node stopped, or the store failed.
	Claim(ctx context.Context, id, session string, until time.Time) (orphan string, err error)
	// Issued notes the serial of a certificate before the phone gets it.
	Issued(ctx context.Context, id, session, serial string) error
	// Record ends a session's claim, and unless the status is OperationPending the order with it; KindConflict if the session does not have the
	// claim. A claim whose time is over is the session's until another session takes it.
	Record(ctx context.Context, id, session string, o Outcome) error
	// Stale returns the claims whose time was over at now, and the open orders without a claim that were to be completed before now.
	Stale(ctx context.Context, now time.Time) (abandoned []Abandoned, overdue []Order, err error)
}

// Abandoned is a claim that no session will record.
type Abandoned struct {
	Order     string
	Operation Operation
	Session   string
	Serial    string // of a certificate that does not count; may be empty
}
