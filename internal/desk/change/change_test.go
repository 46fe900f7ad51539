package change

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"ringfence"
	"ringfence/internal/desk/flatprofile"
)

func with(t *testing.T, text string) *flatprofile.Set {
	t.Helper()
	f, err := flatprofile.Parse([]byte("<flat-profile>" + text + "</flat-profile>"))
	if err != nil {
		t.Fatal(err)
	}
	set := flatprofile.NewSet(flatprofile.Parameters())
	set.Add(f, "cfg.xml")
	return set
}

const profile = `<Station_Name ua="rw">Desk</Station_Name><Text_Logo ua="ro">x</Text_Logo><SIP_Transport_1_>TLS</SIP_Transport_1_><Proxy_1_>pbx.example.com</Proxy_1_><User_ID_1_>alice</User_ID_1_><Admin_Password>old</Admin_Password><Firewall>Disabled</Firewall><Enable_SSLv3 ua="rw">No</Enable_SSLv3>`

func TestJudge(t *testing.T) {
	set := with(t, profile)
	names := func(all []Problem) (out []string) {
		for _, p := range all {
			out = append(out, p.Name)
		}
		return out
	}
	for _, x := range []struct {
		c                         Change
		admin, user               bool // whether it changes something without a word against it
		refused, userRefused, bad string
	}{
		{c: Change{Name: "Station_Name", Value: " Reception "}, admin: true, user: true},
		{c: Change{Name: "Station_Name", Value: "Desk"}}, // it is so already
		{c: Change{Name: "Station_Name", Reset: true}, admin: true, user: true},
		{c: Change{Name: "Text_Logo", Value: "y"}, admin: true, userRefused: "does not let a user change it (ua is \"ro\")"},
		{c: Change{Name: "Display_Name_1_", Value: "Alice"}, admin: true, userRefused: "(ua is \"na\")"},
		{c: Change{Name: "SIP_T1", Value: "half"}, refused: "no time", userRefused: "(ua is"},
		{c: Change{Name: "SIP_Transport_1_", Value: "UDP"}, bad: "in the clear", userRefused: "(ua is"},
		{c: Change{Name: "Enable_SSLv3", Value: "Yes"}, bad: "SSL", userRefused: "a user makes nothing dangerous"},
		{c: Change{Name: "Admin_Password", Value: ""}, bad: "nobody can sign in", userRefused: "(ua is"},
		{c: Change{Name: "Enable_Web_Server", Value: "No"}, bad: "are gone with it", userRefused: "(ua is"},
		{c: Change{Name: "Station_Nmae", Value: "x"}, refused: "no such parameter", userRefused: "no such parameter"},
		{c: Change{Name: "Admin_Passwd", Value: "x"}, refused: "no such parameter", userRefused: "no such parameter"},
		{c: Change{Name: "Proxy_n_", Value: "x"}, refused: "no such parameter", userRefused: "no such parameter"},
		{c: Change{Name: "Station_Name", Value: "a\nb"}, refused: "no line of text", userRefused: "no line of text"},
		{c: Change{Name: "Station_Name", Value: strings.Repeat("x", maxValue+1)}, refused: "longer than", userRefused: "longer than"},
	} {
		for _, admin := range []bool{true, false} {
			r, err := Judge(set, admin, Request{Changes: []Change{x.c}})
			clean, refused, bad := x.admin, x.refused, x.bad
			if !admin {
				clean, refused, bad = x.user, x.userRefused, ""
			}
			text, _ := json.Marshal(r.Refused)
			dangers, _ := json.Marshal(r.Dangers)
			if err != nil || (len(r.Changes) > 0 && len(r.Refused)+len(r.Dangers) == 0) != clean || (len(r.Refused) > 0) != (refused != "") || !strings.Contains(strings.ReplaceAll(string(text), `\"`, `"`), refused) || (len(r.Dangers) > 0) != (bad != "") || !strings.Contains(string(dangers), bad) {
				t.Errorf("%+v, admin %v: %+v %v", x.c, admin, r, err)
			}
		}
	}
	r, err := Judge(set, true, Request{Changes: []Change{{Name: "Station_Name", Value: "a"}, {Name: "Station_Name", Value: "b"}, {Name: "Text_Logo", Value: "z"}}})
	if err != nil || !slices.Equal(names(r.Refused), []string{"Station_Name"}) || !slices.Equal(r.Changed, []string{"Station_Name", "Text_Logo"}) {
		t.Errorf("%+v %v", r, err)
	}
	if _, err := Judge(set, true, Request{Changes: make([]Change, maxChanges+1)}); ringfence.KindOf(err) != ringfence.KindInvalid {
		t.Error(err)
	}
}

