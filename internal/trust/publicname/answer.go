package publicname

import (
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"

	"golang.org/x/crypto/acme"

	"ringfence"
)

// Responder answers the authority that looks whether a name is ours. While nothing is asked for it knows nothing.
type Responder struct {
	mu    sync.Mutex
	files map[string]string           // what is shown at HOST PATH
	certs map[string]*tls.Certificate // what is shown for a host
}

const wellKnown = "/.well-known/acme-challenge/"

// show has a challenge of a name answered until hide is called.
func (r *Responder) show(client *acme.Client, kind, name, token string) (hide func(), err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch kind {
	case HTTP01:
		text, err := client.HTTP01ChallengeResponse(token)
		if err != nil {
			return nil, err
		}
		key := name + " " + wellKnown + token
		if r.files == nil {
			r.files = map[string]string{}
		}
		r.files[key] = text
		return func() {
			r.mu.Lock()
			defer r.mu.Unlock()
			delete(r.files, key)
		}, nil
	case TLSALPN01:
		cert, err := client.TLSALPN01ChallengeCert(token, name)
		if err != nil {
			return nil, err
		}
		if r.certs == nil {
			r.certs = map[string]*tls.Certificate{}
		}
		r.certs[name] = &cert
		return func() {
			r.mu.Lock()
			defer r.mu.Unlock()
			delete(r.certs, name)
		}, nil
	}
	return nil, fault(ringfence.KindInvalid, "there is no challenge "+kind, "", nil)
}

// ServeHTTP answers http-01 (RFC 8555 section 8.3). Whoever asks for anything else learns nothing.
func (r *Responder) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	host := q.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	r.mu.Lock()
	text, ok := r.files[strings.ToLower(host)+" "+q.URL.Path]
	r.mu.Unlock()
	h := w.Header()
	h.Set("Connection", "close")
	if !ok || q.Method != http.MethodGet && q.Method != http.MethodHead {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	h.Set("Content-Type", "application/octet-stream")
	h.Set("X-Content-Type-Options", "nosniff")
	_, _ = io.WriteString(w, text)
}

// Certificate answers tls-alpn-01 (RFC 8737 section 3): the certificate of a challenge is shown to whoever speaks acme-tls/1 and nothing else, and names the host.
func (r *Responder) Certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	cert := r.certs[strings.ToLower(hello.ServerName)]
	if cert == nil || !slices.Equal(hello.SupportedProtos, []string{acme.ALPNProto}) {
		return nil, fault(ringfence.KindNotFound, "nothing is shown here to this client", "", nil)
	}
	return cert, nil
}
