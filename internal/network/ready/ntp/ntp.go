package ntp

import (
	"encoding/binary"
	"fmt"
	"strings"
	"time"

	"ringfence"
)

// Reply is what a server says of itself and its time.
type Reply struct {
	Leap           uint8 // 3: not synchronised
	Stratum        uint8 // 1 to 15; 0 and 16: not synchronised, or a kiss of death
	Kiss           string
	RootDelay      time.Duration
	RootDispersion time.Duration
	Received       time.Time // when the query came, by the server's clock
	Sent           time.Time // when the reply left
}

// Size is the length of a query, and the least length of a reply, in bytes.
const Size = 48

// maxReply bounds a reply with extension fields.
const maxReply = 1024

// Query returns a client's packet. The cookie, a random number, is where the client's time would be: a server only gives it back, and need not know the time here.
func Query(cookie uint64) []byte {
	b := make([]byte, Size)
	b[0] = 4<<3 | 3 // version 4, client
	binary.BigEndian.PutUint64(b[40:], cookie)
	return b
}

// ParseReply reads a server's packet that answers the query with this cookie.
func ParseReply(b []byte, cookie uint64) (r Reply, err error) {
	bad := func(text string) (Reply, error) {
		return Reply{}, &ringfence.Fault{Op: "ntp.reply", Kind: ringfence.KindInvalid, Text: text}
	}
	switch {
	case len(b) < Size || len(b) > maxReply:
		return bad(fmt.Sprintf("%d bytes are no reply of a time server", len(b)))
	case b[0]&7 != 4 || b[0]>>3&7 < 3 || b[0]>>3&7 > 4:
		return bad("this is no server's packet of version 3 or 4")
	case binary.BigEndian.Uint64(b[24:]) != cookie:
		return bad("this answers another query")
	}
	short := func(at int) time.Duration { // 16 bits of seconds, 16 of fraction
		return time.Duration(uint64(binary.BigEndian.Uint32(b[at:])) * uint64(time.Second) >> 16)
	}
	r = Reply{Leap: b[0] >> 6, Stratum: b[1], RootDelay: short(4), RootDispersion: short(8), Received: stamp(b[32:]), Sent: stamp(b[40:])}
	if r.Stratum == 0 { // RFC 5905 section 7.4; a server that only does not know the time has no letters there
		kiss := strings.TrimRight(string(b[12:16]), "\x00")
		if kiss != "" && strings.IndexFunc(kiss, func(c rune) bool { return c < 'A' || c > 'Z' }) < 0 {
			r.Kiss = kiss
		}
	}
	return r, nil
}

// stamp reads a timestamp. Those without the first bit are of the era that begins in 2036.
func stamp(b []byte) time.Time {
	s, f := int64(binary.BigEndian.Uint32(b)), uint64(binary.BigEndian.Uint32(b[4:]))
	if s < 1<<31 {
		s += 1 << 32
	}
	const since1900 = 2208988800 // seconds until 1970
	return time.Unix(s-since1900, int64(f*uint64(time.Second)>>32)).UTC()
}

// Synchronised reports whether the server says that it knows the time.
func (r Reply) Synchronised() bool { return r.Leap != 3 && r.Stratum > 0 && r.Stratum < 16 }

// Offset returns how far the clock here is behind the server's, and how long query and reply were on the way, for a query that left at sent and a reply that came at came.
func (r Reply) Offset(sent, came time.Time) (offset, delay time.Duration) {
	return (r.Received.Sub(sent) + r.Sent.Sub(came)) / 2, max(0, came.Sub(sent)-r.Sent.Sub(r.Received))
}
