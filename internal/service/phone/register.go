package phone

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"fmt"
	mrand "math/rand/v2"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"ringfence"
	"ringfence/internal/sip"
	"ringfence/internal/sip/transaction"
	"ringfence/internal/sip/transport"
)

// State says where a phone stands with its server.
type State uint8

// The states of a registration.
const (
	Offline     State = iota // no connection; the next attempt comes by itself unless the phone was closed
	Connecting               // the connection is being opened and verified
	Registering              // REGISTER was sent
	Registered
	Failed // the server refused; the next attempt comes by itself
)

// String returns the state in a word, e.g. "registered".
func (s State) String() string {
	return [...]string{"offline", "connecting", "registering", "registered", "failed"}[min(s, Failed)]
}

// Registration is a phone's standing with its server at one moment.
type Registration struct {
	State   State
	Expires time.Time      // of the binding, if Registered
	Auth    ringfence.Auth // how the phone proved who it is, if Registered
	Err     error          // why it is not, or why the last connection was lost
	Retry   time.Duration  // until the next attempt, if Offline or Failed
}

// Registration returns where the phone stands.
func (p *Phone) Registration() Registration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.reg
}

// Registered reports whether the server has a binding for the phone over its present connection.
func (p *Phone) Registered() bool { return p.Registration().State == Registered }

// WaitRegistration waits until f is true of the registration, or ctx ends.
func (p *Phone) WaitRegistration(ctx context.Context, f func(Registration) bool) error {
	for {
		p.mu.Lock()
		reg, changed := p.reg, p.changed
		p.mu.Unlock()
		if f(reg) {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return &ringfence.Fault{Op: "phone.register", Kind: ringfence.KindTimeout, Text: "the phone is still " + reg.State.String(), Err: ctx.Err()}
		}
	}
}

func (p *Phone) firstAttempt(ctx context.Context) error {
	var last Registration
	err := p.WaitRegistration(ctx, func(r Registration) bool { last = r; return r.State == Registered || r.Err != nil })
	if err == nil && last.State != Registered {
		return last.Err
	}
	return err
}

func (p *Phone) setRegistration(r Registration) {
	p.mu.Lock()
	same := p.reg == r
	p.reg = r
	if !same {
		close(p.changed)
		p.changed = make(chan struct{})
	}
	p.mu.Unlock()
	if !same {
		p.emit(Event{Kind: RegistrationChanged, Registration: r})
	}
}

// connect opens a new connection. It runs on the home shard, as everything below.
func (p *Phone) connect() {
	if p.stopping {
		return
	}
	p.attempt++
	attempt := p.attempt
	p.setRegistration(Registration{State: Connecting})
	opened := func(*transport.Conn) { p.home.Post(func() { p.connected(attempt) }) }
	var conn *transport.Conn
	switch p.cfg.Plain {
	case "UDP":
		p.connectUDP(attempt)
		return
	case "TCP":
		conn = p.stack.conns.DialPlain(p.ctx, p.cfg.Flow, func(ctx context.Context) ([]transport.Candidate, error) { return p.candidates(ctx, nil) }, opened)
	default:
		conf := p.cfg.TLS.Clone()
		if conf.ServerName = p.cfg.ServerName; p.cfg.AnyName {
			conf.ServerName = ""
		}
		conf.MinVersion = max(conf.MinVersion, tls.VersionTLS12)
		conn = p.stack.conns.DialFirst(p.ctx, p.cfg.Flow, func(ctx context.Context) ([]transport.Candidate, error) { return p.candidates(ctx, conf) }, opened)
	}
	p.mu.Lock()
	p.conn, p.proof = conn, nil
	p.mu.Unlock()
	p.stack.bind(conn, p)
	if conn.State() == "Closed" { // it failed before we could hear of it
		p.stack.Closed(conn, conn.Cause())
	}
}

// connectUDP finds the server and listens for it. It runs on the home shard; finding takes a goroutine.
func (p *Phone) connectUDP(attempt int) {
	p.mu.Lock()
	p.conn, p.proof = nil, nil
	p.mu.Unlock()
	p.spawn(func() {
		conn, err := p.peer()
		p.home.Post(func() {
			switch {
			case attempt != p.attempt || p.stopping:
			case err != nil:
				p.lost(nil, err)
			default:
				p.mu.Lock()
				p.conn = conn
				p.mu.Unlock()
				p.stack.bind(conn, p)
				p.connected(attempt)
			}
		})
	})
}

