package locate

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"ringfence"
)

// company is a domain as RFC 3263 imagines it: NAPTR records that lead to SRV records that lead to hosts.
func company(t *testing.T) *zone {
	z := newZone(t)
	z.naptr("example.com", 10, 10, "S", "SIP+D2U", "_sip._udp.example.com")
	z.naptr("example.com", 20, 20, "s", "SIPS+D2T", "_sips._tcp.example.com")
	z.naptr("example.com", 20, 10, "s", "sips+d2w", "_web.example.com")
	z.naptr("example.com", 30, 10, "s", "SIPS+D2T", "_later.example.com")
	z.naptr("example.com", 20, 5, "a", "SIPS+D2T", "flag.example.com")
	z.srv("_sip._udp.example.com", 1, 1, 5060, "plain.example.net")
	z.srv("_sips._tcp.example.com", 2, 0, 5061, "second.example.net")
	z.srv("_sips._tcp.example.com", 1, 0, 5071, "first.example.net")
	z.srv("_web.example.com", 1, 0, 7443, "web.example.net")
	z.srv("_later.example.com", 1, 0, 5061, "later.example.net")
	z.addr("plain.example.net", "192.0.2.9")
	z.addr("first.example.net", "192.0.2.1")
	z.addr("first.example.net", "2001:db8::1")
	z.addr("second.example.net", "192.0.2.2")
	z.addr("web.example.net", "192.0.2.3")
	z.addr("later.example.net", "192.0.2.4")
	z.addr("example.com", "192.0.2.80")
	z.srv("_sips._tcp.srv.example", 1, 1, 5061, "alias.example.net")
	z.put("alias.example.net", dnsmessage.TypeCNAME, 60, &dnsmessage.CNAMEResource{CNAME: dnsmessage.MustNewName("first.example.net.")})
	z.addr("bare.example", "192.0.2.81")
	z.srv("_sips._tcp.none.example", 0, 0, 0, "")
	z.addr("pbx.corp.example", "192.0.2.90")
	return z
}

func TestLocate(t *testing.T) {
	z := company(t)
	r := z.resolver(func(c *Config) {
		c.Hosts = map[string][]netip.Addr{"desk": {netip.MustParseAddr("192.0.2.70")}}
		c.Search = []string{"lab.example", "corp.example"}
	})
	for _, c := range []struct {
		uri, allowed string
		want         []string
	}{
		{"sip:alice@example.com", "", []string{"TLS [2001:db8::1]:5071 as example.com", "TLS 192.0.2.1:5071 as example.com", "TLS 192.0.2.2:5061 as example.com"}},
		{"sips:alice@Example.COM.", "", []string{"TLS [2001:db8::1]:5071 as example.com", "TLS 192.0.2.1:5071 as example.com", "TLS 192.0.2.2:5061 as example.com"}},
		{"sip:alice@example.com", "TLS WSS", []string{"WSS 192.0.2.3:7443 as example.com", "TLS [2001:db8::1]:5071 as example.com", "TLS 192.0.2.1:5071 as example.com", "TLS 192.0.2.2:5061 as example.com"}},
		{"sip:alice@example.com", "UDP TLS", []string{"UDP 192.0.2.9:5060 as example.com"}},
		{"sips:alice@example.com", "UDP TLS", []string{"TLS [2001:db8::1]:5071 as example.com", "TLS 192.0.2.1:5071 as example.com", "TLS 192.0.2.2:5061 as example.com"}},
		{"sip:alice@example.com;transport=tls", "", []string{"TLS [2001:db8::1]:5071 as example.com", "TLS 192.0.2.1:5071 as example.com", "TLS 192.0.2.2:5061 as example.com"}},
		{"sips:alice@example.com:7;transport=tcp", "", []string{"TLS 192.0.2.80:7 as example.com"}},
		{"sip:alice@example.com:5081", "", []string{"TLS 192.0.2.80:5081 as example.com"}},
		{"sip:alice@example.com;maddr=192.0.2.200", "", []string{"TLS 192.0.2.200:5061 as example.com"}},
		{"sip:alice@example.com:5081;maddr=bare.example", "", []string{"TLS 192.0.2.81:5081 as example.com"}},
		{"sip:alice@srv.example", "", []string{"TLS [2001:db8::1]:5061 as srv.example", "TLS 192.0.2.1:5061 as srv.example"}},
		{"sip:alice@bare.example", "", []string{"TLS 192.0.2.81:5061 as bare.example"}},
		{"sip:alice@192.0.2.7", "", []string{"TLS 192.0.2.7:5061 as 192.0.2.7"}},
		{"sip:alice@192.0.2.7", "UDP", []string{"UDP 192.0.2.7:5060 as 192.0.2.7"}},
		{"sip:[2001:db8::7]:5080", "", []string{"TLS [2001:db8::7]:5080 as 2001:db8::7"}},
		{"sip:desk", "", []string{"TLS 192.0.2.70:5061 as desk"}},
		{"sip:localhost:9", "", []string{"TLS 127.0.0.1:9 as localhost", "TLS [::1]:9 as localhost"}},
		{"sip:pbx:5061", "", []string{"TLS 192.0.2.90:5061 as pbx"}},
	} {
		if got := places(t, r, c.uri, strings.Fields(c.allowed)...); !slices.Equal(got, c.want) {
			t.Errorf("%s with %q:\n got %q\nwant %q", c.uri, c.allowed, got, c.want)
		}
	}
}

