package config

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"ringfence"
)

func TestExportReadsBack(t *testing.T) {
	b, err := Export(Default())
	if err != nil {
		t.Fatal(err)
	}
	c, err := Parse(b, "x.yaml")
	if err != nil {
		t.Fatalf("%v\n%s", err, b)
	}
	again, _ := Export(c)
	if string(again) != string(b) {
		t.Errorf("export, parse, export differ:\n%s\n%s", b, again)
	}
	if c.Calls != Default().Calls || !reflect.DeepEqual(c.SIP, Default().SIP) || !reflect.DeepEqual(c.Plan.Emergency, Default().Plan.Emergency) {
		t.Errorf("got %+v", c)
	}
}

func TestEmptyFileIsTheDefault(t *testing.T) {
	for _, text := range []string{"", "# nothing\n"} {
		if c, err := Parse([]byte(text), "x.yaml"); err != nil || c.Domain != Default().Domain {
			t.Errorf("%q: %v %v", text, c.Domain, err)
		}
	}
}

func TestErrorsSayWhere(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"unknown key", "domain: a.example\nsip:\n  tsl: \"[::]:5061\"\n", "x.yaml:3:3: unknown field \"tsl\""},
		{"wrong type", "calls:\n  max: many\n", "x.yaml:2:8: "},
		{"no address", "sip:\n  tls: nowhere\n", "x.yaml:2:8: "},
		{"syntax", "domain: [a\n", "x.yaml:1:"},
		{"twice", "domain: a.example\ndomain: b.example\n", "x.yaml:2:1: "},
		{"meaning", "domain: a.example\nsip:\n  expires: 1s\n", "x.yaml:3:12: sip.expires: 1s is not between 1m and 24h"},
		{"nearest key", "domain: a.example\nmedia:\n  last: 1000\n", "x.yaml:"},
		{"second rule", "dialplan:\n  rules:\n    - {prefix: \"+1\", class: local}\n    - {prefix: \"1\", class: local}\n", "x.yaml:4:"},
		{"no sound file", "calls:\n  announcements:\n    busy: /nowhere/busy.wav\n", "x.yaml:3:11: calls.announcements.busy: /nowhere/busy.wav cannot be read"},
		{"relative path", "calls:\n  announcements:\n    unknown: busy.wav\n", "is no absolute path"},
		{"recording", "dialplan:\n  recordings:\n    - {number: \"190\", file: /nowhere/hours.wav}\n", "x.yaml:3:"},
		{"recording without a number", "dialplan:\n  recordings:\n    - {file: /nowhere/hours.wav}\n", "x.yaml:3:"},
		{"two things", "domain: UPPER\nlog:\n  level: loud\n", "x.yaml:3:10: log.level"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Parse([]byte(c.text), "x.yaml")
			if err == nil || ringfence.KindOf(err) != ringfence.KindInvalid || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v\nwant %s", err, c.want)
			}
		})
	}
}

func TestDiff(t *testing.T) {
	a, b := Default(), Default()
	if d, err := Diff(a, b); err != nil || len(d) != 0 {
		t.Fatalf("equal configurations differ: %v %v", d, err)
	}
	b.Calls.Max, b.Media.First, b.Log.Level, b.SIP.Expires = 5, 20000, "debug", 2*time.Hour
	b.Plan.Emergency = []string{"110"}
	b.Store.DSN = "postgres://me:hush@db.example/x?sslmode=verify-full"
	d, err := Diff(a, b)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]bool{}
	for _, c := range d {
		got[c.Key] = c.Restart
		if strings.Contains(c.To, "hush") {
			t.Errorf("the password is shown: %+v", c)
		}
	}
	want := map[string]bool{"calls.max": false, "media.first": true, "log.level": false, "sip.expires": true, "dialplan.emergency": false, "store.dsn": true}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	flows := DiffFlows(a.Flows(), b.Flows())
	if len(flows) != 3 || flows[0].Flow != "media" || !strings.Contains(flows[0].From, "16384-32767") || !strings.Contains(flows[0].To, "20000-32767") || flows[1].Flow != "postgres" || flows[2].Flow != "dns" {
		t.Errorf("flows: %+v", flows)
	}
	b.Store.DSN = "postgres://me@db.example/x?sslmode=verify-full&password=hush&sslpassword=hush"
	if d, err := Diff(a, b); err != nil || strings.Contains(fmt.Sprint(d), "hush") || !strings.Contains(fmt.Sprint(d), "@db.example/x?") {
		t.Errorf("an address with passwords behind it is shown as %v (%v)", d, err)
	}
	m := Merge(a, b)
	if m.Calls.Max != 5 || m.Media.First != a.Media.First || m.SIP.Expires != a.SIP.Expires {
		t.Errorf("merge: %+v", m)
	}
}

// FuzzParse checks that a configuration file, whatever it holds, is read or refused and never crashes the node.
func FuzzParse(f *testing.F) {
	b, _ := Export(Default())
	f.Add(b)
	f.Add([]byte("domain: a.example\nsip:\n  expires: 1s\n"))
	f.Add([]byte("dialplan:\n  groups:\n    - {number: \"1\", strategy: all, members: [a]}\n"))
	f.Add([]byte("a: &x [*x]\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := Parse(b, "x.yaml")
		if err == nil {
			if err := c.Validate(); err != nil {
				t.Errorf("accepted, but: %v", err)
			}
		} else if ringfence.KindOf(err) != ringfence.KindInvalid {
			t.Errorf("refused as %v", ringfence.KindOf(err))
		}
	})
}
