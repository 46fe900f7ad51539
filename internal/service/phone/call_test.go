package phone

import (
	"bytes"
	"context"
	"errors"
	"math"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"ringfence"
	"ringfence/internal/media/codec"
	"ringfence/internal/media/rtp"
	"ringfence/internal/sip/sdp"
)

// next returns the next event of a kind.
func next(t *testing.T, c *Call, kind CallEventKind) CallEvent {
	t.Helper()
	limit := time.After(20 * time.Second)
	for {
		select {
		case e := <-c.Events():
			if e.Kind == kind {
				return e
			}
		case <-limit:
			t.Fatalf("no event of kind %d", kind)
		}
	}
}

func TestHoldAndResumeFromBothSides(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		a, b := w.phone(t, "alice", 10), w.phone(t, "bob", 11)
		out, in := join(t, a, b, CallOptions{Audio: Tone(500)}, CallOptions{Audio: Tone(800)})
		ctx := ctxFor(t)
		pass(3 * time.Second)
		for _, side := range []struct{ holder, held *Call }{{out, in}, {in, out}} {
			if err := side.holder.Hold(ctx); err != nil {
				t.Fatal(err)
			}
			next(t, side.held, CallHeld)
			pass(3 * time.Second)
			if hz := side.holder.Audio().HeardHz; hz != 0 {
				t.Errorf("the holder hears %v", hz)
			}
			if !near(side.held.Audio().HeardHz, side.holder.Audio().SentHz) { // music on hold
				t.Errorf("the held hears %v", side.held.Audio())
			}
			quiet := side.held.Proof().Media.PacketsOut
			pass(time.Second)
			if now := side.held.Proof().Media.PacketsOut; now != quiet {
				t.Errorf("the held side sent %d packets", now-quiet)
			}
			if err := side.holder.Resume(ctx); err != nil {
				t.Fatal(err)
			}
			next(t, side.held, CallResumed)
			pass(3 * time.Second)
			if !near(out.Audio().HeardHz, 800) || !near(in.Audio().HeardHz, 500) {
				t.Errorf("after resume: %v %v", out.Audio(), in.Audio())
			}
		}
		// Both hold at once, and one after the other lets go.
		if err := out.Hold(ctx); err != nil {
			t.Fatal(err)
		}
		if err := in.Hold(ctx); err != nil {
			t.Fatal(err)
		}
		if err := out.Resume(ctx); err != nil {
			t.Fatal(err)
		}
		pass(3 * time.Second)
		if in.Audio().HeardHz != 0 || !near(out.Audio().HeardHz, 800) {
			t.Errorf("one holds: %v %v", out.Audio(), in.Audio())
		}
		if err := in.Resume(ctx); err != nil {
			t.Fatal(err)
		}
		pass(3 * time.Second)
		for _, c := range []*Call{out, in} {
			if c.Audio().HeardHz == 0 || c.Proof().Media.Rejected != 0 {
				t.Errorf("in the end: %v %+v", c.Audio(), c.Proof().Media)
			}
		}
		out.Hangup()
	})
}

// room is a source that is a microphone.
type room struct{ Source }

func (room) Live() {}

// Who is put on hold hears a sound that is for them, and never the room.
func TestNobodyOnHoldHearsTheMicrophone(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		a, b := w.phone(t, "alice", 10), w.phone(t, "bob", 11)
		out, in := join(t, a, b, CallOptions{Audio: room{Tone(500)}}, CallOptions{Audio: Tone(800)})
		for _, held := range []bool{false, true, false} {
			if err := map[bool]func(context.Context) error{true: out.Hold, false: out.Resume}[held](ctxFor(t)); err != nil {
				t.Fatal(err)
			}
			pass(3 * time.Second)
			if hz := in.Audio().HeardHz; held != (hz == 0) {
				t.Errorf("held: %v, and %v Hz are heard", held, hz)
			}
		}
		out.Hangup()
	})
}

