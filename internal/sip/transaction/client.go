package transaction

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"math/rand/v2"
	"strconv"
	"time"

	"ringfence"
	"ringfence/internal/sip"
	"ringfence/internal/sip/transport"
)

type clientState uint8

const (
	clientCalling clientState = iota // or Trying
	clientProceeding
	clientAccepted // RFC 6026
	clientCompleted
	clientDone
)

// Answer is what becomes of a request: a response, or the reason there is none.
type Answer struct {
	*sip.Message       // nil if Err is set; lives until the callback returns
	Err          error // a ringfence.Fault: KindTimeout or KindUnavailable
}

// Status returns the response's status, or the one that stands for Err: 408 for a timeout, 503 otherwise
// (RFC 3261 section 8.1.3.1).
func (a Answer) Status() int {
	switch {
	case a.Message != nil:
		return a.Message.Status()
	case ringfence.KindOf(a.Err) == ringfence.KindTimeout:
		return 408
	}
	return 503
}

// Client is one client transaction (RFC 3261 section 17.1). It is used on its shard only.
type Client struct {
	Shard  *Shard
	Conn   *transport.Conn
	Method sip.Method

	id       uint64 // the random part of the branch
	state    clientState
	heard    func(Answer)
	request  []byte // kept for retransmission, ACK and CANCEL
	timer    Timer  // A, E, then D or K
	giveUp   Timer  // B or F
	interval time.Duration
	cancel   func(*sip.Writer) // wanted before a provisional response came
	wantStop bool
	stopSent bool

	next, prev *Client // on the same connection
}

// Heard reports whether any response came.
func (c *Client) Heard() bool { return c.state > clientCalling }

// Request sends a request on conn as a new client transaction of the shard. build writes the request from its start line to
// its end, and puts via first among the fields. heard gets every response and, if there is none, the reason; nothing is
// heard after a final answer except further 2xx responses to an INVITE (forked elsewhere, or retransmitted).
func (s *Shard) Request(conn *transport.Conn, method sip.Method, build func(w *sip.Writer, via string), heard func(Answer)) *Client {
	c := &Client{Shard: s, Conn: conn, Method: method, id: newID(), heard: heard}
	w := s.takeWriter()
	build(w, via(conn, c.id))
	if method == sip.INVITE || !conn.Reliable() {
		c.request = bytes.Clone(w.Bytes())
	}
	s.start(c, w)
	s.spare = w
	return c
}

// Acknowledge sends the ACK to a 2xx, which is a request without a transaction (RFC 3261 section 13.2.2.4), and returns it, to be sent
// again. build is as for Request.
func (s *Shard) Acknowledge(conn *transport.Conn, build func(w *sip.Writer, via string)) []byte {
	w := s.takeWriter()
	build(w, via(conn, newID()))
	s.Write(conn, w)
	s.spare = w
	return bytes.Clone(w.Bytes())
}

// newID makes the random part of a branch.
func newID() uint64 { return rand.Uint64() | 1<<63 }

// idOf is what newID made of a branch, if it is one of ours.
func idOf(branch []byte) (id uint64, ok bool) {
	var b [8]byte
	digits, ok := bytes.CutPrefix(branch, []byte(sip.MagicCookie))
	if !ok || len(digits) != hex.EncodedLen(len(b)) {
		return 0, false
	}
	_, err := hex.Decode(b[:], digits)
	return binary.BigEndian.Uint64(b[:]), err == nil
}

// via is the value of our Via: the local address of the connection, and rport (RFC 3581).
func via(conn *transport.Conn, id uint64) string {
	var few [128]byte
	b := append(append(few[:0], "SIP/2.0/"...), conn.Network...)
	b = append(append(append(b, ' '), conn.SentBy()...), ";branch="+sip.MagicCookie...)
	return string(append(strconv.AppendUint(b, id, 16), ";rport"...))
}

func (s *Shard) start(c *Client, request *sip.Writer) {
	s.clients[c.key()] = c
	s.link(c)
	timers := s.layer.timers
	s.Wake(&c.giveUp, timers.linger(), c) // Timer B or F
	if !c.Conn.Reliable() {
		c.interval = timers.T1
		s.Wake(&c.timer, c.interval, c) // Timer A or E
	}
	if c.Conn.State() == "Closed" {
		s.Post(func() { c.fail(errClosed(c.Conn.Cause())) })
		return
	}
	s.Write(c.Conn, request)
}

// key tells a CANCEL, which shares its branch with the INVITE, apart.
func (c *Client) key() uint64 {
	if c.Method == sip.CANCEL {
		return c.id &^ (1 << 63)
	}
	return c.id
}

