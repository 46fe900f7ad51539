package hep_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"ringfence/internal/node/observe/hep"
)

// decode reads one record by the published layout, apart from the encoder: 4 bytes "HEP3", a 16-bit length of all, then
// chunks of vendor, type, length with its own 6 bytes, value.
func decode(t *testing.T, b []byte) (chunks map[uint16][]byte, rest []byte) {
	t.Helper()
	if len(b) < 6 || string(b[:4]) != "HEP3" {
		t.Fatalf("no HEP3 record: % x", b)
	}
	n := int(binary.BigEndian.Uint16(b[4:]))
	if n > len(b) {
		t.Fatalf("a record of %d bytes says that it has %d", len(b), n)
	}
	chunks, rest, b = map[uint16][]byte{}, b[n:], b[6:n]
	for len(b) > 0 {
		vendor, kind, n := binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:]), binary.BigEndian.Uint16(b[4:])
		if vendor != 0 || int(n) > len(b) || n < 6 {
			t.Fatalf("bad chunk % x", b)
		}
		if _, twice := chunks[kind]; twice {
			t.Fatalf("chunk %#x is there twice", kind)
		}
		chunks[kind], b = b[6:n], b[n:]
	}
	return chunks, rest
}

func TestAppendBytes(t *testing.T) {
	p := hep.Packet{At: time.Unix(0x01020304, 5_000_000), Source: netip.MustParseAddrPort("192.0.2.1:5061"), Dest: netip.MustParseAddrPort("[::ffff:192.0.2.2]:4000"),
		Protocol: 6, Payload: []byte("SIP"), Correlation: "c1"}
	want := "48455033" + "006e" +
		"000000010007" + "02" + "00000003000a" + "c0000201" + "00000004000a" + "c0000202" + "000000020007" + "06" +
		"000000070008" + "13c5" + "000000080008" + "0fa0" + "00000009000a" + "01020304" + "0000000a000a" + "00001388" +
		"0000000b0007" + "01" + "0000000c000a" + "00000007" + "000000110008" + "6331" + "0000000f0009" + "534950"
	if got := hex.EncodeToString(hep.Append(nil, p, 7)); got != want {
		t.Fatalf("got  %s\nwant %s", got, want)
	}
}

func TestAppendOddities(t *testing.T) {
	p := hep.Packet{Source: netip.MustParseAddrPort("[2001:db8::1]:1"), Dest: netip.MustParseAddrPort("192.0.2.2:2"), Payload: bytes.Repeat([]byte("a"), 65535), Correlation: strings.Repeat("b", 1000)}
	c, rest := decode(t, hep.Append(nil, p, 0))
	if len(rest) != 0 || len(c[0x0f]) != 65000 || len(c[0x11]) != 256 || c[1][0] != 10 || len(c[5]) != 16 || netip.AddrFrom16([16]byte(c[6])).Unmap().String() != "192.0.2.2" {
		t.Fatalf("payload %d, correlation %d, family %d", len(c[0x0f]), len(c[0x11]), c[1])
	}
	if c, _ := decode(t, hep.Append(nil, hep.Packet{}, 0)); c[1][0] != 10 || !bytes.Equal(c[5], make([]byte, 16)) {
		t.Fatal("an unknown address is the unspecified one")
	}
}

const invite = "INVITE sip:bob@example.org SIP/2.0\r\ni : leg-1@x\r\nAuthorization: Digest username=\"a\", response=\"f00d\"\r\nContent-Type: application/sdp\r\n\r\n" +
	"v=0\r\na=crypto:1 AEAD_AES_256_GCM inline:TheSecretKey\r\n"

func TestExporterMasksAndCorrelates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		var calls sync.Map
		e := hep.New(hep.Config{Dial: func(context.Context) (io.WriteCloser, error) { return ours, nil }, Agent: 3, Log: slog.New(slog.DiscardHandler),
			Correlate: func(id string) string {
				call, _ := calls.Load(id)
				return call.(string)
			}})
		msg := []byte(invite)
		e.Send(hep.Packet{At: time.Now(), Source: netip.MustParseAddrPort("192.0.2.1:1"), Dest: netip.MustParseAddrPort("192.0.2.2:2"), Protocol: 6, Payload: msg})
		calls.Store("leg-1@x", "c0-1") // known only after the message went by
		if string(msg) != invite {
			t.Fatal("the message itself was changed")
		}
		got := make([]byte, 4096)
		n, err := theirs.Read(got)
		if err != nil {
			t.Fatal(err)
		}
		c, _ := decode(t, got[:n])
		if string(c[0x11]) != "c0-1" || binary.BigEndian.Uint32(c[0x0c]) != 3 {
			t.Fatalf("correlation %q, agent % x", c[0x11], c[0x0c])
		}
		for _, secret := range []string{"f00d", "TheSecretKey"} {
			if bytes.Contains(got[:n], []byte(secret)) {
				t.Fatalf("%q left the node", secret)
			}
		}
		if len(c[0x0f]) != len(invite) || !bytes.Contains(c[0x0f], []byte("a=crypto:1 AEAD_AES_256_GCM inline:xxx")) {
			t.Fatalf("payload %q", c[0x0f])
		}
		e.Close()
	})
}

func FuzzCallID(f *testing.F) {
	f.Add([]byte(invite))
	f.Add([]byte("Call-ID:\n\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if id := hep.CallID(b); bytes.ContainsAny(id, "\n") || id != nil && !bytes.Contains(b, id) {
			t.Fatalf("%q", id)
		}
	})
}
