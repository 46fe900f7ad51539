package node_test

import (
	"bufio"
	"bytes"
	"cmp"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"ringfence"
	"ringfence/internal/node/config"
	"ringfence/internal/service/phone"
	"ringfence/internal/sip"
	"ringfence/internal/sip/sdp"
	"ringfence/internal/sip/transport"
	"ringfence/internal/trust/enroll"
)

// rawPeer speaks SIP by hand over TLS, for what no good phone would say.
type rawPeer struct {
	*site
	conn net.Conn
	r    *bufio.Reader
	user string
	seq  int
	id   string

	params   string // of its Contact
	forwards string // Max-Forwards; empty: 70
}

func (s *site) raw(id enroll.Identity) *rawPeer {
	s.Helper()
	d := tls.Dialer{Config: &tls.Config{RootCAs: id.Pool(), Certificates: []tls.Certificate{id.Certificate()}, ServerName: id.Bootstrap.Domain}}
	c, err := d.DialContext(s.Ctx, "tcp", s.Node.SIPAddr().String())
	s.OK(err)
	return s.over(c, string(id.Bootstrap.User))
}

// over returns a peer that speaks over a connection.
func (s *site) over(c net.Conn, user string) *rawPeer {
	s.Helper()
	s.Cleanup(func() { _ = c.Close() })
	if end, ok := s.Ctx.Deadline(); ok {
		_ = c.SetDeadline(end)
	}
	var nonce [8]byte
	_, _ = rand.Read(nonce[:])
	return &rawPeer{site: s, conn: c, r: bufio.NewReader(c), user: user, id: fmt.Sprintf("%x", nonce)}
}

// send writes a request; fields are further header lines.
func (p *rawPeer) send(method, uri, to string, body []byte, fields ...string) {
	p.Helper()
	if method != "ACK" && method != "CANCEL" {
		p.seq++
	}
	domain := p.Node.Config.Domain
	msg := fmt.Sprintf("%s %s SIP/2.0\r\nVia: SIP/2.0/TLS 127.0.0.1;branch=z9hG4bK%s%d%s\r\nMax-Forwards: %s\r\nFrom: <sip:%s@%s>;tag=f%s\r\nTo: %s\r\nCall-ID: %s\r\nCSeq: %d %s\r\n"+
		"Contact: <sip:%s@%s;transport=tls>%s\r\n", method, uri, p.id, p.seq, method, cmp.Or(p.forwards, "70"), p.user, domain, p.id, to, p.id, p.seq, method, p.user, p.conn.LocalAddr(), p.params)
	for _, f := range fields {
		msg += f + "\r\n"
	}
	if len(body) > 0 {
		msg += "Content-Type: application/sdp\r\n"
	}
	msg += "Content-Length: " + strconv.Itoa(len(body)) + "\r\n\r\n"
	_, err := p.conn.Write(append([]byte(msg), body...))
	p.OK(err)
}

// recv reads the next message that is no provisional 100.
func (p *rawPeer) recv() *sip.Message {
	p.Helper()
	for {
		var head []byte
		for !bytes.HasSuffix(head, []byte("\r\n\r\n")) {
			line, err := p.r.ReadBytes('\n')
			p.OK(err)
			head = append(head, line...)
		}
		length := 0
		for line := range strings.SplitSeq(string(head), "\r\n") {
			if v, ok := strings.CutPrefix(line, "Content-Length: "); ok {
				length, _ = strconv.Atoi(v)
			}
		}
		body := make([]byte, length)
		_, err := io.ReadFull(p.r, body)
		p.OK(err)
		m := &sip.Message{}
		p.OK(m.Parse(append(head, body...), sip.Limits{}))
		if m.Status() != 100 {
			return m
		}
	}
}

// final reads until a final response.
func (p *rawPeer) final() *sip.Message {
	p.Helper()
	for {
		if m := p.recv(); m.Status() >= 200 {
			return m
		}
	}
}

func TestLateOffer(t *testing.T) {
	s := newSite(t, nil)
	s.User("alice", "101")
	s.User("bob", "102")
	bob := s.Phone("bob")
	p := s.raw(s.Identity("alice", "alice-raw"))
	uri := "sip:102@" + s.Node.Config.Domain
	p.send("INVITE", uri, "<"+uri+">", nil)
	in := s.Incoming(bob)
	s.OK(in.Answer(s.Ctx, phone.CallOptions{Audio: phone.Tone(700)}))
	ok := p.final()
	if ok.Status() != 200 {
		t.Fatalf("%d %s", ok.Status(), ok.Reason())
	}
	offer, err := sdp.Parse(ok.Body())
	s.OK(err)
	s.OK(offer.Sealed())
	crypto, err := sdp.NewCryptos(rand.Reader)
	s.OK(err)
	answer, _, err := sdp.Answer(offer, sdp.RewriteOptions{Addr: netip.MustParseAddrPort("127.0.0.1:40000"), Crypto: crypto, Origin: sdp.Origin{ID: 1, Version: 1}}, sdp.PCMU(), sdp.PCMA(), sdp.G722())
	s.OK(err)
	contact, err := ok.Contact()
	s.OK(err)
	p.send("ACK", contact.URI.String(), string(ok.Get(sip.HeaderTo)), answer.Bytes())
	s.Until("the call is sealed on both legs", func() bool {
		v := s.Node.Calls.List()
		return len(v) == 1 && v[0].State == "up" && v[0].Verdict == ringfence.Sealed && v[0].Legs[0].Media != nil && v[0].Legs[0].Media.PacketsOut > 5
	})
	p.send("BYE", contact.URI.String(), string(ok.Get(sip.HeaderTo)), nil)
	if m := p.final(); m.Status() != 200 {
		t.Errorf("BYE: %d", m.Status())
	}
	s.OK(in.WaitEnded(s.Ctx))
}

