package sip

import (
	"bytes"
	"iter"
)

type span struct{ start, end uint16 }

type field struct {
	id    HeaderID
	name  span
	value span
}

// Message is a parsed request or response: one buffer and offsets into it. Slices that its accessors return point into
// that buffer, so they live as long as it does. Reuse a Message with [Message.Parse] or [Message.Reset]; it is not safe
// for concurrent use while it is being parsed.
type Message struct {
	raw        []byte
	fields     []field
	body       span
	uri        span
	methodText span
	reason     span
	status     uint16
	method     Method
	request    bool
	valid      bool              // Validate has found nothing wrong, and kept what it read
	kept       kept              //
	again      uint64            // bit id is set if more than one field has this id
	first      [numHeaders]uint8 // 1 + index in fields of the first field with this id
}

const _ = uint(64 - numHeaders) // the ids fit in Message.again

// kept is what [Message.Validate] has read and the layers above ask for again. It holds offsets, which are as good in a clone.
type kept struct {
	transport, host, params, branch span // of the first Via
	port                            uint16
	top                             bool // the first Via is here: not if white space had to be taken out of it
	method                          Method
	seq                             uint32
	fromTag, toTag                  span
}

// Reset empties m and keeps its memory.
func (m *Message) Reset() {
	fields := m.fields[:0]
	*m = Message{fields: fields}
}

// Clone returns a copy with a buffer of its own.
func (m *Message) Clone() *Message {
	var c struct {
		Message
		few [20]field // enough for most, and no memory of their own for them
	}
	c.Message = *m
	c.raw = bytes.Clone(m.raw)
	c.fields = append(c.few[:0], m.fields...)
	return &c.Message
}

func (m *Message) text(s span) []byte { return m.raw[s.start:s.end:s.end] }

// part is text for what may not be there; nothing but the start line begins at 0.
func (m *Message) part(s span) []byte {
	if s.end == 0 {
		return nil
	}
	return m.text(s)
}

// spanIn returns where part, which was cut out of the text of whole, is: what is left of the text behind its beginning is its capacity. ok is
// false if it is a copy.
func (m *Message) spanIn(whole span, part []byte) (s span, ok bool) {
	if part == nil {
		return span{}, true
	}
	start := int(whole.end) - cap(part)
	if start < int(whole.start) || len(part) > 0 && &part[0] != &m.raw[start] {
		return span{}, false
	}
	return span{uint16(start), uint16(start + len(part))}, true
}

// Bytes returns the whole message as it was received, without anything after its body.
func (m *Message) Bytes() []byte { return m.raw }

// IsRequest reports whether m is a request; otherwise it is a response.
func (m *Message) IsRequest() bool { return m.request }

// Method returns the request's method. For a response, use [Message.CSeq].
func (m *Message) Method() Method { return m.method }

// MethodText returns the request's method as received.
func (m *Message) MethodText() []byte { return m.text(m.methodText) }

// RequestURI returns the Request-URI as received; parse it with [ParseURI].
func (m *Message) RequestURI() []byte { return m.text(m.uri) }

// Status returns the response's status code, 100 to 699, or 0 for a request.
func (m *Message) Status() int { return int(m.status) }

// Reason returns the response's reason phrase.
func (m *Message) Reason() []byte { return m.text(m.reason) }

// Body returns the message body; it may be empty.
func (m *Message) Body() []byte { return m.text(m.body) }

// Get returns the value of the first field with this id, without surrounding white space, or nil if there is none.
func (m *Message) Get(id HeaderID) []byte {
	if i := m.first[id]; i > 0 {
		return m.text(m.fields[i-1].value)
	}
	return nil
}

// Has reports whether a field with this id is present.
func (m *Message) Has(id HeaderID) bool { return m.first[id] > 0 }

// All yields the values of all fields with this id in order, one a field; use [Values] to split comma-separated lists.
func (m *Message) All(id HeaderID) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		if m.first[id] == 0 {
			return
		}
		for i := int(m.first[id]) - 1; i < len(m.fields); i++ {
			if m.fields[i].id == id && (!yield(m.text(m.fields[i].value)) || m.again>>id&1 == 0) {
				return
			}
		}
	}
}

