package main

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"ringfence"
	"ringfence/internal/node/sockets"
	"ringfence/internal/service/phone"
	"ringfence/internal/testkit"
)

// registrar is a SIP server of another vendor: over UDP, TCP and TLS, with digest for the realm localhost. A call to 700 rings alice, without a word about who asks.
const registrar = `#!KAMAILIO
debug=1
log_stderror=yes
children=1
tcp_children=2
enable_tls=yes
listen=udp:127.0.0.1:PORT
listen=tcp:127.0.0.1:PORT
listen=tls:127.0.0.1:SEALED
alias="localhost"
loadmodule "tls.so"
loadmodule "pv.so"
loadmodule "tm.so"
loadmodule "sl.so"
loadmodule "rr.so"
loadmodule "usrloc.so"
loadmodule "registrar.so"
loadmodule "auth.so"
loadmodule "textops.so"
loadmodule "siputils.so"
loadmodule "uac.so"
modparam("tls", "config", "HOME/tls.cfg")
modparam("auth", "algorithm", "ALGORITHM")
modparam("auth", "qop", "auth")
modparam("usrloc", "db_mode", 0)
modparam("uac", "credential", "alice:localhost:secret")
modparam("uac", "auth_realm_avp", "$avp(realm)")
modparam("uac", "auth_username_avp", "$avp(user)")
modparam("uac", "auth_password_avp", "$avp(password)")
request_route {
	if (is_method("CANCEL")) { if (t_check_trans()) t_relay(); exit; }
	if (has_totag()) {
		if (loose_route()) t_relay();
		else if (is_method("ACK") && t_check_trans()) t_relay();
		exit;
	}
	t_check_trans();
	if (is_method("REGISTER")) {
		if (!pv_www_authenticate("localhost", "secret", "0")) { www_challenge("localhost", "1"); exit; }
		save("location");
		exit;
	}
	record_route();
	if (!lookup("location")) { sl_send_reply("404", "Nobody There"); exit; }
	if ($fU == "bob") t_on_failure("ANSWER"); # the server knows the password of alice, and uses it for bob alone
	t_relay();
}
failure_route[ANSWER] {
	if (t_check_status("401")) { if (uac_auth()) t_relay(); }
}
`

// freePorts returns a port that is free for UDP and TCP, and one for TCP.
func freePorts(t *testing.T) (string, string) {
	t.Helper()
	var u net.PacketConn
	var both net.Listener
	for try := 0; ; try++ { // what is free for UDP may be taken for TCP
		var err error
		if u, err = net.ListenPacket("udp", "127.0.0.1:0"); err != nil {
			t.Fatal(err)
		}
		if both, err = net.Listen("tcp", u.LocalAddr().String()); err == nil {
			break
		}
		_ = u.Close()
		if try == 50 {
			t.Fatal(err)
		}
	}
	defer u.Close()
	defer both.Close()
	one, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer one.Close()
	port := func(a net.Addr) string { _, p, _ := net.SplitHostPort(a.String()); return p }
	return port(both.Addr()), port(one.Addr())
}

// kamailioFiles writes what the registrar runs with.
func kamailioFiles(t *testing.T, dir, algorithm string, changes ...string) (port, sealed string, ca *testkit.Authority) {
	t.Helper()
	port, sealed = freePorts(t)
	ca = testkit.NewAuthority("Another Vendor")
	pair := ca.Issue("localhost")
	key, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string][]byte{"key.pem": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}), "chain.pem": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: pair.Certificate[0]}),
		"ca.pem":       pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.Root()}),
		"tls.cfg":      []byte("[server:default]\nmethod = TLSv1.2+\nverify_certificate = no\nrequire_certificate = no\nprivate_key = " + dir + "/key.pem\ncertificate = " + dir + "/chain.pem\n"),
		"kamailio.cfg": []byte(strings.NewReplacer("PORT", port, "SEALED", sealed, "HOME", dir, "ALGORITHM", algorithm).Replace(strings.NewReplacer(changes...).Replace(registrar)))} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return port, sealed, ca
}

// kamailio runs the registrar in a directory until the test ends; changes are pairs of what stands in its configuration and what shall stand there.
func kamailio(t *testing.T, dir, algorithm string, changes ...string) (port, sealed string, ca *testkit.Authority) {
	t.Helper()
	program := testkit.Need(t, "/usr/sbin/kamailio", "kamailio")
	port, sealed, ca = kamailioFiles(t, dir, algorithm, changes...)
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, program, "-DD", "-E", "-f", filepath.Join(dir, "kamailio.cfg"), "-Y", dir, "-w", dir)
	var said bytes.Buffer
	cmd.Stderr, cmd.Stdout = &said, &said
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 5 * time.Second
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		_ = cmd.Wait()
		if t.Failed() {
			t.Log(said.String())
		}
	})
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for range 500 {
		if c, err := net.Dial("tcp", "127.0.0.1:"+sealed); err == nil {
			_ = c.Close()
			return port, sealed, ca
		}
		<-tick.C
	}
	t.Fatal("kamailio does not listen")
	return "", "", nil
}

