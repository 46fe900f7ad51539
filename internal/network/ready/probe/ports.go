package probe

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"ringfence/internal/network/need"
	"ringfence/internal/network/ready/datagram"
	"ringfence/internal/network/ready/verdict"
	"ringfence/internal/network/ready/wire"
)

const (
	tries   = 4
	pace    = 2 * time.Millisecond // between datagrams
	dialing = 24                   // connections at a time
	tcpTime = 1200 * time.Millisecond
)

// pair is a port of ours and one of the reflector's.
type pair struct{ from, to uint16 }

// outcome is what came of a pair.
type outcome struct {
	ok      bool
	untried string // why it could not be tried from here
	cause   verdict.Cause
	said    string     // what was said against it
	by      netip.Addr // who said it
	answer  wire.Probe
	// unreachable says that a connection did not come about since somebody said so, perhaps by ICMP.
	unreachable bool
}

// ports tests one row over one transport.
func (p *Prober) ports(ctx context.Context, i item) (verdict.Check, error) {
	c := verdict.Check{ID: i.transport + "/" + i.row.ID, Kind: i.transport, Rows: []string{i.row.ID}, Title: i.title(), Required: true, Status: verdict.Pass, Values: map[string]string{}}
	if i.skip != "" {
		c.Status, c.Seen, c.Cause = verdict.Skip, i.skip, verdict.Untested
		return c, nil
	}
	wanted, froms := i.tos, i.froms
	tos, err := p.need(ctx, i.transport, wanted)
	if err != nil {
		return c, err
	}
	if len(tos) == 0 {
		c.Status, c.Cause, c.Seen = verdict.Skip, verdict.Untested, "the reflector could open none of the ports: "+p.opened[fmt.Sprintf("%s/%d", i.transport, wanted[0])]
		return c, nil
	}
	try := p.udp
	if i.transport == "tcp" {
		try = p.tcp
	}
	s := &survey{i: i, try: func(pairs []pair) map[pair]outcome { return try(ctx, pairs) }, all: map[pair]outcome{}}
	s.run(froms, tos, func(ports []uint16) []uint16 {
		open, e := p.need(ctx, i.transport, ports)
		err = errors.Join(err, e)
		return open
	})
	if err != nil {
		return c, err
	}
	s.slowly(ctx)
	s.judge(&c)
	widest := 0
	for _, r := range i.to {
		widest = max(widest, surely(r, p.Between))
	}
	if widest > 1 && c.Sent != "" {
		c.Sent += fmt.Sprintf("; a block of %d adjacent ports or more has one of them for certain", widest)
	}
	if left := len(wanted) - len(tos); left > 0 {
		why := ""
		for _, q := range wanted {
			why = cmp.Or(why, p.opened[fmt.Sprintf("%s/%d", i.transport, q)])
		}
		c.Seen += fmt.Sprintf("; %d of %d ports were not tested, since the reflector could not open them: %s", left, len(wanted), why)
		if c.Status == verdict.Pass { // an untested port is no port that passes
			c.Status, c.Cause, c.Change = verdict.Warn, verdict.Untested, "run the reflector where these ports are free, as root if they are below 1024, and test again"
		}
	}
	if s.good != (pair{}) && (i.transport == "tcp" || len(p.works) < 2) {
		to := &p.worksT
		if i.transport == "udp" { // later tests use one row's ports, theirs and ours
			to, p.works, p.worksFrom = &p.works, nil, []need.Ports{{First: s.good.from, Last: s.good.from}}
			if len(s.blockedFrom) == 0 && len(s.combinations) == 0 {
				p.worksFrom = i.from
			}
		}
		for q, o := range s.all {
			if o.ok && !slices.Contains(*to, q.to) {
				*to = append(*to, q.to)
			}
		}
		slices.Sort(*to)
	}
	return c, nil
}

// ahead asks the first questions of all rows over TCP at once: where nothing answers, each takes seconds.
func (p *Prober) ahead(ctx context.Context, items []item) error {
	var all []pair
	for _, i := range items {
		if i.transport != "tcp" || i.skip != "" {
			continue
		}
		open, err := p.need(ctx, "tcp", i.tos)
		if err != nil {
			return err
		}
		all = append(all, first(i.froms, open)...)
	}
	slices.SortFunc(all, func(a, b pair) int { return cmp.Or(cmp.Compare(a.to, b.to), cmp.Compare(a.from, b.from)) })
	p.known = p.tcp(ctx, slices.Compact(all))
	return nil
}

// survey finds out which ports of a row pass.
type survey struct {
	i            item
	try          func([]pair) map[pair]outcome
	all          map[pair]outcome
	good         pair // one that passes
	blockedTo    []need.Ports
	blockedFrom  []need.Ports
	combinations []pair // that do not pass although both of their ports do
	limited      bool   // what did not pass passed when it was tried slowly
}

