package dhcp

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

// answered is what a server says with some options, as the phone reads it.
func answered(t testing.TB, options ...[]byte) Answer {
	t.Helper()
	a, _, err := ParseV4(answer4(question4(7), ack, "10.0.0.50", append([][]byte{server(), opt(1, "\xff\xff\xff\x00"), opt(51, "\x00\x00\x0e\x10")}, options...)...), 7, mac())
	if err != nil {
		t.Fatal(err)
	}
	a.Kind = Leased
	return a
}

// TestFollow has a server change its mind, forget, and talk nonsense.
func TestFollow(t *testing.T) {
	forum := func(url string) []byte {
		return opt(125, "\x00\x00\x0d\xe9"+string(rune(len(url)+2))+"\x0b"+string(rune(len(url)))+url)
	}
	before := answered(t, opt(3, "\x0a\x00\x00\x01"), opt(6, "\x0a\x00\x00\x02"), opt(15, "one.example"), opt(42, "\x0a\x00\x00\x05"), opt(2, "\x00\x00\x7e\x90"), opt(160, "https://one.example/$MA.xml"), forum("https://acs.example"))
	for name, c := range map[string]struct {
		options [][]byte
		matters []Matter
		kept    []string // what is said of each
		rule    string
		dns     string
	}{
		"nothing new": {[][]byte{opt(3, "\x0a\x00\x00\x01"), opt(6, "\x0a\x00\x00\x02"), opt(15, "one.example"), opt(42, "\x0a\x00\x00\x05"), opt(2, "\x00\x00\x7e\x90"), opt(160, "https://one.example/$MA.xml"), forum("https://acs.example")}, nil, nil, "https://one.example/$MA.xml", "10.0.0.2"},
		"all new": {[][]byte{opt(3, "\x0a\x00\x00\x09"), opt(6, "\x0a\x00\x00\x03"), opt(15, "two.example"), opt(42, "\x0a\x00\x00\x06"), opt(2, "\x00\x00\x00\x00"), opt(160, "https://two.example/$MA.xml"), forum("https://two.example")},
			[]Matter{Place, Names, Names, Way, Clock, Clock, Manager}, nil, "https://two.example/$MA.xml", "10.0.0.3"},
		"one more that comes before": {[][]byte{opt(3, "\x0a\x00\x00\x01"), opt(6, "\x0a\x00\x00\x02"), opt(15, "one.example"), opt(42, "\x0a\x00\x00\x05"), opt(66, "two.example"), opt(160, "https://one.example/$MA.xml"), forum("https://acs.example")}, []Matter{Place}, nil, "https://two.example/$PSN.xml", "10.0.0.2"},
		"it forgets everything":      {nil, nil, []string{"option 160 stays", "DNS servers stay", "domains stay", "routers stay", "time servers stay", "auto-configuration server stays"}, "https://one.example/$MA.xml", "10.0.0.2"},
		"nonsense": {[][]byte{opt(3, "\x00\x00\x00\x00"), opt(6, "\x7f\x00\x00\x01"), opt(15, "$(reboot)"), opt(42, "\x0a"), opt(160, "tftp://evil.example/x"), forum("http://acs.example")}, nil,
			[]string{"in the clear", "DNS servers stay", "domains stay", "routers stay", "time servers stay", "auto-configuration server stays"}, "https://one.example/$MA.xml", "10.0.0.2"},
		"what reads the phone's parameters": {[][]byte{opt(160, "https://evil.example/$SA"), opt(6, "\x0a\x00\x00\x02")}, nil, []string{"no server may use", "", "", "", ""}, "https://one.example/$MA.xml", "10.0.0.2"},
	} {
		all, changes, kept := Replace([]Answer{before}, answered(t, c.options...))
		var matters []Matter
		for _, x := range changes {
			matters = append(matters, x.Matter)
		}
		if len(all) != 1 || !slices.Equal(matters, c.matters) || len(kept) != len(c.kept) {
			t.Errorf("%s: %+v %q", name, changes, kept)
			continue
		}
		for i, want := range c.kept {
			if !strings.Contains(kept[i], want) {
				t.Errorf("%s: %q, want %q", name, kept[i], want)
			}
		}
		four, six := orders()
		if choice := Choose(four, six, all); choice.Rule != c.rule || all[0].DNS[0] != netip.MustParseAddr(c.dns) || choice.ACS == nil || *all[0].TimeOffset != map[bool]time.Duration{true: 0, false: 9 * time.Hour}[name == "all new"] {
			t.Errorf("%s: %+v %+v", name, choice, all[0])
		}
		if again, changes, _ := Replace(all, all[0]); len(changes) != 0 || len(again) != 1 {
			t.Errorf("%s: it changes once more: %+v", name, changes)
		}
	}
	all, changes, _ := Replace(nil, before)
	if len(all) != 1 || len(changes) == 0 {
		t.Errorf("%+v %+v", all, changes)
	}
	if d := (Answer{Family: IPv6, Lifetime: time.Hour}).Refresh(); d != time.Hour {
		t.Error(d)
	}
	if d := before.Refresh(); d != RefreshDefault {
		t.Error(d)
	}
}

func orders() (four, six []uint16) {
	four, _ = ParseOrder(Order4, IPv4)
	six, _ = ParseOrder(Order6, IPv6)
	return four, six
}
