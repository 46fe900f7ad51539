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
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"ringfence/internal/testkit"
)

// signedIn are lines of a web proxy that wants a digest.
const signedIn = "auth_param digest program /usr/lib/squid/digest_file_auth HOME/users\nauth_param digest realm proxy\nacl known proxy_auth REQUIRED\nhttp_access allow known\nhttp_access deny all\n"

// webProxy runs a web proxy of somebody else with some lines of its own, and returns its port and the file in which it says what went through it.
func webProxy(t *testing.T, lines string) (port, log string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "squid") // where a server that gives up root can write
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if u, err := user.Lookup("proxy"); err == nil && os.Getuid() == 0 {
		uid, _ := strconv.Atoi(u.Uid)
		gid, _ := strconv.Atoi(u.Gid)
		if err := os.Chown(dir, uid, gid); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	_, port = freePorts(t)
	log = filepath.Join(dir, "access.log")
	conf := fmt.Sprintf("http_port 127.0.0.1:%s\npid_filename none\ncache_log %[2]s/cache.log\naccess_log stdio:%[3]s\ncache_store_log none\ncoredump_dir %[2]s\ncache deny all\nshutdown_lifetime 0 seconds\nvisible_hostname proxy.example.com\npinger_enable off\n"+
		"netdb_filename none\nmemory_pools off\nmax_filedescriptors 256\nbuffered_logs off\n%[4]s", port, dir, log, strings.ReplaceAll(lines, "HOME", dir))
	for name, text := range map[string]string{"squid.conf": conf, "users": "desk:of the proxy\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(testkit.Need(t, "/usr/sbin/squid", "squid-openssl"), "-N", "-n", "ringfence"+port, "-f", filepath.Join(dir, "squid.conf"))
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for range 500 {
		if c, err := net.Dial("tcp", "127.0.0.1:"+port); err == nil {
			_ = c.Close()
			return port, log
		}
		<-tick.C
	}
	t.Fatal("squid does not come up")
	return "", ""
}

// TestPhoneByProxy has provisioning go by a web proxy, and signalling not: a profile names the proxy, the proxy wants to know who asks, and its log says what went through it.
func TestPhoneByProxy(t *testing.T) {
	dir := t.TempDir()
	proxy, log := webProxy(t, signedIn)
	_, sealed, ca := kamailio(t, dir, "MD5")
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/report" {
			return
		}
		_, _ = io.WriteString(w, "<flat-profile><Proxy_1_>localhost:"+sealed+"</Proxy_1_><User_ID_1_>alice</User_ID_1_><Password_1_>secret</Password_1_><SIP_Transport_1_>TLS</SIP_Transport_1_></flat-profile>")
	}))
	server.TLS = ca.Server("localhost")
	server.StartTLS()
	t.Cleanup(server.Close)
	_, port, _ := net.SplitHostPort(server.Listener.Addr().String())
	if err := os.WriteFile(filepath.Join(dir, "anchors.pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.Root()}), 0o600); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "cfg.xml")
	run := func(want int, password string, args ...string) string {
		t.Helper()
		text := "<flat-profile><Proxy_Mode>Manual</Proxy_Mode><Proxy_Host>127.0.0.1</Proxy_Host><Proxy_Port>" + proxy + "</Proxy_Port><Proxy_Server_Requires_Authentication>Yes</Proxy_Server_Requires_Authentication>" +
			"<Proxy_Username>desk</Proxy_Username><Proxy_Password>" + password + "</Proxy_Password><Profile_Rule>https://localhost:" + port + "/$MA.xml</Profile_Rule><Report_Rule>https://localhost:" + port + "/report</Report_Rule></flat-profile>"
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		var out, errs bytes.Buffer
		args = append(append([]string{"phone"}, args...), "--cfg", file, "--resync", "--ca", filepath.Join(dir, "anchors.pem"))
		if code := execute(t.Context(), args, &out, &errs); code != want {
			t.Errorf("%v: exit code %d, want %d\n%s%s", args, code, want, out.String(), errs.String())
		}
		return out.String()
	}
	var s deskStatus
	if err := json.Unmarshal([]byte(run(0, "of the proxy", "up", "--once", "--json")), &s); err != nil {
		t.Fatal(err)
	}
	way := "PROXY 127.0.0.1:" + proxy
	if len(s.Lines) != 1 || s.Lines[0].State != "registered" || s.Lines[0].Server != "127.0.0.1:"+sealed || len(s.Resync) != 1 || s.Resync[0].Server != way || s.Resync[0].Parameters != 4 {
		t.Errorf("%+v", s)
	}
	if u := s.Web.Used; len(u) != 1 || u[0].Way != way || u[0].Scheme != "digest" || u[0].Because != "Proxy_Mode is Manual ("+file+":1)" || u[0].Error != "" {
		t.Errorf("%+v", s.Web)
	}
	text := run(0, "of the proxy", "explain", "Proxy_Mode", "Proxy_Password")
	for _, want := range []string{"provisioning to localhost:" + port + ": " + way + ", signed in by digest, since Proxy_Mode is Manual", "signalling and voice do not", "(secret)"} {
		if !strings.Contains(text, want) {
			t.Errorf("nothing says %q: %s", want, text)
		}
	}
	if strings.Contains(text, "of the proxy") {
		t.Error(text)
	}
	run(5, "guess", "explain")
	run(0, "of the proxy", "report")
	through, said := 0, []byte{}
	for tick, tries := time.NewTicker(50*time.Millisecond), 0; through != 4 && tries < 200; tries++ { // a way is told of when it is closed
		<-tick.C
		var err error
		if said, err = os.ReadFile(log); err != nil {
			t.Fatal(err)
		}
		through = 0
		for line := range strings.Lines(string(said)) {
			f := strings.Fields(line)
			if strings.Contains(line, "error:transaction-end-before-headers") { // the test, that looked whether somebody is there
				continue
			}
			if len(f) < 8 || f[5] != "CONNECT" || f[6] != "localhost:"+port {
				t.Fatalf("what is neither provisioning nor a report went by the proxy: %s", line)
			}
			if strings.Contains(line, " desk ") && strings.Contains(line, "/200") {
				through++
			}
		}
	}
	if through != 4 { // three times the profile, and the report
		t.Errorf("%d ways were opened:\n%s", through, said)
	}
}
