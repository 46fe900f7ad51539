package rtp

import (
	"bytes"
	"encoding/hex"
	"errors"
	"math/rand/v2"
	"testing"
)

func pair(t testing.TB, s Suite) (*Sealer, *Opener) {
	t.Helper()
	k := mustKeys(t, s)
	sealer, err := NewSealer(k)
	if err != nil {
		t.Fatal(err)
	}
	opener, err := NewOpener(k)
	if err != nil {
		t.Fatal(err)
	}
	return sealer, opener
}

func packet(seq uint16, ssrc uint32) []byte {
	b := AppendHeader(nil, Header{PayloadType: 8, Sequence: seq, Timestamp: uint32(seq) * 160, SSRC: ssrc})
	return append(b, bytes.Repeat([]byte{byte(seq)}, 160)...)
}

func TestSealHidesAndOpens(t *testing.T) {
	for _, s := range Suites() {
		sealer, opener := pair(t, s)
		clear := packet(1, 7)
		sealed, err := sealer.RTP(nil, clear)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(sealed, clear[12:28]) || !bytes.Equal(sealed[:12], clear[:12]) || len(sealed) > len(clear)+Overhead {
			t.Fatalf("%s: sealed packet has the wrong shape", s)
		}
		got, err := opener.RTP(nil, sealed)
		if err != nil || !bytes.Equal(got, clear) {
			t.Fatalf("%s: %v", s, err)
		}
		// in place, both ways
		buf := make([]byte, 400)
		n := copy(buf, packet(2, 7))
		out, err := sealer.RTP(buf[:0], buf[:n])
		if err != nil || &out[0] != &buf[0] {
			t.Fatalf("%s: not in place: %v", s, err)
		}
		if out, err = opener.RTP(out[:0], out); err != nil || !bytes.Equal(out, packet(2, 7)) {
			t.Fatalf("%s: in place: %v", s, err)
		}
	}
}

// A check that shares no code with the library of the whole chain for AES_CM_128_HMAC_SHA1_80: the key derivation of RFC 3711 appendix B.3
// gives the cipher key C61E7A93744F39EE10734AFE3FF7A087 and salt 30CBBC08863D8C85D49DB34A9AE1 for the master key below;
// the keystream for SSRC 0, index 0 then encrypts a payload of zeroes to itself.
func TestKeystreamRFC3711(t *testing.T) {
	master, _ := hex.DecodeString("E1F97A0D3E018BE0D64FA32C06DE4139" + "0EC675AD498AFEEBB6960B3AABE6")
	s, err := NewSealer(Keys{Suite: AES_CM_128_HMAC_SHA1_80, Master: master})
	if err != nil {
		t.Fatal(err)
	}
	zero := append(AppendHeader(nil, Header{}), make([]byte, 32)...)
	sealed, err := s.RTP(nil, zero)
	if err != nil {
		t.Fatal(err)
	}
	want := referenceKeystream(t, "C61E7A93744F39EE10734AFE3FF7A087", "30CBBC08863D8C85D49DB34A9AE1", 32)
	if !bytes.Equal(sealed[12:44], want) {
		t.Fatalf("keystream %x, want %x", sealed[12:44], want)
	}
}

func TestRollOver(t *testing.T) {
	for _, s := range Suites() {
		sealer, opener := pair(t, s)
		var buf, clear []byte
		for i := range 150_000 { // more than two wraps
			seq := uint16(i + 65_000)
			b, err := sealer.RTP(buf, packet(seq, 1))
			if err != nil {
				t.Fatalf("%s: sealing %d: %v", s, i, err)
			}
			buf = b
			if clear, err = opener.RTP(clear, b); err != nil || clear[12] != byte(seq) {
				t.Fatalf("%s: opening %d: %v", s, i, err)
			}
		}
		if f, r := opener.Refused(); f+r != 0 {
			t.Fatalf("%s: %d forged, %d replayed", s, f, r)
		}
	}
}

func TestRollOverWithLossAndReordering(t *testing.T) {
	for _, s := range Suites() {
		sealer, opener := pair(t, s)
		rng := rand.New(rand.NewPCG(1, 2))
		var batch [][]byte
		opened, sent := 0, 0
		for i := range 70_000 * 2 {
			b, err := sealer.RTP(nil, packet(uint16(i+60_000), 1))
			if err != nil {
				t.Fatal(err)
			}
			if near := (i + 60_000) % 65_536; (near > 65_400 || near < 136) && rng.IntN(4) == 0 {
				continue // lost, around the wrap
			}
			sent++
			if batch = append(batch, b); len(batch) < 16 {
				continue
			}
			rng.Shuffle(len(batch), func(i, j int) { batch[i], batch[j] = batch[j], batch[i] })
			for _, b := range batch {
				if _, err := opener.RTP(nil, b); err != nil {
					t.Fatalf("%s: packet near %d: %v", s, i, err)
				}
				opened++
			}
			batch = batch[:0]
		}
		if opened != sent-len(batch) {
			t.Fatalf("%s: %d of %d", s, opened, sent)
		}
	}
}

