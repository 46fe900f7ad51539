package phone

import (
	"context"
	"log/slog"
	"net"
	"sync"

	"ringfence"
	"ringfence/internal/sip"
	"ringfence/internal/sip/dialog"
	"ringfence/internal/sip/transaction"
	"ringfence/internal/sip/transport"
)

// allow lists the methods a phone understands.
const allow = "INVITE, ACK, CANCEL, BYE, PRACK, UPDATE, OPTIONS, INFO, REFER, NOTIFY, MESSAGE"

// Stack holds the connections, transactions and dialogs of any number of phones.
type Stack struct {
	cfg     StackConfig
	ctx     context.Context // ends with the stack
	cancel  context.CancelFunc
	conns   *transport.Layer
	txs     *transaction.Layer
	dialogs *dialog.Layer

	mu     sync.Mutex
	nonces *sip.Nonces // of challenges to callers; nil until there was one
	phones map[*transport.Conn]*Phone
	all    map[*Phone]struct{}
	closed bool
}

// NewStack returns a stack without phones.
func NewStack(cfg StackConfig) *Stack {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.UserAgent == "" {
		cfg.UserAgent = "Ringfence-Phone"
	}
	s := &Stack{cfg: cfg, phones: map[*transport.Conn]*Phone{}, all: map[*Phone]struct{}{}}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	txs := transaction.Config{User: s, Log: cfg.Log, Shards: cfg.Shards, Timers: cfg.Timers, Server: cfg.UserAgent}
	if cfg.Trace != nil {
		txs.Trace = func(c *transport.Conn, _, msg []byte, sent bool) { cfg.Trace(c, msg, sent) }
	}
	s.txs = transaction.New(txs)
	s.dialogs = dialog.New(dialog.Config{Log: cfg.Log, UserAgent: cfg.UserAgent, SessionExpires: cfg.SessionExpires, Flow: flowOf, Extra: agreed}, s.txs)
	s.conns = transport.New(transport.Config{Opener: cfg.Opener, Receiver: s.txs, Verifier: verifier{}, Log: cfg.Log})
	return s
}

// flowOf finds the phone's present connection for a session whose own one has ended.
func flowOf(s *dialog.Session) *transport.Conn {
	if c, ok := s.Data.(*Call); ok {
		return c.phone.currentConn()
	}
	return nil
}

// agreed adds what a phone and its server agreed on to a request inside a call.
func agreed(s *dialog.Session, method sip.Method, w *sip.Writer) {
	if c, ok := s.Data.(*Call); ok {
		c.phone.agreement.Write(w, method)
	}
}

// Close ends every phone of the stack at once: calls are given a BYE as far as it can still leave, nothing is unregistered.
// Close the phones first for a good-bye.
func (s *Stack) Close() {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return
	}
	s.closed = true
	phones := make([]*Phone, 0, len(s.all))
	for p := range s.all {
		phones = append(phones, p)
	}
	s.mu.Unlock()
	for _, p := range phones {
		p.stop()
	}
	s.cancel()
	s.conns.Close()
	s.txs.Close()
	for _, p := range phones {
		p.wg.Wait()
	}
}

// Phones returns how many phones there are.
func (s *Stack) Phones() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.all)
}

func (s *Stack) add(p *Phone) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return &ringfence.Fault{Op: "phone.open", Kind: ringfence.KindUnavailable, Text: "the phones are closed", Err: net.ErrClosed}
	}
	s.all[p] = struct{}{}
	return nil
}

func (s *Stack) remove(p *Phone) {
	s.mu.Lock()
	delete(s.all, p)
	s.mu.Unlock()
}

func (s *Stack) bind(c *transport.Conn, p *Phone) {
	s.mu.Lock()
	s.phones[c] = p
	s.mu.Unlock()
}

func (s *Stack) phone(c *transport.Conn) *Phone {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.phones[c]
}

// Request implements transaction.User.
func (s *Stack) Request(tx *transaction.Server) {
	p := s.phone(tx.Conn)
	if p == nil {
		tx.Reply(480, "", nil)
		return
	}
	m := tx.Request
	if len(m.ToTag()) == 0 {
		p.request(tx)
		return
	}
	if s.dialogs.Request(tx) || tx.Method == sip.ACK || p.subscribed(tx) {
		return
	}
	tx.Reply(481, "", nil)
}

// Cancelled implements transaction.User.
func (s *Stack) Cancelled(tx *transaction.Server, cancel *sip.Message) {
	if !s.dialogs.Cancelled(tx, cancel) {
		tx.Reply(487, "", nil)
	}
}

// Closed implements transaction.User.
func (s *Stack) Closed(c *transport.Conn, cause error) {
	s.mu.Lock()
	p := s.phones[c]
	delete(s.phones, c)
	s.mu.Unlock()
	if p != nil {
		p.home.Post(func() { p.lost(c, cause) })
	}
}
