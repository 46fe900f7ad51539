package dhcp

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"time"

	"ringfence"
)

// V4 is a phone that asks by IPv4. Conn and Hardware are needed.
type V4 struct {
	Conn     net.PacketConn // of the one link, at port 68
	Hardware [6]byte
	HostName string
	Class    string         // option 60
	Server   netip.AddrPort // whom the first questions go to; the zero value is everybody on the link, at port 67
}

// Port4 is where a server of DHCPv4 is.
const Port4 = 67

// waits4 are those of RFC 2131 section 4.1.
func waits4() waits { return waits{first: 4 * time.Second, longest: 64 * time.Second, questions: 5} }

func (v *V4) everybody() net.Addr {
	if v.Server.IsValid() {
		return net.UDPAddrFromAddrPort(v.Server)
	}
	return &net.UDPAddr{IP: net.IPv4bcast, Port: Port4}
}

// run is one exchange. take sees the answers that are one to the question.
func (v *V4) run(ctx context.Context, m message4, to net.Addr, w waits, take func(a Answer, kind byte) (bool, error)) error {
	id, err := random()
	if err != nil {
		return err
	}
	m.id, m.hardware, m.host, m.class = id, v.Hardware, v.HostName, v.Class
	return ask(ctx, v.Conn, to, w, func(elapsed time.Duration) []byte { m.elapsed = elapsed; return m.bytes() }, func(b []byte, from netip.AddrPort) (bool, error) {
		if from.Port() != Port4 { // whoever answers from another port cannot be a server of this host's network
			return false, nil
		}
		a, kind, err := ParseV4(b, id, v.Hardware)
		if err != nil {
			return false, nil // noise, or an attempt; a server may still answer
		}
		a.At = time.Now()
		return take(a, kind)
	})
}

// Inform asks for options, for a phone that has an address (RFC 2131 section 3.4). It returns the answers of all servers, that of the first one first.
func (v *V4) Inform(ctx context.Context, own netip.Addr) ([]Answer, error) {
	var out []Answer
	err := v.run(ctx, message4{kind: inform, client: own}, v.everybody(), waits4(), func(a Answer, kind byte) (bool, error) {
		if kind != ack {
			return false, nil
		}
		a.Kind, a.Address = Information, netip.Prefix{} // what stands there is not for us
		a.Lifetime, a.Renew, a.Rebind = 0, 0, 0
		out = once(out, a)
		return true, nil
	})
	return out, err
}

// once adds an answer, unless its server answered already.
func once(all []Answer, a Answer) []Answer {
	for _, o := range all {
		if o.Server == a.Server && string(o.id) == string(a.id) {
			return all
		}
	}
	if len(all) < maxAddresses {
		all = append(all, a)
	}
	return all
}

// Discover asks for an address, and returns what is offered, the first offer first.
func (v *V4) Discover(ctx context.Context) ([]Answer, error) {
	var out []Answer
	err := v.run(ctx, message4{kind: discover, broadcast: true}, v.everybody(), waits4(), func(a Answer, kind byte) (bool, error) {
		if kind != offer || !a.Address.IsValid() || a.Lifetime <= 0 {
			return false, nil
		}
		a.Kind = Offered
		out = once(out, a)
		return true, nil
	})
	return out, err
}

// Request takes an offer.
func (v *V4) Request(ctx context.Context, offered Answer) (Answer, error) {
	return v.lease(ctx, message4{kind: request, broadcast: true, requested: offered.Address.Addr(), server: offered.Server}, v.everybody(), waits{first: 4 * time.Second, longest: 8 * time.Second, questions: 4}, offered)
}

// Renew asks the server of a lease to go on with it (state RENEWING).
func (v *V4) Renew(ctx context.Context, a Answer) (Answer, error) {
	return v.lease(ctx, message4{kind: request, client: a.Address.Addr()}, net.UDPAddrFromAddrPort(netip.AddrPortFrom(a.Server, Port4)), v.later(ctx), a)
}

// Rebind asks any server to go on with a lease (state REBINDING).
func (v *V4) Rebind(ctx context.Context, a Answer) (Answer, error) {
	a.Server = netip.Addr{} // whoever answers
	return v.lease(ctx, message4{kind: request, client: a.Address.Addr()}, v.everybody(), v.later(ctx), a)
}

// later are the waits of a phone that has an address.
func (v *V4) later(ctx context.Context) waits {
	w := waits{first: time.Minute, longest: time.Minute}
	w.until, _ = ctx.Deadline()
	return w
}

// lease asks for an address, which must be the one that was offered or leased.
func (v *V4) lease(ctx context.Context, m message4, to net.Addr, w waits, before Answer) (out Answer, err error) {
	err = v.run(ctx, m, to, w, func(a Answer, kind byte) (bool, error) {
		switch {
		case before.Server.IsValid() && a.Server != before.Server:
			return false, nil
		case kind == nak:
			return false, fault(ringfence.KindDenied, fmt.Sprintf("%s does not let the phone have %s", a.Server, before.Address.Addr()), "it asks for another address", nil)
		case kind != ack || a.Address.Addr() != before.Address.Addr() || a.Lifetime <= 0:
			return false, nil
		}
		a.Kind = Leased
		out = a
		return true, errEnough
	})
	return out, err
}

// Release gives an address back. No server answers that.
func (v *V4) Release(a Answer) error {
	id, err := random()
	if err != nil {
		return err
	}
	m := message4{kind: release, id: id, hardware: v.Hardware, client: a.Address.Addr(), server: a.Server}
	if _, err := v.Conn.WriteTo(m.bytes(), net.UDPAddrFromAddrPort(netip.AddrPortFrom(a.Server, Port4))); err != nil {
		return fault(ringfence.KindUnavailable, "the address cannot be given back", "", err)
	}
	return nil
}

// Decline says that somebody else has an address already.
func (v *V4) Decline(a Answer) error {
	id, err := random()
	if err != nil {
		return err
	}
	m := message4{kind: decline, id: id, hardware: v.Hardware, requested: a.Address.Addr(), server: a.Server}
	if _, err := v.Conn.WriteTo(m.bytes(), v.everybody()); err != nil {
		return fault(ringfence.KindUnavailable, "the server cannot be told that the address is taken", "", err)
	}
	return nil
}

// Keep holds a lease until ctx ends or the lease is over, and tells changed of each answer. It returns nil when ctx ends, else why the address must not be used any more.
func (v *V4) Keep(ctx context.Context, a Answer, changed func(Answer)) error {
	return keep(ctx, v, a, changed)
}
