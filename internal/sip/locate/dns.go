package locate

import (
	"encoding/binary"
	"net/netip"
	"strings"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"ringfence"
)

// Limits on what is believed of one answer. They are generous for real domains.
const (
	maxDatagram = 4096     // bytes of an answer over UDP
	maxStream   = 16 << 10 // bytes of an answer over TCP
	maxRecords  = 64       // records in the answer section
	maxAliases  = 8        // CNAMEs from the question to its answer
	advertised  = 1232     // bytes we tell servers to send at most over UDP (EDNS, RFC 6891)
)

const typeNAPTR dnsmessage.Type = 35 // RFC 3403; the library has no name for it

// NAPTR is the part of a NAPTR record that matters here (RFC 3403 section 4).
type NAPTR struct {
	Order, Preference      uint16
	Flags, Service, Regexp string
	Replacement            string // without the last dot
}

// SRV is a service record (RFC 2782).
type SRV struct {
	Priority, Weight, Port uint16
	Target                 string // without the last dot; empty if the domain says that it has no such service
}

// Answer is what a DNS server said about one name and type.
type Answer struct {
	NAPTR     []NAPTR
	SRV       []SRV
	Addrs     []netip.Addr
	TTL       time.Duration // how long it may be remembered
	Truncated bool          // to be asked again over TCP; nothing else is set
	failed    dnsmessage.RCode
}

func fault(kind ringfence.Kind, text, hint string, err error) error {
	return &ringfence.Fault{Op: "sip.locate", Kind: kind, Text: text, Hint: hint, Err: err}
}

// question writes a query with room for answers beyond 512 bytes (RFC 6891).
func question(id uint16, name dnsmessage.Name, typ dnsmessage.Type) ([]byte, error) {
	b := dnsmessage.NewBuilder(make([]byte, 2, 512), dnsmessage.Header{ID: id, RecursionDesired: true})
	if err := b.StartQuestions(); err != nil {
		return nil, err
	}
	if err := b.Question(dnsmessage.Question{Name: name, Type: typ, Class: dnsmessage.ClassINET}); err != nil {
		return nil, err
	}
	if err := b.StartAdditionals(); err != nil {
		return nil, err
	}
	var h dnsmessage.ResourceHeader
	if err := h.SetEDNS0(advertised, dnsmessage.RCodeSuccess, false); err != nil {
		return nil, err
	}
	if err := b.OPTResource(h, dnsmessage.OPTResource{}); err != nil {
		return nil, err
	}
	return b.Finish()
}

// ParseAnswer reads the answer to a query. Who sent it is not known for sure: it must repeat the query's id and question, and
// only records of the name that was asked for, or of what its CNAMEs lead to, are taken.
func ParseAnswer(msg []byte, id uint16, name string, typ uint16) (Answer, error) {
	bad := func(text string, err error) (Answer, error) {
		return Answer{}, fault(ringfence.KindInvalid, "a DNS answer is malformed: "+text, "", err)
	}
	if len(msg) > maxStream {
		return bad("too long", nil)
	}
	var p dnsmessage.Parser
	h, err := p.Start(msg)
	if err != nil {
		return bad("header", err)
	}
	if !h.Response || h.ID != id {
		return bad("it answers another question", nil)
	}
	q, err := p.Question()
	if err != nil || q.Type != dnsmessage.Type(typ) || q.Class != dnsmessage.ClassINET || !strings.EqualFold(trimDot(q.Name.String()), name) {
		return bad("it answers another question", err)
	}
	if _, err := p.Question(); err != dnsmessage.ErrSectionDone {
		return bad("more than one question", err)
	}
	if h.Truncated {
		return Answer{Truncated: true}, nil
	}
	a := Answer{failed: h.RCode, TTL: longest}
	if h.RCode != dnsmessage.RCodeSuccess && h.RCode != dnsmessage.RCodeNameError {
		return a, nil
	}
	found, aliases := map[string]*Answer{}, map[string]string{}
	for n := 0; ; n++ {
		rh, err := p.AnswerHeader()
		if err == dnsmessage.ErrSectionDone {
			break
		}
		if err != nil {
			return bad("record", err)
		}
		if n == maxRecords {
			return bad("too many records", nil)
		}
		if err := take(&p, rh, dnsmessage.Type(typ), found, aliases); err != nil {
			return bad("record", err)
		}
		a.TTL = min(a.TTL, time.Duration(rh.TTL)*time.Second)
	}
	owner := strings.ToLower(name)
	for range maxAliases {
		next, ok := aliases[owner]
		if !ok || found[owner] != nil {
			break
		}
		owner = next
	}
	if f := found[owner]; f != nil {
		a.NAPTR, a.SRV, a.Addrs = f.NAPTR, f.SRV, f.Addrs
		return a, nil
	}
	a.TTL = min(a.TTL, negativeTTL(&p))
	return a, nil
}

