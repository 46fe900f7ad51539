package lsc

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"ringfence"
	"ringfence/internal/trust/pkcs7"
)

const (
	maxAnswer  = 256 << 10 // bytes
	maxPending = 24 * time.Hour
)

// Web makes requests within TLS, to servers that proved their names, with the phone's certificate; it follows no redirections.
type Web interface {
	RoundTrip(*http.Request) (*http.Response, error)
}

// Server is an EST server.
type Server struct {
	URL      string // https://HOST, or with the path of its EST
	Password string // a code that proves who asks, beside a certificate or instead of one; may be empty
	Web      Web
	Now      func() time.Time
}

// Issued is what a server gave.
type Issued struct {
	Certificate *x509.Certificate
	Key         *ecdsa.PrivateKey
	Later       time.Duration // if it is not 0 there is none yet: somebody has to agree first
}

func fault(kind ringfence.Kind, hint, format string, args ...any) error {
	return &ringfence.Fault{Op: "lsc", Kind: kind, Text: fmt.Sprintf(format, args...), Hint: hint}
}

// ParseURL reads where an EST server is: https alone, with its own path or the well-known one.
func ParseURL(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	switch {
	case err != nil || len(s) > 2048 || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return nil, fault(ringfence.KindInvalid, "write https://HOST or https://HOST/PATH", "%.80q is no EST server", s)
	case u.Scheme != "https":
		return nil, fault(ringfence.KindInsecure, "use https", "%.80s: certificates are asked for within TLS alone", s)
	}
	if u.Path = strings.TrimSuffix(u.Path, "/"); u.Path == "" {
		u.Path = "/.well-known/est"
	}
	return u, nil
}

// Enrol asks for a certificate for a phone by its name, such as SEP000E08ABCDEF. With old, which the phone then shows, it asks for the successor of that one.
func (s Server) Enrol(ctx context.Context, name string, old *x509.Certificate) (Issued, error) {
	u, err := ParseURL(s.URL)
	if err != nil {
		return Issued{}, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Issued{}, fault(ringfence.KindInternal, "", "no key can be made: %v", err)
	}
	template, operation := x509.CertificateRequest{Subject: pkix.Name{CommonName: name}}, "/simpleenroll"
	if old != nil { // section 4.2.2: the same names
		template = x509.CertificateRequest{RawSubject: old.RawSubject, DNSNames: old.DNSNames, EmailAddresses: old.EmailAddresses, IPAddresses: old.IPAddresses, URIs: old.URIs}
		operation = "/simplereenroll"
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &template, key)
	if err != nil {
		return Issued{}, fault(ringfence.KindInternal, "", "no request can be made: %v", err)
	}
	u.Path += operation
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, u.String(), strings.NewReader(base64.StdEncoding.EncodeToString(csr)))
	if err != nil {
		return Issued{}, fault(ringfence.KindInvalid, "", "no request can be made: %v", err)
	}
	req.Header.Set("Content-Type", "application/pkcs10")
	req.Header.Set("Content-Transfer-Encoding", "base64")
	req.Header.Set("Accept", "application/pkcs7-mime")
	if s.Password != "" && old == nil {
		req.SetBasicAuth(name, s.Password)
	}
	resp, err := s.Web.RoundTrip(req)
	if err != nil {
		kind := ringfence.KindUnavailable
		if k := ringfence.KindOf(err); k != ringfence.KindInternal {
			kind = k
		}
		return Issued{}, &ringfence.Fault{Op: "lsc", Kind: kind, Text: u.Host + " is not reached", Hint: ringfence.HintOf(err), Err: err}
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil || len(b) > maxAnswer {
		return Issued{}, fault(ringfence.KindUnavailable, "", "%s broke off, or says too much", u.Host)
	}
	switch resp.StatusCode {
	case http.StatusOK:
		cert, err := s.take(resp.Header.Get("Content-Type"), b, key)
		return Issued{Certificate: cert, Key: key}, err
	case http.StatusAccepted: // section 4.2.3
		return Issued{Later: s.later(resp.Header.Get("Retry-After"))}, nil
	case http.StatusUnauthorized, http.StatusForbidden:
		return Issued{}, fault(ringfence.KindDenied, "is the phone's certificate, or the code in CDC_Challenge_Password_1_, one that the server takes?", "%s gives this phone no certificate: %s", u.Host, words(resp, b))
	}
	return Issued{}, fault(ringfence.KindUnavailable, "", "%s gives no certificate: %s", u.Host, words(resp, b))
}

// words is what a server says of a refusal.
func words(resp *http.Response, b []byte) string {
	text := resp.Status
	if kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type")); kind == "text/plain" && len(b) > 0 {
		text += ": " + string(b[:min(len(b), 200)])
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f {
			return ' '
		}
		return r
	}, text)
}

// later reads Retry-After.
func (s Server) later(field string) time.Duration {
	wait := time.Minute
	if n, err := strconv.ParseUint(field, 10, 31); err == nil {
		wait = time.Duration(n) * time.Second
	} else if at, err := http.ParseTime(field); err == nil {
		wait = at.Sub(s.Now())
	}
	return min(max(wait, time.Minute), maxPending)
}

// take reads what a server issued: it has to be for our key, and good now.
func (s Server) take(contentType string, b []byte, key *ecdsa.PrivateKey) (*x509.Certificate, error) {
	if kind, _, err := mime.ParseMediaType(contentType); err != nil || kind != "application/pkcs7-mime" {
		return nil, fault(ringfence.KindInvalid, "is it an EST server?", "the server answers with %.60q", contentType)
	}
	der, err := base64.StdEncoding.DecodeString(string(bytes.Join(bytes.Fields(b), nil)))
	if err != nil {
		return nil, fault(ringfence.KindInvalid, "", "the server's answer is no base64")
	}
	certs, err := pkcs7.Certificates(der)
	if err != nil {
		return nil, err
	}
	for _, c := range certs {
		if !key.PublicKey.Equal(c.PublicKey) {
			continue
		}
		if now := s.Now(); now.Before(c.NotBefore) || !now.Before(c.NotAfter) {
			return nil, fault(ringfence.KindInvalid, "is the clock right?", "the certificate is good from %s to %s", c.NotBefore.UTC().Format(time.RFC3339), c.NotAfter.UTC().Format(time.RFC3339))
		}
		return c, nil
	}
	return nil, fault(ringfence.KindInvalid, "", "the server gave a certificate for another key")
}

// Due reports whether a certificate should be renewed: a third of its life is left.
func Due(c *x509.Certificate, now time.Time) bool {
	return now.After(c.NotAfter.Add(-c.NotAfter.Sub(c.NotBefore) / 3))
}
