package tlspolicy

import (
	"crypto/tls"
	"slices"
	"strings"
)

// In FIPS 140-3 mode crypto/tls leaves out of every configuration what its module may not do, and says nothing. What is here is for saying it; a test holds it to the handshakes of a
// process in that mode.

// approvedGroup reports whether a group is served in FIPS 140-3 mode: X25519 counts only as a part of X25519MLKEM768.
func approvedGroup(id tls.CurveID) bool { return id != tls.X25519 }

// approvedSuite reports whether a suite is served in FIPS 140-3 mode. The others of ours have AES-GCM.
func approvedSuite(id uint16) bool { return !strings.Contains(tls.CipherSuiteName(id), "CHACHA20") }

// beyondFIPS says why a peer can agree on nothing with a process in FIPS 140-3 mode, in which the peer of a trial is as well and would not get as far as saying it; empty if it can.
func beyondFIPS(peer *tls.Config) string {
	if len(peer.CurvePreferences) > 0 && !slices.ContainsFunc(peer.CurvePreferences, approvedGroup) {
		return "no group that the peer knows is served in FIPS 140-3 mode"
	}
	if peer.MaxVersion == tls.VersionTLS12 && len(peer.CipherSuites) > 0 && !slices.ContainsFunc(peer.CipherSuites, approvedSuite) {
		return "no suite that the peer knows is served in FIPS 140-3 mode"
	}
	return ""
}

// inFIPS returns the settings without what FIPS 140-3 mode leaves out.
func (f Effective) inFIPS() Effective {
	f.groups = slices.DeleteFunc(slices.Clone(f.groups), func(id tls.CurveID) bool { return !approvedGroup(id) })
	f.suites = slices.DeleteFunc(slices.Clone(f.suites), func(id uint16) bool { return !approvedSuite(id) })
	return f
}

// from returns the decision on a setting.
func (f Effective) from(name string) Decision {
	i := slices.IndexFunc(f.Decisions, func(d Decision) bool { return d.Setting == name })
	if i < 0 {
		return Decision{}
	}
	return f.Decisions[i]
}

// Withheld returns what of the settings is not served in FIPS 140-3 mode, each at the place that it comes from.
func (f Effective) Withheld() (out []Wrong) {
	add := func(setting, text string) {
		out = append(out, Wrong{f.from(setting).Place, setting + ": " + text + " in FIPS 140-3 mode"})
	}
	for _, id := range f.groups {
		if !approvedGroup(id) {
			add("groups", groupName(id)+" is not served")
		}
	}
	if f.min > tls.VersionTLS12 {
		return append(out, Wrong{f.from("min").Place, "min: TLS_CHACHA20_POLY1305_SHA256 is not served in FIPS 140-3 mode"})
	}
	for _, id := range f.suites {
		if !approvedSuite(id) {
			add("suites", tls.CipherSuiteName(id)+" is not served")
		}
	}
	add("min", "TLS 1.2 without an extended master secret (RFC 7627) is refused, and TLS_CHACHA20_POLY1305_SHA256 of TLS 1.3 is not served")
	return out
}

// Withheld returns what FIPS 140-3 mode does not serve of the settings of all endpoints.
func (t Tree) Withheld() (out []Wrong) {
	for _, e := range t.endpoints() {
		out = append(out, t.For(e).Withheld()...)
	}
	return sorted(out)
}

// CheckFIPS returns which endpoints could speak with nobody in FIPS 140-3 mode.
func (t Tree) CheckFIPS() (wrong []Wrong) {
	for _, e := range t.endpoints() {
		f := t.For(e).inFIPS()
		none := func(setting, text string) {
			wrong = append(wrong, Wrong{f.from(setting).Place, setting + ": " + text + " is served in FIPS 140-3 mode, and nobody could speak with " + e.Class})
		}
		old := f.max == tls.VersionTLS12
		switch {
		case len(f.groups) == 0:
			none("groups", "none of them")
		case old && !slices.ContainsFunc(f.groups, classical):
			none("groups", "none of those for TLS 1.2")
		}
		if old && len(f.suites) == 0 {
			none("suites", "nothing of the list")
		}
	}
	return sorted(wrong)
}

func sorted(w []Wrong) []Wrong {
	slices.SortFunc(w, func(a, b Wrong) int { return strings.Compare(a.Path+a.Text, b.Path+b.Text) })
	return slices.Compact(w)
}
