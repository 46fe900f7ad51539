package dialog

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"testing"
	"time"

	"ringfence/internal/sip"
	"ringfence/internal/sip/transaction"
	"ringfence/internal/sip/transport"
)

// bridge joins each call that comes in with one that goes out, as a B2BUA does, and nothing else.
type bridge struct {
	b     *testing.B
	dl    *Layer
	trans *transport.Layer
	bob   *transport.Conn
}

func (u *bridge) Request(tx *transaction.Server) {
	if len(tx.Request.ToTag()) > 0 {
		if !u.dl.Request(tx) {
			u.b.Error("a request that belongs to no call")
		}
		return
	}
	if u.bob == nil {
		u.bob = u.trans.PeerUDP("udp", bobAt.AddrPort())
	}
	in := u.dl.Accept(tx, "<sip:node@192.0.2.9:5060>", u)
	in.Data = u.dl.Invite(tx.Shard, Invitation{Conn: u.bob, URI: "sip:bob@192.0.2.2:5060", From: "<sip:alice@example.com>", To: "<sip:bob@example.com>",
		Contact: "<sip:node@192.0.2.9:5060>", SDP: bytes.Clone(tx.Request.Body()), Extra: func(w *sip.Writer) { w.Header(sip.HeaderPAssertedIdentity, "<sip:alice@example.com>") }}, u)
	in.Data.(*Session).Data = in
}

func other(s *Session) *Session                                { return s.Data.(*Session) }
func (u *bridge) Cancelled(*transaction.Server, *sip.Message)  { u.b.Error("a CANCEL") }
func (u *bridge) Closed(*transport.Conn, error)                {}
func (u *bridge) Progress(s *Session, _ *sip.Message)          { other(s).Ring() }
func (u *bridge) Answered(s *Session, m *sip.Message)          { other(s).Answer(m.Body(), nil) }
func (u *bridge) Confirmed(*Session, *sip.Message)             {}
func (u *bridge) Offered(*Session, *Offer)                     { u.b.Error("an offer") }
func (u *bridge) Requested(_ *Session, tx *transaction.Server) { u.b.Error(tx.Method) }
func (u *bridge) Ended(s *Session, e End) {
	if o := other(s); e.Remote && o.State() != Ended {
		o.Bye(e.Reason)
	}
}

// phones is a socket with Alice, who calls and hangs up, and Bob, who answers, at its other end.
type phones struct {
	calls, begun, over int
	queue              []datagram
	spare              [][]byte
	done, closed       chan struct{}
}

type datagram struct {
	from *net.UDPAddr
	text []byte
}

var (
	aliceAt = &net.UDPAddr{IP: net.IPv4(192, 0, 2, 1).To4(), Port: 5060}
	bobAt   = &net.UDPAddr{IP: net.IPv4(192, 0, 2, 2).To4(), Port: 5060}
	nodeAt  = netip.MustParseAddrPort("192.0.2.9:5060")
)

const description = "v=0\r\no=- 3947 3947 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\nm=audio 40000 RTP/AVP 0 8 101\r\n" +
	"a=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\na=sendrecv\r\n"

// say queues a message; parts are put together.
func (p *phones) say(from *net.UDPAddr, parts ...string) {
	var b []byte
	if n := len(p.spare); n > 0 {
		b, p.spare = p.spare[n-1][:0], p.spare[:n-1]
	}
	for _, s := range parts {
		b = append(b, s...)
	}
	p.queue = append(p.queue, datagram{from, b})
}

func (p *phones) invite() {
	if p.begun == p.calls {
		return
	}
	p.begun++
	n := strconv.Itoa(p.begun)
	p.say(aliceAt, "INVITE sip:bob@192.0.2.9:5060 SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK-i", n, "\r\nMax-Forwards: 70\r\nFrom: <sip:alice@example.com>;tag=a", n,
		"\r\nTo: <sip:bob@example.com>\r\nCall-ID: call-", n, "@192.0.2.1\r\nCSeq: 1 INVITE\r\nContact: <sip:alice@192.0.2.1:5060>\r\n",
		"Content-Type: application/sdp\r\nContent-Length: ", strconv.Itoa(len(description)), "\r\n\r\n", description)
}

// within says a request of Alice inside the call that a response to her belongs to.
func (p *phones) within(response []byte, method, seq, branch string) {
	id := value(response, "Call-ID: ")
	n := id[len("call-"):bytes.IndexByte(id, '@')]
	p.say(aliceAt, method, " sip:node@192.0.2.9:5060 SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK-", branch, string(n), "\r\nMax-Forwards: 70\r\nFrom: ",
		string(value(response, "From: ")), "\r\nTo: ", string(value(response, "To: ")), "\r\nCall-ID: ", string(id), "\r\nCSeq: ", seq, " ", method, "\r\nContent-Length: 0\r\n\r\n")
}

