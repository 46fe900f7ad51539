package node

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"ringfence"
	"ringfence/internal/call/control"
	"ringfence/internal/node/admin/api"
	"ringfence/internal/state/bus"
	"ringfence/internal/state/store"
	"ringfence/internal/trust/trustlist"
)

// Revoke ends everything a device has, at once: its certificates, its registration, its connections and its calls. What it may
// never do again is on disk before this returns.
func (n *Node) Revoke(ctx context.Context, id ringfence.DeviceID, reason string) error {
	d, err := n.Store.Device(ctx, id)
	if err != nil {
		return err
	}
	d.State = store.DeviceRevoked
	if err := n.Store.UpdateDevice(ctx, d); err != nil {
		return err
	}
	_, err = n.Cut(ctx, id, reason)
	return err
}

// Cut ends everything of a device that the store already says may not be used: from here on nothing new begins, and what is
// there ends. It goes on after an error, since what can be ended should be, and returns the first one.
func (n *Node) Cut(ctx context.Context, id ringfence.DeviceID, reason string) (e api.Ended, err error) {
	e, err = n.cut(ctx, id, reason)
	n.publish(bus.Event{Kind: bus.DeviceRevoked, Device: id, Cause: reason})
	return e, err
}

// cut is Cut for a device of which other nodes know already.
func (n *Node) cut(ctx context.Context, id ringfence.DeviceID, reason string) (e api.Ended, err error) {
	keep := func(failed error) {
		if err == nil {
			err = failed
		}
	}
	keep(n.Roster.Reload(ctx))
	n.Registrar.Forget(id)
	certs, failed := n.Store.CertificatesOf(ctx, id)
	keep(failed)
	defer func() { e.Connections += n.web.cut(n.Authority.IsRevoked) }()
	for _, c := range certs {
		if !c.RevokedAt.IsZero() || !c.NotAfter.After(time.Now()) {
			continue
		}
		failed := n.Authority.Revoke(ctx, c.Serial, reason)
		if failed != nil && ringfence.KindOf(failed) == ringfence.KindConflict { // somebody else was faster
			continue
		}
		keep(failed)
		e.Certificates++
		n.publish(bus.Event{Kind: bus.CertificateRevoked, Device: id, Serial: c.Serial, Cause: reason})
	}
	// Calls first: the goodbye still finds its way over the connections.
	for _, call := range n.Calls.List() {
		if slices.ContainsFunc(call.Legs, func(l control.LegView) bool { return l.Peer == "device "+string(id) && l.State != "ended" }) {
			e.Calls++
		}
	}
	n.Calls.EndDevice(id, "the device was revoked or removed")
	cause := &ringfence.Fault{Op: "node.cut", Kind: ringfence.KindDenied, Text: "device " + string(id) + " was revoked or removed"}
	for _, c := range n.Transport.Conns() {
		if who, ok := n.Registrar.Known(c); ok && who.Device == id {
			c.Close(cause)
			e.Connections++
		}
	}
	_, failed = n.Registrar.Drop(ctx, id, cause)
	keep(failed)
	return e, err
}

// RevokeSerial implements admin.Host.
func (n *Node) RevokeSerial(ctx context.Context, serial, reason string) (e api.Ended, err error) {
	if reason == "" {
		reason = "privilege withdrawn"
	}
	serial = strings.TrimLeft(strings.ToLower(serial), "0")
	if err := n.Authority.Revoke(ctx, serial, reason); err != nil {
		return e, err
	}
	e.Certificates = 1
	n.publish(bus.Event{Kind: bus.CertificateRevoked, Serial: serial, Cause: reason})
	e.Connections = n.cutSerials(func(s string) bool { return s == serial })
	return e, n.replaceRevoked(ctx)
}

// replaceRevoked gives this node other certificates for those of its own that were revoked: phones that ask would not believe them any more.
func (n *Node) replaceRevoked(ctx context.Context) error {
	var err error
	if n.Authority.IsRevoked(n.identity.Leaf().SerialNumber.Text(16)) {
		err = n.RenewIdentity(ctx)
	}
	if n.Lists != nil && slices.ContainsFunc(n.Lists.Entries(), func(e trustlist.Entry) bool { return n.Authority.IsRevoked(e.Cert.SerialNumber.Text(16)) }) {
		err = errors.Join(err, n.maintainLists(ctx))
	}
	return err
}

// cutSerials closes the connections that were made with certificates which do not hold any more.
func (n *Node) cutSerials(gone func(serial string) bool) (closed int) {
	for _, c := range n.Transport.Conns() {
		if c.State() == "Established" && c.Peer.Serial != "" && gone(c.Peer.Serial) {
			c.Close(&ringfence.Fault{Op: "node.cut", Kind: ringfence.KindDenied, Text: "the certificate of " + c.Peer.Role + " " + c.Peer.Name + " was revoked"})
			closed++
		}
	}
	if n.CTI != nil {
		closed += n.CTI.Cut(gone)
	}
	return closed + n.web.cut(gone)
}