// peer is the way to the first server, over the one socket of the phone.
func (p *Phone) peer() (*transport.Conn, error) {
	found, err := p.candidates(p.ctx, nil)
	if err == nil && len(found) == 0 {
		err = &ringfence.Fault{Op: "phone.connect", Kind: ringfence.KindUnavailable, Text: "there is no server"}
	}
	if err != nil {
		return nil, err
	}
	if conn := p.stack.conns.PeerUDP(p.cfg.Flow, found[0].Addr); conn != nil {
		return conn, nil
	}
	if _, err := p.stack.conns.ListenUDP(p.ctx, p.cfg.Flow, netip.AddrPortFrom(p.cfg.MediaAddr, p.cfg.SIPPort)); err != nil {
		return nil, &ringfence.Fault{Op: "phone.connect", Kind: ringfence.KindUnavailable, Text: "the phone cannot listen for SIP over UDP", Err: err}
	}
	conn := p.stack.conns.PeerUDP(p.cfg.Flow, found[0].Addr)
	if conn == nil {
		return nil, &ringfence.Fault{Op: "phone.connect", Kind: ringfence.KindUnavailable, Text: "the phone is closed"}
	}
	return conn, nil
}

// candidates are the servers to try, best first. It runs on a goroutine of the connection.
func (p *Phone) candidates(ctx context.Context, conf *tls.Config) ([]transport.Candidate, error) {
	if p.cfg.Server.IsValid() {
		return []transport.Candidate{{Addr: p.cfg.Server, TLS: conf}}, nil
	}
	servers, err := p.cfg.Servers.Find(ctx)
	out := make([]transport.Candidate, len(servers))
	named, _ := p.cfg.Servers.(NamedServers)
	for i, at := range servers {
		conf := conf
		if named != nil && conf != nil && !p.cfg.AnyName {
			conf = conf.Clone()
			conf.ServerName = named.NameOf(at)
		}
		out[i] = transport.Candidate{Addr: at, TLS: conf, Failed: func(error) { p.cfg.Servers.Avoid(at, avoidFor) }}
	}
	p.mu.Lock()
	p.choices = len(servers)
	p.mu.Unlock()
	return out, err
}

// avoidFor is how long a server that failed comes last, unless it says longer.
const avoidFor = time.Minute

// leave makes the present server the last choice and goes to another one at once (RFC 3263 section 4.3), if there is one that was
// not tried yet since the phone was registered last.
func (p *Phone) leave(conn *transport.Conn, wait time.Duration, cause error) bool {
	p.mu.Lock()
	choices := p.choices
	p.mu.Unlock()
	if p.moves >= choices-1 {
		return false
	}
	p.moves++
	p.moving = true
	p.cfg.Servers.Avoid(conn.Remote, max(wait, avoidFor))
	conn.Close(cause)
	return true
}

// Reconnect has the phone look for its best server again, and register there. It does nothing while there are calls.
func (p *Phone) Reconnect() {
	p.home.Do(func() {
		conn := p.currentConn()
		if p.stopping || conn == nil || len(p.Calls()) > 0 || !p.Registered() {
			return
		}
		p.moving = true
		p.moves = 0
		conn.Close(nil)
	})
}

// Retry registers at once if the last attempt failed on a connection that is up, as when there was no access token.
func (p *Phone) Retry() {
	p.home.Do(func() {
		if p.stopping || p.currentConn() == nil || p.Registration().State != Failed {
			return
		}
		p.refresh.Stop()
		p.answered = 0
		p.sendRegister()
	})
}

func (p *Phone) connected(attempt int) {
	conn := p.currentConn()
	if p.stopping || attempt != p.attempt || conn == nil {
		return
	}
	p.mu.Lock()
	p.contact = "<sip:" + escapeUser(p.cfg.User) + "@" + conn.Local.String() + ";transport=" + strings.ToLower(conn.Network) + ";ob>"
	p.mu.Unlock()
	p.requested, p.answered = p.cfg.Expires, 0
	p.agreement.Reset()
	p.setRegistration(Registration{State: Registering})
	p.sendRegister()
}

