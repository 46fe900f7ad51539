package node

import (
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"sync"
	"time"

	"ringfence"
	"ringfence/internal/call/control"
	"ringfence/internal/node/config"
	"ringfence/internal/node/observe/hep"
	"ringfence/internal/node/observe/ladder"
	"ringfence/internal/node/observe/outbox"
	"ringfence/internal/node/observe/syslog"
	"ringfence/internal/node/observe/trace"
	"ringfence/internal/sip/transport"
	"ringfence/internal/state/bus"
)

// watchers are those who get copies of what happens: none of them can hold up a call.
type watchers struct {
	syslog *syslog.Handler
	hep    *hep.Exporter
	traces *trace.Exporter
	legs   *legs
}

// Watching says how the watchers outside do, by the name of their flow.
func (n *Node) Watching() map[string]outbox.Stats {
	out := map[string]outbox.Stats{}
	if w := n.watchers.syslog; w != nil {
		out["syslog"] = w.Stats()
	}
	if w := n.watchers.hep; w != nil {
		out["hep"] = w.Stats()
	}
	if w := n.watchers.traces; w != nil {
		s := w.Stats()
		out["traces"] = outbox.Stats{Sent: s.Exported, Dropped: s.Dropped + s.Failed}
	}
	return out
}

// BusStats returns the counters of the event bus.
func (n *Node) BusStats() bus.Stats { return n.Bus.Stats() }

// LadderStats returns the counters of the ladder diagrams, zero if none are remembered.
func (n *Node) LadderStats() ladder.Stats {
	if n.Ladder == nil {
		return ladder.Stats{}
	}
	return n.Ladder.Stats()
}

func (n *Node) openObserve(ctx context.Context) error {
	o := n.Config.Observe
	if o.Ladder > 0 {
		n.Ladder = ladder.New(ladder.Config{Node: n.Config.Node, Calls: o.Ladder, Bytes: max(o.Ladder*8<<10, 1<<20)})
	}
	if err := n.openSyslog(); err != nil {
		return err
	}
	if o.HEP != "" {
		dial, e, err := n.collector("hep", o.HEP, "tls", "udp")
		if err != nil {
			return err
		}
		if e.Scheme == "udp" {
			n.log.Warn("copies of signalling leave this node unsealed, without keys and credentials", "hep", o.HEP, "hint", "use tls:// if the capture server can")
		}
		n.watchers.legs = newLegs()
		n.watchers.hep = hep.New(hep.Config{Dial: dial, Datagrams: e.Scheme == "udp", Agent: o.HEPID, Correlate: n.watchers.legs.callOf, Log: n.log})
		n.closers = append(n.closers, n.watchers.hep.Close)
	}
	if o.Traces != "" {
		return n.openTraces(ctx)
	}
	return nil
}

// openSyslog sends every record to syslog too, from the level of the node's log on.
func (n *Node) openSyslog() error {
	if n.Config.Log.Syslog == "" {
		return nil
	}
	dial, e, err := n.collector("syslog", n.Config.Log.Syslog, "tls", "unix")
	if err != nil {
		return err
	}
	base := n.opts.Log
	n.watchers.syslog = syslog.New(syslog.Config{Dial: dial, Datagrams: e.Scheme == "unix", Host: n.Config.Node + "." + n.Config.Domain, App: "ringfence",
		PID: os.Getpid(), Level: levelOf{base}, Log: base})
	n.log = slog.New(slog.NewMultiHandler(base.Handler(), n.watchers.syslog))
	n.closers = append(n.closers, n.watchers.syslog.Close)
	return nil
}

// levelOf follows the level of a logger.
type levelOf struct{ log *slog.Logger }

// Level implements slog.Leveler.
func (l levelOf) Level() slog.Level {
	for _, level := range [...]slog.Level{slog.LevelDebug, slog.LevelInfo, slog.LevelWarn} {
		if l.log.Enabled(context.Background(), level) {
			return level
		}
	}
	return slog.LevelError
}

func (n *Node) openTraces(ctx context.Context) error {
	e, err := config.ParseEndpoint(n.Config.Observe.Traces, "https")
	if err != nil {
		return err
	}
	client := &http.Client{Transport: &http.Transport{DialTLSContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return n.dialTLS(ctx, "traces", e)
	}, MaxIdleConns: 1, IdleConnTimeout: time.Minute}, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	n.watchers.traces, err = trace.New(ctx, trace.Config{URL: n.Config.Observe.Traces, Client: client, Node: n.Config.Node, Version: n.opts.Version, Log: n.log})
	if err != nil {
		return err
	}
	n.closers = append(n.closers, func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		n.watchers.traces.Close(ctx)
		client.CloseIdleConnections()
	})
	return nil
}

// datagramOpener is an opener that can send datagrams. A network in memory has none.
type datagramOpener interface {
	DialUDP(ctx context.Context, flow string, addr netip.AddrPort) (net.Conn, error)
	DialUnixgram(ctx context.Context, flow, path string) (net.Conn, error)
}

// collector returns how to reach a collector by its declared flow.
func (n *Node) collector(flow, text string, schemes ...string) (func(context.Context) (io.WriteCloser, error), config.Endpoint, error) {
	e, err := config.ParseEndpoint(text, schemes...)
	if err != nil {
		return nil, e, err
	}
	if e.Scheme == "tls" {
		return func(ctx context.Context) (io.WriteCloser, error) { return n.dialTLS(ctx, flow, e) }, e, nil
	}
	o, ok := n.opener.(datagramOpener)
	if !ok {
		return nil, e, &ringfence.Fault{Op: "node.observe", Kind: ringfence.KindUnsupported, Text: "this network has no datagrams for " + text}
	}
	if e.Scheme == "unix" {
		return func(ctx context.Context) (io.WriteCloser, error) { return o.DialUnixgram(ctx, flow, e.Host) }, e, nil
	}
	return func(ctx context.Context) (io.WriteCloser, error) {
		addrs, err := resolve(ctx, e)
		if err != nil {
			return nil, err
		}
		return o.DialUDP(ctx, flow, addrs[0])
	}, e, nil
}

