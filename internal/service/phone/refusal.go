package phone

import (
	"fmt"
	"strconv"
	"strings"

	"ringfence"
	"ringfence/internal/sip"
)

// RejectedError is what the far end said when it refused. It is the cause inside a [ringfence.Fault].
type RejectedError struct {
	Status  int    // final response
	Phrase  string // its reason phrase
	Cause   int    // Q.850 cause of the Reason field (RFC 3326), 0 if none
	Reason  string // its text
	Warning string // text of the first Warning (RFC 3261 section 20.43)
}

// Error returns status, phrase and the far end's explanation.
func (e *RejectedError) Error() string {
	text := strings.TrimSpace(fmt.Sprintf("%d %s", e.Status, e.Phrase))
	for _, more := range []string{e.Warning, e.Reason} {
		if more != "" {
			return text + " (" + more + ")"
		}
	}
	return text
}

// refusal makes a fault of a final response. m lives on no longer than the call.
func refusal(op, text string, m *sip.Message) error {
	e := &RejectedError{Status: m.Status(), Phrase: string(m.Reason())}
	e.Cause, e.Reason = parseReason(m.Get(sip.HeaderReason))
	e.Warning = warningText(string(m.Get(sip.HeaderWarning)))
	return rejected(op, text, e)
}

func rejected(op, text string, e *RejectedError) error {
	return &ringfence.Fault{Op: op, Kind: kindOfStatus(e), Text: text, Err: e}
}

// kindOfStatus maps a final response to a kind. A 488 is about security unless its cause says that it is about something
// else.
func kindOfStatus(e *RejectedError) ringfence.Kind {
	switch e.Status {
	case 401, 407:
		return ringfence.KindUnauthenticated
	case 403:
		return ringfence.KindDenied
	case 404, 410, 484, 604, 481:
		return ringfence.KindNotFound
	case 408, 504:
		return ringfence.KindTimeout
	case 486, 600, 603:
		return ringfence.KindBusy
	case 487:
		return ringfence.KindCancelled
	case 488, 606:
		if e.Cause != 0 && e.Cause != ringfence.KindInsecure.Q850() {
			return ringfence.KindUnsupported
		}
		return ringfence.KindInsecure
	case 491:
		return ringfence.KindConflict
	case 503:
		return ringfence.KindOverload
	case 405, 415, 416, 420, 489, 501:
		return ringfence.KindUnsupported
	case 400, 482, 483:
		return ringfence.KindInvalid
	}
	return ringfence.KindUnavailable
}

// parseReason reads the first Q.850 or SIP value of a Reason field.
func parseReason(v []byte) (cause int, text string) {
	for value := range sip.Values(v) {
		protocol, params, _ := strings.Cut(string(value), ";")
		if t, ok := sip.Params(params).Get("text"); ok {
			text = string(t)
		}
		if strings.EqualFold(strings.TrimSpace(protocol), "Q.850") {
			if c, ok := sip.Params(params).Get("cause"); ok {
				cause, _ = strconv.Atoi(string(c))
			}
			return cause, text
		}
	}
	return 0, text
}

// warningText returns what stands between the quotes of a Warning value.
func warningText(v string) string {
	open := strings.IndexByte(v, '"')
	if open < 0 {
		return ""
	}
	var b strings.Builder
	for i := open + 1; i < len(v) && v[i] != '"'; i++ {
		if v[i] == '\\' && i+1 < len(v) {
			i++
		}
		b.WriteByte(v[i])
	}
	return b.String()
}