// lost hears that a connection ended.
func (p *Phone) lost(conn *transport.Conn, cause error) {
	if conn != p.currentConn() {
		return
	}
	p.mu.Lock()
	p.conn, p.proof = nil, nil
	p.mu.Unlock()
	p.keep.Stop()
	p.refresh.Stop()
	if p.stopping {
		return
	}
	if p.moving {
		p.moving = false
		p.connect()
		return
	}
	p.moves = 0
	fault := &ringfence.Fault{Op: "phone.connect", Kind: ringfence.KindUnavailable, Text: "the connection to the server was lost", Err: cause}
	if text, hint, ok := tlsCause(cause); ok {
		fault.Kind, fault.Text, fault.Hint = ringfence.KindInsecure, text, hint
	}
	wait := p.backOff(0)
	p.log.Info("phone offline", "phone", p.cfg.User, "cause", cause, "retry", wait)
	p.setRegistration(Registration{State: Offline, Err: fault, Retry: wait})
	p.home.After(&p.refresh, wait, p.connect)
}

// backOff returns the next wait, at least floor, doubled with each failure in a row and spread so that many phones do not
// come back at once (RFC 5626 section 4.5).
func (p *Phone) backOff(floor time.Duration) time.Duration {
	d := p.cfg.RetryMin << min(p.failures, 16)
	p.failures++
	d = min(d, p.cfg.RetryMax)
	return max(spread(d, 0.5, 1), floor)
}

// spread returns a random duration between lo and hi times d.
func spread(d time.Duration, lo, hi float64) time.Duration {
	return time.Duration((lo + mrand.Float64()*(hi-lo)) * float64(d))
}

func (p *Phone) contactNow() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.contact
}

func (p *Phone) registrar() string { return "sip:" + p.cfg.Domain }

// sendRegister registers, with a token if the phone has such.
func (p *Phone) sendRegister() { p.withToken(p.register) }

func (p *Phone) register() {
	conn := p.currentConn()
	if conn == nil {
		return
	}
	p.regSeq++
	seq, attempt, expires := p.regSeq, p.attempt, p.requested
	p.home.Request(conn, sip.REGISTER, func(w *sip.Writer, via string) {
		w.RequestLine(sip.REGISTER, p.registrar())
		w.Header(sip.HeaderVia, via)
		w.Uint(sip.HeaderMaxForwards, 70)
		w.Header(sip.HeaderFrom, p.nameAddr()+";tag="+p.regTag)
		w.Header(sip.HeaderTo, p.nameAddr())
		w.Header(sip.HeaderCallID, p.regCallID)
		w.CSeq(seq, sip.REGISTER)
		w.Header(sip.HeaderContact, p.contactNow()+`;+sip.instance="<`+p.cfg.Instance+`>";reg-id=1`)
		w.Uint(sip.HeaderExpires, uint64(expires/time.Second))
		w.Header(sip.HeaderSupported, "path, outbound")
		w.Header(sip.HeaderAllow, allow)
		w.Header(sip.HeaderUserAgent, p.stack.cfg.UserAgent)
		p.authorize(w, sip.REGISTER, p.registrar())
		p.agreement.Write(w, sip.REGISTER)
		w.Body("", nil)
	}, func(a transaction.Answer) {
		if attempt == p.attempt && !p.stopping {
			p.registerAnswered(conn, a)
		}
	})
}

