package paging

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"ringfence"
	"ringfence/internal/desk/flatprofile"
)

// The names of the parameters.
const (
	ScriptParameter = "Group_Paging_Script"
	ClearParameter  = "Multicast_Paging_In_The_Clear"
)

// Bounds of a script.
const (
	maxScript = 4096 // bytes
	maxGroups = 5
	maxHeard  = 2 // groups that a phone listens to
	maxText   = 64
)

// Priority says what a page does to a call that is up.
type Priority int

// The priorities.
const (
	Emergent  Priority = iota // the call is put on hold until the page is over
	Important                 // both are heard
	Normal                    // the page is heard once the call is over
	Minor                     // the page is passed over during a call; 4 is the same
)

// Group is a group of phones that are paged together.
type Group struct {
	At       netip.AddrPort `json:"at"` // multicast address and port
	Name     string         `json:"name,omitempty"`
	Number   string         `json:"number"` // what is dialled to page it
	Listen   bool           `json:"listens"`
	Priority Priority       `json:"priority"`
}

func bad(format string, args ...any) error {
	return &ringfence.Fault{Op: "paging.script", Kind: ringfence.KindInvalid, Text: fmt.Sprintf(format, args...), Hint: "write pggrp=239.1.2.3:34560;name=All;num=500;listen=yes;pri=2;"}
}

// Parse reads a script of groups, such as "pggrp=239.1.2.3:34560;name=All;num=500;listen=yes;". A phone listens to the first two groups that say so, and to no more.
func Parse(script string) ([]Group, error) {
	if len(script) > maxScript {
		return nil, bad("the script is longer than %d letters", maxScript)
	}
	var groups []Group
	heard := 0
	for part := range strings.SplitSeq(script, ";") {
		name, value, found := strings.Cut(part, "=")
		name, value = strings.ToLower(strings.TrimSpace(name)), strings.TrimSpace(value)
		switch {
		case name == "" && !found:
			continue
		case !found:
			return nil, bad("%.40q says nothing", name)
		case name == "pggrp":
			at, err := netip.ParseAddrPort(value)
			if err != nil || !at.Addr().IsMulticast() || at.Addr().Zone() != "" || at.Port() < 1024 {
				return nil, bad("%.60q is no multicast address with a port from 1024 on", value)
			}
			if len(groups) == maxGroups {
				return nil, bad("there are more than %d groups", maxGroups)
			}
			groups = append(groups, Group{At: netip.AddrPortFrom(at.Addr().Unmap(), at.Port()), Priority: Normal})
			continue
		case len(groups) == 0:
			return nil, bad("%.40q stands before the first pggrp=", name)
		}
		g := &groups[len(groups)-1]
		switch name {
		case "name", "num":
			if len(value) > maxText || strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r == 0x7f }) {
				return nil, bad("the %s of a group is longer than %d letters, or no text", name, maxText)
			}
			if name == "name" {
				g.Name = value
			} else {
				g.Number = value
			}
		case "listen":
			switch strings.ToLower(value) {
			case "yes":
				if g.Listen = heard < maxHeard; g.Listen {
					heard++
				}
			case "no":
			default:
				return nil, bad("listen=%.20s is neither yes nor no", value)
			}
		case "pri":
			n, err := strconv.Atoi(value)
			if err != nil || n < 0 || n > 4 {
				return nil, bad("pri=%.20s is none of 0 to 4", value)
			}
			g.Priority = Priority(n)
		default:
			return nil, bad("a group has no %.40q", name)
		}
	}
	for i, g := range groups {
		if g.Number == "" {
			return nil, bad("group %d has no number (num=)", i+1)
		}
		for _, o := range groups[:i] {
			if o.Number == g.Number || o.At.Port() == g.At.Port() {
				return nil, bad("the groups %s and %s share a number or a port", o.Number, g.Number)
			}
		}
	}
	return groups, nil
}

// Setting is what a profile says of paging.
type Setting struct {
	Groups  []Group `json:"groups"`
	From    string  `json:"from,omitempty"` // where it is set
	Refused error   `json:"-"`              // why there is no paging, though there are groups
	Reason  string  `json:"refused,omitempty"`
}

// sealed returns a line that signals over TLS, or 0.
func sealed(set *flatprofile.Set) int {
	for n := 1; n <= flatprofile.Lines; n++ {
		transport := set.Text(fmt.Sprintf("SIP_Transport_%d_", n))
		if set.Yes(fmt.Sprintf("Line_Enable_%d_", n)) && set.Text(fmt.Sprintf("Proxy_%d_", n)) != "" && transport != "UDP" && transport != "TCP" {
			return n
		}
	}
	return 0
}

// Of reads what a profile says. Pages are in the clear, so a phone with a line that is sealed has none unless the profile says that it shall.
func Of(set *flatprofile.Set) Setting {
	v := set.Get(ScriptParameter)
	s := Setting{Groups: []Group{}}
	if v.Value == "" || v.From == flatprofile.Default || !set.Yes("Paging_Serv") {
		return s
	}
	s.From = v.Name + " (" + v.Where() + ")"
	groups, err := Parse(v.Value)
	if err == nil {
		s.Groups = groups
	}
	if n := sealed(set); err == nil && n > 0 && !set.Yes(ClearParameter) {
		err = &ringfence.Fault{Op: "paging", Kind: ringfence.KindInsecure, Text: fmt.Sprintf("multicast pages are in the clear, and line %d of this phone is sealed", n), Hint: "set " + ClearParameter + " to Yes if the phone shall have them all the same"}
	}
	if s.Refused = err; err != nil {
		s.Reason = err.Error()
	}
	return s
}

// Heard returns the groups that the phone listens to; none if there is no paging.
func (s Setting) Heard() (out []Group) {
	for _, g := range s.Groups {
		if g.Listen && s.Refused == nil {
			out = append(out, g)
		}
	}
	return out
}

// Find returns the group that a number pages.
func (s Setting) Find(number string) (Group, bool) {
	for _, g := range s.Groups {
		if g.Number == number && s.Refused == nil {
			return g, true
		}
	}
	return Group{}, false
}
