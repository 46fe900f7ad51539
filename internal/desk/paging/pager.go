package paging

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"time"

	"ringfence"
	"ringfence/internal/media/codec"
	"ringfence/internal/media/rtp"
)

// The flows of pages.
const (
	FlowOut = "phone-page-out"
	frame   = 20 * time.Millisecond
	silent  = 2 * time.Second // without a packet, and a page is over
	longest = time.Hour       // that we page
)

// FlowIn is the flow of a group that is listened to.
func FlowIn(g Group) string { return "phone-page-" + strconv.Itoa(int(g.At.Port())) }

// Flows declares what a phone with this setting listens to and sends.
func Flows(s Setting) []ringfence.Flow {
	if s.Refused != nil || len(s.Groups) == 0 {
		return nil
	}
	flows := []ringfence.Flow{{Name: FlowOut, Purpose: "A phone pages a group by multicast RTP, in the clear, since its profile says so.", Room: "desk/paging", Direction: ringfence.Listens, Transport: "udp",
		Peers: "phones of a group", DSCP: 46, TLS: ringfence.TLSNone}}
	for _, g := range s.Heard() {
		flows = append(flows, ringfence.Flow{Name: FlowIn(g), Purpose: "A phone hears the pages of a group by multicast RTP, in the clear, since its profile says so.", Room: "desk/paging", Direction: ringfence.Listens, Transport: "udp",
			Addr: g.At.Addr(), Ports: ringfence.PortRange{First: g.At.Port(), Last: g.At.Port()}, Peers: "whoever pages", DSCP: 46, TLS: ringfence.TLSNone})
	}
	return flows
}

// Opener opens the sockets.
type Opener interface {
	// ListenMulticast joins a group (IGMP, MLD) and hears what is sent to it, and to nothing else.
	ListenMulticast(ctx context.Context, flow string, group netip.AddrPort) (net.PacketConn, error)
	ListenUDP(ctx context.Context, flow string, addr netip.AddrPort) (net.PacketConn, error)
}

// Source is what is said: it fills 20 ms of sound at a rate.
type Source interface {
	Read(samples []int16, rate int)
}

// Sink is where a page is heard.
type Sink interface {
	Write(samples []int16, rate int)
}

// Calls is what a page does to the calls of the phone.
type Calls interface {
	Busy() bool  // a call is up
	Quiet() bool // nobody wants to be disturbed
	// Pause puts the calls on hold, and returns what takes them back.
	Pause(ctx context.Context) (resume func())
}

// Config describes the pages of one phone.
type Config struct {
	Setting Setting
	Opener  Opener
	Calls   Calls
	Heard   func(Page) (Sink, func(Page)) // for each page that is heard; done is called when it is over
	Changed func()                        // the list of pages changed; may be nil
	Say     func(format string, args ...any)
	Now     func() time.Time
}

// Page is a page that goes on.
type Page struct {
	Group    string    `json:"group"` // its number
	Name     string    `json:"name,omitempty"`
	Out      bool      `json:"out"` // we page
	From     string    `json:"from,omitempty"`
	State    string    `json:"state"` // heard; waits, until a call or another page is over; passed over; sent
	Codec    string    `json:"codec,omitempty"`
	Priority Priority  `json:"priority"`
	Since    time.Time `json:"since"`
	Packets  int       `json:"packets"`
	ssrc     uint32
}

// The states of a page.
const (
	Hearing    = "heard"
	Waits      = "waits"
	PassedOver = "passed over"
	Sent       = "sent"
)

// Pager hears pages and makes them.
type Pager struct {
	cfg Config

	mu    sync.Mutex
	pages []*Page
	out   *outgoing
}

type outgoing struct {
	page *Page
	stop context.CancelFunc
}

// New returns a pager that does nothing yet.
func New(c Config) *Pager {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Changed == nil {
		c.Changed = func() {}
	}
	if c.Say == nil {
		c.Say = func(string, ...any) {}
	}
	return &Pager{cfg: c}
}

// Pages returns the pages that go on, the oldest first.
func (p *Pager) Pages() []Page {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := []Page{}
	for _, x := range p.pages {
		out = append(out, *x)
	}
	return out
}

// Listen joins the groups that are listened to, until ctx ends.
func (p *Pager) Listen(ctx context.Context) error {
	for _, g := range p.cfg.Setting.Heard() {
		pc, err := p.cfg.Opener.ListenMulticast(ctx, FlowIn(g), g.At)
		if err != nil {
			return &ringfence.Fault{Op: "paging", Kind: ringfence.KindUnavailable, Text: "the phone cannot join the paging group " + g.At.String(), Hint: "has the link a route for multicast?", Err: err}
		}
		context.AfterFunc(ctx, func() { _ = pc.Close() })
		go p.listen(ctx, g, pc)
	}
	return nil
}

