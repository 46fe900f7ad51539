package node

import (
	"context"
	"crypto/tls"
	"net"
	"net/netip"

	"ringfence/internal/node/config"
	"ringfence/internal/state/store"
	"ringfence/internal/trust/tlspolicy"
)

// database is the way to a PostgreSQL server on the network.
type database struct{ n *Node }

var _ store.Network = database{}

// Resolve implements store.Network.
func (d database) Resolve(ctx context.Context, host string) ([]netip.Addr, error) {
	all, err := resolve(ctx, config.Endpoint{Host: host})
	if err != nil {
		return nil, err
	}
	out := make([]netip.Addr, len(all))
	for i, a := range all {
		out[i] = a.Addr()
	}
	return out, nil
}

// Dial implements store.Network.
func (d database) Dial(ctx context.Context, flow string, addr netip.AddrPort) (net.Conn, error) {
	return d.n.opener.Dial(ctx, flow, addr)
}

// Seal implements store.Network.
func (d database) Seal(base *tls.Config, addr netip.AddrPort) *tls.Config {
	return d.n.policy.Harden(tlspolicy.At("postgres", addr), base)
}
