package resync

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"fmt"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"ringfence"
	"ringfence/internal/desk/flatprofile"
	"ringfence/internal/sip"
	"ringfence/internal/testkit"
	"ringfence/internal/trust/signedfile"
)

// site is a phone, what DNS says, and what the syslog server heard.
type site struct {
	*Phone
	mu    sync.Mutex
	names map[string][]netip.Addr
	lines []string
	kept  map[string]Kept
}

func (s *site) Load(rule string) (Kept, bool, error) { k, ok := s.kept[rule]; return k, ok, nil }
func (s *site) Save(rule string, k Kept) error       { s.kept[rule] = k; return nil }

func newSite(t *testing.T, conf *tls.Config) *site {
	t.Helper()
	s := &site{names: map[string][]netip.Addr{}, kept: map[string]Kept{}}
	s.Phone = &Phone{Device: Device{MAC: "000E08ABCDEF", Product: "CP-8841-3PCC", Serial: "88012BA01234", SWVer: "11.3.7", IP: netip.MustParseAddr("192.0.2.9")}, TLS: conf, Keep: s, Now: time.Now,
		Lookup: func(_ context.Context, host string) ([]netip.Addr, error) {
			if a, err := netip.ParseAddr(host); err == nil {
				return []netip.Addr{a}, nil
			}
			return s.names[host], nil
		},
		Dial: func(ctx context.Context, at netip.AddrPort) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "tcp", at.String())
		},
		Send: func(server string, line []byte) {
			s.mu.Lock()
			s.lines = append(s.lines, server+" "+string(line))
			s.mu.Unlock()
		}}
	return s
}

// with returns a set of parameters, as a file gives them.
func with(t *testing.T, text string) *flatprofile.Set {
	t.Helper()
	f, err := flatprofile.Parse([]byte("<flat-profile>" + text + "</flat-profile>"))
	if err != nil {
		t.Fatal(err)
	}
	set := flatprofile.NewSet(flatprofile.Parameters())
	set.Add(f, "cfg.xml")
	return set
}

// serve runs an HTTPS server on loopback and returns its port.
func serve(t *testing.T, conf *tls.Config, h http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.TLS = conf
	s.Config.ErrorLog = quiet(t)
	s.StartTLS()
	t.Cleanup(s.Close)
	_, port, _ := net.SplitHostPort(s.Listener.Addr().String())
	return port
}

func profile(parameters string) []byte {
	return []byte("<?xml version=\"1.0\"?>\n<flat-profile>\n" + parameters + "\n</flat-profile>\n")
}

var loopback = []netip.Addr{netip.MustParseAddr("127.0.0.1")}

