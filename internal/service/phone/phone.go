package phone

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"log/slog"
	mrand "math/rand/v2"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"ringfence"
	"ringfence/internal/sip"
	"ringfence/internal/sip/dialog"
	"ringfence/internal/sip/mediasec"
	"ringfence/internal/sip/transaction"
	"ringfence/internal/sip/transport"
)

// EventKind says what an [Event] tells.
type EventKind uint8

// The kinds of event.
const (
	RegistrationChanged EventKind = iota // Registration is set
	Notified                             // an unsolicited NOTIFY: Package and Body are set
	Ordered                              // the server orders what Package says
	MessageReceived                      // a MESSAGE: From, ContentType and Body are set
	Transferred                          // there is a call by somebody else's doing, as the phone was told to place it, or to let it take the place of another: Call is set
)

// Event is something that happened to a phone outside its calls.
type Event struct {
	Kind         EventKind
	Registration Registration
	Package      string // event package, e.g. "message-summary"
	ContentType  string
	Body         []byte
	From         string
	Call         *Call
}

// Phone is one registered phone. Its methods may be called from any goroutine.
type Phone struct {
	cfg   Config
	stack *Stack
	log   *slog.Logger
	home  *transaction.Shard // owns everything up to mu
	owns  bool               // the stack is ours alone

	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup // goroutines of calls and Auto

	regCallID string
	regTag    string
	regSeq    uint32
	attempt   int  // number of the present connection
	bound     int  // attempt that was registered last
	failures  int  // in a row
	moves     int  // to another server since it was registered
	moving    bool // the connection was given up for another server
	requested time.Duration
	answered  int // challenges answered for the present REGISTER
	flowTimer time.Duration
	pinged    time.Time
	keep      transaction.Timer // keep-alive, and the wait for its answer
	refresh   transaction.Timer // next REGISTER, or next connection
	stopping  bool
	outSubs   map[string]*Subscription // by our tag

	events    chan Event
	incoming  chan *Call
	agreement *mediasec.Agreement

	mu      sync.Mutex
	conn    *transport.Conn
	choices int // how many servers there were to choose from at the last connection
	reg     Registration
	contact string
	routes  []string // Service-Route (RFC 3608)
	proof   *ringfence.TLSProof
	changed chan struct{} // closed and replaced when reg changes
	chal    challenge
	token   string // the access token in use; empty: none
	tokenIn sip.HeaderID
	refused string // the last one that the server did not take
	calls   map[*Call]struct{}
	dnd     bool
	closed  bool
}

// Open starts a phone with a stack of its own and waits until it is registered. If the first attempt fails it returns why,
// and nothing is left running.
func Open(ctx context.Context, cfg Config) (*Phone, error) {
	s := NewStack(StackConfig{Opener: cfg.Opener, Log: cfg.Log, UserAgent: cfg.UserAgent, Trace: cfg.Trace})
	p, err := s.Open(ctx, cfg)
	if err != nil {
		s.Close()
		return nil, err
	}
	p.owns = true
	return p, nil
}

// Open is [Open] for a phone that shares the stack.
func (s *Stack) Open(ctx context.Context, cfg Config) (*Phone, error) {
	p, err := s.Start(cfg)
	if err != nil {
		return nil, err
	}
	if err := p.firstAttempt(ctx); err != nil {
		_ = p.Close()
		return nil, err
	}
	return p, nil
}

// Start starts a phone and returns at once; it goes on trying to register until it is closed.
func (s *Stack) Start(cfg Config) (*Phone, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg.defaults()
	p := &Phone{cfg: cfg, stack: s, log: cfg.Log, events: make(chan Event, 64), incoming: make(chan *Call, cfg.MaxCalls),
		changed: make(chan struct{}), agreement: mediasec.New(cfg.MediaSec), calls: map[*Call]struct{}{}, outSubs: map[string]*Subscription{}, dnd: cfg.DoNotDisturb, regTag: newTag(), tokenIn: sip.HeaderAuthorization}
	if p.log == nil {
		p.log = s.cfg.Log
	}
	p.ctx, p.cancel = context.WithCancel(s.ctx)
	shards := s.txs.Shards()
	p.home = shards[mrand.IntN(len(shards))]
	p.regCallID = s.txs.NewCallID(p.home)
	if err := s.add(p); err != nil {
		p.cancel()
		return nil, err
	}
	p.home.Do(p.connect)
	return p, nil
}

