package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"ringfence/internal/desk/cwmp"
	"ringfence/internal/testkit"
)

// acsServer is an ACS of few lines, in another language: it wants Digest, reads two parameters of a phone that starts, sets the cipher list and one more, tries what is wrong, and asks a phone that it called for nothing. It prints what it learns.
const acsServer = `import http.server, ssl, sys, hashlib, re
import xml.etree.ElementTree as E
C = "{urn:dslforum-org:cwmp-1-2}"
S = "{http://schemas.xmlsoap.org/soap/envelope/}"
def wrap(body):
    return ('<?xml version="1.0"?><e:Envelope xmlns:e="http://schemas.xmlsoap.org/soap/envelope/" xmlns:c="urn:dslforum-org:cwmp-1-2" xmlns:x="http://www.w3.org/2001/XMLSchema-instance" xmlns:d="http://www.w3.org/2001/XMLSchema">'
        '<e:Header><c:ID e:mustUnderstand="1">42</c:ID></e:Header><e:Body>' + body + '</e:Body></e:Envelope>').encode()
def put(*pairs):
    return '<c:SetParameterValues><ParameterList>' + ''.join('<ParameterValueStruct><Name>%s</Name><Value x:type="d:%s">%s</Value></ParameterValueStruct>' % p for p in pairs) + '</ParameterList><ParameterKey>first</ParameterKey></c:SetParameterValues>'
asks = []
def md5(s): return hashlib.md5(s.encode()).hexdigest()
class ACS(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def log_message(self, *a): pass
    def reply(self, code, body=b"", **more):
        self.send_response(code)
        for k, v in more.items(): self.send_header(k.replace("_", "-"), v)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def do_GET(self):
        return self.reply(200, b"<flat-profile><Station_Name>by download</Station_Name></flat-profile>")
    def do_POST(self):
        global asks
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        a = dict(re.findall(r'(\w+)="?([^",]+)"?', self.headers.get("Authorization", "")))
        want = md5(":".join([md5("desk:acs:acs secret"), "n1", a.get("nc", ""), a.get("cnonce", ""), "auth", md5("POST:/cwmp")]))
        if a.get("response") != want or a.get("username") != "desk":
            return self.reply(401, WWW_Authenticate='Digest realm="acs", nonce="n1", qop="auth", algorithm=MD5')
        if not body:
            return self.reply(200, wrap(asks.pop(0)), Content_Type="text/xml") if asks else self.reply(204)
        root = E.fromstring(body)
        message = root.find(S + "Body")[0]
        ident = root.find(S + "Header")[0].text
        if message.tag == C + "Inform":
            events = [e.text for e in message.iter("EventCode")]
            values = {p.find("Name").text: p.find("Value").text for p in message.iter("ParameterValueStruct")}
            print("inform", message.find("DeviceId").find("SerialNumber").text, "+".join(events), values["Device.ManagementServer.ConnectionRequestURL"], values["Device.ManagementServer.ParameterKey"], flush=True)
            asks = []
            if "1 BOOT" in events:
                asks = ['<c:GetParameterValues><ParameterNames><string>Device.X_CISCO_SecuritySettings.TLSCipherList</string><string>Device.X_RINGFENCE_Profile.Password_1_</string></ParameterNames></c:GetParameterValues>',
                    put(("Device.X_RINGFENCE_Profile.Station_Name", "string", "x"), ("Device.X_RINGFENCE_Profile.SIP_Transport_1_", "string", "SCTP")),
                    put(("Device.X_CISCO_SecuritySettings.TLSCipherList", "string", "ECDHE+AESGCM"), ("Device.ManagementServer.PeriodicInformInterval", "unsignedInt", "3600"))]
            if "6 CONNECTION REQUEST" in events:
                asks = ['<c:SetParameterAttributes><ParameterList><SetParameterAttributesStruct><Name>Device.X_RINGFENCE_Profile.Station_Name</Name><NotificationChange>true</NotificationChange><Notification>2</Notification></SetParameterAttributesStruct></ParameterList></c:SetParameterAttributes>',
                    '<c:Download><CommandKey>profile</CommandKey><FileType>3 Vendor Configuration File</FileType><URL>https://localhost:%d/desk.xml</URL><DelaySeconds>0</DelaySeconds></c:Download>' % s.server_port]
            return self.reply(200, wrap('<c:InformResponse><MaxEnvelopes>1</MaxEnvelopes></c:InformResponse>').replace(b"42", ident.encode()), Content_Type="text/xml", Set_Cookie="session=1")
        if message.tag == C + "TransferComplete":
            print("transfer", message.find("CommandKey").text, message.find("FaultStruct").find("FaultCode").text, flush=True)
            return self.reply(200, wrap('<c:TransferCompleteResponse/>').replace(b"42", ident.encode()), Content_Type="text/xml")
        assert ident == "42", ident
        print("answer", message.tag.split("}")[1], [(p.find("Name").text, p.find("Value").text) for p in message.iter("ParameterValueStruct")], [f.text for f in message.iter("FaultCode")], [s.text for s in message.iter("Status")], flush=True)
        return self.reply(200, wrap(asks.pop(0)), Content_Type="text/xml") if asks else self.reply(204)
c = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
c.load_cert_chain(sys.argv[1], sys.argv[2])
s = http.server.ThreadingHTTPServer(("127.0.0.1", 0), ACS)
s.socket = c.wrap_socket(s.socket, server_side=True)
print(s.server_port, flush=True)
s.serve_forever()
`