func (s *survey) ask(pairs []pair) {
	var todo []pair
	for _, q := range pairs {
		if _, known := s.all[q]; !known {
			todo = append(todo, q)
		}
	}
	if len(todo) > 0 {
		maps.Copy(s.all, s.try(todo))
	}
}

// first returns what is asked first of a row.
func first(froms, tos []uint16) []pair {
	var pairs []pair
	for n, to := range tos { // each of theirs, with ours in turn
		pairs = append(pairs, pair{froms[n%len(froms)], to})
	}
	if len(tos) <= 3 { // few enough to ask for every combination at once, which saves the wait if none answers
		for _, from := range froms {
			for _, to := range tos {
				pairs = append(pairs, pair{from, to})
			}
		}
		slices.SortFunc(pairs, func(a, b pair) int { return cmp.Or(cmp.Compare(a.from, b.from), cmp.Compare(a.to, b.to)) })
		pairs = slices.Compact(pairs)
	}
	return pairs
}

func (s *survey) run(froms, tos []uint16, open func([]uint16) []uint16) {
	pairs := first(froms, tos)
	s.ask(pairs)
	mixed := slices.Clone(pairs)
	if s.find(pairs); s.good == (pair{}) { // perhaps each met the one that does not pass
		pairs = nil
		for _, from := range froms {
			for n := range min(3, len(tos)) {
				pairs = append(pairs, pair{from, tos[n*(len(tos)-1)/max(min(3, len(tos))-1, 1)]})
			}
		}
		s.ask(pairs)
		if s.find(pairs); s.good == (pair{}) {
			return
		}
	}
	dimension := func(ranges []need.Ports, samples []uint16, theirs bool, at func(uint16) pair) []need.Ports {
		passes := map[uint16]bool{}
		learn := func(ports []uint16) map[uint16]bool {
			var pairs []pair
			for _, q := range ports {
				pairs = append(pairs, at(q))
			}
			s.ask(pairs)
			got := map[uint16]bool{}
			for _, q := range ports {
				if o := s.all[at(q)]; o.untried == "" {
					got[q] = o.ok
				}
			}
			return got
		}
		maps.Copy(passes, learn(samples))
		return edges(ranges, passes, func(ports []uint16) map[uint16]bool {
			if theirs {
				ports = open(ports)
			}
			return learn(ports)
		})
	}
	s.blockedTo = dimension(s.i.to, tos, true, func(q uint16) pair { return pair{s.good.from, q} })
	s.blockedFrom = dimension(s.i.from, froms, false, func(q uint16) pair { return pair{q, s.good.to} })
	for _, q := range mixed {
		if o := s.all[q]; !o.ok && o.untried == "" && s.all[pair{s.good.from, q.to}].ok && s.all[pair{q.from, s.good.to}].ok {
			s.combinations = append(s.combinations, q)
		}
	}
}

func (s *survey) find(pairs []pair) {
	for _, q := range pairs {
		if s.all[q].ok {
			s.good = q
			return
		}
	}
}

// slowly tries a few of what did not pass again, one after the other with pauses: what passes then is limited by rate.
func (s *survey) slowly(ctx context.Context) {
	if s.i.transport != "udp" || s.good == (pair{}) {
		return
	}
	var again []pair
	for _, b := range s.blockedTo {
		again = append(again, pair{s.good.from, b.First}, pair{s.good.from, b.Last})
	}
	for _, b := range s.blockedFrom {
		again = append(again, pair{b.First, s.good.to}, pair{b.Last, s.good.to})
	}
	again = append(again, s.combinations...)
	again = slices.DeleteFunc(again, func(q pair) bool { return s.all[q].cause != verdict.Dropped })
	for n := range min(4, len(again)) {
		wait(ctx, 400*time.Millisecond)
		q := again[n*len(again)/min(4, len(again))]
		if s.try([]pair{q})[q].ok {
			s.limited = true
			return
		}
	}
}

