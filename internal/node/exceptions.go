package node

import (
	"cmp"
	"context"
	"crypto/tls"
	"net/netip"
	"slices"
	"time"

	"ringfence"
	"ringfence/internal/call/roster"
	"ringfence/internal/trust/ca"
)

// exceptionsEvery is how often the end of exceptions is looked for.
const exceptionsEvery = 5 * time.Second

// listenMore opens the SIP flows that are off by default.
func (n *Node) listenMore(ctx context.Context) (err error) {
	if at := n.Config.SIP.WSS; at.IsValid() {
		conf, err := ca.ServerConfig(ca.TLSOptions{Identity: n.identity, Roots: n.Authority.Roots(), ClientAuth: tls.VerifyClientCertIfGiven, NextProtos: []string{"http/1.1"}, Check: n.checkPeer})
		if err != nil {
			return err
		}
		if n.bound["sip-wss"], err = n.Transport.ListenWS(ctx, "sip-wss", at, conf, n.Config.SIP.Origins); err != nil {
			return err
		}
	}
	at := n.Config.SIP.Plain
	if !at.IsValid() {
		return nil
	}
	if n.bound["sip-plain-udp"], err = n.Transport.ListenUDP(ctx, "sip-plain-udp", at); err != nil {
		return err
	}
	if n.bound["sip-plain-tcp"], err = n.Transport.Listen(ctx, "sip-plain-tcp", at, nil); err != nil {
		return err
	}
	n.log.Warn("SIP in the clear is listened for, for devices with a named exception only", "addr", at, "exceptions", len(n.Exceptions()),
		"hint", "take sip.plain out of the configuration when the last exception is over")
	return nil
}

// Bound returns where a SIP flow that is off by default listens: "sip-wss", "sip-plain-udp" or "sip-plain-tcp". It is invalid if
// the flow is off.
func (n *Node) Bound(flow string) netip.AddrPort { return n.bound[flow] }

// asBound puts into a flow what is known only while the node runs: the port, and when the last exception ends.
func (n *Node) asBound(f *ringfence.Flow) {
	at, ok := n.bound[f.Name]
	if !ok {
		return
	}
	f.Ports = ringfence.PortRange{First: at.Port(), Last: at.Port()}
	if f.TLS != ringfence.TLSNone {
		return
	}
	var latest time.Time
	for _, e := range n.Roster.Exceptions(time.Now()) {
		if e.Until.After(latest) {
			latest = e.Until
		}
	}
	if !latest.IsZero() {
		f.Until = latest.UTC().Format(time.RFC3339)
	}
}

// Exception is a named exception in force, and what uses it now.
type Exception struct {
	roster.Exception
	Bindings int // registrations made in the clear
	Calls    int // calls with plain SIP or RTP
}

// Exceptions lists the named exceptions in force, by device.
func (n *Node) Exceptions() []Exception {
	var out []Exception
	for _, e := range n.Roster.Exceptions(time.Now()) {
		x := Exception{Exception: e, Calls: n.Calls.InTheClear(e.Device)}
		for _, c := range n.Registrar.All() {
			if c.Device == e.Device && c.Proof.Verdict == ringfence.Exception {
				x.Bindings++
			}
		}
		out = append(out, x)
	}
	slices.SortFunc(out, func(a, b Exception) int { return cmp.Compare(a.Device, b.Device) })
	return out
}

// endExceptions ends what is in the clear without an exception in force: calls, registrations and connections. It goes by what
// is there and not by a list of what was, so that nothing outlives an exception that was ended early, or during a restart.
func (n *Node) endExceptions(ctx context.Context) {
	calls := n.Calls.EndExceptions()
	devices, err := n.Registrar.EndExceptions(ctx)
	if err != nil {
		n.log.Error("registrations whose exception is over could not be removed from the store", "err", err, "hint", ringfence.HintOf(err))
	}
	conns := 0
	for _, c := range n.Transport.Conns() {
		who, ok := n.Registrar.Known(c)
		if !ok || c.Secure() || c.Dialled {
			continue
		}
		if _, excepted := n.Roster.Exception(who.Device, time.Now()); !excepted {
			conns++
			c.Close(&ringfence.Fault{Op: "node.exceptions", Kind: ringfence.KindInsecure, Text: "the exception of device " + string(who.Device) + " is over"})
		}
	}
	n.ended.Add(uint64(calls + len(devices) + conns))
	if calls+len(devices)+conns > 0 {
		n.log.Warn("an exception is over", "devices", devices, "registrations", len(devices), "calls", calls, "connections", conns,
			"hint", "move the phone to TLS, or renew the exception: ringfence device exception ID --until 48h --reason WHY")
	}
}

// EndedByException returns how many calls, registrations and connections were ended because an exception was over.
func (n *Node) EndedByException() uint64 { return n.ended.Load() }
