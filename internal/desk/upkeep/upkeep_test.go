package upkeep

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"math/big"
	"mime"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"ringfence"
	"ringfence/internal/desk/flatprofile"
	"ringfence/internal/sip"
	"ringfence/internal/trust/signedfile"
)

// web answers by a handler, without a network.
type web struct{ http.HandlerFunc }

func (w web) RoundTrip(r *http.Request) (*http.Response, error) {
	rec := httptest.NewRecorder()
	w.HandlerFunc(rec, r)
	return rec.Result(), nil
}

// signer makes a certificate with a key that signs files.
func signer(t *testing.T, name string) (*x509.Certificate, *rsa.PrivateKey) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	if c, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return c, key
}

func TestFirmware(t *testing.T) {
	cert, key := signer(t, "Firmware")
	stranger, _ := signer(t, "Firmware")
	sign := func(digest crypto.Hash) []byte {
		b, err := signedfile.Sign(signedfile.Options{Version: signedfile.Version{Major: 1}, Name: "sip88xx.11-3-7.loads", Time: time.Now(), Digest: digest}, []byte("image"), cert, key)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	good := sign(crypto.SHA512)
	changed := bytes.Clone(good)
	changed[len(changed)-1] ^= 1
	fetch := func(b []byte, signers ...*x509.Certificate) (Image, error) {
		return Server{URL: "https://fw.example.com/x.loads", Web: web{func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(b) }}}.Firmware(t.Context(), signers)
	}
	if got, err := fetch(good, stranger, cert); err != nil || string(got.Body) != "image" || got.Name != "sip88xx.11-3-7.loads" || got.Signer != "CN=Firmware" || got.Digest != "SHA-512" {
		t.Errorf("%+v %v", got, err)
	}
	for name, x := range map[string]struct {
		b    []byte
		by   []*x509.Certificate
		kind ringfence.Kind
	}{"changed": {changed, []*x509.Certificate{cert}, ringfence.KindInsecure}, "another signer": {good, []*x509.Certificate{stranger}, ringfence.KindInsecure}, "not signed": {[]byte("image"), []*x509.Certificate{cert}, ringfence.KindInsecure},
		"by SHA-1": {sign(crypto.SHA1), []*x509.Certificate{cert}, ringfence.KindInsecure}, "nobody counts": {good, nil, ringfence.KindInvalid}, "too large": {make([]byte, signedfile.MaxSize+0x10000), []*x509.Certificate{cert}, ringfence.KindInvalid}} {
		if got, err := fetch(x.b, x.by...); ringfence.KindOf(err) != x.kind {
			t.Errorf("%s: %+v %v", name, got, err)
		}
	}
}

