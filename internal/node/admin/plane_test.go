package admin_test

import (
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"

	"ringfence/internal/network/audit"
	"ringfence/internal/network/firewall"
	"ringfence/internal/network/nat"
	"ringfence/internal/network/phonewall"
	"ringfence/internal/network/prove"
	"ringfence/internal/network/ready/duties"
	"ringfence/internal/network/target"
	"ringfence/internal/node/admin/api"
)

// TestPlane has everything that `ringfence network` computes be computed by the API as well: for each target what is written is proved by what reads it.
func TestPlane(t *testing.T) {
	d := openDoor(t)
	tok := d.token(d.admin(), "read")
	guide, err := os.ReadFile("../../../docs/guides/firewalls.md")
	if err != nil {
		t.Fatal(err)
	}
	file := string(regexp.MustCompile("(?s)```text site\n(.*?)```").FindSubmatch(guide)[1])
	needs := api.NetworkNeeds{Set: "webex-calling", Site: file}
	post := func(status int, path string, in any) []byte {
		t.Helper()
		b, err := json.Marshal(in)
		if err != nil {
			t.Fatal(err)
		}
		return d.want(status, "POST", "/api/v1/network/"+path, tok, string(b))
	}
	for _, name := range target.Names() {
		r := read[api.NetworkRendering](t, post(200, "render", api.NetworkRender{NetworkNeeds: needs, Target: name}))
		if r.Certificate == nil || r.Set != "webex-calling" || len(r.Files) == 0 || r.Files[0].Text == "" {
			t.Errorf("%s: %+v", name, r)
			continue
		}
		if name == "nftables" || name == "ufw" || name == "firewalld" { // what is loaded is not what is printed
			continue
		}
		p := read[prove.Result](t, post(200, "prove", api.NetworkProve{NetworkNeeds: needs, Format: name, Files: r.Files}))
		if want := r.Certificate.Exact; (p.Verdict == prove.Exact) != want || p.MissingCount > 0 || len(p.Unknown) > 0 {
			t.Errorf("%s: exact %v, but %s: %+v %+v", name, want, p.Verdict, p.Unknown, p.Missing)
		}
	}
	kernel, err := os.ReadFile("../../network/firewall/nft/testdata/webex-calling.json")
	if err != nil {
		t.Fatal(err)
	}
	rules := []firewall.File{{Text: string(kernel)}}
	if p := read[prove.Result](t, post(200, "prove", api.NetworkProve{NetworkNeeds: needs, Format: "nftables", Files: rules})); p.Verdict != prove.Exact || p.Passes == "" {
		t.Errorf("%+v", p)
	}
	wide := []firewall.File{{Text: strings.Replace(string(kernel), "8934", "8935", 1)}}
	if r := read[audit.Report](t, post(200, "audit", api.NetworkProve{NetworkNeeds: needs, Format: "nftables", Files: wide})); r.Verdict == prove.Exact || r.Diff == "" || r.Back == "" || r.After != prove.Exact {
		t.Errorf("%+v", r)
	}
	for _, name := range []string{"pac", "unbound", "ios-qos"} {
		if r := read[api.NetworkRendering](t, post(200, "render", api.NetworkRender{NetworkNeeds: api.NetworkNeeds{Set: "webex-calling"}, Target: name, Proxy: "proxy.example.com:3128"})); len(r.Files) != 1 || r.Files[0].Text == "" {
			t.Errorf("%s: %+v", name, r)
		}
	}
	x := read[api.NetworkDifference](t, post(200, "diff", api.NetworkDiff{Old: "webex-calling@2023-12-10", New: "webex-calling"}))
	if len(x.Changes) != 3 || x.Changes[0].Concerns[0] != "firewall" {
		t.Errorf("%+v", x)
	}
	set := read[api.NetworkSet](t, d.want(200, "GET", "/api/v1/network/sets/self", tok, "")).Set
	if x = read[api.NetworkDifference](t, post(200, "diff", api.NetworkDiff{OldNeeds: &set, New: "self"})); len(x.Changes) != 0 {
		t.Errorf("%+v", x)
	}
	if p := read[nat.Plan](t, post(200, "nat", api.NATQuestion{Devices: 2000, Pool: []string{"192.0.2.0/29"}})); p.Capacity == 0 || p.Needed == 0 {
		t.Errorf("%+v", p)
	}
	if p := read[nat.Plan](t, post(200, "nat", api.NATQuestion{Devices: 2000, Pool: []string{"192.0.2.0/29"}, UDPSeconds: 300, CallSeconds: 60, Table: 100})); p.OK || p.Lingering != 4000 || len(p.Linux) == 0 || p.Blocks.Size != 32 {
		t.Errorf("%+v", p)
	}
	phone := "<flat-profile><SIP_Transport_1_>TLS</SIP_Transport_1_></flat-profile>"
	if x := read[phonewall.Findings](t, post(200, "phone", api.NetworkPhone{Profile: phone})); !x.Firewall || len(x.Open) == 0 || x.Compared != nil {
		t.Errorf("%+v", x)
	}
	if x := read[phonewall.Findings](t, post(200, "phone", api.NetworkPhone{Profile: phone, NetworkNeeds: api.NetworkNeeds{Set: "webex-calling"}})); x.Compared == nil || x.Compared.Excess != 7 || x.Compared.Doors[0].Site != nil {
		t.Errorf("%+v", x)
	}
	if x := read[phonewall.Findings](t, post(200, "phone", api.NetworkPhone{Profile: phone, NetworkNeeds: needs, Format: "nftables", Files: rules})); x.Compared.Doors[0].Site == nil || x.Compared.Exposed != 0 || len(x.Compared.Unknown) != 0 {
		t.Errorf("%+v", x.Compared)
	}
	proved := string(post(200, "prove", api.NetworkProve{NetworkNeeds: needs, Format: "nftables", Files: wide}))
	if c := read[duties.Checklist](t, post(200, "checklist", api.NetworkChecklist{Files: []firewall.File{{Name: "proof.json", Text: proved}}})); c.Count(duties.Undone) != 1 || c.Format != duties.Format {
		t.Errorf("%+v", c)
	}
	post(400, "checklist", api.NetworkChecklist{Files: []firewall.File{{Name: "x", Text: "{}"}}})
	post(400, "phone", api.NetworkPhone{Profile: "<flat-profile>"})
	post(400, "phone", api.NetworkPhone{Profile: phone, As: []string{"device"}})
	post(400, "phone", api.NetworkPhone{Profile: phone, NetworkNeeds: api.NetworkNeeds{Set: "webex-calling"}, Files: rules})
	post(400, "phone", api.NetworkPhone{Profile: phone, NetworkNeeds: needs, As: []string{"fax"}})
	post(400, "phone", api.NetworkPhone{Profile: phone, NetworkNeeds: needs, Format: "abacus", Files: rules})
	post(400, "render", api.NetworkRender{NetworkNeeds: needs, Target: "abacus"})
	post(400, "render", api.NetworkRender{NetworkNeeds: api.NetworkNeeds{Set: "webex-calling", Site: strings.Replace(file, "  wc-p-04: 5061\n", "", 1)}, Target: "nftables"})
	post(400, "prove", api.NetworkProve{NetworkNeeds: needs, Format: "nftables", Files: append(rules, rules...)})
	post(400, "prove", api.NetworkProve{NetworkNeeds: needs, Format: "nftables", Files: []firewall.File{{Text: "{"}}})
	post(404, "diff", api.NetworkDiff{Old: "nothing", New: "self"})
	post(400, "diff", api.NetworkDiff{Old: "webex-calling@soon", New: "self"})
	post(400, "nat", api.NATQuestion{Devices: 1, Pool: []string{"x"}})
	set.Needs[0].Transport = []string{"pigeon"}
	post(400, "diff", api.NetworkDiff{OldNeeds: &set, New: "self"})
	d.want(401, "POST", "/api/v1/network/nat", "", `{}`)
}
