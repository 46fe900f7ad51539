package store

import (
	"encoding/binary"
	"hash/crc32"
	"math"
	"time"

	"ringfence"
)

// A record of the journal is a head of eight bytes, the length of its body and the CRC-32C of it (little endian), and the body:
// one byte that says what it is, and then its fields. Texts are a length and their bytes, numbers are varints.
const (
	recordHead    = 8
	maxRecord     = 1 << 20 // a binding is far smaller; a larger length is damage
	recordPut     = 1
	recordRemove  = 2
	maxRecordList = 4096

	proofTLS = 1 // bits of what a proof has
	proofVia = 2
)

// castagnoli is the table of CRC-32C; hash/crc32 makes it once.
func castagnoli() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) }

// recordWriter appends records to b.
type recordWriter struct {
	b     []byte
	start int // of the record being written
	err   error
}

func (w *recordWriter) begin(kind byte) {
	w.start = len(w.b)
	w.b = append(w.b, make([]byte, recordHead)...)
	w.b = append(w.b, kind)
}

func (w *recordWriter) end() {
	body := w.b[w.start+recordHead:]
	if len(body) > maxRecord {
		w.b = w.b[:w.start]
		w.err = fault("store.journal", ringfence.KindInvalid, "a fact is too large to keep", "", nil)
		return
	}
	binary.LittleEndian.PutUint32(w.b[w.start:], uint32(len(body)))
	binary.LittleEndian.PutUint32(w.b[w.start+4:], crc32.Checksum(body, castagnoli()))
}

func (w *recordWriter) text(s string) {
	w.uint(uint64(len(s)))
	w.b = append(w.b, s...)
}

func (w *recordWriter) uint(n uint64) { w.b = binary.AppendUvarint(w.b, n) }

func (w *recordWriter) time(t time.Time) { w.b = binary.AppendVarint(w.b, micros(t)) }

func (w *recordWriter) list(l []string) {
	w.uint(uint64(len(l)))
	for _, s := range l {
		w.text(s)
	}
}

func (w *recordWriter) bool(b bool) { w.uint(uint64(btoi(b))) }

func (w *recordWriter) put(b *Binding) {
	w.begin(recordPut)
	for _, s := range [...]string{b.AOR, string(b.Device), b.Instance, b.Contact, b.FlowToken, b.CallID, b.GRUU, b.UserAgent} {
		w.text(s)
	}
	w.uint(uint64(max(b.RegID, 0)))
	w.uint(uint64(b.CSeq))
	w.time(b.Expires)
	w.time(b.Updated)
	w.list(b.Path)
	w.proof(&b.Proof)
	w.end()
}

func (w *recordWriter) proof(p *ringfence.Proof) {
	for _, s := range [...]string{p.ID, p.Peer, string(p.Verdict), p.Reason, string(p.Auth)} {
		w.text(s)
	}
	w.time(p.At)
	var has uint64 // what records had before there was a proxy in a proof was 0 or 1, too
	if p.TLS != nil {
		has |= proofTLS
	}
	if p.Via != "" {
		has |= proofVia
	}
	w.uint(has)
	if p.Via != "" {
		w.text(p.Via)
	}
	if t := p.TLS; t != nil {
		for _, s := range [...]string{t.Version, t.Suite, t.Group, t.PeerSubject, t.PeerIssuer, t.Anchor} {
			w.text(s)
		}
		w.list(t.PeerNames)
		w.bool(t.Resumed)
	}
	w.bool(p.Media != nil)
	if m := p.Media; m != nil {
		w.text(m.Suite)
		for _, n := range [...]uint64{uint64(m.DSCP), m.PacketsIn, m.PacketsOut, m.Lost, m.Rejected, m.Overrun, math.Float64bits(m.JitterMS), math.Float64bits(m.MOS)} {
			w.uint(n)
		}
	}
}

func (w *recordWriter) remove(k BindingKey) {
	w.begin(recordRemove)
	w.text(k.AOR)
	w.text(k.Key)
	w.end()
}

// recordReader reads the fields of one body. After damage it returns zero values and bad is true.
type recordReader struct {
	b   []byte
	bad bool
}

func (r *recordReader) uint() uint64 {
	n, size := binary.Uvarint(r.b)
	if size <= 0 {
		r.bad, r.b = true, nil
		return 0
	}
	r.b = r.b[size:]
	return n
}

func (r *recordReader) text() string {
	n := r.uint()
	if n > uint64(len(r.b)) {
		r.bad, r.b = true, nil
		return ""
	}
	s := string(r.b[:n])
	r.b = r.b[n:]
	return s
}

