package locate

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"golang.org/x/net/dns/dnsmessage"

	"ringfence/internal/sip"
)

// zone is a DNS server in memory.
type zone struct {
	t       *testing.T
	records map[string][]dnsmessage.Resource // by "name type"
	fails   map[string]dnsmessage.RCode
	mangle  func(stream bool, msg []byte) [][]byte // what is sent instead of an answer; nil: the answer
	silent  map[netip.AddrPort]bool

	mu    sync.Mutex
	asked []string
}

func newZone(t *testing.T) *zone {
	return &zone{t: t, records: map[string][]dnsmessage.Resource{}, fails: map[string]dnsmessage.RCode{}, silent: map[netip.AddrPort]bool{}}
}

func (z *zone) resolver(change ...func(*Config)) *Resolver {
	cfg := Config{Opener: z, Servers: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.53:53")}, Rand: func(uint32) uint32 { return 0 }}
	for _, c := range change {
		c(&cfg)
	}
	return New(cfg)
}

func (z *zone) put(name string, typ dnsmessage.Type, ttl uint32, body dnsmessage.ResourceBody) {
	k := strings.ToLower(name) + " " + typ.String()
	z.records[k] = append(z.records[k], dnsmessage.Resource{Header: dnsmessage.ResourceHeader{Name: dnsmessage.MustNewName(name + "."), Type: typ,
		Class: dnsmessage.ClassINET, TTL: ttl}, Body: body})
}

func (z *zone) addr(name, addr string) {
	a := netip.MustParseAddr(addr)
	if a.Is4() {
		z.put(name, dnsmessage.TypeA, 60, &dnsmessage.AResource{A: a.As4()})
		return
	}
	z.put(name, dnsmessage.TypeAAAA, 60, &dnsmessage.AAAAResource{AAAA: a.As16()})
}

func (z *zone) srv(name string, priority, weight, port uint16, target string) {
	z.put(name, dnsmessage.TypeSRV, 60, &dnsmessage.SRVResource{Priority: priority, Weight: weight, Port: port, Target: dnsmessage.MustNewName(target + ".")})
}

func (z *zone) naptr(name string, order, preference uint16, flags, service, replacement string) {
	z.put(name, typeNAPTR, 60, &dnsmessage.UnknownResource{Type: typeNAPTR, Data: naptrData(order, preference, flags, service, "", replacement)})
}

func naptrData(order, preference uint16, flags, service, regexp, replacement string) []byte {
	b := binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(nil, order), preference)
	for _, s := range [...]string{flags, service, regexp} {
		b = append(append(b, byte(len(s))), s...)
	}
	for label := range strings.SplitSeq(replacement, ".") {
		if label != "" {
			b = append(append(b, byte(len(label))), label...)
		}
	}
	return append(b, 0)
}

// answer makes the answer to a query, following CNAMEs as a resolver does.
func (z *zone) answer(query []byte) []byte {
	var m dnsmessage.Message
	if err := m.Unpack(query); err != nil || len(m.Questions) != 1 {
		z.t.Errorf("a malformed query: %v", err)
		return nil
	}
	q := m.Questions[0]
	name := strings.ToLower(strings.TrimSuffix(q.Name.String(), "."))
	z.mu.Lock()
	z.asked = append(z.asked, name+" "+q.Type.String())
	z.mu.Unlock()
	r := dnsmessage.Message{Header: dnsmessage.Header{ID: m.ID, Response: true, RCode: z.fails[name+" "+q.Type.String()]}, Questions: m.Questions}
	for range 20 {
		r.Answers = append(r.Answers, z.records[name+" "+q.Type.String()]...)
		alias := z.records[name+" "+dnsmessage.TypeCNAME.String()]
		if len(alias) == 0 {
			break
		}
		r.Answers = append(r.Answers, alias...)
		name = strings.ToLower(strings.TrimSuffix(alias[0].Body.(*dnsmessage.CNAMEResource).CNAME.String(), "."))
	}
	if len(r.Answers) == 0 {
		r.Authorities = []dnsmessage.Resource{{Header: dnsmessage.ResourceHeader{Name: dnsmessage.MustNewName("example.com."), Type: dnsmessage.TypeSOA,
			Class: dnsmessage.ClassINET, TTL: 3600}, Body: &dnsmessage.SOAResource{NS: dnsmessage.MustNewName("ns.example.com."), MBox: dnsmessage.MustNewName("x.example.com."), MinTTL: 120}}}
	}
	b, err := r.Pack()
	if err != nil {
		z.t.Errorf("the answer cannot be packed: %v", err)
	}
	return b
}

func (z *zone) questions() []string {
	z.mu.Lock()
	defer z.mu.Unlock()
	out := z.asked
	z.asked = nil
	return out
}

// DialUDP implements Opener.
func (z *zone) DialUDP(_ context.Context, flow string, addr netip.AddrPort) (net.Conn, error) {
	if flow != FlowUDP {
		return nil, errors.New("no such flow")
	}
	ours, theirs := net.Pipe()
	silent := z.silent[addr]
	go func() {
		defer func() { _ = theirs.Close() }()
		buf := make([]byte, 512)
		n, err := theirs.Read(buf)
		if err != nil || silent {
			_, _ = theirs.Read(buf) // until the other side gives up
			return
		}
		msg := z.answer(buf[:n])
		out := [][]byte{msg}
		if z.mangle != nil {
			out = z.mangle(false, msg)
		}
		for _, b := range out {
			if _, err := theirs.Write(b); err != nil {
				return
			}
		}
	}()
	return ours, nil
}

// Dial implements Opener.
func (z *zone) Dial(_ context.Context, flow string, _ netip.AddrPort) (net.Conn, error) {
	if flow != FlowTCP {
		return nil, errors.New("no such flow")
	}
	ours, theirs := net.Pipe()
	go func() {
		defer func() { _ = theirs.Close() }()
		buf := make([]byte, 512)
		n, err := theirs.Read(buf)
		if err != nil || n < 2 || int(binary.BigEndian.Uint16(buf)) != n-2 {
			z.t.Errorf("a malformed query over TCP: %d bytes, %v", n, err)
			return
		}
		msg := z.answer(buf[2:n])
		out := [][]byte{msg}
		if z.mangle != nil {
			out = z.mangle(true, msg)
		}
		for _, b := range out {
			if _, err := theirs.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...)); err != nil {
				return
			}
		}
	}()
	return ours, nil
}

func uri(t *testing.T, s string) *sip.URI {
	t.Helper()
	u, err := sip.ParseURI([]byte(s))
	if err != nil {
		t.Fatal(err)
	}
	return &u
}

// places locates a URI and returns "TRANSPORT ADDR name NAME" of each target.
func places(t *testing.T, r *Resolver, u string, transports ...string) []string {
	t.Helper()
	got, err := r.Locate(t.Context(), uri(t, u), transports...)
	if err != nil {
		t.Fatalf("%s: %v", u, err)
	}
	var out []string
	for _, g := range got {
		out = append(out, g.Transport+" "+g.Addr.String()+" as "+g.Name)
	}
	return out
}
