package faults_test

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"strings"

	"ringfence/internal/sip"
	"ringfence/internal/sip/sdp"
)

// peer speaks SIP by hand over TLS: signalling only, as fast as the node answers. Its methods return errors, so that many may
// work at once.
type peer struct {
	s    *site
	conn *tls.Conn
	r    *bufio.Reader
	user string
	id   string
	seq  int

	params string // of its Contact, for a flow of several (RFC 5626)
}

// peer connects and registers a user.
func (s *site) peer(user string) (*peer, error) { return s.flow(user, "") }

// flow is peer with parameters of the Contact.
func (s *site) flow(user, params string) (*peer, error) {
	conn, err := s.dialTLS("127.0.0.1", s.SIP)
	if err != nil {
		return nil, err
	}
	s.Cleanup(func() { _ = conn.Close() })
	var nonce [8]byte
	_, _ = rand.Read(nonce[:])
	p := &peer{s: s, conn: conn, r: bufio.NewReader(conn), user: user, id: fmt.Sprintf("%x", nonce), params: params}
	return p, p.register()
}

// request writes a request of the dialog callID; fields are further header lines.
func (p *peer) request(method, uri, to, callID string, body []byte, fields ...string) error {
	if method != "ACK" {
		p.seq++
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s SIP/2.0\r\nVia: SIP/2.0/TLS 127.0.0.1;branch=z9hG4bK%s%d%s\r\nMax-Forwards: 70\r\nFrom: <sip:%s@%s>;tag=f%s\r\nTo: %s\r\nCall-ID: %s\r\nCSeq: %d %s\r\n"+
		"Contact: <sip:%s@%s;transport=tls>%s\r\n", method, uri, p.id, p.seq, method, p.user, p.s.Domain, p.id, to, callID, p.seq, method, p.user, p.conn.LocalAddr(), p.params)
	for _, f := range fields {
		b.WriteString(f + "\r\n")
	}
	if len(body) > 0 {
		b.WriteString("Content-Type: application/sdp\r\n")
	}
	b.WriteString("Content-Length: " + strconv.Itoa(len(body)) + "\r\n\r\n")
	b.Write(body)
	_, err := io.WriteString(p.conn, b.String())
	return err
}

// reply answers a request.
func (p *peer) reply(m *sip.Message, status int, body []byte) error {
	var w sip.Writer
	w.Response(m, status, "", "t"+p.id)
	w.Header(sip.HeaderContact, fmt.Sprintf("<sip:%s@%s;transport=tls>", p.user, p.conn.LocalAddr()))
	if len(body) > 0 {
		w.Body("application/sdp", body)
	} else {
		w.Body("", nil)
	}
	_, err := p.conn.Write(w.Bytes())
	return err
}

// recv reads the next message that is no provisional response.
func (p *peer) recv() (*sip.Message, error) {
	for {
		var head []byte
		for !bytes.HasSuffix(head, []byte("\r\n\r\n")) {
			line, err := p.r.ReadBytes('\n')
			if err != nil {
				return nil, err
			}
			if head = append(head, line...); string(head) == "\r\n" {
				head = nil
			}
		}
		length := 0
		for line := range strings.SplitSeq(string(head), "\r\n") {
			if v, ok := strings.CutPrefix(line, "Content-Length: "); ok {
				length, _ = strconv.Atoi(v)
			}
		}
		body := make([]byte, length)
		if _, err := io.ReadFull(p.r, body); err != nil {
			return nil, err
		}
		m := &sip.Message{}
		if err := m.Parse(append(head, body...), sip.Limits{}); err != nil {
			return nil, err
		}
		if m.IsRequest() || m.Status() >= 200 {
			return m, nil
		}
	}
}

// expect reads a request of a method (status 0) or a final response.
func (p *peer) expect(method sip.Method, status int) (*sip.Message, error) {
	m, err := p.recv()
	switch {
	case err != nil:
		return nil, err
	case status == 0 && (!m.IsRequest() || m.Method() != method):
		return m, fmt.Errorf("%s got %q, want a request", p.user, firstLine(m))
	case status != 0 && (m.IsRequest() || m.Status() != status):
		return m, fmt.Errorf("%s got %q, want %d", p.user, firstLine(m), status)
	}
	return m, nil
}

func firstLine(m *sip.Message) string {
	line, _, _ := bytes.Cut(m.Bytes(), []byte("\r\n"))
	return string(line)
}

var errUnchallenged = errors.New("there is no challenge")

// register binds the user's contact for an hour.
func (p *peer) register() error { return p.bind(3600) }