// What cannot be sealed is refused with a cause and counted; what is not one's own is not touched.
func TestFailClosed(t *testing.T) {
	s := newSite(t, nil)
	s.User("alice", "101")
	s.User("bob", "102")
	s.User("mallory", "103")
	alice, bob := s.Phone("alice"), s.Phone("bob")
	p := s.raw(s.Identity("mallory", "mallory-raw"))
	uri := "sip:102@" + s.Node.Config.Domain

	plain := "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n"
	p.send("INVITE", uri, "<"+uri+">", []byte(plain))
	m := p.final()
	if m.Status() != 488 || !strings.Contains(string(m.Get(sip.HeaderWarning)), "399") || !strings.Contains(string(m.Get(sip.HeaderReason)), "cause=58") {
		t.Errorf("plain RTP: %d, Warning %q, Reason %q", m.Status(), m.Get(sip.HeaderWarning), m.Get(sip.HeaderReason))
	}
	p.send("ACK", uri, string(m.Get(sip.HeaderTo)), nil)
	if s.Node.Calls.Refused() != 1 {
		t.Errorf("%d refusals are counted", s.Node.Calls.Refused())
	}

	out, in := s.Talk(alice, bob, "102")
	s.Hears(in, 440)
	// A BYE for a call that is not one's own, even with guessed identifiers.
	p.send("BYE", uri, "<"+uri+">;tag=8000000000000000", nil)
	if m := p.final(); m.Status() != 481 {
		t.Errorf("BYE of a stranger: %d", m.Status())
	}
	// Registering somebody else's address.
	p.send("REGISTER", "sip:"+s.Node.Config.Domain, "<sip:bob@"+s.Node.Config.Domain+">", nil)
	if m := p.final(); m.Status() != 403 {
		t.Errorf("REGISTER for another user: %d", m.Status())
	}
	p.send("INVITE", "sip:00331234567@"+s.Node.Config.Domain, "<sip:00331234567@x>", []byte(plain), "Require: unheard-of")
	if m := p.final(); m.Status() != 420 || string(m.Get(sip.HeaderUnsupported)) != "unheard-of" {
		t.Errorf("unknown extension: %d", m.Status())
	}
	s.Hears(in, 440)
	out.Hangup()
	s.OK(in.WaitEnded(s.Ctx))

	// No certificate and no credentials: everybody is asked the same, whoever they say they are.
	d := tls.Dialer{Config: &tls.Config{RootCAs: s.Node.Authority.Roots(), ServerName: s.Node.Config.Domain}}
	answers := map[string]bool{}
	for _, user := range []string{"bob", "nobody"} {
		c, err := d.DialContext(s.Ctx, "tcp", s.Node.SIPAddr().String())
		s.OK(err)
		anon := &rawPeer{site: s, conn: c, r: bufio.NewReader(c), user: user, id: "same"}
		aor := "<sip:" + user + "@" + s.Node.Config.Domain + ">"
		anon.send("REGISTER", "sip:"+s.Node.Config.Domain, aor, nil)
		m := anon.final()
		challenge := string(m.Get(sip.HeaderWWWAuthenticate))
		nonce := strings.Index(challenge, "nonce=")
		answers[fmt.Sprint(m.Status(), string(m.Reason()), challenge[:max(nonce, 0)])] = true
		_ = c.Close()
	}
	if len(answers) != 1 {
		t.Errorf("known and unknown users get different answers: %v", answers)
	}
}