// Close ends the phone's calls, unregisters if it can, and waits for its goroutines, Config.Auto among them: do not call it
// from there.
func (p *Phone) Close() error {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil
	}
	p.closed = true
	p.mu.Unlock()
	for _, c := range p.Calls() {
		c.hangup("")
	}
	done := make(chan struct{})
	p.home.Do(func() { p.unregister(func() { close(done) }) })
	select {
	case <-done:
	case <-time.After(2 * time.Second):
	}
	p.stop()
	p.wg.Wait()
	if p.owns {
		p.stack.Close()
	}
	return nil
}

// stop ends everything at once.
func (p *Phone) stop() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	for _, c := range p.Calls() {
		c.hangup("")
	}
	p.cancel()
	var conn *transport.Conn
	p.home.Do(func() {
		p.stopping = true
		p.keep.Stop()
		p.refresh.Stop()
		for _, s := range p.outSubs {
			s.drop(nil)
		}
		conn = p.currentConn()
		p.setRegistration(Registration{State: Offline})
	})
	if conn != nil {
		conn.Close(nil)
	}
	p.stack.remove(p)
}

// Calls returns the calls that have not ended, in no order.
func (p *Phone) Calls() []*Call {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := make([]*Call, 0, len(p.calls))
	for c := range p.calls {
		out = append(out, c)
	}
	return out
}

// Incoming delivers calls that ring here. A call that nobody takes from the channel still rings, until its caller gives up.
func (p *Phone) Incoming() <-chan *Call { return p.incoming }

// Events delivers what happens outside calls. If nobody reads it, the oldest events are dropped.
func (p *Phone) Events() <-chan Event { return p.events }

// SetDoNotDisturb makes callers hear 486, or not any more.
func (p *Phone) SetDoNotDisturb(on bool) {
	p.mu.Lock()
	p.dnd = on
	p.mu.Unlock()
}

// MediaSec returns where the agreement with the server on sealed media stands, and what the server listed.
func (p *Phone) MediaSec() (mediasec.State, []string) { return p.agreement.State() }

// Address returns the address-of-record, e.g. "sip:alice@example.com".
func (p *Phone) Address() string { return "sip:" + escapeUser(p.cfg.User) + "@" + p.cfg.Domain }

// Server returns the address of the server that the phone is registered at, or the zero value.
func (p *Phone) Server() netip.AddrPort {
	if c := p.currentConn(); c != nil && c.State() == "Established" {
		return c.Remote
	}
	return netip.AddrPort{}
}

func (p *Phone) currentConn() *transport.Conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.conn
}

// nameAddr returns the phone's From value, without tag.
func (p *Phone) nameAddr() string {
	if p.cfg.Display == "" {
		return "<" + p.Address() + ">"
	}
	return quote(p.cfg.Display) + " <" + p.Address() + ">"
}

// target returns the SIP URI for what a person dialled: a number, a user name, or a whole URI.
func (p *Phone) target(number string) (string, error) {
	bad := &ringfence.Fault{Op: "phone.call", Kind: ringfence.KindInvalid, Text: "this cannot be dialled", Hint: "use a number, a user name or a sip: address"}
	if number == "" || len(number) > 256 || strings.ContainsAny(number, "\r\n\x00<>\" ") {
		return "", bad
	}
	if strings.HasPrefix(number, "sip:") || strings.HasPrefix(number, "sips:") {
		if _, err := sip.ParseURI([]byte(number)); err != nil {
			return "", bad
		}
		return number, nil
	}
	user, domain, found := strings.Cut(number, "@")
	if !found {
		domain = p.cfg.Domain
	}
	uri := "sip:" + escapeUser(user) + "@" + domain
	if _, err := sip.ParseURI([]byte(uri)); err != nil || user == "" {
		return "", bad
	}
	return uri, nil
}

