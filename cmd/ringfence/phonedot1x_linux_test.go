package main

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ringfence/internal/desk/dot1x"
	"ringfence/internal/testkit"
	"ringfence/internal/testkit/router"
)

// radius is an authentication server for EAP-TLS, of few lines. Its EAP-FAST and wpa_supplicant's do not agree on the keys of TLS 1.2, so another switch does that.
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
	eap {
		default_eap_type = tls
		timer_expire = 60
		max_sessions = 100
		tls-config common {
			private_key_file = DIR/radius.example.com.key
			certificate_file = DIR/radius.example.com.pem
			ca_file = DIR/ca.pem
			cipher_list = "DEFAULT"
			tls_min_version = "1.2"
			tls_max_version = "1.2"
			ecdh_curve = ""
		}
		tls {
			tls = common
		}
	}
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
ca_cert=DIR/ca.pem
server_cert=DIR/radius.example.com.pem
private_key=DIR/radius.example.com.key
pac_opaque_encr_key=000102030405060708090a0b0c0d0e0f
eap_fast_a_id=101112131415161718191a1b1c1d1e1f
eap_fast_a_id_info=switch
eap_fast_prov=3
`

// rsaAuthority makes an authority and certificates of RSA keys in files: the suites of EAP-FAST are older than those of ECDSA.
func rsaAuthority(t *testing.T, dir, authority string, names map[string]x509.ExtKeyUsage) {
	t.Helper()
	var root *x509.Certificate
	var rootKey *rsa.PrivateKey
	n := int64(0)
	make := func(file string, c *x509.Certificate) {
		key, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			t.Fatal(err)
		}
		n++
		c.SerialNumber, c.NotBefore, c.NotAfter = big.NewInt(n), time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
		if root == nil {
			root, rootKey = c, key
		}
		der, err := x509.CreateCertificate(rand.Reader, c, root, key.Public(), rootKey)
		if err != nil {
			t.Fatal(err)
		}
		text, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		for name, b := range map[string]*pem.Block{file + ".pem": {Type: "CERTIFICATE", Bytes: der}, file + ".key": {Type: "PRIVATE KEY", Bytes: text}} {
			if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(b), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if c.IsCA {
			if root, err = x509.ParseCertificate(der); err != nil {
				t.Fatal(err)
			}
		}
	}
	make(authority, &x509.Certificate{Subject: pkix.Name{CommonName: authority}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign})
	for name, usage := range names {
		make(name, &x509.Certificate{Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment, ExtKeyUsage: []x509.ExtKeyUsage{usage}})
	}
}

// TestPhoneDot1x proves a phone to a switch whose authentication server is FreeRADIUS.
func TestPhoneDot1x(t *testing.T) {
	if !router.Alone(t, 0) {
		return
	}
	dir := t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	rsaAuthority(t, dir, "ca", map[string]x509.ExtKeyUsage{"radius.example.com": x509.ExtKeyUsageServerAuth, "phone": x509.ExtKeyUsageClientAuth})
	rsaAuthority(t, dir, "stranger", map[string]x509.ExtKeyUsage{"other": x509.ExtKeyUsageClientAuth})
	for name, text := range map[string]string{"radiusd.conf": strings.ReplaceAll(radius, "DIR", dir), "users": "* FAST\n\"desk\" MSCHAPV2 \"right password\" [2]\n", "fast.conf": strings.ReplaceAll(fastPort, "DIR", dir), "hostapd.conf": switchPort, "password": "right password\n", "wrong": "wrong password\n"} {
		if err := os.WriteFile(file(name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	hostapd, server := testkit.Need(t, "/usr/sbin/hostapd", "hostapd"), testkit.Need(t, "/usr/sbin/freeradius", "freeradius")
	testkit.Need(t, "/usr/sbin/wpa_supplicant", "wpasupplicant")
	router.Neighbour(t, "eth0", "02:00:00:00:09:50", nil, "/bin/sh", "-c", server+" -X -d "+dir+" -n radiusd > "+file("radius.log")+" 2>&1 & exec "+hostapd+" "+file("hostapd.conf"))
	router.Until(t, "FreeRADIUS is ready", func() bool {
		b, _ := os.ReadFile(file("radius.log"))
		return bytes.Contains(b, []byte("Ready to process"))
	})
	defer func() {
		if t.Failed() {
			b, _ := exec.Command("grep", "-E", "ERROR|eject", file("radius.log")).Output()
			t.Logf("%s", b)
		}
	}()
	router.Neighbour(t, "eth1", "02:00:00:00:09:51", nil, hostapd, file("fast.conf"))
	n := byte(0)
	run := func(want int, args ...string) (s accessStatus, text string) {
		t.Helper()
		n++ // another phone each time: a switch lets one that it refused wait
		link := "eth0"
		if strings.Contains(strings.Join(args, " "), "--eap-user") {
			link = "eth1"
		}
		router.Run(t, "/sbin/ip", "", "link", "set", link, "address", "02:00:00:00:0a:0"+string('0'+n))
		var out, errs bytes.Buffer
		if code := execute(t.Context(), append([]string{"phone", "dot1x", link, "--json", "--wait", "20s"}, args...), &out, &errs); code != want {
			t.Errorf("%s: exit code %d, want %d\n%s%s", strings.Join(args, " "), code, want, out.String(), errs.String())
		}
		_ = json.Unmarshal(out.Bytes(), &s)
		return s, out.String() + errs.String()
	}
	tls := []string{"--ca", file("ca.pem"), "--cert", file("phone.pem"), "--key", file("phone.key"), "--eap-server", "radius.example.com"}
	s, text := run(0, tls...)
	if s.State != dot1x.Authenticated || s.Protocol != dot1x.TLS || !strings.Contains(s.Server, "radius.example.com") || s.Link != "eth0" {
		t.Error(text)
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
		return []string{"--ca", file("ca.pem"), "--eap-user", "desk", "--eap-password-file", file(password), "--state", file("state")}
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
	run(5, "--ca", file("ca.pem"), "--cert", file("other.pem"), "--key", file("other.key"))
	run(2, "--ca", file("ca.pem"))

	// A phone whose profile switches it on.
	_, sealed, _ := kamailio(t, t.TempDir(), "MD5")
	profile := "<flat-profile><Enable_802.1X_Authentication>Yes</Enable_802.1X_Authentication><Proxy_1_>localhost:" + sealed + "</Proxy_1_><User_ID_1_>alice</User_ID_1_><Password_1_>secret</Password_1_><SIP_Transport_1_>TLS</SIP_Transport_1_><TLS_Name_Validate_1_>No</TLS_Name_Validate_1_></flat-profile>"
	if err := os.WriteFile(file("cfg.xml"), []byte(profile), 0o600); err != nil {
		t.Fatal(err)
	}
	n++
	router.Run(t, "/sbin/ip", "", "link", "set", "eth0", "address", "02:00:00:00:0a:0"+string('0'+n))
	var out, errs bytes.Buffer
	_ = execute(t.Context(), append([]string{"phone", "up", "--cfg", file("cfg.xml"), "--ethernet", "eth0", "--once", "--json"}, tls...), &out, &errs) // whether the line registers is another matter
	var d deskStatus
	if err := json.Unmarshal(out.Bytes(), &d); err != nil || d.Access.State != dot1x.Authenticated || d.Access.Protocol != dot1x.TLS || len(d.Lines) != 1 {
		t.Errorf("%v %s%s", err, out.String(), errs.String())
	}
}
