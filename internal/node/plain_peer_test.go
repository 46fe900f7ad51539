package node_test

import (
	"crypto/rand"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"

	"ringfence"
	"ringfence/internal/media/codec"
	"ringfence/internal/media/rtp"
	"ringfence/internal/sip"
	"ringfence/internal/sip/sdp"
	"ringfence/internal/state/store"
)

const plainPassword = "an old phone's password"

// plainDevice adds a device that knows digest only, with an exception until a time if that is not zero.
func (s *site) plainDevice(user ringfence.UserID, id ringfence.DeviceID, until time.Time) {
	s.Helper()
	s.Password(user, id, plainPassword, ringfence.AuthDigestSHA256)
	s.except(id, until)
}

// except gives a device an exception until a time, or takes it away.
func (s *site) except(id ringfence.DeviceID, until time.Time) {
	s.Helper()
	d, err := s.Node.Store.Device(s.Ctx, id)
	s.OK(err)
	d.Profile.Plain = nil
	if !until.IsZero() {
		d.Profile.Plain = &store.PlainException{Until: until, Reason: "replaced next week"}
	}
	s.OK(s.Node.Store.UpdateDevice(s.Ctx, d))
	s.OK(s.Node.Roster.Reload(s.Ctx))
}

// plainPeer is an old phone: SIP over UDP and plain RTP, written by hand.
type plainPeer struct {
	*site
	user, device string
	conn         net.PacketConn
	media        net.PacketConn
	id           string
	seq          int
	count        uint32 // uses of challenge
	challenge    sip.Challenge
	in           chan *sip.Message

	mu    sync.Mutex
	to    net.Addr // where its sound goes
	heard []int16
}

func (s *site) plain(user, device string) *plainPeer {
	s.Helper()
	listen := func() net.PacketConn {
		c, err := net.ListenPacket("udp", "127.0.0.1:0")
		s.OK(err)
		s.Cleanup(func() { _ = c.Close() })
		return c
	}
	p := &plainPeer{site: s, user: user, device: device, conn: listen(), media: listen(), id: rand.Text(), in: make(chan *sip.Message, 256)}
	go p.read()
	go p.listen()
	go p.talk()
	return p
}

func (p *plainPeer) read() {
	defer close(p.in)
	seen := map[string]bool{}
	for {
		buf := make([]byte, 65536)
		n, _, err := p.conn.ReadFrom(buf)
		if err != nil {
			return
		}
		m := &sip.Message{}
		if m.Parse(buf[:n], sip.Limits{}) != nil || m.Status() == 100 || seen[string(buf[:n])] {
			continue
		}
		seen[string(buf[:n])] = true // datagrams are repeated
		p.in <- m
	}
}

// listen decodes what arrives as PCMU.
func (p *plainPeer) listen() {
	buf := make([]byte, 2048)
	for {
		n, _, err := p.media.ReadFrom(buf)
		if err != nil {
			return
		}
		h, err := rtp.ParseHeader(buf[:n])
		if err != nil || rtp.IsRTCP(buf[:n]) {
			continue
		}
		p.mu.Lock()
		for _, b := range buf[h.Offset:n] {
			p.heard = append(p.heard, codec.FromULaw(b))
		}
		p.heard = p.heard[max(0, len(p.heard)-1600):]
		p.mu.Unlock()
	}
}

// talk sends a tone of 500 Hz as PCMU once it knows where to.
func (p *plainPeer) talk() {
	tone, enc := codec.NewTone(codec.Signal{Hz: []float64{500}}, 8000, -16), must(codec.New("PCMU"))
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	frame := make([]int16, 160)
	for seq := uint16(1); ; seq++ {
		select {
		case <-tick.C:
		case <-p.Ctx.Done():
			return
		}
		tone.Read(frame)
		p.mu.Lock()
		to := p.to
		p.mu.Unlock()
		if to == nil {
			continue
		}
		b := rtp.AppendHeader(nil, rtp.Header{Sequence: seq, Timestamp: uint32(seq) * 160, SSRC: 4711})
		if _, err := p.media.WriteTo(enc.Encode(b, frame), to); err != nil {
			return
		}
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// hz returns the pitch of what arrived last.
func (p *plainPeer) hz() float64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.heard) < 1600 {
		return 0
	}
	return codec.Hear(p.heard, 8000).Hz
}

func (p *plainPeer) hears(hz float64) {
	p.Helper()
	p.Until(fmt.Sprintf("%.0f Hz is heard in the clear", hz), func() bool { h := p.hz(); return h > hz*0.98 && h < hz*1.02 })
}

// sdp is a description of plain RTP; it also says which address the peer's media has.
func (p *plainPeer) sdp() []byte {
	at := p.media.LocalAddr().(*net.UDPAddr)
	return fmt.Appendf(nil, "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio %d RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\n", at.Port)
}

