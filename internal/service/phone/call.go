package phone

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"ringfence"
	"ringfence/internal/sip"
	"ringfence/internal/sip/dialog"
	"ringfence/internal/sip/sdp"
	"ringfence/internal/sip/transaction"
)

// CallState is the state of a call.
type CallState uint8

// The states of a call, in order.
const (
	Dialling CallState = iota // an outgoing call: nothing heard yet
	Ringing                   // it rings, there or here
	Up                        // answered
	Ended
)

// String returns the state in a word.
func (s CallState) String() string {
	return [...]string{"dialling", "ringing", "up", "ended"}[min(s, Ended)]
}

// CallEventKind says what a [CallEvent] tells.
type CallEventKind uint8

// The kinds of call event.
const (
	CallChanged      CallEventKind = iota // State is new
	CallHeld                              // the far end put us on hold
	CallResumed                           // the far end took us back
	CallRekeyed                           // both directions have new keys
	CallDigit                             // Digit was pressed at the far end
	TransferProgress                      // Status is what the far end hears from the transfer target
)

// CallEvent is something that happened to a call.
type CallEvent struct {
	Kind   CallEventKind
	State  CallState
	Digit  rune
	Status int
}

// CallOptions are choices for one call. The zero value is a call with silence that is not recorded.
type CallOptions struct {
	Audio   Source // what it says
	Hear    Sink   // what it plays to
	Private bool   // asks the network to withhold our name (RFC 3323)
	// RingTime is how long it may ring before we give up; 0 means 3 min.
	RingTime time.Duration

	// Replaces takes the place of a dialog (RFC 3891), as in "call-id;to-tag=a;from-tag=b;early-only"; see [DialogState.Replaces].
	Replaces string

	referredBy string
}

// Call is one call of a phone. Its methods may be called from any goroutine but not from a [Source] or [Sink].
type Call struct {
	phone    *Phone
	shard    *transaction.Shard // owns everything up to mu
	incoming bool
	page     bool // the caller asks for an answer without anybody doing anything
	opt      CallOptions

	s         *dialog.Session
	media     *media
	uri       string
	offered   *sdp.Session // our offer in the INVITE transaction; if late, it went out in the 2xx and the ACK answers it
	invited   *sdp.Session // the caller's offer, nil if it asks for ours
	last      *sdp.Session // last description we sent
	late      bool
	holding   bool
	held      bool
	redirects int
	visited   []string
	tries     int // challenges answered
	giveUp    error
	insecure  error             // why the call could not be sealed
	ring      transaction.Timer // limits the ringing
	swap      transaction.Timer // limits the wait for a new key to be used
	referral  *referral         // our REFER
	onAnswer  func(error)       // tells who had this call made, once
	replaced  *Call             // ends when this call is up

	events chan CallEvent
	keyed  chan rune

	mu      sync.Mutex
	state   CallState
	err     error
	status  int
	changed chan struct{} // closed and replaced when state changes
	ids     dialogIDs
	peer    Peer
	sealed  *media // media once it has keys
}

// Peer is who is at the far end, as the server says.
type Peer struct {
	Number  string // user part of its address
	Address string // its URI
	Display string
}

// dialogIDs names a dialog for Replaces.
type dialogIDs struct{ callID, local, remote string }

func (p *Phone) newCall(shard *transaction.Shard, incoming bool, opt CallOptions) *Call {
	return &Call{phone: p, shard: shard, incoming: incoming, opt: opt, events: make(chan CallEvent, 64), keyed: make(chan rune, 256), changed: make(chan struct{})}
}

// admit adds the call to the phone's, unless there are too many.
func (p *Phone) admit(c *Call) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.closed:
		return &ringfence.Fault{Op: "phone.call", Kind: ringfence.KindUnavailable, Text: "the phone is closed"}
	case len(p.calls) >= p.cfg.MaxCalls:
		return &ringfence.Fault{Op: "phone.call", Kind: ringfence.KindBusy, Text: "the phone has as many calls as it may"}
	}
	p.calls[c] = struct{}{}
	return nil
}

