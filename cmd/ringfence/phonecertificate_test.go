package main

import (
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"ringfence"
	"ringfence/internal/desk/feature"
	"ringfence/internal/desk/flatprofile"
	"ringfence/internal/node/config"
	"ringfence/internal/state/store"
	"ringfence/internal/testkit"
	"ringfence/internal/testkit/onehost"
)

// keep writes a certificate and its key.
func keep(t *testing.T, pair tls.Certificate, cert, key string) {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{cert: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: pair.Certificate[0]}), key: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})} {
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// TestPhoneCertificate has openssl ask a phone for its certificate: it shows that of its manufacturer until it has the site's, and what Certificate_Select says.
func TestPhoneCertificate(t *testing.T) {
	openssl := testkit.Need(t, "/usr/bin/openssl", "openssl")
	dir := t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	ca := testkit.NewAuthority("CA")
	keep(t, ca.Issue("localhost"), file("server.pem"), file("server.key"))
	keep(t, ca.Issue("mic.example.com"), file("mic.pem"), file("mic.key"))
	for name, text := range map[string]string{"ca.pem": string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.Root()})), "phone.xml": "<flat-profile><Station_Name>desk</Station_Name></flat-profile>",
		"mic.xml": "<flat-profile><Certificate_Select>Manufacturing installed</Certificate_Select></flat-profile>", "site.xml": "<flat-profile><Certificate_Select>Custom installed</Certificate_Select></flat-profile>", "any.xml": "<flat-profile/>"} {
		if err := os.WriteFile(file(name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	_, port := freePorts(t)
	s := exec.Command(openssl, "s_server", "-accept", "127.0.0.1:"+port, "-cert", "server.pem", "-key", "server.key", "-CAfile", "ca.pem", "-Verify", "2", "-WWW")
	s.Dir = dir
	heard := &said{}
	s.Stdout, s.Stderr = heard, heard
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Process.Kill(); _ = s.Wait() })
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for range 200 {
		if strings.Contains(heard.String(), "ACCEPT") {
			break
		}
		<-tick.C
	}
	shows := func(want, cfg string) {
		t.Helper()
		before := len(heard.String())
		var out, errs bytes.Buffer
		if code := execute(t.Context(), []string{"phone", "explain", "Station_Name", "--cfg", file(cfg), "--profile-rule", "https://localhost:" + port + "/phone.xml", "--ca", file("ca.pem"), "--cert", file("mic.pem"), "--key", file("mic.key"), "--lsc", dir}, &out, &errs); code != 0 || !strings.Contains(out.String(), "desk") {
			t.Errorf("exit code %d: %s%s", code, out.String(), errs.String())
		}
		for range 200 { // openssl says it when it has checked
			if strings.Contains(heard.String()[before:], "CN = "+want) {
				return
			}
			<-tick.C
		}
		t.Errorf("%s: openssl did not see %s: %s", cfg, want, heard.String()[before:])
	}
	shows("mic.example.com", "site.xml")
	keep(t, ca.Issue("lsc.example.com"), file("lsc.pem"), file("lsc.key"))
	shows("lsc.example.com", "site.xml")
	shows("lsc.example.com", "any.xml")
	shows("mic.example.com", "mic.xml")

	// What is chosen, and why.
	d := &deskPhone{cert: file("mic.pem"), key: file("mic.key"), lsc: dir}
	if _, err := d.trust(); err != nil {
		t.Fatal(err)
	}
	of := func(value, from string, now time.Time) ownCertificateStatus {
		_, _, s := d.certificate(flatprofile.Value{Name: certificateSelect, Value: value, From: from}, now)
		return s
	}
	now := time.Now()
	for name, x := range map[string]struct {
		s           ownCertificateStatus
		of, because string
	}{
		"nobody said": {of("Manufacturing installed", flatprofile.Default, now), ofSite, "is not set"}, "the site's": {of("Custom installed", "cfg.xml", now), ofSite, "Custom installed (cfg.xml)"}, "the manufacturer's": {of("Manufacturing installed", "cfg.xml", now), ofManufacturer, "Manufacturing installed (cfg.xml)"},
		"that of the site is over": {of("Custom installed", "cfg.xml", now.AddDate(100, 0, 0)), ofManufacturer, "is good from"},
	} {
		if x.s.Of != x.of || !strings.Contains(x.s.Because, x.because) || x.s.Subject == "" {
			t.Errorf("%s: %+v", name, x.s)
		}
	}
	if err := os.WriteFile(file("lsc.key"), []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	if s := of("Custom installed", "cfg.xml", now); s.Of != ofManufacturer || !strings.Contains(s.Because, "cannot be used") {
		t.Errorf("%+v", s)
	}
	d.mic, d.lsc = nil, ""
	if s := of("Custom installed", "cfg.xml", now); s.Of != "" || !strings.Contains(s.String(), "there is no --cert") {
		t.Errorf("%+v", s)
	}
}

// TestPhoneSignsIn has a desk phone's line sign in at a node as its profile says, register with the tokens, and lose it all when the sign-in is revoked.
func TestPhoneSignsIn(t *testing.T) {
	s := onehost.Open(t, onehost.Options{Change: func(c *config.Config) {
		c.Domain = "localhost"
		c.SIP.OAuth = netip.MustParseAddrPort("127.0.0.1:0")
	}})
	for i, user := range []ringfence.UserID{"alice", "bob"} {
		s.User(user, ringfence.Number(fmt.Sprint(101+i)))
		s.OK(s.Node.Store.CreateDevice(s.Ctx, store.Device{ID: ringfence.DeviceID(user + "-desk"), User: user, Profile: store.DeviceProfile{Auth: []ringfence.Auth{ringfence.AuthToken}}}))
	}
	s.OK(s.Node.Roster.Reload(s.Ctx))
	dir := t.TempDir()
	s.OK(os.WriteFile(filepath.Join(dir, "ca.pem"), s.Node.Authority.RootPEM(), 0o600))
	at := fmt.Sprint(s.HTTPS.Port())
	profile := func(user, more string) string {
		return fmt.Sprintf("<Proxy_1_>localhost:%d</Proxy_1_><User_ID_1_>%s</User_ID_1_><Password_1_>not used</Password_1_><SIP_Transport_1_>TLS</SIP_Transport_1_><SIP_OAuth_1_>Yes</SIP_OAuth_1_><SIP_OAuth_Server_1_>https://localhost:%s</SIP_OAuth_Server_1_>%s",
			s.Node.Bound("sip-oauth").Port(), user, at, more)
	}
	letters := regexp.MustCompile(`somebody has to sign in: open \S+ and type ([A-Z]{4}-[A-Z]{4}), until`)
	// approve says yes to the nth code that a phone shows.
	approve := func(d *deskUp, n int, device ringfence.DeviceID) {
		t.Helper()
		s.Until("it shows a code", func() bool { return len(letters.FindAllString(d.said.String(), -1)) >= n })
		code, _, err := s.Node.Enroll.NewCode(s.Ctx, device)
		s.OK(err)
		web := http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: s.Roots, ServerName: "localhost"}, DisableKeepAlives: true}}
		resp, err := web.PostForm("https://"+s.HTTPS.String()+"/oauth/device", url.Values{"user_code": {letters.FindAllStringSubmatch(d.said.String(), -1)[n-1][1]}, "activation": {code}})
		s.OK(err)
		if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != 200 {
			t.Fatal(err, resp.Status)
		}
		_ = resp.Body.Close()
	}
	registered := func(want bool) func(feature.State) bool {
		return func(f feature.State) bool { return len(f.Lines) == 1 && f.Lines[0].Registered == want }
	}
	desk := startDesk(t, dir, "desk", profile("alice", ""))
	approve(desk, 1, "bob-desk")
	s.Until("bob's sign-in is refused", func() bool { return strings.Contains(desk.said.String(), "line 1 is of alice, and bob signed in") })
	approve(desk, 2, "alice-desk")
	desk.until("it is registered", registered(true))
	info, err := os.Stat(filepath.Join(dir, "desk", "signin-1.json"))
	if s.OK(err); info.Mode().Perm() != 0o600 {
		t.Error(info.Mode())
	}
	// The sign-in is revoked while it runs: it shows another code, and is back with it.
	grants, err := s.Node.Store.Grants(s.Ctx, "alice-desk")
	s.OK(err)
	s.OK(s.Node.Tokens.Revoke(s.Ctx, grants[0].ID, "test"))
	desk.until("it is registered no more", registered(false))
	approve(desk, 3, "alice-desk")
	desk.until("it is registered again", registered(true))
	desk.stop()

	// What is kept is good at the next start, for whose it is and in the way that the profile says.
	up := func(want int, profile string) string {
		t.Helper()
		s.OK(os.WriteFile(filepath.Join(dir, "cfg.xml"), []byte("<flat-profile>"+profile+"</flat-profile>"), 0o600))
		var out, errs bytes.Buffer
		if code := execute(s.Ctx, []string{"phone", "up", "--once", "--json", "--cfg", filepath.Join(dir, "cfg.xml"), "--ca", filepath.Join(dir, "ca.pem"), "--state", filepath.Join(dir, "desk")}, &out, &errs); code != want {
			t.Fatalf("exit code %d, want %d: %s%s", code, want, out.String(), errs.String())
		}
		return out.String() + errs.String()
	}
	if text := up(0, profile("alice", "")); !strings.Contains(text, `"auth": "token"`) || !strings.Contains(text, `"signs_in_at": "localhost:`+at+`"`) || !strings.Contains(text, "WARNING: line 1: Password_1_ is not used") {
		t.Error(text)
	}
	up(5, profile("bob", ""))
	up(5, profile("alice", "<Restricted_Access_Domains>pbx.example.com</Restricted_Access_Domains>"))
	up(2, strings.Replace(profile("alice", ""), ">TLS<", ">TCP<", 1))
	up(2, profile("alice", "<Auth_INVITE_1_>Yes</Auth_INVITE_1_>"))
	s.OK(os.Remove(filepath.Join(dir, "desk", "signin-1.json")))
	if text := up(5, profile("alice", "")); !letters.MatchString(text) {
		t.Error(text)
	}
}