// Fields yields every field in order: its id, name and value.
func (m *Message) Fields() iter.Seq2[HeaderID, [2][]byte] {
	return func(yield func(HeaderID, [2][]byte) bool) {
		for _, f := range m.fields {
			if !yield(f.id, [2][]byte{m.text(f.name), m.text(f.value)}) {
				return
			}
		}
	}
}

// GetName returns the value of the first field with this name in any case, or nil. Known names are found by id.
func (m *Message) GetName(name string) []byte {
	if id := LookupHeader([]byte(name)); id != HeaderOther {
		return m.Get(id)
	}
	for _, f := range m.fields {
		if f.id == HeaderOther && EqualFold(m.text(f.name), name) {
			return m.text(f.value)
		}
	}
	return nil
}

// CallID returns the Call-ID.
func (m *Message) CallID() []byte { return m.Get(HeaderCallID) }

// CSeq returns the sequence number and method of CSeq. ok is false if the field is missing or malformed
// (RFC 3261 section 20.16; the number is below 2^31).
func (m *Message) CSeq() (seq uint32, method Method, ok bool) {
	if m.valid {
		return m.kept.seq, m.kept.method, true
	}
	return m.readCSeq()
}

func (m *Message) readCSeq() (seq uint32, method Method, ok bool) {
	v := m.Get(HeaderCSeq)
	i := 0
	for i < len(v) && !isBlank(v[i]) {
		i++
	}
	if i == len(v) {
		return 0, 0, false
	}
	n, ok := parseUint(v[:i], 1<<31-1)
	name := trim(v[i:])
	if !ok || !isToken(name) {
		return 0, 0, false
	}
	return uint32(n), LookupMethod(name), true
}

// From returns the parsed From field.
func (m *Message) From() (NameAddr, error) { return ParseNameAddr(m.Get(HeaderFrom)) }

// To returns the parsed To field.
func (m *Message) To() (NameAddr, error) { return ParseNameAddr(m.Get(HeaderTo)) }

// FromTag returns the tag of From, or nil.
func (m *Message) FromTag() []byte {
	if m.valid {
		return m.part(m.kept.fromTag)
	}
	return tagOf(m.Get(HeaderFrom))
}

// ToTag returns the tag of To, or nil.
func (m *Message) ToTag() []byte {
	if m.valid {
		return m.part(m.kept.toTag)
	}
	return tagOf(m.Get(HeaderTo))
}

func tagOf(v []byte) []byte {
	a, err := ParseNameAddr(v)
	if err != nil {
		return nil
	}
	tag, _ := a.Params.Get("tag")
	return tag
}

// Contact returns the first Contact. For the "*" form use Get(HeaderContact).
func (m *Message) Contact() (a NameAddr, err error) {
	v, _ := nextValue(m.Get(HeaderContact))
	if v == nil {
		return a, bad(0, "Missing Contact")
	}
	err = a.parse(v)
	return a, err
}

// TopVia returns the first Via.
func (m *Message) TopVia() (Via, error) {
	if m.valid && m.kept.top {
		k := &m.kept
		return Via{Transport: m.text(k.transport), Host: m.text(k.host), Port: k.port, Params: m.part(k.params), branch: m.part(k.branch)}, nil
	}
	for line := range m.All(HeaderVia) {
		for v := range Values(line) {
			return ParseVia(v)
		}
	}
	return Via{}, bad(0, "Missing Via")
}

// Uint returns the value of a numeric field such as Expires or Max-Forwards, ignoring parameters after ";" or a comment.
// ok is false if it is missing, malformed or above limit.
func (m *Message) Uint(id HeaderID, limit uint64) (n uint64, ok bool) {
	v := m.Get(id)
	for i, c := range v {
		if c == ';' || c == '(' || isBlank(c) {
			v = v[:i]
			break
		}
	}
	return parseUint(v, limit)
}

// HasOption reports whether an option tag is listed in Supported, Require, Proxy-Require, Unsupported or Allow-like lists.
func (m *Message) HasOption(id HeaderID, tag string) bool {
	if !m.Has(id) {
		return false
	}
	for line := range m.All(id) {
		for v, rest := nextValue(line); v != nil; v, rest = nextValue(rest) {
			if EqualFold(v, tag) {
				return true
			}
		}
	}
	return false
}
