package config_test

import (
	"testing"

	"ringfence/internal/node/config"
	"ringfence/internal/trust/tlspolicy"
)

// TestDiffOfWhatIsLeftOut changes settings that a file leaves out while they are empty.
func TestDiffOfWhatIsLeftOut(t *testing.T) {
	old := config.Default()
	next := old
	next.SIP.Proxies = []string{"edge-1"}
	next.OAuth.Clients = []config.OAuthClient{{ID: "a"}}
	next.TLS = tlspolicy.Tree{"/interface/sip": {Min: "1.3"}}
	for _, way := range []struct{ from, to config.Config }{{old, next}, {next, old}} {
		changes, err := config.Diff(way.from, way.to)
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]bool{}
		for _, c := range changes {
			got[c.Key] = c.Restart
		}
		if restart, ok := got["sip.proxies"]; !ok || !restart {
			t.Errorf("%+v", changes)
		}
		for _, key := range []string{"oauth.clients", "tls./interface/sip.min"} {
			if restart, ok := got[key]; !ok || restart {
				t.Errorf("%s: %+v", key, changes)
			}
		}
	}
	if m := config.Merge(old, next); len(m.TLS) != 1 || len(m.OAuth.Clients) != 1 || len(m.SIP.Proxies) != 0 {
		t.Errorf("%+v", m)
	}
}