// A phone that vanishes in the middle of a call does not leave the other side alone for ever.
func TestSilentPhoneEndsTheCall(t *testing.T) {
	s := newSite(t, func(c *config.Config) { c.Calls.Silence = time.Second })
	s.User("alice", "101")
	s.User("bob", "102")
	bob := s.Phone("bob")
	p := s.raw(s.Identity("alice", "alice-raw"))
	uri := "sip:102@" + s.Node.Config.Domain
	crypto, err := sdp.NewCryptos(rand.Reader)
	s.OK(err)
	offer, err := sdp.BuildOffer(sdp.RewriteOptions{Addr: netip.MustParseAddrPort("127.0.0.1:40000"), Crypto: crypto, Origin: sdp.Origin{ID: 1, Version: 1}}, sdp.PCMU())
	s.OK(err)
	p.send("INVITE", uri, "<"+uri+">", offer.Bytes(), "Privacy: id")
	in := s.Incoming(bob)
	if in.Peer().Number != "anonymous" {
		t.Errorf("bob is told that %q calls, although the caller withholds it", in.Peer().Number)
	}
	s.OK(in.Answer(s.Ctx, phone.CallOptions{}))
	ok := p.final()
	contact, err := ok.Contact()
	s.OK(err)
	p.send("ACK", contact.URI.String(), string(ok.Get(sip.HeaderTo)), nil)
	_ = in.WaitEnded(s.Ctx)
	s.Until("the record says why", func() bool {
		cdrs, err := s.Node.Store.CDRs(s.Ctx, time.Time{}, time.Time{}, 10)
		return err == nil && len(cdrs) == 1 && strings.Contains(cdrs[0].Cause, "no media from alice-raw")
	})
}

// Two devices behind one address, neither with a certificate: knowing every tag of the other's call is not enough to end it.
func TestStrangerBehindTheSameAddressCannotEndACall(t *testing.T) {
	s := newSite(t, nil)
	s.User("alice", "101")
	s.User("bob", "102")
	s.User("mallory", "103")
	const password = "correct horse battery"
	digest := func(user ringfence.UserID, change func(*phone.Config)) *phone.Phone {
		id := ringfence.DeviceID(user + "-soft")
		s.Password(user, id, password, ringfence.AuthDigestSHA256)
		cfg := s.Client()
		cfg.User, cfg.AuthUser, cfg.Password = string(user), string(id), password
		if change != nil {
			change(&cfg)
		}
		return s.Start(cfg)
	}
	// What alice's phone says and hears is all that mallory could ever know.
	var mu sync.Mutex
	var ack string
	alice := digest("alice", func(c *phone.Config) {
		c.Trace = func(_ *transport.Conn, msg []byte, sent bool) {
			if sent && bytes.HasPrefix(msg, []byte("ACK ")) {
				mu.Lock()
				ack = string(msg)
				mu.Unlock()
			}
		}
	})
	bob := s.Phone("bob")
	out, in := s.Talk(alice, bob, "102")
	s.Hears(in, 440)

	d := tls.Dialer{Config: &tls.Config{RootCAs: s.Node.Authority.Roots(), ServerName: s.Node.Config.Domain}}
	c, err := d.DialContext(s.Ctx, "tcp", s.Node.SIPAddr().String())
	s.OK(err)
	defer func() { _ = c.Close() }()
	mallory := &rawPeer{site: s, conn: c, r: bufio.NewReader(c), user: "mallory", id: "mallory"}
	mu.Lock()
	bye := strings.ReplaceAll(strings.Replace(ack, "ACK ", "BYE ", 1), " ACK\r\n", " BYE\r\n")
	mu.Unlock()
	bye = regexp.MustCompile(`CSeq: \d+`).ReplaceAllString(bye, "CSeq: 999")
	bye = regexp.MustCompile(`branch=[^;]+`).ReplaceAllString(bye, "branch=z9hG4bKmallory")
	_, err = c.Write([]byte(bye))
	s.OK(err)
	if m := mallory.final(); m.Status() != 481 {
		t.Errorf("a stranger's BYE: %d %s", m.Status(), m.Reason())
	}
	if state, _ := in.State(); state != phone.Up {
		t.Error("the call was ended by a stranger")
	}
	out.Hangup()
	_ = in.WaitEnded(s.Ctx)
}

// A request of a version to come is answered, so that its sender can fall back.
func TestUnknownVersionIsAnswered(t *testing.T) {
	s := newSite(t, nil)
	s.User("alice", "101")
	p := s.raw(s.Identity("alice", "alice-raw"))
	_, err := io.WriteString(p.conn, "OPTIONS sip:x@y SIP/7.0\r\nVia: SIP/7.0/TLS 127.0.0.1;branch=z9hG4bK7\r\nFrom: <sip:a@y>;tag=1\r\nTo: <sip:x@y>\r\nCall-ID: 7\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n")
	s.OK(err)
	if m := p.recv(); m.Status() != 505 {
		t.Errorf("%d %s", m.Status(), m.Reason())
	}
}

// A node without a free media port says so, with 503 and the cause.
func TestNoMediaPorts(t *testing.T) {
	s := newSite(t, func(c *config.Config) { c.Media.First, c.Media.Last = 6000, 6001 }) // room for one leg
	s.User("alice", "101")
	s.User("bob", "102")
	alice := s.Phone("alice")
	s.Phone("bob")
	echo, err := alice.Call(s.Ctx, "*43", phone.CallOptions{})
	s.OK(err)
	s.OK(echo.WaitAnswered(s.Ctx))
	out, err := alice.Call(s.Ctx, "102", phone.CallOptions{})
	s.OK(err)
	err = out.WaitAnswered(s.Ctx)
	var refused *phone.RejectedError
	if !errors.As(err, &refused) || refused.Status != 503 || !strings.Contains(refused.Reason, "media port") {
		t.Errorf("err = %v", err)
	}
}
