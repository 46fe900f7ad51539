package proxy

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"ringfence"
)

// Scheme is a way to show who asks.
type Scheme string

// The schemes.
const (
	None      Scheme = "none"
	Basic     Scheme = "basic"     // RFC 7617
	Digest    Scheme = "digest"    // RFC 7616
	NTLM      Scheme = "ntlm"      // MS-NLMP, version 2 of its responses only
	Negotiate Scheme = "negotiate" // RFC 4559: Kerberos, or NTLM where there is no Kerberos
)

// Schemes returns all schemes, the one that is asked for first at the front.
func Schemes() []Scheme { return []Scheme{Negotiate, NTLM, Digest, Basic} }

// Credentials are who asks.
type Credentials struct {
	User, Password string
	Domain         string // for NTLM; DOMAIN\user and user@domain in User mean the same
	// Token returns a SPNEGO token (RFC 4178) for a service such as HTTP/proxy.example.com; nil: there is no Kerberos, so Negotiate is made with NTLM.
	Token func(ctx context.Context, service string) ([]byte, error)
}

// Dialer opens ways through one proxy.
type Dialer struct {
	Dial   func(ctx context.Context) (net.Conn, error) // opens a connection to the proxy, sealed or not
	Name   string                                      // the proxy's name, which its Kerberos service has
	Sealed bool                                        // the connection is TLS, so that a password may be told over it
	Who    Credentials
	Only   []Scheme // nil: all for which there are credentials, but Basic only over a sealed connection. One that is named here is used
	Random io.Reader
	Now    func() time.Time
	Agent  string // what User-Agent says; "" says nothing
}

// Outcome is what a proxy said on the way.
type Outcome struct {
	Status    int      // of its last response
	Offered   []Scheme // the schemes that it wants, or None if it let us in without
	Others    []string // and schemes that nobody here knows
	Used      Scheme
	Algorithm string // of Digest
	Requests  int
	Via       string // what the proxy calls itself
	Proved    bool   // the proxy proved that it knows the password as well (Digest)
}

const (
	maxRequests = 8
	maxHeader   = 64 << 10
	maxBody     = 256 << 10 // of a refusal, which is read so that the connection can go on
	stepTime    = 15 * time.Second
)

// Target checks what is connected to: HOST:PORT, without anything that a request line could break over.
func Target(s string) error {
	host, port, err := net.SplitHostPort(s)
	n, err2 := strconv.ParseUint(port, 10, 16)
	if err != nil || err2 != nil || n == 0 || !regexp.MustCompile(`^[A-Za-z0-9._:-]{1,253}$`).MatchString(host) {
		return &ringfence.Fault{Op: "proxy", Kind: ringfence.KindInvalid, Text: fmt.Sprintf("%.80q cannot be connected to", s), Hint: "write HOST:PORT"}
	}
	return nil
}

// Connect opens a way to HOST:PORT. What the proxy said comes back with an error as well.
func (d *Dialer) Connect(ctx context.Context, target string) (net.Conn, Outcome, error) {
	if err := Target(target); err != nil {
		return nil, Outcome{}, err
	}
	if strings.ContainsFunc(d.Who.User+d.Who.Password+d.Who.Domain+d.Agent, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return nil, Outcome{}, &ringfence.Fault{Op: "proxy", Kind: ringfence.KindInvalid, Text: "a user or password with control characters is none that a proxy takes"}
	}
	a := &attempt{Dialer: d, ctx: ctx, target: target}
	stop := context.AfterFunc(ctx, a.interrupt)
	conn, err := a.run()
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		a.close()
		if ctx.Err() != nil {
			err = &ringfence.Fault{Op: "proxy", Kind: ringfence.KindTimeout, Text: "the proxy did not answer in time", Err: ctx.Err()}
		}
		return nil, a.out, err
	}
	_ = conn.SetDeadline(time.Time{})
	return conn, a.out, nil
}

// attempt is one Connect.
type attempt struct {
	*Dialer
	ctx    context.Context
	target string
	out    Outcome
	conn   *link
	mu     sync.Mutex // of conn against interrupt
	tried  map[Scheme]bool
	digest *digest
	stale  int
}

// link is a connection to the proxy with what was read of it and not used.
type link struct {
	net.Conn
	limit *io.LimitedReader
	r     *bufio.Reader
}

func (l *link) Read(b []byte) (int, error) {
	if n := l.r.Buffered(); n > 0 {
		return l.r.Read(b[:min(n, len(b))])
	}
	return l.Conn.Read(b)
}