// TestPhoneUp registers the lines of a profile at a server of another vendor, by each transport that a profile can name.
func TestPhoneUp(t *testing.T) {
	dir := t.TempDir()
	port, sealed, _ := kamailio(t, dir, "MD5")
	local, _ := freePorts(t)
	file := filepath.Join(dir, "cfg.xml")
	up := func(want int, parameters string, more ...string) (deskStatus, string) {
		t.Helper()
		if err := os.WriteFile(file, []byte("<flat-profile>\n"+parameters+"\n</flat-profile>"), 0o600); err != nil {
			t.Fatal(err)
		}
		var out, errs bytes.Buffer
		args := append([]string{"phone", "up", "--cfg", file, "--once", "--json", "--ca", filepath.Join(dir, "ca.pem")}, more...)
		if code := execute(t.Context(), args, &out, &errs); code != want {
			t.Errorf("%s: exit code %d, want %d\n%s%s", parameters, code, want, out.String(), errs.String())
		}
		var s deskStatus
		if out.Len() > 0 {
			if err := json.Unmarshal(out.Bytes(), &s); err != nil {
				t.Errorf("%v: %s", err, out.String())
			}
		}
		return s, errs.String()
	}
	n := strconv.Itoa
	line := func(i int, user, transport, port string) string {
		return strings.NewReplacer("N", n(i), "USER", user, "TRANSPORT", transport, "PORT", port).Replace(
			"<Line_Enable_N_>Yes</Line_Enable_N_><Proxy_N_>localhost:PORT</Proxy_N_><User_ID_N_>USER</User_ID_N_><Password_N_>secret</Password_N_><SIP_Transport_N_>TRANSPORT</SIP_Transport_N_>")
	}
	s, said := up(0, line(1, "alice", "TLS", sealed)+line(2, "bob", "TCP", port)+line(3, "carol", "UDP", port)+"<SIP_Port_3_>"+local+"</SIP_Port_3_>"+line(4, "dave", "Auto", sealed))
	if len(s.Lines) != 4 {
		t.Fatalf("%+v", s)
	}
	for i, want := range []struct {
		verdict ringfence.Verdict
		server  string
	}{{ringfence.Sealed, sealed}, {ringfence.Exception, port}, {ringfence.Exception, port}, {ringfence.Sealed, sealed}} {
		l := s.Lines[i]
		if l.State != "registered" || l.Proof == nil || l.Proof.Verdict != want.verdict || l.Server != "127.0.0.1:"+want.server || l.Auth != ringfence.AuthDigestMD5 || l.InTheClear != (want.verdict == ringfence.Exception) {
			t.Errorf("line %d: %+v", i+1, l)
		}
	}
	for _, want := range []string{"WARNING: line 2 signals IN THE CLEAR over TCP", "WARNING: line 3 signals IN THE CLEAR over UDP, and the keys of its voice with it"} {
		if !strings.Contains(said, want) {
			t.Errorf("nothing says %q: %s", want, said)
		}
	}
	if strings.Contains(said, "line 1") || strings.Contains(said, "secret") {
		t.Error(said)
	}
	if !s.Firewall.Firewall || len(s.Firewall.Open) == 0 || s.Applied != "" {
		t.Errorf("%+v", s.Firewall)
	}

	// The suites of the profile are those of the connection, and what cannot be spoken leaves TLS 1.3.
	s, _ = up(0, line(1, "alice", "TLS", sealed)+"<TLS_Cipher_List>ECDHE-ECDSA-AES128-GCM-SHA256</TLS_Cipher_List>")
	if tls := s.Lines[0].Proof.TLS; tls == nil || tls.Version != "TLS 1.3" { // which no list governs
		t.Errorf("%+v", tls)
	}
	if s, said = up(0, line(1, "alice", "TLS", sealed)+"<TLS_Cipher_List>RSA:!aNULL:!eNULL</TLS_Cipher_List>"); !strings.Contains(said, "TLS 1.3 alone is left") {
		t.Error(said)
	}

	// A false name, with the check and without it; a stranger's authority; a server that is not listed; a wrong password.
	wrongName := strings.Replace(line(1, "alice", "TLS", sealed), "localhost", "127.0.0.1", 1)
	if s, _ = up(6, wrongName); s.Lines[0].State == "registered" {
		t.Errorf("%+v", s.Lines)
	}
	if s, said = up(0, wrongName+"<TLS_Name_Validate_1_>No</TLS_Name_Validate_1_>"); !strings.Contains(said, "ANY server with a believed certificate") || s.Lines[0].Proof.Verdict != ringfence.Exception {
		t.Errorf("%+v %s", s.Lines, said)
	}
	stranger := filepath.Join(dir, "stranger.pem")
	if err := os.WriteFile(stranger, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: testkit.NewAuthority("Another Vendor").Root()}), 0o600); err != nil {
		t.Fatal(err)
	}
	up(6, line(1, "alice", "TLS", sealed), "--ca", stranger)
	if _, said = up(5, line(1, "alice", "TLS", sealed)+"<Restricted_Access_Domains>pbx.example.com</Restricted_Access_Domains>"); !strings.Contains(said, "Restricted_Access_Domains ("+file+":2) lists pbx.example.com") {
		t.Error(said)
	}
	if s, _ = up(5, strings.Replace(line(1, "alice", "UDP", port)+"<SIP_Port_1_>"+local+"</SIP_Port_1_>", "secret", "guess", 1)); s.Lines[0].State != "failed" {
		t.Errorf("%+v", s.Lines)
	}
	up(2, "<Station_Name>no line</Station_Name>")
	up(2, line(1, "alice", "SCTP", port))
}