func (r *recordReader) time() time.Time {
	n, size := binary.Varint(r.b)
	if size <= 0 {
		r.bad, r.b = true, nil
		return time.Time{}
	}
	r.b = r.b[size:]
	return instant(n)
}

func (r *recordReader) list() []string {
	n := r.uint()
	if n > maxRecordList {
		r.bad, r.b = true, nil
	}
	var out []string
	for range n {
		if r.bad {
			return nil
		}
		out = append(out, r.text())
	}
	return out
}

func (r *recordReader) bool() bool {
	n := r.uint()
	r.bad = r.bad || n > 1
	return n == 1
}

// upTo reads a number that must not exceed limit.
func (r *recordReader) upTo(limit uint64) uint64 {
	n := r.uint()
	r.bad = r.bad || n > limit
	return n
}

func (r *recordReader) binding() (b Binding) {
	var device string
	for _, s := range [...]*string{&b.AOR, &device, &b.Instance, &b.Contact, &b.FlowToken, &b.CallID, &b.GRUU, &b.UserAgent} {
		*s = r.text()
	}
	b.Device = ringfence.DeviceID(device)
	b.RegID = int(r.upTo(math.MaxInt32))
	b.CSeq = uint32(r.upTo(math.MaxUint32))
	b.Expires, b.Updated = r.time(), r.time()
	b.Path = r.list()
	b.Proof = r.proof()
	return b
}

func (r *recordReader) proof() (p ringfence.Proof) {
	p.ID, p.Peer = r.text(), r.text()
	p.Verdict = ringfence.Verdict(r.text())
	p.Reason = r.text()
	p.Auth = ringfence.Auth(r.text())
	p.At = r.time()
	has := r.upTo(proofTLS | proofVia)
	if has&proofVia != 0 {
		p.Via = r.text()
	}
	if has&proofTLS != 0 {
		t := &ringfence.TLSProof{}
		for _, s := range [...]*string{&t.Version, &t.Suite, &t.Group, &t.PeerSubject, &t.PeerIssuer, &t.Anchor} {
			*s = r.text()
		}
		t.PeerNames = r.list()
		t.Resumed = r.bool()
		p.TLS = t
	}
	if r.bool() {
		m := &ringfence.MediaProof{Suite: r.text(), DSCP: uint8(r.upTo(math.MaxUint8))}
		for _, n := range [...]*uint64{&m.PacketsIn, &m.PacketsOut, &m.Lost, &m.Rejected, &m.Overrun} {
			*n = r.uint()
		}
		m.JitterMS, m.MOS = math.Float64frombits(r.uint()), math.Float64frombits(r.uint())
		p.Media = m
	}
	return p
}

// latest is what a journal comes to: for each key the binding it was last given, or nil if it was last removed.
type latest map[BindingKey]*Binding

// replay reads the records at the beginning of b.
func (l latest) replay(b []byte) (whole int) { return replay(b, l.apply) }

// replay hands the bodies of the records at the beginning of b to apply, in order, and returns how many bytes of b are whole records.
// What follows them was torn by a crash, or is damaged, and cannot be told apart from noise.
func replay(b []byte, apply func(body []byte) bool) (whole int) {
	for {
		body, n := nextRecord(b[whole:])
		if n == 0 || !apply(body) {
			return whole
		}
		whole += n
	}
}

// nextRecord checks the record at the beginning of b and returns its body and its whole length, 0 if it is not whole.
func nextRecord(b []byte) (body []byte, n int) {
	if len(b) < recordHead {
		return nil, 0
	}
	size := binary.LittleEndian.Uint32(b)
	if size == 0 || size > maxRecord || uint64(size) > uint64(len(b)-recordHead) {
		return nil, 0
	}
	body = b[recordHead : recordHead+int(size)]
	if crc32.Checksum(body, castagnoli()) != binary.LittleEndian.Uint32(b[4:]) {
		return nil, 0
	}
	return body, recordHead + int(size)
}

// apply takes one body over; it reports false, without a change, if the body is malformed.
func (l latest) apply(body []byte) bool {
	r := recordReader{b: body[1:]}
	switch body[0] {
	case recordPut:
		b := r.binding()
		if r.bad || len(r.b) > 0 || b.AOR == "" || b.Contact == "" {
			return false
		}
		l[b.Key()] = &b
	case recordRemove:
		k := BindingKey{AOR: r.text(), Key: r.text()}
		if r.bad || len(r.b) > 0 {
			return false
		}
		l[k] = nil
	default:
		return false
	}
	return true
}