func TestForgedAndReplayedAreTold(t *testing.T) {
	for _, s := range Suites() {
		sealer, opener := pair(t, s)
		sealed, _ := sealer.RTP(nil, packet(10, 3))
		report, err := sealer.RTCP(nil, AppendReport(nil, 3, nil))
		if err != nil {
			t.Fatal(err)
		}
		forged := func(b []byte, at int) []byte { c := bytes.Clone(b); c[at] ^= 0x40; return c }
		for _, at := range []int{1, 3, 8, 20, len(sealed) - 1} {
			if _, err := opener.RTP(nil, forged(sealed, at)); !errors.Is(err, ErrForged) {
				t.Fatalf("%s: octet %d changed: %v", s, at, err)
			}
		}
		for _, at := range []int{5, len(report) - 1} {
			if _, err := opener.RTCP(nil, forged(report, at)); !errors.Is(err, ErrForged) {
				t.Fatalf("%s: report octet %d changed: %v", s, at, err)
			}
		}
		if _, err := opener.RTP(nil, sealed); err != nil {
			t.Fatalf("%s: forgeries spoiled the state: %v", s, err)
		}
		if _, err := opener.RTP(nil, sealed); !errors.Is(err, ErrReplayed) {
			t.Fatalf("%s: replay: %v", s, err)
		}
		if _, err := opener.RTCP(nil, report); err != nil {
			t.Fatalf("%s: report: %v", s, err)
		}
		if _, err := opener.RTCP(nil, report); !errors.Is(err, ErrReplayed) {
			t.Fatalf("%s: report replay: %v", s, err)
		}
		if f, r := opener.Refused(); f != 7 || r != 2 {
			t.Fatalf("%s: %d forged, %d replayed", s, f, r)
		}
		plain := forged(report, len(report)-4) // where the GCM suites keep the encryption bit
		if s == AES_CM_128_HMAC_SHA1_80 {
			plain = forged(report, len(report)-14)
		}
		plain[len(plain)-map[bool]int{true: 4, false: 14}[s.aead()]] &= 0x3f
		if _, err := opener.RTCP(nil, plain); !errors.Is(err, ErrPlainRTCP) {
			t.Fatalf("%s: unencrypted report: %v", s, err)
		}
		for n := range len(sealed) {
			if _, err := opener.RTP(nil, sealed[:n]); err == nil {
				t.Fatalf("%s: opened the first %d octets", s, n)
			}
		}
	}
}

func TestIndexIsNeverSealedTwice(t *testing.T) {
	sealer, _ := pair(t, AEAD_AES_256_GCM)
	seal := func(seq uint16) error { _, err := sealer.RTP(nil, packet(seq, 9)); return err }
	for _, step := range []struct {
		seq uint16
		err error
	}{{65530, nil}, {65530, ErrReused}, {65532, nil}, {65531, nil}, {65531, ErrReused}, {2, nil}, {65533, nil}, {65533, ErrReused},
		{130, nil}, {3, nil}, {2, ErrReused}, {200, nil}, {100, nil}, {20, ErrReused}, {65535, ErrReused}} {
		if err := seal(step.seq); !errors.Is(err, step.err) {
			t.Fatalf("sequence %d: %v, want %v", step.seq, err, step.err)
		}
	}
	if !sealer.Sealed(9) || sealer.Sealed(10) {
		t.Fatal("Sealed is wrong")
	}
}

// A peer that changes its keys in the middle of a long stream may keep its roll-over counter or begin it again: both are
// heard, opened in place or not, and what is forged meanwhile does no harm.
func TestInheritedCounter(t *testing.T) {
	for _, s := range Suites() {
		for _, keeps := range []bool{true, false} {
			oldSealer, oldOpener := pair(t, s)
			for seq := 65_000; seq < 66_000; seq++ {
				b, err := oldSealer.RTP(nil, packet(uint16(seq), 5))
				if err != nil {
					t.Fatal(err)
				}
				if _, err := oldOpener.RTP(b[:0], b); err != nil {
					t.Fatal(err)
				}
			}
			sealer, opener := pair(t, s)
			if keeps {
				if err := sealer.ready(); err != nil {
					t.Fatal(err)
				}
				sealer.ctx.SetROC(5, 1)
			}
			if err := opener.Inherit(oldOpener); err != nil || opener.trial == nil {
				t.Fatal(err)
			}
			for seq := 66_000; seq < 140_000; seq++ {
				b, err := sealer.RTP(nil, packet(uint16(seq), 5))
				if err != nil {
					t.Fatal(err)
				}
				bad := bytes.Clone(b)
				bad[30] ^= 1
				if seq < 66_002 {
					if _, err := opener.RTP(nil, bad); !errors.Is(err, ErrForged) {
						t.Fatal(err)
					}
				}
				if out, err := opener.RTP(b[:0], b); err != nil || out[12] != byte(seq) {
					t.Fatalf("%s, keeps %v, packet %d: %v", s, keeps, seq, err)
				}
			}
			if err := opener.Inherit(nil); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestSourcesAreBounded(t *testing.T) {
	sealer, opener := pair(t, AEAD_AES_128_GCM)
	for i := range uint32(maxSources) {
		b, err := sealer.RTP(nil, packet(1, i))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := opener.RTP(nil, b); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := sealer.RTP(nil, packet(1, maxSources)); !errors.Is(err, ErrSources) {
		t.Fatal(err)
	}
	if _, err := opener.RTP(nil, packet(1, maxSources)); !errors.Is(err, ErrSources) {
		t.Fatal(err)
	}
}

func BenchmarkSealOpen(b *testing.B) {
	for _, s := range Suites() {
		b.Run(string(s), func(b *testing.B) {
			sealer, opener := pair(b, s)
			clear := packet(0, 1)
			buf, out := make([]byte, 0, 300), make([]byte, 0, 300)
			b.ReportAllocs()
			var seq uint16
			for b.Loop() {
				seq++
				clear[2], clear[3] = byte(seq>>8), byte(seq)
				sealed, err := sealer.RTP(buf, clear)
				if err != nil {
					b.Fatal(err)
				}
				if _, err = opener.RTP(out, sealed); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
