package transaction

// index tells where in the pages of past an entry is, by a key that nobody outside can choose: a hash with a seed of this process, or a
// random number. It is a hash table with open addressing and linear probing, at most five eighths full, so that a search misses the cache once
// where a map does three times, which counts when there are a million keys. Nothing is deleted: a slot that points to a page which is no
// more goes when its part is full, and the part is small enough to do that within the cache, and while a message waits.
type index struct {
	parts [256]part // by the upper bits of the key, but the first, which is always set in a client transaction
	slots int       // in all parts
	next  int       // part to trim
}

type part struct {
	slots []slot // a power of two of them, or none
	used  int
}

type slot struct {
	key  uint64
	page uint32
	end  uint32 // offset in the page + 1; 0 where there is nothing
}

const fewestSlots = 16

func (x *index) part(key uint64) *part { return &x.parts[uint8(key>>55)] }

// get returns what was put under key last. Its page may be no more.
func (x *index) get(key uint64) (page uint32, offset int, ok bool) {
	p := x.part(key)
	if p.used == 0 {
		return 0, 0, false
	}
	s := p.find(key)
	return s.page, int(s.end) - 1, s.end != 0
}

// put remembers where the entry for key is. Pages before oldest are no more.
func (x *index) put(key uint64, page uint32, offset int, oldest uint32) {
	p := x.part(key)
	if 8*p.used >= 5*len(p.slots) { // and 3 of 8 after that
		x.renew(p, oldest)
	}
	s := p.find(key)
	if s.end == 0 {
		p.used++
	}
	*s = slot{key, page, uint32(offset + 1)}
}

// find returns the slot of key, or the empty one where it belongs.
func (p *part) find(key uint64) *slot {
	mask := uint64(len(p.slots) - 1)
	for i := key & mask; ; i = (i + 1) & mask {
		if s := &p.slots[i]; s.key == key || s.end == 0 {
			return s
		}
	}
}

// renew gives p the slots that it needs for what points to pages that are there, with room for more.
func (x *index) renew(p *part, oldest uint32) {
	live := 0
	for i := range p.slots {
		if p.slots[i].since(oldest) {
			live++
		}
	}
	n := fewestSlots
	for 3*n < 8*live {
		n *= 2
	}
	old := p.slots
	x.slots += n - len(old)
	p.slots, p.used = make([]slot, n), live
	for i := range old {
		if old[i].since(oldest) {
			*p.find(old[i].key) = old[i]
		}
	}
}

// since reports whether s points to the page oldest or a later one; their numbers begin anew some day.
func (s *slot) since(oldest uint32) bool { return s.end != 0 && int32(s.page-oldest) >= 0 }

// trim makes a few parts smaller if all of them are much larger than it takes for live entries.
func (x *index) trim(live int, oldest uint32) {
	if live == 0 {
		*x = index{}
	}
	for range 4 {
		if x.slots < 16*live+len(x.parts)*fewestSlots {
			return
		}
		x.renew(&x.parts[x.next], oldest)
		x.next = (x.next + 1) % len(x.parts)
	}
}