// TestRulesInOrder goes through A to D, of which the later ones come from the first, and tells the syslog server.
func TestRulesInOrder(t *testing.T) {
	ca := testkit.NewAuthority("CA")
	var asked []string
	port := serve(t, ca.Server("prov.example.com"), func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.URL.Path+" "+r.UserAgent())
		switch r.URL.Path {
		case "/000e08abcdef.xml":
			_, _ = w.Write(profile(`<Profile_Rule_B ua="na">https://prov.example.com:` + r.Host[strings.LastIndexByte(r.Host, ':')+1:] + `/$(MAU:0:6)/b.xml</Profile_Rule_B><GPP_A>from the first</GPP_A><Station_Name>one</Station_Name>`))
		case "/000E08/b.xml":
			_, _ = w.Write(profile(`<Station_Name>two</Station_Name>`))
		default:
			w.WriteHeader(404)
		}
	})
	s := newSite(t, ca.Client("phone", "x"))
	s.names["prov.example.com"] = loopback
	set := with(t, `<Profile_Rule>($SWVER lt 11.0)? https://old.example.com/ | https://prov.example.com:`+port+`/$MA.xml</Profile_Rule><Profile_Rule_C>https://prov.example.com:`+port+`/none</Profile_Rule_C>
<Syslog_Server>192.0.2.5:1514</Syslog_Server><Syslog_Identifier>$SN</Syslog_Identifier>`)
	r := s.Run(t.Context(), set)
	if len(r.Outcomes) != 3 || r.Outcomes[0].Err != nil || r.Outcomes[1].Err != nil || ringfence.KindOf(r.Outcomes[2].Err) != ringfence.KindNotFound {
		t.Fatalf("%+v", r.Outcomes)
	}
	if v := r.Set.Get("Station_Name"); v.Value != "two" || !strings.HasPrefix(v.From, "Profile_Rule_B https://prov.example.com:") || v.Line != 3 {
		t.Errorf("%+v", v)
	}
	if set.Text("Station_Name") != "" || r.Set.Text("GPP_A") != "from the first" {
		t.Error("what was in force before was changed, or nothing after")
	}
	if want := "/000e08abcdef.xml CP-8841-3PCC/11.3.7 (000e08abcdef)(88012BA01234)"; len(asked) != 3 || asked[0] != want {
		t.Errorf("%q", asked)
	}
	now := time.Now().Format(time.Stamp)[:6]
	for i, want := range []string{"<133>" + now, "Requesting resync https://127.0.0.1:" + port + "/000e08abcdef.xml", "Successful resync https://127.0.0.1:", "Requesting", "Successful", "Requesting", "<131>"} {
		if at := max(i-1, 0); at >= len(s.lines) || !strings.Contains(s.lines[at], want) {
			t.Fatalf("message %d: %q, want %q", i, s.lines, want)
		}
	}
	if last := s.lines[5]; !strings.HasPrefix(last, "192.0.2.5:1514 <131>") || !strings.Contains(last, "192.0.2.9 resync: 88012BA01234 CP-8841-3PCC 00:0e:08:ab:cd:ef -- Resync failed: https://prov.example.com:") || !strings.Contains(last, "404 Not Found") {
		t.Error(last)
	}
	if len(r.Messages) != 6 {
		t.Errorf("%q", r.Messages)
	}
	if silent := s.Run(t.Context(), with(t, `<Profile_Rule>https://prov.example.com:`+port+`/none</Profile_Rule><Log_Request_Msg></Log_Request_Msg><Log_Failure_Msg/>`)); len(silent.Messages) != 0 {
		t.Errorf("%q", silent.Messages)
	}
	if off := s.Run(t.Context(), with(t, `<Provision_Enable>No</Provision_Enable><Profile_Rule>https://prov.example.com/</Profile_Rule>`)); len(off.Outcomes) != 0 {
		t.Errorf("%+v", off.Outcomes)
	}
}

// TestLastGood keeps the last good profile when the server is gone, and when it sends nonsense.
func TestLastGood(t *testing.T) {
	ca := testkit.NewAuthority("CA")
	body := profile("<Station_Name>good</Station_Name>")
	gone := false
	port := serve(t, ca.Server("prov.example.com"), func(w http.ResponseWriter, _ *http.Request) {
		if gone {
			w.WriteHeader(http.StatusNotFound)
		}
		_, _ = w.Write(body)
	})
	s := newSite(t, ca.Client("phone", "x"))
	s.names["prov.example.com"] = loopback
	set := with(t, `<Profile_Rule>https://prov.example.com:`+port+`/a.xml</Profile_Rule>`)
	if r := s.Run(t.Context(), set); r.Failed() != nil || r.Set.Text("Station_Name") != "good" {
		t.Fatalf("%+v", r.Outcomes)
	}
	for name, nonsense := range map[string][]byte{"html": []byte("<html><body>Welcome</body></html>"), "half": body[:40], "nothing": {}, "another device": []byte("<device/>"), "a document type": []byte("<!DOCTYPE a><flat-profile/>"),
		"large": bytes.Repeat([]byte(" "), maxBody+2), "gzip that is none": {0x1f, 0x8b, 1}, "encrypted": append([]byte("Salted__12345678"), make([]byte, 32)...), "a bomb": bomb(t)} {
		body = nonsense
		r := s.Run(t.Context(), set)
		if v := r.Set.Get("Station_Name"); r.Failed() == nil || v.Value != "good" || !strings.Contains(v.From, "kept from") || r.Outcomes[0].LastGood.IsZero() {
			t.Errorf("%s: %+v, %v", name, v, r.Failed())
		}
	}
	gone = true
	if r := s.Run(t.Context(), set); ringfence.KindOf(r.Failed()) != ringfence.KindNotFound || r.Set.Text("Station_Name") != "good" {
		t.Errorf("%+v", r.Outcomes)
	}
	calm := with(t, `<Resync_Fails_On_FNF>No</Resync_Fails_On_FNF><Profile_Rule>https://prov.example.com:`+port+`/a.xml</Profile_Rule>`)
	if r := s.Run(t.Context(), calm); r.Failed() != nil || r.Set.Text("Station_Name") != "good" || r.Outcomes[0].LastGood.IsZero() { // a file that is not there is no failure, if there was one before
		t.Errorf("%+v", r.Outcomes)
	}
	s.names["prov.example.com"] = nil
	if r := s.Run(t.Context(), calm); ringfence.KindOf(r.Failed()) != ringfence.KindUnavailable {
		t.Errorf("%+v", r.Outcomes)
	}
	if r := s.Run(t.Context(), set); ringfence.KindOf(r.Failed()) != ringfence.KindUnavailable || r.Set.Text("Station_Name") != "good" {
		t.Errorf("%+v", r.Outcomes)
	}
	elsewhere := with(t, `<Profile_Rule>https://other.example.com:`+port+`/a.xml</Profile_Rule>`)
	if r := s.Run(t.Context(), elsewhere); r.Failed() == nil || r.Set.Text("Station_Name") != "" {
		t.Errorf("the profile of another address was used: %+v", r.Outcomes)
	}
	k := s.kept["Profile_Rule"]
	k.Profile = profile("<Station_Name>changed on disk</Station_Name>")
	s.kept["Profile_Rule"] = k
	if r := s.Run(t.Context(), set); r.Set.Text("Station_Name") != "" {
		t.Errorf("a damaged profile was used: %+v", r.Outcomes)
	}
}