// judge turns what was found into words.
func (s *survey) judge(c *verdict.Check) {
	var ok, bad, untried int
	var hops []string
	reasons, causes, why := map[string]int{}, map[verdict.Cause]int{}, ""
	for _, o := range s.all {
		switch {
		case o.ok:
			ok++
		case o.untried != "":
			untried++
			why = o.untried
		default:
			bad++
			reasons[o.said]++
			causes[o.cause]++
			if o.by.IsValid() && !slices.Contains(hops, o.by.String()) {
				hops = append(hops, o.by.String())
			}
		}
	}
	c.Sent = fmt.Sprintf("%s from ports %s to %d of the ports %s, %d combinations", strings.ToUpper(s.i.transport), list(s.i.from), len(s.tos()), list(s.i.to), ok+bad)
	c.Seen = fmt.Sprintf("%d of %d combinations answered", ok, ok+bad)
	if untried > 0 {
		c.Seen += fmt.Sprintf("; %d more could not be tried: %s", untried, why)
	}
	if ok+bad == 0 {
		c.Status, c.Cause, c.Seen = verdict.Skip, verdict.Untested, "no port that it may come from could be used here: "+why
		return
	}
	if bad == 0 {
		return
	}
	var said []string
	for _, r := range slices.Sorted(maps.Keys(reasons)) {
		said = append(said, fmt.Sprintf("%d times %s", reasons[r], r))
	}
	c.Seen += "; " + joined(said)
	slices.Sort(hops)
	c.Hop = strings.Join(hops, ", ")
	for _, cause := range []verdict.Cause{verdict.Dropped, verdict.Rejected, verdict.Replaced} { // a machine that refuses is often silent too, since it must limit how often it says so
		if causes[cause] > 0 {
			c.Cause = cause
		}
	}
	var change []string
	switch {
	case s.limited:
		c.Status, c.Cause = verdict.Fail, verdict.Limited
		c.Seen += "; what was silent answered when it was asked slowly"
		c.Change = "raise the limit of UDP packets in a second: a call has 50 each way, and this test sends up to 500 within a second"
		return
	case s.good == pair{}:
		c.Status, c.Blocked = verdict.Fail, texts(s.i.to)
		change = append(change, s.i.allow(s.i.from, s.i.to))
	default:
		if len(s.blockedTo) > 0 {
			c.Status = verdict.Fail
			for _, b := range s.blockedTo {
				c.Blocked = append(c.Blocked, "to "+b.String())
			}
			change = append(change, s.i.allow(s.i.from, s.blockedTo))
		}
		if len(s.blockedFrom) > 0 {
			c.Status = verdict.Fail
			for _, b := range s.blockedFrom {
				c.Blocked = append(c.Blocked, "from "+b.String())
			}
			change = append(change, s.i.allow(s.blockedFrom, s.i.to))
		}
		if len(s.combinations) > 0 {
			c.Status = verdict.Fail
			for _, q := range s.combinations {
				c.Blocked = append(c.Blocked, fmt.Sprintf("from %d to %d", q.from, q.to))
			}
			change = append(change, "some combinations of ports do not pass although each port does; look for a rule with both, or for a limit of rate")
		}
		if c.Status == verdict.Pass { // failures that went away when they were tried again
			c.Status, c.Cause = verdict.Warn, verdict.Quality
			change = append(change, "probes were lost and passed later; look at loss and limits of rate")
		}
	}
	switch c.Cause {
	case verdict.Replaced:
		change = append(change, "let nothing on the way answer in place of the service: a transparent proxy does")
	case verdict.Rejected:
		change = append(change, "the rule is on the machine that refused it")
	}
	c.Change = joined(change)
}

func (s *survey) tos() map[uint16]bool {
	out := map[uint16]bool{}
	for q := range s.all {
		out[q.to] = true
	}
	return out
}

