package node_test

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"github.com/coder/websocket"

	"ringfence"
	"ringfence/internal/media/rtp"
	"ringfence/internal/node/config"
	"ringfence/internal/service/phone"
	"ringfence/internal/sip"
	"ringfence/internal/sip/sdp"
	"ringfence/internal/trust/enroll"
)

// browser speaks SIP over secure WebSocket (RFC 7118) by hand.
type browser struct {
	*site
	ws   *websocket.Conn
	user string
	id   string
	seq  int
}

func (s *site) browse(id enroll.Identity, origin string) (*browser, error) {
	s.Helper()
	conf := &tls.Config{RootCAs: id.Pool(), Certificates: []tls.Certificate{id.Certificate()}, ServerName: id.Bootstrap.Domain}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: conf}}
	ws, _, err := websocket.Dial(s.Ctx, "wss://"+s.Node.Bound("sip-wss").String()+"/", &websocket.DialOptions{HTTPClient: client, Subprotocols: []string{"sip"},
		HTTPHeader: http.Header{"Origin": {origin}}})
	if err != nil {
		return nil, err
	}
	s.Cleanup(func() { _ = ws.CloseNow() })
	return &browser{site: s, ws: ws, user: string(id.Bootstrap.User), id: rand.Text()}, nil
}

func (b *browser) send(method, uri, to string, body []byte, fields ...string) {
	b.Helper()
	if method != "ACK" {
		b.seq++
	}
	msg := fmt.Sprintf("%s %s SIP/2.0\r\nVia: SIP/2.0/WSS df7jal23ls0d.invalid;branch=z9hG4bK%s%d%s\r\nMax-Forwards: 70\r\nFrom: <sip:%s@%s>;tag=b\r\nTo: %s\r\nCall-ID: %s\r\nCSeq: %d %s\r\n"+
		"Contact: <sip:%s@df7jal23ls0d.invalid;transport=ws>\r\n", method, uri, b.id, b.seq, method, b.user, b.Node.Config.Domain, to, b.id, b.seq, method, b.user)
	if len(body) > 0 {
		fields = append(fields, "Content-Type: application/sdp")
	}
	for _, f := range append(fields, fmt.Sprintf("Content-Length: %d", len(body))) {
		msg += f + "\r\n"
	}
	b.OK(b.ws.Write(b.Ctx, websocket.MessageText, append([]byte(msg+"\r\n"), body...)))
}

func (b *browser) recv() *sip.Message {
	b.Helper()
	for {
		_, raw, err := b.ws.Read(b.Ctx)
		b.OK(err)
		m := &sip.Message{}
		b.OK(m.Parse(raw, sip.Limits{}))
		if m.IsRequest() || m.Status() >= 200 {
			return m
		}
	}
}

