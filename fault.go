package ringfence

import (
	"errors"
	"strings"
)

// Kind classifies a [Fault]. It is a closed list, so that each edge (SIP, HTTP, Q.850, exit code) maps it in one place.
type Kind uint8

// The kinds of fault. The zero value, KindInternal, is a defect of ours.
const (
	KindInternal        Kind = iota // our defect
	KindInvalid                     // the request is malformed or contradicts itself
	KindNotFound                    // no such thing
	KindConflict                    // it exists already, or has changed meanwhile
	KindUnauthenticated             // we do not know who asks
	KindDenied                      // we know who asks, and they may not
	KindInsecure                    // it could not be sealed, and no exception covers it
	KindBusy                        // the far end is busy or declines
	KindOverload                    // we are, or a peer is, too busy; try later
	KindUnavailable                 // nobody answers there now
	KindTimeout                     // it took too long
	KindUnsupported                 // we understand but do not offer this
	KindCancelled                   // the asker gave up
)

type kindRow struct {
	name   string
	sip    int // RFC 3261 section 21, RFC 3265
	phrase string
	http   int
	q850   int // ITU-T Q.850 cause
	exit   int // sysexits-like, documented in docs/guides/cli.md
}

func (k Kind) row() kindRow {
	switch k {
	case KindInvalid:
		return kindRow{"invalid", 400, "Bad Request", 400, 95, 2}
	case KindNotFound:
		return kindRow{"not found", 404, "Not Found", 404, 1, 3}
	case KindConflict:
		return kindRow{"conflict", 491, "Request Pending", 409, 41, 4}
	case KindUnauthenticated:
		return kindRow{"unauthenticated", 401, "Unauthorized", 401, 21, 5}
	case KindDenied:
		return kindRow{"denied", 403, "Forbidden", 403, 21, 5}
	case KindInsecure:
		return kindRow{"insecure", 488, "Not Acceptable Here", 403, 58, 6}
	case KindBusy:
		return kindRow{"busy", 486, "Busy Here", 409, 17, 7}
	case KindOverload:
		return kindRow{"overload", 503, "Service Unavailable", 503, 42, 7}
	case KindUnavailable:
		return kindRow{"unavailable", 480, "Temporarily Unavailable", 503, 20, 7}
	case KindTimeout:
		return kindRow{"timeout", 408, "Request Timeout", 504, 102, 8}
	case KindUnsupported:
		return kindRow{"unsupported", 501, "Not Implemented", 501, 79, 9}
	case KindCancelled:
		return kindRow{"cancelled", 487, "Request Terminated", 499, 16, 10}
	default:
		return kindRow{"internal", 500, "Server Internal Error", 500, 41, 1}
	}
}

// String returns the kind in words, e.g. "not found".
func (k Kind) String() string { return k.row().name }

// SIP returns the response code and reason phrase for this kind (RFC 3261 section 21).
func (k Kind) SIP() (code int, phrase string) { r := k.row(); return r.sip, r.phrase }

// HTTP returns the status code for this kind (RFC 9110).
func (k Kind) HTTP() int { return k.row().http }

// Q850 returns the ITU-T Q.850 cause value for this kind, as carried in a Reason header (RFC 3326).
func (k Kind) Q850() int { return k.row().q850 }

// Exit returns the exit code a command ends with for this kind; it is never 0.
func (k Kind) Exit() int { return k.row().exit }

// Fault is the one error shape of the project. Text and Hint are safe to show to a user and never hold secrets.
type Fault struct {
	Op   string // what was being done, e.g. "registrar.bind"
	Kind Kind   // what sort of trouble
	Text string // what happened, in words a user can act on
	Hint string // what to do about it; may be empty
	Err  error  // the cause; may be nil
}

// Error returns "op: text: cause", without the hint.
func (f *Fault) Error() string {
	parts := make([]string, 0, 3)
	for _, s := range []string{f.Op, f.Text} {
		if s != "" {
			parts = append(parts, s)
		}
	}
	if f.Err != nil {
		parts = append(parts, f.Err.Error())
	}
	if len(parts) == 0 {
		return f.Kind.String()
	}
	return strings.Join(parts, ": ")
}

// Unwrap returns the cause.
func (f *Fault) Unwrap() error { return f.Err }

// KindOf returns the kind of the outermost fault in err's chain, and KindInternal for any other error.
func KindOf(err error) Kind {
	if f, ok := errors.AsType[*Fault](err); ok {
		return f.Kind
	}
	return KindInternal
}

// HintOf returns the first hint in err's chain, or "".
func HintOf(err error) string {
	for err != nil {
		f, ok := errors.AsType[*Fault](err)
		if !ok {
			return ""
		}
		if f.Hint != "" {
			return f.Hint
		}
		err = f.Err
	}
	return ""
}
