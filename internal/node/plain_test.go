package node_test

import (
	"bufio"
	"net"
	"strings"
	"testing"
	"time"

	"ringfence"
	"ringfence/internal/node/config"
	"ringfence/internal/service/phone"
	"ringfence/internal/sip"
)

func plainSite(t *testing.T) *site {
	t.Helper()
	s := newSite(t, func(c *config.Config) { c.SIP.Plain = anyPort() })
	s.User("alice", "101")
	s.User("bob", "102")
	s.User("mallory", "103")
	return s
}

// An old phone with an exception calls and is called in the clear, while the other side of each call stays sealed, and both say so.
func TestPlainException(t *testing.T) {
	s := plainSite(t)
	bob := s.Phone("bob")
	until := time.Now().Add(time.Hour)
	s.plainDevice("alice", "door-1", until)
	p := s.plain("alice", "door-1")
	m, challenges := p.register("alice")
	if m.Status() != 200 || challenges != 1 {
		t.Fatalf("REGISTER: %d after %d challenges", m.Status(), challenges)
	}
	if e := string(m.Get(sip.HeaderContact)); !strings.Contains(e, ";expires=600") {
		t.Errorf("a binding over datagrams lasts too long: %s", e)
	}
	if f := s.flow("sip-plain-udp"); f.Until != until.UTC().Format(time.RFC3339) || f.TLS != ringfence.TLSNone || f.Ports.First == 0 {
		t.Errorf("flow: %+v", f)
	}

	// It calls.
	uri, to := p.aor("102")
	done := make(chan *phone.Call, 1)
	go func() {
		c := <-bob.Incoming()
		if c != nil {
			_ = c.Answer(s.Ctx, phone.CallOptions{Audio: phone.Tone(700)})
		}
		done <- c
	}()
	m, challenges = p.ask(sip.INVITE, uri, to, p.sdp())
	if m.Status() != 200 || challenges != 0 {
		t.Fatalf("INVITE: %d after %d challenges; a nonce may be used again", m.Status(), challenges)
	}
	p.agree(m.Body())
	contact, err := m.Contact()
	s.OK(err)
	remote := string(m.Get(sip.HeaderTo))
	p.write("ACK", contact.URI.String(), remote, nil)
	in := <-done
	s.Hears(in, 500)
	p.hears(700)
	s.verdicts("door-1", "bob-desk")
	if x := s.Node.Exceptions.List(); len(x) != 1 || x[0].Device != "door-1" || x[0].Calls != 1 || x[0].Bindings != 1 {
		t.Errorf("exceptions: %+v", x)
	}

	// Somebody else's datagrams end nothing, even with the right tags.
	thief := s.plain("alice", "door-1")
	thief.id, thief.seq = p.id, p.seq+10
	thief.write("BYE", contact.URI.String(), remote, nil)
	if m := thief.wait(sip.BYE, false); m.Status() != 481 {
		t.Errorf("BYE from another address: %d", m.Status())
	}
	s.Hears(in, 500)
	p.write("BYE", contact.URI.String(), remote, nil)
	if m := p.wait(sip.BYE, false); m.Status() != 200 {
		t.Errorf("BYE: %d", m.Status())
	}
	s.OK(in.WaitEnded(s.Ctx))

	// It is called.
	out, err := bob.Call(s.Ctx, "101", phone.CallOptions{Audio: phone.Tone(900)})
	s.OK(err)
	invite := p.wait(sip.INVITE, true)
	p.agree(invite.Body())
	p.reply(invite, 200, p.sdp())
	s.OK(out.WaitAnswered(s.Ctx))
	p.wait(sip.ACK, true)
	s.Hears(out, 500)
	p.hears(900)
	s.verdicts("bob-desk", "door-1")
	out.Hangup()
	p.reply(p.wait(sip.BYE, true), 200, nil)
	s.Until("both records say it", func() bool {
		cdrs, err := s.Node.Store.CDRs(s.Ctx, time.Time{}, time.Time{}, 10)
		return err == nil && len(cdrs) == 2 && cdrs[0].Verdict == ringfence.Exception && cdrs[1].Verdict == ringfence.Exception
	})
}

