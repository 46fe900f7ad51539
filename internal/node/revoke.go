package node

import (
	"context"
	"time"

	"ringfence"
	"ringfence/internal/state/store"
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
	if err := n.Roster.Reload(ctx); err != nil {
		return err
	}
	n.Registrar.Forget(id)
	certs, err := n.Store.CertificatesOf(ctx, id)
	if err != nil {
		return err
	}
	for _, c := range certs {
		if c.RevokedAt.IsZero() && c.NotAfter.After(time.Now()) {
			if err := n.Authority.Revoke(ctx, c.Serial, reason); err != nil {
				return err
			}
		}
	}
	cause := &ringfence.Fault{Op: "node.revoke", Kind: ringfence.KindDenied, Text: "device " + string(id) + " was revoked"}
	n.Calls.EndDevice(id, "the device was revoked")
	if _, err := n.Registrar.Drop(ctx, id, cause); err != nil {
		return err
	}
	for _, c := range n.Transport.Conns() {
		if who, ok := n.Registrar.Known(c); ok && who.Device == id {
			c.Close(cause)
		}
	}
	return nil
}
