package node

import (
	"context"
	"time"

	"ringfence"
	"ringfence/internal/state/store"
)

const (
	// maxBatch is how many call records one transaction writes.
	maxBatch = 256
	// gatherFor is how long a record waits for others to be written with.
	gatherFor = 20 * time.Millisecond
	// aliveEvery is how often a node with calls notes that it is alive: how wrong the end of a call can be whose node was killed.
	aliveEvery = 10 * time.Second
	// retryEvery is when records that the disk did not take are tried again, and maxLate how many of them wait.
	retryEvery = 2 * time.Second
	maxLate    = 20_000
	// killed is the cause of calls whose end nobody saw.
	killed = "the node stopped unexpectedly"
)

// note is something to be kept about a call: that it was answered, or its record.
type note struct {
	cdr   store.CDR
	ended bool
}

// answered hears of each call that was answered, on the shard.
func (n *Node) answered(cdr store.CDR) {
	if len(n.notes) > cap(n.notes)/2 {
		return // the disk is slow; what is left of the queue is for records
	}
	n.keep(note{cdr: cdr})
}

// record hears of each call that has ended, on the shard.
func (n *Node) record(cdr store.CDR) { n.keep(note{cdr, true}) }

func (n *Node) keep(x note) {
	select {
	case n.notes <- x:
	default:
		n.log.Error("a call record was lost: the disk is too slow", "call", x.cdr.Call)
	}
}

// recoverRecords gives the calls that were up when this node was killed their records, before it takes new ones.
func (n *Node) recoverRecords(ctx context.Context) error {
	calls, err := n.Store.EndOpenCalls(ctx, n.id(), killed)
	if err != nil {
		return err
	}
	if len(calls) > 0 {
		n.log.Warn("calls ended because the node stopped unexpectedly; their records are kept", "calls", len(calls))
	}
	return nil
}

func (n *Node) id() ringfence.NodeID { return ringfence.NodeID(n.Config.Node) }

// keepRecords writes what is to be kept about calls, apart from the calls so that a slow disk delays none, and several in one
// transaction. What gathers during one transaction is the next batch.
func (n *Node) keepRecords(ctx context.Context) {
	background := context.WithoutCancel(ctx)
	beat := time.NewTicker(aliveEvery)
	defer beat.Stop()
	retry := time.NewTicker(retryEvery)
	defer retry.Stop()
	for {
		select {
		case <-retry.C:
			n.writeLate(background)
		case x := <-n.notes:
			moment := time.NewTimer(gatherFor) // a transaction costs much more than a row, so some company is worth waiting for
			select {
			case <-moment.C:
			case <-ctx.Done():
			}
			moment.Stop()
			n.write(background, n.gather(x))
		case <-beat.C:
			if err := n.Store.Alive(background, n.id(), time.Now()); err != nil {
				n.log.Warn("the node's sign of life could not be kept", "err", err)
			}
		case <-ctx.Done():
			for {
				select {
				case x := <-n.notes:
					n.write(background, n.gather(x))
				default:
					n.writeLate(background)
					for _, cdr := range n.late {
						n.log.Error("a call record is lost: the node stops before the disk takes it", "call", cdr.Call)
					}
					return
				}
			}
		}
	}
}

// writeLate tries records again that the disk did not take, up to a batch.
func (n *Node) writeLate(ctx context.Context) {
	for len(n.late) > 0 {
		some := n.late[:min(len(n.late), maxBatch)]
		err := n.Store.KeepCalls(ctx, n.id(), time.Now(), nil, some)
		if kind := ringfence.KindOf(err); err != nil && (kind == ringfence.KindOverload || kind == ringfence.KindUnavailable) {
			return // wait has said so, and the next attempt comes soon
		}
		n.late = n.late[len(some):]
		if err != nil { // one of them is bad: each alone
			for _, cdr := range some {
				n.write(ctx, []note{{cdr: cdr, ended: true}})
			}
		}
		if len(n.late) == 0 {
			n.late = nil
			n.log.Warn("the call records that had to wait are kept")
		}
	}
}

// wait puts records aside until the disk takes them, as many as there is room for.
func (n *Node) wait(ended []store.CDR, err error) {
	some := ended[:min(len(ended), max(maxLate-len(n.late), 0))]
	n.late = append(n.late, some...)
	n.log.Error("call records could not be kept; they wait until they can", "waiting", len(n.late), "err", err, "hint", ringfence.HintOf(err))
	for _, cdr := range ended[len(some):] {
		n.log.Error("a call record was lost: too many wait", "call", cdr.Call)
	}
}

// gather takes what waits behind first, up to a batch.
func (n *Node) gather(first note) []note {
	batch := []note{first}
	for len(batch) < maxBatch {
		select {
		case x := <-n.notes:
			batch = append(batch, x)
		default:
			return batch
		}
	}
	return batch
}

// write keeps a batch; if it fails, each of its notes alone, so that one bad record costs no other.
func (n *Node) write(ctx context.Context, batch []note) {
	over := map[ringfence.CallID]bool{}
	for _, x := range batch {
		over[x.cdr.Call] = over[x.cdr.Call] || x.ended
	}
	var answered, ended []store.CDR
	for _, x := range batch {
		switch {
		case x.ended:
			ended = append(ended, x.cdr)
		case !over[x.cdr.Call]: // the note of a call that ended in the same batch is not worth writing
			answered = append(answered, x.cdr)
		}
	}
	err := n.Store.KeepCalls(ctx, n.id(), time.Now(), answered, ended)
	switch {
	case err == nil:
	case ringfence.KindOf(err) == ringfence.KindOverload || ringfence.KindOf(err) == ringfence.KindUnavailable:
		if len(ended) > 0 {
			n.wait(ended, err)
		}
	case len(batch) > 1:
		for _, x := range batch {
			n.write(ctx, []note{x})
		}
	default:
		n.log.Error("a call record could not be kept", "call", batch[0].cdr.Call, "err", err, "hint", ringfence.HintOf(err))
	}
}
