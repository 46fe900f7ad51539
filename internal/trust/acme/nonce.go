package acme

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"sync"
	"time"
)

const (
	nonceLife = time.Hour
	// maxSpent bounds the memory for nonces that were used. A nonce costs a good signature, so a stranger cannot fill it quickly.
	maxSpent = 1 << 16
	nonceLen = 8 + 16 + 16 // when, which, MAC
)

// nonces makes nonces that need no memory until they are used: they say when they were made and carry a MAC of ours. Of the used ones
// the node remembers the latest maxSpent; an older one than any that was forgotten is no good, so that none is taken twice.
type nonces struct {
	key []byte
	now func() time.Time

	mu    sync.Mutex
	spent map[string]bool
	queue []string // of spent, in the order of use
	floor int64    // nonces made at or before are no good, in Unix nanoseconds
}

func newNonces(now func() time.Time) *nonces {
	n := &nonces{key: make([]byte, 32), now: now, spent: map[string]bool{}}
	rand.Read(n.key)
	return n
}

// fresh returns a nonce (RFC 8555 section 6.5.1): base64url.
func (n *nonces) fresh() string {
	b := binary.BigEndian.AppendUint64(make([]byte, 0, nonceLen), uint64(n.now().UnixNano()))
	b = b[:24]
	rand.Read(b[8:])
	return base64.RawURLEncoding.EncodeToString(append(b, n.mac(b)...))
}

func (n *nonces) mac(b []byte) []byte {
	m := hmac.New(sha256.New, n.key)
	m.Write(b)
	return m.Sum(nil)[:16]
}

// spend reports whether a nonce is one of ours, in its time and unused, and uses it.
func (n *nonces) spend(text string) bool {
	b, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || len(b) != nonceLen || !hmac.Equal(b[24:], n.mac(b[:24])) {
		return false
	}
	made, now := int64(binary.BigEndian.Uint64(b)), n.now()
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.spent[text] || made <= n.floor || now.Sub(time.Unix(0, made)) >= nonceLife {
		return false
	}
	if len(n.queue) >= maxSpent {
		half := len(n.queue) / 2
		for _, old := range n.queue[:half] {
			delete(n.spent, old)
			n.floor = max(n.floor, madeAt(old))
		}
		n.queue = append(n.queue[:0:0], n.queue[half:]...)
		if made <= n.floor {
			return false
		}
	}
	n.spent[text] = true
	n.queue = append(n.queue, text)
	return true
}

// madeAt reads when a nonce that was good once was made.
func madeAt(text string) int64 {
	b, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil || len(b) < 8 {
		return 0
	}
	return int64(binary.BigEndian.Uint64(b))
}