func bomb(t *testing.T) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	zeros := make([]byte, 1<<20)
	for range 64 {
		if _, err := w.Write(zeros); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestEachAddress tries the A records in turn: one refuses, one is somebody else, one answers.
func TestEachAddress(t *testing.T) {
	ca, stranger := testkit.NewAuthority("CA"), testkit.NewAuthority("CA")
	port := serve(t, ca.Server("prov.example.com"), func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write(profile("<Station_Name>here</Station_Name>"))
	})
	ln, err := net.Listen("tcp", "127.0.0.2:"+port)
	if err != nil {
		t.Fatal(err)
	}
	false2 := &http.Server{TLSConfig: stranger.Server("prov.example.com"), Handler: http.NotFoundHandler(), ErrorLog: quiet(t)}
	go func() { _ = false2.ServeTLS(ln, "", "") }()
	t.Cleanup(func() { _ = false2.Close() })
	s := newSite(t, ca.Client("phone", "x"))
	a := netip.MustParseAddr
	s.names["prov.example.com"] = []netip.Addr{a("127.0.0.3"), a("127.0.0.2"), a("127.0.0.1")}
	set := with(t, `<Profile_Rule>https://prov.example.com:`+port+`/</Profile_Rule>`)
	r := s.Run(t.Context(), set)
	if r.Failed() != nil || !slices.Equal(r.Outcomes[0].Tried, []string{"127.0.0.3:" + port, "127.0.0.2:" + port, "127.0.0.1:" + port}) || r.Outcomes[0].Server != "127.0.0.1:"+port {
		t.Errorf("%+v", r.Outcomes)
	}
	s.names["prov.example.com"] = []netip.Addr{a("127.0.0.2"), a("127.0.0.3")}
	if r := s.Run(t.Context(), set); ringfence.KindOf(r.Failed()) != ringfence.KindInsecure || len(s.lines) != 0 || !strings.Contains(r.Messages[len(r.Messages)-1], "Resync failed: ") {
		t.Errorf("%+v %q", r.Outcomes, r.Messages)
	}
}

