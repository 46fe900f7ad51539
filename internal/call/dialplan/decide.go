package dialplan

import (
	"cmp"
	"fmt"
	"strings"

	"ringfence"
)

// Question is what the plan is asked.
type Question struct {
	From    ringfence.UserID // who calls; empty for a trunk
	Allowed Class            // the caller's toll class; empty means internal
	Dialled string           // the user part that was dialled
	// Owner says whose number n is, or whether n is a user's name.
	Owner func(n ringfence.Number) (ringfence.UserID, bool)
}

// Action is what becomes of a call.
type Action string

// The actions.
const (
	ToUser      Action = "user"
	ToGroup     Action = "group"
	ToFeature   Action = "feature"
	ToTrunk     Action = "trunk"
	ToEmergency Action = "emergency"
	ToRecording Action = "recording"
	Refuse      Action = "refuse"
)

// Decision is the plan's answer with its reasons, in the order in which they were found.
type Decision struct {
	Action    Action           `json:"action"`
	User      ringfence.UserID `json:"user,omitempty"`
	Group     *Group           `json:"group,omitempty"`
	Feature   Feature          `json:"feature,omitempty"`
	Recording *Recording       `json:"recording,omitempty"`
	Arg       string           `json:"arg,omitempty"`    // argument of a feature code
	Number    string           `json:"number,omitempty"` // E.164 or emergency number for a trunk
	Trunk     string           `json:"trunk,omitempty"`
	Class     Class            `json:"class,omitempty"`
	Reasons   []string         `json:"reasons"`
	Fault     *ringfence.Fault `json:"-"` // why, if Action is Refuse
}

func (d *Decision) because(format string, args ...any) {
	d.Reasons = append(d.Reasons, fmt.Sprintf(format, args...))
}

func (d Decision) refuse(kind ringfence.Kind, hint, format string, args ...any) Decision {
	d.Action = Refuse
	d.because(format, args...)
	d.Fault = &ringfence.Fault{Op: "dialplan", Kind: kind, Text: d.Reasons[len(d.Reasons)-1], Hint: hint}
	return d
}

// Decide answers q. It has no side effects.
func (p Plan) Decide(q Question) Decision {
	var d Decision
	dialled := clean(q.Dialled)
	if dialled == "" || len(dialled) > 64 {
		return d.refuse(ringfence.KindNotFound, "dial a number or a user's name", "nothing that can be dialled was dialled")
	}
	for _, e := range p.Emergency {
		if dialled == e || p.Outside != "" && dialled == p.Outside+e {
			d.Action, d.Number, d.Class, d.Trunk = ToEmergency, e, Emergency, p.Trunk
			d.because("%s is an emergency number: it is never blocked", e)
			d.Arg = p.EmergencyTo
			switch {
			case p.EmergencyTo != "" && p.Trunk == "":
				d.because("there is no trunk; %s takes emergency calls", p.EmergencyTo)
			case p.EmergencyTo != "":
				d.because("trunk %s; if it does not take it, %s does", p.Trunk, p.EmergencyTo)
			case p.Trunk != "":
				d.because("trunk %s", p.Trunk)
			}
			return d
		}
	}
	if dialled[0] == '*' {
		return p.feature(d, dialled)
	}
	for i := range p.Groups {
		if string(p.Groups[i].Number) == dialled {
			d.Action, d.Group, d.Class = ToGroup, &p.Groups[i], Internal
			d.because("%s is the hunt group %q (%s)", dialled, p.Groups[i].Name, p.Groups[i].Strategy)
			return d
		}
	}
	for i := range p.Recordings {
		if r := &p.Recordings[i]; string(r.Number) == dialled {
			d.Action, d.Recording, d.Class = ToRecording, r, Internal
			d.because("%s plays the recording %q", dialled, cmp.Or(r.Name, r.File))
			return d
		}
	}
	if user, ok := q.Owner(ringfence.Number(dialled)); ok {
		d.Action, d.User, d.Class = ToUser, user, Internal
		d.because("%s is a number or the name of user %s", dialled, user)
		return d
	}
	return p.outside(d, q, dialled)
}

