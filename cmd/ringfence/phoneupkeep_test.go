package main

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"ringfence/internal/desk/upkeep"
	"ringfence/internal/testkit"
	"ringfence/internal/trust/signedfile"
)

// signedImage signs firmware as a vendor does.
func signedImage(t *testing.T, firmware []byte) (vendor *x509.Certificate, image []byte) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	vendor = &x509.Certificate{SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: "Vendor"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, vendor, vendor, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	if vendor, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	image, err = signedfile.Sign(signedfile.Options{Version: signedfile.Version{Major: 1}, Name: "sip88xx.loads", Time: time.Now(), Digest: crypto.SHA512}, firmware, vendor, key)
	if err != nil {
		t.Fatal(err)
	}
	return vendor, image
}

// TestPhoneUpkeep fetches firmware and sends reports as a profile says; openssl reads the one that is encrypted, and tar the problem report.
func TestPhoneUpkeep(t *testing.T) {
	openssl := testkit.Need(t, "/usr/bin/openssl", "openssl")
	dir := t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	ca := testkit.NewAuthority("CA")
	vendor, image := signedImage(t, []byte("what a phone loads"))
	var mu sync.Mutex
	got := map[string][]byte{}
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		mu.Lock()
		got[r.Method+" "+r.URL.Path] = b
		mu.Unlock()
		switch r.URL.Path {
		case "/CP-8841-3PCC.loads":
			_, _ = w.Write(image)
		case "/changed.loads":
			_, _ = w.Write(append(bytes.Clone(image), 'x'))
		case "/000e08abcdef", "/prt":
		default:
			http.NotFound(w, r)
		}
	}))
	s.TLS, s.Config.ErrorLog = ca.Server("localhost"), log.New(io.Discard, "", 0)
	s.StartTLS()
	defer s.Close()
	_, port, _ := net.SplitHostPort(s.Listener.Addr().String())
	profile := `<flat-profile><Upgrade_Rule>https://localhost:PORT/$PN.loads</Upgrade_Rule><Report_Rule>[--key "$SA"] https://localhost:PORT/$MA</Report_Rule><HTTP_Report_Method>PUT</HTTP_Report_Method><PRT_Upload_Rule>https://localhost:PORT/prt</PRT_Upload_Rule><GPP_SA>report key</GPP_SA>` +
		`<Station_Name>desk</Station_Name><Password_1_>hidden</Password_1_></flat-profile>`
	profile = strings.ReplaceAll(profile, "PORT", port)
	for name, b := range map[string][]byte{"cfg.xml": []byte(profile), "changed.xml": []byte(strings.Replace(profile, "$PN.loads", "changed.loads", 1)), "clear.xml": []byte(strings.Replace(profile, "https://localhost:"+port+"/$PN", "tftp://localhost/$PN", 1)), "off.xml": []byte(strings.Replace(profile, "<Upgrade_Rule>", "<Upgrade_Enable>No</Upgrade_Enable><Upgrade_Rule>", 1)),
		"other.xml": []byte(strings.Replace(profile, "<Upgrade_Rule>", "<Restricted_Access_Domains>pbx.example.com</Restricted_Access_Domains><Upgrade_Rule>", 1)), "none.xml": []byte("<flat-profile/>"),
		"vendor.pem": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: vendor.Raw}), "ca.pem": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.Root()})} {
		if err := os.WriteFile(file(name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	run := func(want int, args ...string) string {
		t.Helper()
		var out, errs bytes.Buffer
		if code := execute(t.Context(), append([]string{"phone"}, args...), &out, &errs); code != want {
			t.Errorf("%s: exit code %d, want %d\n%s%s", strings.Join(args, " "), code, want, out.String(), errs.String())
		}
		return out.String() + errs.String()
	}
	firmware := func(want int, cfg string, more ...string) string {
		t.Helper()
		return run(want, append([]string{"firmware", "--cfg", file(cfg), "--ca", file("ca.pem"), "--signer", file("vendor.pem")}, more...)...)
	}
	var loaded upkeep.Image
	if text := firmware(0, "cfg.xml", "--json", "--out", file("out")); json.Unmarshal([]byte(text), &loaded) != nil || loaded.Name != "sip88xx.loads" || loaded.Signer != "CN=Vendor" || loaded.Digest != "SHA-512" {
		t.Error(text)
	}
	if b, err := os.ReadFile(file("out")); err != nil || string(b) != "what a phone loads" {
		t.Errorf("%q %v", b, err)
	}
	firmware(6, "changed.xml")
	firmware(6, "cfg.xml", "--signer", file("ca.pem"))
	firmware(6, "clear.xml")
	firmware(5, "off.xml")
	firmware(5, "other.xml")
	firmware(3, "none.xml")
	run(2, "firmware", "--cfg", file("cfg.xml"))

	report := []string{"report", "--cfg", file("cfg.xml"), "--ca", file("ca.pem"), "--mac", "00:0e:08:ab:cd:ef"}
	run(0, report...)
	if err := os.WriteFile(file("sealed"), got["PUT /000e08abcdef"], 0o600); err != nil {
		t.Fatal(err)
	}
	plain, err := exec.Command(openssl, "enc", "-d", "-aes-256-cbc", "-md", "sha256", "-pass", "pass:report key", "-in", file("sealed")).Output()
	if err != nil || !strings.Contains(string(plain), ">desk</Station_Name>") || strings.Contains(string(plain), "hidden") || strings.Contains(string(plain), "report key") {
		t.Errorf("%v %s", err, plain)
	}
	if text := run(0, append(report, "--problem", "no sound", "--json")...); !strings.Contains(text, `"what": "problem"`) {
		t.Error(text)
	}
	b := got["POST /prt"]
	at := bytes.Index(b, []byte("\x1f\x8b"))
	if at < 0 || !bytes.Contains(b, []byte(`name="prt_file"; filename="prt-000E08ABCDEF-`)) || !bytes.Contains(b, []byte("no sound")) {
		t.Fatalf("%q", b[:min(len(b), 500)])
	}
	if err := os.WriteFile(file("prt.tar.gz"), b[at:bytes.LastIndex(b, []byte("\r\n--"))], 0o600); err != nil {
		t.Fatal(err)
	}
	list, err := exec.Command("tar", "-xzOf", file("prt.tar.gz")).CombinedOutput()
	if err != nil || !strings.Contains(string(list), `"parameters": [`) || !strings.Contains(string(list), "<flat-profile>") || strings.Contains(string(list), "hidden") || strings.Contains(string(list), "report key") {
		t.Errorf("%v %s", err, list)
	}
	run(3, "report", "--cfg", file("none.xml"))
	run(6, "report", "--cfg", file("cfg.xml"), "--ca", file("vendor.pem"))
}
