package sip

import (
	"strings"
	"testing"
)

func TestBearer(t *testing.T) {
	for in, want := range map[string]string{
		"Bearer abc.d-e_f.g~+/==":             "abc.d-e_f.g~+/==",
		"bearer   abc":                        "abc",
		`Bearer token="abc.def"`:              "abc.def",
		`BEARER Token = "abc"`:                "abc",
		"Bearer":                              "",
		"Bearer ":                             "",
		"Bearerabc":                           "",
		"Bearer a b":                          "",
		"Bearer a,b":                          "",
		"Bearer ===":                          "",
		"Bearer a=b":                          "",
		`Bearer token="a`:                     "",
		`Bearer token=abc`:                    "",
		`Bearer token=""`:                     "",
		`Digest username="a"`:                 "",
		"Bearer a\x00b":                       "",
		"Bearer " + strings.Repeat("a", 4097): "",
	} {
		got, ok := ParseBearer([]byte(in))
		if string(got) != want && ok || ok != (want != "") {
			t.Errorf("%.40q: %q %v", in, got, ok)
		}
	}
	c := BearerChallenge{Realm: `a"b`, Server: "https://x", Scope: "sip", Error: "invalid_token"}
	if got := string(c.Append(nil)); got != `Bearer realm="a\"b", authz_server="https://x", scope="sip", error="invalid_token"` {
		t.Error(got)
	}
}

func FuzzBearer(f *testing.F) {
	f.Add([]byte("Bearer abc.def=="))
	f.Add([]byte(`Bearer token="abc"`))
	f.Fuzz(func(t *testing.T, b []byte) {
		token, ok := ParseBearer(b)
		if !ok {
			return
		}
		again, ok := ParseBearer(append([]byte("Bearer "), token...))
		if !ok || string(again) != string(token) {
			t.Fatalf("%q became %q", token, again)
		}
	})
}
