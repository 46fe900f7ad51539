package rtp

import (
	"errors"
	"testing"
	"time"

	"github.com/pion/rtcp"
)

func compound() []byte {
	s := &Sender{NTP: 0x0102030405060708, Timestamp: 77, Packets: 5, Octets: 800}
	b := AppendReport(nil, 0xAA, s, Block{SSRC: 0xBB, Fraction: 64, Lost: -3, Highest: 70000, Jitter: 12, LastSR: 9, Delay: 10})
	b = AppendName(b, 0xAA, "node-1")
	b = AppendVoice(b, 0xAA, VoIPMetrics{SSRC: 0xBB, Loss: 3, Discard: 4, RoundTrip: 50, EndSystem: 60, R: 90, MOSLQ: 43, MOSCQ: 42, JitterNow: 40, JitterPeak: 80})
	return AppendBye(b, 0xAA)
}

func TestRTCPRoundTripAndOracle(t *testing.T) {
	b := compound()
	var c Control
	if err := ParseRTCP(b, &c); err != nil {
		t.Fatal(err)
	}
	if c.SSRC != 0xAA || !c.IsSender || c.Sender.NTP != 0x0102030405060708 || c.Sender.Octets != 800 || c.Count != 1 || !c.Bye {
		t.Fatalf("%+v", c)
	}
	if r := c.Blocks[0]; r.Lost != -3 || r.Fraction != 64 || r.Highest != 70000 || r.Delay != 10 {
		t.Fatalf("%+v", r)
	}
	if !c.HasVoice || c.Voice != (VoIPMetrics{SSRC: 0xBB, Loss: 3, Discard: 4, RoundTrip: 50, EndSystem: 60, R: 90, MOSLQ: 43, MOSCQ: 42, JitterNow: 40, JitterPeak: 80}) {
		t.Fatalf("%+v", c.Voice)
	}
	// an independent parser reads the same
	pkts, err := rtcp.Unmarshal(b)
	if err != nil || len(pkts) != 4 {
		t.Fatalf("%v %v", pkts, err)
	}
	if sr := pkts[0].(*rtcp.SenderReport); sr.NTPTime != 0x0102030405060708 || sr.Reports[0].LastSequenceNumber != 70000 {
		t.Fatalf("%+v", sr)
	}
	if sd := pkts[1].(*rtcp.SourceDescription); sd.Chunks[0].Items[0].Text != "node-1" {
		t.Fatalf("%+v", sd)
	}
	vm := pkts[2].(*rtcp.ExtendedReport).Reports[0].(*rtcp.VoIPMetricsReportBlock)
	if vm.MOSCQ != 42 || vm.RoundTripDelay != 50 || vm.RFactor != 90 || vm.JBMaximum != 80 {
		t.Fatalf("%+v", vm)
	}
	if err := ParseRTCP(AppendReport(nil, 1, nil), &c); err != nil || c.IsSender || c.Count != 0 {
		t.Fatalf("an empty receiver report: %v", err)
	}
}

func TestRTCPRefusals(t *testing.T) {
	b := compound()
	var c Control
	for n := 1; n < len(b); n++ {
		switch n { // where a packet of the compound ends, the rest is a shorter compound
		case 52, 52 + 20, 52 + 20 + 44:
			continue
		}
		if err := ParseRTCP(b[:n], &c); err == nil {
			t.Fatalf("accepted the first %d of %d octets", n, len(b))
		}
	}
	if err := ParseRTCP(AppendBye(nil, 1), &c); !errors.Is(err, ErrRTCPFirst) {
		t.Fatal(err)
	}
}

func TestRoundTrip(t *testing.T) {
	sent := time.Date(2026, 1, 2, 3, 4, 5, 6e6, time.UTC)
	b := Block{LastSR: uint32(NTP(sent) >> 16), Delay: 65536 / 2}
	if d, ok := RoundTrip(sent.Add(580*time.Millisecond), b); !ok || d < 79*time.Millisecond || d > 81*time.Millisecond {
		t.Fatal(d, ok)
	}
	if _, ok := RoundTrip(sent, b); ok {
		t.Fatal("an answer from before the question")
	}
	if _, ok := RoundTrip(sent, Block{}); ok {
		t.Fatal("no report was answered")
	}
}

func FuzzRTCP(f *testing.F) {
	f.Add(compound())
	f.Add(AppendReport(nil, 1, nil, Block{}, Block{}))
	f.Add([]byte{0x9f, 200, 0, 6, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		var c Control
		if ParseRTCP(b, &c) == nil && (c.Count > 31 || len(b)%4 != 0) {
			t.Fatalf("%d blocks in %d octets", c.Count, len(b))
		}
	})
}

func TestEvents(t *testing.T) {
	for i, key := range digits {
		src, ok := NewDigitSource(key, 100*time.Millisecond, 8000)
		if !ok {
			t.Fatal(key)
		}
		var buf [16]byte
		var ends, count int
		for {
			n, first := src.Next(buf[:])
			if n == 0 {
				break
			}
			e, err := ParseEvent(buf[:n])
			if err != nil || int(e.Code) != i || first != (count == 0) || e.Duration != uint16(160*min(count+1, 5)) {
				t.Fatalf("packet %d: %+v %v", count, e, err)
			}
			if got, ok := e.Digit(); !ok || got != key {
				t.Fatalf("%c became %c", key, got)
			}
			if e.End {
				ends++
			}
			count++
		}
		if ends != 3 || count != 8 {
			t.Fatalf("%d packets, %d of them ends", count, ends)
		}
	}
	if _, ok := NewDigitSource('x', time.Second, 8000); ok {
		t.Fatal("x is no key")
	}
	if _, ok := (Event{Code: 16}).Digit(); ok {
		t.Fatal("flash is no digit")
	}
}

func FuzzEvent(f *testing.F) {
	f.Add([]byte{5, 0x8a, 3, 0x20})
	f.Add([]byte{1, 2, 3})
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := ParseEvent(b)
		if err != nil {
			return
		}
		if again, err := ParseEvent(e.Append(nil)); err != nil || again != e {
			t.Fatalf("%+v became %+v", e, again)
		}
	})
}
