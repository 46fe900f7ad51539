package transaction

import (
	"bytes"
	"encoding/binary"
	"slices"
	"time"
)

// past is what must still be known of transactions that are over, where messages are lost and repeated: the response to send again
// (Timer J), that an INVITE was answered (Timers L and M, RFC 6026), that a response was heard (Timer K). Half a minute of calls is
// much, so it holds no pointers that the collector would have to follow: what was written last is at the end of the last page, and
// pages go as a whole when what is in them has been there long enough.
type past struct {
	index index
	pages []page // oldest first
	first uint32 // number of pages[0]
	count int    // entries in pages
	timer Timer
	keep  time.Duration
	gone  func(n int) // hears how many were forgotten
}

func newPast(keep time.Duration, gone func(n int)) past {
	return past{keep: keep, gone: gone}
}

// page holds entries one behind the other: kind, lengths, branch, text.
type page struct {
	text  []byte
	count int
	since time.Duration // when its first entry came, on the clock of the shard
}

const (
	pageSize = 64 << 10
	pageMin  = 1 << 10     // where there is little to remember, a page begins so small
	pageSpan = time.Second // for how long a page takes entries: so much longer than needed the first of them stays
	pageHead = 1 + 2 + 4
)

// memory is what past knows of a transaction.
type memory struct {
	kind   pastKind
	branch []byte
	text   []byte
}

type pastKind uint8

const (
	pastAnswer  pastKind = iota // a final response to a request other than INVITE, which is in text
	pastInvited                 // a 2xx to an INVITE; text is the tag that it had in To
	pastCall                    // a call that we made is over; a further 2xx opens another
	pastHeard                   // a request of ours other than INVITE was answered
)

// add remembers e under key for as long as p keeps things, and up to pageSpan longer.
func (p *past) add(s *Shard, key uint64, e memory) {
	now := s.Clock()
	n, size := len(p.pages), pageHead+len(e.branch)+len(e.text)
	if n == 0 || now-p.pages[n-1].since > pageSpan || len(p.pages[n-1].text)+size > pageSize {
		first := pageMin
		if n > 0 && cap(p.pages[n-1].text) >= pageSize { // as busy as a moment ago
			first = pageSize
		}
		p.pages = append(p.pages, page{text: make([]byte, 0, max(first, size)), since: now})
		n++
	}
	if !p.timer.Active() {
		s.After(&p.timer, p.keep+pageSpan, func() { p.forget(s) })
	}
	g := &p.pages[n-1]
	if len(g.text)+size > cap(g.text) {
		g.text = append(make([]byte, 0, min(2*(len(g.text)+size), pageSize)), g.text...)
	}
	p.index.put(key, p.first+uint32(n-1), len(g.text), p.first)
	g.text = append(g.text, byte(e.kind))
	g.text = binary.BigEndian.AppendUint16(g.text, uint16(len(e.branch)))
	g.text = binary.BigEndian.AppendUint32(g.text, uint32(len(e.text)))
	g.text = append(g.text, e.branch...)
	g.text = append(g.text, e.text...)
	g.count++
	p.count++
}

// find returns what is known under key, if the branch is the same. It is valid until the next call of add.
func (p *past) find(key uint64, branch []byte) (memory, bool) {
	page, offset, ok := p.index.get(key)
	if i := page - p.first; ok && i < uint32(len(p.pages)) {
		e := read(p.pages[i].text[offset:])
		return e, bytes.Equal(e.branch, branch)
	}
	return memory{}, false
}

// read returns the entry that b begins with.
func read(b []byte) memory {
	branch, text := int(binary.BigEndian.Uint16(b[1:])), int(binary.BigEndian.Uint32(b[3:]))
	b, kind := b[pageHead:], pastKind(b[0])
	return memory{kind: kind, branch: b[:branch], text: b[branch:][:text]}
}

// forget lets go of the pages that have been there for long enough, and asks to be called again.
func (p *past) forget(s *Shard) {
	n := 0
	for ; n < len(p.pages) && s.Clock()-p.pages[n].since >= p.keep+pageSpan; n++ {
		p.count -= p.pages[n].count
		p.gone(p.pages[n].count)
	}
	p.pages = slices.Delete(p.pages, 0, n)
	p.first += uint32(n)
	p.index.trim(p.count, p.first)
	if len(p.pages) == 0 {
		return
	}
	s.After(&p.timer, p.pages[0].since+p.keep+pageSpan-s.Clock(), func() { p.forget(s) })
}
