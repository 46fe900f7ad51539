package player

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"

	"ringfence"
	"ringfence/internal/media/codec"
	"ringfence/internal/media/relay"
	"ringfence/internal/media/rtp"
)

type hostOpener struct{}

func (hostOpener) Listen(context.Context, string, netip.AddrPort) (net.Listener, error) {
	return nil, errors.ErrUnsupported
}
func (hostOpener) Dial(context.Context, string, netip.AddrPort) (net.Conn, error) {
	return nil, errors.ErrUnsupported
}
func (hostOpener) ListenUDP(_ context.Context, _ string, a netip.AddrPort) (net.PacketConn, error) {
	return net.ListenUDP("udp", net.UDPAddrFromAddrPort(a))
}

// The whole way: a tone is played into a leg, sealed, sent, opened by a phone and heard there; what the phone says back is
// opened by the leg and recorded.
func TestToneOutAndVoiceIn(t *testing.T) {
	host := netip.MustParseAddr("127.0.0.1")
	e, err := relay.New(relay.Config{Opener: hostOpener{}, Flow: "media", Addr: host, Ports: ringfence.PortRange{First: 24000, Last: 24199}, DSCP: 46})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	leg, err := e.Open("ivr")
	if err != nil {
		t.Fatal(err)
	}
	phone, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(host, 0)))
	if err != nil {
		t.Fatal(err)
	}
	defer phone.Close()
	ours, _ := rtp.NewKeys(rtp.AEAD_AES_256_GCM)
	theirs, _ := rtp.NewKeys(rtp.AEAD_AES_256_GCM)
	open, _ := rtp.NewOpener(ours)
	seal, _ := rtp.NewSealer(theirs)
	if err := leg.SetLocalKeys(ours); err != nil {
		t.Fatal(err)
	}
	if err := leg.SetRemote(relay.RemoteParams{Addr: phone.LocalAddr().(*net.UDPAddr).AddrPort(), Mux: true, Keys: theirs}); err != nil {
		t.Fatal(err)
	}
	tone, err := NewTone(codec.PCMA, codec.ETSI().Dial, -13)
	if err != nil {
		t.Fatal(err)
	}
	if err := leg.Play(FormatOf(codec.PCMA, 8), tone, nil); err != nil {
		t.Fatal(err)
	}
	_ = phone.SetReadDeadline(time.Now().Add(5 * time.Second))
	var buf [1500]byte
	for range 5 {
		n, err := phone.Read(buf[:])
		if err != nil {
			t.Fatal(err)
		}
		b, err := open.RTP(nil, buf[:n])
		if err != nil {
			t.Fatal(err)
		}
		h, err := rtp.ParseHeader(b)
		if err != nil || h.PayloadType != 8 {
			t.Fatal(h, err)
		}
		if got := codec.Hear(codecOf(t, codec.PCMA).Decode(nil, b[h.Offset:]), 8000); !near(got, 425) {
			t.Fatalf("%+v", got)
		}
	}
	leg.Stop()

	rec, err := NewRecorder(codec.PCMA, 8, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	leg.Tap(rec.Hear)
	headers, payloads := talk(t, codec.PCMA, sine(1234, 8000, 4000), 77)
	for i, h := range headers {
		b, err := seal.RTP(nil, append(rtp.AppendHeader(nil, h), payloads[i]...))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := phone.WriteToUDPAddrPort(b, leg.Local()); err != nil {
			t.Fatal(err)
		}
	}
	deadline := time.After(5 * time.Second)
	for length := time.Duration(0); length < 500*time.Millisecond; length, _, _ = rec.Progress() {
		select {
		case <-deadline:
			t.Fatalf("recorded %v", length)
		case <-time.After(time.Millisecond):
		}
	}
	if s := rec.Sound(); !near(codec.Hear(s.Samples[2000:2160], 8000), 1234) {
		t.Fatalf("heard %+v", codec.Hear(s.Samples[2000:2160], 8000))
	}
	if m := leg.Close(); m.Suite != "AEAD_AES_256_GCM" || m.Rejected != 0 || m.PacketsIn != uint64(len(headers)) {
		t.Fatalf("%+v", m)
	}
}
