package posture

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"io"
	"math/big"
	"net"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"ringfence"
	"ringfence/internal/testkit"
)

// server starts an openssl s_server, and returns how to reach it.
func server(t *testing.T, key string, args ...string) func(context.Context) (net.Conn, error) {
	t.Helper()
	openssl := testkit.Need(t, "openssl", "openssl")
	dir := t.TempDir()
	cert, private := filepath.Join(dir, "c.pem"), filepath.Join(dir, "k.pem")
	kind := []string{"-newkey", "rsa:2048"}
	if key == "ec" {
		kind = []string{"-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"}
	}
	if out, err := exec.CommandContext(t.Context(), openssl, append(append([]string{"req", "-x509"}, kind...), "-nodes", "-subj", "/CN=x", "-days", "2", "-keyout", private, "-out", cert)...).CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	cmd := exec.CommandContext(t.Context(), openssl, append([]string{"s_server", "-accept", "127.0.0.1:0", "-cert", cert, "-key", private, "-quiet"}, args...)...)
	cmd.Args = slices.DeleteFunc(cmd.Args, func(a string) bool { return a == "-quiet" })
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = in.Close(); _ = cmd.Process.Kill(); _ = cmd.Wait() })
	lines := bufio.NewScanner(stdout)
	at := ""
	for lines.Scan() {
		if m := regexp.MustCompile(`^ACCEPT (\S+)`).FindStringSubmatch(lines.Text()); m != nil {
			at = m[1]
			break
		}
	}
	if at == "" {
		t.Fatal("openssl did not start")
	}
	go func() { _, _ = io.Copy(io.Discard, stdout) }()
	return func(ctx context.Context) (net.Conn, error) { return new(net.Dialer).DialContext(ctx, "tcp", at) }
}

func probe(t *testing.T, dial func(context.Context) (net.Conn, error)) Report {
	t.Helper()
	r, err := Probe(t.Context(), Config{Dial: dial, Name: "x.example"})
	if err != nil {
		t.Fatal(err, ringfence.HintOf(err))
	}
	return r
}

// TestOpenSSL has servers of known settings asked: what is found is what they were given.
func TestOpenSSL(t *testing.T) {
	for name, x := range map[string]struct {
		key     string
		args    []string
		want    []Accepted
		refused []string
	}{
		"a list of TLS 1.2": {"rsa", []string{"-tls1_2", "-serverpref", "-cipher", "ECDHE-RSA-AES256-GCM-SHA384:AES128-SHA:ECDHE-RSA-AES128-SHA256"},
			[]Accepted{{Version: "TLS 1.2", Suites: []string{"TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", "TLS_RSA_WITH_AES_128_CBC_SHA", "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256"}, Order: "server"}}, []string{"TLS 1.3", "TLS 1.1", "TLS 1.0"}},
		"TLS 1.3 alone": {"ec", []string{"-tls1_3", "-serverpref", "-ciphersuites", "TLS_CHACHA20_POLY1305_SHA256:TLS_AES_128_GCM_SHA256", "-groups", "P-384:X25519"},
			[]Accepted{{Version: "TLS 1.3", Suites: []string{"TLS_CHACHA20_POLY1305_SHA256", "TLS_AES_128_GCM_SHA256"}, Order: "server", Groups: []string{"secp384r1", "x25519"}}}, []string{"TLS 1.2", "TLS 1.1", "TLS 1.0"}},
		"an old one": {"rsa", []string{"-no_tls1_2", "-no_tls1_3", "-cipher", "AES256-SHA:ECDHE-RSA-AES128-SHA:@SECLEVEL=0"},
			[]Accepted{{Version: "TLS 1.1", Suites: []string{"TLS_RSA_WITH_AES_256_CBC_SHA", "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA"}, Order: "client"}, {Version: "TLS 1.0", Suites: []string{"TLS_RSA_WITH_AES_256_CBC_SHA", "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA"}, Order: "client"}}, []string{"TLS 1.3", "TLS 1.2"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := probe(t, server(t, x.key, x.args...))
			if !slices.Equal(r.Refused, x.refused) || len(r.Versions) != len(x.want) {
				t.Fatalf("%+v", r)
			}
			for i, w := range x.want {
				got := r.Versions[i]
				a, b := slices.Clone(got.Suites), slices.Clone(w.Suites)
				if w.Order == "client" {
					slices.Sort(a)
					slices.Sort(b)
				}
				g, h := slices.Clone(got.Groups), slices.Clone(w.Groups)
				slices.Sort(g)
				slices.Sort(h)
				if got.Version != w.Version || !slices.Equal(a, b) || got.Order != w.Order || !slices.Equal(g, h) {
					t.Errorf("%+v, want %+v", got, w)
				}
			}
		})
	}
}

