package profile

import (
	"strings"
	"testing"

	"ringfence"
)

func TestCheck(t *testing.T) {
	for name, x := range map[string]struct {
		s    Security
		want []string // in order, a part of each
	}{
		"nothing":              {Security{}, nil},
		"everything":           {Security{Mode: Mixed, Phones: []Phone{{Name: "agents", Mode: Encrypted, Auth: []ringfence.Auth{ringfence.AuthCertificate}}}, Trunks: []Trunk{{Name: "cube", Subjects: []string{"cube.example.org", "CN=cube"}, Accept: []Request{Replaces, Refer}}}}, nil},
		"authenticated":        {Security{Phones: []Phone{{Name: "a", Mode: "authenticated"}}}, []string{"NULL ciphers"}},
		"cluster 0":            {Security{Mode: "non-secure"}, []string{"exceptions by name"}},
		"cluster of another":   {Security{Mode: "hard"}, []string{"neither mixed nor encrypted"}},
		"two of a name":        {Security{Phones: []Phone{{Name: "a", Mode: Encrypted}, {Name: "a", Mode: Encrypted}}}, []string{"taken"}},
		"a built-in name":      {Security{Phones: []Phone{{Name: "encrypted", Mode: NonSecure}}, Trunks: []Trunk{{Name: "encrypted"}}}, []string{"taken", "taken"}},
		"no name":              {Security{Trunks: []Trunk{{Name: "Cube 1"}}}, []string{"no name"}},
		"an unknown proof":     {Security{Phones: []Phone{{Name: "a", Mode: Encrypted, Auth: []ringfence.Auth{"null"}}}}, []string{"no way to prove"}},
		"plain":                {Security{Trunks: []Trunk{{Name: "a", Incoming: "udp", Outgoing: "tcp"}}}, []string{"incoming is \"udp\"", "outgoing is \"tcp\""}},
		"off":                  {Security{Trunks: []Trunk{{Name: "a", Incoming: Off, Outgoing: Off}}}, []string{"both directions"}},
		"names in one":         {Security{Trunks: []Trunk{{Name: "a", Subjects: []string{"a.example, b.example"}}}}, []string{"one subject is one entry"}},
		"a wildcard":           {Security{Trunks: []Trunk{{Name: "a", Subjects: []string{"*.example"}}}}, []string{"wildcard"}},
		"the world may call":   {Security{Trunks: []Trunk{{Name: "a", Anchors: []string{"host"}}}}, []string{"anybody can get"}},
		"the world is called":  {Security{Trunks: []Trunk{{Name: "a", Anchors: []string{"host"}, Incoming: Off}}}, nil},
		"what is not accepted": {Security{Trunks: []Trunk{{Name: "a", Accept: []Request{"subscribe"}}}}, []string{"always refused"}},
	} {
		got := x.s.Check()
		bad := len(got) != len(x.want)
		for i := range min(len(got), len(x.want)) {
			bad = bad || !strings.Contains(got[i].Text, x.want[i])
		}
		if bad {
			t.Errorf("%s: %v, want %q", name, got, x.want)
		}
	}
}

func TestPhones(t *testing.T) {
	s := Security{Phones: []Phone{{Name: "agents", Mode: Encrypted, Auth: []ringfence.Auth{ringfence.AuthCertificate}}, {Name: "doors", Mode: NonSecure}}}
	for name, may := range map[string]bool{"": true, "agents": false, "doors": true, "encrypted": false, "non-secure": true, "gone": false} {
		if err := s.MayBeExcepted(name); (err == nil) != may {
			t.Errorf("%q: %v", name, err)
		}
		if err := (Security{Mode: Sealed, Phones: s.Phones}).MayBeExcepted(name); err == nil {
			t.Errorf("%q in an encrypted cluster", name)
		}
	}
	for name, may := range map[string]bool{"": true, "agents": false, "doors": true, "gone": false} {
		if err := s.MayProve(name, ringfence.AuthDigestMD5); (err == nil) != may {
			t.Errorf("%q: %v", name, err)
		}
	}
	if err := s.MayProve("agents", ringfence.AuthCertificate); err != nil {
		t.Error(err)
	}
}

func TestTrunkDefaults(t *testing.T) {
	s := Security{Trunks: []Trunk{{Name: "out", Incoming: Off}}}
	if d, ok := s.Trunk(""); !ok || d.Incoming != TLS || d.Outgoing != TLS {
		t.Error(d, ok)
	}
	if p, ok := s.Trunk("out"); !ok || p.Incoming != Off || p.Outgoing != TLS {
		t.Error(p, ok)
	}
	if _, ok := s.Trunk("gone"); ok {
		t.Error("a profile that is not there")
	}
	if all := s.All(); len(all.Phones) != 2 || len(all.Trunks) != 2 || all.Mode != Mixed {
		t.Error(all)
	}
}
