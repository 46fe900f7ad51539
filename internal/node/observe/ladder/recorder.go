package ladder

import (
	"bytes"
	"hash/maphash"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"ringfence"
	"ringfence/internal/node/observe/redact"
)

// Config bounds what is remembered. Zero values take the defaults beside them.
type Config struct {
	Node  string        // name of this node's column
	Calls int           // calls: 500
	Keep  time.Duration // how long a call is kept after its last message: 1 h
	Bytes int           // text of all messages: 4 MiB
	Rate  int           // calls a second that are begun to be remembered, so that load costs little: 50
}

// The bounds of what one party can make us keep.
const (
	maxPending  = 256       // dialogs that belong to no call yet
	maxWaiting  = 256 << 10 // their bytes: strangers can make us keep so much, and it pushes out no call
	maxMessages = 400       // of one call
	maxCallText = 128 << 10
	maxText     = 8 << 10 // of one message
)

// Packet is one SIP message as it went by.
type Packet struct {
	At     time.Time
	Sent   bool // by this node
	Remote netip.AddrPort
	Seal   string // how it was protected, e.g. "TLS 1.3"; "" if it was not
	Data   []byte // not kept, and not changed
}

// Recorder remembers calls. Its methods may be called from any goroutine; none of them waits for anything but another of them.
type Recorder struct {
	cfg  Config
	seed maphash.Seed
	full atomic.Int64 // the second, since 1970, in which no more calls are begun

	// How many of tracks have a Call-ID with this hash: 0 tells of nearly every message of a busy node that it is not looked for, without a lock.
	marks [1 << 14]atomic.Int32

	mu      sync.Mutex
	tracks  map[string]*track // by SIP Call-ID
	pending []*track          // that belong to no call yet, oldest first
	calls   map[ringfence.CallID]*call
	order   []*call // oldest first
	bytes   int     // of calls
	waiting int     // bytes of pending
	second  int64   // for Rate
	begun   int     // in that second
	stats   Stats
}

// Stats counts since start, but for Calls and Bytes, which are now.
type Stats struct {
	Calls   int    `json:"calls"`
	Bytes   int    `json:"bytes"`   // what all messages take
	Skipped uint64 `json:"skipped"` // calls that were not remembered because too many began in one second
	Omitted uint64 `json:"omitted"` // messages of calls that had too many
}

type call struct {
	id       ringfence.CallID
	tracks   []*track
	last     time.Time
	messages int
	bytes    int
	omitted  int
}

// track is what was said in one SIP dialog.
type track struct {
	sipID   string
	call    *call
	leg     ringfence.LegID
	name    string
	entries []entry
}

type entry struct {
	at     time.Time
	sent   bool
	remote netip.AddrPort
	seal   string
	text   []byte
}

// New returns a recorder that remembers nothing yet.
func New(cfg Config) *Recorder {
	or := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	or(&cfg.Calls, 500)
	or(&cfg.Bytes, 4<<20)
	or(&cfg.Rate, 50)
	if cfg.Keep == 0 {
		cfg.Keep = time.Hour
	}
	return &Recorder{cfg: cfg, seed: maphash.MakeSeed(), tracks: map[string]*track{}, calls: map[ringfence.CallID]*call{}}
}

// Wants reports whether Record would look at a message: whether it belongs to a call that is remembered, or may begin one. sipID is
// its Call-ID, or nil if that is not at hand.
func (r *Recorder) Wants(sipID, msg []byte) bool {
	if len(sipID) == 0 {
		sipID = callID(msg)
	}
	return r.knows(sipID) || bytes.HasPrefix(msg, []byte("INVITE ")) && time.Now().Unix() != r.full.Load()
}

