package registrar

import (
	"context"
	"sync"

	"ringfence/internal/state/store"
)

// committer writes bindings in groups: while one transaction is under way, the next ones gather. Each is acknowledged after
// its transaction, so what a phone was told survives.
type committer struct {
	ledger Ledger
	wake   chan struct{}
	done   chan struct{}

	// Only the committing goroutine uses these, again and again.
	put    []store.Binding
	remove []store.BindingKey
	spare  []change

	mu     sync.Mutex
	queue  []change
	closed bool
}

type change struct {
	put    []store.Binding
	remove []store.BindingKey
	done   func(error)
}

func newCommitter(ledger Ledger) *committer {
	c := &committer{ledger: ledger, wake: make(chan struct{}, 1), done: make(chan struct{})}
	go c.run()
	return c
}

// add queues a change; done hears, on another goroutine, whether it is on disk.
func (c *committer) add(ch change) {
	c.mu.Lock()
	c.queue = append(c.queue, ch)
	c.mu.Unlock()
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

func (c *committer) run() {
	defer close(c.done)
	for range c.wake {
		for c.flush() {
		}
		c.mu.Lock()
		closed := c.closed
		c.mu.Unlock()
		if closed {
			return
		}
	}
}

func (c *committer) flush() bool {
	c.mu.Lock()
	batch := c.queue
	c.queue, c.spare = c.spare, nil
	c.mu.Unlock()
	if len(batch) == 0 {
		return false
	}
	for i := range batch {
		c.put = append(c.put, batch[i].put...)
		c.remove = append(c.remove, batch[i].remove...)
	}
	err := c.ledger.ApplyBindings(context.Background(), c.put, c.remove)
	clear(c.put)
	clear(c.remove)
	c.put, c.remove = c.put[:0], c.remove[:0]
	for i := range batch {
		batch[i].done(err)
	}
	clear(batch)
	c.spare = batch[:0]
	return true
}

func (c *committer) close() {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	select {
	case c.wake <- struct{}{}:
	default:
	}
	<-c.done
}
