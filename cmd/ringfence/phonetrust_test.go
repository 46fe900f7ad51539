package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"ringfence/internal/testkit"
)

// writeCertificates writes an authority, ca.pem, and certificates that a phone must not believe for a name: one that is over, one of another name, and one of another authority.
func writeCertificates(t *testing.T, dir, name string) (kinds map[string]string) {
	t.Helper()
	now := time.Now()
	authority := func() (*x509.Certificate, *ecdsa.PrivateKey) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "CA"}, NotBefore: now.Add(-48 * time.Hour), NotAfter: now.Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
		der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
		if err == nil {
			c, err = x509.ParseCertificate(der)
		}
		if err != nil {
			t.Fatal(err)
		}
		return c, key
	}
	ca, key := authority()
	stranger, strangers := authority()
	write := func(file string, b *pem.Block) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, file), pem.EncodeToMemory(b), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("ca.pem", &pem.Block{Type: "CERTIFICATE", Bytes: ca.Raw})
	for i, x := range []struct {
		file, name string
		ends       time.Duration
		by         *x509.Certificate
		with       *ecdsa.PrivateKey
	}{{"good", name, time.Hour, ca, key}, {"expired", name, -time.Hour, ca, key}, {"name", "other.example.com", time.Hour, ca, key}, {"stranger", name, time.Hour, stranger, strangers}} {
		own, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		c := &x509.Certificate{SerialNumber: big.NewInt(int64(i + 2)), Subject: pkix.Name{CommonName: x.name}, DNSNames: []string{x.name}, NotBefore: now.Add(-24 * time.Hour), NotAfter: now.Add(x.ends), KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
		der, err := x509.CreateCertificate(rand.Reader, c, x.by, own.Public(), x.with)
		if err != nil {
			t.Fatal(err)
		}
		text, err := x509.MarshalPKCS8PrivateKey(own)
		if err != nil {
			t.Fatal(err)
		}
		write(x.file+".pem", &pem.Block{Type: "CERTIFICATE", Bytes: der})
		write(x.file+".key", &pem.Block{Type: "PRIVATE KEY", Bytes: text})
	}
	return map[string]string{"expired": "expired", "name": "other.example.com", "stranger": "authority"}
}

// heard is what came to a server within TLS.
type heard struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// Write implements io.Writer.
func (h *heard) Write(b []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.b.Write(b)
}

func (h *heard) String() string { h.mu.Lock(); defer h.mu.Unlock(); return h.b.String() }

