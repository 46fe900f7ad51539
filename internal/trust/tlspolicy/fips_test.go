package tlspolicy

import (
	"crypto/fips140"
	"crypto/tls"
	"crypto/x509"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// TestSaysWhatFIPSModeServes compares what is said of FIPS 140-3 mode with the handshakes of a process in that mode: this one, started again.
func TestSaysWhatFIPSModeServes(t *testing.T) {
	if !fips140.Enabled() {
		again := exec.Command(os.Args[0], "-test.run=^TestSaysWhatFIPSModeServes$", "-test.count=1", "-test.v")
		again.Env = append(os.Environ(), "GODEBUG=fips140=on")
		if out, err := again.CombinedOutput(); err != nil || !strings.Contains(string(out), "handshakes in FIPS 140-3 mode") {
			t.Errorf("in FIPS 140-3 mode: %v\n%s", err, out)
		}
		return
	}
	e := At("sip", netip.AddrPort{})
	cert, _, err := occasion(nil)
	if err != nil {
		t.Fatal(err)
	}
	tried := 0
	served := func(s Settings, p uint16) bool {
		t.Helper()
		near, far := &tls.Config{}, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12, MaxVersion: p}
		Tree{"/system": s}.For(e).apply(near)
		near.Certificates = []tls.Certificate{cert}
		ours, _, theirs := meet(far, near, false)
		tried++
		return ours == nil && theirs == nil
	}
	for _, g := range groupNames() {
		id, _ := group(g)
		if got := served(Settings{Groups: []string{g}}, tls.VersionTLS13); got != approvedGroup(id) {
			t.Errorf("%s: a handshake is %v, and we say %v", g, got, approvedGroup(id))
		}
	}
	for _, s := range Tree(nil).For(e).suites {
		name := tls.CipherSuiteName(s)
		if strings.Contains(name, "_RSA_") {
			continue // the certificate of the occasion is ECDSA
		}
		if got := served(Settings{Max: "1.2", Suites: name, Groups: []string{"secp256r1"}}, tls.VersionTLS12); got != approvedSuite(s) {
			t.Errorf("%s: a handshake is %v, and we say %v", name, got, approvedSuite(s))
		}
	}
	t.Logf("%d handshakes in FIPS 140-3 mode", tried)
}

func TestFIPSModeIsToldAndCannotLockOut(t *testing.T) {
	has := func(list []Wrong, path, text string) bool {
		return slices.ContainsFunc(list, func(w Wrong) bool { return w.Path == path && strings.Contains(w.Text, text) })
	}
	plain := Tree(nil)
	if w := plain.Withheld(); !has(w, builtInPlace, "x25519 is not served") || !has(w, builtInPlace, "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256 is not served") || !has(w, builtInPlace, "RFC 7627") {
		t.Errorf("nothing set: %v", w)
	}
	if w := plain.CheckFIPS(); len(w) > 0 {
		t.Errorf("nothing set: %v", w)
	}
	for _, c := range []struct {
		name string
		tree Tree
		path string
		text string
	}{
		{"only x25519", Tree{"/system": {Groups: []string{"x25519"}}}, "/system", "groups: none of them"},
		{"only x25519 for TLS 1.2", Tree{"/interface/sip": {Max: "1.2", Groups: []string{"x25519", "X25519MLKEM768"}}}, "/interface/sip", "none of those for TLS 1.2"},
		{"only ChaCha20 and TLS 1.2", Tree{"/interface/sip": {Max: "1.2", Suites: "CHACHA20"}}, "/interface/sip", "suites: nothing of the list"},
	} {
		if w := c.tree.Check(nil); len(w) > 0 {
			t.Errorf("%s: outside that mode it is wrong: %v", c.name, w)
		}
		if w := c.tree.CheckFIPS(); !has(w, c.path, c.text) {
			t.Errorf("%s: %v", c.name, w)
		}
	}
	tree := Tree{"/system": {Groups: []string{"X25519MLKEM768", "x25519"}}}
	site := Site{Domain: "example.com", Listens: map[string]netip.AddrPort{"sip": netip.MustParseAddrPort("192.0.2.1:5061")}, Presents: func(string) *x509.Certificate { return nil }}
	if w := tree.Risks(site); len(w) > 0 {
		t.Errorf("a risk outside that mode: %v", w)
	}
	site.FIPS = true
	if w := tree.Risks(site); !has(w, "/system", "whoever knows no ML-KEM") {
		t.Errorf("in that mode nobody without ML-KEM gets in, and it is not said: %v", w)
	}
}