// verdicts checks that the one call is plain on the first leg and sealed on the other; names come in the order of the legs.
func (s *site) verdicts(devices ...string) {
	s.Helper()
	calls := s.Node.Calls.List()
	if len(calls) != 1 || len(calls[0].Legs) != 2 || calls[0].Verdict != ringfence.Exception {
		s.Fatalf("calls: %+v", calls)
	}
	for i, l := range calls[0].Legs {
		if l.Peer != "device "+devices[i] {
			s.Errorf("leg %d is of %s, want %s", i, l.Peer, devices[i])
		}
		want, suite := ringfence.Sealed, "AEAD_AES_256_GCM"
		if strings.HasPrefix(devices[i], "door") {
			want, suite = ringfence.Exception, ""
			if !strings.HasPrefix(l.Reason, "plain SIP and RTP by the exception of device door-1 until 2") || l.TLS != nil {
				s.Errorf("reason %q", l.Reason)
			}
		}
		if l.Verdict != want || l.Media == nil || l.Media.Suite != suite || l.Media.PacketsIn == 0 {
			s.Errorf("leg of %s: %s, media %+v", devices[i], l.Verdict, l.Media)
		}
	}
}

func (s *site) flow(name string) ringfence.Flow {
	for _, f := range s.Node.Flows() {
		if f.Name == name {
			return f
		}
	}
	return ringfence.Flow{}
}

// When the exception is over, nothing of it is left.
func TestPlainExceptionEnds(t *testing.T) {
	s := plainSite(t)
	s.plainDevice("alice", "door-1", time.Now().Add(time.Hour))
	p := s.plain("alice", "door-1")
	if m, _ := p.register("alice"); m.Status() != 200 {
		t.Fatalf("REGISTER: %d", m.Status())
	}
	uri, to := p.aor("*43")
	m, _ := p.ask(sip.INVITE, uri, to, p.sdp())
	if m.Status() != 200 {
		t.Fatalf("INVITE: %d", m.Status())
	}
	p.agree(m.Body())
	contact, err := m.Contact()
	s.OK(err)
	p.write("ACK", contact.URI.String(), string(m.Get(sip.HeaderTo)), nil)
	p.hears(500)
	s.except("door-1", time.Now().Add(-time.Second))
	bye := p.wait(sip.BYE, true)
	if !strings.Contains(string(bye.Get(sip.HeaderReason)), "exception is over") {
		t.Errorf("Reason %q", bye.Get(sip.HeaderReason))
	}
	p.reply(bye, 200, nil)
	s.Until("no registration is left", func() bool { return len(s.Node.Registrar.All()) == 0 && s.Node.Calls.Count() == 0 })
	s.Until("it is counted", func() bool { return s.Node.Exceptions.Ended() >= 3 })
	if m, _ := p.register("alice"); !refusedPlain(m) {
		t.Errorf("REGISTER afterwards: %d %s", m.Status(), m.Reason())
	}
	p.id += "x"
	if m, _ := p.ask(sip.INVITE, uri, to, p.sdp()); !refusedPlain(m) {
		t.Errorf("INVITE afterwards: %d %s", m.Status(), m.Reason())
	}
	if len(s.Node.Exceptions.List()) != 0 || s.flow("sip-plain-udp").Until != "" {
		t.Errorf("still listed: %+v", s.Node.Exceptions.List())
	}
}