// CloseWrite ends one direction, where the connection can.
func (l *link) CloseWrite() error {
	if c, ok := l.Conn.(interface{ CloseWrite() error }); ok {
		return c.CloseWrite()
	}
	return errors.ErrUnsupported
}

func (a *attempt) close() {
	if a.conn != nil {
		_ = a.conn.Close()
		a.use(nil)
	}
}

func (a *attempt) use(l *link) {
	a.mu.Lock()
	a.conn = l
	a.mu.Unlock()
}

func (a *attempt) interrupt() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.conn != nil {
		_ = a.conn.SetDeadline(time.Unix(1, 0))
	}
}

func (a *attempt) random(n int) ([]byte, error) {
	b, from := make([]byte, n), a.Random
	if from == nil {
		from = rand.Reader
	}
	_, err := io.ReadFull(from, b)
	return b, err
}

func (a *attempt) now() time.Time {
	if a.Now != nil {
		return a.Now()
	}
	return time.Now()
}

// run goes through schemes until the proxy lets us in, or has refused each that it offers and we have.
func (a *attempt) run() (net.Conn, error) {
	a.tried = map[Scheme]bool{}
	r, err := a.ask("")
	for {
		if err != nil {
			return nil, err
		}
		if r.StatusCode != http.StatusProxyAuthRequired {
			return a.end(r)
		}
		var challenges []Challenge
		if challenges, err = readable(r); err != nil {
			return nil, err
		}
		a.note(challenges)
		if c, ok := a.renewed(challenges); ok {
			r, err = a.askDigest(c)
			continue
		}
		scheme, c, err2 := a.choose(challenges)
		if err2 != nil {
			return nil, err2
		}
		a.tried[scheme], a.out.Used = true, scheme
		switch scheme {
		case Basic:
			r, err = a.ask("Basic " + base64.StdEncoding.EncodeToString([]byte(a.Who.User+":"+a.Who.Password)))
		case Digest:
			r, err = a.askDigest(c)
		case NTLM:
			r, err = a.askNTLM("NTLM")
		case Negotiate:
			r, err = a.askNegotiate()
		}
	}
}

// readable returns the challenges of a response, without fields that are broken unless all are.
func readable(r *http.Response) (all []Challenge, err error) {
	for _, f := range r.Header.Values("Proxy-Authenticate") {
		some, broken := ParseChallenges([]string{f})
		if err = errors.Join(err, broken); len(all)+len(some) <= maxChallenges {
			all = append(all, some...)
		}
	}
	if len(all) == 0 && err != nil {
		return nil, &ringfence.Fault{Op: "proxy", Kind: ringfence.KindInvalid, Text: "what the proxy wants cannot be read", Err: err}
	}
	return all, nil
}

// end is what a response means that wants no more proof.
func (a *attempt) end(r *http.Response) (net.Conn, error) {
	fault := func(kind ringfence.Kind, text, hint string) error {
		return &ringfence.Fault{Op: "proxy", Kind: kind, Text: fmt.Sprintf("the proxy answers %d to CONNECT %s: %s", r.StatusCode, a.target, text), Hint: hint}
	}
	switch code := r.StatusCode; {
	case code >= 200 && code < 300:
		if a.out.Used == "" {
			a.out.Used, a.out.Offered = None, append(a.out.Offered, None)
		}
		if a.digest != nil && a.out.Used == Digest {
			ok, err := a.digest.proved(r.Header.Get("Proxy-Authentication-Info"), a.target)
			if err != nil {
				return nil, err
			}
			a.out.Proved = ok
		}
		conn := a.conn
		return conn, nil
	case code == http.StatusForbidden, code == http.StatusMethodNotAllowed, code == http.StatusUnavailableForLegalReasons:
		return nil, fault(ringfence.KindDenied, "its rules do not let this through", "let the proxy allow CONNECT to this name and port")
	case code == http.StatusBadGateway, code == http.StatusServiceUnavailable, code == http.StatusNotFound:
		return nil, fault(ringfence.KindUnavailable, "it cannot reach that server", "can the proxy resolve the name, and does the firewall let it out?")
	case code == http.StatusGatewayTimeout:
		return nil, fault(ringfence.KindTimeout, "that server does not answer it", "does the firewall let the proxy out?")
	}
	return nil, fault(ringfence.KindUnsupported, "it does not take CONNECT", "is this a web proxy?")
}

// note remembers what is offered.
func (a *attempt) note(all []Challenge) {
	for _, c := range all {
		if s := Scheme(c.Scheme); slices.Contains(Schemes(), s) {
			if !slices.Contains(a.out.Offered, s) {
				a.out.Offered = append(a.out.Offered, s)
			}
		} else if !slices.Contains(a.out.Others, c.Scheme) && len(a.out.Others) < maxChallenges {
			a.out.Others = append(a.out.Others, c.Scheme)
		}
	}
}