// spawn runs f in a goroutine that Close waits for; it does not if the phone is closed.
func (p *Phone) spawn(f func()) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return false
	}
	p.wg.Go(f)
	return true
}

// Page reports whether the caller asks for an answer without anybody doing anything.
func (c *Call) Page() bool { return c.page }

// Incoming reports whether the far end called us.
func (c *Call) Incoming() bool { return c.incoming }

// Peer returns who is at the far end.
func (c *Call) Peer() Peer {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.peer
}

// ID returns the Call-ID of the leg.
func (c *Call) ID() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ids.callID
}

// State returns the state, and for an ended call why it ended: nil for a normal good-bye.
func (c *Call) State() (CallState, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state, c.err
}

// Events delivers what happens to the call. If nobody reads it, the oldest events are dropped.
func (c *Call) Events() <-chan CallEvent { return c.events }

// Digits delivers the keys pressed at the far end.
func (c *Call) Digits() <-chan rune { return c.keyed }

// wait waits until f is true of the state.
func (c *Call) wait(ctx context.Context, f func(CallState) bool) error {
	for {
		c.mu.Lock()
		state, err, changed := c.state, c.err, c.changed
		c.mu.Unlock()
		switch {
		case f(state):
			return nil
		case state == Ended && err != nil:
			return err
		case state == Ended:
			return &ringfence.Fault{Op: "phone.call", Kind: ringfence.KindCancelled, Text: "the call ended"}
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return &ringfence.Fault{Op: "phone.call", Kind: ringfence.KindTimeout, Text: "the call is still " + state.String(), Err: ctx.Err()}
		}
	}
}

// WaitRinging waits until the far end rings or has answered. The error is why the call ended instead; see [RejectedError].
func (c *Call) WaitRinging(ctx context.Context) error {
	return c.wait(ctx, func(s CallState) bool { return s == Ringing || s == Up })
}

// WaitAnswered waits until the call is up.
func (c *Call) WaitAnswered(ctx context.Context) error {
	return c.wait(ctx, func(s CallState) bool { return s == Up })
}

// WaitEnded waits until the call has ended and returns why, nil for a normal good-bye.
func (c *Call) WaitEnded(ctx context.Context) error {
	if err := c.wait(ctx, func(s CallState) bool { return s == Ended }); err != nil {
		return err
	}
	_, err := c.State()
	return err
}

func (c *Call) setState(s CallState) {
	c.mu.Lock()
	if c.state >= s {
		c.mu.Unlock()
		return
	}
	c.state = s
	close(c.changed)
	c.changed = make(chan struct{})
	c.mu.Unlock()
	offer(c.events, CallEvent{Kind: CallChanged, State: s})
}

func (c *Call) tell(e CallEvent) {
	e.State, _ = c.State()
	offer(c.events, e)
}

func (c *Call) heardDigit(d rune) {
	offer(c.keyed, d)
	c.tell(CallEvent{Kind: CallDigit, Digit: d})
}

// Hangup ends the call: it cancels, declines or says good-bye, as the state wants. It does not wait for the far end.
func (c *Call) Hangup() { c.hangup("") }

func (c *Call) hangup(reason string) { c.shard.Post(func() { c.bye(reason) }) }

// bye runs on the shard.
func (c *Call) bye(reason string) {
	if c.s == nil {
		return
	}
	if c.s.State() == dialog.Early && c.s.UAC {
		c.giveUp = &ringfence.Fault{Op: "phone.call", Kind: ringfence.KindCancelled, Text: "the call was given up before it was answered"}
		c.s.Cancel(reason)
		return
	}
	c.s.Bye(reason)
}

// learn notes the dialog's names and who the far end is.
func (c *Call) learn(m *sip.Message) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ids = dialogIDs{callID: c.s.CallID, local: c.s.LocalTag, remote: c.s.RemoteTag}
	if m == nil {
		return
	}
	if peer, ok := peerOf(m); ok {
		c.peer = peer
	}
}

