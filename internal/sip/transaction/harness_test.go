package transaction

import (
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"ringfence/internal/sip"
	"ringfence/internal/sip/transport"
	"ringfence/internal/testkit"
)

var (
	ours   = netip.MustParseAddrPort("192.0.2.1:5060")
	theirs = netip.MustParseAddrPort("192.0.2.2:5060")
)

// rig is a Layer under test whose peer is a bare socket.
type rig struct {
	t     *testing.T
	net   *testkit.Net
	trans *transport.Layer
	l     *Layer
	conn  *transport.Conn
	send  func(text string)
	hang  func() // ends the peer
	start time.Time

	mu        sync.Mutex
	got       []arrival
	requests  []*Server
	onRequest func(tx *Server)
	cancelled int
	closed    int
}

type arrival struct {
	at   time.Duration
	text string
}

func (r *rig) Request(tx *Server) {
	r.mu.Lock()
	r.requests = append(r.requests, tx)
	r.mu.Unlock()
	if r.onRequest != nil {
		r.onRequest(tx)
	}
}

func (r *rig) Cancelled(tx *Server, _ *sip.Message) {
	r.mu.Lock()
	r.cancelled++
	r.mu.Unlock()
	tx.Reply(487, "", nil)
}

func (r *rig) Closed(*transport.Conn, error) {
	r.mu.Lock()
	r.closed++
	r.mu.Unlock()
}

func newRig(t *testing.T, network string, change func(*Config)) *rig {
	t.Helper()
	r := &rig{t: t, net: testkit.New(1), start: time.Now()}
	cfg := Config{User: r, Log: slog.New(slog.DiscardHandler)}
	if change != nil {
		change(&cfg)
	}
	r.l = New(cfg)
	r.trans = transport.New(transport.Config{Opener: r.net.Host(ours.Addr()), Receiver: r.l, Log: cfg.Log})
	host := r.net.Host(theirs.Addr())
	hear := func(b []byte) {
		r.mu.Lock()
		r.got = append(r.got, arrival{time.Since(r.start), string(b)})
		r.mu.Unlock()
	}
	if network == "UDP" {
		if _, err := r.trans.ListenUDP(t.Context(), "udp", ours); err != nil {
			t.Fatal(err)
		}
		pc, err := host.ListenUDP(t.Context(), "x", theirs)
		if err != nil {
			t.Fatal(err)
		}
		r.conn = r.trans.PeerUDP("udp", theirs)
		r.send = func(text string) { _, _ = pc.WriteTo([]byte(text), net.UDPAddrFromAddrPort(ours)) }
		r.hang = func() { _ = pc.Close() }
		go func() {
			b := make([]byte, 65536)
			for {
				n, _, err := pc.ReadFrom(b)
				if err != nil {
					return
				}
				hear(b[:n])
			}
		}()
		return r
	}
	if _, err := r.trans.Listen(t.Context(), "tcp", ours, nil); err != nil {
		t.Fatal(err)
	}
	c, err := host.Dial(t.Context(), "x", ours)
	if err != nil {
		t.Fatal(err)
	}
	synctest.Wait()
	r.conn = r.trans.Conns()[0]
	r.send = func(text string) { _, _ = c.Write([]byte(text)) }
	r.hang = func() { _ = c.Close() }
	go func() {
		var buf []byte
		b := make([]byte, 65536)
		for {
			n, err := c.Read(b)
			buf = append(buf, b[:n]...)
			for {
				start, k, _, ferr := sip.Frame(buf, sip.Limits{})
				if k == 0 || ferr != nil {
					break
				}
				hear(buf[start : start+k])
				buf = buf[start+k:]
			}
			if err != nil {
				return
			}
		}
	}()
	return r
}

// close ends everything and checks that no transaction and no timer is left.
func (r *rig) close() {
	r.t.Helper()
	synctest.Wait()
	r.idle()
	r.hang()
	r.trans.Close()
	r.l.Close()
}