func (p *Phone) registerAnswered(conn *transport.Conn, a transaction.Answer) {
	status := a.Status()
	again := a.Message != nil && p.agreement.Heard(a.Message)
	switch {
	case status < 200:
	case again:
		p.sendRegister()
	case a.Message == nil && ringfence.KindOf(a.Err) == ringfence.KindTimeout:
		if !p.leave(conn, 0, a.Err) {
			conn.Close(a.Err) // the flow is dead; lost() goes on from there
		}
	case a.Message == nil: // lost() hears of it
	case status < 300:
		p.registered(conn, a.Message)
	case (status == 401 || status == 407) && (p.tokenRefused(a.Message) || p.challenged(a.Message, &p.answered)):
		p.sendRegister()
	case status == 423 && p.raiseExpires(a.Message):
		p.sendRegister()
	default:
		floor := time.Duration(0)
		if n, ok := a.Uint(sip.HeaderRetryAfter, 86400); ok {
			floor = time.Duration(n) * time.Second
		}
		err := refusal("phone.register", "the server refused the registration", a.Message)
		if status == 503 && p.leave(conn, floor, err) {
			return
		}
		wait := p.backOff(floor)
		p.log.Info("registration refused", "phone", p.cfg.User, "status", status, "retry", wait)
		p.setRegistration(Registration{State: Failed, Err: err, Retry: wait})
		p.home.After(&p.refresh, wait, func() { p.answered = 0; p.sendRegister() })
	}
}

func (p *Phone) raiseExpires(m *sip.Message) bool {
	n, ok := m.Uint(sip.HeaderMinExpires, 86400)
	d := time.Duration(n) * time.Second
	if !ok || d <= p.requested {
		return false
	}
	p.requested = d
	return true
}

func (p *Phone) registered(conn *transport.Conn, m *sip.Message) {
	granted := p.granted(m)
	if granted <= 0 {
		err := &ringfence.Fault{Op: "phone.register", Kind: ringfence.KindUnavailable, Text: "the server accepted the registration without keeping it"}
		wait := p.backOff(0)
		p.setRegistration(Registration{State: Failed, Err: err, Retry: wait})
		p.home.After(&p.refresh, wait, p.sendRegister)
		return
	}
	p.failures, p.answered, p.flowTimer, p.moves = 0, 0, 0, 0
	if n, ok := m.Uint(sip.HeaderFlowTimer, 3600); ok && n > 0 {
		p.flowTimer = time.Duration(n) * time.Second
	}
	var routes []string
	for line := range m.All(sip.HeaderServiceRoute) {
		for v := range sip.Values(line) {
			routes = append(routes, string(v))
		}
	}
	p.mu.Lock()
	p.routes, p.proof = routes, conn.TLS
	auth := p.provenBy()
	p.mu.Unlock()
	p.setRegistration(Registration{State: Registered, Expires: time.Now().Add(granted), Auth: auth})
	p.home.After(&p.refresh, spread(granted, 0.7, 0.9), p.sendRegister)
	if !p.keep.Active() {
		p.scheduleKeepAlive(0)
	}
	if p.bound != p.attempt { // subscriptions follow the phone to its new flow
		p.bound = p.attempt
		for _, s := range p.outSubs {
			s.send()
		}
	}
}

// provenBy says how the phone authenticated. p.mu is held.
func (p *Phone) provenBy() ringfence.Auth {
	switch {
	case p.token != "":
		return ringfence.AuthToken
	case p.chal.ok && p.chal.c.Algorithm == sip.DigestMD5:
		return ringfence.AuthDigestMD5
	case p.chal.ok:
		return ringfence.AuthDigestSHA256
	case p.cfg.Plain == "" && len(p.cfg.TLS.Certificates) > 0 || p.cfg.Plain == "" && p.cfg.TLS.GetClientCertificate != nil:
		return ringfence.AuthCertificate
	}
	return ringfence.AuthNone
}

// granted returns how long the server keeps our binding: the expires parameter of our Contact, else Expires, else what we
// asked for (RFC 3261 section 10.2.4).
func (p *Phone) granted(m *sip.Message) time.Duration {
	d := p.requested
	if n, ok := m.Uint(sip.HeaderExpires, 1<<31); ok {
		d = time.Duration(n) * time.Second
	}
	for line := range m.All(sip.HeaderContact) {
		for v := range sip.Values(line) {
			a, err := sip.ParseNameAddr(v)
			if err != nil {
				continue
			}
			instance, ok := a.Params.Get("+sip.instance")
			if ok && string(instance) != "<"+p.cfg.Instance+">" || !ok && !strings.HasPrefix(p.contactNow(), "<"+a.URI.String()) {
				continue
			}
			if e, ok := a.Params.Get("expires"); ok {
				if n, err := strconv.ParseUint(string(e), 10, 31); err == nil {
					d = time.Duration(n) * time.Second
				}
			}
		}
	}
	return d
}

