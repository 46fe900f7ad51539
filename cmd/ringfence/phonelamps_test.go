package main

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"ringfence/internal/desk/feature"
)

// presence makes the registrar a server that tells subscribers what others publish (RFC 3903): calls, and waiting messages.
const presence = `loadmodule "siputils.so"
loadmodule "presence.so"
loadmodule "presence_dialoginfo.so"
loadmodule "presence_mwi.so"
modparam("presence", "subs_db_mode", 0)
modparam("presence", "publ_cache", 2)
modparam("presence", "server_address", "sip:127.0.0.1:SEALED;transport=tls")
modparam("presence", "send_fast_notify", 1)
`

const presenceRoute = `	if (is_method("PUBLISH")) { handle_publish(); exit; }
	if (is_method("SUBSCRIBE")) { handle_subscribe(); exit; }
	if (has_totag()) {`

// TestPhoneLamps has a presence server of another vendor tell a phone of the calls of somebody else, and of messages that wait.
func TestPhoneLamps(t *testing.T) {
	dir := t.TempDir()
	port, sealed, _ := kamailio(t, dir, "MD5", "loadmodule \"siputils.so\"\n", presence, "	if (has_totag()) {", presenceRoute)
	alice := runDesk(t, dir, "alice", "<Proxy_1_>localhost:"+sealed+"</Proxy_1_><User_ID_1_>alice</User_ID_1_><Password_1_>secret</Password_1_><SIP_Transport_1_>TLS</SIP_Transport_1_>"+
		"<Extended_Function_2_>fnc=blf+sd+cp;sub=bob@localhost;nme=Bob</Extended_Function_2_><Extended_Function_3_>fnc=dance;sub=x</Extended_Function_3_>")
	n, etags := 0, map[string]string{}
	publish := func(user, event, contentType, body string) {
		t.Helper()
		n++
		conn, err := net.Dial("udp", "127.0.0.1:"+port)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
		match := ""
		if tag := etags[user+event]; tag != "" {
			match = "SIP-If-Match: " + tag + "\r\n"
		}
		fmt.Fprintf(conn, "PUBLISH sip:%[1]s@localhost SIP/2.0\r\nVia: SIP/2.0/UDP %[2]s;branch=z9hG4bKpublish%[3]d\r\nMax-Forwards: 70\r\nFrom: <sip:%[1]s@localhost>;tag=%[3]d\r\nTo: <sip:%[1]s@localhost>\r\nCall-ID: publish-%[3]d\r\nCSeq: 1 PUBLISH\r\nEvent: %[4]s\r\nExpires: 600\r\n%[7]sContent-Type: %[5]s\r\nContent-Length: %[8]d\r\n\r\n%[6]s",
			user, conn.LocalAddr(), n, event, contentType, body, match, len(body))
		b := make([]byte, 2000)
		got, err := conn.Read(b)
		if err != nil || !strings.HasPrefix(string(b[:got]), "SIP/2.0 200") {
			t.Fatalf("%v: %s", err, b[:got])
		}
		for line := range strings.Lines(string(b[:got])) {
			if tag, ok := strings.CutPrefix(strings.TrimSpace(line), "SIP-ETag: "); ok {
				etags[user+event] = tag
			}
		}
	}
	dialog := func(state string) {
		t.Helper()
		publish("bob", "dialog", "application/dialog-info+xml", `<?xml version="1.0"?>
<dialog-info xmlns="urn:ietf:params:xml:ns:dialog-info" version="1" state="full" entity="sip:bob@localhost"><dialog id="1" call-id="x" direction="recipient"><state>`+state+`</state><remote><identity>sip:carol@localhost</identity></remote></dialog></dialog-info>`)
	}
	lamp := func(state string) func(feature.State) bool {
		return func(s feature.State) bool { return len(s.Lamps) == 1 && s.Lamps[0].State == state }
	}
	for _, x := range []struct{ dialog, lamp string }{{"early", "ringing"}, {"confirmed", "busy"}, {"terminated", "idle"}} {
		dialog(x.dialog)
		alice.until("bob's call is "+x.dialog, lamp(x.lamp))
	}
	publish("alice", "message-summary", "application/simple-message-summary", "Messages-Waiting: yes\r\nMessage-Account: sip:alice@localhost\r\nVoice-Message: 2/8 (0/2)\r\n")
	alice.until("messages wait", func(s feature.State) bool {
		m := s.Lines[0].Messages
		return m != nil && m.Waiting && m.New == 2 && m.Old == 8 && m.Error == ""
	})
	publish("alice", "message-summary", "application/simple-message-summary", "Messages-Waiting: no\r\nMessage-Account: sip:alice@localhost\r\nVoice-Message: 0/10 (0/2)\r\n")
	alice.until("they were heard", func(s feature.State) bool { m := s.Lines[0].Messages; return m != nil && !m.Waiting && m.Old == 10 })
	if s := alice.until("the key that is wrong is told of", func(s feature.State) bool { return len(s.Wrong) == 1 }); !strings.Contains(s.Wrong[0], "Extended_Function_3_") {
		t.Error(s.Wrong)
	}
}