// answer says a response of Bob.
func (p *phones) answer(request []byte, status, tag, body string) {
	p.say(bobAt, "SIP/2.0 ", status, "\r\nVia: ", string(value(request, "Via: ")), "\r\nFrom: ", string(value(request, "From: ")), "\r\nTo: ", string(value(request, "To: ")), tag,
		"\r\nCall-ID: ", string(value(request, "Call-ID: ")), "\r\nCSeq: ", string(value(request, "CSeq: ")),
		"\r\nContact: <sip:bob@192.0.2.2:5060>\r\nContent-Type: application/sdp\r\nContent-Length: ", strconv.Itoa(len(body)), "\r\n\r\n", body)
}

func value(msg []byte, name string) []byte {
	v := msg[bytes.Index(msg, []byte(name))+len(name):]
	return v[:bytes.IndexByte(v, '\r')]
}

func (p *phones) WriteTo(msg []byte, _ net.Addr) (int, error) {
	switch {
	case bytes.HasPrefix(msg, []byte("INVITE ")):
		p.answer(msg, "180 Ringing", ";tag=b", "")
		p.answer(msg, "200 OK", ";tag=b", description)
	case bytes.HasPrefix(msg, []byte("BYE ")):
		p.answer(msg, "200 OK", "", "")
	case bytes.HasPrefix(msg, []byte("SIP/2.0 200 ")):
		if value(msg, "CSeq: ")[0] == '1' {
			p.within(msg, "ACK", "1", "a")
			p.within(msg, "BYE", "2", "b")
			break
		}
		p.over++
		p.invite()
	}
	return len(msg), nil
}

func (p *phones) ReadFrom(b []byte) (int, net.Addr, error) {
	if len(p.queue) == 0 {
		close(p.done)
		<-p.closed
		return 0, nil, net.ErrClosed
	}
	d := p.queue[0]
	p.queue = p.queue[1:]
	p.spare = append(p.spare, d.text)
	return copy(b, d.text), d.from, nil
}

func (p *phones) Close() error {
	close(p.closed)
	return nil
}

func (p *phones) LocalAddr() net.Addr              { return net.UDPAddrFromAddrPort(nodeAt) }
func (p *phones) SetDeadline(time.Time) error      { return nil }
func (p *phones) SetReadDeadline(time.Time) error  { return nil }
func (p *phones) SetWriteDeadline(time.Time) error { return nil }

func (p *phones) Listen(context.Context, string, netip.AddrPort) (net.Listener, error) {
	return nil, net.ErrClosed
}

func (p *phones) Dial(context.Context, string, netip.AddrPort) (net.Conn, error) {
	return nil, net.ErrClosed
}

func (p *phones) ListenUDP(context.Context, string, netip.AddrPort) (net.PacketConn, error) {
	return p, nil
}

// One call over UDP through both legs of a B2BUA: INVITE 180 200 ACK BYE 200. A hundred are up at a time, and what is known of those that
// are over piles up as it does on a busy node.
func BenchmarkCall(b *testing.B) {
	log := slog.New(slog.DiscardHandler)
	p := &phones{calls: b.N, done: make(chan struct{}), closed: make(chan struct{})}
	for range 100 {
		p.invite()
	}
	u := &bridge{b: b}
	never := transaction.Timers{T1: time.Hour, T2: time.Hour, T4: time.Hour} // nothing is lost, and a slow machine is no reason to send again
	txs := transaction.New(transaction.Config{User: u, Log: log, Server: "node", MaxTransactions: 1 << 30, Timers: never})
	u.dl = New(Config{Log: log, UserAgent: "node"}, txs)
	u.trans = transport.New(transport.Config{Opener: p, Receiver: txs, Log: log})
	b.ReportAllocs()
	b.ResetTimer()
	if _, err := u.trans.ListenUDP(b.Context(), "udp", nodeAt); err != nil {
		b.Fatal(err)
	}
	<-p.done
	b.StopTimer()
	if p.over != b.N || u.dl.Count(txs.Shards()[0]) != 0 {
		b.Errorf("%d calls of %d, %d sessions left", p.over, b.N, u.dl.Count(txs.Shards()[0]))
	}
	u.trans.Close()
	txs.Close()
}
