package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ringfence/internal/desk/feature"
	"ringfence/internal/desk/flatprofile"
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

// lists makes the presence server tell of whole lists as well (RFC 4662), and publish what it sees of calls by itself, with the dialogs' names.
const lists = presence + `loadmodule "db_text.so"
loadmodule "pua.so"
loadmodule "rls.so"
loadmodule "dialog.so"
loadmodule "pua_dialoginfo.so"
modparam("pua", "db_mode", 0)
modparam("pua", "db_url", "text://HOME/db")
modparam("pua", "outbound_proxy", "sip:127.0.0.1:PORT")
modparam("rls", "db_url", "text://HOME/db")
modparam("rls", "integrated_xcap_server", 1)
modparam("rls", "to_presence_code", 10)
modparam("rls", "rls_event", "dialog")
modparam("rls", "waitn_time", 1)
modparam("rls", "outbound_proxy", "sip:127.0.0.1:PORT")
modparam("rls", "server_address", "sip:rls@127.0.0.1:PORT")
modparam("dialog", "enable_stats", 0)
modparam("dialog", "db_mode", 0)
modparam("pua_dialoginfo", "include_callid", 1)
modparam("pua_dialoginfo", "include_tags", 1)
modparam("pua_dialoginfo", "include_localremote", 1)
`

const listsRoute = `	if (is_method("PUBLISH")) { handle_publish(); exit; }
	if (is_method("SUBSCRIBE")) { $var(code) = rls_handle_subscribe(); if ($var(code) == 10) handle_subscribe(); exit; }
	if (is_method("NOTIFY") && $rU == "rls") { rls_handle_notify(); exit; }
	if (is_method("INVITE") && !has_totag()) dlg_manage();
	if (has_totag()) {`

// TestPhoneKeys has a server of another vendor tell a phone of a list of others by one subscription, and of their calls by their dialogs: a key takes a call that rings elsewhere from its caller.
func TestPhoneKeys(t *testing.T) {
	dir := t.TempDir()
	if err := os.CopyFS(filepath.Join(dir, "db"), os.DirFS("/usr/share/kamailio/dbtext/kamailio")); err != nil { // empty tables, of the Debian package kamailio
		t.Fatal(err)
	}
	list := `<?xml version="1.0"?><rls-services xmlns="urn:ietf:params:xml:ns:rls-services"><service uri="sip:lamps@localhost"><list name="lamps"><entry uri="sip:bob@localhost"/><entry uri="sip:carol@localhost"/></list><packages><package>dialog</package></packages></service></rls-services>`
	xcap, err := os.ReadFile(filepath.Join(dir, "db", "xcap"))
	if err != nil {
		t.Fatal(err)
	}
	row := "1:alice:localhost:" + strings.ReplaceAll(list, ":", "\\:") + ":8:1:0:x:0\n" // 8 is the kind of rls-services
	if err := os.WriteFile(filepath.Join(dir, "db", "xcap"), append(xcap, row...), 0o600); err != nil {
		t.Fatal(err)
	}
	_, sealed, _ := kamailio(t, dir, "MD5", "loadmodule \"siputils.so\"\n", lists, "	if (has_totag()) {", listsRoute)
	line := func(user, more string) string {
		return "<Proxy_1_>localhost:" + sealed + "</Proxy_1_><User_ID_1_>" + user + "</User_ID_1_><Password_1_>secret</Password_1_><SIP_Transport_1_>TLS</SIP_Transport_1_>" + more
	}
	bob := runDesk(t, dir, "bob", line("bob", ""), "--no-answer")
	carol := runDesk(t, dir, "carol", line("carol", ""), "--no-answer")
	alice := runDesk(t, dir, "alice", line("alice", "<BLF_List_URI>lamps@$PROXY</BLF_List_URI><Number_of_Units>1</Number_of_Units>"))
	lamps := func(bob, carol string) func(feature.State) bool {
		return func(s feature.State) bool {
			return len(s.Lamps) == 2 && s.Lamps[0].State == bob && s.Lamps[1].State == carol && s.Lamps[0].Key == 101 && s.Lamps[0].Target == "sip:bob@localhost" && s.Lamps[1].Key == 102
		}
	}
	alice.until("the list is there", func(s feature.State) bool { return len(s.Lamps) == 2 })
	carol.do(0, "dial", "bob")
	bob.until("it rings", calls(1, "ringing"))
	alice.until("bob's lamp flashes", lamps("ringing", "ringing"))
	if text := alice.do(0, "key", "101"); !strings.Contains(text, "picking up what rings at bob, from sip:carol@") {
		t.Error(text)
	}
	alice.until("alice has the call", calls(1, "up"))
	carol.until("carol speaks with alice", func(s feature.State) bool { return calls(1, "up")(s) && s.Calls[0].Number == "alice" })
	bob.until("it rings no more", calls(0, ""))
	alice.do(0, "hangup")
	alice.until("all lamps are out", lamps("idle", "idle"))
}

// TestGuideKeys has the keys of the guide understood, and nothing to say against them.
func TestGuideKeys(t *testing.T) {
	f, err := flatprofile.Parse([]byte(deskGuide(t, "text keys.xml")[0]))
	if err != nil {
		t.Fatal(err)
	}
	set := flatprofile.NewSet(flatprofile.Parameters())
	set.Add(f, "keys.xml")
	if s := feature.Of(set); len(s.Keys) != 2 || len(s.Wrong) != 0 || s.Codes != (feature.Codes{PickUp: "*8", PickUpGroup: "*8", Park: "*70", Retrieve: "*71"}) {
		t.Errorf("%+v", s)
	}
	file := filepath.Join(t.TempDir(), "keys.xml")
	if err := os.WriteFile(file, []byte(deskGuide(t, "text keys.xml")[0]), 0o600); err != nil {
		t.Fatal(err)
	}
	var out, errs bytes.Buffer
	if code := execute(t.Context(), []string{"phone", "lint", file}, &out, &errs); code != 0 || !strings.Contains(out.String(), "6 parameters: 0 errors, 0 dangerous") {
		t.Errorf("%d %s%s", code, out.String(), errs.String())
	}
	out.Reset()
	if code := execute(t.Context(), []string{"phone", "explain", "--cfg", file, "--json"}, &out, &errs); code != 0 {
		t.Fatal(errs.String())
	}
	var e explanation
	if err := json.Unmarshal(out.Bytes(), &e); err != nil {
		t.Fatal(err)
	}
	did := map[string]string{}
	for _, p := range e.Parameters {
		did[p.Name] = p.Did
	}
	for name, want := range map[string]string{"Extended_Function_2_": "shows the calls of 102@; calls 102@; picks up what rings there, if need be by *8", "Extended_Function_3_": "parks calls of 701@ by *70, and takes them by *71", "Call_Park_Code": "transferred to, with the place"} {
		if did[name] != want {
			t.Errorf("%s: %s", name, did[name])
		}
	}
}
