package profilerule

import (
	"slices"
	"strings"
	"testing"
	"time"

	"ringfence"
)

// phone is what the macros of a phone stand for in these tests.
func phone(brackets bool) func(string) (string, bool) {
	values := map[string]string{"A": "ABCDEF", "B": "$A", "MA": "000e08aabbcc", "MAU": "000E08AABBCC", "MAC": "00:0e:08:aa:bb:cc", "PN": "CP-8841-3PCC", "PSN": "8841-3PCC", "SWVER": "11.3.7", "PRVST": "-1",
		"UPGCOND": "0", "P": "x | http://evil.example/"}
	return func(name string) (string, bool) {
		if name == "SA" && brackets {
			return "secret key", true
		}
		v, ok := values[name]
		return v, ok
	}
}

func TestExpand(t *testing.T) {
	for text, want := range map[string]string{
		"/$PSN.xml": "/8841-3PCC.xml", "$(PSN)x": "8841-3PCCx", "$(A:2)": "CDEF", "$(A:2:3)": "CDE", "$(A:9)": "", "$(A:0:0)": "", "$(A:1:99)": "BCDEF", "$$A $A": "$A ABCDEF", "$B": "$A", "$NONE $(NONE:1)": "$NONE $(NONE:1)",
		"$MAU$MA": "000E08AABBCC000e08aabbcc", "$": "$", "$(": "$(", "$(A:x)": "$(A:x)", "$(A:1:2:3)": "$(A:1:2:3)", "$()": "$()", "$SA": "$SA", "a$": "a$", "$(A:-1)": "$(A:-1)", "$a": "$a", "": "",
	} {
		if got, _ := Expand(text, phone(false)); got != want {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
	if got, unknown := Expand("$SA $X $(Y)", phone(true)); got != "secret key $X $(Y)" || !slices.Equal(unknown, []string{"X", "Y"}) {
		t.Errorf("%q %q", got, unknown)
	}
	if got, _ := Expand(strings.Repeat("$A", 1<<16), phone(false)); len(got) > maxExpanded+6 {
		t.Errorf("%d bytes", len(got))
	}
}

// TestRules goes through the grammar.
func TestRules(t *testing.T) {
	for rule, want := range map[string]Target{
		"https://prov.example.com/$MA.xml": {URL: "https://prov.example.com/000e08aabbcc.xml"},
		"/$PSN.xml":                        {URL: "/8841-3PCC.xml"},
		`[--key "$SA" --uid u --pwd 'p w'] https://p.example/$MAU.cfg`:                               {URL: "https://p.example/000E08AABBCC.cfg", Key: "secret key", UID: "u", PWD: "p w"},
		"[ --key plain ]https://p.example/$SA":                                                       {URL: "https://p.example/$SA", Key: "plain", Unknown: []string{"SA"}},
		"($SWVER lt 7.5.2b)? http://a/ | http://b/":                                                  {URL: "http://b/"},
		"( $SWVER lt 11.3.10 )? http://a/ | http://b/":                                               {URL: "http://a/", If: "$SWVER lt 11.3.10"},
		`("$MA" eq "000e08aabbcc")? a/x`:                                                             {URL: "a/x", If: `"$MA" eq "000e08aabbcc"`},
		`($(MA:0:6) ne 000e08)? a/x | b/x`:                                                           {URL: "b/x"},
		`(($PRVST < 0 and $UPGCOND == 0) or "$PN" = "other")? [--key k] tftp://1.2.3.4/y | http://z`: {URL: "tftp://1.2.3.4/y", Key: "k", If: `($PRVST < 0 and $UPGCOND == 0) or "$PN" = "other"`},
		"(1 gt 2)? a | (2 ge 2)? b | c":                                                              {URL: "b", If: "2 ge 2"},
		"(1 != 1)? a":                                                                                {},
		"":                                                                                           {},
		"  ":                                                                                         {},
	} {
		r, err := Parse(rule)
		if err != nil {
			t.Errorf("%s: %v", rule, err)
			continue
		}
		got, ok, err := r.Choose(phone(false), phone(true))
		if err != nil || ok != (want.URL != "") || got.URL != want.URL || got.Key != want.Key || got.UID != want.UID || got.PWD != want.PWD || got.If != want.If || !slices.Equal(got.Unknown, want.Unknown) {
			t.Errorf("%s: %v %v %+v", rule, ok, err, got)
		}
	}
	for rule, want := range map[string]string{
		"|": "no address", "a |": "behind the last |", "a | b": "never taken", "(1 lt 2) a": "? behind", "(1 lt 2": "the rule ends where ) is", "(1)? a": "lt, le", "(lt 2)? a": "is expected", "[--key] a": "value of --key",
		"[--key a --key b] c": "twice", "[--alias a] c": "is no option", "[--key a c": "is no option", `[--key "a] c`: "has no end", "a b": "no address", "[--key a]": "no address", "(" + strings.Repeat("(", 20) + "1 lt 2": "nested",
		"(1 eq 1" + strings.Repeat(" and 1 eq 1", 70) + ")? a": "comparisons", strings.Repeat("(1 eq 2)? a |", 33) + "b": "alternatives", strings.Repeat("a", MaxSize+1): "bytes at most", `[--uid "" ] a`: "no value",
	} {
		if _, err := Parse(rule); ringfence.KindOf(err) != ringfence.KindInvalid || err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40s: %v, want %q", rule, err, want)
		}
	}
	for rule, want := range map[string]string{"($X eq 1)? a": "$X, which nobody knows", `("a" lt "b")? a`: "cannot be ordered", "http://a/$P": "blank in it"} {
		r, err := Parse(rule)
		if err != nil {
			t.Fatal(err)
		}
		if _, ok, err := r.Choose(phone(false), phone(true)); ok || err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", rule, err, want)
		}
	}
	r, err := Parse(`("$P" eq "x")? a | [--key "$SA$Q"] $B`)
	if err != nil {
		t.Fatal(err)
	}
	if outside, inside := r.Names(); !slices.Equal(outside, []string{"B", "P"}) || !slices.Equal(inside, []string{"Q", "SA"}) {
		t.Errorf("%q %q", outside, inside)
	}
	for _, name := range []string{"A", "P", "GPP_C", "MAU", "ERR"} {
		if !Known(name, false) {
			t.Errorf("%s is not known", name)
		}
	}
	if Known("Q", true) || Known("SA", false) || !Known("SD", true) || Known("SE", true) {
		t.Error("the secrets")
	}
}

