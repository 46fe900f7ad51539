package main

import (
	"bytes"
	"encoding/pem"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"ringfence/internal/testkit"
)

// deskGuide returns what the guide of desk phones has in its blocks of a kind, such as "text cfg.xml".
func deskGuide(t *testing.T, kind string) []string {
	t.Helper()
	b, err := os.ReadFile("../../docs/guides/desk-phone.md")
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, m := range regexp.MustCompile("(?ms)^```"+regexp.QuoteMeta(kind)+"\n(.*?)^```").FindAllStringSubmatch(string(b), -1) {
		out = append(out, m[1])
	}
	if len(out) == 0 {
		t.Fatalf("the guide has no block %q", kind)
	}
	return out
}

// TestDeskGuide does what the guide says with its files.
func TestDeskGuide(t *testing.T) {
	cfg, wrong, said := deskGuide(t, "text cfg.xml")[0], deskGuide(t, "text wrong.xml")[0], deskGuide(t, "text lint")[0]
	commands := deskGuide(t, "sh")
	dir := t.TempDir()
	t.Chdir(dir)
	for name, text := range map[string]string{"cfg.xml": cfg, "wrong.xml": wrong, "open.xml": strings.Replace(cfg, ">TLS<", ">UDP<", 1)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	run := func(want int, args ...string) string {
		t.Helper()
		var out, errs bytes.Buffer
		if code := execute(t.Context(), args, &out, &errs); code != want {
			t.Errorf("%s: exit code %d, want %d\n%s%s", strings.Join(args, " "), code, want, out.String(), errs.String())
		}
		return out.String()
	}
	if got := run(0, "phone", "lint", "cfg.xml"); got != "9 parameters: 0 errors, 0 dangerous, 0 warnings, 0 notes\n" {
		t.Error(got)
	}
	if got := run(0, "phone", "lint", "cfg.xml", "--json"); !strings.Contains(got, `"readable": true`) {
		t.Error(got)
	}
	if got := run(2, "phone", "lint", "wrong.xml"); got != said {
		t.Error(got)
	}
	for _, block := range commands {
		for line := range strings.Lines(block) {
			if args := strings.Fields(line); slices.Contains(args, "cfg.xml") && args[1] == "phone" && args[2] == "explain" && !slices.Contains(args, "--resync") { // TestResync fetches
				run(0, args[1:]...)
			}
		}
	}
	if got := run(0, "phone", "explain", "--cfg", "cfg.xml"); !regexp.MustCompile(`(?m)^SIP_Transport_1_ +TLS +cfg.xml:8 +signals over TLS$`).MatchString(got) || strings.Contains(got, "a long secret") || !strings.Contains(got, "leaves udp 8000-8010 open") {
		t.Error(got)
	}
	if got := run(0, "phone", "explain", "SIP_Port_2_", "--cfg", "cfg.xml", "--json"); !strings.Contains(got, `"value": "5061"`) {
		t.Error(got)
	}
	if got := run(0, "phone", "explain", "--all", "--cfg", "cfg.xml"); strings.Count(got, "\n") < 500 {
		t.Error(got)
	}
	run(3, "phone", "explain", "SIP_Prot_2_", "--cfg", "cfg.xml")
	run(2, "phone", "explain")
	run(2, "phone", "explain", "--cfg", "cfg.xml", "--mac", "12")
	run(2, "phone", "explain", "--cfg", "cfg.xml", "--cert", "a.pem")
	run(0, "network", "phone", "cfg.xml")
	run(3, "phone", "lint", "none.xml")
	if got := run(6, "phone", "lint", "open.xml"); !strings.Contains(got, "open.xml:8: SIP_Transport_1_: danger:") {
		t.Error(got)
	}
}

// TestResync fetches a profile from a server that is there, that sends nonsense, and that is gone.
func TestResync(t *testing.T) {
	ca := testkit.NewAuthority("CA")
	dir := t.TempDir()
	body := "<flat-profile><SIP_Transport_1_>TLS</SIP_Transport_1_><Password_1_>hidden</Password_1_></flat-profile>"
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/000e08abcdef.xml" {
			w.WriteHeader(404)
			return
		}
		_, _ = w.Write([]byte(body))
	}))
	server.TLS = ca.Server("127.0.0.1")
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	defer server.Close()
	anchor := filepath.Join(dir, "ca.pem")
	if err := os.WriteFile(anchor, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.Root()}), 0o600); err != nil {
		t.Fatal(err)
	}
	heard, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer heard.Close()
	file := filepath.Join(dir, "cfg.xml")
	if err := os.WriteFile(file, []byte("<flat-profile><Syslog_Server>"+heard.LocalAddr().String()+"</Syslog_Server></flat-profile>"), 0o600); err != nil {
		t.Fatal(err)
	}
	run := func(want int, more ...string) string {
		t.Helper()
		var out, errs bytes.Buffer
		args := append([]string{"phone", "explain", "--cfg", file, "--profile-rule", server.URL + "/$MA.xml", "--mac", "00:0E:08:AB:CD:EF", "--state", filepath.Join(dir, "kept")}, more...)
		if code := execute(t.Context(), args, &out, &errs); code != want {
			t.Errorf("exit code %d, want %d\n%s%s", code, want, out.String(), errs.String())
		}
		return out.String()
	}
	if got := run(6); !strings.Contains(got, "FAILED") || strings.Contains(got, "SIP_Transport_1_  TLS") {
		t.Error("without the authority:", got)
	}
	got := run(0, "--ca", anchor)
	for _, want := range []string{"Profile_Rule: 2 parameters from https://127.0.0.1", "which is CN=127.0.0.1 (TLS 1.3", "Profile_Rule https://127.0.0.1", "syslog: CP-8841-3PCC 00:0e:08:ab:cd:ef -- Successful resync"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in %s", want, got)
		}
	}
	buffer := make([]byte, 2048)
	messages := ""
	for range 4 { // a request and its end, of each of the two runs
		if err := heard.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		n, _, err := heard.ReadFrom(buffer)
		if err != nil {
			t.Fatal(err)
		}
		messages += string(buffer[:n]) + "\n"
	}
	if strings.Count(messages, "Requesting resync https://127.0.0.1:") != 2 || strings.Count(messages, "<131>") != 1 || strings.Contains(messages, "hidden") {
		t.Error(messages)
	}
	body = "<html>"
	if got := run(2, "--ca", anchor); !strings.Contains(got, "the profile kept from 20") || !strings.Contains(got, "SIP_Transport_1_") {
		t.Error(got)
	}
	server.Close()
	if got := run(7, "--ca", anchor); !strings.Contains(got, "the profile kept from 20") || !strings.Contains(got, "SIP_Transport_1_") {
		t.Error(got)
	}
	if info, err := os.Stat(filepath.Join(dir, "kept", "Profile_Rule.json")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info, err)
	}
}
