package acme

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"

	"ringfence"
	"ringfence/internal/trust/quota"
)

// Wanted is a certificate to be signed. The names were shown to be under the account's control.
type Wanted struct {
	Account   string
	Binding   string
	DNSNames  []string
	IPs       []netip.Addr
	PublicKey crypto.PublicKey
}

// Issuer signs and revokes certificates.
type Issuer interface {
	// Sign returns a chain in DER, leaf first, for exactly the names and the key. The text of a fault of KindInvalid or KindDenied is
	// told to the client.
	Sign(ctx context.Context, w Wanted) (chain [][]byte, err error)
	// Revoke revokes a certificate that Sign made, for a reason of RFC 5280 section 5.3.1; KindConflict if it is revoked already.
	Revoke(ctx context.Context, leaf *x509.Certificate, reason int) error
	// Revoked reports whether a certificate that Sign made is revoked.
	Revoked(ctx context.Context, leaf *x509.Certificate) (bool, error)
}

// Resolver looks names up in the DNS; *net.Resolver is one.
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
	LookupTXT(ctx context.Context, name string) ([]string, error)
}

// Config says what the server needs. Zero values mean the default named beside them.
type Config struct {
	Base     string // how clients reach the server, e.g. "https://node.example.org:8443"; all URLs begin with it
	State    State
	Bindings Bindings
	Policy   Policy // Names
	Issuer   Issuer
	// Dial opens a stream to an address that Reach allows, to look at a challenge.
	Dial     func(ctx context.Context, addr netip.AddrPort) (net.Conn, error)
	Resolver Resolver
	Reach    func(netip.Addr) bool // Reachable
	// Audit keeps who did what; what cannot be audited does not happen.
	Audit func(ctx context.Context, what, target, outcome string) error
	Log   *slog.Logger
	Now   func() time.Time // time.Now

	HTTPPort, TLSPort uint16        // where challenges are looked at: 80 and 443, as the RFCs want it; others in tests only
	PerMinute         int           // requests from one source address: 300
	OrdersPerHour     int           // of one account: 60
	TriesPerHour      int           // challenges of one account for one name: 10
	MaxIdentifiers    int           // of one order: 20
	OrderLife         time.Duration // until an order that is not finished is over: 24 hours
	Tries             int           // looks at one challenge before it has failed: 3
	Pause             time.Duration // between two looks: 2 seconds
	LookTime          time.Duration // that one look may take: 10 seconds
}

// Server is an ACME server. Its methods may be called from any goroutine.
type Server struct {
	c       Config
	nonces  *nonces
	sources *quota.Quota
	orders  *quota.Quota
	tries   *quota.Quota

	ctx     context.Context // of validations
	stop    context.CancelFunc
	mu      sync.Mutex // guards closed, and that nothing is added to wait after it
	closed  bool
	wait    sync.WaitGroup
	waiting chan struct{} // one token for each challenge that waits or is looked at
	looking chan struct{} // one token for each that is looked at
}

const (
	mostWaiting = 512
	mostLooking = 16
)