func TestConditions(t *testing.T) {
	for text, want := range map[string]bool{"$PRVST eq -1": true, "$PRVST lt -2": false, "-3 lt -2": true, "-1 lt 0": true, "0 gt -5": true, "7.5.2 lt 7.5.2b": true, "7.6.2.a gt 7.6.2": true, "11.3.7 eq 11.3.7.0": true,
		"1 eq 2 or 1 eq 1": true, "1 eq 1 and 1 eq 2 or 2 eq 2": true, "(1 eq 2 or 1 eq 1) and 1 eq 2": false, "'a' ne \"b\"": true, "abc eq abc": true} {
		holds, err := ParseCondition(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if got, err := holds(phone(false)); err != nil || got != want {
			t.Errorf("%s: %v %v", text, got, err)
		}
	}
	for _, text := range []string{"", "1 eq", "1 eq 1)", "1 eq 1 and", strings.Repeat(" ", MaxSize+1)} {
		if _, err := ParseCondition(text); err == nil {
			t.Errorf("%q was taken", text)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, rule := range []string{`($SWVER lt 7.5.2b and ("$MA" eq '0'))? [--key "$SA" --uid u] https://$A/$(MA:2:3).cfg | tftp://x/$$`, "((((1 lt 2))))? a", "[--key '] a", "$($(A))"} {
		f.Add(rule)
	}
	f.Fuzz(func(t *testing.T, rule string) {
		began := time.Now()
		if holds, err := ParseCondition(rule); err == nil {
			_, _ = holds(phone(false))
		}
		r, err := Parse(rule)
		if err != nil {
			return
		}
		target, ok, _ := r.Choose(phone(false), phone(true))
		if ok && (target.URL == "" || strings.ContainsAny(target.URL, " \r\n") || strings.Contains(target.URL, "secret key")) {
			t.Errorf("%q: %+v", rule, target)
		}
		r.Names()
		if d := time.Since(began); d > time.Second {
			t.Errorf("%v", d)
		}
	})
}
