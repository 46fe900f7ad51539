package dialplan

import (
	"fmt"
	"slices"
	"strings"

	"ringfence"
)

// Class is a toll class: what kind of destination a number is. What a user may call is the highest class allowed to them.
type Class string

// The toll classes, cheapest first.
const (
	Internal      Class = "internal"
	Local         Class = "local"
	National      Class = "national"
	Mobile        Class = "mobile"
	International Class = "international"
	Premium       Class = "premium"
	Emergency     Class = "emergency" // never blocked
)

// Classes returns the classes that a user may be given, cheapest first.
func Classes() []Class { return []Class{Internal, Local, National, Mobile, International, Premium} }

// Allows reports whether a user who may call up to c may call class d. Premium numbers need premium itself, since they are
// not simply "further" than international ones.
func (c Class) Allows(d Class) bool {
	if d == Emergency || d == Internal {
		return true
	}
	return slices.Index(Classes(), d) <= slices.Index(Classes(), c)
}

// Rule gives the numbers that start with Prefix a class; the longest prefix wins. Prefixes are E.164 with "+".
type Rule struct {
	Prefix string `yaml:"prefix" json:"prefix"`
	Class  Class  `yaml:"class" json:"class"`
}

// Strategy says how a hunt group rings its members.
type Strategy string

// The strategies.
const (
	RingAll     Strategy = "all"
	Sequential  Strategy = "sequential"
	RoundRobin  Strategy = "round-robin"
	LongestIdle Strategy = "longest-idle"
)

// Group is a hunt group.
type Group struct {
	Number   ringfence.Number   `yaml:"number" json:"number"`
	Name     string             `yaml:"name" json:"name"`
	Strategy Strategy           `yaml:"strategy" json:"strategy"`
	Members  []ringfence.UserID `yaml:"members" json:"members"`
	Seconds  int                `yaml:"seconds" json:"seconds"`             // how long one member (or all of them) rings; 0 means 20
	Overflow string             `yaml:"overflow,omitempty" json:"overflow"` // where the call goes if nobody answers
}

// Recording is a number that plays a sound file and hangs up, such as opening hours.
type Recording struct {
	Number ringfence.Number `yaml:"number" json:"number"`
	Name   string           `yaml:"name,omitempty" json:"name,omitempty"`
	File   string           `yaml:"file" json:"file"`                       // WAV, mono, 8000 or 16000 Hz
	Times  int              `yaml:"times,omitempty" json:"times,omitempty"` // how often it is played; 0 means once
}

// Feature is what a feature code does.
type Feature string

// The features.
const (
	PickupGroup  Feature = "pickup"   // *8: answer whatever rings nearby; *8NUMBER: what rings at NUMBER
	Park         Feature = "park"     // *70 as the target of a transfer: park the call; *70SLOT: in that slot
	Retrieve     Feature = "retrieve" // *71SLOT: take a parked call
	ForwardAll   Feature = "forward"  // *72NUMBER forwards always, *73 ends it
	ForwardOff   Feature = "forward-off"
	DisturbOn    Feature = "dnd-on"  // *78
	DisturbOff   Feature = "dnd-off" // *79
	EchoTest     Feature = "echo"    // *43
	Announcement Feature = "time"    // *60: a tone of known pitch, for testing a phone alone
)

// Plan is the dial plan of a site. It is a value: changing a copy changes nothing else.
type Plan struct {
	Country       string      `yaml:"country" json:"country"`                     // country calling code, e.g. "49"
	Area          string      `yaml:"area" json:"area"`                           // area code without prefix, e.g. "30"
	National      string      `yaml:"national" json:"national"`                   // national prefix, e.g. "0"
	International string      `yaml:"international" json:"international"`         // international prefix, e.g. "00"
	Outside       string      `yaml:"outside" json:"outside"`                     // prefix for an outside line; may be empty
	Emergency     []string    `yaml:"emergency" json:"emergency"`                 // numbers that are never blocked
	EmergencyTo   string      `yaml:"emergency-to,omitempty" json:"emergency_to"` // an internal number that takes emergency calls, e.g. a guard's desk, if there is no trunk
	Rules         []Rule      `yaml:"rules" json:"rules"`
	Groups        []Group     `yaml:"groups" json:"groups"`
	Recordings    []Recording `yaml:"recordings,omitempty" json:"recordings,omitempty"`
	Trunk         string      `yaml:"trunk,omitempty" json:"trunk"` // name of the trunk for outside calls; empty: none
}

// Default is a plan that works without configuration: internal calls and feature codes only.
func Default() Plan {
	return Plan{Country: "1", National: "1", International: "011", Emergency: []string{"112", "911"}}
}

// Validate reports the first contradiction.
func (p Plan) Validate() error {
	for _, r := range p.Rules {
		if !strings.HasPrefix(r.Prefix, "+") || !slices.Contains(Classes(), r.Class) {
			return invalid(fmt.Sprintf("rule %q → %q: a prefix starts with + and the class is one of %v", r.Prefix, r.Class, Classes()))
		}
	}
	seen := map[ringfence.Number]bool{}
	for _, g := range p.Groups {
		switch {
		case g.Number == "" || len(g.Members) == 0:
			return invalid(fmt.Sprintf("group %q needs a number and members", g.Name))
		case seen[g.Number]:
			return invalid(fmt.Sprintf("two groups have the number %s", g.Number))
		case !slices.Contains([]Strategy{RingAll, Sequential, RoundRobin, LongestIdle}, g.Strategy):
			return invalid(fmt.Sprintf("group %s: unknown strategy %q; use all, sequential, round-robin or longest-idle", g.Number, g.Strategy))
		}
		for i, m := range g.Members {
			if slices.Contains(g.Members[:i], m) {
				return invalid(fmt.Sprintf("group %s: %s is in it twice", g.Number, m))
			}
		}
		seen[g.Number] = true
	}
	for _, r := range p.Recordings {
		switch {
		case r.Number == "" || r.File == "":
			return invalid(fmt.Sprintf("recording %q needs a number and a file", r.Name))
		case seen[r.Number]:
			return invalid(fmt.Sprintf("two groups or recordings have the number %s", r.Number))
		case r.Times < 0 || r.Times > 100:
			return invalid(fmt.Sprintf("recording %s: it cannot be played %d times; 1 to 100 make sense", r.Number, r.Times))
		}
		seen[r.Number] = true
	}
	if len(p.Emergency) == 0 {
		return invalid("the plan has no emergency number")
	}
	if to := clean(p.EmergencyTo); slices.ContainsFunc(p.Emergency, func(e string) bool { return to == e || p.Outside != "" && to == p.Outside+e }) {
		return invalid(fmt.Sprintf("emergency-to: %s is an emergency number itself; name who takes emergency calls here", p.EmergencyTo))
	}
	return nil
}

func invalid(text string) error {
	return &ringfence.Fault{Op: "dialplan", Kind: ringfence.KindInvalid, Text: text}
}
