package acme

import (
	"encoding/base64"
	"fmt"
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

// TestQuota counts, waits and forgets.
func TestQuota(t *testing.T) {
	now := time.Unix(1e9, 0)
	q := newQuota(2, time.Minute, func() time.Time { return now })
	if q.take("a") != 0 || q.take("a") != 0 || q.take("b") != 0 {
		t.Error("what is allowed is refused")
	}
	now = now.Add(20 * time.Second)
	if wait := q.take("a"); wait != 40*time.Second {
		t.Errorf("wait %v", wait)
	}
	now = now.Add(-time.Hour) // a clock that was set back locks nobody out
	if q.take("a") != 0 {
		t.Error("refused after the clock went back")
	}
	for i := range 2 * maxCounted {
		q.take(fmt.Sprint(i))
	}
	if len(q.counts) > maxCounted+1 {
		t.Errorf("%d keys are counted", len(q.counts))
	}
	if q.take("new") == 0 {
		t.Error("who comes when all is full has a count of its own")
	}
	now = now.Add(time.Minute)
	if q.take("new") != 0 || len(q.counts) > 3 {
		t.Errorf("%d keys are counted a minute later", len(q.counts))
	}
	for remote, want := range map[string]string{"192.0.2.1:1": "192.0.2.1", "[2001:db8::1]:1": "2001:db8::/64", "[::ffff:192.0.2.1]:1": "192.0.2.1", "x": "?"} {
		if got := sourceOf(remote); got != want {
			t.Errorf("%s: %s", remote, got)
		}
	}
}
