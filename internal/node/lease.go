package node

import (
	"context"
	"crypto/rand"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"ringfence"
	"ringfence/internal/state/durable"
	"ringfence/internal/state/store"
)

// How a node of a shared database shows that it is there, and for how long it may be silent before its name is free. Silence of less than three beats is a database that
// is slow or goes over to its copy.
const (
	leaseBeat  = 10 * time.Second
	leaseStale = 40 * time.Second
)

// holder returns the identifier of the data directory, and makes it at the first start. It outlives the process, so that whoever starts here again is known to be the same node.
func (n *Node) holder() (string, error) {
	fail := func(text, hint string, err error) (string, error) {
		return "", &ringfence.Fault{Op: "node.lease", Kind: ringfence.KindUnavailable, Text: text, Hint: hint, Err: err}
	}
	file := filepath.Join(n.opts.Data, "node.id")
	b, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		id := rand.Text()
		// A crash or a loss of power leaves no file or a whole one, never half of an identifier.
		if err := durable.Replace(file, []byte(id+"\n")); err != nil {
			return fail("the data directory cannot be written", "let the service's user write "+n.opts.Data, err)
		}
		return id, nil
	}
	if err != nil {
		return fail(file+" cannot be read", "let the service's user read it", err)
	}
	id := regexp.MustCompile(`^([A-Z2-7]{26})\n?$`).FindSubmatch(b)
	if id == nil {
		return fail(file+" is damaged", "remove it while no node runs here; the next start makes a new one", nil)
	}
	return string(id[1]), nil
}

// takeLease makes sure that no other node of a shared database has this one's name.
func (n *Node) takeLease(ctx context.Context) error {
	if n.Config.Store.DSN == "" { // a database of its own
		return nil
	}
	holder, err := n.holder()
	if err != nil {
		return err
	}
	host, err := os.Hostname()
	if err != nil {
		host = "a host without a name"
	}
	reach := ""
	if at := n.Config.SIP.ReachedAt; at.IsValid() {
		reach = at.String()
	}
	l := store.Lease{Node: n.Config.Node, Holder: holder, Session: rand.Text(), Place: host + ", " + n.opts.Data, Reach: reach}
	if err := n.Store.TakeLease(ctx, l, leaseStale); err != nil {
		return err
	}
	n.lease = &l
	return nil
}

// dropLease gives the name back, so that another node can have it without waiting.
func (n *Node) dropLease() {
	if n.lease == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := n.Store.DropLease(ctx, *n.lease); err != nil {
		n.log.Warn("the node's name could not be given back; another node can have it in a while", "node", n.lease.Node, "after", leaseStale, "err", err)
	}
}

// keepLease shows the others that this node is there, until it stops or has lost its name.
func (n *Node) keepLease(ctx context.Context) {
	tick := time.NewTicker(leaseBeat)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		beat, cancel := context.WithTimeout(ctx, leaseBeat)
		err := n.Store.RenewLease(beat, *n.lease)
		cancel()
		switch {
		case err == nil || ctx.Err() != nil:
		case ringfence.KindOf(err) == ringfence.KindConflict:
			n.lost(err)
			return
		default: // calls go on without the database; whoever took the name meanwhile is noticed as soon as it answers
			n.log.Warn("the node cannot show the others that it is there", "err", err, "hint", ringfence.HintOf(err))
		}
	}
}

// lost stops serving: no new calls and connections. The process is to end.
func (n *Node) lost(err error) {
	n.log.Error("another node has this one's name; this one stops", "err", err, "hint", ringfence.HintOf(err))
	n.Calls.Drain()
	n.Transport.StopListening()
	n.failed <- err
}

// Failed yields why the node cannot go on, if that happens: it takes no new calls any more, and waits for Shutdown.
func (n *Node) Failed() <-chan error { return n.failed }