// bind binds the user's contact for so many seconds, or takes it back, and answers the challenge.
func (p *peer) bind(seconds int) error {
	expires := "Expires: " + strconv.Itoa(seconds)
	uri, aor := "sip:"+p.s.Domain, "<sip:"+p.user+"@"+p.s.Domain+">"
	if err := p.request("REGISTER", uri, aor, "r"+p.id, nil, expires, "Supported: outbound, path"); err != nil {
		return err
	}
	m, err := p.recv()
	if err != nil {
		return err
	}
	if m.Status() == 401 {
		c, ok := m.StrongestChallenge(sip.HeaderWWWAuthenticate, sip.DigestSHA256)
		if !ok {
			return errUnchallenged
		}
		auth := c.Authorize(sip.Answer{Username: p.user, Password: secret + p.user, Method: "REGISTER", URI: uri, CNonce: p.id, NC: 1})
		if err := p.request("REGISTER", uri, aor, "r"+p.id, nil, expires, "Supported: outbound, path", "Authorization: "+string(auth)); err != nil {
			return err
		}
		if m, err = p.recv(); err != nil {
			return err
		}
	}
	if m.Status() != 200 {
		return &statusError{m}
	}
	return nil
}

// statusError is an unwanted final response.
type statusError struct{ *sip.Message }

func (e *statusError) Error() string { return firstLine(e.Message) }

// offer is a description that offers one sealed codec.
func offer() []byte {
	return []byte("v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 9 RTP/SAVP 0\r\na=rtpmap:0 PCMU/8000\r\n" +
		"a=crypto:1 AEAD_AES_128_GCM inline:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGw==\r\n")
}

// answer is a description that accepts what body offers.
func answer(body []byte) ([]byte, error) {
	o, err := sdp.Parse(body)
	if err != nil {
		return nil, err
	}
	keys, err := sdp.NewCryptos(rand.Reader)
	if err != nil {
		return nil, err
	}
	a, _, err := sdp.Answer(o, sdp.RewriteOptions{Addr: netip.MustParseAddrPort("127.0.0.1:9"), Crypto: keys, Origin: sdp.Origin{ID: 1, Version: 1}}, sdp.PCMU())
	if err != nil {
		return nil, err
	}
	return a.Bytes(), nil
}

// dialog is one call of a caller and a callee made by hand.
type handCall struct {
	from, to *peer
	callID   string
	remote   string // To with the node's tag
	contact  string
	inDialog *sip.Message // the INVITE as the callee got it
}

// call sets up a call as far as both ends are confirmed. A refusal is a *statusError.
func (p *peer) call(to *peer, number string) (*handCall, error) {
	c := &handCall{from: p, to: to, callID: fmt.Sprintf("%s-%d", p.id, p.seq)}
	uri := "sip:" + number + "@" + p.s.Domain
	if err := p.request("INVITE", uri, "<"+uri+">", c.callID, offer()); err != nil {
		return nil, err
	}
	var err error
	if c.inDialog, err = to.expect(sip.INVITE, 0); err != nil {
		return nil, err
	}
	sdp, err := answer(c.inDialog.Body())
	if err != nil {
		return nil, err
	}
	if err := to.reply(c.inDialog, 200, sdp); err != nil {
		return nil, err
	}
	if _, err := to.expect(sip.ACK, 0); err != nil {
		return nil, err
	}
	m, err := p.expect(0, 200)
	if err != nil {
		return nil, err
	}
	contact, err := m.Contact()
	if err != nil {
		return nil, err
	}
	c.remote, c.contact = string(m.Get(sip.HeaderTo)), contact.URI.String()
	return c, p.request("ACK", c.contact, c.remote, c.callID, nil)
}

// refused sends an INVITE that is expected to fail and returns its final response.
func (p *peer) refused(number string) (*sip.Message, error) {
	uri := "sip:" + number + "@" + p.s.Domain
	callID := fmt.Sprintf("%s-%d", p.id, p.seq)
	if err := p.request("INVITE", uri, "<"+uri+">", callID, offer()); err != nil {
		return nil, err
	}
	m, err := p.recv()
	if err != nil {
		return nil, err
	}
	if m.IsRequest() || m.Status() < 300 {
		return m, fmt.Errorf("%q, want a refusal", firstLine(m))
	}
	// The ACK of a refusal belongs to its transaction: it carries the branch of the INVITE.
	ack := fmt.Sprintf("ACK %s SIP/2.0\r\nVia: SIP/2.0/TLS 127.0.0.1;branch=z9hG4bK%s%dINVITE\r\nMax-Forwards: 70\r\nFrom: <sip:%s@%s>;tag=f%s\r\nTo: %s\r\nCall-ID: %s\r\nCSeq: %d ACK\r\nContent-Length: 0\r\n\r\n",
		uri, p.id, p.seq, p.user, p.s.Domain, p.id, m.Get(sip.HeaderTo), callID, p.seq)
	_, err = io.WriteString(p.conn, ack)
	return m, err
}

// bye ends a call from the caller's side.
func (c *handCall) bye() error {
	if err := c.from.request("BYE", c.contact, c.remote, c.callID, nil); err != nil {
		return err
	}
	m, err := c.to.expect(sip.BYE, 0)
	if err != nil {
		return err
	}
	if err := c.to.reply(m, 200, nil); err != nil {
		return err
	}
	_, err = c.from.expect(0, 200)
	return err
}