// New prepares a server; Close ends it.
func New(c Config) (*Server, error) {
	const op = "acme.config"
	u, err := url.Parse(c.Base)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.Path != "" || u.RawQuery != "" || u.User != nil || u.Fragment != "" {
		return nil, fault(op, ringfence.KindInvalid, fmt.Sprintf("%.80q cannot be the base of the ACME server's URLs", c.Base), "give https, a host and perhaps a port: ACME is only spoken over TLS", nil)
	}
	if c.State == nil || c.Bindings == nil || c.Issuer == nil || c.Dial == nil || c.Resolver == nil || c.Audit == nil || c.Log == nil {
		return nil, fault(op, ringfence.KindInvalid, "the ACME server lacks one of state, bindings, issuer, dial, resolver, audit and log", "", nil)
	}
	if c.Policy == nil {
		c.Policy = Names{}
	}
	if c.Reach == nil {
		c.Reach = Reachable
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.HTTPPort == 0 {
		c.HTTPPort = 80
	}
	if c.TLSPort == 0 {
		c.TLSPort = 443
	}
	for _, d := range []struct {
		n             *int
		usual, bounds int
	}{{&c.PerMinute, 300, 1e6}, {&c.OrdersPerHour, 60, 1e6}, {&c.TriesPerHour, 10, 1e6}, {&c.MaxIdentifiers, 20, 100}, {&c.Tries, 3, 10}} {
		if *d.n == 0 {
			*d.n = d.usual
		}
		if *d.n < 0 || *d.n > d.bounds {
			return nil, fault(op, ringfence.KindInvalid, fmt.Sprintf("a limit of the ACME server is out of bounds: %d", *d.n), "an order has 100 identifiers at most, a challenge is looked at 10 times at most", nil)
		}
	}
	for _, d := range []struct {
		n             *time.Duration
		usual, bounds time.Duration
	}{{&c.OrderLife, 24 * time.Hour, 30 * 24 * time.Hour}, {&c.Pause, 2 * time.Second, time.Minute}, {&c.LookTime, 10 * time.Second, time.Minute}} {
		if *d.n == 0 {
			*d.n = d.usual
		}
		if *d.n < 0 || *d.n > d.bounds {
			return nil, fault(op, ringfence.KindInvalid, fmt.Sprintf("a time of the ACME server is out of bounds: %v", *d.n), "", nil)
		}
	}
	s := &Server{c: c, nonces: newNonces(c.Now), sources: quota.New(c.PerMinute, time.Minute, c.Now), orders: quota.New(c.OrdersPerHour, time.Hour, c.Now),
		tries: quota.New(c.TriesPerHour, time.Hour, c.Now), waiting: make(chan struct{}, mostWaiting), looking: make(chan struct{}, mostLooking)}
	s.ctx, s.stop = context.WithCancel(context.Background())
	return s, nil
}

// Close gives up looking at challenges and waits until nothing runs any more. Challenges that were being looked at are taken up again
// by the next request for them.
func (s *Server) Close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.stop()
	s.wait.Wait()
}

// Sweep removes what is over and was not asked for since a week.
func (s *Server) Sweep(ctx context.Context) error {
	return s.c.State.Forget(ctx, s.c.Now().Add(-7*24*time.Hour))
}

// The resources, below Config.Base.
const (
	pathDirectory  = "/acme/directory"
	pathNonce      = "/acme/new-nonce"
	pathNewAccount = "/acme/new-account"
	pathNewOrder   = "/acme/new-order"
	pathAccount    = "/acme/account/"
	pathOrder      = "/acme/order/"
	pathAuthz      = "/acme/authz/"
	pathChallenge  = "/acme/challenge/"
	pathCert       = "/acme/cert/"
	pathRevoke     = "/acme/revoke-cert"
	pathKeyChange  = "/acme/key-change"
	pathRenewal    = "/acme/renewal-info"
)

// Handler answers everything below /acme/. Serve it over TLS with timeouts.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+pathDirectory, s.directory)
	mux.HandleFunc("GET "+pathNonce, s.newNonce) // and HEAD
	mux.HandleFunc("GET "+pathRenewal+"/{id}", s.renewalInfo)
	for path, h := range map[string]http.HandlerFunc{
		pathNewAccount:                s.post(byKey, s.newAccount),
		pathNewOrder:                  s.post(byAccount, s.newOrder),
		pathAccount + "{id}":          s.post(byAccount, s.account),
		pathAccount + "{id}/orders":   s.post(byAccount, s.listOrders),
		pathOrder + "{id}":            s.post(byAccount, s.order),
		pathOrder + "{id}/finalize":   s.post(byAccount, s.finalize),
		pathAuthz + "{id}":            s.post(byAccount, s.authorization),
		pathChallenge + "{id}/{type}": s.post(byAccount, s.challenge),
		pathCert + "{id}":             s.post(byAccount, s.certificate),
		pathRevoke:                    s.post(byEither, s.revoke),
		pathKeyChange:                 s.post(byAccount, s.keyChange),
	} {
		mux.HandleFunc("POST "+path, h)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Cache-Control", "no-store")
		h.Set("X-Content-Type-Options", "nosniff")
		if r.URL.Path != pathDirectory {
			h.Add("Link", "<"+s.c.Base+pathDirectory+`>;rel="index"`)
		}
		if wait := s.sources.Take(quota.Source(r.RemoteAddr)); wait > 0 {
			s.write(w, nil, tooMany("too many requests from this address", wait))
			return
		}
		handler, pattern := mux.Handler(r)
		if pattern == "" { // also of a method that is not allowed: what the mux answers is no problem document
			probe := &statusOnly{header: http.Header{}}
			handler.ServeHTTP(probe, r)
			p := refuse("malformed", "there is nothing of that name here").with(http.StatusNotFound)
			if probe.status == http.StatusMethodNotAllowed {
				h.Set("Allow", probe.header.Get("Allow"))
				p = refuse("malformed", "that method is not for this resource; to read, POST an empty payload (RFC 8555 section 6.3)").with(probe.status)
			}
			s.write(w, nil, p)
			return
		}
		mux.ServeHTTP(w, r) // sets the path values
	})
}