// enroller is an EST server of few lines, whose certificates openssl signs.
const enroller = `import base64, http.server, ssl, subprocess, sys
class H(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        assert self.headers["Content-Type"] == "application/pkcs10"
        open("csr.der", "wb").write(base64.b64decode(self.rfile.read(int(self.headers["Content-Length"])), validate=True))
        subprocess.run(["openssl", "req", "-inform", "DER", "-in", "csr.der", "-verify", "-noout"], check=True)
        subprocess.run(["openssl", "x509", "-req", "-inform", "DER", "-in", "csr.der", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "1", "-out", "issued.pem"], check=True)
        p7 = subprocess.run(["openssl", "crl2pkcs7", "-nocrl", "-certfile", "issued.pem", "-outform", "DER"], check=True, capture_output=True).stdout
        body = base64.encodebytes(p7)
        print("enrolled", self.path, self.connection.getpeercert()["subject"], flush=True)
        self.send_response(200)
        self.send_header("Content-Type", "application/pkcs7-mime; smime-type=certs-only")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
c = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
c.load_cert_chain("server.pem", "server.key")
c.load_verify_locations("trust.pem")
c.verify_mode = ssl.CERT_REQUIRED
s = http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), H)
s.socket = c.wrap_socket(s.socket, server_side=True)
print("ready", flush=True)
s.serve_forever()
`