// unregister takes the binding back and calls done when that is over.
func (p *Phone) unregister(done func()) {
	p.keep.Stop()
	p.refresh.Stop()
	if p.stopping || p.currentConn() == nil || !p.Registered() {
		done()
		return
	}
	p.attempt++ // whatever is still under way is not heard any more
	p.stopping = true
	p.requested = 0
	conn, seq := p.currentConn(), p.regSeq+1
	p.regSeq = seq
	p.home.Request(conn, sip.REGISTER, func(w *sip.Writer, via string) {
		w.RequestLine(sip.REGISTER, p.registrar())
		w.Header(sip.HeaderVia, via)
		w.Uint(sip.HeaderMaxForwards, 70)
		w.Header(sip.HeaderFrom, p.nameAddr()+";tag="+p.regTag)
		w.Header(sip.HeaderTo, p.nameAddr())
		w.Header(sip.HeaderCallID, p.regCallID)
		w.CSeq(seq, sip.REGISTER)
		w.Header(sip.HeaderContact, p.contactNow()+`;+sip.instance="<`+p.cfg.Instance+`>";reg-id=1`)
		w.Uint(sip.HeaderExpires, 0)
		w.Header(sip.HeaderUserAgent, p.stack.cfg.UserAgent)
		p.authorize(w, sip.REGISTER, p.registrar())
		p.agreement.Write(w, sip.REGISTER)
		w.Body("", nil)
	}, func(a transaction.Answer) {
		if a.Status() >= 200 {
			done()
		}
	})
}

// pongTimeout is how long a keep-alive may stay unanswered (RFC 5626 section 4.4.1).
const pongTimeout = 10 * time.Second

// scheduleKeepAlive sets the next ping; passed is the time since the last one.
func (p *Phone) scheduleKeepAlive(passed time.Duration) {
	interval := p.cfg.KeepAlive
	if p.flowTimer > 0 {
		interval = min(interval, p.flowTimer)
	}
	p.home.After(&p.keep, max(spread(interval, 0.8, 1)-passed, 0), p.ping)
}

// ping sends a double CRLF, which the server answers with one (RFC 5626 section 3.5.1).
func (p *Phone) ping() {
	conn := p.currentConn()
	if conn == nil || p.stopping {
		return
	}
	p.pinged = time.Now()
	p.home.Send(conn, []byte("\r\n\r\n"))
	if !conn.Reliable() { // it holds the binding of a NAT, and nobody answers it
		p.scheduleKeepAlive(0)
		return
	}
	p.home.After(&p.keep, pongTimeout, func() {
		if conn.LastRead().Before(p.pinged.Add(-time.Millisecond)) {
			conn.Close(&ringfence.Fault{Op: "phone.keepalive", Kind: ringfence.KindTimeout,
				Text: fmt.Sprintf("the server answered no keep-alive for %v", pongTimeout)})
			return
		}
		p.scheduleKeepAlive(pongTimeout)
	})
}

// challenge is the digest challenge the phone answers now, for every request until the server sends another.
type challenge struct {
	c    sip.Challenge
	with sip.HeaderID // the field that carries the answer
	nc   uint32
	ok   bool
}

// challenged takes the challenge of a 401 or 407 and reports whether to send the request again. tries counts how often that
// was done for this request: a challenge that is no more than the one we just answered means a wrong password.
func (p *Phone) challenged(m *sip.Message, tries *int) bool {
	if p.cfg.Password == "" || *tries >= 3 {
		return false
	}
	floor := sip.DigestSHA256
	if p.cfg.AllowMD5 {
		floor = sip.DigestMD5
	}
	field, with := sip.HeaderWWWAuthenticate, sip.HeaderAuthorization
	if m.Status() == 407 {
		field, with = sip.HeaderProxyAuthenticate, sip.HeaderProxyAuthorization
	}
	c, ok := m.StrongestChallenge(field, floor)
	if !ok || *tries > 0 && !c.Stale {
		return false
	}
	*tries++
	p.mu.Lock()
	p.chal = challenge{c: c, with: with, ok: true}
	p.mu.Unlock()
	return true
}

