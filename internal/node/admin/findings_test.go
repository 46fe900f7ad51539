package admin_test

import (
	"strings"
	"testing"

	"ringfence/internal/node/admin/api"
)

// TestFindings hands in what was found out about sites, by a token that can do nothing else; it is kept by site, the latest first, and nothing is kept that is no finding.
func TestFindings(t *testing.T) {
	d := openDoor(t)
	admin := d.admin()
	site, reader := d.token(admin, api.ScopeReadiness), d.token(admin, api.ScopeRead)
	const path = "/api/v1/network/findings"
	good := api.NewFinding{Kind: "posture", Subject: "sbc.example.com:5061\x1b[2J", Verdict: "good", Finding: map[string]any{"server": "sbc.example.com:5061", "versions": []any{map[string]any{"version": "1.3"}}, "refused": []string{"1.0"}}}
	d.want(403, "GET", path, site, "")
	d.want(403, "POST", path+"?site=seoul", reader, asJSON(t, good))
	first := read[api.FindingKept](t, d.want(201, "POST", path+"?site=seoul", site, asJSON(t, good)))
	if first.Subject != "sbc.example.com:5061[2J" || first.Verdict != "good" || first.By != "token readiness" || first.Site != "seoul" {
		t.Errorf("%+v", first)
	}
	record := api.NewFinding{Kind: "firewall", Subject: "router nftables", Verdict: "unknown", Finding: map[string]any{"number": 1, "firewall": "nftables", "failure": "nobody answers"}}
	second := read[api.FindingKept](t, d.want(201, "POST", path+"?site=seoul", admin, asJSON(t, record)))
	if all := read[[]api.FindingKept](t, d.want(200, "GET", path, reader, "")); len(all) != 2 || all[0].ID != second.ID {
		t.Errorf("%+v", all)
	}
	if some := read[[]api.FindingKept](t, d.want(200, "GET", path+"?kind=posture&site=seoul", reader, "")); len(some) != 1 || some[0].ID != first.ID {
		t.Errorf("%+v", some)
	}
	if none := read[[]api.FindingKept](t, d.want(200, "GET", path+"?site=busan", reader, "")); len(none) != 0 {
		t.Errorf("%+v", none)
	}
	if one := read[api.Finding](t, d.want(200, "GET", path+"/"+first.ID, reader, "")); one.Finding["server"] != "sbc.example.com:5061" {
		t.Errorf("%+v", one)
	}
	for i, wrong := range []api.NewFinding{ // the first four have the form of a finding, and are none
		{Kind: "posture", Subject: "x", Verdict: "good", Finding: map[string]any{}},
		{Kind: "posture", Subject: "x", Verdict: "good", Finding: record.Finding},
		{Kind: "firewall", Subject: "x", Verdict: "good", Finding: good.Finding},
		{Kind: "firewall", Subject: "x", Verdict: "good", Finding: map[string]any{"number": 1, "firewall": "nftables"}},
		{Kind: "weather", Subject: "x", Verdict: "good", Finding: good.Finding},
		{Kind: "posture", Subject: strings.Repeat("x", 256), Verdict: "good", Finding: good.Finding},
		{Kind: "posture", Subject: "x", Verdict: "fine", Finding: good.Finding},
	} {
		status := 422
		if i < 4 {
			status = 400
		}
		d.want(status, "POST", path+"?site=seoul", site, asJSON(t, wrong))
	}
	d.want(422, "POST", path+"?site=../seoul", site, asJSON(t, good))
	d.want(413, "POST", path+"?site=seoul", site, `{"kind":"posture","subject":"x","verdict":"good","finding":{"refused":["`+strings.Repeat("x", 1<<20)+`"]}}`)
	d.want(403, "DELETE", path+"/"+first.ID, site, "")
	d.want(204, "DELETE", path+"/"+first.ID, admin, "")
	d.want(404, "GET", path+"/"+first.ID, reader, "")
	d.want(404, "DELETE", path+"/nothing", admin, "")
}