// clean removes what people write between digits; names are left alone.
func clean(s string) string {
	s = strings.TrimSpace(s)
	if strings.ContainsFunc(s, func(r rune) bool { return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' }) {
		return s
	}
	return strings.Map(func(r rune) rune {
		if strings.ContainsRune(" -.()/", r) {
			return -1
		}
		return r
	}, s)
}

func (p Plan) feature(d Decision, dialled string) Decision {
	codes := []struct {
		code    string
		feature Feature
		arg     bool
	}{
		{"*70", Park, true}, {"*71", Retrieve, true}, {"*72", ForwardAll, true}, {"*73", ForwardOff, false},
		{"*78", DisturbOn, false}, {"*79", DisturbOff, false}, {"*43", EchoTest, false}, {"*60", Announcement, false},
		{"*8", PickupGroup, true},
	}
	for _, c := range codes {
		arg, ok := strings.CutPrefix(dialled, c.code)
		if ok && (c.arg || arg == "") {
			d.Action, d.Feature, d.Arg, d.Class = ToFeature, c.feature, arg, Internal
			d.because("%s is the feature code for %s", c.code, c.feature)
			return d
		}
	}
	return d.refuse(ringfence.KindNotFound, "see the list of feature codes in docs/guides/calling.md", "%s is no feature code", dialled)
}

func (p Plan) outside(d Decision, q Question, dialled string) Decision {
	digits := dialled
	if p.Outside != "" {
		rest, ok := strings.CutPrefix(dialled, p.Outside)
		if !ok {
			return d.refuse(ringfence.KindNotFound, "for an outside line dial "+p.Outside+" first", "%s is nobody's number here", dialled)
		}
		d.because("%s asks for an outside line", p.Outside)
		digits = rest
	}
	number, ok := p.normalise(digits)
	if !ok {
		return d.refuse(ringfence.KindNotFound, "check the number; `ringfence user list` shows the internal ones", "%s is nobody's number here", dialled)
	}
	d.Number, d.Class = number, p.classify(number)
	d.because("%s is %s in international form, class %s", dialled, number, d.Class)
	allowed := q.Allowed
	if allowed == "" {
		allowed = Internal
	}
	if !allowed.Allows(d.Class) {
		return d.refuse(ringfence.KindDenied, fmt.Sprintf("an administrator can allow it: ringfence user set %s --toll %s", q.From, d.Class),
			"%s may call up to class %s, and this is %s", q.From, allowed, d.Class)
	}
	if p.Trunk == "" {
		return d.refuse(ringfence.KindUnavailable, "configure a trunk", "there is no trunk for outside calls")
	}
	d.Action, d.Trunk = ToTrunk, p.Trunk
	d.because("class %s is allowed; trunk %s", d.Class, p.Trunk)
	return d
}

// normalise turns what was dialled into E.164 with "+".
func (p Plan) normalise(digits string) (string, bool) {
	body, plus := strings.CutPrefix(digits, "+")
	if body == "" || strings.ContainsFunc(body, func(r rune) bool { return r < '0' || r > '9' }) {
		return "", false
	}
	var e164 string
	switch {
	case plus:
		e164 = body
	case p.International != "" && strings.HasPrefix(body, p.International):
		e164 = body[len(p.International):]
	case p.National != "" && strings.HasPrefix(body, p.National):
		e164 = p.Country + body[len(p.National):]
	default:
		e164 = p.Country + p.Area + body
	}
	if len(e164) < 5 || len(e164) > 15 {
		return "", false
	}
	return "+" + e164, true
}

func (p Plan) classify(number string) Class {
	best, class := -1, Class("")
	for _, r := range p.Rules {
		if strings.HasPrefix(number, r.Prefix) && len(r.Prefix) > best {
			best, class = len(r.Prefix), r.Class
		}
	}
	switch {
	case class != "":
		return class
	case p.Area != "" && strings.HasPrefix(number, "+"+p.Country+p.Area):
		return Local
	case strings.HasPrefix(number, "+"+p.Country):
		return National
	}
	return International
}
