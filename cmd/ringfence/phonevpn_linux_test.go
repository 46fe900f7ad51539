package main

import (
	"bytes"
	"encoding/json"
	"encoding/pem"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"ringfence/internal/desk/vpn"
	"ringfence/internal/testkit"
	"ringfence/internal/testkit/router"
)

const gateway = `auth = "plain[passwd=DIR/users]"
tcp-port = 443
udp-port = 443
run-as-user = root
run-as-group = root
socket-file = DIR/socket
occtl-socket-file = DIR/occtl
use-occtl = true
pid-file = DIR/pid
isolate-workers = false
server-cert = DIR/vpn.example.com.pem
server-key = DIR/vpn.example.com.key
ca-cert = DIR/ca.pem
cert-user-oid = 0.9.2342.19200300.100.1.1
max-clients = 4
max-same-clients = 0
keepalive = 60
dpd = 60
try-mtu-discovery = false
auth-timeout = 40
cookie-timeout = 300
rekey-time = 172800
device = tunnels
default-domain = example.com
ipv4-network = 10.20.0.0
ipv4-netmask = 255.255.255.0
dns = 10.20.0.1
ping-leases = false
select-group = phones
select-group = others
auto-select-group = false
cisco-client-compat = true
dtls-legacy = true
`

// TestPhoneVPN opens a tunnel to ocserv, with and without everything going into it, and has it refused.
func TestPhoneVPN(t *testing.T) {
	t.Parallel()
	if !router.Alone(t, 0) {
		return
	}
	dir := t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	ca := testkit.NewAuthority("CA")
	writePair(t, ca, dir, "vpn.example.com")
	ocserv, ocpasswd, occtl := testkit.Need(t, "/usr/sbin/ocserv", "ocserv"), testkit.Need(t, "/usr/bin/ocpasswd", "ocserv"), testkit.Need(t, "/usr/bin/occtl", "ocserv")
	dnsmasq := testkit.Need(t, "/usr/sbin/dnsmasq", "dnsmasq-base")
	testkit.Need(t, "/usr/sbin/openconnect", "openconnect")
	router.Run(t, ocpasswd, "right password\nright password\n", "-c", file("users"), "-g", "phones", "desk")
	profile := `<flat-profile><VPN_Server>vpn.example.com</VPN_Server><VPN_User_Name>desk</VPN_User_Name><VPN_Password>right password</VPN_Password><VPN_Tunnel_Group>phones</VPN_Tunnel_Group></flat-profile>`
	for name, text := range map[string]string{"ca.pem": string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.Root()})), "other.pem": string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: testkit.NewAuthority("CA").Root()})), "ocserv.conf": strings.ReplaceAll(gateway, "DIR", dir), "cfg.xml": profile,
		"wrong.xml": strings.Replace(profile, "right", "wrong", 1), "group.xml": strings.Replace(profile, ">phones<", ">nobody<", 1), "name.xml": strings.Replace(profile, "vpn.example.com", "other.example.com", 1), "none.xml": "<flat-profile/>", "over.xml": strings.Replace(profile, "vpn.example.com", "vpn.example.com:8443", 1)} {
		if err := os.WriteFile(file(name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	over := t.TempDir()
	writeCertificates(t, over, "vpn.example.com")
	router.Neighbour(t, "eth0", "02:00:00:00:09:50", []string{"10.9.0.1/24"}, "/bin/sh", "-c", "sleep 1000 | "+testkit.Need(t, "/usr/bin/openssl", "openssl")+" s_server -quiet -accept 8443 -cert "+over+"/expired.pem -key "+over+"/expired.key & "+dnsmasq+" --keep-in-foreground --conf-file=/dev/null --no-resolv --no-hosts --user=root --pid-file --address=/example.com/10.9.0.1 --listen-address=10.9.0.1 --bind-interfaces & exec "+ocserv+" -f -d 2 -c "+file("ocserv.conf"))
	router.Run(t, "/sbin/ip", "", "address", "add", "10.9.0.50/24", "dev", "eth0")
	router.Until(t, "ocserv listens", func() bool {
		c, err := net.Dial("tcp", "10.9.0.1:443")
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	})
	run := func(want int, args ...string) (s vpn.Status, text string) {
		t.Helper()
		var out, errs bytes.Buffer
		if code := execute(t.Context(), append([]string{"phone", "vpn", "--json", "--dns", "10.9.0.1"}, args...), &out, &errs); code != want {
			t.Errorf("%s: exit code %d, want %d\n%s%s", strings.Join(args, " "), code, want, out.String(), errs.String())
		}
		_ = json.Unmarshal(out.Bytes(), &s)
		return s, out.String() + errs.String()
	}
	ended := make(chan struct{})
	var s vpn.Status
	var text string
	go func() {
		defer close(ended)
		s, text = run(0, "--cfg", file("cfg.xml"), "--ca", file("ca.pem"), "--for", "6s")
	}()
	said := ""
	router.Until(t, "the server has a user", func() bool {
		b, err := exec.Command(occtl, "-s", file("occtl"), "-j", "show", "users").Output()
		said = string(b)
		return err == nil && strings.Contains(said, `"desk"`) && strings.Contains(said, "10.20.0.")
	})
	if !strings.Contains(said, `"Groupname":  "phones"`) && !strings.Contains(said, `"Groupname": "phones"`) {
		t.Error(said)
	}
	router.Until(t, "a connection through the tunnel", func() bool { // to the server's end of it, which is nowhere else
		d := net.Dialer{Timeout: time.Second}
		c, err := d.Dial("tcp", "10.20.0.1:443")
		if err == nil {
			if from, _, _ := net.SplitHostPort(c.LocalAddr().String()); !strings.HasPrefix(from, "10.20.0.") {
				t.Errorf("it went out from %s", from)
			}
			_ = c.Close()
		}
		return err == nil
	})
	if out := router.Run(t, "/sbin/ip", "", "route", "get", "198.51.100.7"); !strings.Contains(out, "dev "+vpnLink) {
		t.Errorf("not everything goes into the tunnel: %s", out)
	}
	<-ended
	if s.State != vpn.Connected || !s.Address.IsValid() || !strings.HasPrefix(s.Address.String(), "10.20.0.") || s.Mask != "255.255.255.0" || s.Sent == 0 || s.Received == 0 || s.Group != "phones" || !strings.Contains(s.TLS, "TLS1.") || strings.Contains(text, "right password") {
		t.Errorf("%+v %s", s, text)
	}
	if out := router.Run(t, "/sbin/ip", "", "route"); strings.Contains(out, vpnLink) || strings.Contains(out, "10.9.0.1 ") {
		t.Errorf("routes are left behind: %s", out)
	}
	router.Until(t, "the user signed off", func() bool {
		b, err := exec.Command(occtl, "-s", file("occtl"), "-j", "show", "users").Output()
		return err == nil && !strings.Contains(string(b), `"desk"`)
	})
	run(5, "--cfg", file("wrong.xml"), "--ca", file("ca.pem"))
	run(6, "--cfg", file("cfg.xml"), "--ca", file("other.pem"))
	run(6, "--cfg", file("name.xml"), "--ca", file("ca.pem"))
	if _, text := run(6, "--cfg", file("over.xml"), "--ca", filepath.Join(over, "ca.pem")); !strings.Contains(text, "expired") {
		t.Error(text)
	}
	run(3, "--cfg", file("group.xml"), "--ca", file("ca.pem"))
	run(3, "--cfg", file("none.xml"))

	// A phone whose profile opens it at each start.
	_, sealed, _ := kamailio(t, t.TempDir(), "MD5")
	up := strings.Replace(profile, "</flat-profile>", "<Connect_on_Bootup>Yes</Connect_on_Bootup><Proxy_1_>localhost:"+sealed+"</Proxy_1_><User_ID_1_>alice</User_ID_1_><Password_1_>secret</Password_1_><SIP_Transport_1_>TLS</SIP_Transport_1_></flat-profile>", 1)
	if err := os.WriteFile(file("up.xml"), []byte(up), 0o600); err != nil {
		t.Fatal(err)
	}
	var out, errs bytes.Buffer
	_ = execute(t.Context(), []string{"phone", "up", "--cfg", file("up.xml"), "--dns", "10.9.0.1", "--ca", file("ca.pem"), "--once", "--json"}, &out, &errs) // the line's server is of another authority
	var d deskStatus
	if err := json.Unmarshal(out.Bytes(), &d); err != nil || d.VPN.State != vpn.Connected || len(d.Lines) != 1 {
		t.Errorf("%v %s%s", err, out.String(), errs.String())
	}
}

// TestPhoneVPNHolds has a phone live in its tunnel: it waits for it at its start, fetches its profile and registers through it, and when the server ends it nothing goes around it until it is open again. The kernel of the server's
// side counts what comes from outside.
func TestPhoneVPNHolds(t *testing.T) {
	t.Parallel()
	if !router.Alone(t, 0) {
		return
	}
	dir := t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	_, sealed, ca := kamailioFiles(t, dir, "MD5", `"localhost"`, `"pbx.example.com"`, "127.0.0.1", "10.30.0.1")
	writePair(t, ca, dir, "vpn.example.com")
	cert, key := writePair(t, ca, dir, "pbx.example.com")
	ip, nft, enter := testkit.Need(t, "/sbin/ip", "iproute2"), testkit.Need(t, "/usr/sbin/nft", "nftables"), testkit.Need(t, "/usr/bin/nsenter", "util-linux")
	ocserv, ocpasswd, occtl := testkit.Need(t, "/usr/sbin/ocserv", "ocserv"), testkit.Need(t, "/usr/bin/ocpasswd", "ocserv"), testkit.Need(t, "/usr/bin/occtl", "ocserv")
	dnsmasq, kamailio, python := testkit.Need(t, "/usr/sbin/dnsmasq", "dnsmasq-base"), testkit.Need(t, "/usr/sbin/kamailio", "kamailio"), testkit.Need(t, "/usr/bin/python3", "python3")
	router.Run(t, ocpasswd, "right password\nright password\n", "-c", file("users"), "-g", "phones", "desk")
	for name, text := range map[string]string{"ocserv.conf": strings.ReplaceAll(gateway, "DIR", dir), "server.py": strings.Replace(webServer, "443", "8443", 1), "key.pem": "", "chain.pem": "",
		"desk.xml":    "<flat-profile><Proxy_1_>pbx.example.com:" + sealed + "</Proxy_1_><User_ID_1_>alice</User_ID_1_><Password_1_>secret</Password_1_><SIP_Transport_1_>TLS</SIP_Transport_1_><Resync_Trigger_2>$PRVTMR ge 2 and $REGTMR1 lt 1</Resync_Trigger_2></flat-profile>",
		"outside.nft": "table inet outside {\n chain in {\n type filter hook input priority 0;\n ip saddr 10.9.0.0/24 ip daddr 10.30.0.1 counter\n ip saddr 10.20.0.0/24 ip daddr 10.30.0.1 counter\n }\n chain shut {\n type filter hook input priority 1;\n tcp dport 443 ct state new reject with tcp reset\n }\n}\n"} {
		if err := os.WriteFile(file(name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for from, to := range map[string]string{key: "key.pem", cert: "chain.pem"} {
		b, err := os.ReadFile(from)
		if err == nil {
			err = os.WriteFile(file(to), b, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	script := `ip address add 10.30.0.1/32 dev lo; "$2" -f "$1/outside.nft"; cd "$1"; "$3" server.py pbx.example.com.pem pbx.example.com.key & "$4" -DD -E -f "$1/kamailio.cfg" -Y "$1" -w "$1" &
"$5" --keep-in-foreground --conf-file=/dev/null --no-resolv --no-hosts --user=root --pid-file --address=/pbx.example.com/10.30.0.1 --address=/vpn.example.com/10.9.0.1 --listen-address=10.9.0.1 --bind-interfaces & exec "$6" -f -d 2 -c "$1/ocserv.conf"`
	far := router.Neighbour(t, "eth0", "02:00:00:00:09:50", []string{"10.9.0.1/24"}, "/bin/sh", "-c", script, "sh", dir, nft, python, kamailio, dnsmasq, ocserv)
	there := func(args ...string) string {
		t.Helper()
		return router.Run(t, enter, "", append([]string{"--net=/proc/" + strconv.Itoa(far.Pid) + "/ns/net"}, args...)...)
	}
	users := func() string {
		out, err := exec.Command(occtl, "-s", file("occtl"), "-j", "show", "users").Output()
		if err != nil {
			return err.Error()
		}
		return string(out)
	}
	around := func() {
		t.Helper()
		if out := there(nft, "list", "chain", "inet", "outside", "in"); !strings.Contains(out, "ip saddr 10.9.0.0/24 ip daddr 10.30.0.1 counter packets 0 ") || strings.Contains(out, "ip saddr 10.20.0.0/24 ip daddr 10.30.0.1 counter packets 0 ") {
			t.Errorf("something goes around the tunnel, or nothing goes through it: %s", out)
		}
	}
	router.Run(t, ip, "", "address", "add", "10.9.0.50/24", "dev", "eth0")
	router.Run(t, ip, "", "route", "add", "default", "via", "10.9.0.1") // there is a way around
	router.Run(t, ip, "", "-6", "address", "add", "2001:db8:9::50/64", "dev", "eth0", "nodad")
	router.Run(t, ip, "", "-6", "route", "add", "default", "via", "2001:db8:9::1")
	for _, what := range []string{"10.9.0.1:53", "10.30.0.1:8443", "10.30.0.1:" + sealed} {
		router.Until(t, what+" is there", func() bool { // from the other side: what this one sends is counted
			return exec.Command(enter, "--net=/proc/"+strconv.Itoa(far.Pid)+"/ns/net", python, "-c", "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 1)", strings.Split(what, ":")[0], strings.Split(what, ":")[1]).Run() == nil
		})
	}

	// At its start it waits for a server that is away, and does nothing else.
	d := startDesk(t, dir, "desk up", "<VPN_Server>vpn.example.com</VPN_Server><VPN_User_Name>desk</VPN_User_Name><VPN_Password>right password</VPN_Password><VPN_Tunnel_Group>phones</VPN_Tunnel_Group><Connect_on_Bootup>Yes</Connect_on_Bootup>"+
		"<Profile_Rule>https://pbx.example.com:8443/desk.xml</Profile_Rule>", "--resync", "--dns", "10.9.0.1")
	s := d.stands("it waits", func(s deskStatus) bool { return s.VPN.Attempts > 0 })
	if s.VPN.State != vpn.Disconnected || !s.VPN.Closed || s.VPN.Next.IsZero() || !strings.Contains(s.VPN.Error, "nobody answers at vpn.example.com") || len(s.Lines) != 0 {
		t.Errorf("%+v", s)
	}
	there(nft, "flush", "chain", "inet", "outside", "shut")
	registered := func(s deskStatus) bool {
		return s.VPN.State == vpn.Connected && s.VPN.Attempts == 0 && s.VPN.Closed && len(s.Lines) == 1 && s.Lines[0].State == "registered" && s.Lines[0].Server == "10.30.0.1:"+sealed && len(s.Resync) == 1 && s.Resync[0].Error == ""
	}
	d.stands("it is registered through the tunnel", registered)
	around()
	if out, err := exec.Command(ip, "-6", "route", "get", "2001:db8:30::1").CombinedOutput(); err == nil { // the server assigns no address of IPv6
		t.Errorf("IPv6 goes around the tunnel: %s", out)
	}

	// Profiles that are fetched again come through the tunnel that is there: no second one is opened.
	d.says("Resync_Trigger_2 holds: the phone resyncs", 1)
	d.says("the profile is what it was", 1)
	if out := users(); strings.Count(out, `"desk"`) != 1 {
		t.Errorf("the phone signed in more than once: %s", out)
	}

	// The server ends it, and lets nobody in for a while.
	there(nft, "add", "rule", "inet", "outside", "shut", "tcp", "dport", "443", "ct", "state", "new", "reject", "with", "tcp", "reset")
	router.Run(t, occtl, "", "-s", file("occtl"), "disconnect", "user", "desk")
	s = d.stands("the tunnel is gone", func(s deskStatus) bool { return s.VPN.Attempts > 1 })
	if s.VPN.State != vpn.Disconnected || !s.VPN.Closed || s.VPN.Error == "" {
		t.Errorf("%+v", s.VPN)
	}
	for _, to := range []string{"10.30.0.1", "198.51.100.7", "10.20.0.1"} {
		if out, err := exec.Command(ip, "route", "get", to).CombinedOutput(); err == nil {
			t.Errorf("there is a way around the tunnel: %s", out)
		}
	}
	if c, err := net.DialTimeout("tcp", "10.30.0.1:"+sealed, time.Second); err == nil {
		_ = c.Close()
		t.Error("the server is reached around the tunnel")
	}
	around()
	there(nft, "flush", "chain", "inet", "outside", "shut")
	d.says("the tunnel is open again", 1)
	d.stands("it is registered again", registered)
	around()
	// The user is locked: the status says why, and the server is not asked all the time.
	router.Run(t, ocpasswd, "", "-c", file("users"), "-l", "desk")
	router.Run(t, occtl, "", "-s", file("occtl"), "disconnect", "user", "desk")
	s = d.stands("the user is refused", func(s deskStatus) bool { return s.VPN.Attempts == 2 })
	if !strings.Contains(s.VPN.Error, "does not let the user in") || s.VPN.Hint == "" || time.Until(s.VPN.Next) < 4*time.Minute {
		t.Errorf("%+v", s.VPN)
	}
	d.stop()
	for _, family := range []string{"-4", "-6"} {
		if out := router.Run(t, ip, "", family, "route", "show", "proto", closedRoutes); out != "" {
			t.Errorf("routes are left behind: %s", out)
		}
	}
	router.Until(t, "the user signed off", func() bool { return !strings.Contains(users(), `"desk"`) })
	if text := d.said.String(); !strings.Contains(text, "the VPN server ended the session") {
		t.Error(text)
	}
}