func TestDomain(t *testing.T) {
	r := company(t).resolver()
	for name, want := range map[string]string{
		"example.com":  "[[2001:db8::1]:5071 192.0.2.1:5071 192.0.2.2:5061]",
		"bare.example": "[192.0.2.81:7061]",
		"192.0.2.5":    "[192.0.2.5:7061]",
		"2001:db8::5":  "[[2001:db8::5]:7061]",
	} {
		d, err := r.Domain(name, 7061)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := d.Find(t.Context()); err != nil || fmt.Sprint(got) != want {
			t.Errorf("%s: %v, %v, want %s", name, got, err, want)
		}
		d.Avoid(netip.MustParseAddrPort("[2001:db8::1]:5071"), time.Minute)
		if got, err := d.Find(t.Context()); err != nil || name == "example.com" && got[2].Port() != 5071 {
			t.Errorf("%s: %v, %v", name, got, err)
		}
		r = company(t).resolver()
	}
	h, err := r.Host("example.com", 7061)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := h.Find(t.Context()); err != nil || fmt.Sprint(got) != "[192.0.2.80:7061]" {
		t.Errorf("the host: %v, %v", got, err)
	}
	for _, name := range [...]string{"", "a b", "x@y", "x;y=z", "x?y"} {
		if _, err := r.Domain(name, 1); ringfence.KindOf(err) != ringfence.KindInvalid {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func TestRefusals(t *testing.T) {
	r := company(t).resolver()
	for u, want := range map[string]ringfence.Kind{
		"sip:alice@example.com;transport=udp":  ringfence.KindInsecure,
		"sip:alice@example.com;transport=tcp":  ringfence.KindInsecure,
		"sip:alice@example.com;transport=ws":   ringfence.KindInsecure,
		"sip:alice@example.com;transport=wss":  ringfence.KindUnsupported,
		"sip:alice@example.com;transport=sctp": ringfence.KindUnsupported,
		"sips:alice@example.com;transport=udp": ringfence.KindInsecure,
		"sip:alice@none.example":               ringfence.KindUnavailable,
		"sip:alice@nowhere.example":            ringfence.KindUnavailable,
		"sip:alice@nowhere.example:5061":       ringfence.KindUnavailable,
		"tel:+15551234":                        ringfence.KindUnsupported,
	} {
		got, err := r.Locate(t.Context(), uri(t, u))
		if err == nil || ringfence.KindOf(err) != want {
			t.Errorf("%s: %v, %v; want %v", u, got, err, want)
		}
	}
	if _, err := r.Locate(t.Context(), uri(t, "sips:alice@example.com"), "UDP", "TCP"); ringfence.KindOf(err) != ringfence.KindUnsupported {
		t.Errorf("a sips: address in the clear: %v", err)
	}
	if _, err := New(Config{}).Locate(t.Context(), uri(t, "sip:example.com")); ringfence.KindOf(err) != ringfence.KindUnavailable {
		t.Errorf("without a server: %v", err)
	}
}

// A NAPTR question that fails is no reason to give up: SRV records are asked for all the same. A failing SRV question is one.
func TestFailures(t *testing.T) {
	z := company(t)
	z.fails["srv.example 35"] = dnsmessage.RCodeNotImplemented
	z.fails["_sips._tcp.bare.example TypeSRV"] = dnsmessage.RCodeServerFailure
	r := z.resolver()
	if got := places(t, r, "sip:srv.example"); len(got) != 2 {
		t.Errorf("without NAPTR: %q", got)
	}
	if got, err := r.Locate(t.Context(), uri(t, "sip:bare.example")); ringfence.KindOf(err) != ringfence.KindUnavailable {
		t.Errorf("without SRV: %v, %v", got, err)
	}
	z.questions()
	if got := places(t, r, "sip:srv.example"); len(got) != 2 || slices.Contains(z.questions(), "_sips._tcp.srv.example TypeSRV") {
		t.Errorf("SRV was asked again: %q", got)
	}
}

// RFC 2782: by priority; within one, in proportion to the weight.
func TestSRVOrder(t *testing.T) {
	in := []SRV{{2, 5, 1, "backup"}, {1, 0, 1, "zero"}, {1, 10, 1, "ten"}, {1, 30, 1, "thirty"}}
	order := func(random ...uint32) (names string) {
		i := 0
		r := New(Config{Rand: func(n uint32) uint32 {
			if i == 0 && n != 41 {
				t.Errorf("a number below %d is wanted, want 41", n)
			}
			v := min(random[i], n-1)
			i++
			return v
		}})
		for _, s := range r.order(in) {
			names += s.Target + " "
		}
		return names
	}
	for want, random := range map[string][]uint32{
		"zero ten thirty backup ": {0, 0, 0, 0},
		"ten zero thirty backup ": {1, 0, 0, 0},
		"thirty ten zero backup ": {40, 10, 0, 0},
		"thirty zero ten backup ": {11, 0, 0, 0},
	} {
		if got := order(random...); got != want {
			t.Errorf("%v: %q, want %q", random, got, want)
		}
	}
	first := map[string]int{}
	r := New(Config{})
	for range 4000 {
		first[r.order(in[1:])[0].Target]++
	}
	if first["thirty"] < 2700 || first["thirty"] > 3300 || first["ten"] < 700 || first["ten"] > 1300 {
		t.Errorf("with weights 0, 10 and 30 of 4000: %v", first)
	}
}

func TestMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		z := company(t)
		r := z.resolver(func(c *Config) { c.Entries = 4 })
		places(t, r, "sip:bare.example:5061")
		if q := z.questions(); len(q) != 2 {
			t.Fatalf("asked %q", q)
		}
		time.Sleep(59 * time.Second)
		places(t, r, "sip:bare.example:5061")
		if q := z.questions(); len(q) != 0 {
			t.Errorf("asked %q within the TTL", q)
		}
		time.Sleep(2 * time.Second)
		places(t, r, "sip:bare.example:5061")
		if q := z.questions(); !slices.Equal(q, []string{"bare.example TypeA"}) { // that there is no IPv6 address is known for longer
			t.Errorf("asked %q after the TTL", q)
		}
		time.Sleep(60 * time.Second)
		places(t, r, "sip:bare.example:5061")
		if q := z.questions(); len(q) != 2 {
			t.Errorf("asked %q after the TTL of what is not there", q)
		}
		for i := range 20 {
			_, _ = r.Locate(t.Context(), uri(t, fmt.Sprintf("sip:n%d.example:1", i)))
		}
		if len(r.cache) > 4 {
			t.Errorf("%d answers are remembered", len(r.cache))
		}
	})
}

