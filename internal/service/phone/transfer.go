package phone

import (
	"context"
	"encoding/hex"
	"errors"
	"strconv"
	"strings"

	"ringfence"
	"ringfence/internal/sip"
	"ringfence/internal/sip/dialog"
	"ringfence/internal/sip/transaction"
)

// referral is a REFER of ours whose outcome we wait for (RFC 3515).
type referral struct {
	accepted bool
	done     func(error)
}

// end tells the outcome, once. If the call ended first, that was the transfer's doing, provided the far end had agreed to it.
func (r *referral) end(err error, callEnded bool) {
	if r.done == nil {
		return
	}
	if callEnded && !r.accepted {
		err = &ringfence.Fault{Op: "phone.transfer", Kind: ringfence.KindCancelled, Text: "the call ended before it was transferred"}
	}
	done := r.done
	r.done = nil
	done(err)
}

// BlindTransfer asks the far end to call number instead, and waits until that call is answered; then it hangs up. On error the
// call goes on.
func (c *Call) BlindTransfer(ctx context.Context, number string) error {
	uri, err := c.phone.target(number)
	if err != nil {
		return err
	}
	return c.refer(ctx, "<"+uri+">")
}

// AttendedTransfer connects the far ends of c and other, both answered, and hangs up here (RFC 5589 section 7). On error both
// calls go on.
func (c *Call) AttendedTransfer(ctx context.Context, other *Call) error {
	other.mu.Lock()
	ids, peer, state := other.ids, other.peer, other.state
	other.mu.Unlock()
	if state != Up || other == c {
		return notUp("phone.transfer")
	}
	replaces := ids.callID + ";to-tag=" + ids.remote + ";from-tag=" + ids.local
	address, _, _ := strings.Cut(peer.Address, "?")
	err := c.refer(ctx, "<"+address+"?Replaces="+escapeHeader(replaces)+">")
	if err == nil {
		other.Hangup()
	}
	return err
}

func (c *Call) refer(ctx context.Context, referTo string) error {
	err := c.run(ctx, func(done func(error)) {
		if c.s.State() != dialog.Confirmed || c.referral != nil && c.referral.done != nil {
			done(notUp("phone.transfer"))
			return
		}
		r := &referral{done: done}
		c.referral = r
		c.s.Send(sip.REFER, func(w *sip.Writer) {
			w.Header(sip.HeaderReferTo, referTo)
			w.Header(sip.HeaderReferredBy, "<"+c.phone.Address()+">")
			c.phone.authorize(w, sip.REFER, c.s.Target)
		}, "", nil, func(a transaction.Answer) {
			switch status := a.Status(); {
			case status < 200:
			case status < 300:
				r.accepted = true
			case a.Message == nil:
				r.end(a.Err, false)
			default:
				r.end(refusal("phone.transfer", "the transfer was refused", a.Message), false)
			}
		})
	})
	if err == nil {
		c.Hangup()
	}
	return err
}

// notified takes a NOTIFY about our REFER: its body is the status line that the far end got from the target.
func (c *Call) notified(tx *transaction.Server) {
	m := tx.Request
	tx.Reply(200, "", nil)
	r := c.referral
	if r == nil {
		return
	}
	r.accepted = true
	status := fragStatus(m.Body())
	if status > 0 {
		c.tell(CallEvent{Kind: TransferProgress, Status: status})
	}
	state, _, _ := strings.Cut(string(m.Get(sip.HeaderSubscriptionState)), ";")
	switch {
	case status >= 200 && status < 300:
		r.end(nil, false)
	case status >= 300:
		line, _, _ := strings.Cut(string(m.Body()), "\r\n")
		phrase := strings.TrimSpace(line[min(len(line), len("SIP/2.0 200")):])
		r.end(rejected("phone.transfer", "the transfer target refused", &RejectedError{Status: status, Phrase: phrase}), false)
	case strings.EqualFold(strings.TrimSpace(state), "terminated"):
		r.end(&ringfence.Fault{Op: "phone.transfer", Kind: ringfence.KindUnavailable, Text: "the far end does not say how the transfer went"}, false)
	}
}

