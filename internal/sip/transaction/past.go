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
	index map[uint64]uint64 // key -> number of the page << 32 | offset
	pages []page            // oldest first
	first uint32            // number of pages[0]
	timer Timer
	keep  time.Duration
	gone  func(n int) // hears how many were forgotten
}

func newPast(keep time.Duration, gone func(n int)) past {
	return past{index: map[uint64]uint64{}, keep: keep, gone: gone}
}

// page holds entries one behind the other: key, kind, lengths, branch, text.
type page struct {
	text  []byte
	count int
	since time.Time // when its first entry came
}

const (
	pageSize = 64 << 10
	pageSpan = time.Second // for how long a page takes entries: so much longer than needed the first of them stays
	pageHead = 8 + 1 + 2 + 4
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
	now := s.clock()
	n := len(p.pages)
	if n == 0 || now.Sub(p.pages[n-1].since) > pageSpan || len(p.pages[n-1].text)+pageHead+len(e.branch)+len(e.text) > cap(p.pages[n-1].text) {
		p.pages = append(p.pages, page{text: make([]byte, 0, max(pageSize, pageHead+len(e.branch)+len(e.text))), since: now})
		n++
	}
	if !p.timer.Active() {
		s.After(&p.timer, p.keep+pageSpan, func() { p.forget(s) })
	}
	g := &p.pages[n-1]
	p.index[key] = uint64(p.first+uint32(n-1))<<32 | uint64(len(g.text))
	g.text = binary.BigEndian.AppendUint64(g.text, key)
	g.text = append(g.text, byte(e.kind))
	g.text = binary.BigEndian.AppendUint16(g.text, uint16(len(e.branch)))
	g.text = binary.BigEndian.AppendUint32(g.text, uint32(len(e.text)))
	g.text = append(g.text, e.branch...)
	g.text = append(g.text, e.text...)
	g.count++
}

// find returns what is known under key, if the branch is the same. It is valid until the next call of add.
func (p *past) find(key uint64, branch []byte) (memory, bool) {
	at, ok := p.index[key]
	if !ok {
		return memory{}, false
	}
	e, _ := read(p.pages[uint32(at>>32)-p.first].text[uint32(at):])
	return e, bytes.Equal(e.branch, branch)
}

// read returns the entry that b begins with, and its length.
func read(b []byte) (memory, int) {
	branch, text := int(binary.BigEndian.Uint16(b[9:])), int(binary.BigEndian.Uint32(b[11:]))
	n := pageHead + branch + text
	return memory{kind: pastKind(b[8]), branch: b[pageHead:][:branch], text: b[pageHead+branch : n]}, n
}

// forget lets go of the pages that have been there for long enough, and asks to be called again.
func (p *past) forget(s *Shard) {
	n := 0
	for ; n < len(p.pages) && s.clock().Sub(p.pages[n].since) >= p.keep+pageSpan; n++ {
		g := &p.pages[n]
		number := uint64(p.first+uint32(n)) << 32
		for at := 0; at < len(g.text); {
			key := binary.BigEndian.Uint64(g.text[at:])
			if p.index[key] == number|uint64(at) { // not written again since
				delete(p.index, key)
			}
			_, length := read(g.text[at:])
			at += length
		}
		p.gone(g.count)
	}
	p.pages = slices.Delete(p.pages, 0, n)
	p.first += uint32(n)
	if len(p.pages) == 0 {
		p.index = map[uint64]uint64{} // a map does not shrink
		return
	}
	s.After(&p.timer, p.pages[0].since.Add(p.keep+pageSpan).Sub(s.clock()), func() { p.forget(s) })
}