func errClosed(cause error) error {
	return &ringfence.Fault{Op: "transaction", Kind: ringfence.KindUnavailable, Text: "the connection ended before an answer came", Err: cause}
}

func (s *Shard) response(conn *transport.Conn, m *sip.Message) {
	via, err := m.TopVia()
	if err != nil {
		return
	}
	_, method, ok := m.CSeq()
	id, found := idOf(via.Branch())
	if !ok || !found {
		s.layer.stats.stray.Add(1)
		return
	}
	if method == sip.CANCEL {
		id &^= 1 << 63
	}
	c := s.clients[id]
	if c == nil {
		if e, ok := s.heard.find(id, nil); ok {
			if e.kind == pastCall && method == sip.INVITE && m.Status() >= 200 && m.Status() < 300 && s.layer.late != nil {
				s.layer.late(s, conn, m)
			}
			return
		}
	}
	if c == nil || c.Method != method || c.Conn != conn && (conn.Reliable() || c.Conn.Reliable()) {
		s.layer.stats.stray.Add(1)
		return
	}
	c.response(m)
}

func (c *Client) response(m *sip.Message) {
	status := m.Status()
	invite := c.Method == sip.INVITE
	switch {
	case c.state >= clientCompleted:
		if invite && status >= 300 {
			c.ack(m)
		}
		return
	case c.state == clientAccepted:
		if status >= 200 && status < 300 {
			c.heard(Answer{Message: m})
		}
		return
	case status < 200:
		c.provisional()
		c.heard(Answer{Message: m})
		return
	}
	c.giveUp.Stop()
	c.timer.Stop()
	timers := c.Shard.layer.timers
	switch {
	case invite && status < 300:
		c.state = clientAccepted
		c.request = nil                            // the user makes the ACKs
		c.Shard.Wake(&c.timer, timers.linger(), c) // Timer M
	case invite:
		c.state = clientCompleted
		c.ack(m)
		c.linger(64 * timers.T1) // Timer D
	default:
		c.past(pastHeard) // Timer K, and longer
	}
	c.heard(Answer{Message: m})
}

// Hasten says that the dialog of an answered INVITE is over, so that only the 2xx of another branch of a fork could still come. On a
// reliable transport, where nothing is retransmitted, the transaction then waits for d instead of Timer M (RFC 6026 section 7.2);
// elsewhere it is no more, and what comes is for whom [Layer.HearLate] named.
func (c *Client) Hasten(d time.Duration) {
	switch {
	case c.state != clientAccepted:
	case c.Conn.Reliable():
		c.Shard.Wake(&c.timer, d, c)
	default:
		c.past(pastCall)
	}
}

// past ends the transaction, and leaves behind that it was there.
func (c *Client) past(kind pastKind) {
	if !c.Conn.Reliable() {
		c.Shard.heard.add(c.Shard, c.key(), memory{kind: kind})
	}
	c.end()
}

func (c *Client) linger(d time.Duration) {
	if c.Conn.Reliable() {
		c.end()
		return
	}
	c.Shard.Wake(&c.timer, d, c)
}

// Due implements Alarm.
func (c *Client) Due(t *Timer) {
	switch {
	case t == &c.giveUp:
		c.timeout()
	case c.state >= clientAccepted:
		c.end()
	default:
		c.retransmit()
	}
}

func (c *Client) provisional() {
	if c.Method == sip.INVITE {
		c.timer.Stop()
		if !c.stopSent {
			c.giveUp.Stop() // how long it may ring is the user's to decide
		}
	}
	first := c.state == clientCalling
	c.state = clientProceeding
	if first && c.wantStop {
		c.sendCancel()
	}
}

// Cancel asks for the INVITE to be cancelled (RFC 3261 section 9.1): at once if a provisional response came, else as soon as
// one comes. The final response, usually 487, is heard as always. extra adds fields such as Reason (RFC 3326).
func (c *Client) Cancel(extra func(*sip.Writer)) {
	if c.Method != sip.INVITE || c.wantStop || c.state >= clientAccepted {
		return
	}
	c.wantStop, c.cancel = true, extra
	if c.state == clientProceeding {
		c.sendCancel()
	}
}

