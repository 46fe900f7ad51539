package resync

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"ringfence"
	"ringfence/internal/desk/flatprofile"
	"ringfence/internal/desk/profilerule"
	"ringfence/internal/sip"
)

// Limits of a fetch.
const (
	maxAddresses = 8
	maxHops      = 3 // redirections
	patience     = 20 * time.Second
	maxHeader    = 64 << 10
	maxBody      = flatprofile.MaxSize + 64<<10
)

// answer is what a server sent.
type answer struct {
	body    []byte
	codings []string
	from    string
	at      *url.URL
	tls     *tls.ConnectionState
}

func bad(format string, args ...any) error {
	return &ringfence.Fault{Op: "resync", Kind: ringfence.KindInvalid, Text: fmt.Sprintf(format, args...)}
}

// address reads where a rule leads: https alone is fetched, whoever says otherwise.
func address(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Scheme != "" && u.Host == "":
		return nil, bad("%.80q is no address", text)
	case !strings.EqualFold(u.Scheme, "https"):
		scheme := strings.ToLower(u.Scheme)
		if scheme == "" {
			scheme = "tftp"
		}
		return nil, &ringfence.Fault{Op: "resync", Kind: ringfence.KindInsecure, Text: fmt.Sprintf("%.80s is not fetched: %s is in the clear, and nobody proves who answers", text, scheme), Hint: "serve it by https"}
	case u.User != nil:
		return nil, bad("the address has a user in it: write [--uid USER --pwd PASSWORD] before it")
	}
	u.Scheme, u.Fragment = "https", ""
	return u, nil
}

// fetch gets one file: at each address of its server in turn, until one answers; note hears of each attempt.
func (p *Phone) fetch(ctx context.Context, t profilerule.Target, c *circumstances, note func()) (answer, error) {
	u, err := address(t.URL)
	for hop := 0; err == nil; hop++ {
		c.at, c.server, c.via = u, netip.AddrPort{}, ""
		if err := c.set.Permit(u.Hostname()); err != nil {
			return answer{}, err
		}
		var a answer
		var to string
		if a, to, err = p.one(ctx, u, t, c, note); err != nil || to == "" {
			return a, err
		}
		if hop == maxHops {
			return answer{}, bad("the server redirects more than %d times", maxHops)
		}
		next, bad := u.Parse(to)
		if bad != nil {
			return answer{}, &ringfence.Fault{Op: "resync", Kind: ringfence.KindInvalid, Text: "the server redirects to what is no address", Err: bad}
		}
		if next.Host != u.Host { // the password is for the server that the rule names
			t.UID, t.PWD = "", ""
		}
		u, err = address(next.String())
	}
	return answer{}, err
}

// one gets a file from the addresses of one name.
func (p *Phone) one(ctx context.Context, u *url.URL, t profilerule.Target, c *circumstances, note func()) (answer, string, error) {
	port := uint64(443)
	if text := u.Port(); text != "" {
		var err error
		if port, err = strconv.ParseUint(text, 10, 16); err != nil || port == 0 {
			return answer{}, "", bad("%s is no port", text)
		}
	}
	if p.Proxy != nil {
		if proxied, a, to, err := p.byProxy(ctx, u, uint16(port), t, c, note); proxied {
			return a, to, err
		}
	}
	found, err := p.Lookup(ctx, u.Hostname())
	if err != nil || len(found) == 0 {
		return answer{}, "", &ringfence.Fault{Op: "resync", Kind: ringfence.KindUnavailable, Text: "there is no A record of " + u.Hostname(), Err: err}
	}
	var worst error
	for i, addr := range found {
		if i == maxAddresses || ctx.Err() != nil {
			break
		}
		c.server = netip.AddrPortFrom(addr, uint16(port))
		note()
		a, to, err := p.get(ctx, u, c, t, func(ctx context.Context) (net.Conn, error) { return p.Dial(ctx, c.server) })
		if err == nil {
			return a, to, nil
		}
		if answered := new(statusError); errors.As(err, &answered) { // an answer, though no file: the others have none either
			return answer{}, "", err
		}
		if ringfence.KindOf(worst) != ringfence.KindInsecure { // a false name tells more than a dead host
			worst = err
		}
	}
	return answer{}, "", worst
}

// byProxy gets a file by the web proxy, if the way leads there: the proxy finds the server, and TLS goes through it to the server itself.
func (p *Phone) byProxy(ctx context.Context, u *url.URL, port uint16, t profilerule.Target, c *circumstances, note func()) (proxied bool, a answer, to string, err error) {
	conn, via, err := p.Proxy(ctx, u.Hostname(), port)
	if err == nil && conn == nil {
		return false, answer{}, "", nil
	}
	c.via = via
	note()
	if err != nil {
		return true, answer{}, "", err
	}
	a, to, err = p.get(ctx, u, c, t, func(ctx context.Context) (net.Conn, error) {
		if first := conn; first != nil {
			conn = nil
			return first, nil
		}
		again, _, err := p.Proxy(ctx, u.Hostname(), port)
		if err == nil && again == nil {
			err = bad("the way by the proxy is gone")
		}
		return again, err
	})
	if conn != nil { // nobody used it
		_ = conn.Close()
	}
	return true, a, to, err
}

// statusError is an answer without a file.
type statusError struct{ status int }