// request handles a request outside every dialog.
func (p *Phone) request(tx *transaction.Server) {
	m := tx.Request
	switch tx.Method {
	case sip.INVITE:
		p.invited(tx)
	case sip.ACK:
	case sip.OPTIONS:
		tx.Reply(200, "", func(w *sip.Writer) {
			w.Header(sip.HeaderAllow, allow)
			w.Header(sip.HeaderAccept, "application/sdp")
			w.Header(sip.HeaderSupported, "100rel, timer, replaces, outbound")
		})
	case sip.NOTIFY:
		if pkg := eventPackage(m.Get(sip.HeaderEvent)); slices.Contains(p.cfg.Orders, pkg) {
			if p.cfg.OrderRealm == "" || p.proves(tx, p.cfg.OrderRealm, p.cfg.Password) {
				tx.Reply(200, "", nil)
				p.emit(Event{Kind: Ordered, Package: pkg})
			}
			return
		}
		tx.Reply(200, "", nil)
		p.emit(Event{Kind: Notified, Package: eventPackage(m.Get(sip.HeaderEvent)), ContentType: string(m.Get(sip.HeaderContentType)), Body: append([]byte(nil), m.Body()...)})
	case sip.MESSAGE:
		tx.Reply(200, "", nil)
		e := Event{Kind: MessageReceived, ContentType: string(m.Get(sip.HeaderContentType)), Body: append([]byte(nil), m.Body()...)}
		if from, err := m.From(); err == nil {
			e.From = from.URI.String()
		}
		p.emit(e)
	case sip.REFER:
		p.referred(tx)
	default:
		tx.Reply(405, "Method Not Allowed", func(w *sip.Writer) { w.Header(sip.HeaderAllow, allow) })
	}
}

func (p *Phone) emit(e Event) { offer(p.events, e) }

// offer puts v into ch, dropping the oldest element if it is full.
func offer[T any](ch chan T, v T) {
	for {
		select {
		case ch <- v:
			return
		default:
		}
		select {
		case <-ch:
		default:
		}
	}
}

// warn writes a Warning (RFC 3261 section 20.43) of this agent.
func warn(w *sip.Writer, agent, text string) {
	w.Header(sip.HeaderWarning, "399 "+agent+" "+quote(text))
}

func eventPackage(v []byte) string {
	name, _, _ := strings.Cut(string(v), ";")
	return strings.ToLower(strings.TrimSpace(name))
}

// quote returns a quoted-string (RFC 3261 section 25.1); control characters become spaces.
func quote(s string) string {
	b := []byte{'"'}
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c < ' ' || c == 0x7f:
			b = append(b, ' ')
		default:
			b = append(b, c)
		}
	}
	return string(append(b, '"'))
}

// escapeUser escapes what may not stand in the user part of a SIP URI, such as "#" (RFC 3261 section 25.1).
func escapeUser(user string) string {
	const safe = "-_.!~*'()&=+$,;?/"
	var b strings.Builder
	for i := range len(user) {
		c := user[i]
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte(safe, c) >= 0 {
			b.WriteByte(c)
			continue
		}
		b.WriteString("%" + strings.ToUpper(hex.EncodeToString([]byte{c})))
	}
	return b.String()
}

func newTag() string { return strconv.FormatUint(mrand.Uint64()|1<<63, 36) }

// newInstance returns a random UUID as a URN (RFC 9562 section 5.4).
func newInstance() string {
	var u [16]byte
	_, _ = rand.Read(u[:]) // never fails
	u[6], u[8] = u[6]&0x0f|0x40, u[8]&0x3f|0x80
	h := hex.EncodeToString(u[:])
	return "urn:uuid:" + h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

var _ dialog.User = (*Call)(nil)