// Nobody else gets anything in the clear, and everybody hears the same.
func TestPlainIsRefused(t *testing.T) {
	s := plainSite(t)
	s.plainDevice("alice", "door-1", time.Now().Add(time.Hour))
	s.plainDevice("mallory", "soft-1", time.Time{})
	before := s.Node.Registrar.Stats().PlainRefused
	lengths := map[int]bool{}
	for _, c := range []struct{ user, device string }{{"mallory", "soft-1"}, {"mallory", "none-1"}, {"carol", "noth-1"}} {
		p := s.plain(c.user, c.device)
		p.write("REGISTER", "sip:"+s.Node.Config.Domain, "<sip:someone@x>", nil)
		first := p.wait(sip.REGISTER, false)
		m, challenges := p.register(c.user)
		if first.Status() != 401 || challenges != 1 || !refusedPlain(m) {
			t.Errorf("%s: %d, then %d %s after %d challenges", c.device, first.Status(), m.Status(), m.Reason(), challenges)
		}
		lengths[len(m.Get(sip.HeaderWarning))] = true
		uri, to := p.aor("101")
		if m, _ := p.ask(sip.INVITE, uri, to, p.sdp()); !refusedPlain(m) {
			t.Errorf("%s: INVITE got %d", c.device, m.Status())
		}
	}
	if n := s.Node.Registrar.Stats().PlainRefused - before; n != 6 || len(lengths) != 1 {
		t.Errorf("%d refusals were counted, answers %v", n, lengths)
	}

	// The excepted device is nobody else, and nobody else is it.
	p := s.plain("alice", "door-1")
	if m, _ := p.register("mallory"); m.Status() != 403 || refusedPlain(m) {
		t.Errorf("REGISTER for another user: %d %s", m.Status(), m.Reason())
	}
	if m, _ := p.register("alice"); m.Status() != 200 {
		t.Fatalf("REGISTER: %d", m.Status())
	}
	p.device = "soft-1" // from the same address, by a device without an exception
	uri, to := p.aor("*43")
	p.id, p.challenge = p.id+"x", sip.Challenge{}
	p.write("INVITE", uri, to, p.sdp())
	if m := p.wait(sip.INVITE, false); m.Status() != 401 {
		t.Errorf("INVITE without credentials: %d; an address is no identity", m.Status())
	}
	if m, _ := p.ask(sip.INVITE, uri, to, p.sdp()); !refusedPlain(m) {
		t.Errorf("INVITE of another device: %d", m.Status())
	}
	if n := s.Node.Calls.Count(); n != 0 {
		t.Errorf("%d calls", n)
	}

	// Plain RTP over TLS is refused without an exception, whoever else has one.
	raw := s.raw(s.Identity("bob", "bob-desk"))
	raw.send("INVITE", uri, to, p.sdp())
	if m := raw.final(); m.Status() != 488 {
		t.Errorf("plain RTP over TLS: %d", m.Status())
	}
}

