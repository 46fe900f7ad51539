package est

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"strconv"
	"time"

	"ringfence"
	"ringfence/internal/trust/pkcs7"
	"ringfence/internal/trust/quota"
)

// Client is who asks, after it was proved.
type Client struct {
	Name        string            // for the audit, e.g. a device
	Certificate *x509.Certificate // with which it was proved; nil if it was a code
	// Settle, unless nil, is called once with what became of the request: a one-time code is used up by a certificate, and good for
	// another try after anything else. It has to be safe against two requests with the same code.
	Settle func(ctx context.Context, issued bool) error
}

// Authenticator finds out who asks.
type Authenticator interface {
	// Certificate returns who holds the first certificate of a chain as a client sent it. The handshake proved the key and nothing else.
	Certificate(ctx context.Context, chain []*x509.Certificate) (Client, error)
	// Code returns who may use a one-time code, and keeps others from using it meanwhile. It limits wrong tries of a remote address.
	Code(ctx context.Context, remote, user, code string) (Client, error)
}

// Issuer signs certificates.
type Issuer interface {
	// Anchors returns the certificates that clients shall trust or need to verify others, in DER (RFC 7030 section 4.1).
	Anchors(ctx context.Context) ([][]byte, error)
	// Enrol signs a certificate for the key of a request. No certificate, no error and a time mean that somebody has to agree first: the
	// client asks the same thing again after it.
	Enrol(ctx context.Context, c Client, csr *x509.CertificateRequest) (der []byte, later time.Duration, err error)
	// Renew signs a successor of the client's certificate, with its subject and names.
	Renew(ctx context.Context, c Client, csr *x509.CertificateRequest) (der []byte, later time.Duration, err error)
}

// Config says what the server needs. Zero values mean the default named beside them.
type Config struct {
	Authenticator Authenticator
	Issuer        Issuer
	// Audit keeps who did what; what cannot be audited does not happen.
	Audit func(ctx context.Context, what, target, outcome string) error
	Log   *slog.Logger
	Now   func() time.Time // time.Now

	// Linked refuses requests that are not tied to their connection (RFC 7030 section 3.5).
	Linked bool
	// SameKey lets a renewal be for the key of the certificate that it renews.
	SameKey   bool
	PerMinute int // requests from one source address: 60
}

// Server answers EST. Its methods may be called from any goroutine.
type Server struct {
	c       Config
	sources *quota.Quota
}

// New prepares a server.
func New(c Config) (*Server, error) {
	const op = "est.config"
	if c.Authenticator == nil || c.Issuer == nil || c.Audit == nil || c.Log == nil {
		return nil, fault(op, ringfence.KindInvalid, "EST lacks one of authenticator, issuer, audit and log", "", nil)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.PerMinute == 0 {
		c.PerMinute = 60
	}
	if c.PerMinute < 0 {
		return nil, fault(op, ringfence.KindInvalid, fmt.Sprintf("%d requests a minute are no limit for EST", c.PerMinute), "", nil)
	}
	return &Server{c: c, sources: quota.New(c.PerMinute, time.Minute, c.Now)}, nil
}

const (
	root = "/.well-known/est/"
	// maxBody bounds a request in bytes, maxRequest the certificate request in it.
	maxBody    = 32 << 10
	maxRequest = 16 << 10
	maxSecret  = 128 // bytes of a user name or code
)

// Handler answers everything below /.well-known/est/. Serve it over TLS 1.2 or later with timeouts; let the TLS server ask for a client
// certificate without insisting and without checking it (tls.RequestClientCert).
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+root+"cacerts", s.answer(s.anchors))
	mux.HandleFunc("GET "+root+"csrattrs", s.answer(s.attributes))
	mux.HandleFunc("POST "+root+"simpleenroll", s.answer(s.enrol))
	mux.HandleFunc("POST "+root+"simplereenroll", s.answer(s.renew))
	for path, why := range map[string]string{
		"serverkeygen": "keys are made on the device and never leave it; make a key and use simpleenroll",
		"fullcmc":      "full CMC is not offered; use simpleenroll",
	} {
		mux.HandleFunc(root+path, s.answer(func(*http.Request) (*reply, error) {
			return nil, fault("est."+path, ringfence.KindUnsupported, why, "", nil)
		}))
	}
	for path, method := range map[string]string{"cacerts": "GET, HEAD", "csrattrs": "GET, HEAD", "simpleenroll": "POST", "simplereenroll": "POST"} {
		mux.HandleFunc(root+path, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Allow", method)
			plain(w, http.StatusMethodNotAllowed, path+" is asked for by "+method)
		})
	}
	mux.HandleFunc(root, s.answer(func(*http.Request) (*reply, error) {
		return nil, fault("est.path", ringfence.KindNotFound, "EST has no such operation here", "cacerts, csrattrs, simpleenroll and simplereenroll are offered, without a label", nil)
	}))
	return mux
}

