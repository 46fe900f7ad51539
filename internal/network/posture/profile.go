package posture

import (
	"fmt"
	"slices"

	"ringfence/internal/trust/cipherlist"
)

// Distance is what stands between a server and a profile.
type Distance struct {
	Profile string   `json:"profile"`
	Fits    bool     `json:"fits"`    // the server accepts nothing that the profile leaves out
	Remove  []string `json:"remove"`  // what it accepts and the profile leaves out: versions, suites, groups
	Missing []string `json:"missing"` // what the profile has and the server refuses, so that some clients get something else, or nothing
}

// profile is one of Mozilla's recommendations for servers, as of version 5.7: what they accept, in the names of OpenSSL.
type profile struct {
	name     string
	versions []Version
	suites   string // of TLS 1.2 and before
	groups   []string
}

func profiles() []profile {
	const intermediate = "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305:" +
		"DHE-RSA-AES128-GCM-SHA256:DHE-RSA-AES256-GCM-SHA384:DHE-RSA-CHACHA20-POLY1305"
	groups := []string{"X25519MLKEM768", "x25519", "secp256r1", "secp384r1"}
	return []profile{
		{"modern", []Version{TLS13}, "", groups},
		{"intermediate", []Version{TLS13, TLS12}, intermediate, append(slices.Clone(groups), "ffdhe2048", "ffdhe3072")},
		{"old", []Version{TLS13, TLS12, TLS11, TLS10}, intermediate + ":ECDHE-ECDSA-AES128-SHA256:ECDHE-RSA-AES128-SHA256:ECDHE-ECDSA-AES128-SHA:ECDHE-RSA-AES128-SHA:ECDHE-ECDSA-AES256-SHA384:ECDHE-RSA-AES256-SHA384:" +
			"ECDHE-ECDSA-AES256-SHA:ECDHE-RSA-AES256-SHA:DHE-RSA-AES128-SHA256:DHE-RSA-AES256-SHA256:AES128-GCM-SHA256:AES256-GCM-SHA384:AES128-SHA256:AES256-SHA256:AES128-SHA:AES256-SHA:DES-CBC3-SHA",
			append(slices.Clone(groups), "ffdhe2048", "ffdhe3072")},
	}
}

// Profiles compares what a server accepts with Mozilla's profiles, the strictest first. Suites for the other kind of certificate are not missed: a server has the one or the other.
func (r Report) Profiles() ([]Distance, error) {
	var out []Distance
	for _, p := range profiles() {
		d := Distance{Profile: p.name, Remove: []string{}, Missing: []string{}}
		list, err := cipherlist.Parse(p.suites)
		if p.suites == "" {
			list, err = cipherlist.List{}, nil
		}
		if err != nil {
			return nil, err
		}
		allowed := map[string]bool{"TLS_AES_128_GCM_SHA256": true, "TLS_AES_256_GCM_SHA384": true, "TLS_CHACHA20_POLY1305_SHA256": true}
		for _, s := range list.Suites {
			allowed[s.Name] = true
		}
		for _, v := range p.versions {
			if (v == TLS13 || v == TLS12) && r.at(v) == nil {
				d.Missing = append(d.Missing, v.String())
			}
		}
		for _, a := range r.Versions {
			if !slices.Contains(p.versions, versionOf(a.Version)) {
				d.Remove = append(d.Remove, a.Version)
				continue
			}
			for _, s := range a.Suites {
				if !allowed[s] {
					d.Remove = append(d.Remove, fmt.Sprintf("%s %s", a.Version, s))
				}
			}
			for _, g := range a.Groups {
				if !slices.Contains(p.groups, g) {
					d.Remove = append(d.Remove, fmt.Sprintf("%s group %s", a.Version, g))
				}
			}
		}
		if a := r.at(TLS13); a != nil && !slices.Contains(a.Suites, "TLS_AES_128_GCM_SHA256") {
			d.Missing = append(d.Missing, "TLS 1.3 TLS_AES_128_GCM_SHA256") // RFC 8446 section 9.1 has everybody know it
		}
		d.Fits = len(d.Remove) == 0
		out = append(out, d)
	}
	return out, nil
}

func (r Report) at(v Version) *Accepted {
	for i := range r.Versions {
		if r.Versions[i].Version == v.String() {
			return &r.Versions[i]
		}
	}
	return nil
}
