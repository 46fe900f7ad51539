package main

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"ringfence/internal/desk/dot1x"
	"ringfence/internal/testkit"
	"ringfence/internal/testkit/router"
)

// radius is an authentication server for EAP-TLS, of few lines; its module is that of the guide. Its EAP-FAST and wpa_supplicant's do not agree on the keys of TLS 1.2, so another switch does that.
const radius = `prefix = /usr
exec_prefix = /usr
logdir = DIR
run_dir = DIR
libdir = /usr/lib/freeradius
log {
	destination = stdout
	auth = yes
}
security {
	allow_core_dumps = no
}
thread pool {
	start_servers = 1
	max_servers = 4
}
client switch {
	ipaddr = 127.0.0.1
	secret = "between the two"
	require_message_authenticator = yes
}
modules {
	EAP
}
server default {
	listen {
		type = auth
		ipaddr = 127.0.0.1
		port = 1812
	}
	authorize {
		eap
	}
	authenticate {
		eap
	}
}
`

const switchPort = `interface=eth0far
driver=wired
ieee8021x=1
eap_reauth_period=0
own_ip_addr=127.0.0.1
nas_identifier=switch
auth_server_addr=127.0.0.1
auth_server_port=1812
auth_server_shared_secret=between the two
`

const fastPort = `interface=eth1far
driver=wired
ieee8021x=1
eap_reauth_period=0
eap_server=1
eap_user_file=DIR/users
ca_cert=DIR/ringfence.pem
server_cert=DIR/fast.pem
private_key=DIR/fast.key
pac_opaque_encr_key=000102030405060708090a0b0c0d0e0f
eap_fast_a_id=101112131415161718191a1b1c1d1e1f
eap_fast_a_id_info=switch
eap_fast_prov=3
`

// blocksOf returns what a guide has in its blocks, by their kind.
func blocksOf(t *testing.T, file string) func(kind string) []string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return func(kind string) (out []string) {
		for _, m := range regexp.MustCompile("(?ms)^```"+regexp.QuoteMeta(kind)+"\n(.*?)^```").FindAllStringSubmatch(string(text), -1) {
			out = append(out, m[1])
		}
		return out
	}
}

