package transport

import (
	"container/list"
	"net"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"ringfence/internal/sip"
	"ringfence/internal/testkit"
)

var udpPort = netip.AddrPortFrom(serverAddr, 5060)

func udpServer(t *testing.T, change func(*Config)) (*testkit.Net, *Layer, *recorder) {
	t.Helper()
	n := testkit.New(1)
	r := newRecorder()
	l := newLayer(n.Host(serverAddr), r, change)
	if at, err := l.ListenUDP(t.Context(), "sip-udp", udpPort); err != nil || at != udpPort {
		t.Fatal(at, err)
	}
	return n, l, r
}

// What an answer acknowledges is kept before the answer leaves, on every way out.
func TestBeforeFlush(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kept := 0
		n, l, r := udpServer(t, func(c *Config) { c.BeforeFlush = func() { kept++ } })
		defer l.Close()
		r.on = func(c *Conn, m *sip.Message) {
			var w sip.Writer
			w.ResponseTo(m, 200, "", "tag", c.Remote)
			w.Body("", nil)
			_, _ = c.Queue(w.Bytes())
			if strings.Contains(string(m.Body()), "close") {
				c.Close(net.ErrClosed)
			} else {
				c.Flush()
			}
		}
		pc, err := n.Host(clientAddr).ListenUDP(t.Context(), "x", netip.AddrPortFrom(clientAddr, 1234))
		if err != nil {
			t.Fatal(err)
		}
		defer pc.Close()
		for i, body := range []string{"hello", "close"} {
			_, _ = pc.WriteTo(message(i+1, body), net.UDPAddrFromAddrPort(udpPort))
			if _, _, err := pc.ReadFrom(make([]byte, 2000)); err != nil || kept != i+1 {
				t.Fatalf("%s: kept %d times, %v", body, kept, err)
			}
		}
	})
}

func TestUDPAnswersGoToTheSource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, l, r := udpServer(t, nil)
		defer l.Close()
		r.on = func(c *Conn, m *sip.Message) {
			var w sip.Writer
			w.ResponseTo(m, 200, "", "tag", c.Remote)
			w.Body("", nil)
			_, _ = c.Queue(w.Bytes())
			c.Flush()
		}
		pc, err := n.Host(clientAddr).ListenUDP(t.Context(), "x", netip.AddrPortFrom(clientAddr, 1234))
		if err != nil {
			t.Fatal(err)
		}
		defer pc.Close()
		_, _ = pc.WriteTo(message(1, "hello"), net.UDPAddrFromAddrPort(udpPort)) // its Via says port 5061
		b := make([]byte, 2000)
		k, from, err := pc.ReadFrom(b)
		if err != nil || from.String() != udpPort.String() {
			t.Fatal(from, err)
		}
		var m sip.Message
		if err := m.Parse(b[:k], sip.Limits{}); err != nil {
			t.Fatal(err)
		}
		via, _ := m.TopVia()
		rport, _ := via.Params.Get("rport")
		received, _ := via.Params.Get("received")
		if string(rport) != "1234" || string(received) != "192.0.2.2" || string(via.Branch()) != "z9hG4bK1" || via.Port != 5061 {
			t.Errorf("via = %s", m.Get(sip.HeaderVia))
		}
		got := r.messages()[0]
		if got.conn.Network != "UDP" || got.conn.Reliable() || got.conn.Secure() || !strings.HasSuffix(got.text, "\r\n\r\nhello") {
			t.Errorf("%+v", got)
		}
		_, _ = pc.WriteTo(message(2, ""), net.UDPAddrFromAddrPort(udpPort))
		synctest.Wait()
		if again := r.messages()[1].conn; again != got.conn || l.PeerUDP("sip-udp", got.conn.Remote) != again || l.Conn(again.ID) != again {
			t.Error("one remote address has two connections")
		}
		if l.PeerUDP("other", got.conn.Remote) != nil {
			t.Error("a flow that does not exist has peers")
		}
	})
}

func TestUDPMemoryIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, l, r := udpServer(t, func(c *Config) { c.MaxUDPPeers = 100 })
		defer l.Close()
		send := func(i int, b []byte) {
			from := netip.AddrFrom4([4]byte{198, 51, byte(i >> 8), byte(i)})
			pc, err := n.Host(from).ListenUDP(t.Context(), "x", netip.AddrPort{})
			if err != nil {
				t.Fatal(err)
			}
			_, _ = pc.WriteTo(b, net.UDPAddrFromAddrPort(udpPort))
			_ = pc.Close()
		}
		response := []byte("SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:a@b>\r\nCall-ID: c\r\nCSeq: 1 OPTIONS\r\n\r\n")
		for i := range 500 {
			send(i, []byte("junk that is no SIP at all"))
			send(i, response)
			send(i, []byte("\r\n\r\n"))
			send(i, []byte("OPTIONS sip:a@b SIP/2.0\r\nVia: SIP/2.0/UDP h\r\n\r\n"))
			synctest.Wait()
		}
		if len(l.Conns()) != 0 || len(r.messages()) != 0 || l.Stats().Garbage != 1500 {
			t.Errorf("%d connections, %d messages, %+v", len(l.Conns()), len(r.messages()), l.Stats())
		}
		for i := range 500 {
			send(i, message(i, ""))
			synctest.Wait()
		}
		if len(l.Conns()) != 100 || len(r.messages()) != 500 {
			t.Errorf("%d connections, %d messages", len(l.Conns()), len(r.messages()))
		}
		first, last := r.messages()[0].conn, r.messages()[499].conn
		if first.State() != "Closed" || last.State() != "Established" || len(r.causes(first)) != 1 {
			t.Error("not the oldest was given up")
		}
		time.Sleep(16 * time.Minute)
		if len(l.Conns()) != 0 || len(l.sockets["sip-udp"].peers) != 0 || l.sockets["sip-udp"].order.Len() != 0 {
			t.Errorf("%d connections after a long silence", len(l.Conns()))
		}
	})
}

// The table gives up who was silent for longest, not who was there first.
func TestUDPForgetsWhoIsSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, l, r := udpServer(t, func(c *Config) { c.MaxUDPPeers = 3 })
		defer l.Close()
		say := func(i byte) *Conn {
			pc, err := n.Host(netip.AddrFrom4([4]byte{198, 51, 100, i})).ListenUDP(t.Context(), "x", netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 51, 100, i}), 5060))
			if err != nil {
				t.Fatal(err)
			}
			_, _ = pc.WriteTo(message(int(i), ""), net.UDPAddrFromAddrPort(udpPort))
			synctest.Wait()
			_ = pc.Close()
			all := r.messages()
			return all[len(all)-1].conn
		}
		first, second := say(1), say(2)
		time.Sleep(2 * time.Second)
		say(3)
		if say(1) != first {
			t.Fatal("a peer has two connections")
		}
		say(4)
		if first.State() != "Established" || second.State() != "Closed" {
			t.Errorf("who spoke a moment ago is %s, who was silent %s", first.State(), second.State())
		}
	})
}

func FuzzDatagram(f *testing.F) {
	f.Add(message(1, "hello"))
	f.Add([]byte("\r\n"))
	f.Add([]byte("OPTIONS sip:a@b SIP/2.0\r\nv: SIP/2.0/UDP h;rport=;branch=1\r\nf: <sip:a@b>;tag=1\r\nt: <sip:a@b>\r\ni: c\r\nCSeq: 1 OPTIONS\r\n\r\n"))
	from := netip.MustParseAddrPort("192.0.2.9:9")
	f.Fuzz(func(t *testing.T, data []byte) {
		r := newRecorder()
		l := newLayer(nil, r, nil)
		defer l.Close()
		s := &udpSocket{layer: l, flow: "x", pc: &plainDatagrams{}, peers: map[netip.AddrPort]*list.Element{}}
		var msg sip.Message
		s.receive(data, from, &msg)
		for _, m := range r.messages() {
			var again sip.Message
			if err := again.Parse([]byte(m.text), sip.Limits{}); err != nil || !again.Has(sip.HeaderVia) {
				t.Fatalf("a marked message is malformed: %v\n%q", err, m.text)
			}
			if !again.IsRequest() {
				continue
			}
			var w sip.Writer
			w.ResponseTo(&again, 200, "", "t", from)
			w.Body("", nil)
			var response sip.Message
			err := response.Parse(w.Bytes(), sip.Limits{})
			via, verr := response.TopVia()
			if received, _ := via.Params.Get("received"); err != nil || verr != nil || string(received) != "192.0.2.9" && string(via.Host) != "192.0.2.9" {
				t.Fatalf("the answer does not say where the request came from: %v %v\n%q", err, verr, w.Bytes())
			}
		}
	})
}