// fragStatus returns the status of a message/sipfrag body (RFC 3420), 0 if it has none.
func fragStatus(b []byte) int {
	rest, ok := strings.CutPrefix(string(b), "SIP/2.0 ")
	if !ok || len(rest) < 3 {
		return 0
	}
	n, err := strconv.ParseUint(rest[:3], 10, 16)
	if err != nil || n < 100 || n > 699 {
		return 0
	}
	return int(n)
}

// Requested implements dialog.User: any other request inside the call.
func (c *Call) Requested(s *dialog.Session, tx *transaction.Server) {
	m := tx.Request
	switch {
	case tx.Method == sip.NOTIFY && eventPackage(m.Get(sip.HeaderEvent)) == "refer":
		c.notified(tx)
	case tx.Method == sip.REFER:
		seq, _, _ := m.CSeq()
		c.phone.transferred(tx, func(line string, final bool) {
			c.shard.Post(func() {
				if s.State() == dialog.Confirmed {
					s.Send(sip.NOTIFY, func(w *sip.Writer) { referState(w, seq, final) }, "message/sipfrag;version=2.0", []byte(line+"\r\n"), nil)
				}
			})
		})
	case tx.Method == sip.INFO:
		tx.Reply(200, "", nil)
		if d := infoDigit(string(m.Get(sip.HeaderContentType)), string(m.Body())); d != 0 {
			c.heardDigit(d)
		}
	default:
		c.phone.request(tx)
	}
}

// infoDigit reads a key from an INFO as some gateways send it.
func infoDigit(contentType, body string) rune {
	kind, _, _ := strings.Cut(strings.ToLower(contentType), ";")
	body = strings.TrimSpace(body)
	switch strings.TrimSpace(kind) {
	case "application/dtmf":
	case "application/dtmf-relay":
		_, after, ok := strings.Cut(body, "Signal=")
		if !ok {
			return 0
		}
		body = strings.TrimSpace(after)
	default:
		return 0
	}
	if body == "" || !strings.ContainsRune("0123456789*#ABCD", rune(body[0])) {
		return 0
	}
	return rune(body[0])
}

func referState(w *sip.Writer, seq uint32, final bool) {
	w.Header(sip.HeaderEvent, "refer;id="+strconv.FormatUint(uint64(seq), 10))
	if final {
		w.Header(sip.HeaderSubscriptionState, "terminated;reason=noresource")
	} else {
		w.Header(sip.HeaderSubscriptionState, "active;expires=180")
	}
}

// transferred obeys a REFER: it places the call that it asks for and reports by notify how that goes.
func (p *Phone) transferred(tx *transaction.Server, notify func(line string, final bool)) {
	m := tx.Request
	to, err := sip.ParseNameAddr(m.Get(sip.HeaderReferTo))
	switch {
	case p.cfg.RefuseTransfer:
		tx.Reply(603, "", nil)
		return
	case err != nil || !to.URI.IsSIP():
		tx.Reply(400, "Bad Refer-To", nil)
		return
	}
	if method, ok := to.URI.Params.Get("method"); ok && string(method) != "INVITE" {
		tx.Reply(501, "", nil)
		return
	}
	opt := CallOptions{referredBy: string(m.Get(sip.HeaderReferredBy)), Replaces: uriHeader(to.URI.Headers, "Replaces")}
	uri, _, _ := strings.Cut(to.URI.String(), "?")
	if string(m.GetName("Refer-Sub")) == "false" { // RFC 4488
		notify = func(string, bool) {}
		tx.Reply(202, "Accepted", func(w *sip.Writer) { w.Named("Refer-Sub", "false") })
	} else {
		tx.Reply(202, "Accepted", nil)
	}
	notify("SIP/2.0 100 Trying", false)
	ok := p.spawn(func() {
		c, err := p.place(p.ctx, uri, Peer{Number: string(sip.Unescape(to.URI.User)), Address: uri}, opt, func(err error) { notify(fragLine(err), true) })
		if err != nil {
			if c == nil {
				notify(fragLine(err), true)
			}
			return
		}
		p.emit(Event{Kind: Transferred, Call: c})
	})
	if !ok {
		notify("SIP/2.0 480 Temporarily Unavailable", true)
	}
}

