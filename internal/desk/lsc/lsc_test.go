package lsc

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"errors"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"ringfence"
	"ringfence/internal/trust/pkcs7"
)

// server is an EST server of few lines.
type server struct {
	*testing.T
	key    *ecdsa.PrivateKey
	other  bool // it certifies another key
	from   time.Time
	answer func(w http.ResponseWriter)
	err    error
	asked  []*x509.CertificateRequest
	paths  []string
	code   string
}

func (s *server) RoundTrip(r *http.Request) (*http.Response, error) {
	if s.err != nil {
		return nil, s.err
	}
	b, err := io.ReadAll(r.Body)
	der, bad := base64.StdEncoding.DecodeString(string(b))
	csr, worse := x509.ParseCertificateRequest(der)
	if err != nil || bad != nil || worse != nil || csr.CheckSignature() != nil || r.Header.Get("Content-Type") != "application/pkcs10" {
		s.Fatal(err, bad, worse, r.Header)
	}
	s.asked, s.paths = append(s.asked, csr), append(s.paths, r.URL.String())
	_, s.code, _ = r.BasicAuth()
	w := httptest.NewRecorder()
	if s.answer != nil {
		s.answer(w)
		return w.Result(), nil
	}
	public := csr.PublicKey
	if s.other {
		public = s.key.Public()
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: csr.Subject, DNSNames: csr.DNSNames, NotBefore: s.from, NotAfter: s.from.Add(time.Hour)}
	issued, err := x509.CreateCertificate(rand.Reader, c, &x509.Certificate{Subject: pkix.Name{CommonName: "CA"}}, public, s.key)
	if err != nil {
		s.Fatal(err)
	}
	wrapped, err := pkcs7.CertsOnly([][]byte{issued})
	if err != nil {
		s.Fatal(err)
	}
	w.Header().Set("Content-Type", "application/pkcs7-mime; smime-type=certs-only")
	text := base64.StdEncoding.EncodeToString(wrapped)
	_, _ = io.WriteString(w, text[:60]+"\r\n"+text[60:]) // in lines, as many write it
	return w.Result(), nil
}

func TestEnrol(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Unix(1_800_000_000, 0)
	s := &server{T: t, key: key, from: now.Add(-time.Minute)}
	at := Server{URL: "https://est.example.com", Password: "code", Web: s, Now: func() time.Time { return now }}
	got, err := at.Enrol(t.Context(), "SEP000E08ABCDEF", nil)
	if err != nil || !got.Key.PublicKey.Equal(got.Certificate.PublicKey) || got.Certificate.Subject.CommonName != "SEP000E08ABCDEF" || s.paths[0] != "https://est.example.com/.well-known/est/simpleenroll" || s.code != "code" {
		t.Fatalf("%+v %v %v", got, err, s.paths)
	}
	old := got.Certificate
	old.DNSNames = []string{"phone.example.com"}
	at.URL += "/site/est/"
	if got, err = at.Enrol(t.Context(), "SEP000E08ABCDEF", old); err != nil || s.paths[1] != "https://est.example.com/site/est/simplereenroll" || s.code != "" || s.asked[1].DNSNames[0] != "phone.example.com" || string(s.asked[1].RawSubject) != string(old.RawSubject) || got.Key.Equal(s.key) {
		t.Errorf("%+v %v %v", got, err, s.paths)
	}
	if Due(old, old.NotBefore.Add(39*time.Minute)) || !Due(old, old.NotBefore.Add(41*time.Minute)) {
		t.Error("it is renewed at another time than when a third of its life is left")
	}
	say := func(status int, kind, body string, header ...string) func(http.ResponseWriter) {
		return func(w http.ResponseWriter) {
			w.Header().Set("Content-Type", kind)
			for i := 0; i < len(header); i += 2 {
				w.Header().Set(header[i], header[i+1])
			}
			w.WriteHeader(status)
			_, _ = io.WriteString(w, body)
		}
	}
	const certs = "application/pkcs7-mime"
	for name, x := range map[string]struct {
		change func()
		kind   ringfence.Kind
		words  string
	}{
		"refused":           {func() { s.answer = say(403, "text/plain", "no such device\x1b[0m") }, ringfence.KindDenied, "no such device"},
		"not known":         {func() { s.answer = say(401, "text/html", "<b>no</b>") }, ringfence.KindDenied, "401"},
		"no such place":     {func() { s.answer = say(404, "text/plain", "nothing") }, ringfence.KindUnavailable, "404"},
		"no certificates":   {func() { s.answer = say(200, "text/html", "hello") }, ringfence.KindInvalid, "text/html"},
		"no base64":         {func() { s.answer = say(200, certs, "***") }, ringfence.KindInvalid, "no base64"},
		"no PKCS #7":        {func() { s.answer = say(200, certs, "AAAA") }, ringfence.KindInvalid, "no PKCS #7"},
		"too much":          {func() { s.answer = say(200, certs, strings.Repeat("A", maxAnswer+1)) }, ringfence.KindUnavailable, "too much"},
		"another key":       {func() { s.other = true }, ringfence.KindInvalid, "another key"},
		"over":              {func() { s.from = now.Add(-2 * time.Hour) }, ringfence.KindInvalid, "is good from"},
		"not yet":           {func() { s.from = now.Add(time.Minute) }, ringfence.KindInvalid, "is good from"},
		"away":              {func() { s.err = errors.New("refused") }, ringfence.KindUnavailable, "not reached"},
		"not who it should": {func() { s.err = &ringfence.Fault{Kind: ringfence.KindInsecure, Text: "another"} }, ringfence.KindInsecure, "not reached"},
	} {
		s.answer, s.other, s.err, s.from = nil, false, nil, now.Add(-time.Minute)
		x.change()
		if got, err := at.Enrol(t.Context(), "SEP000E08ABCDEF", nil); ringfence.KindOf(err) != x.kind || !strings.Contains(err.Error(), x.words) || strings.Contains(err.Error(), "\x1b") || got.Certificate != nil {
			t.Errorf("%s: %+v %v", name, got, err)
		}
	}
	s.err = nil
	for field, want := range map[string]time.Duration{"600": 10 * time.Minute, "": time.Minute, "0": time.Minute, "99999999": maxPending, now.Add(time.Hour).UTC().Format(http.TimeFormat): time.Hour, "soon": time.Minute} {
		s.answer = say(202, "text/plain", "", "Retry-After", field)
		if got, err := at.Enrol(t.Context(), "SEP000E08ABCDEF", nil); err != nil || got.Later != want || got.Certificate != nil {
			t.Errorf("%q: %+v %v", field, got, err)
		}
	}
	for _, u := range []string{"", "http://est.example.com", "https://", "https://a:b@est.example.com", "https://est.example.com/?x", "ldap://x"} {
		if _, err := (Server{URL: u}).Enrol(t.Context(), "x", nil); err == nil || ringfence.KindOf(err) == ringfence.KindInternal {
			t.Errorf("%q: %v", u, err)
		}
	}
}
