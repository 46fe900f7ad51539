package dhcp

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"time"

	"ringfence"
)

// ARP (RFC 826), as it is asked whether an address is taken (RFC 5227 section 2.1.1).
const (
	EtherTypeARP = 0x0806
	arpRequest   = 1
	arpReply     = 2
	maxFrame     = 1600
	probes       = 3
	probeWait    = 300 * time.Millisecond // RFC 5227 waits longer, for links that are slow to start
	defendFor    = 10 * time.Second       // DEFEND_INTERVAL
)

// ARP is what a host of a link says of an address.
type ARP struct {
	Operation      uint16
	Sender, Target netip.Addr
	Hardware       [6]byte // of the sender
}

// ParseARP reads an Ethernet frame that carries ARP for IPv4.
func ParseARP(b []byte) (a ARP, err error) {
	if len(b) < 42 || len(b) > maxFrame || binary.BigEndian.Uint16(b[12:]) != EtherTypeARP || binary.BigEndian.Uint16(b[14:]) != 1 || binary.BigEndian.Uint16(b[16:]) != 0x0800 || b[18] != 6 || b[19] != 4 {
		return a, bad("this is no ARP of IPv4 on Ethernet")
	}
	a = ARP{Operation: binary.BigEndian.Uint16(b[20:]), Hardware: [6]byte(b[22:28]), Sender: netip.AddrFrom4([4]byte(b[28:32])), Target: netip.AddrFrom4([4]byte(b[38:42]))}
	if a.Operation != arpRequest && a.Operation != arpReply {
		return a, bad("this ARP neither asks nor answers")
	}
	return a, nil
}

// probe writes an ARP probe: who has the address, as from nobody, so that nobody learns a wrong one of it.
func probe(hardware [6]byte, address netip.Addr) []byte {
	b := append([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, hardware[:]...)
	b = append(b, 0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, arpRequest)
	b = append(append(b, hardware[:]...), 0, 0, 0, 0)
	b = append(append(b, 0, 0, 0, 0, 0, 0), address.AsSlice()...)
	return append(b, make([]byte, 60-len(b))...) // the shortest frame of Ethernet
}

// announcement says of an address that this host has it.
func announcement(hardware [6]byte, address netip.Addr) []byte {
	b := probe(hardware, address)
	copy(b[28:32], address.AsSlice())
	return b
}

// Defend watches over an address that the phone has until ctx ends (RFC 5227 section 2.4): when another host says that it has it as well, the phone says once that it is its own, and tell hears of it. If that host, or another, goes on
// within ten seconds, the address is given up: the error says who has it. link carries frames of ARP and is closed.
func (v *V4) Defend(ctx context.Context, link io.ReadWriteCloser, address netip.Addr, tell func(other net.HardwareAddr)) error {
	stop := context.AfterFunc(ctx, func() { _ = link.Close() })
	defer func() {
		if stop() {
			_ = link.Close()
		}
	}()
	var last time.Time
	b := make([]byte, maxFrame+1)
	for {
		n, err := link.Read(b)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fault(ringfence.KindUnavailable, "nobody watches over "+address.String()+" any more", "is the interface up?", err)
		}
		a, err := ParseARP(b[:n])
		if err != nil || a.Sender != address || a.Hardware == v.Hardware {
			continue
		}
		now, other := time.Now(), net.HardwareAddr(a.Hardware[:])
		if !last.IsZero() && now.Sub(last) < defendFor {
			return fault(ringfence.KindConflict, fmt.Sprintf("%s has %s as well, and goes on using it", other, address), "find it by its hardware address; it has the address by hand, or takes the phone's place on purpose", nil)
		}
		last = now
		tell(other)
		if _, err := link.Write(announcement(v.Hardware, address)); err != nil && ctx.Err() == nil {
			return fault(ringfence.KindUnavailable, "nobody watches over "+address.String()+" any more", "is the interface up?", err)
		}
	}
}

// Taken reports whether another host of the link has an IPv4 address, or is about to take it. link carries frames of ARP and is closed.
func (v *V4) Taken(ctx context.Context, link io.ReadWriteCloser, address netip.Addr) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, (probes+1)*probeWait)
	defer cancel()
	conflict := make(chan bool, 1)
	go func() {
		b := make([]byte, maxFrame+1)
		for {
			n, err := link.Read(b)
			if err != nil {
				conflict <- false
				return
			}
			a, err := ParseARP(b[:n])
			switch {
			case err != nil || a.Hardware == v.Hardware:
			case a.Sender == address, a.Operation == arpRequest && a.Sender.IsUnspecified() && a.Target == address:
				conflict <- true
				return
			}
		}
	}()
	tick := time.NewTicker(probeWait)
	defer tick.Stop()
	sent := 0
	for {
		if sent < probes {
			if _, err := link.Write(probe(v.Hardware, address)); err != nil {
				_ = link.Close()
				<-conflict
				return false, fault(ringfence.KindUnavailable, "it cannot be found out whether "+address.String()+" is taken", "is the interface up?", err)
			}
			sent++
		}
		select {
		case taken := <-conflict:
			_ = link.Close()
			return taken, nil
		case <-ctx.Done():
			_ = link.Close()
			return <-conflict, nil
		case <-tick.C:
		}
	}
}