// authorize answers the challenge in hand, if there is one. A token is for the server that keeps the registration and for nobody behind
// it, so it goes into REGISTER alone.
func (p *Phone) authorize(w *sip.Writer, method sip.Method, uri string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.token != "" && method == sip.REGISTER {
		w.Header(p.tokenIn, "Bearer "+p.token)
		return
	}
	if !p.chal.ok {
		return
	}
	p.chal.nc++
	var cnonce [12]byte
	_, _ = rand.Read(cnonce[:])
	w.Header(p.chal.with, p.chal.c.Authorize(sip.Answer{Username: p.cfg.AuthUser, Password: p.cfg.Password,
		Method: method.String(), URI: uri, CNonce: hex.EncodeToString(cnonce[:]), NC: p.chal.nc}))
}

// Tokens gives a phone the access tokens that it registers with (RFC 8898).
type Tokens interface {
	// Token returns an access token that is good now. If the server did not take one, refused is that one, and another is wanted. It may
	// ask a server, and is called on a goroutine of its own.
	Token(ctx context.Context, refused string) (string, error)
}

const (
	tokenPatience = 30 * time.Second
	maxToken      = 4096 // bytes
)

// withToken goes on once there is an access token, on the home shard.
func (p *Phone) withToken(then func()) {
	if p.cfg.Tokens == nil {
		then()
		return
	}
	if p.stopping {
		return
	}
	attempt, refused := p.attempt, p.refused
	p.wg.Go(func() {
		ctx, cancel := context.WithTimeout(p.ctx, tokenPatience)
		defer cancel()
		text, err := p.cfg.Tokens.Token(ctx, refused)
		if err == nil && !isToken(text) {
			err = &ringfence.Fault{Op: "phone.token", Kind: ringfence.KindInvalid, Text: "the access token is too long or holds what no token can", Hint: "sign in again"}
		}
		p.home.Post(func() {
			switch {
			case p.stopping || attempt != p.attempt:
			case err != nil:
				p.noToken(err)
			default:
				p.mu.Lock()
				p.token = text
				p.mu.Unlock()
				then()
			}
		})
	})
}

// noToken tries again later. What is registered stays so until it expires.
func (p *Phone) noToken(err error) {
	wait := p.backOff(0)
	p.log.Warn("there is no access token to register with", "phone", p.cfg.User, "cause", err, "hint", ringfence.HintOf(err), "retry", wait)
	if r := p.Registration(); r.State != Registered || !time.Now().Before(r.Expires) {
		p.setRegistration(Registration{State: Failed, Err: err, Retry: wait})
	}
	p.home.After(&p.refresh, wait, func() { p.answered = 0; p.sendRegister() })
}

// tokenRefused notes that the server did not take our token, and reports whether another try is worth it: in the field that answers to who
// asks, a server or a proxy (RFC 8898 section 2.1), and then with another token. Where tokens come from was said when somebody signed in; an
// address in the challenge changes nothing.
func (p *Phone) tokenRefused(m *sip.Message) bool {
	field := sip.HeaderAuthorization
	if m.Status() == 407 {
		field = sip.HeaderProxyAuthorization
	}
	if p.cfg.Tokens == nil || p.answered > 1 || !offersBearer(m) {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case field != p.tokenIn && p.answered == 0:
		p.tokenIn = field
	case p.refused != p.token:
		p.refused = p.token
		p.answered++ // no third one
	default:
		return false
	}
	p.answered++
	return true
}

// offersBearer reports whether a 401 or 407 asks for a token.
func offersBearer(m *sip.Message) bool {
	for _, id := range [...]sip.HeaderID{sip.HeaderWWWAuthenticate, sip.HeaderProxyAuthenticate} {
		for v := range m.All(id) {
			if scheme, _, _ := bytes.Cut(bytes.TrimSpace(v), []byte(" ")); sip.EqualFold(scheme, "Bearer") {
				return true
			}
		}
	}
	return false
}

// isToken reports whether s can be in an Authorization field (token68, RFC 9110 section 11.2).
func isToken(s string) bool {
	body := strings.TrimRight(s, "=")
	return body != "" && len(s) <= maxToken && strings.Trim(body, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~+/") == ""
}