// packet is one that came.
type packet struct {
	from netip.AddrPort
	head rtp.Header
	body []byte
}

// listen hears one group.
func (p *Pager) listen(ctx context.Context, g Group, pc net.PacketConn) {
	in := make(chan packet, 64)
	go func() {
		defer close(in)
		b := make([]byte, rtp.MaxPacket+1)
		for {
			n, from, err := pc.ReadFrom(b)
			if err != nil {
				return
			}
			head, err := rtp.ParseHeader(b[:n])
			if err != nil || codecOf(head.PayloadType) == "" {
				continue
			}
			body, err := head.Payload(b[:n])
			if err != nil || len(body) == 0 {
				continue
			}
			at, _ := netip.ParseAddrPort(from.String())
			select {
			case in <- packet{at, head, slices.Clone(body)}:
			default: // a flood: what does not fit is lost
			}
		}
	}()
	for {
		select {
		case x, ok := <-in:
			if !ok {
				return
			}
			if !p.ours(x.head.SSRC) {
				p.hear(ctx, g, x, in)
			}
		case <-ctx.Done():
			return
		}
	}
}

// ours reports whether a packet is of the page that we send: the link gives it back.
func (p *Pager) ours(ssrc uint32) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out != nil && p.out.page.ssrc == ssrc
}

func codecOf(payloadType uint8) codec.Name {
	switch payloadType { // RFC 3551 section 6
	case 0:
		return codec.PCMU
	case 8:
		return codec.PCMA
	case 9:
		return codec.G722
	}
	return ""
}

// hear stays with one page until it is over: until nobody sends it any more. Whoever else sends to the group meanwhile is not heard.
func (p *Pager) hear(ctx context.Context, g Group, first packet, in <-chan packet) {
	name := codecOf(first.head.PayloadType)
	speaks, err := codec.New(name)
	if err != nil {
		return
	}
	page := &Page{Group: g.Number, Name: g.Name, From: first.from.String(), Codec: string(name), Priority: g.Priority, Since: p.cfg.Now().UTC().Truncate(time.Second), State: Waits}
	p.add(page)
	ear := ear{pager: p, page: page}
	defer func() {
		ear.close()
		p.remove(page)
	}()
	buffer := rtp.NewJitterBuffer()
	push := func(x packet) {
		buffer.Push(&x.head, x.body)
		p.mu.Lock()
		page.Packets++
		p.mu.Unlock()
	}
	push(first)
	last := p.cfg.Now()
	tick := time.NewTicker(frame)
	defer tick.Stop()
	for {
		select {
		case x, ok := <-in:
			switch {
			case !ok:
				return
			case x.head.SSRC != first.head.SSRC || x.from != first.from || x.head.PayloadType != first.head.PayloadType:
			default:
				push(x)
				last = p.cfg.Now()
			}
		case <-tick.C:
			if p.cfg.Now().Sub(last) > silent {
				return
			}
			ear.admit(ctx)
			body, _, what := buffer.Pop()
			switch {
			case ear.sink == nil:
			case what == rtp.Frame:
				ear.sound = speaks.Decode(ear.sound[:0], body)
				ear.write(speaks.Rate())
			case what == rtp.Missing:
				ear.sound = append(ear.sound[:0], make([]int16, speaks.Rate()/50)...)
				ear.write(speaks.Rate())
			}
		case <-ctx.Done():
			return
		}
	}
}

// ear is where one page is heard, if it is.
type ear struct {
	pager  *Pager
	page   *Page
	sink   Sink
	over   func(Page)
	resume func()
	sound  []int16
}

// admit decides what becomes of a page now.
func (e *ear) admit(ctx context.Context) {
	if e.sink != nil {
		return
	}
	p := e.pager
	state := p.verdict(e.page)
	if state == Hearing {
		if p.cfg.Calls.Busy() && e.page.Priority == Emergent {
			e.resume = p.cfg.Calls.Pause(ctx)
		}
		p.cfg.Say("%s pages %s", e.page.From, e.page.Group)
	} else if state != e.page.State && state == Waits {
		p.cfg.Say("%s pages %s: it is heard when the call is over", e.page.From, e.page.Group)
	}
	p.mu.Lock()
	changed := e.page.State != state
	e.page.State = state
	page := *e.page
	p.mu.Unlock()
	if state == Hearing {
		e.sink, e.over = p.cfg.Heard(page)
	}
	if changed {
		p.cfg.Changed()
	}
}