// peerOf returns who sent a message, as the server asserts it, or of a request as it says itself.
func peerOf(m *sip.Message) (Peer, bool) {
	v := m.Get(sip.HeaderPAssertedIdentity)
	if len(v) == 0 && m.IsRequest() {
		v = m.Get(sip.HeaderFrom)
	}
	a, err := sip.ParseNameAddr(v)
	if len(v) == 0 || err != nil || !a.URI.IsSIP() {
		return Peer{}, false
	}
	return Peer{Number: string(sip.Unescape(a.URI.User)), Address: a.URI.String(), Display: strings.ReplaceAll(string(a.Display), `\`, "")}, true
}

// finish ends the call here. It runs on the shard, once.
func (c *Call) finish(err error) {
	if state, _ := c.State(); state == Ended {
		return
	}
	c.ring.Stop()
	c.swap.Stop()
	if c.media != nil {
		c.media.close()
	}
	if c.referral != nil {
		c.referral.end(nil, true)
	}
	c.mu.Lock()
	c.err = err
	c.mu.Unlock()
	c.phone.mu.Lock()
	delete(c.phone.calls, c)
	c.phone.mu.Unlock()
	c.setState(Ended)
	c.outcome(err, true)
}

// outcome tells who had the call made how it went, once.
func (c *Call) outcome(err error, ended bool) {
	if f := c.onAnswer; f != nil {
		c.onAnswer = nil
		if ended && err == nil {
			err = &ringfence.Fault{Op: "phone.call", Kind: ringfence.KindUnavailable, Text: "the call ended"}
		}
		f(err)
	}
}

// Proof returns the evidence about the leg. The verdict is sealed while signalling runs over verified TLS; media counts
// appear once the leg has keys.
func (c *Call) Proof() ringfence.Proof {
	conn := c.phone.Proof()
	c.mu.Lock()
	id, peer, m, err := c.ids.callID, c.peer, c.sealed, c.err
	c.mu.Unlock()
	out := ringfence.Proof{ID: id, Peer: peer.Address, Verdict: conn.Verdict, Reason: conn.Reason, Auth: conn.Auth, TLS: conn.TLS, At: time.Now()}
	if m != nil {
		out.Media = m.proof()
	}
	if ringfence.KindOf(err) == ringfence.KindInsecure && err != nil {
		out.Verdict, out.Reason = ringfence.Refused, err.Error()
	}
	return out
}

// Audio reports what the call said and heard so far.
func (c *Call) Audio() Audio {
	c.mu.Lock()
	m := c.sealed
	c.mu.Unlock()
	if m == nil {
		return Audio{HeardLevel: -100}
	}
	return m.audio()
}

// SetAudio replaces what the call says and plays to; nil keeps what there is.
func (c *Call) SetAudio(source Source, sink Sink) {
	c.mu.Lock()
	m := c.sealed
	c.mu.Unlock()
	if m != nil {
		m.set(source, sink)
	}
}

// SendDigits presses keys, 100 ms each, as telephone-events (RFC 4733). It returns at once.
func (c *Call) SendDigits(digits string) error {
	c.mu.Lock()
	m, state := c.sealed, c.state
	c.mu.Unlock()
	if m == nil || state == Ended {
		return &ringfence.Fault{Op: "phone.digits", Kind: ringfence.KindConflict, Text: "the call is not up"}
	}
	return m.press(strings.ToUpper(digits), 100*time.Millisecond)
}

// run does f on the call's shard and waits for the result that f hands to its argument, once, now or later.
func (c *Call) run(ctx context.Context, f func(done func(error))) error {
	result := make(chan error, 1)
	c.shard.Do(func() { f(func(err error) { offer(result, err) }) })
	select {
	case err := <-result:
		return err
	case <-ctx.Done():
		return &ringfence.Fault{Op: "phone.call", Kind: ringfence.KindTimeout, Text: "the far end did not answer in time", Err: ctx.Err()}
	}
}

var errNotUp = errors.New("the call is not up")

func notUp(op string) error {
	return &ringfence.Fault{Op: op, Kind: ringfence.KindConflict, Text: errNotUp.Error()}
}
