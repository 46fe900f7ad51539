package sip

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"hash"
	"io"
	"sync"
	"time"
)

// NonceState is what a server thinks of the nonce in a request.
type NonceState uint8

// The states. Only NonceGood lets a request pass; the others are answered with a new challenge.
const (
	NonceForged NonceState = iota // not made by this server, or made before it started
	NonceStale                    // too old, or used too long ago to remember: challenge again with stale=true
	NonceReplay                   // this nonce count was used before: challenge again with stale=true
	NonceGood
)

// Nonces makes and checks server nonces (RFC 7616 section 3.3) without keeping any until it is used: a nonce holds its
// time and number under a keyed hash. The counts of nonces in use are kept in a table of fixed size; when it overflows,
// the nonces that were pushed out become stale, so that no count is ever accepted twice. It is safe for concurrent use.
type Nonces struct {
	mu       sync.Mutex
	now      func() time.Time
	random   io.Reader
	life     time.Duration
	current  hash.Hash // keyed
	previous hash.Hash // the key before; nil if none
	rotated  time.Time
	next     uint64 // number of the next nonce
	used     []nonceBucket
	sum      [sha256.Size]byte // scratch
	head     [16]byte          // scratch

	// The nonce that was found good last, for Use, which comes after Check.
	good       [nonceText]byte
	goodIssued int64
	goodNumber uint64
}

// nonceBucket remembers a few nonces. forgot is the newest issue time that it pushed out.
type nonceBucket struct {
	forgot int64
	slot   [4]nonceUse
}

// nonceUse is a window over the counts seen with one nonce: bit i of seen stands for count top-i.
type nonceUse struct {
	number uint64
	issued int64 // Unix nanoseconds; 0 for a free slot
	seen   uint64
	top    uint32
}

const (
	nonceBuckets = 4096 // 16,384 nonces in 640 KiB
	nonceBytes   = 8 + 8 + 16
	nonceText    = (nonceBytes*8 + 5) / 6
)

// NewNonces returns a source of nonces that are good for life after they were made (at least a second). It changes its
// key as often, and accepts the key before. random is read for keys; use crypto/rand.Reader.
func NewNonces(now func() time.Time, random io.Reader, life time.Duration) (*Nonces, error) {
	n := &Nonces{now: now, random: random, life: max(life, time.Second), used: make([]nonceBucket, nonceBuckets)}
	var start [8]byte
	if _, err := io.ReadFull(random, start[:]); err != nil {
		return nil, err
	}
	n.next = binary.BigEndian.Uint64(start[:])
	return n, n.rotate(now())
}

// rotate makes a new key. On failure the old ones stay.
func (n *Nonces) rotate(now time.Time) error {
	n.goodIssued = 0 // the key that it was made with may be forgotten now
	var key [32]byte
	if _, err := io.ReadFull(n.random, key[:]); err != nil {
		return err
	}
	n.previous, n.current, n.rotated = n.current, hmac.New(sha256.New, key[:]), now
	clear(key[:])
	return nil
}

// New returns a fresh nonce.
func (n *Nonces) New() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	now := n.now()
	if now.Sub(n.rotated) >= n.life {
		_ = n.rotate(now) // without randomness the old key serves on
	}
	var raw [nonceBytes]byte
	binary.BigEndian.PutUint64(raw[:8], uint64(now.UnixNano()))
	binary.BigEndian.PutUint64(raw[8:16], n.next)
	n.next++
	copy(raw[16:], n.mac(n.current, raw[:16]))
	return base64.RawURLEncoding.EncodeToString(raw[:])
}

// mac returns the keyed hash of head, in scratch memory.
func (n *Nonces) mac(h hash.Hash, head []byte) []byte {
	h.Reset()
	copy(n.head[:], head)
	h.Write(n.head[:])
	return h.Sum(n.sum[:0])[:16]
}

// Check reports whether a nonce was made here and has not expired. Call it before the work of [Credentials.Verify].
func (n *Nonces) Check(nonce []byte) NonceState {
	n.mu.Lock()
	defer n.mu.Unlock()
	state, _, _ := n.check(nonce)
	return state
}

func (n *Nonces) check(nonce []byte) (state NonceState, issued int64, number uint64) {
	var raw [nonceBytes + 1]byte
	if len(nonce) != nonceText {
		return NonceForged, 0, 0
	}
	if n.goodIssued != 0 && string(nonce) == string(n.good[:]) {
		return n.aged(n.goodIssued), n.goodIssued, n.goodNumber
	}
	if size, err := base64.RawURLEncoding.Strict().Decode(raw[:], nonce); err != nil || size != nonceBytes {
		return NonceForged, 0, 0
	}
	good := hmac.Equal(n.mac(n.current, raw[:16]), raw[16:nonceBytes])
	if !good && n.previous != nil {
		good = hmac.Equal(n.mac(n.previous, raw[:16]), raw[16:nonceBytes])
	}
	if !good {
		return NonceForged, 0, 0
	}
	issued, number = int64(binary.BigEndian.Uint64(raw[:8])), binary.BigEndian.Uint64(raw[8:16])
	copy(n.good[:], nonce)
	n.goodIssued, n.goodNumber = issued, number
	return n.aged(issued), issued, number
}

func (n *Nonces) aged(issued int64) NonceState {
	age := n.now().UnixNano() - issued
	if age < 0 || age > int64(n.life) {
		return NonceStale
	}
	return NonceGood
}

// Use counts a use of the nonce. Call it once for a request whose credentials were right: NonceGood lets it pass, and the
// same count never passes twice. Counts may arrive out of order within the last 64.
func (n *Nonces) Use(nonce []byte, count uint32) NonceState {
	n.mu.Lock()
	defer n.mu.Unlock()
	state, issued, number := n.check(nonce)
	if state != NonceGood {
		return state
	}
	if count == 0 {
		return NonceReplay
	}
	b := &n.used[number%nonceBuckets]
	oldest := 0
	for i := range b.slot {
		s := &b.slot[i]
		if s.issued == issued && s.number == number {
			return s.use(count)
		}
		if s.issued < b.slot[oldest].issued {
			oldest = i
		}
	}
	if issued <= b.forgot {
		return NonceStale // perhaps one of those that were pushed out
	}
	s := &b.slot[oldest]
	if s.issued > issued {
		return NonceStale // the table is full of newer ones
	}
	b.forgot = max(b.forgot, s.issued)
	*s = nonceUse{number: number, issued: issued, seen: 1, top: count}
	return NonceGood
}

func (s *nonceUse) use(count uint32) NonceState {
	if count > s.top {
		s.seen = s.seen<<min(count-s.top, 64) | 1
		s.top = count
		return NonceGood
	}
	back := s.top - count
	if back >= 64 || s.seen>>back&1 == 1 {
		return NonceReplay
	}
	s.seen |= 1 << back
	return NonceGood
}