// TestInviteIsChallenged has a server of another vendor answer the challenge of a line, for one caller and not for the other.
func TestInviteIsChallenged(t *testing.T) {
	dir := t.TempDir()
	port, sealed, _ := kamailio(t, dir, "MD5")
	file, state := filepath.Join(dir, "cfg.xml"), filepath.Join(dir, "state")
	if err := os.WriteFile(file, []byte("<flat-profile><Proxy_1_>localhost:"+sealed+"</Proxy_1_><User_ID_1_>alice</User_ID_1_><Password_1_>secret</Password_1_><SIP_Transport_1_>TLS</SIP_Transport_1_><Auth_INVITE_1_>Yes</Auth_INVITE_1_></flat-profile>"), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan int, 1)
	var said bytes.Buffer
	go func() {
		ended <- execute(ctx, []string{"phone", "up", "--cfg", file, "--ca", filepath.Join(dir, "ca.pem"), "--state", state, "--tone", "440"}, &said, &said)
	}()
	defer func() {
		cancel()
		if code := <-ended; code != 0 {
			t.Errorf("exit code %d: %s", code, said.String())
		}
		if code := execute(context.Background(), []string{"phone", "status", "--state", state}, io.Discard, io.Discard); code != 3 {
			t.Errorf("after the end: exit code %d", code)
		}
	}()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	var out bytes.Buffer
	for range 400 {
		out.Reset()
		if execute(t.Context(), []string{"phone", "status", "--state", state}, &out, io.Discard) == 0 {
			break
		}
		<-tick.C
	}
	if !regexp.MustCompile(`(?m)^1 +sip:alice@localhost +TLS +registered +127.0.0.1:`+sealed+` +digest-md5 +sealed, TLS 1.3`).MatchString(out.String()) || !strings.Contains(out.String(), "firewall: a plan") {
		t.Fatal(out.String())
	}
	opener, err := sockets.New(append(phone.Flows(ringfence.PortRange{}, ringfence.PortRange{}), phone.PlainFlow("test", "TCP", ringfence.PortRange{})))
	if err != nil {
		t.Fatal(err)
	}
	call := func(user string) error {
		p, err := phone.Open(ctx, phone.Config{Opener: opener, Flow: "test", Plain: "TCP", Server: netip.MustParseAddrPort("127.0.0.1:" + port), ServerName: "localhost", User: user, Domain: "localhost", Password: "secret", AllowMD5: true,
			MediaAddr: netip.MustParseAddr("127.0.0.1")})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = p.Close() }()
		c, err := p.Call(ctx, "alice", phone.CallOptions{})
		if err != nil {
			return err
		}
		defer c.Hangup()
		wait, done := context.WithTimeout(ctx, 20*time.Second)
		defer done()
		if err := c.WaitAnswered(wait); err != nil {
			return err
		}
		for range 100 { // the tone of the answering phone
			if hz := c.Audio().HeardHz; hz > 430 && hz < 450 {
				return nil
			}
			<-tick.C
		}
		return errors.New("nothing was heard")
	}
	if err := call("bob"); err != nil {
		t.Errorf("the server answered for bob: %v", err)
	}
	var refused *phone.RejectedError
	if err := call("mallory"); !errors.As(err, &refused) || refused.Status != 401 {
		t.Errorf("nobody answered for mallory: %v", err)
	}
}