// resolve returns the addresses of an endpoint, at least one.
func resolve(ctx context.Context, e config.Endpoint) ([]netip.AddrPort, error) {
	if a, err := netip.ParseAddr(e.Host); err == nil {
		return []netip.AddrPort{netip.AddrPortFrom(a, e.Port)}, nil
	}
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", e.Host)
	if err != nil || len(addrs) == 0 {
		return nil, &ringfence.Fault{Op: "node.resolve", Kind: ringfence.KindUnavailable, Text: "the name " + e.Host + " has no address", Err: err}
	}
	out := make([]netip.AddrPort, len(addrs))
	for i, a := range addrs {
		out[i] = netip.AddrPortFrom(a.Unmap(), e.Port)
	}
	return out, nil
}

// dialTLS tries each address of an endpoint, and returns a connection whose peer has proved its name.
func (n *Node) dialTLS(ctx context.Context, flow string, e config.Endpoint) (net.Conn, error) {
	addrs, err := resolve(ctx, e)
	if err != nil {
		return nil, err
	}
	for _, a := range addrs {
		conf, bad := n.clientTLS(flow, a, e.Host, nil)
		if bad != nil {
			return nil, bad
		}
		var raw net.Conn
		if raw, err = n.opener.Dial(ctx, flow, a); err != nil {
			continue
		}
		c := tls.Client(raw, conf)
		if err = c.HandshakeContext(ctx); err == nil {
			return c, nil
		}
		_ = raw.Close()
	}
	hint := "if its certificate is signed by an authority of its own, name that in observe.authorities"
	if flow == "public-acme" {
		hint = "if its certificate is signed by an authority of its own: ringfence trust anchor add ALIAS FILE; ringfence tls set /interface/public-acme anchors ALIAS"
	}
	return nil, &ringfence.Fault{Op: "node.dial", Kind: ringfence.KindUnavailable, Text: "there is no sealed connection to " + e.String(), Hint: hint, Err: err}
}

// tracer returns who hears every SIP message, or nil if nobody does.
func (n *Node) tracer() func(c *transport.Conn, callID, msg []byte, sent bool) {
	if n.Ladder == nil && n.watchers.hep == nil {
		return nil
	}
	return func(c *transport.Conn, callID, msg []byte, sent bool) {
		wanted := n.Ladder != nil && n.Ladder.Wants(callID, msg)
		if !wanted && n.watchers.hep == nil {
			return // most messages of a busy node
		}
		now := time.Now()
		var local, remote netip.AddrPort
		seal := ""
		if c != nil {
			if !c.Dialled || c.State() == "Established" { // before, they may not be read
				local, remote = c.Local, c.Remote
				if c.TLS != nil {
					seal = c.TLS.Version
				}
			}
		}
		if wanted {
			n.Ladder.Record(ladder.Packet{At: now, Sent: sent, Remote: remote, Seal: seal, Data: msg})
		}
		if n.watchers.hep != nil {
			p := hep.Packet{At: now, Source: remote, Dest: local, Protocol: 6, Payload: msg}
			if sent {
				p.Source, p.Dest = local, remote
			}
			if c != nil && !c.Reliable() {
				p.Protocol = 17
			}
			n.watchers.hep.Send(p)
		}
	}
}

// traced sends a finished call as a trace.
func (n *Node) traced(e control.Ended) {
	c := trace.Call{ID: e.CDR.Call, Start: e.CDR.Start, Answer: e.CDR.Answer, End: e.CDR.End, From: e.CDR.From, To: e.CDR.To, Cause: e.CDR.Cause, Verdict: e.CDR.Verdict}
	for i, l := range e.Legs {
		c.Legs = append(c.Legs, trace.Leg{Side: l.Side, Start: l.Since, End: l.Until, Codec: l.Codec, Proof: e.CDR.Legs[i]})
	}
	n.watchers.traces.Call(c)
}

// legs knows which call a SIP Call-ID belongs to, until a moment after the call ended.
type legs struct {
	mu    sync.Mutex
	call  map[string]ringfence.CallID
	of    map[ringfence.CallID][]string
	ended []endedCall // oldest first
}

type endedCall struct {
	id ringfence.CallID
	at time.Time
}

func newLegs() *legs {
	return &legs{call: map[string]ringfence.CallID{}, of: map[ringfence.CallID][]string{}}
}

func (l *legs) add(sipID string, id ringfence.CallID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.call[sipID] = id
	l.of[id] = append(l.of[id], sipID)
}

// end forgets the calls that ended more than ten seconds ago.
func (l *legs) end(id ringfence.CallID, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended = append(l.ended, endedCall{id, now})
	for len(l.ended) > 0 && now.Sub(l.ended[0].at) > 10*time.Second {
		old := l.ended[0].id
		l.ended = l.ended[1:]
		for _, sipID := range l.of[old] {
			if l.call[sipID] == old {
				delete(l.call, sipID)
			}
		}
		delete(l.of, old)
	}
}

func (l *legs) callOf(sipID string) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(l.call[sipID])
}
