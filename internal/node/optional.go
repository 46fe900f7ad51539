package node

import (
	"context"
	"net/netip"
	"time"

	"ringfence"
)

// listenMore opens the SIP flows that are off by default.
func (n *Node) listenMore(ctx context.Context) (err error) {
	if at := n.Config.SIP.WSS; at.IsValid() {
		conf, err := n.serverTLS("sip-wss", at, "http/1.1")
		if err != nil {
			return err
		}
		if n.bound["sip-wss"], err = n.Transport.ListenWS(ctx, "sip-wss", at, conf, n.Config.SIP.Origins); err != nil {
			return err
		}
	}
	if at := n.Config.SIP.OAuth; at.IsValid() {
		conf, err := n.serverTLS("sip-oauth", at)
		if err != nil {
			return err
		}
		if n.bound["sip-oauth"], err = n.Transport.Listen(ctx, "sip-oauth", at, conf); err != nil {
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
	n.log.Warn("SIP in the clear is listened for, for devices with a named exception only", "addr", at, "exceptions", len(n.Exceptions.List()),
		"hint", "take sip.plain out of the configuration when the last exception is over")
	return nil
}

// Bound returns where a SIP flow that is off by default listens: "sip-wss", "sip-oauth", "sip-plain-udp" or "sip-plain-tcp". It is invalid if
// the flow is off.
func (n *Node) Bound(flow string) netip.AddrPort { return n.bound[flow] }

// asBound puts into a flow what is known only while the node runs: the port, and when the last exception ends.
func (n *Node) asBound(f *ringfence.Flow) {
	at, ok := n.bound[f.Name]
	if !ok {
		return
	}
	f.Ports = ringfence.PortRange{First: at.Port(), Last: at.Port()}
	if f.TLS != ringfence.TLSNone || f.Room != "sip/transport" {
		return
	}
	if latest := n.Exceptions.Latest(); !latest.IsZero() {
		f.Until = latest.UTC().Format(time.RFC3339)
	}
}
