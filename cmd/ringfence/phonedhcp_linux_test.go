package main

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"ringfence/internal/desk/dhcp"
	"ringfence/internal/testkit"
	"ringfence/internal/testkit/router"
)

// webServer is a web server of few lines, over TLS.
const webServer = `import http.server, ssl, sys
c = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
c.load_cert_chain(sys.argv[1], sys.argv[2])
s = http.server.ThreadingHTTPServer(("0.0.0.0", 443), http.server.SimpleHTTPRequestHandler)
s.socket = c.wrap_socket(s.socket, server_side=True)
s.serve_forever()
`

// writePair writes a certificate for a name and its key.
func writePair(t *testing.T, ca *testkit.Authority, dir, name string) (cert, key string) {
	t.Helper()
	pair := ca.Issue(name)
	der, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	cert, key = filepath.Join(dir, name+".pem"), filepath.Join(dir, name+".key")
	for file, b := range map[string][]byte{cert: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: pair.Certificate[0]}), key: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})} {
		if err := os.WriteFile(file, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}

// TestPhoneDHCP plugs a phone that knows nothing into a network: it gets an address, finds its profile by an option, fetches it by HTTPS, registers, and gives the address back.
func TestPhoneDHCP(t *testing.T) {
	t.Parallel()
	if !router.Alone(t, 0) {
		return
	}
	dir := t.TempDir()
	_, sealed, ca := kamailio(t, dir, "MD5")
	cert, key := writePair(t, ca, dir, "prov.desk.example")
	profile := "<flat-profile><Proxy_1_>localhost:" + sealed + "</Proxy_1_><User_ID_1_>alice</User_ID_1_><Password_1_>secret</Password_1_><SIP_Transport_1_>TLS</SIP_Transport_1_></flat-profile>"
	web, leases := filepath.Join(dir, "web"), filepath.Join(dir, "leases")
	proxy, through := webProxy(t, "dns_nameservers 10.9.0.1\nhttp_access allow all\n")
	if err := os.Mkdir(filepath.Join(dir, "files"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"web/020000000950.xml": profile, "server.py": webServer, "auto.xml": "<flat-profile><IP_Mode>IPv4 Only</IP_Mode><Proxy_Mode>Auto</Proxy_Mode></flat-profile>", "files/proxy.pac": `function FindProxyForURL(url, host) { return host == "prov.desk.example" ? "PROXY 127.0.0.1:` + proxy + `" : "DIRECT"; }`,
		"v4.xml": "<flat-profile><IP_Mode>IPv4 Only</IP_Mode></flat-profile>", "cfg.xml": "<flat-profile><IP_Mode>IPv4 Only</IP_Mode><DHCP_Option_To_Use>66,43,160,4</DHCP_Option_To_Use></flat-profile>"} {
		if err := os.MkdirAll(web, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	dnsmasq, python := testkit.Need(t, "/usr/sbin/dnsmasq", "dnsmasq-base"), testkit.Need(t, "/usr/bin/python3", "python3")
	script := `cd "$1" || exit 1; "$2" ../server.py "$3" "$4" & (cd ../files; "$2" -m http.server 80) & shift 4; exec "$@"`
	server := router.Neighbour(t, "eth0", "02:00:00:00:09:50", []string{"10.9.0.1/24"}, "/bin/sh", "-c", script, "sh", web, python, cert, key,
		dnsmasq, "--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--log-dhcp", "--log-facility=-", "--user=root", "--no-ping", "--dhcp-leasefile="+leases, "--dhcp-authoritative", "--dhcp-range=10.9.0.50,10.9.0.50,1h",
		"--address=/prov.desk.example/10.9.0.1", "--dhcp-option-force=66,tftp://prov.desk.example", "--dhcp-option-force=160,https://prov.desk.example/$MA.xml", "--dhcp-option-force=vi-encap:3561,11,https://acs.desk.example/", "--dhcp-option=252,http://10.9.0.1/proxy.pac")
	run := func(want int, args ...string) (string, string) {
		t.Helper()
		var out, errs bytes.Buffer
		if code := execute(t.Context(), args, &out, &errs); code != want {
			t.Errorf("%s: exit code %d, want %d\n%s%s", strings.Join(args, " "), code, want, out.String(), errs.String())
		}
		return out.String(), errs.String()
	}
	// An offer, which is not taken.
	var v dhcpView
	text, _ := run(0, "phone", "dhcp", "--json")
	if err := json.Unmarshal([]byte(text), &v); err != nil || len(v.Answers) != 1 || v.Answers[0].Kind != dhcp.Offered || v.Choice.Rule != "https://prov.desk.example/$MA.xml" || v.Choice.From != "DHCP option 160 of 10.9.0.1" || v.Choice.ACS == nil {
		t.Errorf("%v %s", err, text)
	}
	if text, _ = run(0, "phone", "dhcp", "eth0", "--cfg", filepath.Join(dir, "cfg.xml")); !strings.Contains(text, "tftp is in the clear, and nobody proves who answers") || !strings.Contains(text, "TAKEN: https://prov.desk.example/$MA.xml") || !strings.Contains(text, "WARNING: DHCP_Option_To_Use: option 4 of IPv4 tells of no profile") {
		t.Error(text)
	}
	run(3, "phone", "dhcp", "eth9")

	// The whole way.
	var s deskStatus
	text, said := run(0, "phone", "up", "--dhcp=eth0", "--cfg", filepath.Join(dir, "v4.xml"), "--once", "--json", "--ca", filepath.Join(dir, "ca.pem"))
	if err := json.Unmarshal([]byte(text), &s); err != nil || len(s.Lines) != 1 || s.Lines[0].State != "registered" || s.DHCP == nil || s.DHCP.Answers[0].Kind != dhcp.Leased || s.DHCP.Answers[0].Address.String() != "10.9.0.50/24" ||
		len(s.Resync) != 1 || s.Resync[0].URL != "https://prov.desk.example/020000000950.xml" || s.Resync[0].Server != "10.9.0.1:443" {
		t.Errorf("%v %s", err, text)
	}
	if !strings.Contains(said, "dhcp: eth0 has 10.9.0.50/24 from 10.9.0.1") || !strings.Contains(said, "profile rule: https://prov.desk.example/$MA.xml (DHCP option 160 of 10.9.0.1)") {
		t.Error(said)
	}
	if text := router.Run(t, "/sbin/ip", "", "-4", "address", "show", "dev", "eth0"); strings.Contains(text, "10.9.0.50") {
		t.Errorf("the address is still there: %s", text)
	}
	router.Until(t, "the lease is given back", func() bool {
		b, err := os.ReadFile(leases)
		return err == nil && !bytes.Contains(b, []byte("10.9.0.50"))
	})

	// The same server names the file that names the web proxy, and the profile comes that way.
	text, _ = run(0, "phone", "up", "--dhcp=eth0", "--cfg", filepath.Join(dir, "auto.xml"), "--once", "--json", "--ca", filepath.Join(dir, "ca.pem"))
	s = deskStatus{}
	if err := json.Unmarshal([]byte(text), &s); err != nil || len(s.Web.Used) != 1 || s.Web.Used[0].Way != "PROXY 127.0.0.1:"+proxy || !strings.HasPrefix(s.Web.Used[0].Because, "WPAD by DHCP option 252 of 10.9.0.1 (http://10.9.0.1/proxy.pac, from 10.9.0.1:80) says ") || s.DHCP.Answers[0].WPAD != "http://10.9.0.1/proxy.pac" ||
		len(s.Resync) != 1 || s.Resync[0].Server != "PROXY 127.0.0.1:"+proxy || s.Lines[0].State != "registered" {
		t.Errorf("%v %s", err, text)
	}
	router.Until(t, "the proxy says that the profile went through it", func() bool {
		b, err := os.ReadFile(through)
		return err == nil && bytes.Contains(b, []byte("CONNECT prov.desk.example:443 "))
	})

	// A phone that has an address asks for options alone, and a rule of its own counts before an option.
	router.Run(t, "/sbin/ip", "", "address", "add", "10.9.0.9/24", "dev", "eth0")
	text, _ = run(0, "phone", "explain", "--dhcp=eth0", "--cfg", filepath.Join(dir, "v4.xml"), "--dns", "10.9.0.1", "--ca", filepath.Join(dir, "ca.pem"))
	if !strings.Contains(text, "IPv4: information from 10.9.0.1") || !strings.Contains(text, "Profile_Rule: 4 parameters from https://prov.desk.example/020000000950.xml") || !strings.Contains(text, "DHCP option 160 of 10.9.0.1") {
		t.Error(text)
	}
	text, _ = run(3, "phone", "explain", "--dhcp=eth0", "--cfg", filepath.Join(dir, "v4.xml"), "--dns", "10.9.0.1", "--ca", filepath.Join(dir, "ca.pem"), "--profile-rule", "https://prov.desk.example/none.xml")
	if !strings.Contains(text, "FAILED") || !strings.Contains(text, "none.xml") || strings.Contains(text, "020000000950.xml") {
		t.Error(text)
	}

	// Somebody has the address already that the server leases: the phone does not take it, and says so to the server.
	router.Run(t, "/sbin/ip", "", "address", "del", "10.9.0.9/24", "dev", "eth0")
	router.Run(t, testkit.Need(t, "/usr/bin/nsenter", "util-linux"), "", "--net=/proc/"+strconv.Itoa(server.Pid)+"/ns/net", "/sbin/ip", "address", "add", "10.9.0.50/32", "dev", "eth0far")
	if _, said := run(4, "phone", "up", "--dhcp=eth0", "--cfg", filepath.Join(dir, "v4.xml"), "--once", "--ca", filepath.Join(dir, "ca.pem")); !strings.Contains(said, "10.9.0.1 leases 10.9.0.50, which another host of the link has already") {
		t.Error(said)
	}
	if text := router.Run(t, "/sbin/ip", "", "-4", "address", "show", "dev", "eth0"); strings.Contains(text, "10.9.0.50") {
		t.Errorf("the address is taken all the same: %s", text)
	}
	router.Until(t, "the server takes the lease away", func() bool {
		b, err := os.ReadFile(leases)
		return err == nil && !bytes.Contains(b, []byte("10.9.0.50"))
	})
}

// TestPhoneDHCPLater has a phone live with a server that changes its mind, talks nonsense, and gives its addresses to others.
func TestPhoneDHCPLater(t *testing.T) {
	t.Parallel()
	if !router.Alone(t, 0) {
		return
	}
	dir := t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	_, sealed, ca := kamailio(t, dir, "MD5")
	cert, key := writePair(t, ca, dir, "prov.desk.example")
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(file(name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, folder := range []string{"web/old", "web/new"} {
		if err := os.MkdirAll(file(folder), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	profile := func(name string) string {
		return "<flat-profile><Station_Name>" + name + "</Station_Name><Proxy_1_>localhost:" + sealed + "</Proxy_1_><User_ID_1_>alice</User_ID_1_><Password_1_>secret</Password_1_><SIP_Transport_1_>TLS</SIP_Transport_1_></flat-profile>"
	}
	write("web/old/020000000950.xml", profile("old"))
	newer := strings.Replace(profile("new"), "</flat-profile>", "<Resync_Periodic>1</Resync_Periodic></flat-profile>", 1)
	write("web/new/020000000950.xml", newer)
	write("server.py", webServer)
	dnsmasq, python, enter := testkit.Need(t, "/usr/sbin/dnsmasq", "dnsmasq-base"), testkit.Need(t, "/usr/bin/python3", "python3"), testkit.Need(t, "/usr/bin/nsenter", "util-linux")
	far := router.Neighbour(t, "eth0", "02:00:00:00:09:50", []string{"10.9.0.1/24"}, "/bin/sh", "-c", `cd "$1"; exec "$2" ../server.py "$3" "$4"`, "sh", file("web"), python, cert, key)
	var server *exec.Cmd
	serve := func(address, last string) {
		t.Helper()
		if server != nil {
			_ = server.Process.Kill()
			_ = server.Wait()
		}
		server = exec.Command(enter, "--net=/proc/"+strconv.Itoa(far.Pid)+"/ns/net", dnsmasq, "--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--user=root", "--pid-file", "--no-ping", "--dhcp-leasefile="+file("leases"+address), "--dhcp-authoritative",
			"--dhcp-range="+address+","+last+",1h", "--address=/prov.desk.example/10.9.0.1", "--dhcp-option-force=option:T1,3", "--dhcp-optsfile="+file("options"), "--log-dhcp", "--log-facility="+file("log"))
		server.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		if err := server.Start(); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { _ = server.Process.Kill(); _ = server.Wait() })
	options := func(lines ...string) {
		t.Helper()
		write("options", strings.Join(lines, "\n")+"\n")
		if server != nil {
			_ = server.Process.Signal(syscall.SIGHUP)
		}
	}
	options("160,https://prov.desk.example/old/$MA.xml", "option:router,10.9.0.1")
	serve("10.9.0.50", "10.9.0.50")
	d := startDesk(t, dir, "desk", "<IP_Mode>IPv4 Only</IP_Mode>", "--dhcp=eth0", "--firewall")
	at := func(what, address, url string, more func(deskStatus) bool) deskStatus {
		t.Helper()
		return d.stands(what, func(s deskStatus) bool {
			return s.DHCP != nil && len(s.DHCP.Answers) == 1 && s.DHCP.Answers[0].Address.String() == address && len(s.Lines) == 1 && s.Lines[0].State == "registered" && len(s.Resync) == 1 && s.Resync[0].URL == url && s.Resync[0].Error == "" && more(s)
		})
	}
	at("it is registered", "10.9.0.50/24", "https://prov.desk.example/old/020000000950.xml", func(deskStatus) bool { return true })

	// The profile is elsewhere now: it is fetched from there, and the phone starts again with it at the address that it has.
	options("160,https://prov.desk.example/new/$MA.xml", "option:router,10.9.0.1")
	s := at("it has the new profile", "10.9.0.50/24", "https://prov.desk.example/new/020000000950.xml", func(s deskStatus) bool { return len(s.DHCP.Changed) == 1 })
	if !strings.Contains(s.DHCP.Changed[0], "option 160 is") || s.DHCP.Choice.From != "DHCP option 160 of 10.9.0.1" || len(s.DHCP.Kept) != 0 {
		t.Errorf("%+v", s.DHCP)
	}
	// Another firewall is put into force while the phone goes on.
	nft := testkit.Need(t, "/usr/sbin/nft", "nftables")
	if rules := router.Run(t, nft, "", "list", "table", "inet", phoneTable); strings.Contains(rules, "12000") {
		t.Error(rules)
	}
	write("web/new/020000000950.xml", strings.Replace(newer, "</flat-profile>", "<Firewall_Config>TCP:12000</Firewall_Config></flat-profile>", 1))
	d.says("the firewall changed, and the phone goes on", 1)
	if rules := router.Run(t, nft, "", "list", "table", "inet", phoneTable); !strings.Contains(rules, "tcp dport 12000 accept") {
		t.Error(rules)
	}
	if strings.Count(d.said.String(), "the phone starts again") != 1 {
		t.Error("it started again for its firewall")
	}
	// Nonsense, and nothing at all, change nothing.
	options("160,tftp://evil.example/$MA.xml", "option:dns-server,127.0.0.1")
	s = at("nonsense is noticed", "10.9.0.50/24", "https://prov.desk.example/new/020000000950.xml", func(s deskStatus) bool { return len(s.DHCP.Kept) >= 2 })
	if s.DHCP.Choice.Rule != "https://prov.desk.example/new/$MA.xml" || !strings.Contains(strings.Join(s.DHCP.Kept, "; "), "tftp is in the clear") || s.DHCP.Answers[0].DNS[0].String() != "10.9.0.1" {
		t.Errorf("%+v", s.DHCP)
	}
	d.says("the phone starts again", 1)
	log, err := os.ReadFile(file("log"))
	if err != nil || bytes.Count(log, []byte("DHCPDISCOVER(")) != 1 || bytes.Contains(log, []byte("DHCPRELEASE(")) || bytes.Count(log, []byte("DHCPREQUEST(")) < 3 {
		t.Errorf("%v: the phone left its network, or did not renew: %s", err, log)
	}
	// The server gives the address to somebody else: the phone asks for another one, and is there again.
	options("160,https://prov.desk.example/new/$MA.xml", "option:router,10.9.0.1")
	serve("10.9.0.60", "10.9.0.60")
	at("it has another address", "10.9.0.60/24", "https://prov.desk.example/new/020000000950.xml", func(deskStatus) bool { return true })
	d.says("the address is gone, and the phone asks for another", 1)
	if text := router.Run(t, "/sbin/ip", "", "-4", "address", "show", "dev", "eth0"); strings.Contains(text, "10.9.0.50") || !strings.Contains(text, "10.9.0.60") {
		t.Error(text)
	}
	if rules := router.Run(t, nft, "", "list", "table", "inet", phoneTable); !strings.Contains(rules, "tcp dport 12000 accept") {
		t.Error(rules)
	}
	// Another host takes the phone's address: the phone says once that it is its own, and then asks for another.
	serve("10.9.0.60", "10.9.0.63")
	there := []string{"--net=/proc/" + strconv.Itoa(far.Pid) + "/ns/net"}
	router.Run(t, enter, "", append(there, "/sbin/ip", "address", "add", "10.9.0.60/32", "dev", "eth0far")...)
	router.Run(t, enter, "", append(there, python, "-c", "import socket\nfor port in range(3):\n s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n s.bind(('10.9.0.60', 0))\n s.sendto(b'x', ('10.9.0.%d' % (200 + port), 9))")...)
	d.says("says that it has 10.9.0.60 as well; the phone says that it is its own", 1)
	d.says("the address is gone, and the phone asks for another", 2)
	d.stands("it has an address that nobody else has", func(s deskStatus) bool {
		return s.DHCP != nil && len(s.DHCP.Answers) == 1 && s.DHCP.Answers[0].Address.Addr().String() != "10.9.0.60" && len(s.Lines) == 1 && s.Lines[0].State == "registered"
	})
	d.stop()
	if rules := router.Run(t, nft, "", "list", "ruleset"); strings.Contains(rules, phoneTable) {
		t.Error(rules)
	}
	if text := router.Run(t, "/sbin/ip", "", "-4", "address", "show", "dev", "eth0"); strings.Contains(text, "10.9.0.6") {
		t.Error(text)
	}
	// A phone whose server is not there waits for it.
	_ = server.Process.Kill()
	_ = server.Wait()
	waits := startDesk(t, dir, "waits", "<IP_Mode>IPv4 Only</IP_Mode>", "--dhcp=eth0")
	waits.stands("it waits", func(s deskStatus) bool {
		return len(s.Warnings) == 1 && strings.Contains(s.Warnings[0], "no DHCP server answers")
	})
	waits.stop()
}