// statusOnly takes what the mux says of a request that it has no handler for.
type statusOnly struct {
	header http.Header
	status int
}

func (p *statusOnly) Header() http.Header         { return p.header }
func (p *statusOnly) Write(b []byte) (int, error) { return len(b), nil }
func (p *statusOnly) WriteHeader(status int)      { p.status = status }

func tooMany(detail string, wait time.Duration) *problem {
	p := refuse("rateLimited", detail)
	p.retryAfter = wait
	return p
}

func (s *Server) directory(w http.ResponseWriter, _ *http.Request) {
	s.write(w, &reply{body: map[string]any{
		"newNonce": s.c.Base + pathNonce, "newAccount": s.c.Base + pathNewAccount, "newOrder": s.c.Base + pathNewOrder,
		"revokeCert": s.c.Base + pathRevoke, "keyChange": s.c.Base + pathKeyChange, "renewalInfo": s.c.Base + pathRenewal,
		"meta": map[string]any{"externalAccountRequired": true},
	}}, nil)
}

func (s *Server) newNonce(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Replay-Nonce", s.nonces.fresh())
	if r.Method == http.MethodGet { // section 7.2: 204 for GET, 200 for HEAD
		w.WriteHeader(http.StatusNoContent)
	}
}

// who is who signs a request.
type who int

const (
	byAccount who = iota // "kid"
	byKey                // "jwk"
	byEither
)

// request is a request whose signature and nonce are good.
type request struct {
	*http.Request
	payload []byte
	key     *jose.JSONWebKey // that signed
	thumb   string
	account Account // zero if the request carried its key itself
	binding Binding // of the account
}

// reply is an answer that is no problem.
type reply struct {
	status     int // 200
	location   string
	links      []string
	body       any
	pem        []byte // instead of body
	retryAfter time.Duration
}

func (s *Server) post(by who, step func(*request) (*reply, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		out, err := s.signedBy(w, r, by, step)
		w.Header().Set("Replay-Nonce", s.nonces.fresh()) // after: an answer may be a while in the making
		s.write(w, out, err)
	}
}

// signedBy checks a request as RFC 8555 section 6 has it, and has it done.
func (s *Server) signedBy(w http.ResponseWriter, r *http.Request, by who, step func(*request) (*reply, error)) (*reply, error) {
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/jose+json" {
		return nil, refuse("malformed", "application/jose+json is expected").with(http.StatusUnsupportedMediaType)
	}
	text, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		return nil, refuse("malformed", "the request was cut off or is too long").with(http.StatusRequestEntityTooLarge)
	}
	m, err := openJWS(text, algorithms())
	if err != nil {
		return nil, err
	}
	if m.url != s.c.Base+r.URL.RequestURI() {
		return nil, refuse("unauthorized", "the url in the protected header is not where the request was sent: "+clip(s.c.Base+r.URL.RequestURI(), 200))
	}
	q := &request{Request: r, payload: m.body, key: m.key}
	switch {
	case by == byKey && m.key == nil:
		return nil, refuse("malformed", "this request is signed with the key itself (jwk)")
	case by == byAccount && m.key != nil:
		return nil, refuse("malformed", "this request is signed in the name of an account (kid)")
	case m.key == nil:
		if err := s.findAccount(q, m.kid); err != nil {
			return nil, err
		}
	}
	if q.thumb, err = thumbprint(q.key); err != nil {
		return nil, err
	}
	if err := m.verify(q.key); err != nil {
		return nil, err
	}
	if !s.nonces.spend(m.nonce) { // after the signature, so that memory is only spent on whoever has one
		return nil, refuse("badNonce", "the nonce is unknown, used or too old; take the one of this answer")
	}
	if m.key == nil {
		if err := s.mayAct(q); err != nil {
			return nil, err
		}
	}
	return step(q)
}

