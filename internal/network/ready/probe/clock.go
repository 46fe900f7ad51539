package probe

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"ringfence/internal/network/need"
	"ringfence/internal/network/ready/ntp"
	"ringfence/internal/network/ready/verdict"
)

const ntpPort = 123

// clockRows returns the rows that are about time, and the ports from which they ask.
func (p *Prober) clockRows() (rows []string, from []need.Ports) {
	for _, i := range plan(p.Set, p.Direction, p.Roles, p.Rows) {
		if i.transport == "udp" && slices.Contains(i.to, need.Ports{First: ntpPort, Last: ntpPort}) {
			rows, from = append(rows, i.row.ID), append(from, i.from...)
		}
	}
	return rows, from
}

// clock asks a time server, from the ports that rows demand and from any.
func (p *Prober) clock(ctx context.Context, server netip.AddrPort) (verdict.Check, error) {
	c := verdict.Check{ID: "ntp/" + server.String(), Kind: "ntp", Title: "Time server " + server.String(), Required: true, Status: verdict.Pass, Values: map[string]string{}}
	var from []need.Ports
	c.Rows, from = p.clockRows()
	ports := []uint16{0}
	for _, r := range from {
		ports = append(ports, r.First)
	}
	slices.Sort(ports)
	ports = slices.Compact(ports)
	var silent, untried, answered []string
	var got *ntp.Reply
	var offset, delay time.Duration
	for _, port := range ports {
		name := fmt.Sprint(port)
		if port == 0 {
			name = "any"
		}
		r, o, d, err := p.askTime(ctx, server, port)
		switch {
		case err != nil:
			untried = append(untried, fmt.Sprintf("%s (%v)", name, root(err)))
		case r == nil:
			silent = append(silent, name)
		default:
			answered = append(answered, name)
			got, offset, delay = r, o, d
		}
	}
	c.Sent = fmt.Sprintf("queries of NTP version 4 to %s from %d ports", server, len(ports)-len(untried))
	if len(untried) > 0 {
		c.Values["not tried from here"] = joined(untried)
	}
	demanded := slices.DeleteFunc(slices.Clone(silent), func(s string) bool { return s == "any" })
	if got == nil {
		c.Status, c.Cause, c.Seen = verdict.Fail, verdict.Dropped, "no answer"
		c.Change = fmt.Sprintf("let UDP pass to port %d of %s, from any port and from those of rows %v, or name another server; without the right time certificates do not hold", server.Port(), server.Addr(), c.Rows)
		return c, nil
	}
	c.Values["stratum"], c.Values["offset"], c.Values["delay"] = fmt.Sprint(got.Stratum), offset.Round(time.Microsecond).String(), delay.Round(time.Microsecond).String()
	distance := got.RootDispersion + got.RootDelay/2 + delay/2
	c.Values["root distance"] = distance.Round(time.Microsecond).String()
	c.Seen = fmt.Sprintf("stratum %d; this host's clock is off by %v; it answers to ports %s", got.Stratum, offset.Round(time.Millisecond), joined(answered))
	switch {
	case got.Kiss != "":
		c.Status, c.Cause, c.Seen = verdict.Fail, verdict.Rejected, "a kiss of death: "+got.Kiss+map[string]string{"DENY": ", access is denied", "RSTR": ", access is denied", "RATE": ", it is asked too often"}[got.Kiss]
		c.Change = "let the time server serve this network, or ask it less often; a NAT makes all phones one client"
	case !got.Synchronised():
		c.Status, c.Cause, c.Seen = verdict.Fail, verdict.Clock, fmt.Sprintf("the server does not know the time: stratum %d, leap indicator %d", got.Stratum, got.Leap)
		c.Change = "give the time server a source of its own"
	case len(demanded) > 0:
		c.Status, c.Cause, c.Blocked = verdict.Fail, verdict.Dropped, []string{"from " + joined(demanded)}
		c.Seen += "; it is silent to ports " + joined(demanded)
		c.Change = fmt.Sprintf("let UDP pass from ports %s to port %d of %s; phones ask from there", joined(demanded), server.Port(), server.Addr())
	case distance > 3*time.Second/2: // RFC 5905: MAXDIST
		c.Status, c.Cause = verdict.Warn, verdict.Clock
		c.Seen += fmt.Sprintf("; its root distance of %v is too far", distance.Round(time.Millisecond))
		c.Change = "use a time server that is nearer to its source"
	case offset > time.Second || offset < -time.Second:
		c.Status, c.Cause = verdict.Warn, verdict.Clock
		c.Change = "set the clock of this host, or find out which of the two is wrong"
	}
	return c, nil
}

// askTime sends queries from one port until one is answered; no reply and no error is silence.
func (p *Prober) askTime(ctx context.Context, server netip.AddrPort, from uint16) (*ntp.Reply, time.Duration, time.Duration, error) {
	s, err := p.listen(ctx, from)
	if err != nil {
		return nil, 0, 0, err
	}
	defer func() { _ = s.Close() }()
	b := make([]byte, 2048)
	for range 3 {
		var random [8]byte
		if _, err := rand.Read(random[:]); err != nil {
			return nil, 0, 0, err
		}
		cookie, sent := binary.BigEndian.Uint64(random[:]), time.Now()
		_ = s.Write(ntp.Query(cookie), server, 0)
		_ = s.SetReadDeadline(time.Now().Add(max(p.patience, 300*time.Millisecond)))
		for ctx.Err() == nil {
			n, peer, _, err := s.Read(b)
			if err != nil {
				break
			}
			came := time.Now()
			if r, err := ntp.ParseReply(b[:n], cookie); err == nil && peer == server {
				offset, delay := r.Offset(sent, came)
				return &r, offset, delay, nil
			}
		}
	}
	return nil, 0, 0, nil
}