func TestAvoid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := company(t).resolver()
		r.Avoid(netip.MustParseAddrPort("[2001:db8::1]:5071"), time.Minute)
		r.Avoid(netip.MustParseAddrPort("192.0.2.1:5071"), 30*time.Second)
		if got := places(t, r, "sip:example.com"); got[0] != "TLS 192.0.2.2:5061 as example.com" || len(got) != 3 {
			t.Errorf("got %q", got)
		}
		time.Sleep(31 * time.Second)
		if got := places(t, r, "sip:example.com"); got[0] != "TLS 192.0.2.1:5071 as example.com" || len(got) != 3 {
			t.Errorf("got %q", got)
		}
		time.Sleep(30 * time.Second)
		if got := places(t, r, "sip:example.com"); got[0] != "TLS [2001:db8::1]:5071 as example.com" {
			t.Errorf("got %q", got)
		}
	})
}

func TestSilentServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		z := company(t)
		dead, live := netip.MustParseAddrPort("192.0.2.52:53"), netip.MustParseAddrPort("192.0.2.53:53")
		z.silent[dead] = true
		r := z.resolver(func(c *Config) { c.Servers = []netip.AddrPort{dead, live} })
		began := time.Now()
		if got := places(t, r, "sip:192.0.2.1"); len(got) != 1 || time.Since(began) != 0 {
			t.Errorf("an address took %v", time.Since(began))
		}
		if got := places(t, r, "sip:bare.example:5061"); len(got) != 1 || time.Since(began) != 4*time.Second {
			t.Errorf("got %q after %v, want two tries of 2 s", got, time.Since(began))
		}
		z.silent[live] = true
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := r.Locate(ctx, uri(t, "sip:first.example.net:1")); ringfence.KindOf(err) != ringfence.KindTimeout {
			t.Errorf("after its time: %v", err)
		}
	})
}

