package phone

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"ringfence"
	"ringfence/internal/media/rtp"
	"ringfence/internal/sip"
	"ringfence/internal/sip/dialog"
	"ringfence/internal/sip/transaction"
	"ringfence/internal/sip/transport"
	"ringfence/internal/testkit"
)

// loopback opens real sockets on the loopback interface.
type loopback struct{}

func (loopback) Listen(ctx context.Context, _ string, a netip.AddrPort) (net.Listener, error) {
	return (&net.ListenConfig{}).Listen(ctx, "tcp", a.String())
}

func (loopback) ListenUDP(ctx context.Context, _ string, a netip.AddrPort) (net.PacketConn, error) {
	return (&net.ListenConfig{}).ListenPacket(ctx, "udp", a.String())
}

func (loopback) Dial(ctx context.Context, _ string, a netip.AddrPort) (net.Conn, error) {
	return (&net.Dialer{}).DialContext(ctx, "tcp", a.String())
}

// testSwitch is a registrar that joins two legs of a call with the dialog layer and passes descriptions through unchanged.
type testSwitch struct {
	t        *testing.T
	addr     netip.AddrPort
	conns    *transport.Layer
	txs      *transaction.Layer
	dialogs  *dialog.Layer
	password string // if set, REGISTER and INVITE need digest
	nonces   *sip.Nonces
	alg      sip.DigestAlgorithm
	opener   ringfence.Opener // of the phones, unless a test has others
	ca       *testkit.Authority
	invites  atomic.Int32
	expires  uint64
	takes    func(token string) bool // if set, REGISTER needs an access token that it takes
	proxied  bool                    // and it is asked for as by a proxy, which looks at Proxy-Authorization alone
	leaked   atomic.Int32            // requests other than REGISTER that carried a token
	busy     bool                    // REGISTER hears 503
	redirect map[string]string
	changeIn func(user string, body []byte) []byte // tampers with what a callee gets

	answerIn func(body []byte) []byte // tampers with what a caller gets

	mu       sync.Mutex
	bindings map[string]*binding
	seen     chan string // "METHOD user"
}

type binding struct {
	conn    *transport.Conn
	contact string
}

type switchVerifier struct{}

func (switchVerifier) Verify(cs tls.ConnectionState) (transport.Peer, *ringfence.TLSProof, error) {
	p := transport.Peer{}
	if len(cs.PeerCertificates) > 0 {
		p = transport.Peer{Name: cs.PeerCertificates[0].Subject.CommonName, Role: "device"}
	}
	return p, &ringfence.TLSProof{Version: tls.VersionName(cs.Version)}, nil
}

func newSwitch(t *testing.T, ca *testkit.Authority, opener ringfence.Opener, addr string) *testSwitch {
	t.Helper()
	s := &testSwitch{t: t, opener: opener, ca: ca, bindings: map[string]*binding{}, redirect: map[string]string{}, seen: make(chan string, 256), expires: 3600, alg: sip.DigestSHA256}
	log := slog.New(slog.DiscardHandler)
	s.txs = transaction.New(transaction.Config{User: s, Log: log})
	s.dialogs = dialog.New(dialog.Config{Log: log, Flow: func(d *dialog.Session) *transport.Conn {
		if l, ok := d.Data.(*switchLeg); ok {
			return s.flow(l.user)
		}
		return nil
	}}, s.txs)
	s.conns = transport.New(transport.Config{Opener: opener, Receiver: s.txs, Verifier: switchVerifier{}, Log: log})
	var err error
	if s.nonces, err = sip.NewNonces(time.Now, rand.Reader, time.Minute); err != nil {
		t.Fatal(err)
	}
	if s.addr, err = s.conns.Listen(context.Background(), "test", netip.MustParseAddrPort(addr), ca.Server("sip.example.test")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.close)
	return s
}

func (s *testSwitch) close() {
	s.conns.Close()
	s.txs.Close()
}

func (s *testSwitch) flow(user string) *transport.Conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	if b := s.bindings[user]; b != nil {
		return b.conn
	}
	return nil
}

func (s *testSwitch) do(f func()) { s.txs.Shards()[0].Do(f) }

func (s *testSwitch) Request(tx *transaction.Server) {
	m := tx.Request
	from, _ := m.From()
	select {
	case s.seen <- tx.Method.String() + " " + string(from.URI.User):
	default:
	}
	if len(m.ToTag()) > 0 {
		if !s.dialogs.Request(tx) && tx.Method != sip.ACK {
			s.loose(tx)
		}
		return
	}
	if tx.Method != sip.REGISTER && m.Bearer() != nil {
		s.leaked.Add(1)
	}
	if s.takes != nil && tx.Method == sip.REGISTER && (s.proxied && m.Get(sip.HeaderProxyAuthorization) == nil || !s.takes(string(m.Bearer()))) {
		status, field := 401, sip.HeaderWWWAuthenticate
		if s.proxied {
			status, field = 407, sip.HeaderProxyAuthenticate
		}
		tx.Reply(status, "", func(w *sip.Writer) {
			c := sip.BearerChallenge{Realm: "test", Server: "https://elsewhere.example.test", Scope: "sip", Error: "invalid_token"}
			w.Value(field, c.Append(nil))
		})
		return
	}
	if s.password != "" && tx.Method != sip.ACK && !s.authentic(tx, string(from.URI.User)) {
		return
	}
	switch tx.Method {
	case sip.REGISTER:
		s.register(tx, string(from.URI.User))
	case sip.INVITE:
		s.invites.Add(1)
		s.invite(tx)
	case sip.SUBSCRIBE:
		s.subscribe(tx)
	case sip.ACK:
	default:
		tx.Reply(501, "", nil)
	}
}

