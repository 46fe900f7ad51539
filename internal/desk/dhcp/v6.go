package dhcp

import (
	"cmp"
	"context"
	"net"
	"net/netip"
	"slices"
	"time"

	"ringfence"
)

// V6 is a phone that asks by IPv6. Conn, Hardware and Zone are needed.
type V6 struct {
	Conn     net.PacketConn // of the one link, at its link-local address and port 546
	Hardware [6]byte
	Zone     string         // of the link
	Class    string         // option 16
	Server   netip.AddrPort // whom the questions go to; the zero value is all agents of the link, at port 547
}

// Port6 is where a server of DHCPv6 is.
const Port6 = 547

func (v *V6) everybody() net.Addr {
	if v.Server.IsValid() {
		return net.UDPAddrFromAddrPort(v.Server)
	}
	return &net.UDPAddr{IP: net.ParseIP("ff02::1:2"), Port: Port6, Zone: v.Zone} // RFC 8415 section 7.1
}

// run is one exchange. take sees the answers that are one to the question.
func (v *V6) run(ctx context.Context, m message6, w waits, take func(a Answer, kind byte, refused string) (bool, error)) error {
	id, err := random()
	if err != nil {
		return err
	}
	id &= 0xffffff
	m.id, m.hardware, m.class = id, v.Hardware, v.Class
	return ask(ctx, v.Conn, v.everybody(), w, func(elapsed time.Duration) []byte { m.elapsed = elapsed; return m.bytes() }, func(b []byte, from netip.AddrPort) (bool, error) {
		if from.Port() != Port6 {
			return false, nil
		}
		a, kind, refused, err := ParseV6(b, id, v.Hardware)
		if err != nil {
			return false, nil
		}
		a.At, a.Server = time.Now(), from.Addr().WithZone("")
		return take(a, kind, refused)
	})
}

// start waits up to a second, so that phones that start together do not ask together (sections 18.2.1 and 18.2.6).
func (v *V6) start(ctx context.Context) {
	n, err := random()
	if err == nil {
		pause(ctx, time.Duration(uint64(n)*uint64(time.Second)>>32))
	}
}

// Inform asks for options, for a phone that has an address (section 18.2.6).
func (v *V6) Inform(ctx context.Context) (out []Answer, err error) {
	v.start(ctx)
	err = v.run(ctx, message6{kind: information, noAddress: true}, waits{first: time.Second, longest: 8 * time.Second, questions: 6}, func(a Answer, kind byte, refused string) (bool, error) {
		if kind != reply || refused != "" {
			return false, nil
		}
		a.Kind, a.Address = Information, netip.Prefix{}
		out = once(out, a)
		return true, nil
	})
	return out, err
}

// Solicit asks for an address, and returns what is offered, the best first: by preference (section 18.2.9), and among equals the one that came first.
func (v *V6) Solicit(ctx context.Context) (out []Answer, err error) {
	v.start(ctx)
	why := ""
	err = v.run(ctx, message6{kind: solicit}, waits{first: time.Second, longest: 8 * time.Second, questions: 6}, func(a Answer, kind byte, refused string) (bool, error) {
		if why = cmp.Or(why, refused); kind != advertise || refused != "" || !a.Address.IsValid() {
			return false, nil
		}
		a.Kind = Offered
		if out = once(out, a); a.pref == 255 { // the server wants no other to be waited for
			return true, errEnough
		}
		return true, nil
	})
	slices.SortStableFunc(out, func(x, y Answer) int { return cmp.Compare(y.pref, x.pref) })
	if err != nil && why != "" {
		err = fault(ringfence.KindUnavailable, "no DHCPv6 server offers an address: "+why, "ask for options alone, if addresses come by router advertisements", nil)
	}
	return out, err
}

// Request takes an offer (section 18.2.2).
func (v *V6) Request(ctx context.Context, offered Answer) (Answer, error) {
	return v.lease(ctx, message6{kind: request6, server: offered.id, address: offered.Address.Addr()}, waits{first: time.Second, longest: 30 * time.Second, questions: 10}, offered)
}

// Renew asks the server of a lease to go on with it (section 18.2.4).
func (v *V6) Renew(ctx context.Context, a Answer) (Answer, error) {
	return v.lease(ctx, message6{kind: renew6, server: a.id, address: a.Address.Addr()}, waits{first: 10 * time.Second, longest: 10 * time.Minute}, a)
}

// Rebind asks any server to go on with a lease (section 18.2.5).
func (v *V6) Rebind(ctx context.Context, a Answer) (Answer, error) {
	m := message6{kind: rebind6, address: a.Address.Addr()}
	a.id = nil
	return v.lease(ctx, m, waits{first: 10 * time.Second, longest: 10 * time.Minute}, a)
}

func (v *V6) lease(ctx context.Context, m message6, w waits, before Answer) (out Answer, err error) {
	err = v.run(ctx, m, w, func(a Answer, kind byte, refused string) (bool, error) {
		switch {
		case kind != reply || before.id != nil && string(a.id) != string(before.id):
			return false, nil
		case refused != "":
			return false, fault(ringfence.KindDenied, "the server does not let the phone have "+before.Address.Addr().String()+": "+refused, "it asks for another address", nil)
		case a.Address.Addr() != before.Address.Addr():
			return false, nil
		}
		a.Kind = Leased
		out = a
		return true, errEnough
	})
	return out, err
}

// Release gives an address back (section 18.2.7), and waits a moment for the server to say so.
func (v *V6) Release(ctx context.Context, a Answer) error {
	return v.giveBack(ctx, release6, a)
}

// Decline says that somebody else has an address already (section 18.2.8).
func (v *V6) Decline(ctx context.Context, a Answer) error {
	return v.giveBack(ctx, decline6, a)
}

func (v *V6) giveBack(ctx context.Context, kind byte, a Answer) error {
	return v.run(ctx, message6{kind: kind, server: a.id, address: a.Address.Addr()}, waits{first: time.Second, longest: time.Second, questions: 2}, func(r Answer, kind byte, _ string) (bool, error) {
		if kind == reply && string(r.id) == string(a.id) {
			return true, errEnough
		}
		return false, nil
	})
}

// Keep holds a lease until ctx ends or the lease is over, and tells changed of each answer. It returns nil when ctx ends, else why the address must not be used any more.
func (v *V6) Keep(ctx context.Context, a Answer, changed func(Answer)) error {
	return keep(ctx, v, a, changed)
}
