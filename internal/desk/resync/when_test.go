package resync

import (
	"crypto/tls"
	"testing"
	"time"

	"ringfence/internal/desk/flatprofile"
)

// TestNext goes through the parameters that say when.
func TestNext(t *testing.T) {
	zone := time.FixedZone("KST", 9*3600)
	now := time.Date(2026, 12, 31, 23, 30, 0, 0, zone)
	none := func(time.Duration) time.Duration { return 0 }
	all := func(d time.Duration) time.Duration { return d }
	for _, c := range []struct {
		periodic, at, retry string
		failed              int
		random              func(time.Duration) time.Duration
		want                time.Duration
		by                  string
	}{
		{"3600", "", "60", 0, none, time.Hour, "Resync_Periodic"},
		{"3600", "", "60", 0, all, time.Hour + 7*time.Second, "Resync_Periodic"},
		{"0", "", "60", 0, all, 0, ""},
		{"", "", "60", 0, all, 0, ""},
		{"x", "", "60", 0, all, 0, ""},
		{"3600", "2345", "", 0, none, 15 * time.Minute, "Resync_At__HHmm_"},
		{"3600", "2345", "", 0, all, 25 * time.Minute, "Resync_At__HHmm_"},
		{"3600", "0200", "", 0, none, 150 * time.Minute, "Resync_At__HHmm_"},
		{"3600", "2330", "", 0, none, 24 * time.Hour, "Resync_At__HHmm_"},
		{"3600", "2460", "", 0, none, time.Hour, "Resync_Periodic"},
		{"3600", "9am", "", 0, none, time.Hour, "Resync_Periodic"},
		{"3600", "2345", "60", 1, all, time.Minute, "Resync_Error_Retry_Delay"},
		{"3600", "", "30, 60,x,1800", 1, all, 30 * time.Second, "Resync_Error_Retry_Delay"},
		{"3600", "", "30, 60,x,1800", 2, all, time.Minute, "Resync_Error_Retry_Delay"},
		{"3600", "", "30, 60,x,1800", 3, all, 30 * time.Minute, "Resync_Error_Retry_Delay"},
		{"3600", "", "30, 60,x,1800", 100, all, 30 * time.Minute, "Resync_Error_Retry_Delay"},
		{"3600", "", "0", 2, none, time.Hour, "Resync_Periodic"},
		{"3600", "", "", 2, none, time.Hour, "Resync_Periodic"},
	} {
		set := flatprofile.NewSet(flatprofile.Parameters())
		for name, value := range map[string]string{"Resync_Periodic": c.periodic, "Resync_At__HHmm_": c.at, "Resync_Error_Retry_Delay": c.retry, "Resync_Random_Delay": "7", "Resync_At_Random_Delay": "600"} {
			set.Put(flatprofile.Value{Name: name, Value: value, From: "test"})
		}
		at, by := Next(set, now, c.failed, c.random)
		if by != c.by || by != "" && at.Sub(now) != c.want || by == "" && !at.IsZero() {
			t.Errorf("%+v: %s by %s", c, at.Sub(now), by)
		}
	}
}

// TestTriggered has conditions that hold, that do not, and that are none.
func TestTriggered(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	p := &Phone{TLS: &tls.Config{}, Now: func() time.Time { return now }, last: now.Add(-2 * time.Hour)}
	more := func(name string) (string, bool) { return "301", name == "REGTMR1" }
	for _, c := range []struct {
		one, two, want string
		wrong          bool
	}{
		{"", "", "", false},
		{"$REGTMR1 gt 300 and $PRVTMR gt 3600", "", "Resync_Trigger_1", false},
		{"$REGTMR1 gt 300 and $PRVTMR gt 86400", "", "", false},
		{"$REGTMR2 gt 300", "$REGTMR1 ge 301", "Resync_Trigger_2", false},
		{"$REGTMR1 gt", "", "", true},
		{"$REGTMR1 gt", "$PRVTMR gt 1", "Resync_Trigger_2", false},
	} {
		set := flatprofile.NewSet(flatprofile.Parameters())
		set.Put(flatprofile.Value{Name: "Resync_Trigger_1", Value: c.one, From: "test"})
		set.Put(flatprofile.Value{Name: "Resync_Trigger_2", Value: c.two, From: "test"})
		if got, err := p.Triggered(set, more); got != c.want || (err != nil) != c.wrong {
			t.Errorf("%+v: %q %v", c, got, err)
		}
	}
}