// fragLine is the status line that stands for the outcome of a call.
func fragLine(err error) string {
	if err == nil {
		return "SIP/2.0 200 OK"
	}
	var e *RejectedError
	if errors.As(err, &e) {
		return "SIP/2.0 " + strconv.Itoa(e.Status) + " " + sip.Phrase(e.Status)
	}
	status, phrase := ringfence.KindOf(err).SIP()
	return "SIP/2.0 " + strconv.Itoa(status) + " " + phrase
}

// referred handles a REFER outside a call: the server asks the phone to call somebody, e.g. for click-to-dial.
func (p *Phone) referred(tx *transaction.Server) {
	m := tx.Request
	contact, err := m.Contact()
	if err != nil {
		tx.Reply(400, "Missing Contact", nil)
		return
	}
	n := notifier{p: p, shard: tx.Shard, target: contact.URI.String(), callID: string(m.CallID()), local: string(m.Get(sip.HeaderTo)) + ";tag=" + tx.ToTag(), remote: string(m.Get(sip.HeaderFrom))}
	for line := range m.All(sip.HeaderRecordRoute) {
		for v := range sip.Values(line) {
			n.routes = append(n.routes, string(v))
		}
	}
	refer, _, _ := m.CSeq()
	p.transferred(tx, func(line string, final bool) { n.shard.Post(func() { n.send(refer, line, final) }) })
}

// notifier is the sending side of the subscription that a REFER outside a call makes.
type notifier struct {
	p             *Phone
	shard         *transaction.Shard
	target        string
	routes        []string
	callID        string
	local, remote string // with tags
	seq           uint32
}

func (n *notifier) send(refer uint32, line string, final bool) {
	conn := n.p.currentConn()
	if conn == nil {
		return
	}
	n.seq++
	n.shard.Request(conn, sip.NOTIFY, func(w *sip.Writer, via string) {
		w.RequestLine(sip.NOTIFY, n.target)
		w.Header(sip.HeaderVia, via)
		w.Uint(sip.HeaderMaxForwards, 70)
		for _, r := range n.routes {
			w.Header(sip.HeaderRoute, r)
		}
		w.Header(sip.HeaderFrom, n.local)
		w.Header(sip.HeaderTo, n.remote)
		w.Header(sip.HeaderCallID, n.callID)
		w.CSeq(n.seq, sip.NOTIFY)
		w.Header(sip.HeaderContact, n.p.contactNow())
		referState(w, refer, final)
		n.p.agreement.Write(w, sip.NOTIFY)
		w.Body("message/sipfrag;version=2.0", []byte(line+"\r\n"))
	}, func(transaction.Answer) {})
}

// escapeHeader escapes a header value for the part of a URI behind "?" (RFC 3261 section 25.1, hvalue).
func escapeHeader(s string) string {
	const safe = "-_.!~*'()[]/?:+$"
	var b strings.Builder
	for i := range len(s) {
		c := s[i]
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte(safe, c) >= 0 {
			b.WriteByte(c)
			continue
		}
		b.WriteString("%" + strings.ToUpper(hex.EncodeToString([]byte{c})))
	}
	return b.String()
}

// uriHeader returns the value of a header in the part of a URI behind "?", unescaped; "" if there is none.
func uriHeader(headers []byte, name string) string {
	for part := range strings.SplitSeq(string(headers), "&") {
		n, v, _ := strings.Cut(part, "=")
		if strings.EqualFold(n, name) {
			return string(sip.Unescape([]byte(v)))
		}
	}
	return ""
}