// A page speaks SIP over WSS: it registers, hears itself, and is called by a phone on TLS. Pages of strangers are turned away.
func TestSecureWebSocket(t *testing.T) {
	s := newSite(t, func(c *config.Config) {
		c.SIP.WSS, c.SIP.Origins = anyPort(), []string{"phone.example"}
	})
	s.User("alice", "101")
	s.User("bob", "102")
	bob := s.Phone("bob")
	id := s.Identity("alice", "alice-web")
	if _, err := s.browse(id, "https://evil.example"); err == nil {
		t.Fatal("a page of a stranger was served")
	}
	b, err := s.browse(id, "https://phone.example")
	s.OK(err)
	domain := s.Node.Config.Domain
	b.send("REGISTER", "sip:"+domain, "<sip:alice@"+domain+">", nil, "Expires: 600")
	if m := b.recv(); m.Status() != 200 {
		t.Fatalf("REGISTER: %d %s", m.Status(), m.Reason())
	}
	if f := s.flow("sip-wss"); f.TLS != ringfence.TLSServer || f.Ports.First != s.Node.Bound("sip-wss").Port() {
		t.Errorf("flow: %+v", f)
	}

	// It calls the echo service.
	media, err := net.ListenPacket("udp", "127.0.0.1:0")
	s.OK(err)
	defer func() { _ = media.Close() }()
	crypto, err := sdp.NewCryptos(rand.Reader)
	s.OK(err)
	ours := sdp.RewriteOptions{Addr: netip.MustParseAddrPort(media.LocalAddr().String()), Crypto: crypto, Mux: true, Origin: sdp.Origin{ID: 1, Version: 1}}
	offer, err := sdp.BuildOffer(ours, sdp.PCMU())
	s.OK(err)
	uri := "sip:*43@" + domain
	b.send("INVITE", uri, "<"+uri+">", offer.Bytes())
	ok := b.recv()
	if ok.Status() != 200 {
		t.Fatalf("INVITE: %d %s", ok.Status(), ok.Reason())
	}
	contact, err := ok.Contact()
	s.OK(err)
	if c := contact.URI.String(); !strings.HasSuffix(c, ";transport=ws") {
		t.Errorf("our Contact is %s", c)
	}
	answer, err := sdp.Parse(ok.Body())
	s.OK(err)
	choice, err := sdp.Accept(offer, answer)
	s.OK(err)
	b.send("ACK", contact.URI.String(), string(ok.Get(sip.HeaderTo)), nil)
	b.echoes(media, choice)
	b.send("BYE", contact.URI.String(), string(ok.Get(sip.HeaderTo)), nil)
	if m := b.recv(); m.Status() != 200 {
		t.Errorf("BYE: %d", m.Status())
	}

	// It is called, and answers.
	out, err := bob.Call(s.Ctx, "101", phone.CallOptions{Audio: phone.Tone(440)})
	s.OK(err)
	invite := b.recv()
	if via, err := invite.TopVia(); err != nil || invite.Method() != sip.INVITE || !strings.Contains(string(invite.Get(sip.HeaderVia)), "SIP/2.0/WSS ") {
		t.Fatalf("%v %v:\n%s", via, err, invite.Bytes())
	}
	theirs, err := sdp.Parse(invite.Body())
	s.OK(err)
	reply, choice, err := sdp.Answer(theirs, ours, sdp.PCMU())
	s.OK(err)
	var w sip.Writer
	w.Response(invite, 200, "", "web")
	w.Header(sip.HeaderContact, "<sip:alice@df7jal23ls0d.invalid;transport=ws>")
	w.Body("application/sdp", reply.Bytes())
	s.OK(b.ws.Write(s.Ctx, websocket.MessageText, w.Bytes()))
	s.OK(out.WaitAnswered(s.Ctx))
	heard := must(rtp.NewOpener(must(rtp.ParseInline(rtp.Suite(choice.Remote.Suite), "inline:"+choice.Remote.Inline))))
	buf := make([]byte, 2048)
	n, _, err := media.ReadFrom(buf)
	s.OK(err)
	for { // what is left of the first call does not open with the new key
		if _, err = heard.RTP(nil, buf[:n]); err == nil {
			break
		}
		n, _, err = media.ReadFrom(buf)
		s.OK(err)
	}
	if v := s.Node.Calls.List(); len(v) != 1 || v[0].Verdict != ringfence.Sealed || v[0].Legs[1].TLS == nil {
		t.Errorf("calls: %+v", v)
	}
	out.Hangup()
}

// echoes says a sealed packet again and again until it comes back.
func (b *browser) echoes(media net.PacketConn, choice sdp.Choice) {
	b.Helper()
	seal := must(rtp.NewSealer(must(rtp.ParseInline(rtp.Suite(choice.Local.Suite), "inline:"+choice.Local.Inline))))
	open := must(rtp.NewOpener(must(rtp.ParseInline(rtp.Suite(choice.Remote.Suite), "inline:"+choice.Remote.Inline))))
	got := make(chan struct{})
	ctx, stop := context.WithCancel(b.Ctx)
	defer stop()
	go func() {
		buf := make([]byte, 2048)
		for ctx.Err() == nil {
			n, _, err := media.ReadFrom(buf)
			if err != nil {
				return
			}
			if p, err := open.RTP(nil, buf[:n]); err == nil && strings.Contains(string(p), "hello hello") {
				close(got)
				return
			}
		}
	}()
	seq := uint16(0)
	b.Until("the echo comes back", func() bool {
		seq++
		p := rtp.AppendHeader(nil, rtp.Header{Sequence: seq, Timestamp: uint32(seq) * 160, SSRC: 99})
		_, err := media.WriteTo(must(seal.RTP(nil, append(p, strings.Repeat("hello ", 26)...))), net.UDPAddrFromAddrPort(choice.RTP))
		b.OK(err)
		select {
		case <-got:
			return true
		default:
			return false
		}
	})
}