func (c *Client) sendCancel() {
	s := c.Shard
	c.stopSent = true
	var req sip.Message
	if err := req.Parse(bytes.Clone(c.request), sip.Limits{}); err != nil {
		return
	}
	x := &Client{Shard: s, Conn: c.Conn, Method: sip.CANCEL, id: c.id, heard: func(Answer) {}}
	var w sip.Writer
	w.RequestLine(sip.CANCEL, string(req.RequestURI()))
	c.copyIdentity(&w, &req, req.Get(sip.HeaderTo))
	seq, _, _ := req.CSeq()
	w.CSeq(seq, sip.CANCEL)
	if c.cancel != nil {
		c.cancel(&w)
	}
	w.Body("", nil)
	if !c.Conn.Reliable() {
		x.request = bytes.Clone(w.Bytes())
	}
	s.start(x, &w)
	// RFC 3261 section 9.1: an INVITE that was cancelled and never answered is over after 64*T1.
	s.Wake(&c.giveUp, s.layer.timers.linger(), c)
}

// copyIdentity writes the fields that CANCEL and the ACK to a non-2xx take from their INVITE.
func (c *Client) copyIdentity(w *sip.Writer, req *sip.Message, to []byte) {
	w.Header(sip.HeaderVia, via(c.Conn, c.id))
	w.Uint(sip.HeaderMaxForwards, 70)
	w.Copy(req, sip.HeaderRoute)
	w.Value(sip.HeaderFrom, req.Get(sip.HeaderFrom))
	w.Value(sip.HeaderTo, to)
	w.Value(sip.HeaderCallID, req.CallID())
}

// ack answers a non-2xx final response (RFC 3261 section 17.1.1.3).
func (c *Client) ack(resp *sip.Message) {
	var req sip.Message
	if err := req.Parse(bytes.Clone(c.request), sip.Limits{}); err != nil {
		return
	}
	var w sip.Writer
	w.RequestLine(sip.ACK, string(req.RequestURI()))
	c.copyIdentity(&w, &req, resp.Get(sip.HeaderTo))
	seq, _, _ := req.CSeq()
	w.CSeq(seq, sip.ACK)
	w.Body("", nil)
	c.Shard.Write(c.Conn, &w)
}

func (c *Client) retransmit() {
	c.Shard.layer.stats.retransmissions.Add(1)
	c.Shard.Send(c.Conn, c.request)
	c.interval *= 2
	if c.Method != sip.INVITE {
		c.interval = min(c.interval, c.Shard.layer.timers.T2)
		if c.state == clientProceeding {
			c.interval = c.Shard.layer.timers.T2
		}
	}
	c.Shard.Wake(&c.timer, c.interval, c)
}

func (c *Client) timeout() {
	c.Shard.layer.stats.timeouts.Add(1)
	c.fail(&ringfence.Fault{Op: "transaction", Kind: ringfence.KindTimeout, Text: "no answer came in time"})
}

// fail ends the transaction without an answer.
func (c *Client) fail(err error) {
	if c.state >= clientAccepted {
		return
	}
	c.end()
	c.heard(Answer{Err: err})
}

func (c *Client) end() {
	c.timer.Stop()
	c.giveUp.Stop()
	c.state = clientDone
	c.request = nil
	if c.Shard.clients[c.key()] == c {
		delete(c.Shard.clients, c.key())
		c.Shard.unlink(c)
	}
}

// link puts c on the list of its connection, so that the end of a connection costs no search. It becomes the second of it, so that the
// first, which the map knows, seldom changes.
func (s *Shard) link(c *Client) {
	first := s.byConn[c.Conn]
	if first == nil {
		s.byConn[c.Conn] = c
		return
	}
	if c.prev, c.next = first, first.next; c.next != nil {
		c.next.prev = c
	}
	first.next = c
}

func (s *Shard) unlink(c *Client) {
	if c.next != nil {
		c.next.prev = c.prev
	}
	switch {
	case c.prev != nil:
		c.prev.next = c.next
	case c.next != nil:
		s.byConn[c.Conn] = c.next
	default:
		delete(s.byConn, c.Conn)
	}
	c.next, c.prev = nil, nil
}

// connClosed fails what waits for a connection that ended. Server transactions on it end by their timers.
func (s *Shard) connClosed(conn *transport.Conn, cause error) {
	var failed []*Client
	for c := s.byConn[conn]; c != nil; c = c.next {
		failed = append(failed, c)
	}
	for _, c := range failed {
		if c.state >= clientAccepted {
			c.end()
			continue
		}
		c.fail(errClosed(cause))
	}
}

// IsClosed reports whether err says that a connection ended before an answer came.
func IsClosed(err error) bool {
	var f *ringfence.Fault
	return errors.As(err, &f) && f.Kind == ringfence.KindUnavailable
}