func TestRekey(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		for _, suite := range rtp.Suites() {
			one := func(c *Config) { c.Suites = []rtp.Suite{suite} }
			a, b := w.phone(t, "alice", 10, one), w.phone(t, "bob", 11)
			out, in := join(t, a, b, CallOptions{Audio: Tone(500)}, CallOptions{Audio: Tone(800)})
			pass(2 * time.Second)
			before := out.sealedMedia().choice
			for _, c := range []*Call{out, in} {
				if err := c.Rekey(ctxFor(t)); err != nil {
					t.Fatal(err)
				}
				next(t, out, CallRekeyed)
				next(t, in, CallRekeyed)
				pass(8 * time.Second) // beyond the time in which the old key is still taken
			}
			after := out.sealedMedia().choice
			if before.Local.Inline == after.Local.Inline || before.Remote.Inline == after.Remote.Inline {
				t.Error("the keys are the same")
			}
			for _, c := range []*Call{out, in} {
				m := c.Proof().Media
				if m.Rejected != 0 || m.Lost != 0 || m.Suite != string(suite) || c.Audio().Concealed != 0 {
					t.Errorf("%s: %+v %+v", suite, m, c.Audio())
				}
			}
			if !near(out.Audio().HeardHz, 800) || !near(in.Audio().HeardHz, 500) {
				t.Errorf("%s: %v %v", suite, out.Audio(), in.Audio())
			}
			out.Hangup()
			_ = a.Close()
			_ = b.Close()
		}
	})
}

func TestDigits(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.net.SetShape(shaped(0.05)) // the end of an event is sent three times, its beginning five
		a, b := w.phone(t, "alice", 10), w.phone(t, "bob", 11)
		out, in := join(t, a, b, CallOptions{Audio: Tone(500)}, CallOptions{})
		if err := out.SendDigits("1x"); ringfence.KindOf(err) != ringfence.KindInvalid {
			t.Errorf("not a key: %v", err)
		}
		const keys = "0112358*#AD"
		if err := out.SendDigits(strings.ToLower(keys)); err != nil {
			t.Fatal(err)
		}
		pass(5 * time.Second)
		var got []rune
		for len(in.Digits()) > 0 {
			got = append(got, <-in.Digits())
		}
		if string(got) != keys {
			t.Errorf("got %q, want %q", string(got), keys)
		}
		out.Hangup()
	})
}

func TestPlainDescriptionsAreRefused(t *testing.T) {
	plain := func(body []byte) []byte {
		s, err := sdp.Parse(body)
		if err != nil {
			panic(err)
		}
		s.Media[0].Proto, s.Media[0].Crypto = "RTP/AVP", nil
		return s.Bytes()
	}
	weak := func(body []byte) []byte {
		return bytes.ReplaceAll(body, []byte("AEAD_AES_256_GCM"), []byte("AES_CM_128_HMAC_SHA1_32"))
	}
	for _, tc := range []struct {
		name    string
		change  func([]byte) []byte
		suites  []rtp.Suite
		warning string
	}{
		{"RTP/AVP", plain, nil, "plain RTP"},
		{"a suite that is too weak", weak, []rtp.Suite{rtp.AEAD_AES_256_GCM}, "a=crypto"},
		{"another suite than allowed", func(b []byte) []byte { return b }, []rtp.Suite{rtp.AES_CM_128_HMAC_SHA1_80}, "suite"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				w.changeIn = func(_ string, body []byte) []byte { return tc.change(body) }
				a := w.phone(t, "alice", 10, func(c *Config) { c.Suites = tc.suites })
				b := w.phone(t, "bob", 11, func(c *Config) { c.Suites = []rtp.Suite{rtp.AEAD_AES_256_GCM} })
				out, err := a.Call(ctxFor(t), "bob", CallOptions{})
				if err != nil {
					t.Fatal(err)
				}
				var r *RejectedError
				err = out.WaitAnswered(ctxFor(t))
				if !errors.As(err, &r) || r.Status != 488 || !strings.Contains(r.Warning, tc.warning) || ringfence.KindOf(err) != ringfence.KindInsecure {
					t.Errorf("got %v", err)
				}
				if pr := out.Proof(); pr.Verdict != ringfence.Refused || pr.Reason == "" || pr.Media != nil {
					t.Errorf("proof %+v", pr)
				}
				if len(b.Incoming()) != 0 || len(b.Calls()) != 0 {
					t.Error("it rang")
				}
			})
		})
	}
}