// loose answers requests of subscriptions.
func (s *testSwitch) loose(tx *transaction.Server) {
	if tx.Method == sip.SUBSCRIBE {
		s.subscribe(tx)
		return
	}
	tx.Reply(200, "", nil)
}

func (s *testSwitch) authentic(tx *transaction.Server, user string) bool {
	m := tx.Request
	stale := false
	if c, ok := m.CredentialsFor(sip.HeaderAuthorization, "test"); ok && string(c.Username) == user && c.MatchesURI(m.RequestURI()) {
		if c.Verify(sip.HA1(c.Algorithm, user, "test", s.password), m.Method().String()) {
			if s.nonces.Use(c.Nonce, c.NC) == sip.NonceGood {
				return true
			}
			stale = true
		}
	}
	tx.Reply(401, "", func(w *sip.Writer) {
		c := sip.Challenge{Realm: "test", Nonce: s.nonces.New(), Algorithm: s.alg, Stale: stale, QOP: true}
		w.Value(sip.HeaderWWWAuthenticate, c.Append(nil))
	})
	return false
}

func (s *testSwitch) register(tx *transaction.Server, user string) {
	m := tx.Request
	contact, err := m.Contact()
	if err != nil {
		tx.Reply(400, "", nil)
		return
	}
	if s.busy {
		tx.Reply(503, "", nil)
		return
	}
	expires := s.expires
	if n, ok := m.Uint(sip.HeaderExpires, 1<<31); ok {
		expires = min(expires, n)
	}
	s.mu.Lock()
	if expires == 0 {
		delete(s.bindings, user)
	} else {
		s.bindings[user] = &binding{tx.Conn, contact.URI.String()}
	}
	s.mu.Unlock()
	tx.Reply(200, "", func(w *sip.Writer) {
		w.Header(sip.HeaderContact, string(m.Get(sip.HeaderContact)))
		w.Uint(sip.HeaderExpires, expires)
		w.Uint(sip.HeaderFlowTimer, 60)
	})
}

func (s *testSwitch) subscribe(tx *transaction.Server) {
	m := tx.Request
	expires, _ := m.Uint(sip.HeaderExpires, 1<<31)
	tx.Reply(200, "", func(w *sip.Writer) { w.Uint(sip.HeaderExpires, expires) })
	contact, _ := m.Contact()
	target, callID, from, to := contact.URI.String(), string(m.CallID()), string(m.Get(sip.HeaderFrom)), string(m.Get(sip.HeaderTo))
	if len(m.ToTag()) == 0 {
		to += ";tag=" + tx.ToTag()
	}
	seq, _, _ := m.CSeq()
	state := "active;expires=60"
	if expires == 0 {
		state = "terminated;reason=timeout"
	}
	event := string(m.Get(sip.HeaderEvent))
	tx.Shard.Request(tx.Conn, sip.NOTIFY, func(w *sip.Writer, via string) {
		w.RequestLine(sip.NOTIFY, target)
		w.Header(sip.HeaderVia, via)
		w.Uint(sip.HeaderMaxForwards, 70)
		w.Header(sip.HeaderFrom, to)
		w.Header(sip.HeaderTo, from)
		w.Header(sip.HeaderCallID, callID)
		w.CSeq(seq, sip.NOTIFY)
		w.Header(sip.HeaderContact, "<sip:switch@127.0.0.1>")
		w.Header(sip.HeaderEvent, event)
		w.Header(sip.HeaderSubscriptionState, state)
		w.Body("application/simple-message-summary", []byte("Messages-Waiting: yes\r\nVoice-Message: 2/8 (1/0)\r\n"))
	}, func(transaction.Answer) {})
}

// switchLeg is one side of a joined call.
type switchLeg struct {
	sw    *testSwitch
	user  string
	other *dialog.Session
}

