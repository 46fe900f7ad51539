package node

import (
	"strings"
	"testing"
	"time"

	"ringfence/internal/state/store"
	"ringfence/internal/trust/capf"
)

// TestReplaced is which certificates a phone has no more when a session with it is over, while others may be under way.
func TestReplaced(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	cert := func(serial, name string, age time.Duration) store.Certificate {
		return store.Certificate{Serial: serial, Subject: "CN=" + name + ",OU=Phones", NotBefore: now.Add(-age), NotAfter: now.Add(time.Hour)}
	}
	const phone = "SEP001122334455"
	revoked, expired := cert("4", phone, time.Hour), cert("5", phone, time.Hour)
	revoked.RevokedAt, expired.NotAfter = now, now
	certs := []store.Certificate{cert("1", phone, 2*time.Hour), cert("2", phone, time.Minute), cert("3", phone, time.Second), revoked, expired, cert("6", "alice-desk", time.Hour)}
	for want, r := range map[string]capf.Report{
		"1":     {Name: phone, Status: capf.UpgradeSuccess, Serial: "2"}, // 3 is of the order after it
		"1 2":   {Name: phone, Status: capf.UpgradeSuccess, Serial: "3"},
		"":      {Name: phone, Status: capf.UpgradeSuccess, Serial: "7"},
		"1 2 3": {Name: phone, Status: capf.DeleteSuccess},
	} {
		var got []string
		for _, c := range replaced(certs, r, now) {
			got = append(got, c.Serial)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%+v: %q, want %q", r, got, want)
		}
	}
}