// findAccount finds the account of a kid and its key.
func (s *Server) findAccount(q *request, kid string) (err error) {
	none := refuse("accountDoesNotExist", "there is no account of that URL")
	id, ok := strings.CutPrefix(kid, s.c.Base+pathAccount)
	if !ok || !isID(id) {
		return none
	}
	if q.account, err = s.c.State.Account(q.Context(), id); err != nil {
		if ringfence.KindOf(err) == ringfence.KindNotFound {
			return none
		}
		return err
	}
	q.key, err = readKey(q.account.Key)
	return err
}

// mayAct reports why an account may do nothing: its status is told to nobody but its holder.
func (s *Server) mayAct(q *request) (err error) {
	if q.account.Status != StatusValid {
		return refuse("unauthorized", "the account is "+string(q.account.Status))
	}
	q.binding, err = s.c.Bindings.Binding(q.Context(), q.account.Binding)
	switch {
	case err != nil && ringfence.KindOf(err) != ringfence.KindNotFound:
		return err
	case err != nil || q.binding.Revoked:
		return refuse("unauthorized", "the binding of the account was withdrawn; ask an administrator for another one")
	}
	return nil
}

// write sends an answer or a problem, and logs what is our own fault.
func (s *Server) write(w http.ResponseWriter, out *reply, err error) {
	h := w.Header()
	var body []byte
	status, kind, retry := http.StatusOK, "application/json", time.Duration(0)
	if err != nil {
		p := problemOf(err)
		if p.Status >= 500 && ringfence.KindOf(err) != ringfence.KindConflict { // two requests of one client met
			s.c.Log.Error("an ACME request failed", "err", err, "hint", ringfence.HintOf(err))
		}
		if p.location != "" {
			h.Set("Location", p.location)
		}
		status, kind, retry, body = p.Status, "application/problem+json", p.retryAfter, p.record()
	} else {
		if out.status != 0 {
			status = out.status
		}
		if out.location != "" {
			h.Set("Location", out.location)
		}
		for _, l := range out.links {
			h.Add("Link", l)
		}
		retry = out.retryAfter
		switch {
		case out.pem != nil:
			kind, body = "application/pem-certificate-chain", out.pem
		case out.body != nil:
			if body, err = json.Marshal(out.body); err != nil {
				status, kind, body = http.StatusInternalServerError, "application/problem+json", refuse("serverInternal", "the answer cannot be written").record()
			}
		}
	}
	if retry > 0 {
		h.Set("Retry-After", strconv.Itoa(max(1, int((retry+time.Second-1)/time.Second))))
	}
	if body != nil {
		h.Set("Content-Type", kind)
	}
	w.WriteHeader(status)
	_, _ = w.Write(body) // if the client is gone, nobody is left to tell
}

// newID returns 128 random bits, in base64url: also a token (RFC 8555 section 8.3).
func newID() string {
	b := make([]byte, 16)
	rand.Read(b)
	return base64.RawURLEncoding.EncodeToString(b)
}

// isID reports whether text looks like what newID makes, before it reaches a database.
func isID(text string) bool {
	b, err := base64.RawURLEncoding.Strict().DecodeString(text)
	return err == nil && len(b) == 16
}

// NewBinding makes a key for one account. Whoever keeps it shows the id and the key, in base64url, to the administrator once. Neither begins with a dash there: clients take
// them as arguments.
func NewBinding(names []string, expires time.Time) Binding {
	const dash = 62 << 2 // the first six bits of a text that begins with one
	b := Binding{ID: newID(), Key: make([]byte, 32), Names: names, Expires: expires}
	for b.ID[0] == '-' {
		b.ID = newID()
	}
	for {
		if rand.Read(b.Key); b.Key[0]&0xfc != dash {
			return b
		}
	}
}
