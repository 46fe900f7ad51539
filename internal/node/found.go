package node

import (
	"context"

	"ringfence"
	"ringfence/internal/trust/ca"
)

// Found makes the data directory and the authority of a node that was never started, and has something done with the authority. Nothing listens.
func Found(ctx context.Context, opts Options, do func(*ca.Authority) error) (err error) {
	if err := opts.Config.Validate(); err != nil {
		return err
	}
	if err := inMode(opts.Config); err != nil {
		return err
	}
	n := &Node{Config: opts.Config, opts: opts, log: opts.Log, stop: func() {}}
	defer func() { n.Close() }()
	if err := n.openState(ctx); err != nil {
		return err
	}
	if _, err := n.Store.Secret(ctx, ca.VaultName); ringfence.KindOf(err) != ringfence.KindNotFound || err == nil {
		if err != nil {
			return err
		}
		return &ringfence.Fault{Op: "node.found", Kind: ringfence.KindConflict, Text: "there is an authority already", Hint: "see `ringfence trust status`; `ringfence trust ca offline` and `ringfence trust ca request` change one that is there"}
	}
	if n.Authority, err = ca.Open(ctx, ca.Config{Name: n.Config.Name, Vault: n.Store, Ledger: n.Store}); err != nil {
		return err
	}
	return do(n.Authority)
}
