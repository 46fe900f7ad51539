package load

import (
	"bytes"
	"fmt"
	"strconv"
	"sync"
	"time"

	"ringfence/internal/sip"
)

// sdpText is the offer or answer of a phone with sealed media: port, and a 30-byte key in base64.
const sdpText = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio %d RTP/SAVP 0 101\r\n" +
	"a=rtpmap:0 PCMU/8000\r\na=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\na=ptime:20\r\n" +
	"a=crypto:%d AES_CM_128_HMAC_SHA1_80 inline:%s\r\na=sendrecv\r\n"

// plainText is the same of a phone with RTP in the clear.
const plainText = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio %d RTP/AVP 0 101\r\n" +
	"a=rtpmap:0 PCMU/8000\r\na=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\na=ptime:20\r\na=sendrecv\r\n"

// description returns the offer or answer of the phone; tag is that of the suite.
func (p *Phone) description(port, tag int, key string) []byte {
	port += 2 * (p.n % 10000)
	if p.t.Plain {
		return fmt.Appendf(nil, plainText, port)
	}
	return fmt.Appendf(nil, sdpText, port, tag, key)
}

// patience is how long a datagram is waited for until the request is sent again: T1 of RFC 3261.
const patience = 500 * time.Millisecond

// caller runs one call at a time on one connection.
type caller struct {
	*Phone
	w      *Work
	to     string
	n      int
	callID string
	branch int
	cseq   uint32
}

// PlaceCalls calls from each phone of a to the phone of b with the same index: rate calls a second, or each phone one after the other.
func PlaceCalls(a, b []*Phone, rate int) *Job {
	j := &Job{Work: &Work{}}
	j.pace(rate)
	deadline := func(p *Phone, d time.Time) { _ = p.tc.SetReadDeadline(d) }
	var callees sync.WaitGroup
	for _, p := range b {
		deadline(p, time.Time{})
		callees.Go(func() {
			if err := p.answerCalls(); err != nil {
				j.fail(err)
			}
		})
	}
	j.wake = func() {
		time.Sleep(300 * time.Millisecond) // calls under way end
		for _, p := range b {
			deadline(p, time.Unix(1, 0))
		}
		callees.Wait()
		for _, p := range b {
			deadline(p, time.Time{})
		}
	}
	for i, p := range a {
		j.wg.Go(func() {
			c := &caller{Phone: p, w: j.Work, to: b[i].user}
			for j.turn() {
				if err := c.call(); err != nil {
					j.fail(err)
					return
				}
				j.ops.Add(1)
			}
		})
	}
	return j
}

// call runs one call from INVITE to the 200 for BYE.
func (c *caller) call() error {
	c.n++
	c.callID = c.id + "c" + strconv.Itoa(c.n)
	defer func() { _ = c.tc.SetReadDeadline(time.Time{}) }()
	to := "sip:" + c.to + "@" + c.t.Domain
	body := c.description(20000, 1, callerKey)
	seq := 1
	for ; ; seq++ {
		if err := c.request(sip.INVITE, to, "<"+to+">", nil, seq, body); err != nil {
			return err
		}
		status, err := c.final(sip.INVITE)
		if err != nil {
			return err
		}
		if status == 200 {
			break
		}
		if err := c.challenged(); err != nil || seq > 2 {
			return fmt.Errorf("INVITE: %d %s %s", status, c.msg.Reason(), c.msg.Get(sip.HeaderWarning))
		}
		if err := c.write(sip.ACK, to, string(c.msg.Get(sip.HeaderTo)), nil, seq, nil); err != nil { // of the refusal: in its transaction
			return err
		}
	}
	remote, err := c.msg.Contact()
	if err != nil {
		return err
	}
	target, toField := remote.URI.String(), string(c.msg.Get(sip.HeaderTo))
	var route []string
	for line := range c.msg.All(sip.HeaderRecordRoute) {
		for v := range sip.Values(line) {
			route = append([]string{string(v)}, route...)
		}
	}
	if err := c.request(sip.ACK, target, toField, route, seq, nil); err != nil {
		return err
	}
	if err := c.request(sip.BYE, target, toField, route, seq+1, nil); err != nil {
		return err
	}
	_, err = c.final(sip.BYE)
	return err
}

// callerKey and calleeKey are SDES keys (RFC 4568) of no secret worth: the media of these calls never flows.
const (
	callerKey = "d0RmdmcmVCspeEc3QGZiNWpVLFJhQX1cfHAwJSoj"
	calleeKey = "WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz"
)

