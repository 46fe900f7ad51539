package dns

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"ringfence"
)

// Client asks name servers.
type Client struct {
	// UDP and TCP open a way to a server. What is read of the first is one datagram each.
	UDP, TCP func(ctx context.Context, server netip.AddrPort) (net.Conn, error)
	Random   func() uint16
	Patience time.Duration // for an answer over UDP; it is asked three times
}

// Type is what is asked for.
type Type = dnsmessage.Type

// The types that are asked for.
const (
	A     = dnsmessage.TypeA
	AAAA  = dnsmessage.TypeAAAA
	CNAME = dnsmessage.TypeCNAME
	SOA   = dnsmessage.TypeSOA
	SRV   = dnsmessage.TypeSRV
)

// Record is one of an answer.
type Record struct {
	Name string // lower case, without the last dot
	Type Type
	Addr netip.Addr // of A and AAAA
	To   string     // of CNAME, and the target of SRV
	// Of SRV (RFC 2782).
	Priority, Weight, Port uint16
}

// Answer is what a server said.
type Answer struct {
	Code      string // NOERROR, NXDOMAIN, SERVFAIL, REFUSED or a number
	Truncated bool   // it is longer than fits into a datagram
	Recursion bool   // the server asks others for us
	Records   []Record
	Over      string // udp or tcp
}

const (
	maxAnswer  = 65535
	maxRecords = 256
	tries      = 3
	udpSize    = 1232 // what fits everywhere without being cut
	tcpTime    = 3 * time.Second
)

func fault(kind ringfence.Kind, text string, err error) error {
	return &ringfence.Fault{Op: "dns", Kind: kind, Text: text, Err: err}
}

func clean(n dnsmessage.Name) string { return strings.ToLower(strings.TrimSuffix(n.String(), ".")) }

// Query makes a question, with room for long answers (RFC 6891).
func Query(id uint16, name string, typ Type) ([]byte, error) {
	n, err := dnsmessage.NewName(strings.TrimSuffix(name, ".") + ".")
	if err != nil || len(name) > 253 {
		return nil, fault(ringfence.KindInvalid, fmt.Sprintf("%.80q is no name", name), err)
	}
	b := dnsmessage.NewBuilder(nil, dnsmessage.Header{ID: id, RecursionDesired: true})
	b.EnableCompression()
	var opt dnsmessage.ResourceHeader
	err = errors.Join(b.StartQuestions(), b.Question(dnsmessage.Question{Name: n, Type: typ, Class: dnsmessage.ClassINET}), b.StartAdditionals(), opt.SetEDNS0(udpSize, dnsmessage.RCodeSuccess, false), b.OPTResource(opt, dnsmessage.OPTResource{}))
	if err != nil {
		return nil, fault(ringfence.KindInvalid, fmt.Sprintf("%.80q cannot be asked for", name), err)
	}
	return b.Finish()
}

// ParseAnswer reads the answer to a question.
func ParseAnswer(msg []byte, id uint16, name string, typ Type) (a Answer, err error) {
	var p dnsmessage.Parser
	h, err := p.Start(msg)
	if err != nil || len(msg) > maxAnswer {
		return a, fault(ringfence.KindInvalid, "this is no message of DNS", err)
	}
	q, err := p.Question()
	if err != nil || !h.Response || h.ID != id || clean(q.Name) != strings.ToLower(strings.TrimSuffix(name, ".")) || q.Type != typ {
		return a, fault(ringfence.KindInvalid, "this answers another question", err)
	}
	a = Answer{Truncated: h.Truncated, Recursion: h.RecursionAvailable, Code: code(h.RCode)}
	if err := p.SkipAllQuestions(); err != nil {
		return a, fault(ringfence.KindInvalid, "the question is broken", err)
	}
	for {
		rh, err := p.AnswerHeader()
		if errors.Is(err, dnsmessage.ErrSectionDone) || err != nil && h.Truncated {
			return a, nil
		}
		if err != nil || len(a.Records) >= maxRecords {
			return a, fault(ringfence.KindInvalid, "the answer is broken, or too long", err)
		}
		r := Record{Name: clean(rh.Name), Type: rh.Type}
		switch rh.Type {
		case A:
			var v dnsmessage.AResource
			v, err = p.AResource()
			r.Addr = netip.AddrFrom4(v.A)
		case AAAA:
			var v dnsmessage.AAAAResource
			v, err = p.AAAAResource()
			r.Addr = netip.AddrFrom16(v.AAAA)
		case CNAME:
			var v dnsmessage.CNAMEResource
			v, err = p.CNAMEResource()
			r.To = clean(v.CNAME)
		case SRV:
			var v dnsmessage.SRVResource
			v, err = p.SRVResource()
			r.To, r.Priority, r.Weight, r.Port = clean(v.Target), v.Priority, v.Weight, v.Port
		default:
			err = p.SkipAnswer()
		}
		if err != nil {
			if h.Truncated {
				return a, nil
			}
			return a, fault(ringfence.KindInvalid, "a record is broken", err)
		}
		a.Records = append(a.Records, r)
	}
}

