package paging

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"ringfence"
	"ringfence/internal/desk/flatprofile"
	"ringfence/internal/media/codec"
	"ringfence/internal/media/rtp"
)

func TestParse(t *testing.T) {
	groups, err := Parse("pggrp=239.1.2.3:34560;name=All;num=500;listen=yes;pri=0;\n pggrp=239.1.2.3:34562;num=501;listen=yes; pggrp=[ff02::1:3]:34564;num=502;listen=yes;pri=4;pggrp=239.1.2.4:34566;num=503;listen=no")
	if err != nil || len(groups) != 4 || groups[0] != (Group{At: netip.MustParseAddrPort("239.1.2.3:34560"), Name: "All", Number: "500", Listen: true}) || groups[1].Priority != Normal || !groups[1].Listen || groups[2].Listen || groups[2].Priority != 4 || groups[3].Listen {
		t.Errorf("%+v %v", groups, err)
	}
	if groups, err := Parse(" ;; "); err != nil || len(groups) != 0 {
		t.Errorf("%+v %v", groups, err)
	}
	six := ""
	for i := range 6 {
		six += "pggrp=239.1.2.3:3456" + string(rune('0'+i)) + ";num=50" + string(rune('0'+i)) + ";"
	}
	for _, text := range []string{"num=500", "pggrp=239.1.2.3", "pggrp=192.0.2.1:34560;num=1", "pggrp=239.1.2.3:80;num=1", "pggrp=[ff02::1%eth0]:34560;num=1", "pggrp=239.1.2.3:34560", "pggrp=239.1.2.3:34560;num=1;listen=maybe", "pggrp=239.1.2.3:34560;num=1;pri=5", "pggrp=239.1.2.3:34560;num=1;pri=-1",
		"pggrp=239.1.2.3:34560;num=1;color=red", "pggrp=239.1.2.3:34560;num=1;loud", "pggrp=239.1.2.3:34560;num=1;pggrp=239.1.2.4:34560;num=2", "pggrp=239.1.2.3:34560;num=1;pggrp=239.1.2.4:34561;num=1", "pggrp=239.1.2.3:34560;num=" + strings.Repeat("1", 65), "pggrp=239.1.2.3:34560;num=1;name=a\x1bb", six, strings.Repeat(";", 4097)} {
		if groups, err := Parse(text); ringfence.KindOf(err) != ringfence.KindInvalid || groups != nil {
			t.Errorf("%.60q: %+v %v", text, groups, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("pggrp=239.1.2.3:34560;name=All;num=500;listen=yes;pri=0;")
	f.Add("pggrp=[ff02::1]:34560;num=500;pggrp=")
	f.Fuzz(func(t *testing.T, s string) {
		groups, err := Parse(s)
		heard := 0
		for _, g := range groups {
			if g.Listen {
				heard++
			}
			if err != nil || !g.At.Addr().IsMulticast() || g.Number == "" || g.Priority < 0 || g.Priority > 4 {
				t.Errorf("%+v %v", g, err)
			}
		}
		if len(groups) > maxGroups || heard > maxHeard {
			t.Errorf("%+v", groups)
		}
	})
}

func with(t *testing.T, text string) *flatprofile.Set {
	t.Helper()
	f, err := flatprofile.Parse([]byte("<flat-profile>" + text + "</flat-profile>"))
	if err != nil {
		t.Fatal(err)
	}
	set := flatprofile.NewSet(flatprofile.Parameters())
	set.Add(f, "cfg.xml")
	return set
}

const script = "<Group_Paging_Script>pggrp=239.1.2.3:34560;name=All;num=500;listen=yes;pggrp=239.1.2.3:34562;num=501</Group_Paging_Script>"

func TestOf(t *testing.T) {
	line := func(transport string) string {
		return "<Proxy_1_>pbx.example.com</Proxy_1_><SIP_Transport_1_>" + transport + "</SIP_Transport_1_>"
	}
	for name, x := range map[string]struct {
		cfg    string
		groups int
		kind   ringfence.Kind
	}{
		"nothing": {"", 0, 0}, "switched off": {script + "<Paging_Serv>No</Paging_Serv>", 0, 0}, "no line": {script, 2, 0}, "in the clear already": {script + line("UDP"), 2, 0}, "sealed": {script + line("TLS"), 2, ringfence.KindInsecure}, "sealed, perhaps": {script + line("Auto"), 2, ringfence.KindInsecure},
		"sealed, and said": {script + line("TLS") + "<Multicast_Paging_In_The_Clear>Yes</Multicast_Paging_In_The_Clear>", 2, 0}, "nonsense": {"<Group_Paging_Script>x</Group_Paging_Script>", 0, ringfence.KindInvalid},
	} {
		s := Of(with(t, x.cfg))
		if len(s.Groups) != x.groups || (s.Refused != nil) != (x.kind != 0) || s.Refused != nil && ringfence.KindOf(s.Refused) != x.kind {
			t.Errorf("%s: %+v", name, s)
		}
		_, found := s.Find("501")
		if allowed := x.groups > 0 && x.kind == 0; found != allowed || (len(s.Heard()) == 1) != allowed || (len(Flows(s)) == 2) != allowed {
			t.Errorf("%s: %v %v", name, s.Heard(), Flows(s))
		}
	}
}

// air is a link on which everybody hears what is said.
type air struct {
	in     chan datagram
	sent   chan []byte
	closed chan struct{}
	once   sync.Once
}

type datagram struct {
	from string
	b    []byte
}

func (a *air) ListenMulticast(context.Context, string, netip.AddrPort) (net.PacketConn, error) {
	return a, nil
}
func (a *air) ListenUDP(context.Context, string, netip.AddrPort) (net.PacketConn, error) {
	return &sender{air: a}, nil
}
func (a *air) ReadFrom(b []byte) (int, net.Addr, error) {
	select {
	case d := <-a.in:
		return copy(b, d.b), net.UDPAddrFromAddrPort(netip.MustParseAddrPort(d.from)), nil
	case <-a.closed:
		return 0, nil, net.ErrClosed
	}
}
func (a *air) WriteTo(b []byte, _ net.Addr) (int, error) { return len(b), nil }
func (a *air) Close() error                              { a.once.Do(func() { close(a.closed) }); return nil }
func (a *air) LocalAddr() net.Addr                       { return &net.UDPAddr{} }
func (a *air) SetDeadline(time.Time) error               { return nil }
func (a *air) SetReadDeadline(time.Time) error           { return nil }
func (a *air) SetWriteDeadline(time.Time) error          { return nil }

// sender gives what it sends back to the link.
type sender struct {
	*air
}

func (s *sender) WriteTo(b []byte, _ net.Addr) (int, error) {
	s.sent <- slices.Clone(b)
	s.in <- datagram{"192.0.2.7:40000", slices.Clone(b)}
	return len(b), nil
}
func (s *sender) Close() error { return nil }

// desk is a phone as a pager sees it.
type desk struct {
	mu             sync.Mutex
	busy, quiet    bool
	paused, resume int
	heard          []int16
	over           []Page
}

func (d *desk) set(f func()) { d.mu.Lock(); f(); d.mu.Unlock() }
func (d *desk) Busy() bool   { d.mu.Lock(); defer d.mu.Unlock(); return d.busy }
func (d *desk) Quiet() bool  { d.mu.Lock(); defer d.mu.Unlock(); return d.quiet }
func (d *desk) Pause(context.Context) func() {
	d.set(func() { d.paused++ })
	return func() { d.set(func() { d.resume++ }) }
}
func (d *desk) Write(samples []int16, _ int) { d.set(func() { d.heard = append(d.heard, samples...) }) }

type loud struct{}

func (loud) Read(samples []int16, _ int) {
	for i := range samples {
		samples[i] = 8000
	}
}

// room is a pager with its link and its phone, in a bubble of time.
type room struct {
	*testing.T
	*Pager
	air  *air
	desk *desk
	seq  uint16
}

func inRoom(t *testing.T, priority string, f func(r *room)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := Of(with(t, strings.Replace(script, "listen=yes;", "listen=yes;pri="+priority+";", 1)))
		r := &room{T: t, air: &air{in: make(chan datagram, 100), sent: make(chan []byte, 10_000), closed: make(chan struct{})}, desk: &desk{}}
		r.Pager = New(Config{Setting: s, Opener: r.air, Calls: r.desk, Heard: func(Page) (Sink, func(Page)) {
			return r.desk, func(p Page) { r.desk.set(func() { r.desk.over = append(r.desk.over, p) }) }
		}})
		ctx, cancel := context.WithCancel(t.Context())
		if err := r.Listen(ctx); err != nil {
			t.Fatal(err)
		}
		f(r)
		cancel()
		synctest.Wait()
	})
}

// says has somebody page for a number of packets.
func (r *room) says(from string, ssrc uint32, packets int) {
	ulaw, _ := codec.New(codec.PCMU)
	for range packets {
		r.seq++
		samples := make([]int16, 160)
		loud{}.Read(samples, 8000)
		r.air.in <- datagram{from, ulaw.Encode(rtp.AppendHeader(nil, rtp.Header{SSRC: ssrc, Sequence: r.seq, Timestamp: 160 * uint32(r.seq)}), samples)}
		<-time.After(frame)
	}
}

// state returns what there is of pages, and how many samples were heard.
func (r *room) state() (states []string, heard int) {
	synctest.Wait()
	for _, p := range r.Pages() {
		states = append(states, p.State)
	}
	r.desk.mu.Lock()
	defer r.desk.mu.Unlock()
	return states, len(r.desk.heard)
}

func (r *room) want(heard bool, states ...string) {
	r.Helper()
	if got, n := r.state(); !slices.Equal(got, states) || (n > 0) != heard {
		r.Errorf("%v, and %d samples heard; want %v", got, n, states)
	}
}

func TestPageIsHeard(t *testing.T) {
	inRoom(t, "2", func(r *room) {
		for _, junk := range []string{"", "x", strings.Repeat("\x80", 11), "\x80\xc8" + strings.Repeat("x", 30), "\x80\x7f" + strings.Repeat("x", 30), "\x80\x00" + strings.Repeat("x", 10), strings.Repeat("\x80", 1501)} {
			r.air.in <- datagram{"192.0.2.9:1", []byte(junk)}
		}
		r.want(false)
		r.says("192.0.2.1:5004", 1, 50)
		r.want(true, Hearing)
		before := len(r.Pages())
		r.says("192.0.2.2:5004", 2, 20) // somebody else breaks in, and is not heard
		r.says("192.0.2.2:5004", 1, 20)
		if p := r.Pages(); len(p) != before || p[0].From != "192.0.2.1:5004" || p[0].Packets > 50 {
			t.Errorf("%+v", p)
		}
		<-time.After(3 * time.Second)
		r.want(true)
		r.desk.set(func() {
			if len(r.desk.over) != 1 || len(r.desk.heard) < 40*160 || r.desk.heard[1000] < 7000 || r.desk.heard[1000] > 9000 || r.desk.paused != 0 {
				t.Errorf("%+v, %d samples", r.desk.over, len(r.desk.heard))
			}
		})
		r.says("192.0.2.2:5004", 2, 5) // now it is
		r.want(true, Hearing)
	})
}

// TestPriorities has pages come during a call, and while nobody wants to be disturbed.
func TestPriorities(t *testing.T) {
	for _, x := range []struct {
		priority    string
		busy, quiet string
		paused      int
	}{{"0", Hearing, Hearing, 1}, {"1", Hearing, PassedOver, 0}, {"2", Waits, PassedOver, 0}, {"3", PassedOver, PassedOver, 0}, {"4", PassedOver, PassedOver, 0}} {
		inRoom(t, x.priority, func(r *room) {
			r.desk.set(func() { r.desk.busy = true })
			r.says("192.0.2.1:5004", 1, 10)
			r.want(x.busy == Hearing, x.busy)
			r.desk.set(func() { r.desk.busy = false })
			r.says("192.0.2.1:5004", 1, 10)
			if x.busy == Waits { // the call is over
				r.want(true, Hearing)
			}
			<-time.After(3 * time.Second)
			r.desk.set(func() {
				if r.desk.paused != x.paused || r.desk.resume != x.paused {
					t.Errorf("priority %s: %d calls were put on hold, and %d taken back", x.priority, r.desk.paused, r.desk.resume)
				}
			})
		})
		inRoom(t, x.priority, func(r *room) {
			r.desk.set(func() { r.desk.quiet = true })
			r.says("192.0.2.1:5004", 1, 10)
			r.want(x.quiet == Hearing, x.quiet)
		})
	}
}

// TestPagesOut pages a group, and does not hear itself.
func TestPagesOut(t *testing.T) {
	inRoom(t, "2", func(r *room) {
		g, _ := r.cfg.Setting.Find("500")
		if r.Stop() {
			t.Error("a page ended that nobody began")
		}
		if err := r.Start(r.Context(), g, loud{}); err != nil {
			t.Fatal(err)
		}
		if err := r.Start(r.Context(), g, loud{}); ringfence.KindOf(err) != ringfence.KindBusy {
			t.Errorf("two pages at a time: %v", err)
		}
		<-time.After(time.Second)
		r.want(false, Sent)
		if !r.Stop() {
			t.Error("it did not end")
		}
		r.want(false)
		first, _ := rtp.ParseHeader(<-r.air.sent)
		b := <-r.air.sent
		h, err := rtp.ParseHeader(b)
		if n := len(r.air.sent); err != nil || n < 45 || n > 55 || !first.Marker || h.Marker || h.PayloadType != 0 || h.Sequence != first.Sequence+1 || h.Timestamp != first.Timestamp+160 || len(b) != 172 {
			t.Errorf("%+v, %d more, %v", h, n, err)
		}
		r.says("192.0.2.1:5004", 1, 10)
		if err := r.Start(r.Context(), g, loud{}); ringfence.KindOf(err) != ringfence.KindBusy {
			t.Errorf("a page into another: %v", err)
		}
	})
}