// TestMeet goes through what a phone would come to.
func TestMeet(t *testing.T) {
	r := Report{Versions: []Accepted{{Version: "TLS 1.3", Suites: []string{"TLS_AES_128_GCM_SHA256"}}, {Version: "TLS 1.2", Suites: []string{"TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "TLS_RSA_WITH_AES_128_CBC_SHA", "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384"}, Order: "server"},
		{Version: "TLS 1.0", Suites: []string{"TLS_RSA_WITH_NULL_SHA", "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA"}}}}
	m, err := r.Meet("ECDHE-RSA-AES256-GCM-SHA384:ECDHE-RSA-AES128-GCM-SHA256", TLS12)
	if err != nil || m.Version != "TLS 1.2" || m.Suite != "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256" || len(m.Common) != 2 {
		t.Errorf("%+v %v", m, err)
	}
	// The example of a phone's guide: RSA means the key exchange.
	if m, err = r.Meet("RSA:!aNULL:!eNULL", TLS12); err != nil || m.Suite != "TLS_RSA_WITH_AES_128_CBC_SHA" || len(m.Notes) == 0 {
		t.Errorf("%+v %v", m, err)
	}
	if m, err = r.Meet("CAMELLIA", TLS12); err != nil || m.Version != "" {
		t.Errorf("%+v %v", m, err)
	}
	if m, err = r.Meet("CAMELLIA", TLS13); err != nil || m.Version != "TLS 1.3" {
		t.Errorf("%+v %v", m, err)
	}
	weak := strings.Join(r.Weak(), "\n")
	for _, want := range []string{"TLS 1.0 is accepted", "TLS 1.2 TLS_RSA_WITH_AES_128_CBC_SHA: no forward secrecy", "TLS_RSA_WITH_NULL_SHA: nothing is sealed", "TLS 1.0 TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA: no authenticated encryption"} {
		if !strings.Contains(weak, want) {
			t.Errorf("%s lacks %q", weak, want)
		}
	}
}

// TestNoServer has what is no TLS server say so at once.
func TestNoServer(t *testing.T) {
	for name, x := range map[string]struct {
		says string
		want ringfence.Kind
	}{
		"another protocol": {"220 mail.example.com ESMTP\r\n", ringfence.KindInvalid},
		"too long":         {"\x16\x03\x03\xff\xff", ringfence.KindInvalid},
		"two hellos":       {"\x16\x03\x03\x00\x02\x01\x00", ringfence.KindInvalid},
		"silence":          {"", ringfence.KindTimeout},
	} {
		dial := func(context.Context) (net.Conn, error) {
			a, b := net.Pipe()
			go func() {
				_, _ = io.ReadFull(b, make([]byte, 5))
				if x.says != "" {
					go func() { _, _ = io.Copy(io.Discard, b) }()
					_, _ = b.Write([]byte(x.says))
					return
				}
				_, _ = io.Copy(io.Discard, b)
			}()
			return a, nil
		}
		if _, err := Probe(t.Context(), Config{Dial: dial, Timeout: 200 * time.Millisecond}); ringfence.KindOf(err) != x.want {
			t.Errorf("%s: %v", name, err)
		}
	}
	// One that closes without a word refuses everything.
	r, err := Probe(t.Context(), Config{Dial: func(context.Context) (net.Conn, error) {
		a, b := net.Pipe()
		go func() { _, _ = io.ReadFull(b, make([]byte, 5)); _ = b.Close() }()
		return a, nil
	}})
	if err != nil || len(r.Versions) != 0 || len(r.Refused) != 4 {
		t.Errorf("%+v %v", r, err)
	}
}

// TestGo asks Go's own server, whose settings are ours.
func TestGo(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, tpl, tpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, MinVersion: tls.VersionTLS12, CurvePreferences: []tls.CurveID{tls.X25519MLKEM768, tls.CurveP256}})
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() { _ = c.(*tls.Conn).Handshake(); _ = c.Close() }()
		}
	}()
	r := probe(t, func(ctx context.Context) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", ln.Addr().String())
	})
	if len(r.Versions) != 2 || !slices.Equal(r.Versions[0].Groups, []string{"X25519MLKEM768", "secp256r1"}) || len(r.Versions[0].Suites) != 3 || !slices.Contains(r.Versions[1].Suites, "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256") || slices.ContainsFunc(r.Versions[1].Suites, func(s string) bool { return !strings.HasPrefix(s, "TLS_ECDHE_ECDSA_") }) {
		t.Errorf("%+v", r)
	}
}

