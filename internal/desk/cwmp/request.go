package cwmp

import (
	"crypto/rand"
	"io"
	"net/http"
	"sync"
	"time"

	"ringfence/internal/sip"
)

// Doorbell is where an ACS asks the phone for a session (TR-069 section 3.2.2): one address that nobody can guess, by Digest. It says nothing and takes nothing but the wish.
type Doorbell struct {
	Path     string // begins with a slash
	User     string
	Password string
	Now      func() time.Time

	once   sync.Once
	nonces *sip.Nonces
	fault  error
	mu     sync.Mutex
	last   []time.Time
	rung   chan struct{}
}

const (
	bellRealm = "connection request"
	bellLife  = time.Minute
	bellMost  = 10 // in a minute
)

// Rung receives one for wishes that were proven.
func (d *Doorbell) Rung() <-chan struct{} {
	d.start()
	return d.rung
}

func (d *Doorbell) start() {
	d.once.Do(func() {
		d.rung = make(chan struct{}, 1)
		d.nonces, d.fault = sip.NewNonces(d.Now, rand.Reader, bellLife)
	})
}

// ServeHTTP answers one request.
func (d *Doorbell) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	d.start()
	_, _ = io.Copy(io.Discard, io.LimitReader(r.Body, 1024))
	switch {
	case d.fault != nil || d.User == "" || d.Password == "":
		http.Error(w, "no", http.StatusServiceUnavailable)
	case r.Method != http.MethodGet || r.URL.Path != d.Path:
		http.NotFound(w, r)
	case !d.proven(w, r):
	case !d.often():
		w.WriteHeader(http.StatusServiceUnavailable)
	default:
		select {
		case d.rung <- struct{}{}:
		default: // a session will be made anyway
		}
		w.WriteHeader(http.StatusOK)
	}
}

// proven checks the Digest of a request, or asks for one.
func (d *Doorbell) proven(w http.ResponseWriter, r *http.Request) bool {
	stale := false
	if v := r.Header.Get("Authorization"); v != "" && len(v) < 4096 {
		c, err := sip.ParseCredentials([]byte(v))
		if err == nil && string(c.Realm) == bellRealm && string(c.Username) == d.User && c.QOP && string(c.URI) == r.RequestURI {
			state := d.nonces.Check(c.Nonce)
			if state == sip.NonceGood && c.Verify(sip.HA1(c.Algorithm, d.User, bellRealm, d.Password), http.MethodGet) {
				if state = d.nonces.Use(c.Nonce, c.NC); state == sip.NonceGood {
					return true
				}
			}
			stale = state == sip.NonceStale || state == sip.NonceReplay
		}
	}
	nonce := d.nonces.New()
	for _, a := range []sip.DigestAlgorithm{sip.DigestSHA256, sip.DigestMD5} { // RFC 7616 section 3.7: the best first; TR-069 knows MD5
		c := sip.Challenge{Realm: bellRealm, Nonce: nonce, Algorithm: a, Stale: stale}
		w.Header().Add("WWW-Authenticate", string(c.Append(nil)))
	}
	w.WriteHeader(http.StatusUnauthorized)
	return false
}

// often bounds how many sessions others can ask for.
func (d *Doorbell) often() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := d.Now()
	for len(d.last) > 0 && now.Sub(d.last[0]) > time.Minute {
		d.last = d.last[1:]
	}
	if len(d.last) >= bellMost {
		return false
	}
	d.last = append(d.last, now)
	return true
}

// NewPath makes an address that nobody can guess.
func NewPath() string { return "/" + rand.Text() }