// TestBeginning asks servers for the beginning of a file: those that give it, those that give the whole, and those that give something else.
func TestBeginning(t *testing.T) {
	cert, key := signer(t, "Firmware")
	stranger, _ := signer(t, "Firmware")
	file, err := signedfile.Sign(signedfile.Options{Version: signedfile.Version{Major: 1}, Name: "x.loads", Time: time.Now(), Digest: crypto.SHA512}, make([]byte, 100_000), cert, key)
	if err != nil {
		t.Fatal(err)
	}
	part := func(ranges string, n int) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Range") != "bytes=0-65534" {
				t.Error(r.Header)
			}
			w.Header().Set("Content-Range", ranges)
			w.WriteHeader(http.StatusPartialContent)
			_, _ = w.Write(file[:n])
		}
	}
	total := len(file)
	ask := func(h http.HandlerFunc) (Wanted, error) {
		return Server{URL: "https://fw.example.com/x.loads", Web: web{h}}.Beginning(t.Context())
	}
	first, err := ask(part(fmt.Sprintf("bytes 0-65534/%d", total), 65535))
	if err != nil || first.File != nil || first.Size != int64(total) || !bytes.HasPrefix(file, first.Header) || len(first.Header) < 100 {
		t.Errorf("%d %v", first.Size, err)
	}
	whole, err := ask(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(file) })
	if err != nil || !bytes.Equal(whole.File, file) || whole.Size != first.Size || !bytes.Equal(whole.Header, first.Header) {
		t.Errorf("%d %v", whole.Size, err)
	}
	for name, h := range map[string]http.HandlerFunc{"another part": part(fmt.Sprintf("bytes 1-65535/%d", total), 65535), "another length": part(fmt.Sprintf("bytes 0-65534/%d", total), 100), "no total": part("bytes 0-65534/*", 65535), "a total that is less": part("bytes 0-65534/65534", 65535),
		"nothing said": part("", 65535), "more than fits": part(fmt.Sprintf("bytes 0-65534/%d", 1<<40), 65535), "something behind": part(fmt.Sprintf("bytes 0-65534/%d x", total), 65535), "not signed": func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("firmware")) }} {
		if got, err := ask(h); err == nil || ringfence.KindOf(err) == ringfence.KindInternal {
			t.Errorf("%s: %+v", name, got)
		}
	}
	if _, err := (Server{URL: "https://fw.example.com/x.loads", Web: web{func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusPartialContent) }}}).Firmware(t.Context(), []*x509.Certificate{cert}); ringfence.KindOf(err) != ringfence.KindInvalid {
		t.Errorf("a part that nobody asked for: %v", err)
	}
	changed := bytes.Clone(file)
	changed[total-1] ^= 1
	for name, x := range map[string]struct {
		b  []byte
		by *x509.Certificate
	}{"it": {file, cert}, "changed": {changed, cert}, "longer": {append(bytes.Clone(file), 0), cert}, "another signer": {file, stranger}, "another beginning": {make([]byte, total), cert}} {
		image, err := first.Is(x.b, []*x509.Certificate{x.by})
		if good := name == "it"; (err == nil) != good || good != bytes.Equal(image.Raw, file) || !good && ringfence.KindOf(err) != ringfence.KindInsecure {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestServers(t *testing.T) {
	seen := []string{}
	s := Server{URL: "https://rep.example.com/up", User: "desk", Password: "secret", Web: web{func(w http.ResponseWriter, r *http.Request) {
		seen = append(seen, r.Host+r.URL.Path)
		c, err := sip.ParseCredentials([]byte(r.Header.Get("Authorization")))
		switch {
		case r.URL.Path == "/away":
			http.Redirect(w, r, "https://other.example.com/x", http.StatusFound)
		case r.URL.Path == "/clear":
			http.Redirect(w, r, "http://rep.example.com/up", http.StatusFound)
		case r.URL.Path == "/round":
			http.Redirect(w, r, "/round", http.StatusFound)
		case r.URL.Path == "/none":
			http.NotFound(w, r)
		case r.Host == "other.example.com":
			if r.Header.Get("Authorization") != "" {
				t.Error("the password went to another server")
			}
		case err != nil || !c.Verify(sip.HA1(c.Algorithm, "desk", "r", "secret"), r.Method):
			challenge := sip.Challenge{Realm: "r", Nonce: "n", Algorithm: sip.DigestSHA256}
			w.Header().Add("WWW-Authenticate", string(challenge.Append(nil)))
			w.WriteHeader(http.StatusUnauthorized)
		default:
			b, _ := io.ReadAll(r.Body)
			if string(b) != "report" && r.Method != http.MethodGet {
				t.Errorf("%q", b)
			}
		}
	}}}
	for _, method := range []string{http.MethodPost, http.MethodPut} {
		if err := s.Send(t.Context(), method, "text/xml", []byte("report")); err != nil {
			t.Error(err)
		}
	}
	for change, kind := range map[string]ringfence.Kind{"http://rep.example.com/up": ringfence.KindInsecure, "rep.example.com": ringfence.KindInvalid, "https://a:b@rep.example.com/": ringfence.KindInvalid, "https://rep.example.com/none": ringfence.KindNotFound, "https://rep.example.com/away": ringfence.KindUnavailable} {
		x := s
		x.URL = change
		if err := x.Send(t.Context(), http.MethodPost, "", []byte("report")); ringfence.KindOf(err) != kind {
			t.Errorf("%s: %v", change, err)
		}
	}
	if err := s.Send(t.Context(), http.MethodDelete, "", nil); ringfence.KindOf(err) != ringfence.KindInvalid {
		t.Errorf("%v", err)
	}
	x := s
	x.Password = "wrong"
	if err := x.Send(t.Context(), http.MethodPost, "", []byte("report")); ringfence.KindOf(err) != ringfence.KindUnauthenticated {
		t.Errorf("%v", err)
	}
	for path, kind := range map[string]ringfence.Kind{"/clear": ringfence.KindInsecure, "/round": ringfence.KindInvalid} {
		x := s
		x.URL = "https://rep.example.com" + path
		if _, err := x.ask(t.Context(), http.MethodGet, "", nil, 10); ringfence.KindOf(err) != kind {
			t.Errorf("%s: %v", path, err)
		}
	}
	x = s
	x.URL = "https://rep.example.com/away"
	if _, err := x.ask(t.Context(), http.MethodGet, "", nil, 10); err != nil {
		t.Error(err)
	}
	x.Web = broken{}
	if err := x.Send(t.Context(), http.MethodPost, "", nil); ringfence.KindOf(err) != ringfence.KindUnavailable {
		t.Errorf("%v", err)
	}
}

type broken struct{}

func (broken) RoundTrip(*http.Request) (*http.Response, error) { return nil, errors.New("no") }

// TestReports holds what is sent to what it should have, and not.
func TestReports(t *testing.T) {
	set := flatprofile.NewSet(flatprofile.Parameters())
	for name, value := range map[string]string{"Station_Name": "a <desk> & more", "Password_1_": "hidden", "GPP_SA": "hidden", "Nothing_Known": "x"} {
		set.Put(flatprofile.Value{Name: name, Value: value, From: "test"})
	}
	b := Settings(set)
	f, err := flatprofile.Parse(b)
	if err != nil || len(f.Elements) != 3 || strings.Contains(string(b), "hidden") || f.Elements[2].Value != "a <desk> & more" {
		t.Errorf("%v %s", err, b)
	}
	kind, body, err := Problem("prt.tar.gz", "SEP1", "S1", "no sound", time.Unix(1700000000, 0), map[string][]byte{"status.json": []byte("{}"), "settings.xml": b})
	if err != nil {
		t.Fatal(err)
	}
	_, params, err := mime.ParseMediaType(kind)
	if err != nil {
		t.Fatal(err)
	}
	form, err := multipart.NewReader(bytes.NewReader(body), params["boundary"]).ReadForm(1 << 20)
	if err != nil || form.Value["description"][0] != "no sound" || form.File["prt_file"][0].Filename != "prt.tar.gz" {
		t.Fatalf("%+v %v", form, err)
	}
	file, err := form.File["prt_file"][0].Open()
	if err != nil {
		t.Fatal(err)
	}
	z, err := gzip.NewReader(file)
	if err != nil {
		t.Fatal(err)
	}
	names := ""
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		names += h.Name + " "
	}
	if names != "settings.xml status.json " {
		t.Error(names)
	}
}

func FuzzParseURL(f *testing.F) {
	f.Add("https://rep.example.com/up?x=1")
	f.Fuzz(func(t *testing.T, s string) {
		if u, err := ParseURL(s); err == nil && (u.Scheme != "https" || u.Hostname() == "" || u.User != nil) {
			t.Errorf("%v", u)
		}
	})
}

// FuzzFirmware has a server send anything.
func FuzzFirmware(f *testing.F) {
	f.Add([]byte("image"))
	c := &x509.Certificate{}
	f.Fuzz(func(t *testing.T, b []byte) {
		s := Server{URL: "https://fw.example.com/", Web: web{func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(b) }}}
		if _, err := s.Firmware(context.Background(), []*x509.Certificate{c}); err == nil {
			t.Error("it is signed by nobody")
		}
	})
}
