package phone

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"ringfence/internal/media/rtp"
)

// kept is a socket that keeps what was sent.
type kept struct {
	net.PacketConn
	sent [][]byte
}

func (k *kept) WriteTo(b []byte, _ net.Addr) (int, error) {
	k.sent = append(k.sent, append([]byte(nil), b...))
	return len(b), nil
}

func (k *kept) Close() error { return nil }

// TestTheLastReportTellsOfTheVoice ends a session that heard three of four packets: its goodbye says how that sounded.
func TestTheLastReportTellsOfTheVoice(t *testing.T) {
	m := fuzzMedia(t)
	keys, err := rtp.NewKeys(rtp.AEAD_AES_256_GCM)
	if err != nil {
		t.Fatal(err)
	}
	if m.sealer, err = rtp.NewSealer(keys); err != nil {
		t.Fatal(err)
	}
	opener, err := rtp.NewOpener(keys)
	if err != nil {
		t.Fatal(err)
	}
	socket := &kept{}
	m.pc, m.stop, m.ssrc, m.packets, m.trip = socket, make(chan struct{}), 0xAA, 1, 50*time.Millisecond
	m.choice.RTCP = netip.MustParseAddrPort("192.0.2.1:4001")
	for _, seq := range []uint16{10, 11, 13} {
		m.receiver.Packet(&rtp.Header{Sequence: seq, SSRC: 0xBB}, time.Duration(seq)*frameTime)
	}
	m.close()
	if len(socket.sent) != 1 {
		t.Fatalf("%d packets", len(socket.sent))
	}
	b, err := opener.RTCP(nil, socket.sent[0])
	if err != nil {
		t.Fatal(err)
	}
	var c rtp.Control
	if err := rtp.ParseRTCP(b, &c); err != nil {
		t.Fatal(err)
	}
	if v := c.Voice; !c.HasVoice || v.SSRC != 0xBB || v.Loss != 64 || v.RoundTrip != 50 || v.R == 0 || v.R > 60 || v.MOSLQ < 10 || v.MOSLQ > 35 || v.MOSCQ > v.MOSLQ {
		t.Errorf("%+v", c)
	}
}
