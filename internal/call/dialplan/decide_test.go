package dialplan

import (
	"strings"
	"testing"

	"ringfence"
)

func TestDecide(t *testing.T) {
	p := Plan{Country: "49", Area: "30", National: "0", International: "00", Outside: "", Emergency: []string{"112", "110"}, Trunk: "carrier",
		Rules:      []Rule{{"+4915", Mobile}, {"+49900", Premium}},
		Groups:     []Group{{Number: "300", Name: "sales", Strategy: RingAll, Members: []ringfence.UserID{"alice"}}},
		Recordings: []Recording{{Number: "190", Name: "opening hours", File: "/etc/ringfence/hours.wav"}}}
	if err := p.Validate(); err != nil {
		t.Fatal(err)
	}
	owner := func(n ringfence.Number) (ringfence.UserID, bool) {
		if n == "101" || n == "alice" {
			return "alice", true
		}
		return "", false
	}
	for _, c := range []struct {
		dialled string
		allowed Class
		action  Action
		class   Class
		detail  string
	}{
		{"101", "", ToUser, Internal, "alice"},
		{"alice", "", ToUser, Internal, "alice"},
		{"300", "", ToGroup, Internal, "sales"},
		{"190", "", ToRecording, Internal, `the recording "opening hours"`},
		{"112", "", ToEmergency, Emergency, "112"},
		{"*43", "", ToFeature, Internal, "echo"},
		{"*8101", "", ToFeature, Internal, "101"},
		{"*99", "", Refuse, "", "no feature code"},
		{"0301234567", "", Refuse, Local, "may call up to class internal"},
		{"0301234567", Local, ToTrunk, Local, "+49301234567"},
		{"(030) 123-4567", Local, ToTrunk, Local, "+49301234567"},
		{"1234567", Local, ToTrunk, Local, "+49301234567"},
		{"0891234567", Local, Refuse, National, "may call up to class local"},
		{"015112345678", National, Refuse, Mobile, "this is mobile"},
		{"+49900123456", International, Refuse, Premium, "this is premium"},
		{"00331234567", International, ToTrunk, International, "+331234567"},
		{"", "", Refuse, "", "nothing"},
		{"bob", Premium, Refuse, "", "nobody's number"},
	} {
		d := p.Decide(Question{From: "carol", Allowed: c.allowed, Dialled: c.dialled, Owner: owner})
		text := strings.Join(d.Reasons, "; ") + " " + string(d.User) + d.Number + d.Arg
		if d.Action != c.action || d.Class != c.class || !strings.Contains(text, c.detail) {
			t.Errorf("%q allowed %q: got %s class %s (%s), want %s class %s (%s)", c.dialled, c.allowed, d.Action, d.Class, text, c.action, c.class, c.detail)
		}
		if (d.Action == Refuse) != (d.Fault != nil) {
			t.Errorf("%q: refusal and fault must go together", c.dialled)
		}
	}
}

func TestEmergencyWithoutTrunk(t *testing.T) {
	p := Default()
	p.EmergencyTo = "300"
	d := p.Decide(Question{Dialled: "112", Owner: func(ringfence.Number) (ringfence.UserID, bool) { return "", false }})
	if d.Action != ToEmergency || d.Arg != "300" || d.Fault != nil {
		t.Errorf("%+v", d)
	}
}

// Whoever takes emergency calls is somebody: an emergency number there would be asked for itself for ever.
func TestEmergencyToIsSomebody(t *testing.T) {
	for to, good := range map[string]bool{"": true, "300": true, "112": false, "1-1-2": false, "0112": false} {
		p := Plan{Emergency: []string{"112"}, Outside: "0", EmergencyTo: to}
		if err := p.Validate(); (err == nil) != good {
			t.Errorf("%q: %v", to, err)
		}
	}
}

func TestContradictions(t *testing.T) {
	group := func(number string, strategy Strategy, members ...ringfence.UserID) Group {
		return Group{Number: ringfence.Number(number), Strategy: strategy, Members: members}
	}
	for want, change := range map[string]func(p *Plan){
		"a prefix starts with +":     func(p *Plan) { p.Rules = []Rule{{"49", National}} },
		"needs a number and members": func(p *Plan) { p.Groups = []Group{group("300", RingAll)} },
		"bob is in it twice":         func(p *Plan) { p.Groups = []Group{group("300", RingAll, "bob", "carol", "bob")} },
		"two groups have the number": func(p *Plan) { p.Groups = []Group{group("300", RingAll, "bob"), group("300", RingAll, "bob")} },
		"unknown strategy":           func(p *Plan) { p.Groups = []Group{group("300", "nearest", "bob")} },
		"needs a number and a file":  func(p *Plan) { p.Recordings = []Recording{{Number: "190"}} },
		"two groups or recordings": func(p *Plan) {
			p.Groups, p.Recordings = []Group{group("190", RingAll, "bob")}, []Recording{{Number: "190", File: "/x.wav"}}
		},
		"1 to 100 make sense":           func(p *Plan) { p.Recordings = []Recording{{Number: "190", File: "/x.wav", Times: 101}} },
		"has no emergency number":       func(p *Plan) { p.Emergency = nil },
		"is an emergency number itself": func(p *Plan) { p.EmergencyTo = "112" },
	} {
		p := Default()
		change(&p)
		if err := p.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}