// reply is an answer that is no refusal: DER of a media type, or a time after which to ask again.
type reply struct {
	kind  string
	der   []byte
	later time.Duration
}

// answer limits the source, has one operation done and writes what it returns.
func (s *Server) answer(step func(*http.Request) (*reply, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Cache-Control", "no-store")
		h.Set("X-Content-Type-Options", "nosniff")
		var out *reply
		var err error
		wait := s.sources.Take(quota.Source(r.RemoteAddr))
		switch {
		case wait > 0:
			err = fault("est.limit", ringfence.KindOverload, "too many requests from this address", "", nil)
			h.Set("Retry-After", seconds(wait))
		case r.TLS == nil || r.TLS.Version < tls.VersionTLS12:
			err = fault("est.tls", ringfence.KindInsecure, "EST is spoken over TLS 1.2 or later", "", nil)
		default:
			out, err = step(r)
		}
		switch {
		case err != nil:
			s.refuse(w, r, err)
		case out.der == nil:
			h.Set("Retry-After", seconds(out.later))
			plain(w, http.StatusAccepted, "somebody has to agree to this certificate first; ask again later")
		default:
			h.Set("Content-Type", out.kind)
			h.Set("Content-Transfer-Encoding", "base64") // means nothing in HTTP (RFC 8951 section 3.1), but older clients look for it
			_, _ = w.Write(lines(out.der))               // if the client is gone, nobody is left to tell
		}
	}
}

func seconds(d time.Duration) string { return strconv.Itoa(max(1, int((d+time.Second-1)/time.Second))) }

// lines is base64 in lines of 64 characters, which every decoder takes.
func lines(der []byte) []byte {
	text := base64.StdEncoding.EncodeToString(der)
	var out bytes.Buffer
	for len(text) > 64 {
		out.WriteString(text[:64] + "\n")
		text = text[64:]
	}
	out.WriteString(text + "\n")
	return out.Bytes()
}

// refuse words an error for the far end, as text for people (RFC 7030 section 4.2.3). What went wrong inside of us is not its business.
func (s *Server) refuse(w http.ResponseWriter, r *http.Request, err error) {
	f, ok := errors.AsType[*ringfence.Fault](err)
	if !ok || f.Kind == ringfence.KindInternal {
		f = &ringfence.Fault{Kind: ringfence.KindInternal, Text: "the node failed", Hint: "its log says why"}
	}
	status := f.Kind.HTTP()
	if status >= 500 && f.Kind != ringfence.KindUnsupported {
		s.c.Log.Error("an EST request failed", "path", r.URL.Path[:min(len(r.URL.Path), 80)], "err", err, "hint", ringfence.HintOf(err))
		if w.Header().Get("Retry-After") == "" && status == http.StatusServiceUnavailable {
			w.Header().Set("Retry-After", "60")
		}
	}
	if f.Kind == ringfence.KindUnauthenticated { // section 3.2.3
		w.Header().Set("WWW-Authenticate", `Basic realm="enrolment", charset="UTF-8"`)
	}
	text := f.Text
	if hint := ringfence.HintOf(f); hint != "" {
		text += "; " + hint
	}
	plain(w, status, text)
}

func plain(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, text+"\n") // if the client is gone, nobody is left to tell
}

// anchors answers /cacerts (section 4.1).
func (s *Server) anchors(r *http.Request) (*reply, error) {
	list, err := s.c.Issuer.Anchors(r.Context())
	if err != nil {
		return nil, err
	}
	return certs(list, "application/pkcs7-mime")
}

func certs(list [][]byte, kind string) (*reply, error) {
	der, err := pkcs7.CertsOnly(list)
	return &reply{kind: kind, der: der}, err
}

// attributes answers /csrattrs (section 4.5): a key on P-256, signed with SHA-256, and tied to the connection.
func (s *Server) attributes(*http.Request) (*reply, error) {
	der, err := wantedAttributes()
	return &reply{kind: "application/csrattrs", der: der}, err
}

// enrol answers /simpleenroll (section 4.2.1).
func (s *Server) enrol(r *http.Request) (*reply, error) {
	const op = "est.enrol"
	csr, err := s.request(op, r)
	if err != nil {
		return nil, err
	}
	c, err := s.client(r)
	if err != nil {
		return nil, err
	}
	return s.issue(r, op, c, csr, s.c.Issuer.Enrol)
}