// TestNames accepts the names of a server as the published chapter prints them, and nothing else.
func TestNames(t *testing.T) {
	for _, x := range []struct {
		cn   string
		dns  []string
		host string
		want bool
	}{
		{"sprov.callme.com", nil, "sprov.callme.com", true}, {"pv.telco.net/mailto:admin@telco.net", nil, "pv.telco.net", true}, {"prof.voice.com/info@voice.com", nil, "PROF.voice.com.", true},
		{"prof.voice.com/info@voice.com", nil, "info@voice.com", false}, {"evil.com/prof.voice.com", nil, "prof.voice.com", false}, {"*.voice.com", nil, "prof.voice.com", false}, {"", nil, "prof.voice.com", false},
		{"prof.voice.com", []string{"other.voice.com"}, "prof.voice.com", false}, {"x", []string{"prof.voice.com"}, "prof.voice.com", true}, {"x", []string{"*.voice.com"}, "prof.voice.com", true}, {"/prof.voice.com", nil, "", true},
	} {
		c := &x509.Certificate{Subject: pkix.Name{CommonName: x.cn}, DNSNames: x.dns}
		if got := proves(c, x.host); got != x.want && x.host != "" {
			t.Errorf("%q %q for %s: %v", x.cn, x.dns, x.host, got)
		}
	}
	ca := testkit.NewAuthority("CA")
	port := serve(t, ca.Server("prov.example.com"), func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write(profile("<Station_Name>x</Station_Name>"))
	})
	s := newSite(t, ca.Client("phone", "x"))
	byAddress := with(t, `<Profile_Rule>https://127.0.0.1:`+port+`/</Profile_Rule>`)
	if r := s.Run(t.Context(), byAddress); ringfence.KindOf(r.Failed()) != ringfence.KindInsecure || !strings.Contains(r.Outcomes[0].Error, "does not prove 127.0.0.1") {
		t.Errorf("%+v", r.Outcomes)
	}
	s.names["prov.example.com"] = loopback // the name of the certificate leads to the address
	if r := s.Run(t.Context(), byAddress); r.Failed() != nil {
		t.Errorf("%+v", r.Outcomes)
	}
	s.names["wrong.example.com"] = loopback
	if r := s.Run(t.Context(), with(t, `<Profile_Rule>https://wrong.example.com:`+port+`/</Profile_Rule>`)); ringfence.KindOf(r.Failed()) != ringfence.KindInsecure {
		t.Errorf("%+v", r.Outcomes)
	}
}

// TestRefusals are what a phone does not fetch, whoever says it should.
func TestRefusals(t *testing.T) {
	ca := testkit.NewAuthority("CA")
	to := ""
	port := serve(t, ca.Server("prov.example.com", "two.example.com"), func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/away":
			w.Header().Set("Location", to)
			w.WriteHeader(302)
		case r.Header.Get("Authorization") != "":
			_, _ = w.Write(profile("<Station_Name>" + r.Header.Get("Authorization")[:5] + "</Station_Name>"))
		default:
			_, _ = w.Write(profile("<Station_Name>x</Station_Name>"))
		}
	})
	s := newSite(t, ca.Client("phone", "x"))
	s.names["prov.example.com"], s.names["two.example.com"] = loopback, loopback
	for _, x := range []struct {
		rule, to, more string
		kind           ringfence.Kind
		words          string
	}{
		{rule: "http://prov.example.com/", kind: ringfence.KindInsecure, words: "http is in the clear"},
		{rule: "/$PSN.xml", kind: ringfence.KindInsecure, words: "tftp is in the clear"},
		{rule: "https://u:p@prov.example.com/", kind: ringfence.KindInvalid, words: "--uid"},
		{rule: "https://prov.example.com:0/", kind: ringfence.KindInvalid, words: "no port"},
		{rule: "https://prov.example.com/$SA", kind: ringfence.KindInvalid, words: "nobody knows: $SA"},
		{rule: "a | b", kind: ringfence.KindInvalid, words: "never taken"},
		{rule: "https://prov.example.com:PORT/away", to: "http://prov.example.com/", kind: ringfence.KindInsecure, words: "http is in the clear"},
		{rule: "https://prov.example.com:PORT/away", to: "/away", kind: ringfence.KindInvalid, words: "redirects more than 3"},
		{rule: "https://prov.example.com:PORT/away", to: "https://two.example.com:PORT/", more: "<Restricted_Access_Domains>prov.example.com</Restricted_Access_Domains>", kind: ringfence.KindDenied, words: "two.example.com is refused: Restricted_Access_Domains (cfg.xml:1)"},
		{rule: "https://none.example.com/", kind: ringfence.KindUnavailable, words: "no A record"},
	} {
		to = strings.Replace(x.to, "PORT", port, 1)
		r := s.Run(t.Context(), with(t, "<Profile_Rule>"+strings.Replace(x.rule, "PORT", port, 1)+"</Profile_Rule>"+x.more))
		if err := r.Failed(); ringfence.KindOf(err) != x.kind || !strings.Contains(err.Error(), x.words) {
			t.Errorf("%s: %v", x.rule, err)
		}
	}
	to = "https://two.example.com:" + port + "/"
	if r := s.Run(t.Context(), with(t, "<Profile_Rule>https://prov.example.com:"+port+"/away</Profile_Rule>")); r.Failed() != nil {
		t.Errorf("%+v", r.Outcomes)
	}
	if r := s.Run(t.Context(), with(t, "<Profile_Rule>(1 eq 2)? https://prov.example.com/</Profile_Rule>")); r.Failed() != nil || len(r.Messages) != 0 {
		t.Errorf("%+v", r)
	}
}