func code(c dnsmessage.RCode) string {
	switch c {
	case dnsmessage.RCodeSuccess:
		return "NOERROR"
	case dnsmessage.RCodeNameError:
		return "NXDOMAIN"
	case dnsmessage.RCodeServerFailure:
		return "SERVFAIL"
	case dnsmessage.RCodeRefused:
		return "REFUSED"
	}
	return fmt.Sprint(uint16(c))
}

// Of returns the records of one type.
func (a Answer) Of(typ Type) (out []Record) {
	for _, r := range a.Records {
		if r.Type == typ {
			out = append(out, r)
		}
	}
	return out
}

// Ask asks over UDP, and over TCP if the answer does not fit (RFC 7766). If TCP does not come about, the answer is the one over UDP, which is Truncated.
func (c *Client) Ask(ctx context.Context, server netip.AddrPort, name string, typ Type) (Answer, error) {
	a, err := c.AskUDP(ctx, server, name, typ)
	if err != nil || !a.Truncated {
		return a, err
	}
	if whole, err := c.AskTCP(ctx, server, name, typ); err == nil {
		return whole, nil
	}
	return a, nil
}

// AskUDP asks over UDP only.
func (c *Client) AskUDP(ctx context.Context, server netip.AddrPort, name string, typ Type) (Answer, error) {
	conn, err := c.UDP(ctx, server)
	if err != nil {
		return Answer{}, err
	}
	defer func() { _ = conn.Close() }()
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
	b := make([]byte, maxAnswer)
	for range tries {
		id := c.Random()
		q, err := Query(id, name, typ)
		if err != nil {
			return Answer{}, err
		}
		if _, err := conn.Write(q); err != nil {
			return Answer{}, fault(ringfence.KindUnavailable, "the name server cannot be asked", err)
		}
		until := time.Now().Add(c.Patience)
		for ctx.Err() == nil {
			_ = conn.SetReadDeadline(until)
			n, err := conn.Read(b)
			var slow net.Error
			if errors.As(err, &slow) && slow.Timeout() {
				break
			}
			if err != nil {
				return Answer{}, fault(ringfence.KindUnavailable, "the name server refuses", err)
			}
			if a, err := ParseAnswer(b[:n], id, name, typ); err == nil {
				a.Over = "udp"
				return a, nil
			}
		}
	}
	return Answer{}, fault(ringfence.KindTimeout, "the name server does not answer", nil)
}

// AskTCP asks over TCP only.
func (c *Client) AskTCP(ctx context.Context, server netip.AddrPort, name string, typ Type) (Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, tcpTime)
	defer cancel()
	id := c.Random()
	q, err := Query(id, name, typ)
	if err != nil {
		return Answer{}, err
	}
	conn, err := c.TCP(ctx, server)
	if err != nil {
		return Answer{}, fault(ringfence.KindUnavailable, "the name server takes no TCP", err)
	}
	defer func() { _ = conn.Close() }()
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
	if _, err := conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(q))), q...)); err != nil {
		return Answer{}, fault(ringfence.KindUnavailable, "the name server takes no TCP", err)
	}
	var size [2]byte
	if _, err := io.ReadFull(conn, size[:]); err != nil {
		return Answer{}, fault(ringfence.KindUnavailable, "the name server does not answer over TCP", err)
	}
	b := make([]byte, binary.BigEndian.Uint16(size[:]))
	if _, err := io.ReadFull(conn, b); err != nil {
		return Answer{}, fault(ringfence.KindUnavailable, "the name server does not answer over TCP", err)
	}
	a, err := ParseAnswer(b, id, name, typ)
	a.Over = "tcp"
	return a, err
}

// Service is what SRV says of a name, in the order in which hosts try (RFC 2782): by priority, then by weight.
func (a Answer) Service() []Record {
	out := a.Of(SRV)
	slices.SortStableFunc(out, func(x, y Record) int {
		if x.Priority != y.Priority {
			return int(x.Priority) - int(y.Priority)
		}
		return int(y.Weight) - int(x.Weight)
	})
	return out
}
