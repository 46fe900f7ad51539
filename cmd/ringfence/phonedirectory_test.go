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

	"ringfence/internal/testkit"
	"ringfence/internal/testkit/openldap"
)

// TestPhoneDirectory looks people up in OpenLDAP with the file of the guide.
func TestPhoneDirectory(t *testing.T) {
	ca := testkit.NewAuthority("CA")
	plain, sealed := openldap.Start(t, ca)
	file := deskGuide(t, "text ldap.xml")[0]
	dir := t.TempDir()
	t.Chdir(dir)
	dns := nameserver(t, "dir.example.com")
	profile := strings.NewReplacer("ldaps://dir.example.com", "ldaps://dir.example.com:"+sealed, "a long secret", "right password").Replace(file)
	for name, text := range map[string]string{"cfg.xml": profile, "ca.pem": string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.Root()})), "other.pem": string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: testkit.NewAuthority("CA").Root()})),
		"public.xml": strings.Replace(profile, "ou=people", "ou=public", 1), "plain.xml": strings.NewReplacer("ldaps://dir.example.com:"+sealed, "ldap://dir.example.com:"+plain, "DIGEST-MD5", "None", "ou=people", "ou=public").Replace(profile), "wrong.xml": strings.Replace(profile, "right password", "wrong", 1)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	run := func(want int, args ...string) (directoryAnswer, string) {
		t.Helper()
		var out, errs bytes.Buffer
		if code := execute(t.Context(), append([]string{"phone", "directory", "find", "--dns", dns, "--ca", "ca.pem"}, args...), &out, &errs); code != want {
			t.Errorf("%s: exit code %d, want %d\n%s%s", strings.Join(args, " "), code, want, out.String(), errs.String())
		}
		var a directoryAnswer
		_ = json.Unmarshal(out.Bytes(), &a)
		return a, out.String() + errs.String()
	}
	for _, args := range [][]string{{"lovelace"}, {"Ada", "Lovelace"}, {"--last", "Love", "--first", "Ada"}} {
		a, text := run(0, append(args, "--cfg", "cfg.xml", "--json")...)
		if len(a.Contacts) != 1 || len(a.Contacts[0].Fields) != 2 || a.Contacts[0].Fields[1].Value != "101" || !a.Contacts[0].Fields[1].Phone || a.Proof.InTheClear || !strings.HasPrefix(a.Proof.TLS, "TLS 1.3") || strings.Contains(text, "right password") {
			t.Errorf("%q: %s", args, text)
		}
	}
	if _, text := run(0, "lovelace", "--cfg", "cfg.xml"); !strings.Contains(text, "Ada Lovelace") || !strings.Contains(text, "bound by DIGEST-MD5") {
		t.Error(text)
	}
	if a, text := run(0, "--item-3", "anal", "--cfg", "cfg.xml", "--json"); len(a.Contacts) != 1 || a.Contacts[0].Fields[1].Dial != "9101" {
		t.Error(text)
	}
	if a, text := run(0, "Bee", "--cfg", "public.xml", "--json", "--limit", "100"); len(a.Contacts) != 4 || a.More || a.Contacts[0].DN != "cn=b1,ou=public,dc=example,dc=com" || a.Contacts[3].DN != "cn=b4,ou=public,dc=example,dc=com" {
		t.Error(text)
	}
	run(2, "--item-4", "x", "--cfg", "cfg.xml")
	run(3, "nobody", "--cfg", "cfg.xml")
	run(5, "lovelace", "--cfg", "wrong.xml")
	run(6, "lovelace", "--cfg", "cfg.xml", "--ca", "other.pem")
	if _, text := run(6, "Bee", "--cfg", "plain.xml"); !strings.Contains(text, "in the clear") {
		t.Error(text)
	}
	if _, text := run(0, "Bee", "--cfg", "plain.xml", "--in-the-clear", "--limit", "2"); !strings.Contains(text, "WARNING: the directory was searched IN THE CLEAR") || !strings.Contains(text, "there are more than these 2") {
		t.Error(text)
	}
	run(2, "--cfg", "cfg.xml")
	run(2, "x", "--last", "y", "--cfg", "cfg.xml")
}

// nameserver is a DNS server on loopback that knows one name as this host.
func nameserver(t *testing.T, name string) string {
	t.Helper()
	program := testkit.Need(t, "/usr/sbin/dnsmasq", "dnsmasq-base")
	port, _ := freePorts(t)
	cmd := exec.Command(program, "--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--listen-address=127.0.0.1", "--bind-interfaces", "--user=root", "--port="+port, "--pid-file", "--address=/"+name+"/127.0.0.1")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for range 250 {
		if c, err := net.Dial("tcp", "127.0.0.1:"+port); err == nil {
			_ = c.Close()
			return "127.0.0.1:" + port
		}
		<-tick.C
	}
	t.Fatal("dnsmasq does not listen")
	return ""
}