// TestSignIn answers Digest rather than Basic, and sends no password unasked.
func TestSignIn(t *testing.T) {
	ca := testkit.NewAuthority("CA")
	challenges := []string{`Basic realm="p"`, `Digest realm="p", nonce="n1", qop="auth", algorithm=SHA-256`}
	port := serve(t, ca.Server("prov.example.com"), func(w http.ResponseWriter, r *http.Request) {
		got := r.Header.Get("Authorization")
		user, password, basic := r.BasicAuth()
		ok := basic && user == "u" && password == "p w"
		if cred, err := sip.ParseCredentials([]byte(got)); err == nil {
			ok = cred.Verify(sip.HA1(sip.DigestSHA256, "u", "p", "p w"), "GET")
		}
		if !ok {
			for _, c := range challenges {
				w.Header().Add("WWW-Authenticate", c)
			}
			w.WriteHeader(401)
			return
		}
		_, _ = w.Write(profile("<Station_Name>" + got[:5] + "</Station_Name>"))
	})
	s := newSite(t, ca.Client("phone", "x"))
	s.names["prov.example.com"] = loopback
	run := func(options string) Result {
		return s.Run(t.Context(), with(t, "<GPP_SB>p w</GPP_SB><Profile_Rule>"+options+"https://prov.example.com:"+port+"/</Profile_Rule>"))
	}
	if r := run(`[--uid u --pwd "$SB"] `); r.Failed() != nil || r.Set.Text("Station_Name") != "Diges" {
		t.Errorf("%+v", r)
	}
	challenges = challenges[:1]
	if r := run(`[--uid u --pwd "$SB"] `); r.Failed() != nil || r.Set.Text("Station_Name") != "Basic" {
		t.Errorf("%+v", r)
	}
	if r := run(`[--uid u --pwd wrong] `); ringfence.KindOf(r.Failed()) != ringfence.KindUnauthenticated {
		t.Errorf("%+v", r)
	}
	if r := run(""); ringfence.KindOf(r.Failed()) != ringfence.KindUnauthenticated {
		t.Errorf("%+v", r)
	}
	challenges = []string{"Negotiate"}
	if r := run(`[--uid u --pwd p] `); ringfence.KindOf(r.Failed()) != ringfence.KindUnsupported {
		t.Errorf("%+v", r)
	}
}

func TestDecode(t *testing.T) {
	text := profile("<GPP_A>x</GPP_A>")
	ikm := "yqdlZ-tYemfogSmv7Ws5PQ"
	coded, err := signedfile.EncryptCoding(text, keying(ikm), "")
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := signedfile.EncryptPassphrase(text, "k")
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range []struct {
		name          string
		b             []byte
		codings       []string
		key, material string
		how           string
		kind          ringfence.Kind
	}{
		{name: "plain", b: text, how: "[]"},
		{name: "a key and nothing encrypted", b: text, key: "k", how: "[not encrypted, although the rule has a key]"},
		{name: "coded", b: coded, codings: []string{" aes128gcm"}, material: ikm, how: "[RFC 8188]"},
		{name: "coded, and a key", b: coded, codings: []string{"aes128gcm"}, material: ikm, key: "k", how: "[RFC 8188]"},
		{name: "coded, without the field", b: coded, material: ikm, how: "[]"},
		{name: "coded, wrong material", b: coded, codings: []string{"aes128gcm"}, material: "another one 12345", kind: ringfence.KindDenied},
		{name: "coded, no material", b: coded, codings: []string{"aes128gcm"}, kind: ringfence.KindDenied},
		{name: "sealed", b: sealed, key: "k", how: "[AES-256-CBC with SHA-256]"},
		{name: "sealed, wrong key", b: sealed, key: "l", kind: ringfence.KindDenied},
		{name: "sealed, no key", b: sealed, kind: ringfence.KindDenied},
		{name: "another coding", b: text, codings: []string{"br"}, kind: ringfence.KindInvalid},
		{name: "many codings", b: text, codings: []string{"gzip", "gzip", "gzip", "gzip"}, kind: ringfence.KindInvalid},
	} {
		got, how, err := Decode(x.b, x.codings, x.key, x.material)
		switch {
		case x.how == "":
			if ringfence.KindOf(err) != x.kind || err == nil {
				t.Errorf("%s: %v", x.name, err)
			}
		case err != nil || fmt.Sprint(how) != x.how:
			t.Errorf("%s: %v %q", x.name, err, how)
		case x.name != "coded, without the field" && !bytes.Equal(got, text):
			t.Errorf("%s: %q", x.name, got)
		}
	}
}

