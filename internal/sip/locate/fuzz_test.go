package locate

import (
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

// FuzzParseAnswer feeds the answers of strangers to every parser of the room.
func FuzzParseAnswer(f *testing.F) {
	z := newZone(nil)
	z.naptr("example.com", 1, 1, "s", "SIPS+D2T", "_sips._tcp.example.com")
	z.srv("example.com", 1, 1, 5061, "a.example.com")
	z.addr("example.com", "192.0.2.1")
	z.addr("example.com", "2001:db8::1")
	for _, typ := range [...]dnsmessage.Type{typeNAPTR, dnsmessage.TypeSRV, dnsmessage.TypeA, dnsmessage.TypeAAAA} {
		q, err := question(7, dnsmessage.MustNewName("example.com."), typ)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(z.answer(q[2:]), uint16(typ))
		f.Add(q[2:], uint16(typ))
	}
	f.Add(naptrData(1, 2, "s", "SIPS+D2T", "", "_sips._tcp.example.com"), uint16(0))
	f.Add([]byte("nameserver 192.0.2.1\n::1 localhost\n"), uint16(0))
	f.Fuzz(func(t *testing.T, msg []byte, typ uint16) {
		a, err := ParseAnswer(msg, 7, "example.com", typ)
		if err == nil && (len(a.NAPTR)+len(a.SRV)+len(a.Addrs) > maxRecords || a.TTL > longest) {
			t.Errorf("more was believed than is allowed: %+v", a)
		}
		if n, err := ParseNAPTR(msg); err == nil && len(n.Replacement) > 255 {
			t.Errorf("a name of %d bytes", len(n.Replacement))
		}
		if servers, search := ParseResolvConf(msg); len(servers) > maxServers || len(search) > maxSearch {
			t.Errorf("%d servers, %d domains", len(servers), len(search))
		}
		ParseHosts(msg)
	})
}