func TestPlainAnswerEndsTheCall(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		a := w.phone(t, "alice", 10)
		w.phone(t, "bob", 11)
		w.answerIn = func(body []byte) []byte {
			return bytes.Replace(body, []byte("RTP/SAVP"), []byte("RTP/AVP"), 1)
		}
		b := w.phone(t, "bob", 11)
		out, err := a.Call(ctxFor(t), "bob", CallOptions{})
		if err != nil {
			t.Fatal(err)
		}
		in := <-b.Incoming()
		if err := in.Answer(ctxFor(t), CallOptions{}); err != nil {
			t.Fatal(err)
		}
		if err := out.WaitAnswered(ctxFor(t)); ringfence.KindOf(err) != ringfence.KindInsecure {
			t.Errorf("caller: %v", err)
		}
		if err := in.WaitEnded(ctxFor(t)); ringfence.KindOf(err) != ringfence.KindInsecure {
			t.Errorf("callee: %v", err)
		}
		if pr := out.Proof(); pr.Verdict != ringfence.Refused {
			t.Errorf("proof %+v", pr)
		}
	})
}

// spy counts what leaves the media sockets of a host, and keeps one packet.
type spy struct {
	ringfence.Opener
	sent atomic.Int64
	last atomic.Pointer[[]byte]
}

type spied struct {
	net.PacketConn
	s *spy
}

func (s *spy) ListenUDP(ctx context.Context, flow string, a netip.AddrPort) (net.PacketConn, error) {
	pc, err := s.Opener.ListenUDP(ctx, flow, a)
	return spied{pc, s}, err
}

func (p spied) WriteTo(b []byte, to net.Addr) (int, error) {
	p.s.sent.Add(1)
	kept := bytes.Clone(b)
	p.s.last.Store(&kept)
	return p.PacketConn.WriteTo(b, to)
}

func TestNothingIsSentWithoutKeysAndNothingIsClear(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		var sa, sb spy
		watch := func(s *spy) func(*Config) {
			return func(c *Config) { s.Opener = c.Opener; c.Opener = s }
		}
		a, b := w.phone(t, "alice", 10, watch(&sa)), w.phone(t, "bob", 11, watch(&sb))
		out, err := a.Call(ctxFor(t), "bob", CallOptions{Audio: Tone(440)})
		if err != nil {
			t.Fatal(err)
		}
		in := <-b.Incoming()
		pass(30 * time.Second)
		if sa.sent.Load()+sb.sent.Load() != 0 || out.Proof().Media != nil {
			t.Fatalf("%d and %d packets left before there were keys", sa.sent.Load(), sb.sent.Load())
		}
		if err := in.Answer(ctxFor(t), CallOptions{Audio: Silence()}); err != nil {
			t.Fatal(err)
		}
		pass(2 * time.Second)
		// What bob says is silence, whose clear payload would be one octet repeated.
		p := *sb.last.Load()
		if h, err := rtp.ParseHeader(p); err != nil || len(p) != h.Offset+160+16 || bytes.Count(p[h.Offset:], p[h.Offset:h.Offset+1]) > 20 {
			t.Errorf("this packet looks clear: %v %x", err, p)
		}
		out.Hangup()
		synctest.Wait()
	})
}

func TestForgedPacketsAreCountedAndNotHeard(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		var s spy
		a := w.phone(t, "alice", 10, func(c *Config) { s.Opener = c.Opener; c.Opener = &s })
		b := w.phone(t, "bob", 11)
		out, in := join(t, a, b, CallOptions{Audio: Tone(440)}, CallOptions{})
		pass(2 * time.Second)
		target := net.UDPAddrFromAddrPort(in.sealedMedia().addr)
		eve, err := w.net.Host(netip.MustParseAddr("192.0.2.66")).ListenUDP(ctxFor(t), "eve", netip.MustParseAddrPort("192.0.2.66:0"))
		if err != nil {
			t.Fatal(err)
		}
		defer eve.Close()
		before := in.Proof().Media
		replay := *s.last.Load()
		pass(100 * time.Millisecond)
		clear := rtp.AppendHeader(nil, rtp.Header{PayloadType: 0, Sequence: 7, SSRC: 1})
		clear = append(clear, make([]byte, 160)...)
		forged := bytes.Clone(replay)
		forged[len(forged)-1] ^= 1
		report := rtp.AppendReport(nil, 1, nil)
		for _, p := range [][]byte{clear, forged, replay, report, {1, 2, 3}} {
			if _, err := eve.WriteTo(p, target); err != nil {
				t.Fatal(err)
			}
		}
		pass(2 * time.Second)
		after := in.Proof().Media
		if after.Rejected-before.Rejected != 5 || after.Lost != 0 || !near(in.Audio().HeardHz, 440) {
			t.Errorf("before %+v after %+v %v", before, after, in.Audio())
		}
		if after.PacketsIn-before.PacketsIn > 106 {
			t.Errorf("forged packets were taken: %d", after.PacketsIn-before.PacketsIn)
		}
		out.Hangup()
	})
}

