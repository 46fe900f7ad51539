package admin_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"ringfence/internal/network/ready/verdict"
	"ringfence/internal/node/admin/api"
)

func tested(status verdict.Status) verdict.Report {
	began := time.Date(2026, 11, 26, 6, 0, 0, 0, time.UTC)
	return verdict.Report{Format: verdict.Format, Program: "ringfence test", Set: "webex-calling", SetTitle: "Webex <Calling>", SetVersion: "2024-07-02.78", Reflector: "192.0.2.2:8470", Local: "10.0.0.2", SeenAs: "198.51.100.7", Began: began, Ended: began.Add(time.Minute),
		Parameters: map[string]string{"seed": "7"}, Checks: []verdict.Check{{ID: "udp/wc-p-06", Kind: "udp", Rows: []string{"wc-p-06"}, Title: "Voice", Required: true, Status: status, Seen: "a \x1b[2Jb", Cause: verdict.Dropped, Change: "allow it", Again: "ringfence ready run --row wc-p-06"}}}
}

func asJSON(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// What sites find out is handed in by a token that can do nothing else, is kept by site, the latest first, and comes back in every form.
func TestReadiness(t *testing.T) {
	d := openDoor(t)
	admin := d.admin()
	site, reader := d.token(admin, api.ScopeReadiness), d.token(admin, api.ScopeRead)
	d.want(403, "GET", "/api/v1/users", site, "")
	d.want(403, "GET", "/api/v1/network/readiness", site, "")
	d.want(403, "POST", "/api/v1/network/readiness?site=seoul", reader, asJSON(t, tested(verdict.Pass)))
	const path = "/api/v1/network/readiness"
	first := read[api.ReadinessKept](t, d.want(201, "POST", path+"?site=seoul", site, asJSON(t, tested(verdict.Fail))))
	second := read[api.ReadinessKept](t, d.want(201, "POST", path+"?site=seoul", site, asJSON(t, tested(verdict.Pass))))
	d.want(201, "POST", path+"?site=busan", admin, asJSON(t, tested(verdict.Warn)))
	if first.Outcome != verdict.NotReady || second.Outcome != verdict.Ready || len(first.Failures) != 1 || first.By != "token readiness" || first.SeenAs != "198.51.100.7" {
		t.Errorf("%+v\n%+v", first, second)
	}
	list := read[[]api.ReadinessKept](t, d.want(200, "GET", path+"?site=seoul", reader, ""))
	if len(list) != 2 || list[0].ID != second.ID || list[1].ID != first.ID {
		t.Errorf("%+v", list)
	}
	if next := read[[]api.ReadinessKept](t, d.want(200, "GET", path+"?site=seoul&limit=1&after="+list[0].ID, reader, "")); len(next) != 1 || next[0].ID != first.ID {
		t.Errorf("%+v", next)
	}
	if all := read[[]api.ReadinessKept](t, d.want(200, "GET", path, reader, "")); len(all) != 3 || all[0].Site != "busan" || all[0].Outcome != verdict.Inconclusive {
		t.Errorf("%+v", all)
	}
	one := read[api.Readiness](t, d.want(200, "GET", path+"/"+first.ID, reader, ""))
	if one.Report.Checks[0].Change != "allow it" || one.Report.Parameters["seed"] != "7" {
		t.Errorf("%+v", one)
	}
	for form, want := range map[string]string{"page": "Webex &lt;Calling&gt;", "junit": `failures="1"`, "text": "fail  udp/wc-p-06: Voice"} {
		resp, b := d.ask("GET", path+"/"+first.ID+"/"+form, reader, "")
		if resp.StatusCode != 200 || !strings.Contains(string(b), want) || strings.Contains(string(b), "\x1b") || !strings.HasPrefix(resp.Header.Get("Content-Security-Policy"), "default-src 'none'") {
			t.Errorf("%s: %s %v\n%s", form, resp.Status, resp.Header, b)
		}
	}
	d.want(403, "DELETE", path+"/"+first.ID, site, "")
	d.want(204, "DELETE", path+"/"+first.ID, admin, "")
	for _, at := range []string{"", "/page"} {
		d.want(404, "GET", path+"/"+first.ID+at, reader, "")
	}
	d.want(404, "DELETE", path+"/"+first.ID, admin, "")
	audit := string(d.want(200, "GET", "/api/v1/audit", reader, ""))
	if !strings.Contains(audit, "readiness.keep") || !strings.Contains(audit, "site seoul, webex-calling") {
		t.Errorf("%s", audit)
	}
}

// What is no report is not kept, and no site fills the database.
func TestReadinessBounds(t *testing.T) {
	d := openDoor(t)
	admin := d.admin()
	const path = "/api/v1/network/readiness"
	bad := func(change func(*verdict.Report)) string {
		r := tested(verdict.Pass)
		change(&r)
		return asJSON(t, r)
	}
	good := asJSON(t, tested(verdict.Pass))
	for name, c := range map[string]struct {
		status      int
		query, body string
	}{
		"another form":    {400, "?site=seoul", bad(func(r *verdict.Report) { r.Format = "ringfence-ready/2" })},
		"another outcome": {400, "?site=seoul", bad(func(r *verdict.Report) { r.Checks[0].Status = "perhaps" })},
		"no set":          {400, "?site=seoul", bad(func(r *verdict.Report) { r.Set = "" })},
		"a set of lines":  {400, "?site=seoul", bad(func(r *verdict.Report) { r.Set = "a\nb" })},
		"no time":         {400, "?site=seoul", bad(func(r *verdict.Report) { r.Began, r.Ended = time.Time{}, time.Time{} })},
		"backwards":       {400, "?site=seoul", bad(func(r *verdict.Report) { r.Ended = r.Began.Add(-time.Hour) })},
		"many checks":     {400, "?site=seoul", bad(func(r *verdict.Report) { r.Checks = make([]verdict.Check, 2001); fill(r.Checks) })},
		"no site":         {422, "", good},
		"an odd site":     {422, "?site=a/../b", good},
		"a stranger":      {422, "?site=seoul", `{"format":"ringfence-ready/1"}`},
		"too long":        {413, "?site=seoul", `{"format":"` + strings.Repeat("x", 1<<20) + `"}`},
		"no JSON":         {400, "?site=seoul", `{`},
	} {
		t.Run(name, func(t *testing.T) { d.want(c.status, "POST", path+c.query, admin, c.body) })
	}
	if all := read[[]api.ReadinessKept](t, d.want(200, "GET", path, admin, "")); len(all) != 0 {
		t.Errorf("%+v", all)
	}
	var last api.ReadinessKept
	for range 52 {
		last = read[api.ReadinessKept](t, d.want(201, "POST", path+"?site=seoul", admin, good))
	}
	if all := read[[]api.ReadinessKept](t, d.want(200, "GET", path+"?limit=100", admin, "")); len(all) != 50 || all[0].ID != last.ID {
		t.Errorf("%d are kept, the first is %+v", len(all), all[0])
	}
}

func fill(all []verdict.Check) {
	for i := range all {
		all[i] = verdict.Check{ID: fmt.Sprint(i), Status: verdict.Pass}
	}
}
