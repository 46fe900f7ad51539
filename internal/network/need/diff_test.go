package need_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"ringfence/internal/network/catalogue"
	"ringfence/internal/network/need"
)

func told(changes []need.Change) (out []string) {
	for _, c := range changes {
		out = append(out, strings.Join([]string{c.Change, c.Category, c.Subject, strings.Join(c.Concerns(), ",")}, " "))
	}
	return out
}

// TestDiff tells what comes, changes and goes, and whose work it is.
func TestDiff(t *testing.T) {
	now, err := catalogue.Open("webex-calling")
	if err != nil {
		t.Fatal(err)
	}
	old := catalogue.At(now, time.Date(2023, 12, 10, 0, 0, 0, 0, time.UTC)).Set
	if got, want := told(need.Diff(old, now)), []string{"add network webex-calling 150.253.128.0/17 firewall", "add network device-configuration 52.26.82.54/32 firewall", "remove network webex-calling 150.253.209.128/25 firewall"}; !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	if got := need.Diff(now, now); len(got) > 0 {
		t.Errorf("%+v", got)
	}
	other, err := catalogue.Open("webex-calling")
	if err != nil {
		t.Fatal(err)
	}
	mark := uint8(34)
	other.Needs[0].DSCP = &mark
	other.Needs[1].ToPorts = []need.Ports{{First: 1, Last: 2}}
	other.Needs = slices.Delete(other.Needs, 2, 3)
	other.Domains[0].Pattern = "new.example"
	other.Marks[0].DSCP = []uint8{1}
	got := told(need.Diff(now, other))
	want := []string{"modify row " + now.Needs[0].ID + " qos", "modify row " + now.Needs[1].ID + " firewall", "remove row " + now.Needs[2].ID + " firewall", "add domain new.example proxy,dns", "remove domain " + now.Domains[0].Pattern + " proxy,dns", "modify mark " + now.Marks[0].ID + " qos"}
	if !slices.Equal(got, want) {
		t.Errorf("%q\nwant\n%q", got, want)
	}
}