// TestPhoneTR069 has a phone managed: an ACS in another language reads and sets, and asks for a session with curl.
func TestPhoneTR069(t *testing.T) {
	python, curl := testkit.Need(t, "/usr/bin/python3", "python3"), testkit.Need(t, "/usr/bin/curl", "curl")
	dir := t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	ca := testkit.NewAuthority("CA")
	cert, key := writePair(t, ca, dir, "localhost")
	if err := os.WriteFile(file("acs.py"), []byte(acsServer), 0o600); err != nil {
		t.Fatal(err)
	}
	server := exec.Command(python, file("acs.py"), cert, key)
	server.Stderr = os.Stderr
	pipe, err := server.StdoutPipe()
	if err == nil {
		err = server.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = server.Process.Kill(); _ = server.Wait() }()
	lines := make(chan string)
	go func() {
		defer close(lines)
		for s := bufio.NewScanner(pipe); s.Scan(); {
			lines <- s.Text()
		}
	}()
	heard := func() string {
		t.Helper()
		select {
		case line := <-lines:
			return line
		case <-time.After(20 * time.Second):
			t.Fatal("the ACS hears nothing")
			return ""
		}
	}
	port := heard()
	profile := "<flat-profile><Enable_TR-069>Yes</Enable_TR-069><ACS_URL>https://localhost:" + port + "/cwmp</ACS_URL><ACS_Username>desk</ACS_Username><ACS_Password>acs secret</ACS_Password><Connection_Request_Username>acs</Connection_Request_Username>" +
		"<Connection_Request_Password>bell secret</Connection_Request_Password><Password_1_>hidden</Password_1_></flat-profile>"
	for name, text := range map[string]string{"cfg.xml": profile, "wrong.xml": strings.Replace(profile, "acs secret", "guess", 1), "clear.xml": strings.Replace(profile, "https://", "http://", 1), "off.xml": "<flat-profile/>",
		"ca.pem": string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.Root()})), "other.pem": string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: testkit.NewAuthority("CA").Root()}))} {
		if err := os.WriteFile(file(name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	run := func(want int, args ...string) (s cwmp.Session, text string) {
		t.Helper()
		var out, errs bytes.Buffer
		if code := execute(t.Context(), append([]string{"phone"}, args...), &out, &errs); code != want {
			t.Errorf("%s: exit code %d, want %d\n%s%s", strings.Join(args, " "), code, want, out.String(), errs.String())
		}
		_ = json.Unmarshal(out.Bytes(), &s)
		return s, out.String() + errs.String()
	}
	first := []string{"tr069", "--cfg", file("cfg.xml"), "--ca", file("ca.pem"), "--state", file("state"), "--serial", "S1", "--mac", "00:0e:08:ab:cd:ef", "--once", "--json"}
	s, text := run(0, first...)
	var methods []string
	for _, d := range s.Done {
		methods = append(methods, d.Method)
	}
	if !slices.Equal(methods, []string{"GetParameterValues", "SetParameterValues", "SetParameterValues"}) || !strings.HasPrefix(s.Done[1].Fault, "9003 ") || s.Done[2].Fault != "" || !strings.HasPrefix(s.TLS, "TLS 1.3") || strings.Contains(text, "secret") {
		t.Error(text)
	}
	for _, want := range []string{`^inform S1 0 BOOTSTRAP\+1 BOOT None None$`, `^answer GetParameterValuesResponse \[\('Device.X_CISCO_SecuritySettings.TLSCipherList', None\), \('Device.X_RINGFENCE_Profile.Password_1_', None\)\] \[\] \[\]$`, `^answer Fault \[\] \['9003', '9007'\] \[\]$`,
		`^answer SetParameterValuesResponse \[\] \[\] \['1'\]$`} {
		if got := heard(); !regexp.MustCompile(want).MatchString(got) {
			t.Errorf("%s, want %s", got, want)
		}
	}
	if info, err := os.Stat(file("state/acs.json")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info, err)
	}
	// It is in force at the next start.
	if _, text := run(0, "explain", "TLS_Cipher_List", "--cfg", file("cfg.xml"), "--state", file("state")); !strings.Contains(text, "ECDHE+AESGCM") || !strings.Contains(text, "the ACS https://localhost") {
		t.Error(text)
	}
	run(5, "tr069", "--cfg", file("wrong.xml"), "--ca", file("ca.pem"), "--once")
	run(6, "tr069", "--cfg", file("cfg.xml"), "--ca", file("other.pem"), "--once")
	run(6, "tr069", "--cfg", file("clear.xml"), "--ca", file("ca.pem"), "--once")
	run(3, "tr069", "--cfg", file("off.xml"), "--once")

	// A phone that goes on: no bootstrap any more, and the ACS asks for a session.
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan int, 1)
	go func() {
		var out bytes.Buffer
		ended <- execute(ctx, append([]string{"phone"}, slices.DeleteFunc(slices.Clone(first), func(a string) bool { return a == "--once" })...), &out, &out)
	}()
	m := regexp.MustCompile(`^inform S1 1 BOOT\+4 VALUE CHANGE (http://127\.0\.0\.1:[89]\d\d\d/[A-Z2-7]{26}) first$`).FindStringSubmatch(heard())
	if m == nil {
		t.Fatal("the phone cannot be asked for a session")
	}
	for range 3 {
		heard()
	}
	for _, scheme := range []string{"--basic", "--digest"} {
		ctx, done := context.WithTimeout(ctx, 10*time.Second)
		out, err := exec.CommandContext(ctx, curl, "-s", "-o", "/dev/null", "-w", "%{http_code}", scheme, "--user", "acs:bell secret", m[1]).Output()
		done()
		if want := map[string]string{"--digest": "200", "--basic": "401"}[scheme]; err != nil || string(out) != want {
			t.Errorf("%s: %s %v", scheme, out, err)
		}
	}
	// It wants to hear of a parameter, and orders a profile, which changes it: the phone takes it, ends to start again, and tells of both then.
	for _, want := range []string{`^inform S1 6 CONNECTION REQUEST `, `^answer SetParameterAttributesResponse `, `^answer DownloadResponse \[\] \[\] \['1'\]$`} {
		if got := heard(); !regexp.MustCompile(want).MatchString(got) {
			t.Errorf("%s, want %s", got, want)
		}
	}
	if code := <-ended; code != 0 {
		t.Errorf("exit code %d", code)
	}
	cancel()
	if s, text := run(0, first...); len(s.Done) == 0 || s.Done[0].Method != "TransferComplete" {
		t.Error(text)
	}
	if got := heard(); !regexp.MustCompile(`^inform S1 1 BOOT\+4 VALUE CHANGE\+7 TRANSFER COMPLETE\+M Download `).MatchString(got) {
		t.Error(got)
	}
	if got := heard(); got != "transfer profile 0" {
		t.Error(got)
	}
	if _, text := run(0, "explain", "Station_Name", "--cfg", file("cfg.xml"), "--state", file("state")); !strings.Contains(text, "by download") {
		t.Error(text)
	}
}
