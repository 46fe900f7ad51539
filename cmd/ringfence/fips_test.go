package main

import "testing"

func TestGODEBUGKeepsItsOtherWords(t *testing.T) {
	for _, c := range []struct {
		words, want string
		had         bool
	}{
		{"", "fips140=on", false},
		{"netdns=go", "netdns=go,fips140=on", false},
		{"fips140=off,netdns=go", "netdns=go,fips140=on", false},
		{"fips140=on,netdns=go", "netdns=go,fips140=on", true},
		{"fips140=only", "fips140=on", true},
		{"fips140=on,fips140=off", "fips140=on", false},
		{"tlsmlkem=1,,netdns=go", "tlsmlkem=1,netdns=go,fips140=on", false},
	} {
		if got, had := withFIPS(c.words); got != c.want || had != c.had {
			t.Errorf("%q: %q, %v; want %q, %v", c.words, got, had, c.want, c.had)
		}
	}
}
