package linekey

import (
	"strings"
	"testing"

	"ringfence"
)

func TestParse(t *testing.T) {
	for text, want := range map[string]Function{"": {}, "fnc=sd;ext=103": {Dials: true, Target: "103"}, " fnc = BLF ; sub = 102@a ; usr=x": {Lamp: true, Target: "102@a"}, "fnc=sd;sub=1;ext=2": {Dials: true, Target: "1", Number: "2"},
		"fnc=prk;sub=701@a;vid=2": {Parks: true, Target: "701@a", Line: 2}, "fnc=mwi+sd;sub=104;ext=*98": {Mailbox: true, Dials: true, Target: "104", Number: "*98"}} {
		if f, err := Parse(text); err != nil || f != want {
			t.Errorf("%q: %+v %v", text, f, err)
		}
	}
	for _, text := range []string{"fnc=sd", "fnc=dance;sub=1", "fnc=cp;sub=1", "fnc=prk+blf;sub=1", "fnc=mwi+blf;sub=1", "fnc=sd;ext=1;vid=0", "fnc=sd;ext=1;vid=17", "fnc=sd;sub=1;ext=a b", "sub=1", "fnc", "fnc=sd;ext=a b", "fnc=sd;ext=<x>", "fnc=sd;ext=" + strings.Repeat("1", 257), strings.Repeat(";", 1025)} {
		if f, err := Parse(text); ringfence.KindOf(err) != ringfence.KindInvalid || f != (Function{}) {
			t.Errorf("%.40q: %+v %v", text, f, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"fnc=blf+sd+cp;sub=102@pbx.example.com;nme=Bob", "fnc=sd;ext=103", ";;=;fnc=", "fnc=sd;ext=\r\nX: y"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if x, err := Parse(s); err == nil && strings.ContainsAny(x.Target, "\r\n<> ") {
			t.Errorf("%q: %+v", s, x)
		}
	})
}