// take reads one record of the answer section.
func take(p *dnsmessage.Parser, h dnsmessage.ResourceHeader, want dnsmessage.Type, found map[string]*Answer, aliases map[string]string) error {
	owner := strings.ToLower(trimDot(h.Name.String()))
	if h.Class != dnsmessage.ClassINET || h.Type != want && h.Type != dnsmessage.TypeCNAME {
		return p.SkipAnswer()
	}
	if h.Type == dnsmessage.TypeCNAME {
		c, err := p.CNAMEResource()
		if err == nil {
			aliases[owner] = strings.ToLower(trimDot(c.CNAME.String()))
		}
		return err
	}
	a := found[owner]
	if a == nil {
		a = &Answer{}
		found[owner] = a
	}
	switch h.Type {
	case dnsmessage.TypeA:
		r, err := p.AResource()
		a.Addrs = append(a.Addrs, netip.AddrFrom4(r.A))
		return err
	case dnsmessage.TypeAAAA:
		r, err := p.AAAAResource()
		a.Addrs = append(a.Addrs, netip.AddrFrom16(r.AAAA).Unmap())
		return err
	case dnsmessage.TypeSRV:
		r, err := p.SRVResource()
		a.SRV = append(a.SRV, SRV{r.Priority, r.Weight, r.Port, trimDot(r.Target.String())})
		return err
	}
	r, err := p.UnknownResource()
	if err != nil {
		return err
	}
	n, err := ParseNAPTR(r.Data)
	a.NAPTR = append(a.NAPTR, n)
	return err
}

// negativeTTL is how long an answer without records may be remembered (RFC 2308 section 5).
func negativeTTL(p *dnsmessage.Parser) time.Duration {
	for range maxRecords {
		h, err := p.AuthorityHeader()
		if err != nil {
			break
		}
		if h.Type != dnsmessage.TypeSOA {
			if p.SkipAuthority() != nil {
				break
			}
			continue
		}
		soa, err := p.SOAResource()
		if err != nil {
			break
		}
		return min(time.Duration(min(h.TTL, soa.MinTTL))*time.Second, longestNegative)
	}
	return briefNegative
}

// ParseNAPTR reads the data of a NAPTR record. Its replacement is never compressed (RFC 3403 section 4.1), so that the data can be read
// without the message around it.
func ParseNAPTR(b []byte) (NAPTR, error) {
	bad := fault(ringfence.KindInvalid, "a NAPTR record is malformed", "", nil)
	if len(b) < 4 {
		return NAPTR{}, bad
	}
	n := NAPTR{Order: binary.BigEndian.Uint16(b), Preference: binary.BigEndian.Uint16(b[2:])}
	b = b[4:]
	for _, s := range [...]*string{&n.Flags, &n.Service, &n.Regexp} {
		if len(b) == 0 || len(b) <= int(b[0]) {
			return NAPTR{}, bad
		}
		end := 1 + int(b[0])
		*s, b = string(b[1:end]), b[end:]
	}
	var labels []string
	for size := 0; ; {
		if len(b) == 0 || b[0] > 63 || len(b) <= int(b[0]) {
			return NAPTR{}, bad
		}
		if b[0] == 0 {
			break
		}
		label := string(b[1 : 1+b[0]])
		if size += len(label) + 1; size > 254 || strings.Contains(label, ".") {
			return NAPTR{}, bad
		}
		labels, b = append(labels, label), b[1+b[0]:]
	}
	if len(b) != 1 {
		return NAPTR{}, bad
	}
	n.Replacement = strings.Join(labels, ".")
	return n, nil
}

func trimDot(name string) string { return strings.TrimSuffix(name, ".") }