// request begins a transaction; write sends one more request of it.
func (c *caller) request(m sip.Method, uri, to string, route []string, seq int, body []byte) error {
	c.branch++
	return c.write(m, uri, to, route, seq, body)
}

func (c *caller) write(m sip.Method, uri, to string, route []string, seq int, body []byte) error {
	var w sip.Writer
	w.Reset(c.out)
	w.RequestLine(m, uri)
	w.Header(sip.HeaderVia, c.t.via()+c.self+";branch=z9hG4bK"+c.id+"b"+strconv.Itoa(c.branch)+";rport")
	for _, r := range route {
		w.Header(sip.HeaderRoute, r)
	}
	w.Uint(sip.HeaderMaxForwards, 70)
	w.Header(sip.HeaderFrom, "<sip:"+c.user+"@"+c.t.Domain+">;tag=c"+strconv.Itoa(c.n))
	w.Header(sip.HeaderTo, to)
	w.Header(sip.HeaderCallID, c.callID)
	c.cseq = uint32(seq)
	w.CSeq(c.cseq, m)
	if m == sip.INVITE {
		w.Header(sip.HeaderContact, c.contact())
		if c.t.Plain && c.nonce != "" { // a datagram belongs to no connection that is known
			w.Header(sip.HeaderAuthorization, c.credentials("INVITE", uri))
		}
		w.Body("application/sdp", body)
	} else {
		w.Body("", nil)
	}
	c.out = w.Bytes()
	_, err := c.tc.Write(c.out)
	return err
}

// final waits for the final response of this call's request, which is the last thing that was sent.
func (c *caller) final(m sip.Method) (int, error) {
	wait, tries := 5*time.Second, 1
	if c.t.Plain {
		wait, tries = patience, 10
	}
	_ = c.tc.SetReadDeadline(time.Now().Add(wait))
	for {
		err := c.next()
		if ne, ok := err.(interface{ Timeout() bool }); ok && ne.Timeout() && tries > 1 {
			tries--
			c.w.again.Add(1)
			_ = c.tc.SetReadDeadline(time.Now().Add(wait))
			if _, err := c.tc.Write(c.out); err != nil {
				return 0, err
			}
			continue
		}
		if err != nil {
			return 0, fmt.Errorf("waiting for %s: %w", m, err)
		}
		if c.msg.IsRequest() {
			return 0, fmt.Errorf("a caller got a %s", c.msg.Method())
		}
		seq, method, _ := c.msg.CSeq()
		if seq != c.cseq || method != m || !bytes.Equal(c.msg.CallID(), []byte(c.callID)) || c.msg.Status() < 200 {
			continue
		}
		s := c.msg.Status()
		if s != 200 && (s != 401 || m != sip.INVITE) {
			return s, fmt.Errorf("%s: %d %s %s", m, s, c.msg.Reason(), c.msg.Get(sip.HeaderWarning))
		}
		return s, nil
	}
}

// answerCalls rings, answers and lets itself be hung up, until the read deadline passes.
func (p *Phone) answerCalls() error {
	for {
		if err := p.next(); err != nil {
			if ne, ok := err.(interface{ Timeout() bool }); ok && ne.Timeout() {
				return nil
			}
			return fmt.Errorf("callee: %w", err)
		}
		if !p.msg.IsRequest() {
			continue
		}
		var err error
		switch p.msg.Method() {
		case sip.INVITE:
			if err = p.reply(180, nil); err == nil {
				err = p.reply(200, p.description(20001, cryptoTag(p.msg.Body()), calleeKey))
			}
		case sip.ACK:
		default:
			err = p.reply(200, nil)
		}
		if err != nil {
			return err
		}
	}
}

func (p *Phone) reply(status int, body []byte) error {
	var w sip.Writer
	w.Reset(p.out)
	w.Response(&p.msg, status, "", "a"+p.user)
	if status < 300 && p.msg.Method() == sip.INVITE {
		w.Copy(&p.msg, sip.HeaderRecordRoute)
		w.Header(sip.HeaderContact, p.contact())
	}
	if body != nil {
		w.Body("application/sdp", body)
	} else {
		w.Body("", nil)
	}
	p.out = w.Bytes()
	_, err := p.tc.Write(p.out)
	return err
}

// cryptoTag returns the tag of the suite that the phone speaks in an offer (RFC 4568 section 5.1.2); without it the answer will be refused.
func cryptoTag(offer []byte) int {
	i := bytes.Index(offer, []byte(" AES_CM_128_HMAC_SHA1_80 "))
	if i < 1 {
		return 0
	}
	return int(offer[i-1] - '0')
}