func (r *Recorder) knows(sipID []byte) bool {
	if r.marks[maphash.Bytes(r.seed, sipID)%uint64(len(r.marks))].Load() == 0 {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.tracks[string(sipID)] != nil
}

// mark counts t as one more of tracks, or one less. It is called with mu held.
func (r *Recorder) mark(t *track, n int32) {
	r.marks[maphash.String(r.seed, t.sipID)%uint64(len(r.marks))].Add(n)
}

// unlist takes t out of tracks. It is called with mu held.
func (r *Recorder) unlist(t *track) {
	if r.tracks[t.sipID] == t {
		delete(r.tracks, t.sipID)
		r.mark(t, -1)
	}
}

// Record hears a message of any kind and keeps it if it belongs to a call, or may begin one.
func (r *Recorder) Record(p Packet) {
	id := callID(p.Data)
	if len(id) == 0 || len(id) > 256 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	t := r.tracks[string(id)]
	if t == nil {
		if p.At.Unix() == r.second && r.begun >= r.cfg.Rate {
			return // Begin would skip the call
		}
		if !begins(p.Data) {
			return
		}
		t = &track{sipID: string(id)}
		r.tracks[t.sipID] = t
		r.mark(t, 1)
		r.pending = append(r.pending, t)
	}
	c := t.call
	if len(t.entries) >= maxMessages || c != nil && (c.messages >= maxMessages || c.bytes >= maxCallText) || c == nil && len(t.entries) >= 8 {
		if c != nil {
			c.omitted++
		}
		r.stats.Omitted++
		return
	}
	e := entry{at: p.At, sent: p.Sent, remote: p.Remote, seal: p.Seal, text: digest(p.Data)}
	t.entries = append(t.entries, e)
	if c == nil {
		r.waiting += e.size()
		for len(r.pending) > maxPending || r.waiting > maxWaiting {
			r.forget(r.pending[0])
			r.pending = r.pending[1:]
		}
	} else {
		r.bytes += e.size()
		c.messages++
		c.bytes += e.size()
		c.last = p.At
	}
	r.evict()
}

// Begin says that a call began. Without it a call is not remembered.
func (r *Recorder) Begin(id ringfence.CallID, at time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s := at.Unix(); s != r.second {
		r.second, r.begun = s, 0
	}
	if r.begun++; r.begun >= r.cfg.Rate {
		r.full.Store(r.second)
	}
	if r.begun > r.cfg.Rate {
		r.stats.Skipped++
		return
	}
	if r.calls[id] != nil {
		return
	}
	c := &call{id: id, last: at}
	r.calls[id] = c
	r.order = append(r.order, c)
	r.evict()
}

// Link says that the dialog with a SIP Call-ID is a leg of a call, and who is at its other end. A leg that moves to another call
// is linked again.
func (r *Recorder) Link(id ringfence.CallID, leg ringfence.LegID, sipCallID, name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	t := r.tracks[sipCallID]
	if t == nil {
		return
	}
	size := t.size()
	if old := t.call; old == nil {
		i := slices.Index(r.pending, t)
		r.pending = slices.Delete(r.pending, i, i+1)
		r.waiting -= size
	} else {
		r.bytes -= size
		i := slices.Index(old.tracks, t)
		old.tracks = slices.Delete(old.tracks, i, i+1)
		old.messages -= len(t.entries)
		old.bytes -= size
	}
	t.leg, t.name, t.call = leg, name, r.calls[id]
	if t.call == nil {
		r.unlist(t)
		return
	}
	r.bytes += size
	t.call.tracks = append(t.call.tracks, t)
	t.call.messages += len(t.entries)
	t.call.bytes += size
	r.evict()
}

func (t *track) size() (n int) {
	for _, e := range t.entries {
		n += e.size()
	}
	return n
}

// size is what an entry takes, in bytes, with its frame.
func (e *entry) size() int { return len(e.text) + 128 }

// forget is called with mu held.
func (r *Recorder) forget(t *track) {
	r.unlist(t)
	if t.call == nil {
		r.waiting -= t.size()
	} else {
		r.bytes -= t.size()
	}
}

// evict forgets the oldest calls until number and memory are within bounds. It is called with mu held.
func (r *Recorder) evict() {
	for len(r.order) > 0 {
		oldest := r.order[0]
		if len(r.order) <= r.cfg.Calls && r.bytes <= r.cfg.Bytes {
			return
		}
		r.order[0] = nil
		r.order = r.order[1:]
		r.drop(oldest)
	}
}

// drop is called with mu held, and takes the call out of everything but order.
func (r *Recorder) drop(c *call) {
	delete(r.calls, c.id)
	for _, t := range c.tracks {
		r.forget(t)
	}
}

// Expire forgets calls whose time is over; call it now and then.
func (r *Recorder) Expire(now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	keep := r.order[:0]
	for _, c := range r.order {
		if now.Sub(c.last) <= r.cfg.Keep {
			keep = append(keep, c)
		} else {
			r.drop(c)
		}
	}
	clear(r.order[len(keep):])
	r.order = keep
}

// CallOf returns the call that a SIP Call-ID belongs to, or "".
func (r *Recorder) CallOf(sipCallID string) ringfence.CallID {
	r.mu.Lock()
	defer r.mu.Unlock()
	if t := r.tracks[sipCallID]; t != nil && t.call != nil {
		return t.call.id
	}
	return ""
}

// Stats returns the counters.
func (r *Recorder) Stats() Stats {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.stats
	s.Calls, s.Bytes = len(r.order), r.bytes
	return s
}

// begins reports whether msg is an INVITE outside any dialog.
func begins(msg []byte) bool {
	if !bytes.HasPrefix(msg, []byte("INVITE ")) {
		return false
	}
	return !bytes.Contains(bytes.ToLower(field(msg, "To", 't')), []byte(";tag="))
}

// head returns the start line and header fields of a message, and its body.
func head(msg []byte) (fields, body []byte) {
	if i := bytes.Index(msg, []byte("\r\n\r\n")); i >= 0 {
		return msg[:i+2], msg[i+4:]
	}
	return msg, nil
}

// field returns the value of the first field with this name or compact form (lower case, 0: none), or nil. It does not need the
// rest of the message to be well-formed.
func field(msg []byte, name string, compact byte) []byte {
	fields, _ := head(msg)
	for line := range bytes.Lines(fields) {
		if n, v, ok := split(line); ok && (len(n) == len(name) && bytes.EqualFold(n, []byte(name)) || len(n) == 1 && n[0]|0x20 == compact) {
			return v
		}
	}
	return nil
}

// callID is field for the one that every message is looked up by, quick where it is spelled as most do.
func callID(msg []byte) []byte {
	const spelled = "\r\nCall-ID: "
	if i := bytes.Index(msg, []byte(spelled)); i >= 0 && !bytes.Contains(msg[:i], []byte("\r\n\r\n")) {
		rest := msg[i+len(spelled):]
		if end := bytes.IndexByte(rest, '\r'); end > 0 {
			return bytes.TrimSpace(rest[:end])
		}
	}
	return field(msg, "Call-ID", 'i')
}

func split(line []byte) (name, value []byte, ok bool) {
	name, value, ok = bytes.Cut(line, []byte(":"))
	return bytes.TrimRight(name, " \t"), bytes.TrimSpace(value), ok
}

// kept reports whether a field tells something about the course of a call.
func kept(name []byte) bool {
	if len(name) == 1 {
		switch name[0] | 0x20 {
		case 'f', 't', 'm', 'r', 'b', 'x', 'o', 'c':
			return true
		}
		return false
	}
	switch string(bytes.ToLower(name)) {
	case "from", "to", "cseq", "contact", "reason", "warning", "retry-after", "require", "replaces", "refer-to", "referred-by", "diversion",
		"session-expires", "rseq", "rack", "event", "subscription-state", "user-agent", "server", "content-type":
		return true
	}
	return false
}

// digest returns what is kept of a message: its start line, its telling fields and its session description, masked.
func digest(msg []byte) []byte {
	fields, body := head(msg)
	out := make([]byte, 0, min(len(msg), 1024))
	first, folded := true, false
	for line := range bytes.Lines(fields) {
		if line[0] == ' ' || line[0] == '\t' {
			if folded {
				out = append(out, line...)
			}
			continue
		}
		name, _, ok := split(line)
		folded = first || ok && kept(name)
		if folded {
			out = append(out, line...)
		}
		first = false
	}
	if bytes.HasPrefix(bytes.ToLower(field(msg, "Content-Type", 'c')), []byte("application/sdp")) {
		out = append(append(out, "\r\n"...), body...)
	}
	out = bytes.Clone(out[:min(len(out), maxText)])
	redact.Mask(out)
	return out
}