func FuzzParseAnswer(f *testing.F) {
	for _, s := range []string{"0228", "0200002c0303" + strings.Repeat("00", 32) + "00c02f0000002b0002030400330002001d", "02000026" + "0303" + strings.Repeat("00", 32) + "00c02f00"} {
		b, err := hex.DecodeString(s)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(byte(22), b)
		f.Add(byte(21), b)
	}
	f.Fuzz(func(t *testing.T, kind byte, b []byte) {
		alert, version, suite, group, err := ParseAnswer(kind, b)
		if err != nil && (alert != 0 || version != 0 || suite != 0 || group != 0) {
			t.Errorf("%v with %d %v %d %d", err, alert, version, suite, group)
		}
	})
}

// TestProfiles has servers of openssl that are set up by a profile fit it, and it alone of those that are stricter.
func TestProfiles(t *testing.T) {
	fits := func(r Report) (out []string, all []Distance) {
		t.Helper()
		all, err := r.Profiles()
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range all {
			if d.Fits {
				out = append(out, d.Profile)
			}
		}
		return out, all
	}
	groups := []string{"-groups", "X25519:P-256:P-384"}
	for _, c := range []struct {
		key  string
		args []string
		want []string
	}{
		{"ec", append([]string{"-tls1_3"}, groups...), []string{"modern", "intermediate", "old"}},
		{"rsa", append([]string{"-no_tls1", "-no_tls1_1", "-cipher", profiles()[1].suites}, groups...), []string{"intermediate", "old"}},
		{"rsa", append([]string{"-cipher", profiles()[2].suites + ":@SECLEVEL=0"}, groups...), []string{"old"}},
		{"rsa", append([]string{"-no_tls1", "-no_tls1_1", "-cipher", "ECDHE-RSA-CAMELLIA128-SHA256:ECDHE-RSA-AES128-GCM-SHA256"}, groups...), nil},
		{"ec", []string{"-tls1_3", "-groups", "P-521:X25519"}, nil},
	} {
		got, all := fits(probe(t, server(t, c.key, c.args...)))
		if !slices.Equal(got, c.want) {
			t.Errorf("%v: %q, want %q: %+v", c.args, got, c.want, all)
		}
	}
	_, all := fits(Report{Versions: []Accepted{{Version: "TLS 1.2", Suites: []string{"TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "TLS_RSA_WITH_RC4_128_SHA"}}, {Version: "TLS 1.0", Suites: []string{"TLS_RSA_WITH_AES_128_CBC_SHA"}}}})
	if d := all[0]; !slices.Equal(d.Remove, []string{"TLS 1.2", "TLS 1.0"}) || !slices.Equal(d.Missing, []string{"TLS 1.3"}) {
		t.Errorf("%+v", d)
	}
	if d := all[1]; !slices.Equal(d.Remove, []string{"TLS 1.2 TLS_RSA_WITH_RC4_128_SHA", "TLS 1.0"}) {
		t.Errorf("%+v", d)
	}
	if d := all[2]; !slices.Equal(d.Remove, []string{"TLS 1.2 TLS_RSA_WITH_RC4_128_SHA"}) {
		t.Errorf("%+v", d)
	}
}
