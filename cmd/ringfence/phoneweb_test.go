package main

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"io"
	"net"
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

	var out, errs bytes.Buffer
	alice.stop()
	for _, more := range [][]string{{"--web", "127.0.0.1:0"}, {"--web", "nowhere"}} {
		if code := execute(t.Context(), append([]string{"phone", "up", "--cfg", dir + "/bob.xml", "--ca", dir + "/ca.pem"}, more...), &out, &errs); code == 0 {
			t.Errorf("%v: %s", more, errs.String())
		}
	}
	if !strings.Contains(errs.String(), "no password for them") || !strings.Contains(errs.String(), "--web \"nowhere\" is no address") {
		t.Error(errs.String())
	}
}
