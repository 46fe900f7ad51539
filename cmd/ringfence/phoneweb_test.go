package main

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"io"
	"net"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"ringfence/internal/testkit"
)

// TestPhonePages has a client of somebody else look at a phone's web pages, place a call with them, and start the phone again.
func TestPhonePages(t *testing.T) {
	dir := t.TempDir()
	_, sealed, _ := kamailio(t, dir, "MD5")
	line := func(user string) string {
		return "<Proxy_1_>localhost:" + sealed + "</Proxy_1_><User_ID_1_>" + user + "</User_ID_1_><Password_1_>secret</Password_1_><SIP_Transport_1_>TLS</SIP_Transport_1_>"
	}
	bob := runDesk(t, dir, "bob", line("bob"))
	alice := runDesk(t, dir, "alice", line("alice")+"<Admin_Password>of the pages</Admin_Password><Station_Name>Reception</Station_Name>", "--web", "127.0.0.1:0")
	where := func(n int) string { // of the n-th start
		t.Helper()
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for range 400 {
			if all := regexp.MustCompile(`(?m)^web page: https://(.*)/$`).FindAllStringSubmatch(alice.said.String(), -1); len(all) >= n {
				return all[n-1][1]
			}
			<-tick.C
		}
		t.Fatalf("the pages are not served: %s", alice.said)
		return ""
	}
	at := where(1)
	curl := testkit.Need(t, "/usr/bin/curl", "curl")
	get := func(args ...string) string {
		t.Helper()
		out, err := exec.CommandContext(t.Context(), curl, append([]string{"--silent", "--show-error", "--insecure", "--max-time", "20"}, args...)...).CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return string(out)
	}
	conn, err := tls.Dial("tcp", at, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(conn.ConnectionState().PeerCertificates[0].Raw)
	_ = conn.Close()
	if !strings.Contains(alice.said.String(), hex.EncodeToString(sum[:])) {
		t.Errorf("the fingerprint that is printed is not that of the certificate: %s", alice.said)
	}
	if raw, err := net.Dial("tcp", at); err != nil {
		t.Error(err)
	} else {
		_ = raw.SetDeadline(time.Now().Add(10 * time.Second))
		_, _ = raw.Write([]byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"))
		b, _ := io.ReadAll(raw)
		if bytes.Contains(b, []byte("HTTP/1.1 200")) || bytes.Contains(b, []byte("Reception")) {
			t.Errorf("a page in the clear: %s", b)
		}
		_ = raw.Close()
	}
	if text := get("https://" + at + "/status.json"); !strings.Contains(text, "nobody signed in") {
		t.Error(text)
	}
	sign := []string{"--user", "admin:of the pages"}
	var s deskStatus
	if text := get(append(sign, "https://"+at+"/status.json")...); json.Unmarshal([]byte(text), &s) != nil || len(s.Lines) != 1 || s.Lines[0].State != "registered" || strings.Contains(text, "of the pages") || strings.Contains(text, `"secret"`) {
		t.Error(text)
	}
	if text := get(append(sign, "https://"+at+"/parameters/System")...); !strings.Contains(text, "<h2>HTTP Proxy Settings</h2>") || !strings.Contains(text, "Reception") || strings.Contains(text, "of the pages") {
		t.Error(text)
	}
	if text := get(append(sign, "--data", `{"do":"dial","number":"bob"}`, "https://"+at+"/do")...); !strings.Contains(text, "calling bob") {
		t.Error(text)
	}
	bob.until("alice calls", calls(1, "up"))
	if text := get(append(sign, "https://"+at+"/calls")...); !strings.Contains(text, "to bob") || !strings.Contains(text, `value="hold"`) {
		t.Error(text)
	}
	if text := get(append(sign, "--request", "POST", "https://"+at+"/restart")...); !strings.Contains(text, "starts again") {
		t.Error(text)
	}
	bob.until("alice is gone", calls(0, ""))
	at = where(2)
	if text := get(append(sign, "https://"+at+"/state")...); !strings.Contains(text, `"registered": true`) || !strings.Contains(text, `"calls": []`) {
		t.Error(text)
	}

	// A parameter is changed there: the phone starts again with it, until the profile says something else.
	change := func(body string) string {
		t.Helper()
		return get(append(sign, "--header", "Content-Type: application/json", "--data", body, "https://"+at+"/parameters.json")...)
	}
	for body, want := range map[string]string{`{"changes":[{"name":"Call_Appearances_Per_Line","value":"99"}]}`: `"refused": [`, `{"changes":[{"name":"SIP_Transport_1_","value":"UDP"}]}`: "keys of media with it", `{"changes":[{"name":"Station_Name","value":"Reception"}]}`: `"changed": []`} {
		if text := change(body); !strings.Contains(text, want) || !strings.Contains(text, `"done": false`) {
			t.Errorf("%s: %s", body, text)
		}
	}
	if text := change(`{"changes":[{"name":"Station_Name","value":"Gate"},{"name":"Extended_Function_2_","value":"fnc=sd;ext=bob"}]}`); !strings.Contains(text, `"done": true`) {
		t.Error(text)
	}
	at = where(3)
	if text := get(append(sign, "https://"+at+"/parameters.json")...); !strings.Contains(text, `"value": "Gate"`) || !strings.Contains(text, `"from": "the web page, by admin at `) {
		t.Error(text)
	}
	alice.do(0, "key", "2")
	bob.until("alice calls by the key", calls(1, "up"))
	alice.do(0, "hangup")
	if info, err := os.Stat(alice.state + "/" + changesName); err != nil || info.Mode().Perm() != 0o600 {
		t.Error(info, err)
	}
	explained := func(profile string) string {
		t.Helper()
		var out, errs bytes.Buffer
		if err := os.WriteFile(dir+"/other.xml", []byte("<flat-profile>"+line("alice")+profile+"</flat-profile>"), 0o600); err != nil {
			t.Fatal(err)
		}
		if code := execute(t.Context(), []string{"phone", "explain", "Station_Name", "--cfg", dir + "/other.xml", "--ca", dir + "/ca.pem", "--state", alice.state}, &out, &errs); code != 0 {
			t.Error(errs.String())
		}
		return out.String()
	}
	alice.stop()
	for _, x := range [][2]string{{"<Station_Name>Reception</Station_Name>", "Gate"}, {"<Station_Name>Hall</Station_Name>", "Hall"}, {"<Station_Name>Reception</Station_Name>", "Reception"}} {
		if text := explained(x[0]); !strings.Contains(text, x[1]) {
			t.Errorf("%s: %s", x[0], text)
		}
	}

	var out, errs bytes.Buffer
	for _, more := range [][]string{{"--web", "127.0.0.1:0"}, {"--web", "nowhere"}} {
		if code := execute(t.Context(), append([]string{"phone", "up", "--cfg", dir + "/bob.xml", "--ca", dir + "/ca.pem"}, more...), &out, &errs); code == 0 {
			t.Errorf("%v: %s", more, errs.String())
		}
	}
	if !strings.Contains(errs.String(), "no password for them") || !strings.Contains(errs.String(), "--web \"nowhere\" is no address") {
		t.Error(errs.String())
	}
}
