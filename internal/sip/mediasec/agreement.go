package mediasec

import (
	"bytes"
	"slices"
	"strings"
	"sync"

	"ringfence/internal/sip"
)

// Who begins.
type Who string

// The sides that can begin.
const (
	Nobody Who = ""
	Client Who = "client"
	Server Who = "server"
)

// The words on the wire.
const (
	Tag           = "mediasec"           // option tag, and parameter
	Offer         = "sdes-srtp;mediasec" // the one mechanism of this client
	Attribute     = "3ge2ae"             // of SDP (3GPP TS 24.229)
	Requested     = "requested"          // in an offer
	Applied       = "applied"            // in an answer
	mechanism     = "sdes-srtp"
	serverField   = "Security-Server"
	clientField   = "Security-Client"
	verifyField   = "Security-Verify"
	maxMechanisms = 8
	maxLength     = 256 // of one
)

// State is where an agreement stands.
type State string

// The states.
const (
	Off       State = "off"
	Waiting   State = "the server has not begun"
	Asked     State = "asked"
	Agreed    State = "agreed"
	Unknown   State = "the server does not know it"
	Different State = "the server seals media in no way that this phone can"
)

// Agreement is that of one client with one server at a time. Its methods may be called from any goroutine.
type Agreement struct {
	mu     sync.Mutex
	who    Who
	list   []string // the server's, word for word
	state  State
	again  int  // refusals that were answered in a row
	barred bool // the server does not know it, and is not asked again
}

// New returns an agreement that somebody begins.
func New(who Who) *Agreement {
	a := &Agreement{who: who}
	a.Reset()
	return a
}

// Reset forgets the server: the next one has a list of its own.
func (a *Agreement) Reset() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.list, a.again, a.barred = nil, 0, false
	a.state = map[Who]State{Client: Asked, Server: Waiting}[a.who]
	if a.who == Nobody {
		a.state = Off
	}
}

// State returns where it stands, and the server's list.
func (a *Agreement) State() (State, []string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.state, slices.Clone(a.list)
}

// Agreed reports whether the server and this client seal media by keys in SDP.
func (a *Agreement) Agreed() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.state == Agreed
}

// Write adds the fields to a request. ACK and CANCEL have none: nobody could answer them.
func (a *Agreement) Write(w *sip.Writer, method sip.Method) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.who == Nobody || a.barred || method == sip.ACK || method == sip.CANCEL {
		return
	}
	begins := a.who == Client && method == sip.REGISTER
	if !begins && a.state != Agreed {
		return
	}
	if begins {
		w.Named(clientField, Offer)
	}
	if a.state == Agreed {
		for _, v := range a.list {
			w.Named(verifyField, v)
		}
	}
	w.Header(sip.HeaderRequire, Tag)
	w.Header(sip.HeaderProxyRequire, Tag)
}

// maxAgain bounds how often one request is sent again because of what its refusals say.
const maxAgain = 2

// Heard takes a response to a request of the client. It reports whether the request is to be sent again, since it was refused (420, 421, 494) and can do better now. With a challenge (401, 407) that is for who answers it to decide.
func (a *Agreement) Heard(m *sip.Message) (retry bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	status := m.Status()
	if a.who == Nobody || status < 200 {
		return false
	}
	list := Read(m)
	changed := len(list) > 0 && !slices.Equal(list, a.list)
	if len(list) > 0 {
		a.list, a.state = list, Different
		if slices.ContainsFunc(list, ours) {
			a.state = Agreed
		}
	}
	switch status {
	case 420:
		if !lists(m, sip.HeaderUnsupported) || a.barred {
			return false
		}
		a.barred, a.list, a.state = true, nil, Unknown
		return true
	case 421:
		if !lists(m, sip.HeaderRequire) || a.who == Client || a.again >= maxAgain {
			return false
		}
		a.who, a.state = Client, Asked
		a.again++
		return true
	case 494:
		if a.state != Agreed || !changed && a.again > 0 || a.again >= maxAgain {
			return false
		}
		a.again++
		return true
	case 401, 407:
	default:
		if status < 300 {
			a.again = 0
		}
	}
	return false
}

// ours reports whether a mechanism is the one of this client.
func ours(v string) bool {
	name, _, _ := strings.Cut(v, ";")
	return strings.EqualFold(strings.TrimSpace(name), mechanism)
}

// lists reports whether a field of option tags has ours.
func lists(m *sip.Message, id sip.HeaderID) bool { return m.HasOption(id, Tag) }

// Read returns the mechanisms of media that a server lists, each as it stands there. What has no parameter mediasec is about the way to the next hop, and not for us.
func Read(m *sip.Message) (out []string) {
	for _, f := range m.Fields() {
		if !sip.EqualFold(f[0], serverField) {
			continue
		}
		for v := range sip.Values(f[1]) {
			v = bytes.TrimSpace(v)
			if len(v) == 0 || len(v) > maxLength || bytes.ContainsFunc(v, func(r rune) bool { return r < ' ' || r == 0x7f }) || !isMedia(string(v)) {
				continue
			}
			if len(out) == maxMechanisms {
				return out
			}
			out = append(out, string(v))
		}
	}
	return out
}

func isMedia(v string) bool {
	parts := strings.Split(v, ";")
	return slices.ContainsFunc(parts[1:], func(p string) bool { return strings.EqualFold(strings.TrimSpace(p), Tag) })
}