// udp sends probes for some pairs and waits for their answers.
func (p *Prober) udp(ctx context.Context, pairs []pair) map[pair]outcome {
	out := map[pair]outcome{}
	byFrom := map[uint16][]pair{}
	for _, q := range pairs {
		byFrom[q.from] = append(byFrom[q.from], q)
	}
	socks := map[uint16]*datagram.Conn{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	sent := map[uint32]pair{}
	refused := map[pair]datagram.Refusal{}
	for from := range byFrom {
		c, err := p.listen(ctx, from)
		if err != nil {
			for _, q := range byFrom[from] {
				out[q] = outcome{untried: fmt.Sprintf("port %d of this host cannot be used: %v", from, root(err))}
			}
			continue
		}
		socks[from] = c
		wg.Go(func() {
			b := make([]byte, wire.MaxSize+1)
			for {
				n, peer, _, err := c.Read(b)
				if err != nil {
					return
				}
				a, ok := p.genuine(b[:n])
				mu.Lock()
				if q, known := sent[a.Seq]; ok && known && peer == netip.AddrPortFrom(p.Reflector.Addr(), q.to) {
					out[q] = outcome{ok: true, answer: a}
				}
				mu.Unlock()
			}
		})
	}
	for range tries {
		missing := 0
		for _, q := range pairs {
			c := socks[q.from]
			mu.Lock()
			_, known := out[q]
			mu.Unlock()
			if known || c == nil {
				continue
			}
			missing++
			probe := p.next(wire.Reach)
			mu.Lock()
			sent[probe.Seq] = q
			mu.Unlock()
			_ = c.Write(probe.Append(nil, p.ch.Key, 0), netip.AddrPortFrom(p.Reflector.Addr(), q.to), 0)
			wait(ctx, pace)
		}
		if missing == 0 || ctx.Err() != nil {
			break
		}
		wait(ctx, p.patience)
		for from, c := range socks {
			for _, r := range c.Refusals() {
				refused[pair{from, r.To.Port()}] = r
			}
		}
	}
	for _, c := range socks {
		_ = c.Close()
	}
	wg.Wait()
	for _, q := range pairs {
		if _, known := out[q]; known {
			continue
		}
		o := outcome{cause: verdict.Dropped, said: "silence"}
		if r, ok := refused[q]; ok {
			o.cause, o.said = verdict.Rejected, "refused by this host: "+r.Why
			if r.By.IsValid() {
				o.said, o.by = fmt.Sprintf("refused by %s: %s", r.By, r.Why), r.By
			}
		}
		out[q] = o
	}
	return out
}

// root is the last cause of an error, in a few words.
func root(err error) error {
	if e, ok := errors.AsType[syscall.Errno](err); ok {
		return e
	}
	return err
}

// wait waits for a while, or until the context ends.
func wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// tcp opens connections for some pairs, and makes sure that it is the reflector that answers.
func (p *Prober) tcp(ctx context.Context, pairs []pair) map[pair]outcome {
	out := map[pair]outcome{}
	said := p.quotes(ctx)
	defer said.close()
	var mu sync.Mutex
	var wg sync.WaitGroup
	gate := make(chan struct{}, dialing)
	for _, q := range pairs {
		if o, known := p.known[q]; known {
			mu.Lock()
			out[q] = o
			mu.Unlock()
			continue
		}
		gate <- struct{}{}
		wg.Go(func() {
			defer func() { <-gate }()
			o := p.connect(ctx, q)
			if !o.ok && o.cause == verdict.Dropped && ctx.Err() == nil {
				if again := p.connect(ctx, q); again.untried == "" { // else what is left of the first attempt still has the port
					o = again
				}
			}
			mu.Lock()
			out[q] = o
			mu.Unlock()
		})
	}
	wg.Wait()
	waited := false
	for q, o := range out { // a refusal comes with the name of who said so, to whoever may hear that
		if o.cause != verdict.Rejected || !o.unreachable || o.by.IsValid() || said.pc == nil {
			continue
		}
		if !said.who(q).IsValid() && !waited {
			wait(ctx, p.patience/4)
			waited = true
		}
		if o.by = said.who(q); o.by.IsValid() {
			o.said = fmt.Sprintf("the connection was refused by %s (ICMP)", o.by)
			out[q] = o
		}
	}
	return out
}

func (p *Prober) connect(ctx context.Context, q pair) outcome {
	ctx, cancel := context.WithTimeout(ctx, tcpTime)
	defer cancel()
	c, err := p.Opener.DialFrom(ctx, FlowTCP, netip.AddrPortFrom(p.local, q.from), netip.AddrPortFrom(p.Reflector.Addr(), q.to))
	switch {
	case err == nil:
	case errors.Is(err, syscall.EADDRINUSE), errors.Is(err, syscall.EADDRNOTAVAIL), errors.Is(err, syscall.EACCES):
		return outcome{untried: fmt.Sprintf("port %d of this host cannot be used: %v", q.from, root(err))}
	case errors.Is(err, syscall.ECONNREFUSED): // by a reset, or by a machine that says that the port cannot be reached
		return outcome{cause: verdict.Rejected, said: "the connection was refused (TCP reset)", unreachable: true}
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.EPERM):
		return outcome{cause: verdict.Rejected, said: fmt.Sprintf("the connection was refused (%v)", root(err)), unreachable: true}
	default:
		return outcome{cause: verdict.Dropped, said: "silence"}
	}
	defer func() { _ = c.Close() }()
	if t, ok := c.(*net.TCPConn); ok {
		_ = t.SetLinger(0) // the port is free again at once
	}
	_ = c.SetDeadline(time.Now().Add(tcpTime))
	probe := p.next(wire.Reach)
	b := make([]byte, wire.Size)
	if _, err = c.Write(probe.Append(nil, p.ch.Key, 0)); err == nil {
		_, err = io.ReadFull(c, b)
	}
	if a, ok := p.genuine(b); err == nil && ok && a.Seq == probe.Seq {
		return outcome{ok: true, answer: a}
	}
	if errors.Is(err, syscall.ECONNRESET) {
		return outcome{cause: verdict.Rejected, said: "the connection was opened and then reset"}
	}
	return outcome{cause: verdict.Replaced, said: "the connection was opened, and it was not the reflector that answered"}
}

// choose returns up to n of some ports, at random and in order.
func choose(ports []uint16, n int, r *rand.Rand) []uint16 {
	out := slices.Clone(ports)
	r.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	out = out[:min(n, len(out))]
	slices.Sort(out)
	return out
}