// TestPhoneBelievesNobody has OpenSSL stand where the server of each application is, with a certificate that is over, of another name, or of another authority: each application ends with 6, and not a byte of it is sent.
func TestPhoneBelievesNobody(t *testing.T) {
	openssl := testkit.Need(t, "/usr/bin/openssl", "openssl")
	dir := t.TempDir()
	kinds := writeCertificates(t, dir, "localhost")
	kinds["good"] = ""
	said := map[string]*heard{}
	ports := map[string]string{}
	for kind := range kinds {
		_, port := freePorts(t)
		h := &heard{}
		cmd := exec.Command(openssl, "s_server", "-quiet", "-accept", "127.0.0.1:"+port, "-cert", filepath.Join(dir, kind+".pem"), "-key", filepath.Join(dir, kind+".key"))
		cmd.Stdout = h
		in, err := cmd.StdinPipe() // an end of it would end the server
		if err == nil {
			err = cmd.Start()
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = in.Close(); _ = cmd.Process.Kill(); _ = cmd.Wait() })
		said[kind], ports[kind] = h, port
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for kind, port := range ports {
		up := false
		for range 250 {
			if c, err := net.Dial("tcp", "127.0.0.1:"+port); err == nil {
				up = true
				_ = c.Close()
				break
			}
			<-tick.C
		}
		if !up {
			t.Fatalf("the server of %s does not come up", kind)
		}
	}
	for name, x := range map[string]struct {
		profile string
		args    []string
	}{
		"provisioning":     {"<Profile_Rule>https://localhost:PORT/x.xml</Profile_Rule>", []string{"explain", "--resync"}},
		"authorities":      {"<Custom_CA_Rule>https://localhost:PORT/ca.pem</Custom_CA_Rule><Profile_Rule>https://localhost:PORT/x.xml</Profile_Rule>", []string{"explain", "--resync"}},
		"firmware":         {"<Upgrade_Rule>https://localhost:PORT/load</Upgrade_Rule>", []string{"firmware", "--signer", filepath.Join(dir, "good.pem")}},
		"report":           {"<Report_Rule>https://localhost:PORT/report</Report_Rule>", []string{"report"}},
		"problem report":   {"<PRT_Upload_Rule>https://localhost:PORT/prt</PRT_Upload_Rule>", []string{"report", "--problem", "no sound"}},
		"TR-069":           {"<Enable_TR-069>Yes</Enable_TR-069><ACS_URL>https://localhost:PORT/</ACS_URL><ACS_Username>desk</ACS_Username><ACS_Password>secret</ACS_Password>", []string{"tr069", "--once"}},
		"LDAPS":            {"<LDAP_Dir_Enable>Yes</LDAP_Dir_Enable><LDAP_Server>ldaps://localhost:PORT</LDAP_Server><LDAP_Auth_Method>Simple</LDAP_Auth_Method><LDAP_Client_DN>cn=desk</LDAP_Client_DN><LDAP_Password>secret</LDAP_Password>", []string{"directory", "find", "ada"}},
		"SIP":              {"<Proxy_1_>localhost:PORT</Proxy_1_><User_ID_1_>alice</User_ID_1_><Password_1_>secret</Password_1_><SIP_Transport_1_>TLS</SIP_Transport_1_>", []string{"up", "--once"}},
		"web proxy's file": {"<Proxy_Mode>Auto</Proxy_Mode><Use_Auto_Discovery__WPAD_>No</Use_Auto_Discovery__WPAD_><PAC_URL>https://localhost:PORT/proxy.pac</PAC_URL><Profile_Rule>https://localhost:PORT/x.xml</Profile_Rule>", []string{"explain", "--resync"}},
	} {
		for kind, says := range kinds {
			if kind == "good" {
				continue
			}
			file := filepath.Join(dir, "cfg.xml")
			if err := os.WriteFile(file, []byte("<flat-profile>"+strings.ReplaceAll(x.profile, "PORT", ports[kind])+"</flat-profile>"), 0o600); err != nil {
				t.Fatal(err)
			}
			var out, errs bytes.Buffer
			code := execute(t.Context(), append(append([]string{"phone"}, x.args...), "--cfg", file, "--ca", filepath.Join(dir, "ca.pem")), &out, &errs)
			if text := errs.String() + out.String(); code != 6 || !strings.Contains(text, says) || strings.Contains(text, "secret") {
				t.Errorf("%s, %s: exit code %d: %s", name, kind, code, text)
			}
			if got := said[kind].String(); got != "" {
				t.Errorf("%s, %s: %q was sent", name, kind, got)
			}
		}
	}
	// The same server is spoken to if it is believed.
	file := filepath.Join(dir, "cfg.xml")
	if err := os.WriteFile(file, []byte(fmt.Sprintf("<flat-profile><Profile_Rule>https://localhost:%s/x.xml</Profile_Rule></flat-profile>", ports["good"])), 0o600); err != nil {
		t.Fatal(err)
	}
	go execute(t.Context(), []string{"phone", "explain", "--resync", "--cfg", file, "--ca", filepath.Join(dir, "ca.pem")}, &bytes.Buffer{}, &bytes.Buffer{})
	for range 250 {
		if strings.HasPrefix(said["good"].String(), "GET /x.xml HTTP/1.1\r\n") {
			return
		}
		<-tick.C
	}
	t.Errorf("nothing comes to a server that is believed: %q", said["good"].String())
}