func (s *testSwitch) invite(tx *transaction.Server) {
	m := tx.Request
	uri, _ := sip.ParseURI(m.RequestURI())
	callee := string(uri.User)
	from, _ := m.From()
	if to, ok := s.redirect[callee]; ok {
		tx.Reply(302, "", func(w *sip.Writer) { w.Header(sip.HeaderContact, "<"+to+">") })
		return
	}
	s.mu.Lock()
	b := s.bindings[callee]
	s.mu.Unlock()
	if b == nil {
		tx.Reply(404, "", nil)
		return
	}
	replaces := ""
	if v := string(m.Get(sip.HeaderReplaces)); v != "" {
		id, params, _ := strings.Cut(v, ";")
		to, _ := sip.Params(params).Get("to-tag")
		fromTag, _ := sip.Params(params).Get("from-tag")
		d := s.dialogs.Find(tx.Shard, []byte(id), to, fromTag)
		if d == nil {
			tx.Reply(481, "", nil)
			return
		}
		far := d.Data.(*switchLeg).other
		replaces = far.CallID + ";to-tag=" + far.RemoteTag + ";from-tag=" + far.LocalTag
	}
	body := append([]byte(nil), m.Body()...)
	if s.changeIn != nil {
		body = s.changeIn(callee, body)
	}
	la, lb := &switchLeg{sw: s, user: string(from.URI.User)}, &switchLeg{sw: s, user: callee}
	a := s.dialogs.Accept(tx, "<sip:switch@127.0.0.1>", la)
	a.Data = la
	z := s.dialogs.Invite(tx.Shard, dialog.Invitation{Conn: b.conn, URI: b.contact, From: "<" + from.URI.String() + ">", To: "<sip:" + callee + "@example.test>",
		Contact: "<sip:switch@127.0.0.1>", SDP: body, Extra: func(w *sip.Writer) {
			if replaces != "" {
				w.Header(sip.HeaderReplaces, replaces)
			}
		}}, lb)
	z.Data = lb
	la.other, lb.other = z, a
}

func (l *switchLeg) Progress(_ *dialog.Session, m *sip.Message) {
	l.other.Progress(m.Status(), m.Body())
}
func (l *switchLeg) Answered(_ *dialog.Session, m *sip.Message) {
	body := m.Body()
	if l.sw.answerIn != nil {
		body = l.sw.answerIn(body)
	}
	l.other.Answer(body, nil)
}

func (l *switchLeg) Confirmed(*dialog.Session, *sip.Message) {}
func (l *switchLeg) Offered(_ *dialog.Session, o *dialog.Offer) {
	l.other.Modify(o.SDP, func(answer []byte, err error) {
		if err != nil {
			o.Reject(488, "", nil)
			return
		}
		o.Answer(answer)
	})
}

func (l *switchLeg) Requested(_ *dialog.Session, tx *transaction.Server) {
	tx.Keep()
	m := tx.Request
	l.other.Send(tx.Method, func(w *sip.Writer) {
		for _, id := range []sip.HeaderID{sip.HeaderReferTo, sip.HeaderReferredBy, sip.HeaderEvent, sip.HeaderSubscriptionState} {
			w.Copy(m, id)
		}
	}, string(m.Get(sip.HeaderContentType)), m.Body(), func(a transaction.Answer) {
		if a.Status() >= 200 {
			tx.Reply(a.Status(), "", nil)
		}
	})
}

func (l *switchLeg) Ended(_ *dialog.Session, e dialog.End) {
	if l.other == nil {
		return
	}
	if l.other.State() == dialog.Early && !l.other.UAC && e.Status >= 300 {
		warning := ""
		if e.Message != nil {
			warning = string(e.Message.Get(sip.HeaderWarning))
		}
		l.other.RejectWith(e.Status, e.Phrase, e.Reason, func(w *sip.Writer) {
			if warning != "" {
				w.Header(sip.HeaderWarning, warning)
			}
			for _, c := range e.Contacts {
				w.Header(sip.HeaderContact, c)
			}
		})
		return
	}
	l.other.Bye(e.Reason)
}

func (s *testSwitch) Cancelled(tx *transaction.Server, cancel *sip.Message) {
	if !s.dialogs.Cancelled(tx, cancel) {
		tx.Reply(487, "", nil)
	}
}

func (s *testSwitch) Closed(*transport.Conn, error) {}

// waitFor waits for a condition that another goroutine brings about.
func waitFor(t *testing.T, what string, f func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(20 * time.Second)
	for !f() {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

// shaped is the usual network with a share of datagrams lost.
func shaped(loss float64) testkit.Shape {
	return testkit.Shape{Latency: 5 * time.Millisecond, Loss: loss}
}

// pass lets time pass: virtual time, as it is used in a bubble only.
func pass(d time.Duration) { <-time.After(d) }

func ctxFor(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// noLeaks fails the test if goroutines of the project are left when it ends.
func noLeaks(t *testing.T) {
	t.Cleanup(func() {
		waitFor(t, "goroutines to end", func() bool {
			buf := make([]byte, 1<<20)
			buf = buf[:runtime.Stack(buf, true)]
			return !strings.Contains(string(buf), "ringfence/internal/sip") && !strings.Contains(string(buf), "phone.(*")
		})
	})
}

type rtcpControl = rtp.Control

// fuzzMedia is a session with keys and without a socket.
func fuzzMedia(t *testing.T) *media {
	t.Helper()
	keys, err := rtp.NewKeys(rtp.AEAD_AES_256_GCM)
	if err != nil {
		t.Fatal(err)
	}
	o, err := rtp.NewOpener(keys)
	if err != nil {
		t.Fatal(err)
	}
	return &media{opener: o, jitter: rtp.NewJitterBuffer(), receiver: rtp.NewReceiver(8000), begin: time.Now()}
}