// agree takes the node's description, which must be plain.
func (p *plainPeer) agree(body []byte) {
	p.Helper()
	d, err := sdp.Parse(body)
	p.OK(err)
	m := d.Media[d.Audio()]
	if m.Proto != "RTP/AVP" || len(m.Crypto) > 0 {
		p.Fatalf("the node describes %s with %d keys to an old phone", m.Proto, len(m.Crypto))
	}
	at, _, ok := d.Remote(d.Audio())
	if !ok {
		p.Fatal("no media address")
	}
	p.mu.Lock()
	p.to = net.UDPAddrFromAddrPort(at)
	p.mu.Unlock()
}

func (p *plainPeer) node5060() net.Addr {
	return net.UDPAddrFromAddrPort(p.Node.Bound("sip-plain-udp"))
}

// write sends one request; method "ACK" repeats the number of the request before.
func (p *plainPeer) write(method, uri, to string, body []byte, fields ...string) {
	p.Helper()
	if method != "ACK" {
		p.seq++
	}
	domain := p.Node.Config.Domain
	msg := fmt.Sprintf("%s %s SIP/2.0\r\nVia: SIP/2.0/UDP %s;branch=z9hG4bK%s%d%s;rport\r\nMax-Forwards: 70\r\nFrom: <sip:%s@%s>;tag=f%s\r\nTo: %s\r\nCall-ID: %s\r\nCSeq: %d %s\r\n"+
		"Contact: <sip:%s@%s>\r\n", method, uri, p.conn.LocalAddr(), p.id, p.seq, method, p.user, domain, p.id, to, p.id, p.seq, method, p.user, p.conn.LocalAddr())
	for _, f := range fields {
		msg += f + "\r\n"
	}
	if len(body) > 0 {
		msg += "Content-Type: application/sdp\r\n"
	}
	msg += "Content-Length: " + strconv.Itoa(len(body)) + "\r\n\r\n"
	_, err := p.conn.WriteTo(append([]byte(msg), body...), p.node5060())
	p.OK(err)
}

func (p *plainPeer) recv() *sip.Message {
	p.Helper()
	select {
	case m := <-p.in:
		return m
	case <-p.Ctx.Done():
		p.Fatal("no message came")
		return nil
	}
}

// wait reads until a final response to a method, or a request of it.
func (p *plainPeer) wait(method sip.Method, request bool) *sip.Message {
	p.Helper()
	for {
		m := p.recv()
		if _, of, _ := m.CSeq(); of == method && m.IsRequest() == request && (request || m.Status() >= 200) {
			return m
		}
	}
}

// ask sends a request as often as it is challenged, and returns the final response and how often it was challenged.
func (p *plainPeer) ask(method sip.Method, uri, to string, body []byte, fields ...string) (m *sip.Message, challenges int) {
	p.Helper()
	for {
		all := fields
		if p.challenge.Nonce != "" {
			p.count++
			all = append(all[:len(all):len(all)], "Authorization: "+p.challenge.Authorize(sip.Answer{Username: p.device, Password: plainPassword, Method: method.String(),
				URI: uri, CNonce: rand.Text(), NC: p.count}))
		}
		p.write(method.String(), uri, to, body, all...)
		m = p.wait(method, false)
		if method == sip.INVITE && m.Status() >= 300 {
			p.write("ACK", uri, string(m.Get(sip.HeaderTo)), nil)
		}
		if m.Status() != 401 || challenges == 3 {
			return m, challenges
		}
		challenges++
		c, ok := m.StrongestChallenge(sip.HeaderWWWAuthenticate, sip.DigestSHA256)
		if !ok {
			p.Fatalf("no challenge in %s", m.Bytes())
		}
		p.challenge, p.count = c, 0
	}
}

func (p *plainPeer) aor(user string) (uri, to string) {
	uri = "sip:" + user + "@" + p.Node.Config.Domain
	return uri, "<" + uri + ">"
}

// register binds this phone to its own user, or tries to for another one.
func (p *plainPeer) register(user string) (*sip.Message, int) {
	p.Helper()
	_, to := p.aor(user)
	return p.ask(sip.REGISTER, "sip:"+p.Node.Config.Domain, to, nil, "Expires: 3600")
}

// reply answers a request of the node.
func (p *plainPeer) reply(m *sip.Message, status int, body []byte) {
	p.Helper()
	var w sip.Writer
	w.Response(m, status, "", "t"+p.id)
	w.Header(sip.HeaderContact, "<sip:"+p.user+"@"+p.conn.LocalAddr().String()+">")
	w.Body("application/sdp", body)
	_, err := p.conn.WriteTo(w.Bytes(), p.node5060())
	p.OK(err)
}

func refusedPlain(m *sip.Message) bool {
	return m.Status() == 403 && string(m.Reason()) == "TLS Required" && strings.HasPrefix(string(m.Get(sip.HeaderWarning)), "399 ")
}

func anyPort() netip.AddrPort { return netip.MustParseAddrPort("127.0.0.1:0") }