func (r *rig) idle() {
	r.t.Helper()
	for _, s := range r.l.Shards() {
		s.Do(func() {
			if len(s.clients)+len(s.servers)+len(s.byConn)+s.wheel.count != 0 {
				r.t.Errorf("left: %d clients, %d servers, %d connections, %d timers", len(s.clients), len(s.servers), len(s.byConn), s.wheel.count)
			}
		})
	}
	if r.l.Active() != 0 {
		r.t.Errorf("%d server transactions are counted as active", r.l.Active())
	}
}

// take returns what the peer has got since the last call.
func (r *rig) take() []arrival {
	synctest.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	got := r.got
	r.got = nil
	return got
}

// seconds renders arrival times as "0.0 0.5 1.5".
func seconds(got []arrival) string {
	var out []string
	for _, a := range got {
		out = append(out, fmt.Sprintf("%.1f", a.at.Seconds()))
	}
	return strings.Join(out, " ")
}

// startLines renders what arrived as "INVITE CANCEL 200".
func startLines(got []arrival) string {
	var out []string
	for _, a := range got {
		words := strings.Fields(a.text)
		if words[0] == "SIP/2.0" {
			out = append(out, words[1])
		} else {
			out = append(out, words[0])
		}
	}
	return strings.Join(out, " ")
}

// request sends a request of ours and collects the answers' status codes, 0 for none.
func (r *rig) request(method sip.Method, answers *tally) (tx *Client) {
	s := r.l.Shards()[0]
	s.Do(func() {
		tx = s.Request(r.conn, method, func(w *sip.Writer, via string) {
			w.RequestLine(method, "sip:bob@example.com")
			w.Header(sip.HeaderVia, via)
			w.Uint(sip.HeaderMaxForwards, 70)
			w.Header(sip.HeaderRoute, "<sip:edge.example.com;lr>")
			w.Header(sip.HeaderFrom, "<sip:alice@example.com>;tag=1")
			w.Header(sip.HeaderTo, "<sip:bob@example.com>")
			w.Header(sip.HeaderCallID, r.l.NewCallID(s))
			w.CSeq(7, method)
			w.Body("", nil)
		}, func(a Answer) {
			status := 0
			if a.Message != nil {
				status = a.Message.Status()
			} else if a.Err == nil {
				r.t.Error("an answer without message and error")
			}
			answers.add(status)
		})
	})
	return tx
}

// answer makes the peer answer a request that it got.
func (r *rig) answer(request arrival, status int, tag string) {
	r.send(response(r.t, request.text, status, tag))
	synctest.Wait()
}

func response(t *testing.T, request string, status int, tag string) string {
	t.Helper()
	var m sip.Message
	if err := m.Parse([]byte(request), sip.Limits{}); err != nil {
		t.Fatal(err)
	}
	var w sip.Writer
	w.Response(&m, status, "", tag)
	w.Body("", nil)
	return string(w.Bytes())
}

// incoming is a request of the peer.
func incoming(method, branch, network string) string {
	return incomingTo(method, branch, network, "<sip:alice@example.com>")
}

func incomingTo(method, branch, network, to string) string {
	return method + " sip:alice@192.0.2.1 SIP/2.0\r\nVia: SIP/2.0/" + network + " 192.0.2.2:5060;branch=" + branch + "\r\nMax-Forwards: 70\r\n" +
		"From: <sip:bob@example.com>;tag=2\r\nTo: " + to + "\r\nCall-ID: c-" + branch + "\r\nCSeq: 3 " + method + "\r\nContact: <sip:bob@192.0.2.2>\r\n" +
		"Content-Length: 0\r\n\r\n"
}

func addrOf(a netip.AddrPort) net.Addr { return net.UDPAddrFromAddrPort(a) }

// tally is a list of status codes that the shard adds to.
type tally struct {
	mu   sync.Mutex
	list []int
}

func (a *tally) add(status int) {
	a.mu.Lock()
	a.list = append(a.list, status)
	a.mu.Unlock()
}

func (a *tally) get() []int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return append([]int(nil), a.list...)
}

// after lets time pass until everything that was due has been done.
func (r *rig) after(d time.Duration) {
	<-time.After(d) // virtual: every rig lives in a bubble
	synctest.Wait()
}
