package posture

import (
	"slices"
	"strings"

	"ringfence/internal/trust/cipherlist"
)

// Meeting is what a client with a cipher list and a server would come to.
type Meeting struct {
	Version string   `json:"version,omitempty"` // empty: they do not meet
	Suite   string   `json:"suite,omitempty"`
	Common  []string `json:"common"`          // suites of TLS 1.2 and before that both have, in the order that decides
	Notes   []string `json:"notes,omitempty"` // what the list most likely does not mean
}

// Meet says what a client whose cipher list is written for OpenSSL would speak with a server. A client that knows no TLS 1.3 is asked for by most.
func (r Report) Meet(list string, most Version) (Meeting, error) {
	l, err := cipherlist.Parse(list)
	if err != nil {
		return Meeting{}, err
	}
	out := Meeting{Notes: l.Warnings, Common: []string{}}
	for _, a := range r.Versions { // the latest first
		if a.Version == TLS13.String() {
			if most >= TLS13 && out.Version == "" {
				out.Version, out.Suite = a.Version, a.Suites[0]
			}
			continue
		}
		if out.Version != "" && out.Version != TLS13.String() || versionOf(a.Version) > most {
			continue
		}
		var common []string
		for _, s := range l.Suites {
			if slices.Contains(a.Suites, s.Name) {
				common = append(common, s.Name)
			}
		}
		if a.Order == "server" {
			slices.SortStableFunc(common, func(x, y string) int { return slices.Index(a.Suites, x) - slices.Index(a.Suites, y) })
		}
		if len(common) > 0 {
			out.Common = common
			if out.Version == "" {
				out.Version, out.Suite = a.Version, common[0]
			}
			break
		}
	}
	return out, nil
}

func versionOf(name string) Version {
	for _, v := range []Version{TLS10, TLS11, TLS12, TLS13} {
		if v.String() == name {
			return v
		}
	}
	return 0
}

// Weak returns what a server accepts and should not: versions before TLS 1.2, suites without forward secrecy, without authenticated encryption or without a server's proof.
func (r Report) Weak() (out []string) {
	for _, a := range r.Versions {
		if v := versionOf(a.Version); v < TLS12 {
			out = append(out, a.Version+" is accepted (RFC 8996 forbids it)")
		}
		for _, s := range a.Suites {
			switch {
			case a.Version == TLS13.String():
			case strings.Contains(s, "_NULL_") || strings.Contains(s, "_anon_"):
				out = append(out, a.Version+" "+s+": nothing is sealed, or nobody is proved")
			case !strings.HasPrefix(s, "TLS_ECDHE_") && !strings.HasPrefix(s, "TLS_DHE_"):
				out = append(out, a.Version+" "+s+": no forward secrecy")
			case !strings.Contains(s, "_GCM_") && !strings.Contains(s, "POLY1305") && !strings.Contains(s, "_CCM"):
				out = append(out, a.Version+" "+s+": no authenticated encryption")
			}
		}
	}
	return out
}
