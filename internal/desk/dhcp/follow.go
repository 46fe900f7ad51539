package dhcp

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Matter is what a later answer can change.
type Matter string

// The matters. A phone fetches its profile again when its place changes, and starts again when it has to ask others.
const (
	Place   Matter = "profile"
	Manager Matter = "auto-configuration server"
	Names   Matter = "names" // DNS servers and domains
	Way     Matter = "way"   // routers, and the mask
	Clock   Matter = "clock" // time servers and the offset
	Web     Matter = "web"   // the file that names the web proxy
)

// Change is one thing that a later answer says otherwise.
type Change struct {
	Matter Matter
	Text   string // for people
}

// RefreshDefault is how long options hold that came without an address (RFC 8415 section 21.23: IRT_DEFAULT). DHCPv4 has no word for it.
const RefreshDefault = 24 * time.Hour

// Refresh is when options that came without an address are asked for again.
func (a Answer) Refresh() time.Duration {
	if a.Family == IPv6 && a.Lifetime > 0 {
		return a.Lifetime
	}
	return RefreshDefault
}

// Follow makes of an answer and the one before it what counts from now on, and says what changed. A matter that the later answer leaves out, or has nonsense for, stays as it was: kept names it.
func (a Answer) Follow(before Answer) (now Answer, changes []Change, kept []string) {
	now = a
	now.places, now.Options = maps.Clone(a.places), slices.Clone(a.Options)
	if now.places == nil {
		now.places = map[uint16]string{}
	}
	for _, code := range slices.Sorted(maps.Keys(before.places)) {
		old, said := before.places[code], a.places[code]
		_, wasWrong := ruleOf(old)
		_, wrong := ruleOf(said)
		if said == old || said != "" && (wrong == "" || wasWrong != "") {
			continue
		}
		why := "it does not send it any more"
		if said != "" {
			why = fmt.Sprintf("%.80q: %s", said, wrong)
		}
		kept = append(kept, fmt.Sprintf("option %d stays %.80q, since of %s: %s", code, old, a.Server, why))
		now.places[code] = old
		if !slices.ContainsFunc(now.Options, func(o Option) bool { return o.Code == code }) {
			at := slices.IndexFunc(before.Options, func(o Option) bool { return o.Code == code })
			if at >= 0 {
				now.Options = append(now.Options, before.Options[at])
			}
		}
	}
	slices.SortStableFunc(now.Options, func(x, y Option) int { return cmp.Compare(x.Code, y.Code) })
	for _, code := range slices.Sorted(maps.Keys(now.places)) {
		if now.places[code] != before.places[code] {
			changes = append(changes, Change{Place, fmt.Sprintf("option %d is %.80q now", code, now.places[code])})
		}
	}
	stays := func(what string) {
		kept = append(kept, what+" stay as they were, since "+a.Server.String()+" sends none that are any")
	}
	now.DNS = follow(a.DNS, before.DNS, "DNS servers", Names, &changes, stays)
	now.Domains = follow(a.Domains, before.Domains, "domains", Names, &changes, stays)
	now.Routers = follow(a.Routers, before.Routers, "routers", Way, &changes, stays)
	now.NTP = follow(a.NTP, before.NTP, "time servers", Clock, &changes, stays)
	if a.Address.IsValid() && a.Address != before.Address {
		changes = append(changes, Change{Way, "the address is " + a.Address.String() + " now"})
	}
	switch {
	case a.TimeOffset == nil:
		now.TimeOffset = before.TimeOffset
	case before.TimeOffset == nil || *a.TimeOffset != *before.TimeOffset:
		changes = append(changes, Change{Clock, fmt.Sprintf("the time offset is %s now", *a.TimeOffset)})
	}
	switch {
	case a.WPAD == "" && before.WPAD != "":
		now.WPAD = before.WPAD
		kept = append(kept, "the web proxy's file stays "+before.WPAD+", since "+a.Server.String()+" names none")
	case a.WPAD != before.WPAD:
		changes = append(changes, Change{Web, "the web proxy's file is at " + a.WPAD + " now"})
	}
	switch {
	case a.ACS == nil && before.ACS != nil:
		now.ACS = before.ACS
		kept = append(kept, "the auto-configuration server stays "+before.ACS.URL+", since "+a.Server.String()+" names none")
	case a.ACS != nil && (before.ACS == nil || a.ACS.URL != before.ACS.URL):
		changes = append(changes, Change{Manager, "the auto-configuration server is " + a.ACS.URL + " now"})
	}
	return now, changes, kept
}

// follow does that with one list.
func follow[T comparable](said, before []T, what string, m Matter, changes *[]Change, stays func(string)) []T {
	switch {
	case len(said) == 0 && len(before) > 0:
		stays(what)
		return before
	case !slices.Equal(said, before):
		*changes = append(*changes, Change{m, what + " are " + strings.Trim(fmt.Sprint(said), "[]") + " now"})
	}
	return said
}

// Replace puts a later answer in the place of the one before it, and says what changed and what stayed.
func Replace(answers []Answer, later Answer) (all []Answer, changes []Change, kept []string) {
	all = slices.Clone(answers)
	at := slices.IndexFunc(all, func(a Answer) bool {
		return a.Family == later.Family && a.Kind == later.Kind && a.Server == later.Server
	})
	if at < 0 { // another server of the same kind speaks for the link now, or nobody did before
		at = slices.IndexFunc(all, func(a Answer) bool { return a.Family == later.Family && a.Kind == later.Kind })
	}
	if at < 0 {
		later, changes, kept = later.Follow(Answer{Address: later.Address, Server: netip.Addr{}})
		return append(all, later), changes, kept
	}
	all[at], changes, kept = later.Follow(all[at])
	return all, changes, kept
}
