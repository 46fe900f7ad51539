package main

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ringfence/internal/desk/feature"
)

// insists makes the server agree on sealed media before anything else: it compares what each request repeats with its own list, and looks for the agreement in the descriptions of calls. An answer without it is made unusable.
const insists = `
	if (is_method("REGISTER|INVITE|BYE|SUBSCRIBE|UPDATE|REFER|NOTIFY")) {
		if (is_method("REGISTER") && MODE == 1 && !is_present_hf("Security-Client")) {
			append_to_reply("Require: mediasec\r\n");
			sl_send_reply("421", "Extension Required");
			exit;
		}
		if (is_method("REGISTER") && MODE == 1 && !is_present_hf("Authorization")) {
			append_to_reply("Security-Server: msrp-tls;mediasec\r\nSecurity-Server: sdes-srtp;mediasec\r\n");
			www_challenge("localhost", "1");
			exit;
		}
		if ($(hdr(Security-Verify)[0]) != "msrp-tls;mediasec" || $(hdr(Security-Verify)[1]) != "sdes-srtp;mediasec" || $hdrc(Security-Verify) != 2 || $hdr(Proxy-Require) != "mediasec" || !is_present_hf("Require")) {
			append_to_reply("Security-Server: msrp-tls;mediasec\r\nSecurity-Server: sdes-srtp;mediasec\r\n");
			sl_send_reply("494", "Security Agreement Required");
			exit;
		}
		if (is_method("INVITE") && !search_body("a=3ge2ae:requested")) {
			sl_send_reply("488", "Nothing Is Requested");
			exit;
		}
	}
	if (has_totag()) {`

const looks = `reply_route {
	if (is_method("INVITE") && status =~ "2[0-9][0-9]" && !search_body("a=3ge2ae:applied")) subst_body('/SAVP/AVP/g');
}
request_route {`

// TestPhoneAgreesOnMedia has lines agree with a server of another vendor on sealed media: the phone begins, the server does, the server insists that the phone begins, and one knows nothing of it.
func TestPhoneAgreesOnMedia(t *testing.T) {
	line := func(user, sealed, more string) string {
		return "<Proxy_1_>localhost:" + sealed + "</Proxy_1_><User_ID_1_>" + user + "</User_ID_1_><Password_1_>secret</Password_1_><SIP_Transport_1_>TLS</SIP_Transport_1_>" + more
	}
	status := func(d *deskUp) lineStatus {
		t.Helper()
		var out bytes.Buffer
		var s deskStatus
		if code := execute(t.Context(), []string{"phone", "status", "--json", "--state", d.state}, &out, io.Discard); code != 0 || json.Unmarshal(out.Bytes(), &s) != nil || len(s.Lines) != 1 {
			t.Fatalf("exit code %d: %s", code, out.String())
		}
		return s.Lines[0]
	}
	const begins = "<MediaSec_Request_1_>Yes</MediaSec_Request_1_><MediaSec_Over_TLS_Only_1_>Yes</MediaSec_Over_TLS_Only_1_>"
	for mode, who := range map[string]string{"0": "the server begins", "1": "the client has to begin"} {
		dir := t.TempDir()
		port, sealed, _ := kamailio(t, dir, "MD5", "	if (has_totag()) {", strings.ReplaceAll(insists, "MODE", mode), "request_route {", looks)
		alice := runDesk(t, dir, "alice", line("alice", sealed, begins), "--tone", "440")
		bob := runDesk(t, dir, "bob", line("bob", sealed, ""), "--tone", "620")
		for _, d := range []*deskUp{alice, bob} {
			if l := status(d); l.State != "registered" || l.MediaSec != "agreed" || strings.Join(l.Mechanisms, " ") != "msrp-tls;mediasec sdes-srtp;mediasec" {
				t.Errorf("%s: %s: %+v", who, d.name, l)
			}
		}
		alice.do(0, "dial", "bob")
		alice.until("bob answers", calls(1, "up"))
		alice.do(0, "hold")
		bob.until("bob is held", func(s feature.State) bool { return len(s.Calls) == 1 && s.Calls[0].Holds })
		alice.do(0, "hangup")
		bob.until("it is over", calls(0, ""))

		// In the clear nothing is agreed on, where the profile wants it over TLS only: this server lets nobody in then.
		udp, _ := freePorts(t)
		file := filepath.Join(dir, "clear.xml")
		clear := strings.NewReplacer("TLS</SIP", "UDP</SIP", sealed, port).Replace(line("carol", sealed, begins)) + "<SIP_Port_1_>" + udp + "</SIP_Port_1_>"
		if err := os.WriteFile(file, []byte("<flat-profile>"+clear+"</flat-profile>"), 0o600); err != nil {
			t.Fatal(err)
		}
		if code := execute(t.Context(), []string{"phone", "up", "--cfg", file, "--once", "--ca", filepath.Join(dir, "ca.pem")}, io.Discard, io.Discard); code == 0 {
			t.Errorf("%s: in the clear: it registered", who)
		}
		alice.stop()
		bob.stop()
	}
	dir := t.TempDir()
	_, sealed, _ := kamailio(t, dir, "MD5", "	if (is_method(\"REGISTER\")) {\n", "	if (is_method(\"REGISTER\")) {\n		if ($hdr(Proxy-Require) == \"mediasec\") { append_to_reply(\"Unsupported: mediasec\\r\\n\"); sl_send_reply(\"420\", \"Bad Extension\"); exit; }\n")
	alice := runDesk(t, dir, "alice", line("alice", sealed, begins))
	if l := status(alice); l.State != "registered" || l.MediaSec != "the server does not know it" || len(l.Mechanisms) != 0 {
		t.Errorf("%+v", l)
	}
}