// TestPhoneEnrols has a phone prove itself by its manufacturer's certificate to an EST server of somebody else, and renew what it got with that.
func TestPhoneEnrols(t *testing.T) {
	python, openssl := testkit.Need(t, "/usr/bin/python3", "python3"), testkit.Need(t, "/usr/bin/openssl", "openssl")
	dir := t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	if out, err := exec.Command(openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", file("ca.key"), "-out", file("ca.pem"), "-subj", "/CN=Site", "-days", "2").CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	maker := testkit.NewAuthority("Manufacturer")
	keep(t, maker.Issue("localhost"), file("server.pem"), file("server.key"))
	keep(t, maker.Issue("CP-8841-SEP000E08ABCDEF"), file("mic.pem"), file("mic.key"))
	root := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: maker.Root()})
	site, err := os.ReadFile(file("ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	_, port := freePorts(t)
	for name, b := range map[string][]byte{"est.py": []byte(enroller), "maker.pem": root, "trust.pem": append(site, root...), "cfg.xml": []byte("<flat-profile><CDC_Server_1_>https://localhost:" + port + "</CDC_Server_1_></flat-profile>")} {
		if err := os.WriteFile(file(name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s := exec.Command(python, "est.py", port)
	s.Dir = dir
	heard := &said{}
	s.Stdout, s.Stderr = heard, heard
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Process.Kill(); _ = s.Wait() })
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for n := 0; !strings.Contains(heard.String(), "ready") && n < 500; n++ {
		<-tick.C
	}
	d := &deskPhone{cfg: file("cfg.xml"), ca: file("maker.pem"), cert: file("mic.pem"), key: file("mic.key"), state: file("state"), mac: "00:0e:08:ab:cd:ef", product: "CP-8841-3PCC"}
	p, err := d.read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	x := &desk{flags: d, profiles: p, out: heard}
	x.inForce.Store(p.set)
	enrol := func(want time.Duration, times int) {
		t.Helper()
		if wait := x.enrol(t.Context()); wait != want || strings.Count(heard.String(), "enrolled") != times {
			t.Fatalf("%s: %s", wait, heard)
		}
	}
	enrol(enrolEvery, 1)
	if !strings.Contains(heard.String(), "enrolled /.well-known/est/simpleenroll ((('commonName', 'CP-8841-SEP000E08ABCDEF'),),)") || !strings.Contains(heard.String(), "the phone has a certificate of the site: CN=SEP000E08ABCDEF") {
		t.Errorf("%s", heard)
	}
	if _, _, s := d.certificate(p.set.Get(certificateSelect), time.Now()); s.Of != ofSite || s.Subject != "CN=SEP000E08ABCDEF" {
		t.Errorf("%+v", s)
	}
	enrol(enrolEvery, 1) // it is good for a while
	first, err := os.ReadFile(file("state/lsc.pem"))
	if err != nil {
		t.Fatal(err)
	}
	// One that ends soon is renewed, and proves itself.
	block, _ := pem.Decode(first)
	mine, err := tls.LoadX509KeyPair(file("state/lsc.pem"), file("state/lsc.key"))
	if err != nil {
		t.Fatal(err)
	}
	old, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	old.NotBefore, old.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(10*time.Minute)
	authority, err := tls.LoadX509KeyPair(file("ca.pem"), file("ca.key"))
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, old, authority.Leaf, mine.Leaf.PublicKey, authority.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file("state/lsc.pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	enrol(enrolEvery, 2)
	if !strings.Contains(heard.String(), "enrolled /.well-known/est/simplereenroll ((('commonName', 'SEP000E08ABCDEF'),),)") {
		t.Errorf("%s", heard)
	}
	_ = s.Process.Kill()
	_ = s.Wait()
	if err := os.Remove(file("state/lsc.pem")); err != nil {
		t.Fatal(err)
	}
	if wait := x.enrol(t.Context()); wait != enrolAgain || !strings.Contains(heard.String(), "WARNING: the phone got no certificate of the site: ") {
		t.Errorf("%s: %s", wait, heard)
	}
}

// TestPhoneEnrolsAtNode has a phone that has nothing but a code become a device of a node: it gets its certificate, and registers by it.
func TestPhoneEnrolsAtNode(t *testing.T) {
	s := onehost.Open(t, onehost.Options{Change: func(c *config.Config) {
		c.Domain = "localhost"
		c.EST.Serve = true
	}})
	s.User("alice", "101")
	s.OK(s.Node.Store.CreateDevice(s.Ctx, store.Device{ID: "alice-desk", User: "alice"}))
	s.OK(s.Node.Roster.Reload(s.Ctx))
	code, _, err := s.Node.Enroll.NewCode(s.Ctx, "alice-desk")
	s.OK(err)
	dir := t.TempDir()
	s.OK(os.WriteFile(filepath.Join(dir, "ca.pem"), s.Node.Authority.RootPEM(), 0o600))
	profile := fmt.Sprintf("<flat-profile><Proxy_1_>localhost:%d</Proxy_1_><User_ID_1_>alice</User_ID_1_><SIP_Transport_1_>TLS</SIP_Transport_1_><CDC_Server_1_>https://localhost:%d</CDC_Server_1_><CDC_Challenge_Password_1_>%s</CDC_Challenge_Password_1_></flat-profile>", s.SIP.Port(), s.HTTPS.Port(), code)
	s.OK(os.WriteFile(filepath.Join(dir, "cfg.xml"), []byte(profile), 0o600))
	for n := range 2 { // the code is good once, and not needed again
		var out, errs bytes.Buffer
		if code := execute(s.Ctx, []string{"phone", "up", "--once", "--json", "--cfg", filepath.Join(dir, "cfg.xml"), "--ca", filepath.Join(dir, "ca.pem"), "--state", filepath.Join(dir, "desk")}, &out, &errs); code != 0 {
			t.Fatalf("start %d: exit code %d: %s%s", n, code, out.String(), errs.String())
		}
		var st deskStatus
		if err := json.Unmarshal(out.Bytes(), &st); err != nil || len(st.Lines) != 1 || st.Lines[0].Auth != ringfence.AuthCertificate || st.Proves.Of != ofSite || !strings.Contains(errs.String(), "the phone has a certificate of the site") != (n == 1) {
			t.Errorf("start %d: %v %+v %s", n, err, st.Proves, errs.String())
		}
	}
}
