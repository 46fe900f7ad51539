package dot1x

import (
	"bytes"
	"cmp"
	"strings"
	"time"
)

// State is the transaction status, in the words that a phone's menu has, and what the menu leaves out.
type State string

// The states.
const (
	Disabled       State = "Disabled"       // 802.1X is off
	Authenticating State = "Authenticating" // in progress, or nobody has asked yet
	Authenticated  State = "Authenticated"
	Held           State = "Held" // the server refused; it is tried again after a while (IEEE 802.1X-2010 section 8.4)
)

// Status is where the phone stands.
type Status struct {
	State    State     `json:"state"`
	Protocol Method    `json:"protocol,omitempty"` // the method in use
	TLS      string    `json:"tls,omitempty"`      // version and suite
	Server   string    `json:"server,omitempty"`   // subject of the certificate that the server showed
	Since    time.Time `json:"since,omitzero"`
	Error    string    `json:"error,omitempty"` // why it was refused last
	Hint     string    `json:"hint,omitempty"`
}

const (
	maxReply = 4096
	maxPairs = 100
)

// ParseStatus reads what wpa_supplicant answers to STATUS: lines of names and values.
func ParseStatus(b []byte) map[string]string {
	out := map[string]string{}
	for line := range bytes.Lines(b[:min(len(b), maxReply)]) {
		name, value, ok := strings.Cut(printable(string(line)), "=")
		if ok && len(out) < maxPairs {
			out[name] = value
		}
	}
	return out
}

func printable(s string) string {
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f {
			return ' '
		}
		return r
	}, s))
}

// take puts the answer to STATUS into a status.
func (s *Status) take(pairs map[string]string) {
	state := Authenticating
	switch {
	case pairs["suppPortStatus"] == "Authorized" && pairs["EAP state"] == "SUCCESS":
		state = Authenticated
		s.Error, s.Hint = "", ""
	case pairs["Supplicant PAE state"] == "HELD" || pairs["EAP state"] == "FAILURE":
		state = Held
	}
	s.State = state
	if _, name, ok := strings.Cut(pairs["selectedMethod"], "("); ok { // 13 (EAP-TLS)
		switch m := Method("EAP-" + strings.TrimPrefix(strings.TrimSuffix(name, ")"), "EAP-")); m {
		case TLS, FAST:
			s.Protocol = m
		}
	}
	version, suite := pairs["eap_tls_version"], pairs["EAP TLS cipher"]
	if version != "" || suite != "" {
		s.TLS = strings.Trim(cmp.Or(version, "TLS")+", "+suite, ", ")
	}
}

// Event is one thing that wpa_supplicant told.
type Event struct {
	Name string
	Args map[string]string
	Text string
}

// ParseEvent reads an event: a priority in angle brackets, a name, and what belongs to it, such as depth=0 subject='/CN=x'.
func ParseEvent(b []byte) (e Event, ok bool) {
	s := printable(string(b[:min(len(b), maxReply)]))
	if len(s) < 4 || s[0] != '<' {
		return e, false
	}
	_, s, ok = strings.Cut(s, ">")
	if !ok {
		return e, false
	}
	e.Name, e.Text, _ = strings.Cut(s, " ")
	if !strings.HasPrefix(e.Name, "CTRL-") && !strings.HasPrefix(e.Name, "EAP") {
		e.Text = s
	}
	e.Args = map[string]string{}
	rest := e.Text
	for len(e.Args) < maxPairs {
		name, tail, found := strings.Cut(rest, "=")
		if !found {
			break
		}
		if i := strings.LastIndexByte(name, ' '); i >= 0 {
			name = name[i+1:]
		}
		value := tail
		if strings.HasPrefix(tail, "'") {
			value, rest, _ = strings.Cut(tail[1:], "'")
		} else {
			value, rest, _ = strings.Cut(tail, " ")
		}
		e.Args[name] = value
	}
	return e, true
}

// hear puts an event into a status, and reports whether it says that something came to an end.
func (s *Status) hear(e Event) {
	switch e.Name {
	case "CTRL-EVENT-EAP-PEER-CERT":
		if e.Args["depth"] == "0" {
			s.Server = e.Args["subject"]
		}
	case "CTRL-EVENT-EAP-TLS-CERT-ERROR":
		s.Error = "the certificate of the authentication server is not believed: " + cmp.Or(e.Args["err"], "reason "+e.Args["reason"])
		s.Hint = "is the file of its authority the right one, and the name of the server?"
		if subject := e.Args["subject"]; subject != "" {
			s.Error += " (" + subject + ")"
		}
	case "CTRL-EVENT-EAP-FAILURE":
		s.State = Held
		if s.Error == "" {
			s.Error, s.Hint = "the authentication server refuses the phone", "its log says why; does it believe the authority of the phone's certificate, and is that still valid?"
		}
	case "CTRL-EVENT-EAP-PROPOSED-METHOD":
		if strings.Contains(e.Text, "NAK") && s.Error == "" {
			s.Error, s.Hint = "the authentication server proposes a method that the phone does not have", "let it offer EAP-TLS or EAP-FAST"
		}
	case "CTRL-EVENT-EAP-METHOD":
		s.Error, s.Hint = "", ""
	}
}