func TestCodecsAndSounds(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		for _, name := range []codec.Name{codec.PCMA, codec.G722, codec.PCMU, codec.Opus} {
			a := w.phone(t, "alice", 10, func(c *Config) { c.Codecs = []codec.Name{name} })
			b := w.phone(t, "bob", 11)
			sound := codec.Sound{Rate: 44100, Samples: make([]int16, 44100)}
			codec.NewTone(codec.Signal{Hz: []float64{700}}, 44100, -10).Read(sound.Samples)
			file, err := sound.WAV()
			if err != nil {
				t.Fatal(err)
			}
			once, err := PlayWAV(file, false)
			if err != nil {
				t.Fatal(err)
			}
			rec := NewRecorder(1)
			out, in := join(t, a, b, CallOptions{Audio: once}, CallOptions{Audio: Tone(1200), Hear: rec})
			<-once.Done()
			if !near(in.Audio().HeardHz, 700) {
				t.Errorf("%s: heard %v", name, in.Audio())
			}
			pass(2 * time.Second)
			if hz := in.Audio().HeardHz; hz != 0 {
				t.Errorf("%s: the sound is over, but %v is heard", name, hz)
			}
			if !near(out.Audio().HeardHz, 1200) {
				t.Errorf("%s: heard %v", name, out.Audio())
			}
			if s := rec.Sound(); len(s.Samples) != s.Rate {
				t.Errorf("%s: recorded %d samples at %d", name, len(s.Samples), s.Rate)
			}
			out.Hangup()
			_ = a.Close()
			_ = b.Close()
		}
	})
}

// Who answers with all codecs hears each of them, whenever the far end changes.
func TestAnswerWithAllCodecs(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		a, b := w.phone(t, "alice", 10), w.phone(t, "bob", 11, func(c *Config) { c.AnswerAll = true })
		out, in := join(t, a, b, CallOptions{Audio: Tone(500)}, CallOptions{Audio: Tone(800)})
		m := out.sealedMedia()
		if len(m.choice.Others) != 3 || len(in.sealedMedia().choice.Others) != 3 {
			t.Fatalf("agreed on %+v and %+v", m.choice, m.choice.Others)
		}
		for i := range m.choice.Others {
			pass(2 * time.Second)
			if !near(in.Audio().HeardHz, 500) || !near(out.Audio().HeardHz, 800) {
				t.Errorf("%s: %v %v", m.choice.Codec.Name, in.Audio(), out.Audio())
			}
			m.mu.Lock() // alice changes to the next codec, without a word
			m.choice.Codec, m.choice.Others[i] = m.choice.Others[i], m.choice.Codec
			m.codec, _ = codec.NewFor(codec.Name(m.choice.Codec.Name), m.choice.Codec.FMTP)
			m.mu.Unlock()
		}
		pass(2 * time.Second)
		if !near(in.Audio().HeardHz, 500) {
			t.Errorf("in the end: %v", in.Audio())
		}
		out.Hangup()
	})
}

// A far end may put less into a packet than 20 ms, or more; the tone has no gap in it all the same.
func TestPacketsOfOtherLengths(t *testing.T) {
	for _, ms := range []int{10, 20, 30, 60} {
		m := &media{jitter: rtp.NewJitterBuffer(), receiver: rtp.NewReceiver(8000), decoders: map[uint8]codec.Codec{}}
		m.listen(sdp.PCMU())
		enc, err := codec.New(codec.PCMU)
		if err != nil {
			t.Fatal(err)
		}
		said, at := make([]int16, 8000), 0
		codec.NewTone(codec.Signal{Hz: []float64{500}}, 8000, -13).Read(said)
		var f frames
		var heard []int16
		for tick := range 50 {
			for ; at*ms < (tick+1)*20; at++ { // what has come by now
				m.jitter.Push(&rtp.Header{Sequence: uint16(at)}, enc.Encode(nil, said[at*ms*8%6400:][:ms*8]))
			}
			m.play(&f, 8000)
			heard = append(heard, f.heard...)
		}
		tail := heard[len(heard)-4000:]
		for i := 0; i+160 <= len(tail); i += 80 {
			if h := codec.Hear(tail[i:i+160], 8000); !near(h.Hz, 500) || h.Confidence < 0.9 {
				t.Fatalf("%d ms a packet: at %d %+v", ms, i, h)
			}
		}
	}
}