// What is not the answer to our question is passed over, and what is too much is not believed.
func TestHostileAnswers(t *testing.T) {
	t.Run("another id first", func(t *testing.T) {
		z := company(t)
		z.mangle = func(_ bool, msg []byte) [][]byte {
			forged := slices.Clone(msg)
			forged[0] ^= 1
			return [][]byte{forged, msg[:7], {}, msg}
		}
		if got := places(t, z.resolver(), "sip:bare.example:5061"); len(got) != 1 {
			t.Errorf("got %q", got)
		}
	})
	t.Run("truncated, then whole over TCP", func(t *testing.T) {
		z := company(t)
		z.mangle = func(stream bool, msg []byte) [][]byte {
			if !stream {
				msg = slices.Clone(msg[:12+len("bare")+1+len("example")+1+1+4])
				msg[2] |= 2
				msg[7], msg[9], msg[11] = 0, 0, 0
			}
			return [][]byte{msg}
		}
		if got := places(t, z.resolver(), "sip:bare.example:5061"); len(got) != 1 {
			t.Errorf("got %q", got)
		}
	})
	t.Run("too many records", func(t *testing.T) {
		z := newZone(t)
		for i := range maxRecords + 1 {
			z.addr("many.example", fmt.Sprintf("192.0.2.%d", i))
		}
		if got, err := z.resolver().Locate(t.Context(), uri(t, "sip:many.example:1")); ringfence.KindOf(err) != ringfence.KindUnavailable {
			t.Errorf("got %d targets, %v", len(got), err)
		}
		z = newZone(t)
		for i := range maxRecords {
			z.addr("many.example", fmt.Sprintf("192.0.2.%d", i))
		}
		if got := places(t, z.resolver(), "sip:many.example:1"); len(got) != maxTargets {
			t.Errorf("got %d targets", len(got))
		}
	})
	t.Run("aliases in a circle", func(t *testing.T) {
		z := newZone(t)
		z.put("a.example", dnsmessage.TypeCNAME, 60, &dnsmessage.CNAMEResource{CNAME: dnsmessage.MustNewName("b.example.")})
		z.put("b.example", dnsmessage.TypeCNAME, 60, &dnsmessage.CNAMEResource{CNAME: dnsmessage.MustNewName("a.example.")})
		if got, err := z.resolver().Locate(t.Context(), uri(t, "sip:a.example:1")); ringfence.KindOf(err) != ringfence.KindUnavailable {
			t.Errorf("got %v, %v", got, err)
		}
	})
	t.Run("records of another name", func(t *testing.T) {
		z := company(t)
		z.records["bare.example TypeA"] = z.records["plain.example.net TypeA"]
		if got, err := z.resolver().Locate(t.Context(), uri(t, "sip:bare.example:1")); err == nil {
			t.Errorf("got %v", got)
		}
	})
}

func TestSystem(t *testing.T) {
	servers, search := ParseResolvConf([]byte("# x\nnameserver 192.0.2.1\nnameserver fe80::1%eth0\nnameserver nonsense\nsearch Example.COM. b.example\noptions ndots:1\nnameserver"))
	if fmt.Sprint(servers) != "[192.0.2.1:53 [fe80::1%eth0]:53]" || fmt.Sprint(search) != "[example.com b.example]" {
		t.Errorf("servers %v, search %v", servers, search)
	}
	hosts := ParseHosts([]byte("127.0.0.1 localhost\n::1 localhost ip6 # not-this\nbad line\n192.0.2.1 PBX.example.com pbx\n"))
	if fmt.Sprint(hosts) != "map[ip6:[::1] localhost:[127.0.0.1 ::1] pbx:[192.0.2.1] pbx.example.com:[192.0.2.1]]" {
		t.Errorf("hosts %v", hosts)
	}
}
