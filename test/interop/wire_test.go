package interop_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"ringfence/internal/media/codec"
	"ringfence/internal/service/phone"
	"ringfence/internal/testkit"
)

// tshark runs tshark over a capture and returns what it prints.
func (s *site) tshark(file string, args ...string) string {
	s.Helper()
	ctx, cancel := context.WithCancel(s.Ctx)
	defer cancel()
	var errs bytes.Buffer
	cmd := exec.CommandContext(ctx, testkit.Need(s.T, "tshark", "tshark"), append([]string{"-n", "-r", file}, args...)...)
	cmd.Env = append(os.Environ(), "HOME="+s.home)
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		s.Fatalf("tshark %v: %v\n%s", args, err, errs.String())
	}
	return string(out)
}

// Whoever listens on the wire learns nothing: no SIP, no voice. The tones of this call are steady and G.711 is not compressed, so
// the payload of each plain packet would be known in advance.
func TestNothingPlainOnTheWire(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	first, last := s.Node.Config.Media.First, s.Node.Config.Media.Last
	s.User("alice", "101")
	s.User("bob", "102")
	file := s.path("wire.pcap")
	tap := start(t, s.home, testkit.Need(t, "dumpcap", "wireshark-common"), "-q", "-i", "lo", "-P", "-w", file, "-f",
		fmt.Sprintf("tcp port %s or udp portrange %d-%d", s.port(), first, last))
	tap.wait(s.Ctx, `Capturing on`)
	tap.wait(s.Ctx, `File: `)

	only := func(c *phone.Config) { c.Codecs = []codec.Name{codec.PCMU} }
	alice, bob := s.Phone("alice", only), s.Phone("bob", only)
	out, err := alice.Call(s.Ctx, "102", phone.CallOptions{Audio: phone.Tone(1000)})
	s.OK(err)
	in := s.Incoming(bob)
	s.OK(in.Answer(s.Ctx, phone.CallOptions{Audio: phone.Tone(2000)}))
	s.Hears(in, 1000)
	s.Hears(out, 2000)
	s.sealed("AEAD_AES_256_GCM", "AEAD_AES_256_GCM")
	s.Until("each side has heard 150 packets", func() bool {
		return out.Proof().Media.PacketsIn > 150 && in.Proof().Media.PacketsIn > 150
	})
	out.Hangup()
	s.OK(in.WaitEnded(s.Ctx))
	s.over()
	_ = tap.cmd.Process.Signal(os.Interrupt)
	tap.finish(s.Ctx)

	// No SIP.
	raw, err := os.ReadFile(file)
	s.OK(err)
	for _, plain := range []string{"SIP/2.0", "INVITE ", "a=crypto", "inline:", "alice", "m=audio"} {
		if bytes.Contains(raw, []byte(plain)) {
			t.Errorf("%q is on the wire", plain)
		}
	}
	tcp := "tcp.port==" + s.port()
	if got := s.tshark(file, "-d", tcp+",tls", "-Y", tcp+" && sip"); got != "" {
		t.Errorf("tshark reads SIP:\n%s", got)
	}
	if got := s.tshark(file, "-d", tcp+",tls", "-Y", tcp+" && tls.handshake.type==2", "-T", "fields", "-e", "tls.handshake.extensions.supported_version"); !strings.Contains(got, "0x0304") {
		t.Errorf("no TLS 1.3 handshake was seen: %q", got)
	}

	// No voice: every payload of the media ports is SRTP of the right size that does not contain the tone.
	fields := []string{"-d", fmt.Sprintf("udp.port==%d-%d,rtp", first, last), "-Y", "rtp.p_type==0", "-T", "fields", "-e", "ip.dsfield.dscp", "-e", "rtp.payload"}
	lines := strings.Split(strings.TrimSpace(s.tshark(file, fields...)), "\n")
	if len(lines) < 400 { // two legs, two directions
		t.Fatalf("%d media packets were captured", len(lines))
	}
	hears := func(payload []byte) codec.Heard {
		dec, err := codec.New(codec.PCMU)
		s.OK(err)
		return codec.Hear(dec.Decode(nil, payload[:min(len(payload), 160)]), 8000)
	}
	enc, err := codec.New(codec.PCMU)
	s.OK(err)
	frame := make([]int16, 160)
	codec.NewTone(codec.Signal{Hz: []float64{1000}}, 8000, -10).Read(frame)
	if h := hears(enc.Encode(nil, frame)); !near(h.Hz, 1000) || h.Confidence < 0.9 {
		t.Fatalf("this test could not find the tone in a plain packet: %+v", h)
	}
	for _, line := range lines {
		f := strings.Split(line, "\t")
		if len(f) != 2 || f[0] != "46" {
			t.Fatalf("DSCP is not 46: %q", line)
		}
		payload := unhex(t, f[1])
		if len(payload) != 160+16 {
			t.Errorf("%d octets of payload, want 160 and a tag of 16", len(payload))
		}
		if h := hears(payload); h.Confidence > 0.6 && (near(h.Hz, 1000) || near(h.Hz, 2000)) {
			t.Errorf("the tone can be heard on the wire: %+v", h)
		}
	}
}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	s = regexp.MustCompile(`[^0-9a-f]`).ReplaceAllString(s, "")
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
