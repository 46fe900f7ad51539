package main

import (
	"bytes"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"ringfence/internal/desk/feature"
)

// orders makes the server send a NOTIFY to alice's phone, with the password that it is told: it answers the phone's challenge itself.
const orders = `
	if (is_method("OPTIONS")) {
		$ru = "sip:alice@localhost";
		if (!lookup("location")) { sl_send_reply("404", "Nobody There"); exit; }
		$uac_req(method) = "NOTIFY";
		$uac_req(ruri) = $ru;
		$uac_req(ouri) = $ru;
		$uac_req(furi) = "sip:localhost";
		$uac_req(turi) = "sip:alice@localhost";
		$uac_req(hdrs) = "Event: " + $hdr(X-Order) + "\r\nSubscription-State: terminated\r\n";
		$uac_req(auser) = "alice";
		$uac_req(apasswd) = $hdr(X-Password);
		uac_req_send();
		sl_send_reply("200", "OK");
		exit;
	}
	if (is_method("CANCEL"))`

// TestPhoneIsOrdered has a server of another vendor make a phone resync and start again: with the line's password it does, without it does not, and a profile that is gone or nonsense changes nothing.
func TestPhoneIsOrdered(t *testing.T) {
	dir := t.TempDir()
	port, sealed, ca := kamailio(t, dir, "MD5", "	if (is_method(\"CANCEL\"))", orders)
	var mu sync.Mutex
	station, status := "one", 200
	serve := func(name string, code int) {
		mu.Lock()
		station, status = name, code
		mu.Unlock()
	}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		w.WriteHeader(status)
		_, _ = io.WriteString(w, "<flat-profile><Proxy_1_>localhost:"+sealed+"</Proxy_1_><User_ID_1_>alice</User_ID_1_><Password_1_>secret</Password_1_><SIP_Transport_1_>TLS</SIP_Transport_1_><Station_Name>"+station+"</Station_Name></flat-profile>")
	}))
	server.TLS = ca.Server("localhost")
	server.StartTLS()
	t.Cleanup(server.Close)
	_, https, _ := net.SplitHostPort(server.Listener.Addr().String())
	if err := os.WriteFile(filepath.Join(dir, "ca.pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.Root()}), 0o600); err != nil {
		t.Fatal(err)
	}
	alice := runDesk(t, dir, "alice", "<Profile_Rule>https://localhost:"+https+"/$MA.xml</Profile_Rule><Admin_Password>pages</Admin_Password>", "--resync", "--web", "127.0.0.1:0")
	sent := 0
	order := func(what, password string) {
		t.Helper()
		sent++
		conn, err := net.Dial("udp", "127.0.0.1:"+port)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
		fmt.Fprintf(conn, "OPTIONS sip:order@localhost SIP/2.0\r\nVia: SIP/2.0/UDP %s;branch=z9hG4bKorder%d\r\nMax-Forwards: 70\r\nFrom: <sip:test@localhost>;tag=1\r\nTo: <sip:order@localhost>\r\nCall-ID: order-%[2]d\r\nCSeq: 1 OPTIONS\r\nX-Order: %s\r\nX-Password: %s\r\nContent-Length: 0\r\n\r\n",
			conn.LocalAddr(), sent, what, password)
		b := make([]byte, 2000)
		if n, err := conn.Read(b); err != nil || !strings.HasPrefix(string(b[:n]), "SIP/2.0 200") {
			t.Fatalf("%v: %s", err, b)
		}
	}
	says := func(text string, times int) {
		t.Helper()
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for range 300 {
			if strings.Count(alice.said.String(), text) >= times {
				return
			}
			<-tick.C
		}
		t.Fatalf("nothing says %q %d times", text, times)
	}
	order("resync", "guess")
	order("resync", "secret")
	says("the profile is what it was", 1)
	serve("two", 503)
	order("resync", "secret")
	says("the resync failed, and the phone goes on as it was", 1)
	var out bytes.Buffer
	var s deskStatus
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for range 150 { // the status is kept every few seconds
		out.Reset()
		if execute(t.Context(), []string{"phone", "status", "--json", "--state", alice.state}, &out, io.Discard) == 0 && json.Unmarshal(out.Bytes(), &s) == nil && len(s.Resync) == 1 && strings.Contains(s.Resync[0].Error, "503") {
			break
		}
		<-tick.C
	}
	if len(s.Resync) != 1 || !strings.Contains(s.Resync[0].Error, "503") || s.Resync[0].LastGood.IsZero() || s.Lines[0].State != "registered" {
		t.Errorf("%s", out.String())
	}
	serve("two", 200)
	order("resync", "secret")
	says("the phone starts again", 1)
	says("web page: https://", 2)
	alice.until("it is registered again", func(s feature.State) bool { return len(s.Lines) == 1 && s.Lines[0].Registered })
	order("restart_now", "secret")
	says("the phone starts again", 2)
	says("web page: https://", 3)
	if text := alice.said.String(); strings.Count(text, "the server orders: ") != 4 { // not the one without the password
		t.Error(text)
	}
}
