package transaction

import (
	"bytes"
	"cmp"
	"hash/maphash"
	"math/rand/v2"
	"strconv"
	"time"

	"ringfence/internal/sip"
	"ringfence/internal/sip/transport"
)

type serverState uint8

const (
	serverTrying serverState = iota
	serverProceeding
	serverCompleted // a final response to an INVITE was sent that is no 2xx
	serverDone      // what must still be known is in Shard.answered
)

// Server is one server transaction (RFC 3261 section 17.2). It is used on its shard only.
type Server struct {
	Shard   *Shard
	Conn    *transport.Conn
	Request *sip.Message // see Keep
	Method  sip.Method
	Data    any // for the user

	key      uint64
	branch   []byte
	state    serverState
	kept     bool
	stored   bool
	active   bool // it counts as work: it is stored and has no final response
	aside    bool // it is answered before the goroutine that brought the request goes on
	stopped  bool // the user heard of a CANCEL
	toTag    string
	last     []byte // last response, for retransmission
	timer    Timer  // until the first response that of the 100; then G on unreliable transports, then I
	giveUp   Timer  // H
	interval time.Duration
}

// serverKey hashes what RFC 3261 section 17.2.3 matches by; ACK finds its INVITE.
func (l *Layer) serverKey(m *sip.Message, via *sip.Via, branch []byte, method sip.Method) uint64 {
	if method == sip.ACK {
		method = sip.INVITE
	}
	var few [192]byte
	b := append(few[:0], branch...)
	b = append(b, via.Host...)
	b = append(b, byte(via.Port>>8), byte(via.Port), byte(method))
	if !bytes.HasPrefix(branch, []byte(sip.MagicCookie)) {
		// A client of RFC 2543: match by what it keeps the same (section 17.2.3, last part).
		seq, _, _ := m.CSeq()
		b = append(b, m.RequestURI()...)
		b = append(b, m.FromTag()...)
		b = append(b, m.CallID()...)
		b = strconv.AppendUint(b, uint64(seq), 10)
	}
	return maphash.Bytes(l.seed, b)
}

func (s *Shard) request(c *transport.Conn, m *sip.Message) {
	if err := m.Validate(); err != nil {
		s.refuseHere(c, m, err)
		return
	}
	via, _ := m.TopVia()
	method, branch := m.Method(), via.Branch()
	key := s.layer.serverKey(m, &via, branch, method)
	if tx := s.servers[key]; tx != nil && bytes.Equal(tx.branch, branch) {
		tx.again(m)
		return
	}
	if method != sip.ACK { // one to a 2xx is the user's, whether it rightly has a branch of its own or that of its INVITE (RFC 6026 section 7.1)
		if e, ok := s.answered.find(key, branch); ok {
			if s.layer.stats.retransmissions.Add(1); e.kind == pastAnswer {
				s.Send(c, e.text)
			}
			return
		}
	}
	switch method {
	case sip.CANCEL:
		s.cancel(c, m, &via, branch)
		return
	case sip.ACK:
	default:
		limit := s.layer.cfg.MaxTransactions
		if method != sip.INVITE {
			limit *= 2
		}
		if s.layer.Active() >= limit || int(s.layer.kept.Load()) >= keptLimit*s.layer.cfg.MaxTransactions {
			s.layer.stats.overload.Add(1)
			s.overload(c, m)
			return
		}
	}
	tx := &Server{Shard: s, Conn: c, Request: m, Method: method, key: key}
	if method == sip.INVITE {
		tx.store(branch)
		tx.Keep()
	}
	s.layer.cfg.User.Request(tx)
	if !tx.stored && tx.state < serverCompleted && method != sip.ACK {
		tx.store(branch) // it will be answered later
		if !tx.aside {
			tx.Keep()
		}
	}
	if method == sip.INVITE && tx.state == serverTrying {
		s.Wake(&tx.timer, tryingAfter, tx)
	}
}

// tryingAfter is how long the user may take for its first response to an INVITE before the transaction answers 100 by itself
// (RFC 3261 section 17.2.1): early enough to keep a client on UDP from retransmitting, and a message saved where somebody rings at once.
const tryingAfter = 200 * time.Millisecond