// Of every seventh packet of Opus, which is lost, there is a second copy in the next one, and it is that which is played: the decoder's own guess of a voice that
// changes is far from it.
func TestSecondCopyIsPlayed(t *testing.T) {
	enc, err := codec.NewFor(codec.Opus, opusFormat)
	if err != nil {
		t.Fatal(err)
	}
	said := make([]int16, 16000)
	for i := range said { // a pitch that moves, in syllables
		at := float64(i) / 16000
		said[i] = int16(9000 * math.Sin(2*math.Pi*(300*at+40*math.Sin(2*math.Pi*3*at))) * (0.55 - 0.45*math.Cos(2*math.Pi*6*at)))
	}
	var packets [][]byte
	for at := 0; at < len(said); at += 320 {
		packets = append(packets, enc.Encode(nil, said[at:at+320]))
	}
	play := func(lost func(int) bool) (heard []int16) {
		m := &media{jitter: rtp.NewJitterBuffer(), receiver: rtp.NewReceiver(48000), decoders: map[uint8]codec.Codec{}}
		m.listen(sdp.Opus(111))
		var f frames
		for i, p := range packets {
			if !lost(i) {
				m.jitter.Push(&rtp.Header{Sequence: uint16(i)}, p)
			}
			if i > 1 {
				m.play(&f, 16000)
				heard = append(heard, f.heard...)
			}
		}
		if _, missing := m.jitter.Trouble(); (missing > 0) != lost(5) {
			t.Errorf("%d frames are missing", missing)
		}
		return heard
	}
	noise := func(a, b []int16) (n float64) {
		for i := range min(len(a), len(b)) {
			n += math.Pow(float64(a[i])-float64(b[i]), 2)
		}
		return n
	}
	none := func(int) bool { return false }
	some := func(i int) bool { return i%7 == 5 }
	whole := play(none)
	power, with := noise(whole, make([]int16, len(whole))), noise(whole, play(some))
	if with > power/10 {
		t.Errorf("the second copies are off by %.3f of the sound", with/power)
	}
}

func TestLossyNetworkLowersTheScore(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		a, b := w.phone(t, "alice", 10), w.phone(t, "bob", 11)
		out, in := join(t, a, b, CallOptions{Audio: Tone(440)}, CallOptions{Audio: Tone(880)})
		pass(10 * time.Second)
		good := in.Proof().Media.MOS
		w.net.SetShape(shaped(0.2))
		pass(20 * time.Second)
		bad := in.Proof().Media
		if good < 4.3 || bad.MOS > 3.7 || bad.Lost < 100 || !near(in.Audio().HeardHz, 440) || in.Audio().Concealed < 50 {
			t.Errorf("%v, then %+v %v", good, bad, in.Audio())
		}
		out.Hangup()
	})
}

func TestRedirect(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		a, b, c := w.phone(t, "alice", 10), w.phone(t, "bob", 11), w.phone(t, "carol", 12)
		ctx := ctxFor(t)
		out, err := a.Call(ctx, "bob", CallOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if err := (<-b.Incoming()).Redirect("carol"); err != nil {
			t.Fatal(err)
		}
		in := <-c.Incoming()
		if err := in.Answer(ctx, CallOptions{}); err != nil {
			t.Fatal(err)
		}
		if err := out.WaitAnswered(ctx); err != nil {
			t.Fatal(err)
		}
		out.Hangup()
		w.redirect["x"], w.redirect["y"] = "sip:y@example.test", "sip:x@example.test"
		out, err = a.Call(ctx, "x", CallOptions{})
		if err != nil {
			t.Fatal(err)
		}
		var r *RejectedError
		if err := out.WaitAnswered(ctx); !errors.As(err, &r) || r.Status != 302 {
			t.Errorf("a circle of redirections: %v", err)
		}
	})
}

