package ntp

import (
	"encoding/binary"
	"testing"
	"time"
)

// server makes a reply to a query.
func server(query []byte, leap, stratum byte, ref string, at time.Time) []byte {
	b := make([]byte, Size)
	b[0], b[1] = leap<<6|4<<3|4, stratum
	binary.BigEndian.PutUint32(b[4:], 1<<15) // half a second
	copy(b[12:16], ref)
	copy(b[24:32], query[40:48])
	for _, o := range []int{32, 40} {
		binary.BigEndian.PutUint32(b[o:], uint32(at.Unix()+2208988800))
		binary.BigEndian.PutUint32(b[o+4:], 1<<31)
	}
	return b
}

func TestReply(t *testing.T) {
	for _, at := range []time.Time{time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC), time.Date(2036, 2, 7, 6, 28, 16, 0, time.UTC), time.Date(2040, 1, 1, 0, 0, 0, 0, time.UTC)} {
		r, err := ParseReply(server(Query(7), 0, 2, "\xc0\x00\x02\x01", at), 7)
		if err != nil || !r.Synchronised() || r.Kiss != "" || r.RootDelay != time.Second/2 || !r.Sent.Equal(at.Add(time.Second/2)) {
			t.Errorf("%v: %+v %v", at, r, err)
		}
		sent := at.Add(-3 * time.Second)
		if offset, delay := r.Offset(sent, sent.Add(time.Second)); offset != 3*time.Second || delay != time.Second {
			t.Errorf("%v %v", offset, delay)
		}
	}
	for name, b := range map[string][]byte{"short": make([]byte, 47), "long": make([]byte, maxReply+1), "a query": Query(7), "another": server(Query(8), 0, 2, "", time.Now())} {
		if _, err := ParseReply(b, 7); err == nil {
			t.Errorf("%s is read", name)
		}
	}
	for _, c := range []struct {
		leap, stratum byte
		ref, kiss     string
	}{{3, 0, "RATE", "RATE"}, {3, 0, "", ""}, {0, 16, "", ""}, {3, 2, "", ""}, {3, 0, "a\x1b[2", ""}} {
		r, err := ParseReply(server(Query(7), c.leap, c.stratum, c.ref, time.Now()), 7)
		if err != nil || r.Synchronised() || r.Kiss != c.kiss {
			t.Errorf("%+v: %+v %v", c, r, err)
		}
	}
}

func FuzzReply(f *testing.F) {
	f.Add(server(Query(7), 0, 2, "GPS", time.Unix(1<<31, 0)))
	f.Add(server(Query(7), 3, 0, "DENY", time.Unix(0, 0)))
	f.Add(Query(7))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := ParseReply(b, 7)
		if err != nil {
			return
		}
		if r.Received.Year() < 1968 || r.Received.Year() > 2104 || r.RootDelay < 0 || len(r.Kiss) > 4 {
			t.Errorf("%+v", r)
		}
		if _, delay := r.Offset(time.Unix(0, 0), time.Unix(1, 0)); delay < 0 {
			t.Errorf("a delay of %v", delay)
		}
	})
}