// dot1xCommand runs one line of the guide, which is of openssl or of this program, with what it says in a file.
func dot1xCommand(t *testing.T, openssl, data, line string) {
	t.Helper()
	line, to, redirected := strings.Cut(line, " > ")
	args := strings.Fields(line)
	if args[0] == "openssl" {
		router.Run(t, openssl, "", args[1:]...)
		return
	}
	var out, errs bytes.Buffer
	if code := execute(t.Context(), append(args[1:], "--data", data), &out, &errs); code != 0 {
		t.Fatalf("%s: exit code %d: %s%s", line, code, out.String(), errs.String())
	}
	if redirected {
		if err := os.WriteFile(to, out.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// startRADIUS runs FreeRADIUS from a directory, in the network namespace of a process.
func startRADIUS(t *testing.T, server, dir string, far int) {
	t.Helper()
	log := filepath.Join(dir, "radius.log")
	f, err := os.Create(log)
	if err != nil {
		t.Fatal(err)
	}
	freeradius := exec.Command(testkit.Need(t, "/usr/bin/nsenter", "util-linux"), "--net=/proc/"+strconv.Itoa(far)+"/ns/net", server, "-X", "-d", dir, "-n", "radiusd")
	freeradius.Stdout, freeradius.Stderr, freeradius.SysProcAttr = f, f, &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := freeradius.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = freeradius.Process.Kill(); _ = freeradius.Wait() })
	router.Until(t, "FreeRADIUS is ready", func() bool {
		b, _ := os.ReadFile(log)
		return bytes.Contains(b, []byte("Ready to process"))
	})
	t.Cleanup(func() {
		if t.Failed() {
			b, _ := exec.Command("grep", "-E", "ERROR|eject|ocsp|verif", log).Output()
			t.Logf("%s", b)
		}
	})
}

// TestPhoneDot1x does what the guide of 802.1X says: a node certifies an authentication server and a phone, which proves itself to a switch whose server is FreeRADIUS.
func TestPhoneDot1x(t *testing.T) {
	if !router.Alone(t, 0) {
		return
	}
	dir := t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	guide := blocksOf(t, "../../docs/guides/lan-access.md")
	there := func(text string) string {
		return strings.NewReplacer("/etc/freeradius/ringfence", dir, "node.example.com", "10.9.0.50", "[::]:8080", "10.9.0.50:8080").Replace(text)
	}
	stranger := testkit.NewAuthority("CA")
	writePair(t, stranger, dir, "other")
	writePair(t, stranger, dir, "unknown.example.com")
	for name, text := range map[string]string{"radiusd.conf": strings.NewReplacer("EAP", there(guide("text eap")[0]), "DIR", dir).Replace(radius), "only-phones": there(guide("text only-phones")[0]), "users": "* FAST\n\"desk\" MSCHAPV2 \"right password\" [2]\n", "fast.conf": strings.ReplaceAll(fastPort, "DIR", dir), "hostapd.conf": switchPort,
		"password": "right password\n", "wrong": "wrong password\n", "stranger.pem": string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: stranger.Root()})), "node.yaml": there(guide("yaml ringfence")[0])} {
		if err := os.WriteFile(file(name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(file("seen"), 0o700); err != nil {
		t.Fatal(err)
	}
	hostapd, server, openssl := testkit.Need(t, "/usr/sbin/hostapd", "hostapd"), testkit.Need(t, "/usr/sbin/freeradius", "freeradius"), testkit.Need(t, "/usr/bin/openssl", "openssl")
	testkit.Need(t, "/usr/sbin/wpa_supplicant", "wpasupplicant")
	at := router.Neighbour(t, "eth0", "02:00:00:00:09:50", []string{"10.9.0.1/24"}, hostapd, file("hostapd.conf"))
	router.Neighbour(t, "eth1", "02:00:00:00:09:51", nil, "/bin/sh", "-c", "until [ -e "+file("ready")+" ]; do sleep 0.1; done; exec "+hostapd+" "+file("fast.conf"))
	router.Run(t, "/sbin/ip", "", "address", "add", "10.9.0.50/24", "dev", "eth0")

	// The node, and the commands of the guide.
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan int, 1)
	go func() {
		ended <- execute(ctx, []string{"up", "--data", file("data"), "--config", file("node.yaml"), "--listen-sip=127.0.0.1:0", "--listen-https=127.0.0.1:0"}, io.Discard, io.Discard)
	}()
	defer func() { stop(); <-ended }()
	router.Until(t, "the node is there", func() bool {
		return execute(t.Context(), []string{"status", "--data", file("data")}, io.Discard, io.Discard) == 0
	})
	t.Chdir(dir)
	command := func(line string) { t.Helper(); dot1xCommand(t, openssl, file("data"), line) }
	blocks := guide("sh")
	tried := strings.Split(strings.TrimSpace(blocks[2]), "\n")
	for _, line := range strings.Split(strings.TrimSpace(blocks[0]+blocks[1]), "\n") {
		command(line)
		if strings.HasPrefix(line, "openssl") { // of the suites of EAP-FAST, which know RSA only, as the guide says
			command(strings.NewReplacer("ec -pkeyopt ec_paramgen_curve:P-256", "rsa:2048", "radius.", "fast.", "phone.", "trunk.").Replace(line))
		}
	}
	command("ringfence trust issue --role machine --name fast-1 --host radius.example.com --csr fast.csr > fast.pem")
	command("ringfence trust issue --role trunk --name carrier-1 --host sbc.example.com --csr trunk.csr > trunk.pem")
	if err := os.WriteFile(file("ready"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	startRADIUS(t, server, dir, at.Pid)
	n := 0
	another := func(link string) { // phone each time: a switch lets one that it refused wait
		n++
		router.Run(t, "/sbin/ip", "", "link", "set", link, "address", fmt.Sprintf("02:00:00:00:0a:%02x", n))
		router.Run(t, testkit.Need(t, "/usr/bin/nsenter", "util-linux"), "", "--net=/proc/"+strconv.Itoa(at.Pid)+"/ns/net", "/sbin/ip", "neigh", "flush", "all") // the node has another address now
	}
	run := func(want int, args ...string) (s accessStatus, text string) {
		t.Helper()
		link := "eth0"
		if strings.Contains(strings.Join(args, " "), "--eap-user") {
			link = "eth1"
		}
		another(link)
		var out, errs bytes.Buffer
		if code := execute(t.Context(), append([]string{"phone", "dot1x", link, "--json", "--wait", "20s"}, args...), &out, &errs); code != want {
			t.Errorf("%s: exit code %d, want %d\n%s%s", strings.Join(args, " "), code, want, out.String(), errs.String())
		}
		_ = json.Unmarshal(out.Bytes(), &s)
		return s, out.String() + errs.String()
	}
	tls := strings.Fields(tried[0])[4:]
	s, said := run(0, tls...)
	if s.State != dot1x.Authenticated || s.Protocol != dot1x.TLS || !strings.Contains(s.Server, "CN=radius-1") || s.Link != "eth0" {
		t.Error(said)
	}
	// What it says is evidence for who has to see to it.
	if b, err := json.Marshal(s); err != nil || os.WriteFile(file("access.json"), b, 0o600) != nil {
		t.Error(err)
	}
	var list bytes.Buffer
	if code := execute(t.Context(), []string{"ready", "checklist", file("access.json")}, &list, &list); code != 0 || !strings.Contains(list.String(), "done    dot1x: ") {
		t.Errorf("%d %s", code, list.String())
	}
	fast := func(password string) []string {
		return []string{"--ca", file("ringfence.pem"), "--eap-user", "desk", "--eap-password-file", file(password), "--state", file("state")}
	}
	for range 2 {
		if s, text := run(0, fast("password")...); s.State != dot1x.Authenticated || s.Protocol != dot1x.FAST || strings.Contains(text, "right password") {
			t.Error(text)
		}
	}
	if info, err := os.Stat(file("state")); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the PAC is to be the owner's alone: %v %v", info, err)
	}
	run(5, fast("wrong")...)
	if _, text := run(6, append(append([]string{}, tls...), "--eap-ca", file("stranger.pem"))...); !strings.Contains(text, "not believed") {
		t.Error(text)
	}
	run(5, "--ca", file("ringfence.pem"), "--cert", file("other.pem"), "--key", file("other.key"))
	run(5, "--ca", file("ringfence.pem"), "--cert", file("trunk.pem"), "--key", file("trunk.key"))
	run(2, "--ca", file("ringfence.pem"))

	// A phone whose profile switches it on.
	_, sealed, _ := kamailio(t, t.TempDir(), "MD5")
	profile := "<Enable_802.1X_Authentication>Yes</Enable_802.1X_Authentication><Proxy_1_>localhost:" + sealed + "</Proxy_1_><User_ID_1_>alice</User_ID_1_><Password_1_>secret</Password_1_><SIP_Transport_1_>TLS</SIP_Transport_1_><TLS_Name_Validate_1_>No</TLS_Name_Validate_1_>"
	another("eth0")
	d := startDesk(t, dir, "desk", profile, append([]string{"--ethernet", "eth0"}, tls...)...)
	let := func(after time.Time) func(deskStatus) bool {
		return func(s deskStatus) bool {
			return s.Access.State == dot1x.Authenticated && s.Access.Protocol == dot1x.TLS && s.Access.Since.After(after) && len(s.Lines) == 1 // whether the line registers is another matter
		}
	}
	before := d.stands("it is let in", let(time.Time{}))
	// wpa_supplicant dies, and is started again.
	supplicants, err := exec.Command("/bin/sh", "-c", "for p in /proc/[0-9]*; do read -r _ _ _ parent _ < $p/stat 2>/dev/null && [ \"$parent\" = "+strconv.Itoa(os.Getpid())+" ] && read -r name < $p/comm && [ \"$name\" = wpa_supplicant ] && echo ${p#/proc/}; done; true").Output()
	pid, bad := strconv.Atoi(strings.TrimSpace(string(supplicants)))
	if err != nil || bad != nil {
		t.Fatalf("%v %v: %s", err, bad, supplicants)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	d.says("wpa_supplicant ended by itself", 1)
	d.stands("it is let in again", let(before.Access.Since))
	d.stop()
	command(tried[1]) // the phone is taken its certificate
	run(5, tls...)
}
