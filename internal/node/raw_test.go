package node_test

import (
	"bufio"
	"bytes"
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
	"ringfence/internal/node"
	"ringfence/internal/node/config"
	"ringfence/internal/service/phone"
	"ringfence/internal/sip"
	"ringfence/internal/sip/sdp"
	"ringfence/internal/sip/transport"
	"ringfence/internal/state/store"
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

	params string // of its Contact
}

func (s *site) raw(id enroll.Identity) *rawPeer {
	s.Helper()
	d := tls.Dialer{Config: &tls.Config{RootCAs: id.Pool(), Certificates: []tls.Certificate{id.Certificate()}, ServerName: id.Bootstrap.Domain}}
	c, err := d.DialContext(s.ctx, "tcp", s.node.SIPAddr().String())
	s.ok(err)
	s.Cleanup(func() { _ = c.Close() })
	if end, ok := s.ctx.Deadline(); ok {
		_ = c.SetDeadline(end)
	}
	var nonce [8]byte
	_, _ = rand.Read(nonce[:])
	return &rawPeer{site: s, conn: c, r: bufio.NewReader(c), user: string(id.Bootstrap.User), id: fmt.Sprintf("%x", nonce)}
}

// send writes a request; fields are further header lines.
func (p *rawPeer) send(method, uri, to string, body []byte, fields ...string) {
	p.Helper()
	if method != "ACK" && method != "CANCEL" {
		p.seq++
	}
	domain := p.node.Config.Domain
	msg := fmt.Sprintf("%s %s SIP/2.0\r\nVia: SIP/2.0/TLS 127.0.0.1;branch=z9hG4bK%s%d%s\r\nMax-Forwards: 70\r\nFrom: <sip:%s@%s>;tag=f%s\r\nTo: %s\r\nCall-ID: %s\r\nCSeq: %d %s\r\n"+
		"Contact: <sip:%s@%s;transport=tls>%s\r\n", method, uri, p.id, p.seq, method, p.user, domain, p.id, to, p.id, p.seq, method, p.user, p.conn.LocalAddr(), p.params)
	for _, f := range fields {
		msg += f + "\r\n"
	}
	if len(body) > 0 {
		msg += "Content-Type: application/sdp\r\n"
	}
	msg += "Content-Length: " + strconv.Itoa(len(body)) + "\r\n\r\n"
	_, err := p.conn.Write(append([]byte(msg), body...))
	p.ok(err)
}

