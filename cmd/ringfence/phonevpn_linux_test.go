package main

import (
	"bytes"
	"encoding/json"
	"encoding/pem"
	"net"
	"os"
	"os/exec"
	"path/filepath"
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
		"wrong.xml": strings.Replace(profile, "right", "wrong", 1), "group.xml": strings.Replace(profile, ">phones<", ">nobody<", 1), "name.xml": strings.Replace(profile, "vpn.example.com", "other.example.com", 1), "none.xml": "<flat-profile/>"} {
		if err := os.WriteFile(file(name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	router.Neighbour(t, "eth0", "02:00:00:00:09:50", []string{"10.9.0.1/24"}, "/bin/sh", "-c", dnsmasq+" --conf-file=/dev/null --no-resolv --no-hosts --user=root --pid-file --address=/example.com/10.9.0.1 --listen-address=10.9.0.1 --bind-interfaces; exec "+ocserv+" -f -d 2 -c "+file("ocserv.conf"))
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
