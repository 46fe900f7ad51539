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
	c.queue = nil
	c.mu.Unlock()
	if len(batch) == 0 {
		return false
	}
	var put []store.Binding
	var remove []store.BindingKey
	for _, ch := range batch {
		put = append(put, ch.put...)
		remove = append(remove, ch.remove...)
	}
	err := c.ledger.ApplyBindings(context.Background(), put, remove)
	for _, ch := range batch {
		ch.done(err)
	}
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