func (e *statusError) Error() string {
	return fmt.Sprintf("the server answered %d %s", e.status, http.StatusText(e.status))
}

// get asks one server over what dial opens. It returns where the server redirects to, if it does.
func (p *Phone) get(ctx context.Context, u *url.URL, c *circumstances, t profilerule.Target, dial func(context.Context) (net.Conn, error)) (answer, string, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	conf := p.verified(ctx, u.Hostname(), c.server.Addr())
	var state *tls.ConnectionState
	rt := &http.Transport{DisableCompression: true, MaxResponseHeaderBytes: maxHeader, DisableKeepAlives: t.UID == "", MaxConnsPerHost: 1, DialTLSContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		raw, err := dial(ctx)
		if err != nil {
			return nil, err
		}
		sealed := tls.Client(raw, conf)
		if err := sealed.HandshakeContext(ctx); err != nil {
			_ = raw.Close()
			return nil, err
		}
		cs := sealed.ConnectionState()
		state = &cs
		return sealed, nil
	}}
	defer rt.CloseIdleConnections()
	authorization := ""
	for try := 0; ; try++ {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
		if err != nil {
			return answer{}, "", bad("%v", err)
		}
		req.Header.Set("User-Agent", p.agent())
		req.Header.Set("Accept-Encoding", "gzip, aes128gcm")
		if authorization != "" {
			req.Header.Set("Authorization", authorization)
		}
		resp, err := rt.RoundTrip(req)
		if err != nil {
			kind := ringfence.KindUnavailable
			if ringfence.KindOf(err) == ringfence.KindInsecure {
				kind = ringfence.KindInsecure
			}
			return answer{}, "", &ringfence.Fault{Op: "resync", Kind: kind, Text: fmt.Sprintf("nothing came from %s", c.by()), Err: err, Hint: ringfence.HintOf(err)}
		}
		body, err := io.ReadAll(io.LimitReader(resp.Body, maxBody+1))
		_ = resp.Body.Close()
		switch {
		case resp.StatusCode == http.StatusUnauthorized && t.UID != "" && try == 0:
			if authorization, err = authorize(resp.Header.Values("WWW-Authenticate"), u, t); err != nil {
				return answer{}, "", err
			}
			continue
		case resp.StatusCode >= 300 && resp.StatusCode < 400 && resp.Header.Get("Location") != "":
			return answer{}, resp.Header.Get("Location"), nil
		case resp.StatusCode != http.StatusOK:
			return answer{}, "", &ringfence.Fault{Op: "resync", Kind: statusKind(resp.StatusCode), Text: u.Redacted() + " is not to be had", Err: &statusError{resp.StatusCode}}
		case err != nil:
			return answer{}, "", &ringfence.Fault{Op: "resync", Kind: ringfence.KindUnavailable, Text: fmt.Sprintf("%s broke off", c.by()), Err: err}
		case len(body) > maxBody:
			return answer{}, "", bad("the file is larger than 10 MiB")
		}
		var codings []string
		for _, v := range resp.Header.Values("Content-Encoding") {
			codings = append(codings, strings.Split(v, ",")...)
		}
		return answer{body: body, codings: codings, from: c.by(), at: u, tls: state}, "", nil
	}
}

func statusKind(status int) ringfence.Kind {
	switch status {
	case http.StatusNotFound, http.StatusGone:
		return ringfence.KindNotFound
	case http.StatusUnauthorized:
		return ringfence.KindUnauthenticated
	case http.StatusForbidden:
		return ringfence.KindDenied
	}
	return ringfence.KindUnavailable
}

// authorize answers a challenge of the server: by digest if it offers that, else by Basic, which TLS covers.
func authorize(challenges []string, u *url.URL, t profilerule.Target) (string, error) {
	var best sip.Challenge
	digest, basic := false, false
	for _, v := range challenges {
		if len(v) > 4096 {
			continue
		}
		if c, err := sip.ParseChallenge([]byte(v)); err == nil && (!digest || c.Algorithm > best.Algorithm) {
			best, digest = c, true
		}
		scheme, _, _ := strings.Cut(v, " ")
		basic = basic || strings.EqualFold(scheme, "Basic")
	}
	switch {
	case digest:
		return best.Authorize(sip.Answer{Username: t.UID, Password: t.PWD, Method: http.MethodGet, URI: u.RequestURI(), CNonce: rand.Text(), NC: 1}), nil
	case basic:
		req := http.Request{Header: http.Header{}}
		req.SetBasicAuth(t.UID, t.PWD)
		return req.Header.Get("Authorization"), nil
	}
	return "", &ringfence.Fault{Op: "resync", Kind: ringfence.KindUnsupported, Text: "the server asks for a way to sign in that is neither Digest nor Basic"}
}

// agent is the User-Agent: servers read the serial number of a phone without a certificate of its own there.
func (p *Phone) agent() string {
	d := p.Device
	return fmt.Sprintf("%s/%s (%s)(%s)", clean(d.Product, "Ringfence"), clean(d.SWVer, "0"), clean(strings.ToLower(d.MAC), "-"), clean(d.Serial, "-"))
}

// clean makes a word of a header field.
func clean(s, otherwise string) string {
	s = strings.Map(func(r rune) rune {
		if r > ' ' && r < 0x7f && r != '(' && r != ')' {
			return r
		}
		return -1
	}, s)
	if s == "" {
		return otherwise
	}
	return s
}