// Due implements Alarm.
func (tx *Server) Due(t *Timer) {
	switch {
	case tx.state == serverTrying:
		tx.Reply(100, "", nil)
	case t == &tx.timer && tx.giveUp.Active(): // no ACK yet
		tx.retransmit()
	default:
		tx.end()
	}
}

func (s *Shard) refuseHere(c *transport.Conn, m *sip.Message, err error) {
	pe, ok := err.(*sip.ParseError)
	if !ok || m.Method() == sip.ACK || !m.Has(sip.HeaderVia) || !m.Has(sip.HeaderFrom) || !m.Has(sip.HeaderTo) || !m.Has(sip.HeaderCSeq) {
		return
	}
	s.stateless(c, m, pe.Status, pe.Reason, "", 0)
}

func (s *Shard) overload(c *transport.Conn, m *sip.Message) {
	s.stateless(c, m, 503, "", "", 5+rand.IntN(10))
}

func (s *Shard) stateless(c *transport.Conn, m *sip.Message, status int, phrase, toTag string, retryAfter int) {
	w := s.takeWriter()
	w.ResponseTo(m, status, phrase, cmp.Or(toTag, "stateless"), c.Remote)
	if retryAfter > 0 {
		w.Uint(sip.HeaderRetryAfter, uint64(retryAfter))
	}
	s.layer.sign(w)
	w.Body("", nil)
	s.Write(c, w)
	s.spare = w
}

// store keeps tx for retransmissions, ACK and CANCEL.
func (tx *Server) store(branch []byte) {
	tx.branch = bytes.Clone(branch)
	tx.Shard.servers[tx.key] = tx
	tx.stored, tx.active = true, true
	tx.Shard.layer.active.Add(1)
	tx.Shard.layer.kept.Add(1)
}

// keptLimit is how many times more transactions may be kept, those that only wait for retransmissions included, than may be unanswered:
// over UDP each of them waits for half a minute, as the few bytes that are written again.
const keptLimit = 10

// answered takes tx off the count of those that are work yet.
func (tx *Server) answered() {
	if tx.active {
		tx.active = false
		tx.Shard.layer.active.Add(-1)
	}
}

// Keep makes tx.Request outlive the call of User.Request.
func (tx *Server) Keep() {
	if !tx.kept {
		tx.Request = tx.Request.Clone()
		tx.kept = true
	}
}

// again handles a retransmission or the ACK to a final response.
func (tx *Server) again(m *sip.Message) {
	if m.Method() == sip.ACK {
		if tx.state == serverCompleted {
			tx.giveUp.Stop()
			tx.timer.Stop()
			if tx.Conn.Reliable() {
				tx.end()
				return
			}
			tx.Shard.Wake(&tx.timer, tx.Shard.layer.timers.T4, tx) // Timer I
		}
		return
	}
	tx.Shard.layer.stats.retransmissions.Add(1)
	if tx.last != nil {
		tx.Shard.Send(tx.Conn, tx.last)
	}
}

func (s *Shard) cancel(c *transport.Conn, m *sip.Message, via *sip.Via, branch []byte) {
	key := s.layer.serverKey(m, via, branch, sip.INVITE)
	invite := s.servers[key]
	if invite == nil {
		if e, ok := s.answered.find(key, branch); ok { // too late
			s.stateless(c, m, 200, "", string(e.text), 0)
			return
		}
	}
	if invite == nil || !bytes.Equal(invite.branch, branch) || invite.Conn != c && c.Reliable() {
		s.stateless(c, m, 481, "", "", 0)
		return
	}
	s.stateless(c, m, 200, "", invite.ToTag(), 0)
	if invite.state <= serverProceeding && !invite.stopped {
		invite.stopped = true
		s.layer.cfg.User.Cancelled(invite, m)
	}
}

