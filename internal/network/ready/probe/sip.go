package probe

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"ringfence/internal/network/ready/verdict"
	"ringfence/internal/network/ready/wire"
)

// message is an INVITE from where we are, with an offer: all that a gateway which reads SIP likes to change.
func message(transport string, from, to netip.AddrPort, t wire.Token) string {
	body := fmt.Sprintf("v=0\r\no=probe 1 1 IN IP4 %[1]s\r\ns=-\r\nc=IN IP4 %[1]s\r\nt=0 0\r\nm=audio 19560 RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\n", from.Addr())
	if from.Addr().Is6() {
		body = strings.ReplaceAll(body, "IN IP4", "IN IP6")
	}
	return fmt.Sprintf("INVITE sip:probe@%[2]s SIP/2.0\r\nVia: SIP/2.0/%[1]s %[3]s;branch=z9hG4bK%08[4]x;rport\r\nMax-Forwards: 70\r\nFrom: <sip:prober@%[3]s>;tag=%[4]x\r\nTo: <sip:probe@%[2]s>\r\n"+
		"Call-ID: %[4]x@%[5]s\r\nCSeq: 1 INVITE\r\nContact: <sip:prober@%[3]s>\r\n%[6]s: %[7]s\r\nContent-Type: application/sdp\r\nContent-Length: %[8]d\r\n\r\n%[9]s",
		strings.ToUpper(transport), to, from, t.Seq, from.Addr(), wire.TokenHeader, t, len(body), body)
}

// differences lists the lines that went away and those that came.
func differences(sent, came string) (out []string) {
	lines := func(s string) []string { return strings.Split(s, "\r\n") }
	left := lines(came)
	var gone []string
	for _, l := range lines(sent) {
		if i := slices.Index(left, l); i >= 0 {
			left = slices.Delete(left, i, i+1)
		} else {
			gone = append(gone, l)
		}
	}
	for _, l := range gone {
		out = append(out, "- "+l)
	}
	for _, l := range left {
		out = append(out, "+ "+l)
	}
	if len(out) == 0 && sent != came {
		out = []string{"the same lines in another order"}
	}
	return out
}

// fields names what lines of a difference are about.
func fields(diff []string) string {
	var names []string
	for _, d := range diff {
		d = strings.TrimLeft(d, "+- ")
		name, _, ok := strings.Cut(d, ":")
		switch {
		case len(d) > 1 && d[1] == '=':
			name = "SDP " + d[:2]
		case !ok || strings.ContainsFunc(name, func(c rune) bool { return c <= ' ' || c > '~' }):
			name = "the first line"
		}
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return strings.Join(names, ", ")
}

// gateways looks for machines that read and change SIP: the same message goes to ports where they are known to look and to one where none looks, and the reflector tells what arrived.
func (p *Prober) gateways(ctx context.Context) (verdict.Check, error) {
	c := verdict.Check{ID: "sip-alg", Kind: "sip", Title: "Machines on the way that change SIP (ALG)", Required: true, Status: verdict.Pass, Values: map[string]string{}}
	other := uint16(40000 + p.rand.IntN(20000))
	ports := []uint16{5060, 5061, other}
	var found, blocked, same []string
	proxies := false
	for _, transport := range []string{"udp", "tcp"} {
		open, err := p.need(ctx, transport, ports)
		if err != nil {
			return c, err
		}
		for _, port := range open {
			name := fmt.Sprintf("%s %d", strings.ToUpper(transport), port)
			sent, came, arrived, err := p.invite(ctx, transport, port)
			switch {
			case err != nil:
				return c, err
			case arrived && sent == came:
				same = append(same, name)
			case arrived:
				d := differences(sent, came)
				c.Values[name] = strings.Join(d, "\n")
				found = append(found, name+": "+fields(d)+" changed")
				proxies = proxies || strings.Count(came, "\r\nVia:") > strings.Count(sent, "\r\nVia:") || !strings.Contains(came, "\r\nMax-Forwards: 70\r\n")
			default:
				try := map[string]func(context.Context, []pair) map[pair]outcome{"udp": p.udp, "tcp": p.tcp}[transport]
				if q := (pair{0, port}); try(ctx, []pair{q})[q].ok {
					found = append(found, name+": SIP does not arrive, and other bytes do")
				} else {
					blocked = append(blocked, name)
				}
			}
		}
	}
	c.Sent = fmt.Sprintf("an INVITE with a session description, by UDP and TCP to ports 5060, 5061 and %d", other)
	c.Seen = "unchanged: " + strings.Join(same, ", ")
	if len(same) == 0 {
		c.Seen = "nothing arrived unchanged"
	}
	if len(blocked) > 0 {
		c.Seen += "; these ports do not pass at all: " + strings.Join(blocked, ", ")
	}
	if len(found) > 0 {
		c.Status, c.Cause = verdict.Fail, verdict.Rewritten
		c.Seen = joined(found) + "; " + c.Seen
		c.Change = "switch the SIP application layer gateway off (SIP ALG, SIP helper, SIP inspection, SIP fix-up) on the router or firewall of the site; RFC 4787 REQ-10 asks for that too"
		if proxies {
			c.Change += ". It works as a proxy, with Via and Max-Forwards of its own"
		}
	} else if len(same) == 0 {
		c.Status, c.Cause = verdict.Skip, verdict.Untested
	}
	return c, nil
}

// invite sends a message and asks the reflector what arrived.
func (p *Prober) invite(ctx context.Context, transport string, port uint16) (sent, came string, arrived bool, err error) {
	to := netip.AddrPortFrom(p.Reflector.Addr(), port)
	for range 2 {
		t := wire.NewToken(p.ch.Session, p.seq.Add(1), p.ch.Key)
		if transport == "udp" {
			s, err := p.listen(ctx, 0)
			if err != nil {
				return "", "", false, err
			}
			sent = message(transport, addrPort(s.LocalAddr()), to, t)
			_ = s.Write([]byte(sent), to, 0)
			defer func() { _ = s.Close() }() // a socket that is gone would have its host complain meanwhile
		} else {
			dial, cancel := context.WithTimeout(ctx, tcpTime)
			s, err := p.Opener.DialFrom(dial, FlowTCP, netip.AddrPortFrom(p.local, 0), to)
			cancel()
			if err != nil {
				return sent, "", false, nil
			}
			defer func() { _ = s.Close() }()
			_ = s.SetDeadline(time.Now().Add(tcpTime))
			sent = message(transport, addrPort(s.LocalAddr()), to, t)
			_, _ = s.Write([]byte(sent))
		}
		for range 4 {
			wait(ctx, p.patience)
			r, err := p.ask(ctx, wire.Request{Op: "sip", Seq: t.Seq})
			if err != nil {
				return sent, "", false, err
			}
			if r.Arrived {
				return sent, string(r.Message), true, nil
			}
		}
	}
	return sent, "", false, nil
}
