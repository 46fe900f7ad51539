package relay

import (
	"net"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"ringfence"
	"ringfence/internal/media/rtp"
)

// clear is a clear RTP packet.
func clearPacket(seq uint16, payload string) []byte {
	b := rtp.AppendHeader(nil, rtp.Header{PayloadType: 0, Sequence: seq, Timestamp: uint32(seq) * 160, SSRC: 77})
	return append(b, payload...)
}

// hears reads one datagram, or nothing within a second of virtual time.
func hears(c net.PacketConn) []byte {
	buf := make([]byte, 2048)
	_ = c.SetReadDeadline(time.Now().Add(time.Second))
	n, _, err := c.ReadFrom(buf)
	if err != nil {
		return nil
	}
	return buf[:n]
}

// A leg with an exception takes clear packets from where its peer said, and only there; the other leg stays sealed.
func TestPlainLeg(t *testing.T) {
	virtual(t, somePorts(), func(t *testing.T, e *Engine, listen func() net.PacketConn) {
		b := newPhone(t, e, "sealed-leg", rtp.AEAD_AES_256_GCM, listen)
		leg, err := e.Open("plain-leg")
		if err != nil {
			t.Fatal(err)
		}
		if err := leg.SetPlain(""); ringfence.KindOf(err) != ringfence.KindInsecure || leg.Plain() != "" {
			t.Fatalf("plain without an exception: %v, %q", err, leg.Plain())
		}
		const reason = "exception of device door-1"
		if err := leg.SetPlain(reason); err != nil {
			t.Fatal(err)
		}
		mine, stranger := listen(), listen()
		at, _ := addrPort(mine.LocalAddr())
		if err := leg.SetRemote(RemoteParams{Addr: at, Mux: true}); err != nil {
			t.Fatal(err)
		}
		if err := e.Join(leg, b.leg); err != nil {
			t.Fatal(err)
		}
		to := net.UDPAddrFromAddrPort(leg.Local())
		_, _ = stranger.WriteTo(clearPacket(1, "forged"), to)
		_, _ = mine.WriteTo(clearPacket(2, "door bell"), to)
		if _, got := b.hear(); got != "door bell" {
			t.Errorf("the sealed side heard %q", got)
		}
		b.send(b.sealed("come in"))
		if got := hears(mine); string(got[12:]) != "come in" {
			t.Errorf("the plain side got %q", got)
		}
		_, _ = stranger.WriteTo(clearPacket(3, "forged"), to)
		synctest.Wait()
		if got := hears(stranger); got != nil {
			t.Errorf("media went to a stranger: %q", got)
		}
		if m := leg.Stats(); m.Suite != "" || m.PacketsIn != 1 || m.Rejected != 2 || m.PacketsOut != 1 {
			t.Errorf("stats: %+v", m)
		}
		if leg.Plain() != reason || b.leg.Plain() != "" || b.leg.Stats().Suite != string(rtp.AEAD_AES_256_GCM) {
			t.Errorf("plain %q and %q, suite %q", leg.Plain(), b.leg.Plain(), b.leg.Stats().Suite)
		}

		// Sealed again, the leg takes nothing in the clear any more.
		keys := newKeys(t, rtp.AEAD_AES_256_GCM)
		if err := leg.SetLocalKeys(keys); err != nil {
			t.Fatal(err)
		}
		if err := leg.SetRemote(RemoteParams{Addr: at, Mux: true, Keys: newKeys(t, rtp.AEAD_AES_256_GCM)}); err != nil {
			t.Fatal(err)
		}
		_, _ = mine.WriteTo(clearPacket(4, "still plain"), to)
		b.send(b.sealed("secret"))
		if got := hears(mine); len(got) <= 12 || string(got[12:]) == "secret" {
			t.Errorf("a sealed leg sent %q", got)
		}
		if m := leg.Stats(); m.PacketsIn != 1 || leg.Plain() != "" {
			t.Errorf("a sealed leg took a clear packet: %+v, plain %q", m, leg.Plain())
		}
	})
}

// Behind a NAT the first packet tells the port, if it comes from the signalling's address, and the place never changes again.
func TestPlainBehindNAT(t *testing.T) {
	virtual(t, somePorts(), func(t *testing.T, e *Engine, listen func() net.PacketConn) {
		leg, err := e.Open("nat-leg")
		if err != nil {
			t.Fatal(err)
		}
		if err := leg.SetPlain("exception"); err != nil {
			t.Fatal(err)
		}
		first, second := listen(), listen()
		outside, _ := addrPort(first.LocalAddr())
		private := netip.MustParseAddrPort("10.0.0.7:4000")
		to := net.UDPAddrFromAddrPort(leg.Local())
		try := func(from net.PacketConn, want uint64) {
			t.Helper()
			_, _ = from.WriteTo(clearPacket(9, "x"), to)
			synctest.Wait()
			if m := leg.Stats(); m.PacketsIn != want {
				t.Errorf("%d packets were taken, want %d", m.PacketsIn, want)
			}
		}
		for _, signalling := range []netip.Addr{{}, netip.MustParseAddr("198.51.100.1")} {
			if err := leg.SetRemote(RemoteParams{Addr: private, Signalling: signalling}); err != nil {
				t.Fatal(err)
			}
			try(first, 0)
		}
		r := RemoteParams{Addr: private, Signalling: outside.Addr()}
		if err := leg.SetRemote(r); err != nil {
			t.Fatal(err)
		}
		try(first, 1)
		try(second, 1)
		try(second, 1)
		if leg.Peer() != outside {
			t.Errorf("media goes to %s, want %s", leg.Peer(), outside)
		}
		if err := leg.SetRemote(r); err != nil { // the same description again proves nothing new
			t.Fatal(err)
		}
		try(second, 1)
		try(first, 2)
	})
}