// TestVector is that of RFC 8188 section 3.1.
func TestVector(t *testing.T) {
	b, err := base64.RawURLEncoding.DecodeString("I1BsxtFttlv3u_Oo94xnmwAAEAAA-NAVub2qFgBEuQKRapoZu-IxkIva3MEB1PD-ly8Thjg")
	if err != nil {
		t.Fatal(err)
	}
	if got, _, err := Decode(b, []string{"aes128gcm"}, "", "yqdlZ-tYemfogSmv7Ws5PQ"); err != nil || string(got) != "I am the walrus" {
		t.Errorf("%q %v", got, err)
	}
}

func FuzzDecode(f *testing.F) {
	sealed, err := signedfile.EncryptPassphrase(profile("<GPP_A/>"), "k")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(sealed, "", "k", "")
	f.Add([]byte{0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0}, "gzip", "", "")
	f.Add(make([]byte, 60), "aes128gcm,gzip", "", "yqdlZ-tYemfogSmv7Ws5PQ")
	f.Fuzz(func(t *testing.T, b []byte, codings, key, material string) {
		out, _, err := Decode(b, strings.Split(codings, ","), key, material)
		if err == nil && len(out) > max(flatprofile.MaxSize, len(b)) {
			t.Errorf("%d bytes", len(out))
		}
	})
}

// TestLine cuts and cleans what goes into a log.
func TestLine(t *testing.T) {
	at := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	if got := string(Line(133, at, "192.0.2.1", "a\r\n<0>b")); got != "<133>Mar  4 05:06:07 192.0.2.1 resync: a  <0>b" {
		t.Error(got)
	}
	if got := Line(133, at, "", strings.Repeat("x", 5000)); len(got) != maxMessage {
		t.Errorf("%d bytes", len(got))
	}
}

// TestMacros are those that a phone knows of itself.
func TestMacros(t *testing.T) {
	s := newSite(t, testkit.NewAuthority("CA").Client("phone", "x"))
	c := s.at(with(t, "<GPP_C>c</GPP_C><GPP_SA>secret</GPP_SA><EXT_IP>198.51.100.7</EXT_IP>"))
	for name, want := range map[string]string{"MA": "000e08abcdef", "MAU": "000E08ABCDEF", "MAC": "00:0e:08:ab:cd:ef", "PN": "CP-8841-3PCC", "PSN": "8841-3PCC", "SN": "88012BA01234", "CCERT": "Installed", "IP": "192.0.2.9", "EXTIP": "198.51.100.7",
		"PRVST": "-1", "PRVTMR": "0", "UPGERR": "", "UPGST": "0", "SCHEME": "", "C": "c", "GPP_C": "c", "A": "", "SWVER": "11.3.7", "HWVER": "", "ERR": ""} {
		if got, ok := c.value(name); !ok || got != want {
			t.Errorf("$%s: %q %v, want %q", name, got, ok, want)
		}
	}
	for _, name := range []string{"SA", "Q", "GPP_SA", ""} {
		if got, ok := c.value(name); ok {
			t.Errorf("$%s: %q", name, got)
		}
	}
	if got, ok := c.secret("SA"); !ok || got != "secret" {
		t.Errorf("%q", got)
	}
	s.TLS.Certificates, s.last, s.failed = nil, s.Now().Add(-time.Minute), true
	c = s.at(c.set)
	for name, want := range map[string]string{"CCERT": "Not Installed", "PRVST": "2", "PRVTMR": "60"} {
		if got, _ := c.value(name); got != want {
			t.Errorf("$%s: %q, want %q", name, got, want)
		}
	}
}

// quiet keeps a server's log of refused handshakes out of the output.
func quiet(t *testing.T) *log.Logger {
	t.Helper()
	return log.New(testWriter{}, "", 0)
}

type testWriter struct{}

func (testWriter) Write(b []byte) (int, error) { return len(b), nil }