// renew answers /simplereenroll (section 4.2.2).
func (s *Server) renew(r *http.Request) (*reply, error) {
	const op = "est.renew"
	csr, err := s.request(op, r)
	if err != nil {
		return nil, err
	}
	if len(r.TLS.PeerCertificates) == 0 {
		return nil, fault(op, ringfence.KindDenied, "a renewal is asked for with the certificate that it renews", "show the present certificate in the TLS handshake, or use simpleenroll", nil)
	}
	c, err := s.c.Authenticator.Certificate(r.Context(), r.TLS.PeerCertificates)
	if err != nil {
		return nil, err
	}
	old := r.TLS.PeerCertificates[0]
	c.Certificate = old
	if err := sameHolder(csr, old); err != nil {
		return nil, s.settle(r, op, c, false, err)
	}
	if !s.c.SameKey && bytes.Equal(csr.RawSubjectPublicKeyInfo, old.RawSubjectPublicKeyInfo) {
		err := fault(op, ringfence.KindInvalid, "the renewal is for the same key", "make a new key for each renewal", nil)
		return nil, s.settle(r, op, c, false, err)
	}
	return s.issue(r, op, c, csr, s.c.Issuer.Renew)
}

// issue has a certificate signed. The client may vanish, but a step that has begun is finished.
func (s *Server) issue(r *http.Request, op string, c Client, csr *x509.CertificateRequest,
	sign func(context.Context, Client, *x509.CertificateRequest) ([]byte, time.Duration, error)) (*reply, error) {
	ctx := context.WithoutCancel(r.Context())
	der, later, err := sign(ctx, c, csr)
	var out *reply
	switch {
	case err != nil:
	case der == nil && later > 0:
		return &reply{later: later}, s.settle(r, op, c, false, nil)
	case der == nil:
		err = fault(op, ringfence.KindInternal, "the authority returned neither a certificate nor a time", "", nil)
	default:
		err = isFor(op, der, csr)
	}
	if err == nil {
		out, err = certs([][]byte{der}, "application/pkcs7-mime; smime-type=certs-only") // the one that was issued, and no other
	}
	if err := s.settle(r, op, c, err == nil, err); err != nil {
		return nil, err
	}
	return out, nil
}

// settle tells the authenticator and the audit what became of a request, and returns the first thing that went wrong.
func (s *Server) settle(r *http.Request, op string, c Client, issued bool, err error) error {
	ctx := context.WithoutCancel(r.Context())
	if c.Settle != nil {
		err = firstOf(err, c.Settle(ctx, issued))
	}
	outcome := "done"
	switch {
	case err != nil:
		outcome = err.Error()
	case !issued:
		outcome = "waits for approval"
	}
	return firstOf(err, s.c.Audit(ctx, op, c.Name, outcome))
}

// client finds out who asks: by certificate, or else by code.
func (s *Server) client(r *http.Request) (Client, error) {
	const op = "est.client"
	user, code, basic := r.BasicAuth()
	var refused error
	if chain := r.TLS.PeerCertificates; len(chain) > 0 {
		c, err := s.c.Authenticator.Certificate(r.Context(), chain)
		if err == nil {
			c.Certificate = chain[0]
			return c, nil
		}
		if k := ringfence.KindOf(err); k != ringfence.KindUnauthenticated && k != ringfence.KindDenied {
			return Client{}, err
		}
		refused = err
	}
	switch {
	case basic && (len(user) > maxSecret || len(code) > maxSecret || code == ""):
		return Client{}, fault(op, ringfence.KindUnauthenticated, "the code is empty or too long", "", nil)
	case basic:
		return s.c.Authenticator.Code(r.Context(), r.RemoteAddr, user, code)
	case refused != nil:
		return Client{}, fault(op, ringfence.KindUnauthenticated, "the client certificate is not taken: "+textOf(refused), "use HTTP Basic with a one-time code", refused)
	}
	return Client{}, fault(op, ringfence.KindUnauthenticated, "nobody knows who asks", "show a client certificate, or use HTTP Basic with a one-time code", nil)
}

// request reads and checks a certificate request.
func (s *Server) request(op string, r *http.Request) (*x509.CertificateRequest, error) {
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/pkcs10" {
		return nil, fault(op, ringfence.KindInvalid, "application/pkcs10 is expected", "", nil)
	}
	text, err := io.ReadAll(io.LimitReader(r.Body, maxBody+1))
	if err != nil {
		return nil, fault(op, ringfence.KindInvalid, "the request was cut off", "", err)
	}
	csr, password, err := readRequest(text)
	if err != nil {
		return nil, err
	}
	return csr, s.linked(op, r.TLS, password)
}

// textOf returns the words of a fault that may be shown.
func textOf(err error) string {
	if f, ok := errors.AsType[*ringfence.Fault](err); ok && f.Kind != ringfence.KindInternal {
		return f.Text
	}
	return "the node failed"
}

func fault(op string, k ringfence.Kind, text, hint string, cause error) error {
	return &ringfence.Fault{Op: op, Kind: k, Text: text, Hint: hint, Err: cause}
}

func firstOf(errs ...error) error {
	for _, e := range errs {
		if e != nil {
			return e
		}
	}
	return nil
}
