package sip

import (
	"strings"
	"testing"
)

func TestResponse(t *testing.T) {
	parse := func(text string) *Message {
		m := new(Message)
		if err := m.Parse([]byte(text), Limits{}); err != nil {
			t.Fatal(err)
		}
		return m
	}
	respond := func(req *Message, status int, tag string) string {
		var w Writer
		w.Response(req, status, "", tag)
		w.Body("", nil)
		return string(w.Bytes())
	}
	const head = "INVITE sip:b@example.com SIP/2.0\r\nVia: SIP/2.0/TLS a;branch=z9hG4bK1, SIP/2.0/TLS b\r\nv: SIP/2.0/TLS c\r\n" +
		"f: <sip:a@example.com>;tag=1\r\ni: x\r\nCSeq: 1 INVITE\r\nTimestamp: 54\r\n"
	req := parse(head + "t: sip:b@example.com\r\n\r\n")
	if got, want := respond(req, 486, "t2"), "SIP/2.0 486 Busy Here\r\nVia: SIP/2.0/TLS a;branch=z9hG4bK1, SIP/2.0/TLS b\r\nVia: SIP/2.0/TLS c\r\n"+
		"From: <sip:a@example.com>;tag=1\r\nTo: sip:b@example.com;tag=t2\r\nCall-ID: x\r\nCSeq: 1 INVITE\r\nContent-Length: 0\r\n\r\n"; got != want {
		t.Errorf("response:\n%s", got)
	}
	if got := respond(req, 100, ""); !strings.Contains(got, "To: sip:b@example.com\r\n") || !strings.Contains(got, "Timestamp: 54\r\n") {
		t.Errorf("100:\n%s", got)
	}
	if got := respond(parse(head+"To: <sip:b@example.com>;tag=old\r\n\r\n"), 200, "new"); strings.Contains(got, "new") {
		t.Errorf("a dialog's tag was changed:\n%s", got)
	}
	if got := respond(parse("INVITE sip:b SIP/2.0\r\nVia: SIP/2.0/TLS a\r\n\r\n"), 400, "t"); strings.Contains(got, "From") || strings.Contains(got, "To:") {
		t.Errorf("fields that the request lacks were made up:\n%s", got)
	}
}

func TestWriterKeepsOneLine(t *testing.T) {
	var w Writer
	w.RequestLine(INVITE, "sip:a SIP/2.0\r\nX: y")
	w.StatusLine(486, "a\nb")
	w.Named("X", "a\r\nb\x00")
	w.Value(HeaderSubject, []byte("\r\n\r\n"))
	if got := strings.Count(string(w.Bytes()), "\n"); got != 4 {
		t.Errorf("%d lines: %q", got, w.Bytes())
	}
}

func TestURIEqual(t *testing.T) {
	for _, tt := range []struct {
		a, b string
		want bool
	}{ // the examples of RFC 3261 section 19.1.4, and more
		{"sip:%61lice@atlanta.com;transport=TCP", "sip:alice@AtLanTa.CoM;Transport=tcp", true},
		{"sip:carol@chicago.com", "sip:carol@chicago.com;newparam=5", true},
		{"sip:carol@chicago.com;security=on", "sip:carol@chicago.com;newparam=5", true},
		{"sip:biloxi.com;transport=tcp;method=REGISTER?to=sip:bob%40biloxi.com", "sip:biloxi.com;method=REGISTER;transport=tcp?to=sip:bob%40biloxi.com", true},
		{"sip:alice@atlanta.com?subject=project%20x&priority=urgent", "sip:alice@atlanta.com?priority=urgent&subject=project%20x", true},
		{"SIP:ALICE@AtLanTa.CoM;Transport=udp", "sip:alice@AtLanTa.CoM;Transport=UDP", false},
		{"sip:bob@biloxi.com", "sip:bob@biloxi.com:5060", false},
		{"sip:bob@biloxi.com", "sip:bob@biloxi.com;transport=udp", false},
		{"sip:bob@biloxi.com", "sip:bob@biloxi.com:6000;transport=tcp", false},
		{"sip:carol@chicago.com", "sip:carol@chicago.com?Subject=next%20meeting", false},
		{"sip:carol@chicago.com;security=on", "sip:carol@chicago.com;security=off", false},
		{"sip:bob@phone21.boxesbybob.com", "sip:bob@192.0.2.4", false},
		{"sip:a@[2001:db8::1]", "sip:a@[2001:DB8:0::0:1]", true},
		{"sip:a@h?x=1&x=1", "sip:a@h?x=1&y=1", false},
		{"sip:a@h", "sips:a@h", false},
	} {
		a, errA := ParseURI([]byte(tt.a))
		b, errB := ParseURI([]byte(tt.b))
		if errA != nil || errB != nil || a.Equal(&b) != tt.want || b.Equal(&a) != tt.want {
			t.Errorf("%s and %s: want %v (%v, %v)", tt.a, tt.b, tt.want, errA, errB)
		}
	}
}

func TestLimits(t *testing.T) {
	text := string(inviteText())
	for name, tt := range map[string]struct {
		in     string
		lim    Limits
		status int
	}{
		"message":        {text, Limits{Message: 100}, 513},
		"headers":        {text, Limits{Headers: 5}, 400},
		"one field":      {text, Limits{Header: 20}, 400},
		"body":           {text, Limits{Body: 10}, 413},
		"300 fields":     {strings.Replace(text, "Via:", strings.Repeat("X: y\r\n", 300)+"Via:", 1), Limits{Headers: 1000}, 400},
		"default fields": {strings.Replace(text, "Via:", strings.Repeat("X: y\r\n", 128)+"Via:", 1), Limits{Message: 60000}, 400},
	} {
		var m Message
		err := m.Parse([]byte(tt.in), tt.lim)
		fault, ok := err.(*ParseError)
		if !ok || fault.Status != tt.status {
			t.Errorf("%s: %v", name, err)
		}
	}
	var m Message
	if err := m.Parse([]byte(strings.Replace(text, "Via:", strings.Repeat("X: y\r\n", 240)+"Via:", 1)), Limits{Headers: 300}); err != nil || !m.Has(HeaderContentType) {
		t.Errorf("253 fields: %v", err)
	}
	for name, in := range map[string]string{"bare LF": "OPTIONS sip:a SIP/2.0\nVia: x\n\n", "bare CR": strings.Replace(text, "test\r\n", "te\rst\r\n", 1),
		"no end": strings.Split(text, "\r\n\r\n")[0] + "\r\n", "empty": "", "CRLF": "\r\n\r\n"} {
		if err := m.Parse([]byte(in), Limits{}); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
}