// Over TCP the connection is known after one digest, and ends with the exception. With an exception plain RTP passes over TLS too.
func TestPlainOverTCP(t *testing.T) {
	s := plainSite(t)
	s.plainDevice("alice", "door-1", time.Now().Add(time.Hour))
	c, err := net.Dial("tcp", s.Node.Bound("sip-plain-tcp").String())
	s.OK(err)
	defer func() { _ = c.Close() }()
	p := &rawPeer{site: s, conn: c, r: bufio.NewReader(c), user: "alice", id: "tcp"}
	domain := "sip:" + s.Node.Config.Domain
	p.send("REGISTER", domain, "<sip:alice@"+s.Node.Config.Domain+">", nil)
	m := p.final()
	ch, ok := m.StrongestChallenge(sip.HeaderWWWAuthenticate, sip.DigestSHA256)
	if m.Status() != 401 || !ok {
		t.Fatalf("%d", m.Status())
	}
	p.send("REGISTER", domain, "<sip:alice@"+s.Node.Config.Domain+">", nil, "Authorization: "+ch.Authorize(sip.Answer{Username: "door-1", Password: plainPassword, Method: "REGISTER", URI: domain, CNonce: "abcdefgh12345678", NC: 1}))
	if m := p.final(); m.Status() != 200 {
		t.Fatalf("REGISTER: %d", m.Status())
	}
	media := s.plain("alice", "door-1") // only its media is used
	uri, to := media.aor("*43")
	p.send("INVITE", uri, to, media.sdp())
	if m = p.final(); m.Status() != 200 {
		t.Fatalf("INVITE on a known connection: %d", m.Status())
	}
	media.agree(m.Body())
	contact, err := m.Contact()
	s.OK(err)
	p.send("ACK", contact.URI.String(), string(m.Get(sip.HeaderTo)), nil)
	media.hears(500)
	s.except("door-1", time.Time{})
	if m := p.recv(); m.Method() != sip.BYE {
		t.Errorf("%s, want BYE", m.Bytes())
	}
	if _, err := p.r.ReadByte(); err == nil {
		t.Error("the connection outlives the exception")
	}

	bob := s.Identity("bob", "bob-desk")
	s.except("bob-desk", time.Now().Add(time.Hour))
	raw := s.raw(bob)
	raw.send("INVITE", uri, to, media.sdp())
	m = raw.final()
	if m.Status() != 200 {
		t.Fatalf("plain RTP over TLS with an exception: %d", m.Status())
	}
	media.agree(m.Body())
	contact, err = m.Contact()
	s.OK(err)
	raw.send("ACK", contact.URI.String(), string(m.Get(sip.HeaderTo)), nil)
	calls := s.Node.Calls.List()
	if len(calls) != 1 || calls[0].Legs[0].TLS == nil || !strings.HasPrefix(calls[0].Legs[0].Reason, "plain RTP by the exception of device bob-desk") {
		t.Errorf("calls: %+v", calls)
	}
}

// A phone with TLS but without SRTP is offered sealed media first, and plain RTP only because it has an exception.
func TestPlainOfferComesSecond(t *testing.T) {
	s := plainSite(t)
	bob := s.Phone("bob")
	id := s.Identity("alice", "alice-old")
	media := s.plain("alice", "alice-old") // only its media is used
	p := s.raw(id)
	p.send("REGISTER", "sip:"+s.Node.Config.Domain, "<sip:alice@"+s.Node.Config.Domain+">", nil)
	if m := p.final(); m.Status() != 200 {
		t.Fatalf("REGISTER: %d", m.Status())
	}
	invited := func() *sip.Message {
		t.Helper()
		for {
			if m := p.recv(); m.Method() == sip.INVITE {
				return m
			}
		}
	}
	for _, excepted := range []bool{false, true} {
		if excepted {
			s.except("alice-old", time.Now().Add(time.Hour))
		}
		out, err := bob.Call(s.Ctx, "101", phone.CallOptions{Audio: phone.Tone(900)})
		s.OK(err)
		first := invited()
		if !strings.Contains(string(first.Body()), "RTP/SAVP ") {
			t.Errorf("the first offer is not sealed:\n%s", first.Body())
		}
		p.reply(first, 488, nil)
		if !excepted {
			if err := out.WaitAnswered(s.Ctx); err == nil {
				t.Error("a call without a common seal was answered")
			}
			continue
		}
		second := invited()
		media.agree(second.Body())
		p.reply(second, 200, media.sdp())
		s.OK(out.WaitAnswered(s.Ctx))
		s.Hears(out, 500)
		media.hears(900)
		out.Hangup()
	}
}

// reply answers a request of the node.
func (p *rawPeer) reply(m *sip.Message, status int, body []byte, more ...func(*sip.Writer)) {
	p.Helper()
	var w sip.Writer
	w.Response(m, status, "", "t"+p.id)
	w.Header(sip.HeaderContact, "<sip:"+p.user+"@"+p.conn.LocalAddr().String()+";transport=tls>")
	for _, field := range more {
		field(&w)
	}
	w.Body("application/sdp", body)
	_, err := p.conn.Write(w.Bytes())
	p.OK(err)
}