// TestKept changes parameters, lets the phone start again, and has the profile say something else.
func TestKept(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	kept, err := Add(with(t, profile), nil, []Change{{Name: "Station_Name", Value: "Reception"}, {Name: "Text_Logo", Value: "y"}, {Name: "Admin_Password", Value: "new"}}, "admin", at)
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(kept)
	if err != nil || strings.Contains(string(b), `"old"`) {
		t.Errorf("%s %v", b, err)
	}
	if kept, err = Parse(b); err != nil {
		t.Fatal(err)
	}
	again := with(t, profile)
	kept = Apply(again, kept)
	if v := again.Get("Station_Name"); len(kept) != 3 || v.Value != "Reception" || v.UA != "rw" || v.Where() != "the web page, by admin at 2026-01-02T03:04:05Z" || !again.Get("Admin_Password").Secret {
		t.Errorf("%+v %+v", kept, v)
	}
	// A second change, one that is taken back, and one that is what the profile says.
	kept, err = Add(again, kept, []Change{{Name: "Station_Name", Value: "Gate"}, {Name: "Text_Logo", Reset: true}, {Name: "Admin_Password", Value: "old"}}, "user", at)
	third := with(t, profile)
	if left := Apply(third, kept); err != nil || len(left) != 1 || third.Text("Station_Name") != "Gate" || third.Text("Text_Logo") != "x" || third.Text("Admin_Password") != "old" {
		t.Errorf("%+v %v", left, err)
	}
	// The profile has another name for the phone now, and that counts; it counts also when it comes back to the first one.
	fourth := with(t, strings.Replace(profile, ">Desk<", ">Hall<", 1))
	if left := Apply(fourth, kept); len(left) != 0 || fourth.Text("Station_Name") != "Hall" {
		t.Errorf("%+v", left)
	}
	for _, text := range []string{"", "{}", `[{"name":1}]`, strings.Repeat(" ", MaxFile+1), "[" + strings.Repeat("{},", maxKept) + "{}]"} {
		if kept, err := Parse([]byte(text)); ringfence.KindOf(err) != ringfence.KindInvalid {
			t.Errorf("%.20q: %v %v", text, len(kept), err)
		}
	}
	if left := Apply(with(t, profile), []Kept{{Name: "Nobody_Knows_It", Was: digest("")}}); len(left) != 0 {
		t.Errorf("%+v", left)
	}
}

func FuzzParseRequest(f *testing.F) {
	for _, s := range []string{`{"changes":[{"name":"Station_Name","value":"x"},{"name":"Proxy_1_","reset":true}],"confirm":true}`, `{"changes":null}`, `{"changes":[]}{}`, `[]`, ""} {
		f.Add([]byte(s))
	}
	set := flatprofile.NewSet(flatprofile.Parameters())
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := ParseRequest(b)
		if err != nil {
			return
		}
		report, err := Judge(set, true, r)
		if err != nil || len(report.Refused)+len(report.Dangers) > 0 {
			return
		}
		if kept, err := Add(set, nil, report.Changes, "admin", time.Unix(0, 0)); err != nil || len(Apply(set.Clone(), kept)) != len(kept) {
			t.Errorf("%+v %v", kept, err)
		}
	})
}