// ToTag returns the tag that responses of tx carry in To, making it up on first use.
func (tx *Server) ToTag() string {
	if tx.toTag == "" {
		if t := tx.Request.ToTag(); len(t) > 0 {
			tx.toTag = string(t)
		} else {
			tx.toTag = strconv.FormatUint(rand.Uint64()|1<<63, 16)
		}
	}
	return tx.toTag
}

// SetToTag sets the tag before the first response, for a user that names its dialogs.
func (tx *Server) SetToTag(tag string) { tx.toTag = tag }

// Finished reports whether a final response was sent.
func (tx *Server) Finished() bool { return tx.state >= serverCompleted }

// Respond starts a response: write further fields to w, end with w.Body, and pass it to [Server.Send], which takes it back.
func (tx *Server) Respond(status int, phrase string) *sip.Writer {
	w := tx.Shard.takeWriter()
	tag := tx.toTag
	if status <= 100 {
		tag = ""
	} else if tag == "" && len(tx.Request.ToTag()) == 0 { // else the response has that of the request
		tag = tx.ToTag()
	}
	w.ResponseTo(tx.Request, status, phrase, tag, tx.Conn.Remote)
	tx.Shard.layer.sign(w)
	return w
}

// Reply sends a response without a body; extra, if not nil, adds fields.
func (tx *Server) Reply(status int, phrase string, extra func(*sip.Writer)) {
	w := tx.Respond(status, phrase)
	if extra != nil {
		extra(w)
	}
	w.Body("", nil)
	tx.Send(status, w)
}

// Send sends the finished response in w, which came from Respond and is no more the caller's then. A second final response is dropped.
func (tx *Server) Send(status int, w *sip.Writer) {
	tx.send(status, w)
	tx.Shard.spare = w
}

func (tx *Server) send(status int, w *sip.Writer) {
	if tx.Method == sip.ACK || tx.state >= serverCompleted {
		return
	}
	if tx.state == serverTrying {
		tx.timer.Stop()
	}
	tx.Shard.Write(tx.Conn, w)
	if status < 200 {
		tx.state = serverProceeding
		tx.remember(w.Bytes())
		return
	}
	timers := tx.Shard.layer.timers
	reliable := tx.Conn.Reliable()
	switch {
	case tx.Method == sip.INVITE && status < 300:
		if !reliable {
			tx.past(pastInvited, []byte(tx.ToTag())) // Timer L
		}
		tx.end()
	case tx.Method == sip.INVITE:
		tx.state = serverCompleted
		tx.remember(w.Bytes())
		tx.Shard.Wake(&tx.giveUp, timers.linger(), tx) // Timer H
		if !reliable {
			tx.interval = timers.T1
			tx.Shard.Wake(&tx.timer, tx.interval, tx) // Timer G
		}
	default:
		if !reliable {
			tx.past(pastAnswer, w.Bytes()) // Timer J
		}
		tx.end()
	}
	tx.answered()
}

// past leaves behind what must be known of tx when it is over.
func (tx *Server) past(kind pastKind, text []byte) {
	branch := tx.branch
	if !tx.stored {
		via, _ := tx.Request.TopVia()
		branch = via.Branch()
	}
	s := tx.Shard
	s.answered.add(s, tx.key, memory{kind: kind, branch: branch, text: text})
	s.layer.kept.Add(1)
}

// remember keeps a response for retransmission; on a reliable transport only an INVITE's can be asked for again.
func (tx *Server) remember(b []byte) {
	if !tx.Conn.Reliable() || tx.Method == sip.INVITE {
		tx.last = append(tx.last[:0], b...)
	}
}

func (tx *Server) retransmit() {
	tx.Shard.Send(tx.Conn, tx.last)
	tx.interval = min(2*tx.interval, tx.Shard.layer.timers.T2)
	tx.Shard.Wake(&tx.timer, tx.interval, tx)
}

func (tx *Server) end() {
	tx.timer.Stop()
	tx.giveUp.Stop()
	if tx.stored {
		tx.stored = false
		if tx.Shard.servers[tx.key] == tx {
			delete(tx.Shard.servers, tx.key)
		}
		tx.Shard.layer.kept.Add(-1)
		tx.answered()
	}
	tx.state = serverDone
	tx.last = nil
}
