package control

import (
	"testing"

	"ringfence/internal/sip/dialog"
)

func TestWhyEnded(t *testing.T) {
	for _, c := range []struct {
		end  dialog.End
		want Why
	}{
		{dialog.End{Status: 486}, Busy},
		{dialog.End{Status: 600}, Busy},
		{dialog.End{Status: 603}, Busy},
		{dialog.End{Status: 408}, NoAnswer},
		{dialog.End{Status: 480, Reason: dialog.Reason(19, "no answer")}, NoAnswer},
		{dialog.End{Status: 480, Reason: dialog.Reason(20, "no phone of bob is registered")}, Unreachable},
		{dialog.End{Status: 404}, Unreachable},
		{dialog.End{Status: 503}, Unreachable},
		{dialog.End{Status: 604}, Unreachable},
		// It is the node that lacks something: it spends no more on the call.
		{dialog.End{Status: 503, Reason: dialog.Reason(42, "no media port is free")}, ""},
		// The phones do not understand each other.
		{dialog.End{Status: 488}, ""},
		{dialog.End{Status: 606}, ""},
	} {
		if got := whyEnded(c.end); got != c.want {
			t.Errorf("%d %s: %q, want %q", c.end.Status, c.end.Reason, got, c.want)
		}
	}
}
