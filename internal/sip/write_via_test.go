package sip

import (
	"net/netip"
	"strings"
	"testing"
)

func TestResponseTellsTheSource(t *testing.T) {
	source := netip.MustParseAddrPort("198.51.100.7:40001")
	for in, want := range map[string]string{
		"SIP/2.0/TLS 10.0.0.2:5061;rport;branch=z9hG4bKa":                            "SIP/2.0/TLS 10.0.0.2:5061;rport=40001;branch=z9hG4bKa;received=198.51.100.7",
		"SIP/2.0/TLS 10.0.0.2;branch=z9hG4bKa;rport, SIP/2.0/TLS b;branch=z9hG4bKb":  "SIP/2.0/TLS 10.0.0.2;branch=z9hG4bKa;rport=40001;received=198.51.100.7, SIP/2.0/TLS b;branch=z9hG4bKb",
		"SIP/2.0/TLS 10.0.0.2;branch=z9hG4bKa":                                       "SIP/2.0/TLS 10.0.0.2;branch=z9hG4bKa;received=198.51.100.7",
		"SIP/2.0/UDP 198.51.100.7:40001;branch=z9hG4bKa":                             "SIP/2.0/UDP 198.51.100.7:40001;branch=z9hG4bKa",
		"SIP/2.0/UDP 198.51.100.7;branch=z9hG4bKa ; rport":                           "SIP/2.0/UDP 198.51.100.7;branch=z9hG4bKa ;rport=40001;received=198.51.100.7",
		"SIP/2.0/UDP phone.example.org;RPORT=;branch=z9hG4bKa":                       "SIP/2.0/UDP phone.example.org;rport=40001;branch=z9hG4bKa;received=198.51.100.7",
		"SIP/2.0/TLS 10.0.0.2;branch=z9hG4bKa;rport=9":                               "SIP/2.0/TLS 10.0.0.2;branch=z9hG4bKa;rport=9;received=198.51.100.7",
		"SIP/2.0/TLS 10.0.0.2;branch=z9hG4bKa;received=192.0.2.1;rport":              "SIP/2.0/TLS 10.0.0.2;branch=z9hG4bKa;rport=40001;received=198.51.100.7",
		"SIP/2.0/TLS [2001:db8::1]:5061;branch=z9hG4bKa;rport\r\nVia: SIP/2.0/TLS z": "SIP/2.0/TLS [2001:db8::1]:5061;branch=z9hG4bKa;rport=40001;received=198.51.100.7\r\nVia: SIP/2.0/TLS z",
		// A list may have empty members before the first Via, and after it.
		"SIP/2.0/TLS 10.0.0.2;branch=z9hG4bKa;rport , ":          "SIP/2.0/TLS 10.0.0.2;branch=z9hG4bKa;rport=40001;received=198.51.100.7",
		", ,SIP/2.0/TLS 10.0.0.2;branch=z9hG4bKa;rport":          "SIP/2.0/TLS 10.0.0.2;branch=z9hG4bKa;rport=40001;received=198.51.100.7",
		"\r\nVia: SIP/2.0/TLS 10.0.0.2;branch=z9hG4bKa;rport":    "\r\nVia: SIP/2.0/TLS 10.0.0.2;branch=z9hG4bKa;rport=40001;received=198.51.100.7",
		"SIP/2.0/TLS 10.0.0.2;;rport; ;branch=z9hG4bKa;":         "SIP/2.0/TLS 10.0.0.2;;rport=40001; ;branch=z9hG4bKa;;received=198.51.100.7",
		"SIP/2.0/UDP 198.51.100.7;branch=z9hG4bKa;rport=1;rport": "SIP/2.0/UDP 198.51.100.7;branch=z9hG4bKa;rport=1;rport",
		`SIP/2.0/UDP 198.51.100.7;rport="";x="rport;received"`:   `SIP/2.0/UDP 198.51.100.7;rport=40001;x="rport;received";received=198.51.100.7`,
	} {
		var m Message
		text := "OPTIONS sip:a SIP/2.0\r\nVia: " + in + "\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:a@b>\r\nCall-ID: c\r\nCSeq: 1 OPTIONS\r\n\r\n"
		if err := m.Parse([]byte(text), Limits{}); err != nil {
			t.Fatal(in, err)
		}
		var w Writer
		w.ResponseTo(&m, 200, "", "t", source)
		if got := string(w.Bytes()); !strings.Contains(got, "Via: "+want+"\r\nFrom") {
			t.Errorf("%s\n got %s", in, got)
		}
	}
}
