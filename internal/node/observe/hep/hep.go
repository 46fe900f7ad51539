package hep

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"log/slog"
	"net/netip"
	"time"

	"ringfence/internal/node/observe/outbox"
	"ringfence/internal/node/observe/redact"
)

// The chunk types of vendor 0, the generic ones, that are written here ("The Extensible Encapsulation Protocol", rev. 12, section 3.2).
const (
	chunkFamily      = 0x0001 // uint8: 2 is IPv4, 10 is IPv6
	chunkProtocol    = 0x0002 // uint8: IP protocol number
	chunkSource4     = 0x0003
	chunkDest4       = 0x0004
	chunkSource6     = 0x0005
	chunkDest6       = 0x0006
	chunkSourcePort  = 0x0007 // uint16
	chunkDestPort    = 0x0008 // uint16
	chunkSeconds     = 0x0009 // uint32, Unix time
	chunkMicros      = 0x000a // uint32
	chunkKind        = 0x000b // uint8: 1 is SIP
	chunkAgent       = 0x000c // uint32: capture id
	chunkPayload     = 0x000f
	chunkCorrelation = 0x0011 // text
)

// maxPayload keeps a record within one UDP datagram and its 16-bit length.
const maxPayload = 65_000

// maxCorrelation bounds the correlation id, in bytes.
const maxCorrelation = 256

// Packet is one SIP message as it went over the wire.
type Packet struct {
	At          time.Time
	Source      netip.AddrPort
	Dest        netip.AddrPort
	Protocol    uint8  // IP protocol number: 6 for TCP (TLS too), 17 for UDP
	Payload     []byte // the message, masked
	Correlation string // what both legs of a call share; may be empty
}

// Append writes a packet as one HEP3 record. Payloads are cut at 65,000 bytes.
func Append(dst []byte, p Packet, agent uint32) []byte {
	start := len(dst)
	dst = append(dst, "HEP3\x00\x00"...)
	src, to := p.Source.Addr().Unmap(), p.Dest.Addr().Unmap()
	if src.Is4() && to.Is4() {
		dst = chunk(dst, chunkFamily, []byte{2})
		dst = chunk(dst, chunkSource4, src.AsSlice())
		dst = chunk(dst, chunkDest4, to.AsSlice())
	} else {
		a, b := sixteen(src), sixteen(to)
		dst = chunk(dst, chunkFamily, []byte{10})
		dst = chunk(dst, chunkSource6, a[:])
		dst = chunk(dst, chunkDest6, b[:])
	}
	dst = chunk(dst, chunkProtocol, []byte{p.Protocol})
	dst = chunk(dst, chunkSourcePort, binary.BigEndian.AppendUint16(nil, p.Source.Port()))
	dst = chunk(dst, chunkDestPort, binary.BigEndian.AppendUint16(nil, p.Dest.Port()))
	dst = chunk(dst, chunkSeconds, binary.BigEndian.AppendUint32(nil, uint32(p.At.Unix())))
	dst = chunk(dst, chunkMicros, binary.BigEndian.AppendUint32(nil, uint32(p.At.Nanosecond()/1000)))
	dst = chunk(dst, chunkKind, []byte{1})
	dst = chunk(dst, chunkAgent, binary.BigEndian.AppendUint32(nil, agent))
	if p.Correlation != "" {
		dst = chunk(dst, chunkCorrelation, []byte(p.Correlation[:min(len(p.Correlation), maxCorrelation)]))
	}
	dst = chunk(dst, chunkPayload, p.Payload[:min(len(p.Payload), maxPayload)])
	binary.BigEndian.PutUint16(dst[start+4:], uint16(len(dst)-start))
	return dst
}

// sixteen returns an address as IPv6; an invalid one becomes the unspecified address.
func sixteen(a netip.Addr) [16]byte {
	if !a.IsValid() {
		return [16]byte{}
	}
	return a.As16()
}

// chunk appends vendor 0, type, length of the whole chunk, and value.
func chunk(dst []byte, kind uint16, value []byte) []byte {
	dst = append(dst, 0, 0)
	dst = binary.BigEndian.AppendUint16(dst, kind)
	dst = binary.BigEndian.AppendUint16(dst, uint16(6+len(value)))
	return append(dst, value...)
}

// Config says where the copies go.
type Config struct {
	Dial      func(ctx context.Context) (io.WriteCloser, error)
	Datagrams bool   // UDP: a record is a datagram
	Agent     uint32 // capture id of this node
	// Correlate returns what the legs of one call share, given the Call-ID of one leg, or "". It is asked a moment after the message
	// went by, so that a call just begun is known. It must be safe to call from any goroutine.
	Correlate func(callID string) string
	Log       *slog.Logger
}

// Exporter sends copies of SIP messages. Its methods may be called from any goroutine.
type Exporter struct{ out *outbox.Outbox[Packet] }

// New returns an exporter that connects when there is something to send.
func New(cfg Config) *Exporter {
	encode := func(dst []byte, p Packet) []byte {
		if cfg.Correlate != nil {
			if id := CallID(p.Payload); id != nil {
				p.Correlation = cfg.Correlate(string(id))
			}
		}
		return Append(dst, p, cfg.Agent)
	}
	return &Exporter{outbox.New(outbox.Config[Packet]{Name: "hep", Dial: cfg.Dial, Encode: encode, Queue: 4096, Datagrams: cfg.Datagrams, Log: cfg.Log})}
}

// Send queues a copy of a message; msg itself stays as it is and may be reused. It never waits.
func (e *Exporter) Send(p Packet) {
	p.Payload = bytes.Clone(p.Payload)
	redact.Mask(p.Payload)
	e.out.Put(p)
}

// Stats returns the counters.
func (e *Exporter) Stats() outbox.Stats { return e.out.Stats() }

// Close sends what waits, and stops.
func (e *Exporter) Close() { e.out.Close() }

// CallID returns the value of the first Call-ID field of a SIP message that need not be well-formed, or nil (RFC 3261 section 20.8).
func CallID(msg []byte) []byte {
	for len(msg) > 0 {
		line, rest, _ := bytes.Cut(msg, []byte("\n"))
		line = bytes.TrimRight(line, "\r")
		if len(line) == 0 {
			return nil
		}
		name, value, ok := bytes.Cut(line, []byte(":"))
		name = bytes.TrimRight(name, " \t")
		if ok && (len(name) == 7 && bytes.EqualFold(name, []byte("Call-ID")) || len(name) == 1 && name[0]|0x20 == 'i') {
			return bytes.TrimSpace(value)
		}
		msg = rest
	}
	return nil
}
