package catalogue

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"ringfence"
	"ringfence/internal/network/need"
)

func open(t testing.TB, name string) *need.Set {
	t.Helper()
	s, err := Open(name)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestSets counts what the documents print: each row is there, with where it stands.
func TestSets(t *testing.T) {
	for name, want := range map[string][6]int{ // rows, networks, domains, changes, repairs, questions
		"webex-calling":      {18, 36, 26, 78, 39, 15},
		"dedicated-instance": {66, 0, 0, 0, 20, 12},
	} {
		s := open(t, name)
		nets := 0
		for _, g := range s.Groups {
			nets += len(g.Networks)
		}
		if got := [6]int{len(s.Needs), nets, len(s.Domains), len(s.Changes), len(s.Repairs), len(s.Questions)}; got != want {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
		for _, n := range s.Needs {
			if n.Line == 0 || n.Confidence() == need.Running {
				t.Errorf("%s: %s says not where it stands", name, n.ID)
			}
		}
	}
	if _, err := Open("nothing"); ringfence.KindOf(err) != ringfence.KindNotFound {
		t.Error(err)
	}
	w := open(t, "webex-calling")
	addresses := 0
	for _, p := range w.NetworksOf("wxc-cloud") {
		addresses += 1 << (32 - p.Bits())
	}
	if addresses != 320768 {
		t.Errorf("%d addresses of Webex Calling", addresses)
	}
	if len(open(t, "dedicated-instance").Forwarders) != 10 || len(w.Marks) != 5 || len(w.Proxies) != 8 {
		t.Error("forwarders, marks or proxies are missing")
	}
}

// TestReplay goes back to the end of each day of the history and forward again: what could be undone leads to the present tables, and all else is said.
func TestReplay(t *testing.T) {
	s := open(t, "webex-calling")
	sorted := func(s *need.Set) (out []string) {
		for _, g := range s.Groups {
			for _, n := range g.Networks {
				out = append(out, g.Name+" "+n.Prefix.String())
			}
		}
		slices.Sort(out)
		return out
	}
	now := sorted(s)
	for _, c := range s.Changes {
		day, err := time.Parse(time.DateOnly, c.Date)
		if err != nil {
			t.Fatal(c.ID, err)
		}
		past := At(s, day.AddDate(0, 0, -1))
		if got := sorted(past.Replay()); !slices.Equal(got, now) {
			t.Errorf("%s: %v", c.Date, got)
		}
		later := 0
		for _, x := range s.Changes {
			if x.Date >= c.Date {
				later++
			}
		}
		if len(past.Undone)+len(past.NotUndone) != later {
			t.Errorf("%s: %d and %d of %d changes", c.Date, len(past.Undone), len(past.NotUndone), later)
		}
	}
	has := func(p Past, prefix string) bool {
		return slices.ContainsFunc(p.Groups, func(g need.NetworkGroup) bool {
			return slices.ContainsFunc(g.Networks, func(n need.Network) bool { return n.Prefix == netip.MustParsePrefix(prefix) })
		})
	}
	at := func(day string) Past { d, _ := time.Parse(time.DateOnly, day); return At(s, d) }
	if p := at("2023-12-10"); has(p, "150.253.128.0/17") != true || !has(p, "150.253.209.128/25") { // the first is also of another group
		t.Error("150.253.128.0/17 was smaller until 2023-12-11")
	}
	if p := at("2024-07-01"); has(p, "52.26.82.54/32") {
		t.Error("52.26.82.54 came back on 2024-07-02")
	}
	if p := at("2030-01-01"); len(p.Undone)+len(p.NotUndone) != 0 || len(p.Changes) != 78 {
		t.Error("the future is not the present")
	}
}

// TestSelf makes rows of a flow table.
func TestSelf(t *testing.T) {
	s := Self("node-1", []ringfence.Flow{
		{Name: "sip-tls", Purpose: "signalling", Room: "x", Direction: ringfence.Listens, Transport: "tcp", Ports: ringfence.PortRange{First: 5061, Last: 5061}, Peers: "any phone", DSCP: 24, TLS: ringfence.TLSServer},
		{Name: "sip-trunk", Purpose: "trunks", Room: "x", Direction: ringfence.Dials, Transport: "tcp", Peers: "trunks: a (b)", TLS: ringfence.TLSMutual},
		{Name: "admin-socket", Purpose: "here", Room: "x", Direction: ringfence.Listens, Transport: "unix", Peers: "this host"},
	})
	if wrong := s.Check(); len(wrong) > 0 || len(s.Needs) != 2 {
		t.Fatalf("%v %+v", wrong, s)
	}
	if n := s.Needs[0]; n.Direction != need.Inbound || n.To[0] != "node" || *n.DSCP != 24 || n.Confidence() != need.Running {
		t.Errorf("%+v", n)
	}
	if n := s.Needs[1]; n.To[0] != "trunks-a-b" || n.Direction != need.Outbound || n.Chosen == "" || s.Roles[n.To[0]].Text != "trunks: a (b)" {
		t.Errorf("%+v", n)
	}
}

// TestWrong says everything that is wrong at once.
func TestWrong(t *testing.T) {
	_, err := Parse([]byte(`set: x
title: x
roles: {a: {text: a, side: customer}}
groups: [{name: g, text: g, networks: [{prefix: 192.0.2.1/24}, {prefix: 192.0.2.0/25}]}]
needs:
- {id: 1, purpose: p, transport: [sctp], direction: sideways, from: [a], to: [b], repairs: [R]}
- {id: 1, purpose: p, transport: [tcp], direction: outbound, from: [a], to: [a], to-ports: [9-10], questions: [Q]}
`), "f")
	for _, want := range []string{"192.0.2.1/24 has host bits", "overlap", `"sctp" is no transport`, `"sideways" is no direction`, "there is no role b", "refers to R", "comes twice", "refers to Q", "neither ports nor"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	for _, ports := range []string{"10-9", "0", "65536", "-1", "1-", "x", "1-2-3"} {
		if p, err := need.ParsePorts(ports); err == nil {
			t.Errorf("%s is %v", ports, p)
		}
	}
	if _, err := Parse([]byte("set: x\ncolour: red\n"), "f"); err == nil || !strings.Contains(err.Error(), "colour") {
		t.Error(err)
	}
}

func FuzzParse(f *testing.F) {
	for _, name := range Names() {
		b, err := sets.ReadFile("sets/" + name + ".yaml")
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b[:2000])
	}
	f.Add([]byte("set: x\ntitle: x\nroles: {}\nneeds: []\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, err := Parse(b, "f"); err == nil {
			if again := s.Check(); len(again) > 0 {
				t.Errorf("%v", again)
			}
		}
	})
}
