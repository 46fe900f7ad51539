package transaction

// index tells where in the pages of past an entry is, by a key that nobody outside can choose: a hash with a seed of this process, or a
// random number. It is a hash table with open addressing and linear probing. With a million keys every look at a slot misses the caches, so
// a byte of each key stands apart from the slots: who looks for what is not there, as nearly everybody does, sees that from the bytes alone,
// which are few enough for a cache, and who adds a key only writes to its slot. Nothing is deleted: a slot that points to a page which is no
// more goes when its part is full, and the part is small enough to do that while a message waits.
type index struct {
	parts [256]part // by the upper bits of the key, but the first, which is always set in a client transaction
	slots int       // in all parts
	next  int       // part to trim
}

type part struct {
	tags  []uint8 // of what is in each slot; 0 where there is nothing
	slots []slot  // a power of two of them, or none
	used  int
}

type slot struct {
	key          uint64
	page, offset uint32
}

const fewestSlots = 16

func (x *index) part(key uint64) *part { return &x.parts[uint8(key>>55)] }

func tagOf(key uint64) uint8 { return max(uint8(key>>40), 1) }

// get returns what was put under key last. Its page may be no more.
func (x *index) get(key uint64) (page uint32, offset int, ok bool) {
	p := x.part(key)
	if p.used == 0 {
		return 0, 0, false
	}
	i, ok := p.find(key)
	if !ok {
		return 0, 0, false
	}
	s := &p.slots[i]
	return s.page, int(s.offset), true
}

// put remembers where the entry for key is. Pages before oldest are no more.
func (x *index) put(key uint64, page uint32, offset int, oldest uint32) {
	p := x.part(key)
	if 4*p.used >= 3*len(p.slots) {
		x.renew(p, oldest)
	}
	i, ok := p.find(key)
	if !ok {
		p.tags[i] = tagOf(key)
		p.used++
	}
	p.slots[i] = slot{key, page, uint32(offset)}
}

// find returns where key is, or else the empty place where it belongs.
func (p *part) find(key uint64) (i uint64, ok bool) {
	mask, tag := uint64(len(p.tags)-1), tagOf(key)
	for i = key & mask; ; i = (i + 1) & mask {
		switch p.tags[i] {
		case 0:
			return i, false
		case tag:
			if p.slots[i].key == key {
				return i, true
			}
		}
	}
}

// renew gives p the slots that it needs for what points to pages that are there, and at least as many more.
func (x *index) renew(p *part, oldest uint32) {
	old := *p
	live := 0
	for i := range old.slots {
		if old.since(i, oldest) {
			live++
		}
	}
	n := fewestSlots
	for n < 2*live {
		n *= 2
	}
	x.slots += n - len(old.slots)
	*p = part{tags: make([]uint8, n), slots: make([]slot, n), used: live}
	for i := range old.slots {
		if old.since(i, oldest) {
			s := old.slots[i]
			at, _ := p.find(s.key)
			p.tags[at], p.slots[at] = old.tags[i], s
		}
	}
}

// since reports whether slot i points to the page oldest or a later one; their numbers begin anew some day.
func (p *part) since(i int, oldest uint32) bool {
	return p.tags[i] != 0 && int32(p.slots[i].page-oldest) >= 0
}

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
