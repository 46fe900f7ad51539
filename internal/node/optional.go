package node

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
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

// serve accepts connections of a class and has each served on a goroutine of its own, with TLS, until the node stops.
func (n *Node) serve(ctx context.Context, class string, at netip.AddrPort, one func(context.Context, *tls.Conn)) error {
	conf, err := n.serverTLS(class, at)
	if err != nil {
		return err
	}
	ln, err := n.opener.Listen(ctx, class, at)
	if err != nil {
		return err
	}
	n.bound[class] = ln.Addr().(*net.TCPAddr).AddrPort()
	run, stop := context.WithCancel(context.WithoutCancel(ctx))
	n.wg.Go(func() {
		for {
			c, err := ln.Accept()
			switch {
			case err == nil:
				n.wg.Go(func() { one(run, tls.Server(c, conf)) })
			case errors.Is(err, net.ErrClosed):
				return
			default:
				n.log.Warn("accept failed", "flow", class, "err", err)
				select {
				case <-run.Done():
					return
				case <-time.After(100 * time.Millisecond):
				}
			}
		}
	})
	n.closers = append(n.closers, func() {
		stop()
		_ = ln.Close()
	})
	return nil
}
