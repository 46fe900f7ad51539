package wire

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"io"

	"ringfence"
)

// Channel is a control channel after both ends have shown that they know the key.
type Channel struct {
	Session   uint64
	Key       []byte // of the probes of this session
	rw        io.ReadWriter
	secret    []byte
	out, in   byte // which end is us, and which is the other
	sent, got uint64
}

const (
	nonceLen = 16
	maxFrame = 1 << 16
	// MinKey is the least length of a shared key, in bytes.
	MinKey = 16
)

// Request is what a prober asks of a reflector.
type Request struct {
	Op  string   `json:"op"` // "open", "counts", "sip", "presented", "poke"
	TCP []uint16 `json:"tcp,omitempty"`
	UDP []uint16 `json:"udp,omitempty"`
	Seq uint32   `json:"seq,omitempty"` // of the SIP message, or of the answer that is to come
	To  string   `json:"to,omitempty"`  // where that answer goes: an address from which a probe of this session came
}

// Reply is what a reflector says.
type Reply struct {
	Error     string            `json:"error,omitempty"`
	Unopened  map[string]string `json:"unopened,omitempty"` // "tcp/443" -> why not
	From      string            `json:"from,omitempty"`     // the address that the reflector sees
	Second    string            `json:"second,omitempty"`   // another address of the reflector
	Streamed  uint32            `json:"streamed,omitempty"` // probes of streams that came
	Strays    []string          `json:"strays,omitempty"`   // other addresses from which probes of this session came
	Message   []byte            `json:"message,omitempty"`  // the SIP message as it came
	Arrived   bool              `json:"arrived,omitempty"`
	MessageBy string            `json:"message_by,omitempty"` // from where it came
	SPKI      string            `json:"spki,omitempty"`       // SHA-256 of the key that the reflector presents by TLS, hex
	Issuer    string            `json:"issuer,omitempty"`
	ALPN      string            `json:"alpn,omitempty"`    // the protocol that the reflector takes within TLS, if it is offered (RFC 7301)
	Sockets   bool              `json:"sockets,omitempty"` // it answers web sockets within TLS
}

// Dial begins a channel as the prober. A reflector that does not know the key is not believed.
func Dial(rw io.ReadWriter, key []byte) (*Channel, error) {
	mine := make([]byte, nonceLen)
	if _, err := rand.Read(mine); err != nil {
		return nil, broken(err)
	}
	if _, err := rw.Write(append(append([]byte(Greeting), version), mine...)); err != nil {
		return nil, broken(err)
	}
	theirs := make([]byte, nonceLen+sha256.Size)
	if _, err := io.ReadFull(rw, theirs); err != nil {
		return nil, broken(err)
	}
	nonces := append(mine, theirs[:nonceLen]...)
	if !hmac.Equal(theirs[nonceLen:], proof(key, 's', nonces)) {
		return nil, &ringfence.Fault{Op: "wire.dial", Kind: ringfence.KindUnauthenticated, Text: "whoever answers there does not have the same key", Hint: "compare the key files of both ends, by sha256sum"}
	}
	if _, err := rw.Write(proof(key, 'p', nonces)); err != nil {
		return nil, broken(err)
	}
	return newChannel(rw, key, nonces, 'p', 's')
}

// Accept begins a channel as the reflector.
func Accept(rw io.ReadWriter, key []byte) (*Channel, error) {
	hello := make([]byte, len(Greeting)+1+nonceLen)
	if _, err := io.ReadFull(rw, hello); err != nil {
		return nil, broken(err)
	}
	if string(hello[:len(Greeting)]) != Greeting || hello[len(Greeting)] != version {
		return nil, invalid("this is no control channel of this version")
	}
	nonces := append([]byte(nil), hello[len(Greeting)+1:]...)
	mine := make([]byte, nonceLen)
	if _, err := rand.Read(mine); err != nil {
		return nil, broken(err)
	}
	nonces = append(nonces, mine...)
	if _, err := rw.Write(append(mine, proof(key, 's', nonces)...)); err != nil {
		return nil, broken(err)
	}
	theirs := make([]byte, sha256.Size)
	if _, err := io.ReadFull(rw, theirs); err != nil {
		return nil, broken(err)
	}
	if !hmac.Equal(theirs, proof(key, 'p', nonces)) {
		return nil, &ringfence.Fault{Op: "wire.accept", Kind: ringfence.KindUnauthenticated, Text: "a prober with another key"}
	}
	return newChannel(rw, key, nonces, 's', 'p')
}

// proof is what only somebody with the key can say about these two nonces.
func proof(key []byte, who byte, nonces []byte) []byte {
	m := hmac.New(sha256.New, key)
	m.Write(append([]byte("ringfence ready 1 "), who))
	m.Write(nonces)
	return m.Sum(nil)
}

func newChannel(rw io.ReadWriter, key, nonces []byte, out, in byte) (*Channel, error) {
	all, err := hkdf.Key(sha256.New, key, nonces, "ringfence ready 1 session", 8+32+32)
	if err != nil {
		return nil, broken(err)
	}
	return &Channel{Session: binary.BigEndian.Uint64(all), Key: all[8:40], rw: rw, secret: all[40:], out: out, in: in}, nil
}

func (c *Channel) code(who byte, n uint64, body []byte) []byte {
	m := hmac.New(sha256.New, c.secret)
	m.Write(binary.BigEndian.AppendUint64([]byte{who}, n))
	m.Write(body)
	return m.Sum(nil)
}

// Send writes a message. Its place in the order is part of its code.
func (c *Channel) Send(v any) error {
	body, err := json.Marshal(v)
	if err != nil || len(body) > maxFrame {
		return invalid("a message of the control channel is too long")
	}
	b := binary.BigEndian.AppendUint32(nil, uint32(len(body)))
	b = append(append(b, body...), c.code(c.out, c.sent, body)...)
	c.sent++
	if _, err := c.rw.Write(b); err != nil {
		return broken(err)
	}
	return nil
}

// Receive reads the next message into v.
func (c *Channel) Receive(v any) error {
	var head [4]byte
	if _, err := io.ReadFull(c.rw, head[:]); err != nil {
		return broken(err)
	}
	n := binary.BigEndian.Uint32(head[:])
	if n > maxFrame {
		return invalid("a message of the control channel is too long")
	}
	b := make([]byte, int(n)+sha256.Size)
	if _, err := io.ReadFull(c.rw, b); err != nil {
		return broken(err)
	}
	if !hmac.Equal(b[n:], c.code(c.in, c.got, b[:n])) {
		return &ringfence.Fault{Op: "wire.receive", Kind: ringfence.KindUnauthenticated, Text: "somebody changed the control channel on the way"}
	}
	c.got++
	if err := json.Unmarshal(b[:n], v); err != nil {
		return &ringfence.Fault{Op: "wire.receive", Kind: ringfence.KindInvalid, Text: "a message of the control channel cannot be read", Err: err}
	}
	return nil
}

func broken(err error) error {
	return &ringfence.Fault{Op: "wire", Kind: ringfence.KindUnavailable, Text: "the control channel broke", Err: err}
}