// renewed finds the challenge of a proxy that only wants a fresh nonce (RFC 7616 section 3.3).
func (a *attempt) renewed(all []Challenge) (Challenge, bool) {
	if a.out.Used != Digest || a.stale >= 2 {
		return Challenge{}, false
	}
	for _, c := range all {
		if c.Scheme == string(Digest) && strings.EqualFold(c.Params["stale"], "true") {
			a.stale++
			return c, true
		}
	}
	return Challenge{}, false
}

// choose takes the best scheme that is offered, allowed and not refused yet.
func (a *attempt) choose(all []Challenge) (Scheme, Challenge, error) {
	var unsealed bool
	for _, s := range Schemes() {
		if a.tried[s] || a.Only != nil && !slices.Contains(a.Only, s) {
			continue
		}
		var best Challenge
		rank := -1
		for _, c := range all {
			r := 0
			if s == Digest {
				if _, _, r = algorithm(c.Params["algorithm"]); r == 0 {
					continue
				}
			}
			if c.Scheme == string(s) && r > rank {
				best, rank = c, r
			}
		}
		switch {
		case rank < 0:
		case a.Who.User == "" && (s != Negotiate || a.Who.Token == nil):
		case s == Basic && !a.Sealed && a.Only == nil:
			unsealed = true
		default:
			return s, best, nil
		}
	}
	offered := make([]string, 0, len(all))
	for _, c := range all {
		offered = append(offered, c.Scheme)
	}
	f := &ringfence.Fault{Op: "proxy", Kind: ringfence.KindUnauthenticated, Text: "the proxy wants to know who asks, by " + strings.Join(slices.Compact(offered), ", ")}
	switch {
	case unsealed:
		f.Kind, f.Hint = ringfence.KindInsecure, "Basic would tell the password to everybody on the way: use Digest, NTLM or Negotiate, a proxy with TLS, or allow basic by name"
	case len(a.tried) > 0:
		var tried []string
		for s := range a.tried {
			tried = append(tried, string(s))
		}
		slices.Sort(tried)
		f.Text, f.Hint = "the proxy does not accept these credentials by "+strings.Join(tried, ", "), "check user, password and domain; a proxy that is asked too often may lock an account"
	case a.Who.User == "" && a.Who.Token == nil:
		f.Hint = "give a user and a password"
	default:
		f.Hint = "none of these may be used here"
	}
	return "", Challenge{}, f
}

// ask sends one CONNECT, over the connection that there is or a new one.
func (a *attempt) ask(authorization string) (*http.Response, error) {
	kept := a.conn != nil
	r, err := a.send(authorization)
	if kept && ringfence.KindOf(err) == ringfence.KindUnavailable && !strings.Contains(authorization, ntlmThird) { // it was closed while nobody used it
		a.close()
		return a.send(authorization)
	}
	return r, err
}

// ntlmThird is how the third message begins in base64; it proves the connection over which the others went.
const ntlmThird = " TlRMTVNTUAAD"

