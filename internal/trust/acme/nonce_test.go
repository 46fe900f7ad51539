package acme

import (
	"encoding/base64"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func rawURL(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// TestNoncesAreGoodOnce spends nonces twice, at once, too late and of another server.
func TestNoncesAreGoodOnce(t *testing.T) {
	now := time.Unix(1e9, 0)
	n := newNonces(func() time.Time { return now })
	a := n.fresh()
	var good atomic.Int32
	var wait sync.WaitGroup
	for range 16 {
		wait.Go(func() {
			if n.spend(a) {
				good.Add(1)
			}
		})
	}
	wait.Wait()
	if good.Load() != 1 {
		t.Errorf("a nonce was good %d times", good.Load())
	}
	b := n.fresh()
	now = now.Add(nonceLife)
	if n.spend(b) {
		t.Error("a nonce was good after an hour")
	}
	if newNonces(func() time.Time { return now }).spend(n.fresh()) {
		t.Error("a nonce of another server was good")
	}
	forged := []byte(n.fresh())
	forged[3] ^= 1
	if n.spend(string(forged)) || n.spend("") || n.spend("AAAA") {
		t.Error("a nonce that was changed was good")
	}
}

// TestNoncesAreBounded uses more nonces than fit: the memory stays bounded, and none of the forgotten ones is good again.
func TestNoncesAreBounded(t *testing.T) {
	now := time.Unix(1e9, 0)
	n := newNonces(func() time.Time { now = now.Add(time.Millisecond); return now })
	var used []string
	for range maxSpent + maxSpent/4 {
		x := n.fresh()
		if !n.spend(x) {
			t.Fatal("a fresh nonce is no good")
		}
		used = append(used, x)
	}
	if len(n.spent) > maxSpent || len(n.queue) != len(n.spent) {
		t.Errorf("%d nonces are remembered", len(n.spent))
	}
	for _, i := range []int{0, 1, maxSpent / 2, maxSpent - 1, len(used) - 1} {
		if n.spend(used[i]) {
			t.Errorf("nonce %d is good again", i)
		}
	}
}