// verdict says whether a page is heard, waits or is passed over.
func (p *Pager) verdict(page *Page) string {
	busy, quiet := p.cfg.Calls.Busy(), p.cfg.Calls.Quiet()
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case page.State == PassedOver: // it stays so
		return PassedOver
	case quiet && page.Priority != Emergent, busy && page.Priority >= Minor:
		return PassedOver
	case busy && page.Priority == Normal:
		return Waits
	}
	for _, o := range p.pages { // one at a time, in the order in which they came; an emergency waits for no other
		if o == page {
			break
		}
		if o.State == Sent || o.State == Hearing && (page.Priority != Emergent || o.Priority == Emergent) {
			return Waits
		}
	}
	return Hearing
}

// write hands sound on, in pieces of 20 ms.
func (e *ear) write(rate int) {
	for at := 0; at+rate/50 <= len(e.sound); at += rate / 50 {
		e.sink.Write(e.sound[at:at+rate/50], rate)
	}
}

func (e *ear) close() {
	if e.over != nil {
		e.pager.mu.Lock()
		page := *e.page
		e.pager.mu.Unlock()
		e.over(page)
	}
	if e.resume != nil {
		e.resume()
	}
}

func (p *Pager) add(page *Page) {
	p.mu.Lock()
	p.pages = append(p.pages, page)
	p.mu.Unlock()
	p.cfg.Changed()
}

func (p *Pager) remove(page *Page) {
	p.mu.Lock()
	p.pages = slices.DeleteFunc(p.pages, func(o *Page) bool { return o == page })
	p.mu.Unlock()
	p.cfg.Changed()
}

// Start pages a group until Stop, or ctx ends.
func (p *Pager) Start(ctx context.Context, g Group, says Source) error {
	p.mu.Lock()
	busy := p.out != nil
	for _, o := range p.pages {
		busy = busy || o.Group == g.Number && o.State == Hearing
	}
	p.mu.Unlock()
	if busy {
		return &ringfence.Fault{Op: "paging", Kind: ringfence.KindBusy, Text: "a page goes on", Hint: "wait until it is over"}
	}
	local := netip.IPv4Unspecified()
	if g.At.Addr().Is6() {
		local = netip.IPv6Unspecified()
	}
	pc, err := p.cfg.Opener.ListenUDP(ctx, FlowOut, netip.AddrPortFrom(local, 0))
	if err != nil {
		return err
	}
	ctx, stop := context.WithTimeout(ctx, longest)
	page := &Page{Group: g.Number, Name: g.Name, Out: true, State: Sent, Codec: string(codec.PCMU), Priority: g.Priority, Since: p.cfg.Now().UTC().Truncate(time.Second), ssrc: rand.Uint32()}
	p.mu.Lock()
	if p.out != nil {
		p.mu.Unlock()
		stop()
		_ = pc.Close()
		return &ringfence.Fault{Op: "paging", Kind: ringfence.KindBusy, Text: "a page goes on", Hint: "wait until it is over"}
	}
	p.out = &outgoing{page, stop}
	p.mu.Unlock()
	p.add(page)
	first := make(chan error, 1)
	go p.send(ctx, g, pc, page, says, first)
	return <-first
}

// Stop ends our page, and reports whether there was one.
func (p *Pager) Stop() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.out == nil {
		return false
	}
	p.out.stop()
	return true
}

// send says something to a group. first hears what became of the first packet.
func (p *Pager) send(ctx context.Context, g Group, pc net.PacketConn, page *Page, says Source, first chan<- error) {
	defer func() {
		_ = pc.Close()
		p.mu.Lock()
		p.out.stop()
		p.out = nil
		p.mu.Unlock()
		p.remove(page)
	}()
	to := net.UDPAddrFromAddrPort(g.At)
	speaks, err := codec.New(codec.PCMU)
	if err != nil {
		first <- err
		return
	}
	samples := make([]int16, speaks.Rate()/50)
	h := rtp.Header{Marker: true, SSRC: page.ssrc, Sequence: uint16(rand.Uint32()), Timestamp: rand.Uint32()}
	tick := time.NewTicker(frame)
	defer tick.Stop()
	var b []byte
	for n := 0; ; n++ {
		says.Read(samples, speaks.Rate())
		b = speaks.Encode(rtp.AppendHeader(b[:0], h), samples)
		_, err := pc.WriteTo(b, to)
		if n == 0 {
			if err != nil {
				err = &ringfence.Fault{Op: "paging", Kind: ringfence.KindUnavailable, Text: "nothing can be sent to " + g.At.String(), Hint: "has the host a route for multicast?", Err: err}
			}
			first <- err
		}
		if err != nil && (n == 0 || errors.Is(err, net.ErrClosed)) {
			return
		}
		p.mu.Lock()
		page.Packets++
		p.mu.Unlock()
		h.Marker = false
		h.Sequence++
		h.Timestamp += uint32(len(samples))
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}