func TestTransfers(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		music := func(hz float64) func(*Config) {
			return func(c *Config) { c.Audio = func(*Call) (Source, Sink) { return Tone(hz), nil } }
		}
		a, b, c := w.phone(t, "alice", 10, music(400)), w.phone(t, "bob", 11, music(600)), w.phone(t, "carol", 12, music(900))
		ctx := ctxFor(t)

		// Blind: bob, who was called by alice, is sent on to carol.
		out, in := join(t, a, b, CallOptions{}, CallOptions{})
		result := make(chan error, 1)
		go func() { result <- out.BlindTransfer(ctx, "carol") }()
		ring := <-c.Incoming()
		if err := ring.Answer(ctx, CallOptions{}); err != nil {
			t.Fatal(err)
		}
		if err := <-result; err != nil {
			t.Fatal(err)
		}
		if next(t, out, TransferProgress).Status != 100 || next(t, out, TransferProgress).Status != 200 {
			t.Error("no progress was reported")
		}
		if err := in.WaitEnded(ctx); err != nil {
			t.Error(err)
		}
		pass(3 * time.Second)
		if !near(ring.Audio().HeardHz, 600) {
			t.Errorf("carol hears %v", ring.Audio())
		}
		ring.Hangup()
		synctest.Wait()

		// A target that refuses leaves the call as it was.
		out, in = join(t, a, b, CallOptions{}, CallOptions{})
		go func() { result <- out.BlindTransfer(ctx, "nobody") }()
		var r *RejectedError
		if err := <-result; !errors.As(err, &r) || r.Status != 404 {
			t.Errorf("transfer to nobody: %v", err)
		}
		if s, _ := in.State(); s != Up {
			t.Errorf("the call is %v", s)
		}

		// Attended: alice has bob and carol, and joins them.
		second, far := join(t, a, c, CallOptions{}, CallOptions{})
		if err := out.AttendedTransfer(ctx, second); err != nil {
			t.Fatal(err)
		}
		for _, old := range []*Call{out, in, second, far} {
			if err := old.WaitEnded(ctx); err != nil {
				t.Error(err)
			}
		}
		pass(3 * time.Second)
		bobs, carols := b.Calls(), c.Calls()
		if len(a.Calls()) != 0 || len(bobs) != 1 || len(carols) != 1 || !near(bobs[0].Audio().HeardHz, 900) || !near(carols[0].Audio().HeardHz, 600) {
			t.Errorf("after the transfer: %d %d %d calls", len(a.Calls()), len(bobs), len(carols))
		}
	})
}

func TestManyCallsAtOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		auto := func(c *Config) {
			c.MaxCalls = 4
			c.Auto = func(ctx context.Context, call *Call) { _ = call.Answer(ctx, CallOptions{}) }
		}
		a, b := w.phone(t, "alice", 10, func(c *Config) { c.MaxCalls = 10 }), w.phone(t, "bob", 11, auto)
		ctx := ctxFor(t)
		for range 4 {
			c, err := a.Call(ctx, "bob", CallOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if err := c.WaitAnswered(ctx); err != nil {
				t.Fatal(err)
			}
		}
		c, err := a.Call(ctx, "bob", CallOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if err := c.WaitAnswered(ctx); ringfence.KindOf(err) != ringfence.KindBusy {
			t.Errorf("the fifth call: %v", err)
		}
		if len(b.Calls()) != 4 {
			t.Errorf("%d calls", len(b.Calls()))
		}
	})
}

func TestNobodyAnswers(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		a, b := w.phone(t, "alice", 10), w.phone(t, "bob", 11)
		out, err := a.Call(ctxFor(t), "bob", CallOptions{RingTime: 20 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		if err := out.WaitEnded(ctxFor(t)); ringfence.KindOf(err) != ringfence.KindTimeout {
			t.Errorf("caller: %v", err)
		}
		in := <-b.Incoming()
		pass(time.Second)
		if err := in.Answer(ctxFor(t), CallOptions{}); ringfence.KindOf(err) != ringfence.KindCancelled {
			t.Errorf("answering too late: %v", err)
		}
	})
}

func TestSessionTimerKeepsALongCallAndEndsADeadOne(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		stack := NewStack(StackConfig{Opener: w.net.Host(netip.MustParseAddr("192.0.2.10")), SessionExpires: 90 * time.Second})
		defer stack.Close()
		a, err := stack.Open(ctxFor(t), w.cfg("alice", 10))
		if err != nil {
			t.Fatal(err)
		}
		b := w.phone(t, "bob", 11)
		out, in := join(t, a, b, CallOptions{}, CallOptions{})
		pass(4 * time.Minute) // beyond two session intervals
		for _, c := range []*Call{out, in} {
			if s, err := c.State(); s != Up {
				t.Fatalf("%v %v", s, err)
			}
		}
		w.net.Blackhole(netip.MustParseAddr("192.0.2.10"), netip.MustParseAddr(switchAddr))
		pass(4 * time.Minute)
		if s, _ := in.State(); s != Ended {
			t.Errorf("the far end is gone, but the call is %v", s)
		}
	})
}