func (a *attempt) send(authorization string) (*http.Response, error) {
	if a.out.Requests++; a.out.Requests > maxRequests {
		return nil, &ringfence.Fault{Op: "proxy", Kind: ringfence.KindInvalid, Text: fmt.Sprintf("the proxy is not satisfied after %d requests", maxRequests)}
	}
	if a.conn == nil {
		c, err := a.Dial(a.ctx)
		if err != nil {
			return nil, &ringfence.Fault{Op: "proxy", Kind: ringfence.KindUnavailable, Text: "the proxy cannot be reached", Hint: "check its address, and that the firewall lets hosts reach it", Err: err}
		}
		limit := &io.LimitedReader{R: c}
		a.use(&link{Conn: c, limit: limit, r: bufio.NewReaderSize(limit, 4096)})
	}
	_ = a.conn.SetDeadline(time.Now().Add(stepTime))
	if a.ctx.Err() != nil {
		a.interrupt()
	}
	var b strings.Builder
	fmt.Fprintf(&b, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n", a.target, a.target)
	if a.Agent != "" {
		fmt.Fprintf(&b, "User-Agent: %s\r\n", a.Agent)
	}
	if authorization != "" {
		fmt.Fprintf(&b, "Proxy-Authorization: %s\r\n", authorization)
	}
	b.WriteString("\r\n")
	a.conn.limit.N = maxHeader
	if _, err := io.WriteString(a.conn.Conn, b.String()); err != nil {
		return nil, a.broken(err)
	}
	for range 5 { // interim responses (RFC 9110 section 15.2)
		r, err := http.ReadResponse(a.conn.r, &http.Request{Method: http.MethodConnect})
		if err != nil {
			return nil, a.broken(err)
		}
		if r.StatusCode < 200 && r.StatusCode != http.StatusSwitchingProtocols {
			continue
		}
		a.out.Status = r.StatusCode
		if a.out.Via = r.Header.Get("Via"); a.out.Via == "" {
			a.out.Via = r.Header.Get("Server")
		}
		if r.StatusCode >= 300 {
			a.rest(r)
		}
		return r, nil
	}
	return nil, a.broken(errors.New("too many interim responses"))
}

// broken says why there was no response.
func (a *attempt) broken(err error) error {
	kind, text, hint := ringfence.KindUnavailable, "the proxy ended the connection", ""
	var slow net.Error
	switch {
	case errors.As(err, &slow) && slow.Timeout():
		kind, text, hint = ringfence.KindTimeout, "the proxy does not answer", "is a web proxy at this address and port?"
	case a.conn.limit.N <= 0:
		kind, text = ringfence.KindInvalid, "the proxy's answer is too long"
	case !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.As(err, new(*net.OpError)):
		kind, text, hint = ringfence.KindInvalid, "what answers is no web proxy", "check the port"
	}
	return &ringfence.Fault{Op: "proxy", Kind: kind, Text: text, Hint: hint, Err: err}
}

// rest reads the body of a refusal, so that the connection can be used again; where it cannot, it is closed.
func (a *attempt) rest(r *http.Response) {
	if r.Close || r.ContentLength < 0 && len(r.TransferEncoding) == 0 || r.ContentLength >= maxBody {
		a.close()
		return
	}
	a.conn.limit.N = maxBody
	if n, err := io.Copy(io.Discard, io.LimitReader(r.Body, maxBody)); err != nil || n >= maxBody {
		a.close()
	}
}

func (a *attempt) askDigest(c Challenge) (*http.Response, error) {
	raw, err := a.random(16)
	if err != nil {
		return nil, err
	}
	if a.digest, err = newDigest(c, a.Who.User, a.Who.Password, hex.EncodeToString(raw)); err != nil {
		return nil, err
	}
	if a.out.Algorithm = c.Params["algorithm"]; a.out.Algorithm == "" {
		a.out.Algorithm = "MD5"
	}
	return a.ask(a.digest.answer(http.MethodConnect, a.target))
}

// askNTLM makes the exchange of three messages, all over one connection. The name is NTLM or Negotiate.
func (a *attempt) askNTLM(name string) (*http.Response, error) {
	first := ntlmNegotiate()
	r, err := a.ask(name + " " + base64.StdEncoding.EncodeToString(first))
	if err != nil || r.StatusCode != http.StatusProxyAuthRequired {
		return r, err
	}
	all, err := readable(r)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(all, func(c Challenge) bool { return c.Scheme == strings.ToLower(name) && c.Token != "" })
	if i < 0 {
		return r, nil // refused: another scheme may do
	}
	second, err := base64.StdEncoding.DecodeString(all[i].Token)
	if err != nil {
		return nil, &ringfence.Fault{Op: "proxy.ntlm", Kind: ringfence.KindInvalid, Text: "the proxy's NTLM message is no base64"}
	}
	c, err := ParseNTLMChallenge(second)
	if err != nil {
		return nil, err
	}
	if a.conn == nil {
		return nil, &ringfence.Fault{Op: "proxy.ntlm", Kind: ringfence.KindUnsupported, Text: "the proxy closes the connection in the middle of NTLM, which proves a connection", Hint: "a machine before the proxy may take connections apart"}
	}
	var client [8]byte
	raw, err := a.random(8)
	if err != nil {
		return nil, err
	}
	copy(client[:], raw)
	user, domain := a.Who.User, a.Who.Domain
	if d, u, ok := strings.Cut(user, `\`); ok && domain == "" {
		user, domain = u, d
	}
	third := ntlmAuthenticate(first, second, c, user, a.Who.Password, domain, "", client, a.now())
	return a.ask(name + " " + base64.StdEncoding.EncodeToString(third))
}

func (a *attempt) askNegotiate() (*http.Response, error) {
	if a.Who.Token == nil {
		return a.askNTLM("Negotiate")
	}
	token, err := a.Who.Token(a.ctx, "HTTP/"+a.Name)
	if err != nil {
		return nil, err
	}
	return a.ask("Negotiate " + base64.StdEncoding.EncodeToString(token))
}