// recv reads the next message that is no provisional 100.
func (p *rawPeer) recv() *sip.Message {
	p.Helper()
	for {
		var head []byte
		for !bytes.HasSuffix(head, []byte("\r\n\r\n")) {
			line, err := p.r.ReadBytes('\n')
			p.ok(err)
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
		p.ok(err)
		m := &sip.Message{}
		p.ok(m.Parse(append(head, body...), sip.Limits{}))
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
	s.user("alice", "101", nil)
	s.user("bob", "102", nil)
	bob := s.phone("bob", nil)
	p := s.raw(s.identity("alice", "alice-raw"))
	uri := "sip:102@" + s.node.Config.Domain
	p.send("INVITE", uri, "<"+uri+">", nil)
	in := s.incoming(bob)
	s.ok(in.Answer(s.ctx, phone.CallOptions{Audio: phone.Tone(700)}))
	ok := p.final()
	if ok.Status() != 200 {
		t.Fatalf("%d %s", ok.Status(), ok.Reason())
	}
	offer, err := sdp.Parse(ok.Body())
	s.ok(err)
	s.ok(offer.Sealed())
	crypto, err := sdp.NewCryptos(rand.Reader)
	s.ok(err)
	answer, _, err := sdp.Answer(offer, sdp.RewriteOptions{Addr: netip.MustParseAddrPort("127.0.0.1:40000"), Crypto: crypto, Origin: sdp.Origin{ID: 1, Version: 1}}, sdp.PCMU(), sdp.PCMA(), sdp.G722())
	s.ok(err)
	contact, err := ok.Contact()
	s.ok(err)
	p.send("ACK", contact.URI.String(), string(ok.Get(sip.HeaderTo)), answer.Bytes())
	s.until("the call is sealed on both legs", func() bool {
		v := s.node.Calls.List()
		return len(v) == 1 && v[0].State == "up" && v[0].Verdict == ringfence.Sealed && v[0].Legs[0].Media != nil && v[0].Legs[0].Media.PacketsOut > 5
	})
	p.send("BYE", contact.URI.String(), string(ok.Get(sip.HeaderTo)), nil)
	if m := p.final(); m.Status() != 200 {
		t.Errorf("BYE: %d", m.Status())
	}
	s.ok(in.WaitEnded(s.ctx))
}

// What cannot be sealed is refused with a cause and counted; what is not one's own is not touched.
func TestFailClosed(t *testing.T) {
	s := newSite(t, nil)
	s.user("alice", "101", nil)
	s.user("bob", "102", nil)
	s.user("mallory", "103", nil)
	alice, bob := s.phone("alice", nil), s.phone("bob", nil)
	p := s.raw(s.identity("mallory", "mallory-raw"))
	uri := "sip:102@" + s.node.Config.Domain

	plain := "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n"
	p.send("INVITE", uri, "<"+uri+">", []byte(plain))
	m := p.final()
	if m.Status() != 488 || !strings.Contains(string(m.Get(sip.HeaderWarning)), "399") || !strings.Contains(string(m.Get(sip.HeaderReason)), "cause=58") {
		t.Errorf("plain RTP: %d, Warning %q, Reason %q", m.Status(), m.Get(sip.HeaderWarning), m.Get(sip.HeaderReason))
	}
	p.send("ACK", uri, string(m.Get(sip.HeaderTo)), nil)
	if s.node.Calls.Refused() != 1 {
		t.Errorf("%d refusals are counted", s.node.Calls.Refused())
	}

	out, in := s.talk(alice, bob, "102")
	s.hears(in, 440)
	// A BYE for a call that is not one's own, even with guessed identifiers.
	p.send("BYE", uri, "<"+uri+">;tag=8000000000000000", nil)
	if m := p.final(); m.Status() != 481 {
		t.Errorf("BYE of a stranger: %d", m.Status())
	}
	// Registering somebody else's address.
	p.send("REGISTER", "sip:"+s.node.Config.Domain, "<sip:bob@"+s.node.Config.Domain+">", nil)
	if m := p.final(); m.Status() != 403 {
		t.Errorf("REGISTER for another user: %d", m.Status())
	}
	p.send("INVITE", "sip:00331234567@"+s.node.Config.Domain, "<sip:00331234567@x>", []byte(plain), "Require: unheard-of")
	if m := p.final(); m.Status() != 420 || string(m.Get(sip.HeaderUnsupported)) != "unheard-of" {
		t.Errorf("unknown extension: %d", m.Status())
	}
	s.hears(in, 440)
	out.Hangup()
	s.ok(in.WaitEnded(s.ctx))

	// No certificate and no credentials: everybody is asked the same, whoever they say they are.
	d := tls.Dialer{Config: &tls.Config{RootCAs: s.node.Authority.Roots(), ServerName: s.node.Config.Domain}}
	answers := map[string]bool{}
	for _, user := range []string{"bob", "nobody"} {
		c, err := d.DialContext(s.ctx, "tcp", s.node.SIPAddr().String())
		s.ok(err)
		anon := &rawPeer{site: s, conn: c, r: bufio.NewReader(c), user: user, id: "same"}
		aor := "<sip:" + user + "@" + s.node.Config.Domain + ">"
		anon.send("REGISTER", "sip:"+s.node.Config.Domain, aor, nil)
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
	s.user("alice", "101", nil)
	s.user("bob", "102", nil)
	bob := s.phone("bob", nil)
	p := s.raw(s.identity("alice", "alice-raw"))
	uri := "sip:102@" + s.node.Config.Domain
	crypto, err := sdp.NewCryptos(rand.Reader)
	s.ok(err)
	offer, err := sdp.BuildOffer(sdp.RewriteOptions{Addr: netip.MustParseAddrPort("127.0.0.1:40000"), Crypto: crypto, Origin: sdp.Origin{ID: 1, Version: 1}}, sdp.PCMU())
	s.ok(err)
	p.send("INVITE", uri, "<"+uri+">", offer.Bytes(), "Privacy: id")
	in := s.incoming(bob)
	if in.Peer().Number != "anonymous" {
		t.Errorf("bob is told that %q calls, although the caller withholds it", in.Peer().Number)
	}
	s.ok(in.Answer(s.ctx, phone.CallOptions{}))
	ok := p.final()
	contact, err := ok.Contact()
	s.ok(err)
	p.send("ACK", contact.URI.String(), string(ok.Get(sip.HeaderTo)), nil)
	_ = in.WaitEnded(s.ctx)
	s.until("the record says why", func() bool {
		cdrs, err := s.node.Store.CDRs(s.ctx, time.Time{}, time.Time{}, 10)
		return err == nil && len(cdrs) == 1 && strings.Contains(cdrs[0].Cause, "no media from alice-raw")
	})
}

// Two devices behind one address, neither with a certificate: knowing every tag of the other's call is not enough to end it.
func TestStrangerBehindTheSameAddressCannotEndACall(t *testing.T) {
	s := newSite(t, nil)
	s.user("alice", "101", nil)
	s.user("bob", "102", nil)
	s.user("mallory", "103", nil)
	const password = "correct horse battery"
	digest := func(user ringfence.UserID, change func(*phone.Config)) *phone.Phone {
		id := ringfence.DeviceID(user + "-soft")
		s.ok(s.node.Store.CreateDevice(s.ctx, store.Device{ID: id, User: user, Profile: store.DeviceProfile{Auth: []ringfence.Auth{ringfence.AuthDigestSHA256}}, Created: time.Now()}))
		s.ok(s.node.Store.PutDigestSecret(s.ctx, store.DigestSecret{Device: id, Username: string(id), Realm: s.node.Config.Domain, Algorithm: ringfence.AuthDigestSHA256,
			HA1: sip.HA1(sip.DigestSHA256, string(id), s.node.Config.Domain, password)}))
		s.ok(s.node.Roster.Reload(s.ctx))
		cfg := phone.Config{Opener: s.opener(), Server: s.node.SIPAddr(), ServerName: s.node.Config.Domain, TLS: &tls.Config{RootCAs: s.node.Authority.Roots()},
			User: string(user), AuthUser: string(id), Domain: s.node.Config.Domain, Password: password, MediaAddr: netip.MustParseAddr("127.0.0.1"), Log: node.Discard()}
		if change != nil {
			change(&cfg)
		}
		p, err := phone.Open(s.ctx, cfg)
		s.ok(err)
		s.Cleanup(func() { _ = p.Close() })
		return p
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
	bob := s.phone("bob", nil)
	out, in := s.talk(alice, bob, "102")
	s.hears(in, 440)

	d := tls.Dialer{Config: &tls.Config{RootCAs: s.node.Authority.Roots(), ServerName: s.node.Config.Domain}}
	c, err := d.DialContext(s.ctx, "tcp", s.node.SIPAddr().String())
	s.ok(err)
	defer func() { _ = c.Close() }()
	mallory := &rawPeer{site: s, conn: c, r: bufio.NewReader(c), user: "mallory", id: "mallory"}
	mu.Lock()
	bye := strings.ReplaceAll(strings.Replace(ack, "ACK ", "BYE ", 1), " ACK\r\n", " BYE\r\n")
	mu.Unlock()
	bye = regexp.MustCompile(`CSeq: \d+`).ReplaceAllString(bye, "CSeq: 999")
	bye = regexp.MustCompile(`branch=[^;]+`).ReplaceAllString(bye, "branch=z9hG4bKmallory")
	_, err = c.Write([]byte(bye))
	s.ok(err)
	if m := mallory.final(); m.Status() != 481 {
		t.Errorf("a stranger's BYE: %d %s", m.Status(), m.Reason())
	}
	if state, _ := in.State(); state != phone.Up {
		t.Error("the call was ended by a stranger")
	}
	out.Hangup()
	_ = in.WaitEnded(s.ctx)
}

// A request of a version to come is answered, so that its sender can fall back.
func TestUnknownVersionIsAnswered(t *testing.T) {
	s := newSite(t, nil)
	s.user("alice", "101", nil)
	p := s.raw(s.identity("alice", "alice-raw"))
	_, err := io.WriteString(p.conn, "OPTIONS sip:x@y SIP/7.0\r\nVia: SIP/7.0/TLS 127.0.0.1;branch=z9hG4bK7\r\nFrom: <sip:a@y>;tag=1\r\nTo: <sip:x@y>\r\nCall-ID: 7\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n")
	s.ok(err)
	if m := p.recv(); m.Status() != 505 {
		t.Errorf("%d %s", m.Status(), m.Reason())
	}
}

// A node without a free media port says so, with 503 and the cause.
func TestNoMediaPorts(t *testing.T) {
	s := newSite(t, func(c *config.Config) { c.Media.First, c.Media.Last = 6000, 6001 }) // room for one leg
	s.user("alice", "101", nil)
	s.user("bob", "102", nil)
	alice := s.phone("alice", nil)
	s.phone("bob", nil)
	echo, err := alice.Call(s.ctx, "*43", phone.CallOptions{})
	s.ok(err)
	s.ok(echo.WaitAnswered(s.ctx))
	out, err := alice.Call(s.ctx, "102", phone.CallOptions{})
	s.ok(err)
	err = out.WaitAnswered(s.ctx)
	var refused *phone.RejectedError
	if !errors.As(err, &refused) || refused.Status != 503 || !strings.Contains(refused.Reason, "media port") {
		t.Errorf("err = %v", err)
	}
}
