package resync

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"ringfence"
	"ringfence/internal/testkit"
	"ringfence/internal/trust/signedfile"
)

// server is an HTTPS server of somebody else, in few lines. It wants a certificate of its clients, says whom it saw, and serves a folder; a file that ends
// in .coded has the content coding aes128gcm.
const server = `
import http.server, ssl, sys
class H(http.server.SimpleHTTPRequestHandler):
    def end_headers(self):
        if self.path.endswith('.coded'): self.send_header('Content-Encoding', 'aes128gcm')
        super().end_headers()
    def log_message(self, *a):
        who = dict(x[0] for x in self.connection.getpeercert()['subject'])
        print('saw', who, self.headers.get('User-Agent'), self.path, flush=True)
s = http.server.HTTPServer(('127.0.0.1', 0), H)
c = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
c.load_cert_chain('server.pem', 'server.key')
c.load_verify_locations('ca.pem')
c.verify_mode = ssl.CERT_REQUIRED
s.socket = c.wrap_socket(s.socket, server_side=True)
print(s.server_address[1], flush=True)
s.serve_forever()
`

// TestJudges fetches from a server of somebody else what openssl and gzip made, with certificates that openssl made: the server's has its name in the form with a
// slash, the phone's has the subject that such phones have.
func TestJudges(t *testing.T) {
	openssl, python, curl, gz := testkit.Need(t, "/usr/bin/openssl", "openssl"), testkit.Need(t, "/usr/bin/python3", "python3"), testkit.Need(t, "/usr/bin/curl", "curl"), testkit.Need(t, "/bin/gzip", "gzip")
	dir := t.TempDir()
	run := func(name string, args ...string) {
		t.Helper()
		cmd := exec.Command(name, args...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s %q: %v\n%s", name, args, err, out)
		}
	}
	write := func(name string, b []byte) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	run(openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=Provisioning CA", "-days", "2")
	for name, x := range map[string][2]string{"server": {"/CN=prof.voice.com\\/info@voice.com", "extendedKeyUsage=serverAuth"}, "phone": {"/OU=CP-8841-3PCC/L=88012BA01234/SN=000e08abcdef", "extendedKeyUsage=clientAuth"}} {
		write(name+".ext", []byte(x[1]+"\n"))
		run(openssl, "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", name+".key", "-out", name+".csr", "-subj", x[0])
		run(openssl, "x509", "-req", "-in", name+".csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", name+".ext", "-out", name+".pem")
	}
	for i, name := range []string{"plain", "zipped", "sha256", "md5", "both"} {
		write(name, profile(fmt.Sprintf("<Station_Name>%s</Station_Name><Time_Zone>GMT+0%d:00</Time_Zone>", name, i)))
	}
	run(gz, "zipped", "both")
	run(openssl, "enc", "-aes-256-cbc", "-md", "sha256", "-k", "the key", "-in", "sha256", "-out", "sha256.enc")
	run(openssl, "enc", "-aes-256-cbc", "-md", "md5", "-k", "the key", "-in", "md5", "-out", "md5.enc")
	run(openssl, "enc", "-aes-256-cbc", "-md", "sha256", "-k", "the key", "-in", "both.gz", "-out", "both.enc")
	coded, err := signedfile.EncryptCoding(profile("<Station_Name>coded</Station_Name>"), keying("yqdlZ-tYemfogSmv7Ws5PQ"), "")
	if err != nil {
		t.Fatal(err)
	}
	write("coded.coded", coded)
	write("server.py", []byte(server))

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	cmd := exec.CommandContext(ctx, python, "server.py")
	cmd.Dir, cmd.Stderr = dir, os.Stderr
	pipe, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	defer func() { cancel(); _ = cmd.Wait() }()
	said := bufio.NewScanner(pipe)
	if !said.Scan() {
		t.Fatal("the server did not start")
	}
	port := said.Text()

	roots := x509.NewCertPool()
	pem, err := os.ReadFile(filepath.Join(dir, "ca.pem"))
	if err != nil || !roots.AppendCertsFromPEM(pem) {
		t.Fatal("no anchor", err)
	}
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, "phone.pem"), filepath.Join(dir, "phone.key"))
	if err != nil {
		t.Fatal(err)
	}
	s := newSite(t, &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{pair}})
	s.names["prof.voice.com"] = []netip.Addr{netip.MustParseAddr("127.0.0.1")}
	for file, want := range map[string]string{"plain": "[]", "zipped.gz": "[gzip]", "sha256.enc": "[AES-256-CBC with SHA-256]", "md5.enc": "[AES-256-CBC with MD5]", "both.enc": "[AES-256-CBC with SHA-256 gzip]", "coded.coded": "[RFC 8188]"} {
		options := ""
		if strings.HasSuffix(file, ".enc") {
			options = `[--key "$SA"] `
		}
		r := s.Run(t.Context(), with(t, "<GPP_SA>the key</GPP_SA><IKM_HTTP_Encrypt_Content>yqdlZ-tYemfogSmv7Ws5PQ</IKM_HTTP_Encrypt_Content><Profile_Rule>"+options+"https://prof.voice.com:"+port+"/"+file+"</Profile_Rule>"))
		name, _, _ := strings.Cut(file, ".")
		if r.Failed() != nil || r.Set.Text("Station_Name") != name || fmt.Sprint(r.Outcomes[0].Decoded) != want || !strings.Contains(r.Outcomes[0].Proven, "CN=prof.voice.com/info@voice.com") {
			t.Errorf("%s: %+v", file, r.Outcomes)
		}
		if !said.Scan() || !strings.Contains(said.Text(), "'organizationalUnitName': 'CP-8841-3PCC'") || !strings.Contains(said.Text(), "'surname': '000e08abcdef'") || !strings.Contains(said.Text(), "CP-8841-3PCC/11.3.7 (000e08abcdef)(88012BA01234) /"+file) {
			t.Errorf("the server saw %s", said.Text())
		}
	}
	// The judge of the client certificate: curl is let in with it, and not without; and so are we.
	url := "https://prof.voice.com:" + port + "/plain"
	ask := []string{"--silent", "--show-error", "--fail", "--cacert", "ca.pem", "--resolve", "prof.voice.com:" + port + ":127.0.0.1", "--insecure", "--output", "got", url}
	run(curl, append(ask, "--cert", "phone.pem", "--key", "phone.key")...)
	without := exec.Command(curl, ask...)
	without.Dir = dir
	if out, err := without.CombinedOutput(); err == nil {
		t.Errorf("curl was let in without a certificate: %s", out)
	}
	s.TLS.Certificates = nil
	if r := s.Run(t.Context(), with(t, "<Profile_Rule>"+url+"</Profile_Rule>")); ringfence.KindOf(r.Failed()) != ringfence.KindUnavailable {
		t.Errorf("%+v", r.Outcomes)
	}
}
