package dhcp

import (
	"context"
	"encoding/binary"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"ringfence"
	"ringfence/internal/testkit"
)

func mac() [6]byte { return [6]byte{2, 0, 0, 0, 0, 7} }

func opt(code byte, data string) []byte { return append([]byte{code, byte(len(data))}, data...) }

// answer4 makes a server's answer to a question.
func answer4(q []byte, kind byte, own string, options ...[]byte) []byte {
	b := slices.Clone(q[:head4])
	b[0] = 2
	a := netip.MustParseAddr(own).As4()
	copy(b[16:], a[:])
	b = append(b, magic...)
	b = append(b, 53, 1, kind)
	return append(append(b, slices.Concat(options...)...), 255)
}

func question4(id uint32) []byte {
	return message4{kind: discover, id: id, broadcast: true, hardware: mac(), host: "desk", class: "phone"}.bytes()
}

func server() []byte { return opt(54, "\x0a\x00\x00\x01") }

func TestQuestion4(t *testing.T) {
	q := question4(7)
	if len(q) < least4 || q[0] != 1 || q[10] != 0x80 || q[28] != 2 || string(q[head4:head4+4]) != magic {
		t.Errorf("%x", q)
	}
	found, err := options4(q)
	if err != nil || string(found[12]) != "desk" || string(found[60]) != "phone" || string(found[61]) != "\x01\x02\x00\x00\x00\x00\x07" || len(found[57]) != 2 {
		t.Errorf("%v %v", found, err)
	}
	for _, code := range []byte{1, 2, 3, 6, 15, 42, 43, 51, 60, 66, 125, 150, 159, 160} {
		if !slices.Contains(found[55], code) {
			t.Errorf("option %d is not asked for", code)
		}
	}
	q = message4{kind: release, hardware: mac(), client: netip.MustParseAddr("10.0.0.9"), server: netip.MustParseAddr("10.0.0.1"), host: "desk"}.bytes()
	if found, _ := options4(q); found[55] != nil || found[12] != nil || string(found[54]) != "\x0a\x00\x00\x01" || string(q[12:16]) != "\x0a\x00\x00\x09" {
		t.Errorf("RFC 2131 table 5 forbids what is in %v", found)
	}
}

// TestEveryRow reads each row of the options table of the handbook.
func TestEveryRow(t *testing.T) {
	forum := "\x00\x00\x0d\xe9\x19\x0b\x17https://acs.example.com"
	b := answer4(question4(7), ack, "10.0.0.50", server(), opt(1, "\xff\xff\xff\x00"), opt(2, "\x00\x00\x7e\x90"), opt(3, "\x0a\x00\x00\x01"), opt(6, "\x0a\x00\x00\x02\x0a\x00\x00\x03"), opt(15, "Example.com\x00"),
		opt(41, "\x0a\x00\x00\x04"), opt(42, "\x0a\x00\x00\x05"), opt(43, "\x42\x0bold.example"), opt(51, "\x00\x00\x0e\x10"), opt(56, "hello"), opt(60, "phone"), opt(66, "prov.example.com\x00"),
		opt(125, forum), opt(150, "\x0a\x00\x00\x06\x0a\x00\x00\x07"), opt(159, "prov.example.com"), opt(160, "https://prov.exam"), opt(160, "ple.com/$MA.xml"))
	a, kind, err := ParseV4(b, 7, mac())
	if err != nil || kind != ack {
		t.Fatal(err)
	}
	if a.Address != netip.MustParsePrefix("10.0.0.50/24") || a.Lifetime != time.Hour || a.Renew != 30*time.Minute || a.Rebind != 52*time.Minute+30*time.Second || a.Server != netip.MustParseAddr("10.0.0.1") || *a.TimeOffset != 9*time.Hour ||
		len(a.Routers) != 1 || len(a.DNS) != 2 || a.Domains[0] != "example.com" || a.NTP[0] != "10.0.0.5" || a.Class != "phone" || a.ACS == nil || a.ACS.URL != "https://acs.example.com" || a.ACS.Option != 125 {
		t.Errorf("%+v", a)
	}
	for code, want := range map[uint16]string{43: "old.example", 66: "prov.example.com", 150: "10.0.0.6", 159: "prov.example.com", 160: "https://prov.example.com/$MA.xml"} {
		if a.places[code] != want {
			t.Errorf("option %d is %q", code, a.places[code])
		}
	}
	for _, o := range a.Options {
		if o.Problem != "" || o.Name == "not known" {
			t.Errorf("%+v", o)
		}
	}
	order, problems := ParseOrder(Order4, IPv4)
	if len(problems) > 0 || !slices.Equal(order, []uint16{66, 160, 159, 150, 60, 43, 125}) {
		t.Errorf("%v %v", order, problems)
	}
	for first, want := range map[string]string{"66": "https://prov.example.com/$PSN.xml", "160,66": "https://prov.example.com/$MA.xml", "150": "https://10.0.0.6/$PSN.xml", "60,43": "https://old.example/$PSN.xml", "125": "", "60": ""} {
		order, _ := ParseOrder(first, IPv4)
		c := Choose(order, nil, []Answer{a})
		if c.Rule != want || len(c.Sources) != len(order) || c.ACS == nil || want != "" && !strings.HasPrefix(c.From, "DHCP option ") {
			t.Errorf("%s: %+v", first, c)
		}
	}
	// What the Broadband Forum's class says in option 43, and an address in it as it stands.
	b = answer4(question4(7), ack, "0.0.0.0", server(), opt(60, "dslforum.org"), opt(43, "\x01\x12https://a.example/\x02\x02pc"))
	if a, _, err = ParseV4(b, 7, mac()); err != nil || a.ACS == nil || a.ACS.URL != "https://a.example/" || a.ACS.ProvisioningCode != "pc" || a.Address.IsValid() {
		t.Errorf("%+v %v", a, err)
	}
	b = answer4(question4(7), ack, "0.0.0.0", server(), opt(43, "https://a.example/x.xml"))
	if a, _, err = ParseV4(b, 7, mac()); err != nil || a.places[43] != "https://a.example/x.xml" {
		t.Errorf("%+v %v", a, err)
	}
}

func TestOverload(t *testing.T) {
	b := answer4(question4(7), ack, "0.0.0.0", server(), opt(52, "\x03"))
	copy(b[108:], append(opt(66, "file.example"), 255))
	copy(b[44:], append(opt(160, "https://sname.example/"), 255))
	if a, _, err := ParseV4(b, 7, mac()); err != nil || a.places[66] != "file.example" || a.places[160] != "https://sname.example/" {
		t.Errorf("%+v %v", a, err)
	}
}

// TestNonsense4 has servers offer what must not be taken.
func TestNonsense4(t *testing.T) {
	q := question4(7)
	other := answer4(q, offer, "10.0.0.9", server())
	other[28] = 3
	for name, b := range map[string][]byte{"a question": q, "short": q[:100], "long": make([]byte, maxMessage+1), "another question": answer4(question4(8), offer, "10.0.0.9", server()), "another host": other,
		"no server": answer4(q, offer, "10.0.0.9"), "server of nobody": answer4(q, offer, "10.0.0.9", opt(54, "\xe0\x00\x00\x01")), "cut": append(answer4(q, offer, "10.0.0.9", server())[:head4+4+9], 66, 200, 'x'),
		"broadcast": answer4(q, offer, "255.255.255.255", server()), "multicast": answer4(q, offer, "224.0.0.1", server()), "loopback": answer4(q, offer, "127.0.0.1", server()), "a question's type": answer4(q, request, "10.0.0.9", server())} {
		if a, _, err := ParseV4(b, 7, mac()); err == nil {
			t.Errorf("%s: %+v", name, a)
		}
	}
	a, _, err := ParseV4(answer4(q, offer, "10.0.0.9", server(), opt(1, "\xff\x00\xff\x00"), opt(2, "\x7f\xff\xff\xff"), opt(3, "\x0a"), opt(6, "\xe0\x00\x00\x01"), opt(15, "\x1b[2J"), opt(42, ""), opt(43, "\x01"), opt(66, "a b"),
		opt(125, "\x00\x00\x0d\xe9\xff"), opt(150, "\x00\x00\x00\x00"), opt(160, strings.Repeat("x", 255)), opt(160, strings.Repeat("x", 255)), opt(160, strings.Repeat("x", 255)), opt(51, "\x00\x00"), opt(58, "\x00")), 7, mac())
	if err != nil || a.Address.Bits() != 32 || a.TimeOffset != nil || a.Routers != nil || a.DNS != nil || a.Domains != nil || a.NTP != nil || a.ACS != nil || a.Lifetime != 0 {
		t.Errorf("%+v %v", a, err)
	}
	for _, o := range a.Options {
		if o.Problem == "" && o.Code != 54 && o.Code != 160 {
			t.Errorf("%+v is passed off as good", o)
		}
	}
	// A lease that says it is renewed after it is over.
	a, _, err = ParseV4(answer4(q, ack, "10.0.0.9", server(), opt(51, "\x00\x00\x00\x3c"), opt(58, "\xff\xff\xff\xff"), opt(59, "\xff\xff\xff\xff")), 7, mac())
	if err != nil || a.Renew != 30*time.Second || a.Rebind >= a.Lifetime || a.Rebind <= a.Renew {
		t.Errorf("%+v %v", a, err)
	}
	if a, _, err = ParseV4(answer4(q, ack, "10.0.0.9", server(), opt(51, "\xff\xff\xff\xff")), 7, mac()); err != nil || a.Lifetime != Forever {
		t.Errorf("%+v %v", a, err)
	}
}

// TestRuleOf holds what strangers may say of a profile to an address of HTTPS.
func TestRuleOf(t *testing.T) {
	for value, want := range map[string]string{"prov.example.com": "https://prov.example.com/$PSN.xml", "prov.example.com/": "https://prov.example.com/$PSN.xml", "192.0.2.1": "https://192.0.2.1/$PSN.xml", "prov.example.com:8443/a/$(MA:0:6).xml": "https://prov.example.com:8443/a/$(MA:0:6).xml",
		"HTTPS://prov.example.com/$PN/$MAU.xml?v=$SWVER": "https://prov.example.com/$PN/$MAU.xml?v=$SWVER", "https://[2001:db8::1]/x": "https://[2001:db8::1]/x", "2001:db8::1": "https://[2001:db8::1]/$PSN.xml",
		"tftp://prov.example.com/x": "", "http://prov.example.com/x": "", "ftp://x/y": "", `[--key "$SA"] https://a/x`: "", "[--uid $SA]https://a/x": "", "($A eq 1)? https://a/x": "", "https://a/$A": "", "https://a/$SA": "", "https://a/$GPP_SA": "", "https://a/$(SA)": "", "https://a/$(MA": "",
		"https://user:password@a/x": "", "https:///x": "", "https://a:0/x": "", "https://a:99999/x": "", "https://a|https://b/": "", "https://127.0.0.1/x": "", "https://$MA/x": "https://$MA/x", "": "", "https://a.example": "", "https://a/$$SA": "", "https://a/$MA:2": "https://a/$MA:2"} {
		got, why := ruleOf(value)
		if got != want && value != "https://$MA/x" && value != "https://a/$MA:2" || (got == "") == (why == "") {
			t.Errorf("%s: %q, %q; want %q", value, got, why, want)
		}
	}
	if order, problems := ParseOrder("66, 66,9,x,,160", IPv4); !slices.Equal(order, []uint16{66, 160}) || len(problems) != 2 {
		t.Errorf("%v %v", order, problems)
	}
}

// opt6 writes an option of DHCPv6.
func opt6(code uint16, data string) []byte {
	b := binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(nil, code), uint16(len(data)))
	return append(b, data...)
}

func answer6(id uint32, kind byte, options ...[]byte) []byte {
	b := binary.BigEndian.AppendUint32(nil, id)
	b[0] = kind
	return append(append(b, opt6(optClient, string(duid(mac())))...), slices.Concat(options...)...)
}

func server6() []byte { return opt6(optServer, "\x00\x03\x00\x01\x02\x00\x00\x00\x00\x01") }

func address6(own string, preferred, valid uint32, more ...[]byte) []byte {
	a := netip.MustParseAddr(own).As16()
	inner := binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(a[:], preferred), valid)
	m := mac()
	return opt6(optIANA, string(iaid(m))+"\x00\x00\x00\x00\x00\x00\x00\x00"+string(opt6(optIAAddr, string(inner)))+string(slices.Concat(more...)))
}

func TestAnswer6(t *testing.T) {
	dns := netip.MustParseAddr("2001:db8::53").As16()
	ntp := string(opt6(1, string(dns[:]))) + string(opt6(3, "\x03ntp\x07example\x03com\x00"))
	b := answer6(7, reply, server6(), opt6(optPreference, "\x05"), address6("2001:db8::50", 1800, 3600), opt6(optVendor, "\x00\x00\x0d\xe9"+string(opt6(1, "https://acs.example.com"))), opt6(optVendor, "\x00\x00\x00\x09"+string(opt6(160, "https://prov.example.com/$MA.xml"))),
		opt6(23, string(dns[:])), opt6(24, "\x07example\x03com\x00"), opt6(56, ntp), opt6(159, "prov.example.com"), opt6(160, "https://prov.example.com/a.xml"), opt6(32, "\x00\x00\x00\x01"))
	a, kind, refused, err := ParseV6(b, 7, mac())
	if err != nil || kind != reply || refused != "" {
		t.Fatal(err, refused)
	}
	if a.Address != netip.MustParsePrefix("2001:db8::50/128") || a.Preferred != 30*time.Minute || a.Renew != 15*time.Minute || a.Rebind != 24*time.Minute || a.pref != 5 || a.ACS == nil || a.ACS.Option != 17 || a.DNS[0] != netip.AddrFrom16(dns) || a.Domains[0] != "example.com" ||
		!slices.Equal(a.NTP, []string{"2001:db8::53", "ntp.example.com"}) || a.places[17] != "https://prov.example.com/$MA.xml" || a.places[159] != "prov.example.com" || a.places[160] != "https://prov.example.com/a.xml" {
		t.Errorf("%+v", a)
	}
	order, problems := ParseOrder(Order6, IPv6)
	a.Server = netip.MustParseAddr("fe80::1")
	if c := Choose(nil, order, []Answer{a}); len(problems) > 0 || c.Rule != "https://prov.example.com/$MA.xml" || c.From != "DHCPv6 option 17 of fe80::1" {
		t.Errorf("%+v %v", c, problems)
	}
	if a, _, refused, err = ParseV6(answer6(7, advertise, server6(), opt6(optStatus, "\x00\x02none left")), 7, mac()); err != nil || refused != "NoAddrsAvail: none left" {
		t.Errorf("%+v %q %v", a, refused, err)
	}
	for name, b := range map[string][]byte{"short": {7, 0, 0}, "a question": answer6(7, request6, server6()), "another question": answer6(8, reply, server6()), "no server": answer6(7, reply), "two servers": answer6(7, reply, server6(), server6()),
		"cut": append(answer6(7, reply, server6()), 0, 23, 0, 9, 1), "another host": slices.Concat([]byte{7, 0, 0, 7}, opt6(optClient, "\x00\x03\x00\x01\x02\x00\x00\x00\x00\x08"), server6()), "no client": slices.Concat([]byte{7, 0, 0, 7}, server6()),
		"long": make([]byte, maxMessage+1)} {
		if a, _, _, err := ParseV6(b, 7, mac()); err == nil {
			t.Errorf("%s: %+v", name, a)
		}
	}
	for name, ia := range map[string][]byte{"multicast": address6("ff02::1", 1, 2), "no time": address6("2001:db8::1", 0, 0), "preferred for longer than valid": address6("2001:db8::1", 3, 2), "link-local": address6("fe80::1", 1, 2)} {
		if a, _, _, err := ParseV6(answer6(7, reply, server6(), ia), 7, mac()); err != nil || a.Address.IsValid() {
			t.Errorf("%s: %+v %v", name, a, err)
		}
	}
}

// network is a server of a few lines in a network in memory.
func network(t *testing.T, mu *sync.Mutex, port uint16, serve func(q []byte) [][]byte) (client net.PacketConn, at netip.AddrPort) {
	t.Helper()
	n := testkit.New(1)
	own, far := netip.MustParseAddr("10.0.0.50"), netip.MustParseAddrPort("10.0.0.1:0")
	client, err := n.Host(own).ListenUDP(t.Context(), "client", netip.AddrPortFrom(own, 68))
	if err != nil {
		t.Fatal(err)
	}
	far = netip.AddrPortFrom(far.Addr(), port)
	s, err := n.Host(far.Addr()).ListenUDP(t.Context(), "server", far)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		b := make([]byte, 2048)
		for {
			k, from, err := s.ReadFrom(b)
			if err != nil {
				return
			}
			mu.Lock()
			replies := serve(slices.Clone(b[:k]))
			mu.Unlock()
			for _, r := range replies {
				_, _ = s.WriteTo(r, from)
			}
		}
	}()
	t.Cleanup(func() { _, _ = client.Close(), s.Close() })
	return client, far
}

func TestLease4(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex // what the server's half of the test shares with this one
		asked, deaf, refuse := []byte{}, 2, false
		var at4 []time.Time // when something was asked
		c, at := network(t, &mu, Port4, func(q []byte) [][]byte {
			o, _ := options4(q)
			asked, at4 = append(asked, o[53]...), append(at4, time.Now())
			if deaf > 0 {
				deaf--
				return nil
			}
			hour := opt(51, "\x00\x00\x0e\x10")
			switch o[53][0] {
			case discover:
				rogue := answer4(q, offer, "10.0.0.66", opt(54, "\x0a\x00\x00\x42"), hour)
				rogue[4]++
				return [][]byte{rogue, {1, 2, 3}, answer4(q, offer, "10.0.0.50", server(), hour), answer4(q, offer, "10.0.0.50", server(), hour), answer4(q, offer, "10.0.0.77", opt(54, "\x0a\x00\x00\x4d"), hour)}
			case request:
				if refuse {
					return [][]byte{answer4(q, nak, "0.0.0.0", server())}
				}
				return [][]byte{answer4(q, ack, "10.0.0.51", server(), hour), answer4(q, ack, "10.0.0.50", server(), hour)}
			}
			return nil
		})
		v := &V4{Conn: c, Hardware: mac(), Server: at}
		began := time.Now()
		offers, err := v.Discover(t.Context())
		if err != nil || len(offers) != 2 || offers[0].Address.Addr() != netip.MustParseAddr("10.0.0.50") || offers[0].Kind != Offered {
			t.Fatalf("%+v %v", offers, err)
		}
		if took := time.Since(began); took < 11*time.Second || took > 15*time.Second { // 4 and 8 seconds, a tenth more or less, and one for others
			t.Errorf("it took %v", took)
		}
		if o := Others(offers); len(o) != 1 || !strings.Contains(o[0], "10.0.0.77") {
			t.Errorf("%v", o)
		}
		lease, err := v.Request(t.Context(), offers[0])
		if err != nil || lease.Address.Addr() != netip.MustParseAddr("10.0.0.50") || lease.Kind != Leased {
			t.Fatalf("%+v %v", lease, err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var renewed []time.Duration
		ended := make(chan error, 1)
		go func() { ended <- v.Keep(ctx, lease, func(a Answer) { renewed = append(renewed, a.At.Sub(lease.At)) }) }()
		time.Sleep(65 * time.Minute)
		synctest.Wait()
		if len(renewed) != 2 || renewed[0] != 30*time.Minute {
			t.Errorf("%v", renewed)
		}
		mu.Lock()
		deaf = 1 << 20 // nobody renews it now: half an hour to the last renewal's T1, and the lease ends an hour after that
		mu.Unlock()
		time.Sleep(2 * time.Hour)
		if err := <-ended; ringfence.KindOf(err) != ringfence.KindTimeout {
			t.Errorf("%v", err)
		}
		cancel()
		mu.Lock()
		// The last renewal was an hour after the lease: the next is due at 90 minutes. Until T2, at 112 and a half, each wait is half of what is left, give or take a tenth; and so to the end, at two hours.
		var tries []time.Duration
		for _, x := range at4 {
			if d := x.Sub(lease.At); d > 70*time.Minute {
				tries = append(tries, d)
			}
		}
		if len(tries) < 8 || len(tries) > 18 || tries[0] < 90*time.Minute || tries[1]-tries[0] < 10*time.Minute || tries[1]-tries[0] > 12*time.Minute+30*time.Second || tries[2]-tries[1] > 7*time.Minute || tries[len(tries)-1] > 2*time.Hour {
			t.Errorf("%v", tries)
		}
		deaf, refuse = 0, true
		mu.Unlock()
		if _, err := v.Request(t.Context(), offers[0]); ringfence.KindOf(err) != ringfence.KindDenied {
			t.Errorf("%v", err)
		}
		if err := v.Release(lease); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		if asked[len(asked)-1] != release {
			t.Errorf("%v", asked)
		}
	})
}

func TestInform(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex // what the server's half of the test shares with this one
		deaf := false
		c, at := network(t, &mu, Port4, func(q []byte) [][]byte {
			if o, _ := options4(q); deaf || o[53][0] != inform || string(q[12:16]) != "\x0a\x00\x00\x32" {
				return nil
			}
			return [][]byte{answer4(q, ack, "0.0.0.0", server(), opt(66, "prov.example.com"))}
		})
		v := &V4{Conn: c, Hardware: mac(), Server: at}
		got, err := v.Inform(t.Context(), netip.MustParseAddr("10.0.0.50"))
		if err != nil || len(got) != 1 || got[0].Kind != Information || got[0].places[66] != "prov.example.com" {
			t.Errorf("%+v %v", got, err)
		}
		mu.Lock()
		deaf = true
		mu.Unlock()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		began := time.Now()
		if _, err := v.Inform(ctx, netip.MustParseAddr("10.0.0.50")); ringfence.KindOf(err) != ringfence.KindTimeout || time.Since(began) != 10*time.Second {
			t.Errorf("%v after %v", err, time.Since(began))
		}
	})
}

func TestLease6(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex // what the server's half of the test shares with this one
		var asked []byte
		none := false
		c, at := network(t, &mu, Port6, func(q []byte) [][]byte {
			id := binary.BigEndian.Uint32(q) & 0xffffff
			asked = append(asked, q[0])
			switch {
			case none:
				return [][]byte{answer6(id, advertise, server6(), opt6(optStatus, "\x00\x02"))}
			case q[0] == solicit:
				return [][]byte{answer6(id, advertise, opt6(optServer, "\x00\x03\x00\x01\x02\x00\x00\x00\x00\x09"), address6("2001:db8::9", 1800, 3600)), answer6(id, advertise, server6(), opt6(optPreference, "\x09"), address6("2001:db8::50", 1800, 3600))}
			case q[0] == information:
				return [][]byte{answer6(id, reply, server6(), opt6(160, "https://prov.example.com/"))}
			}
			return [][]byte{answer6(id, reply, server6(), address6("2001:db8::50", 1800, 3600))}
		})
		v := &V6{Conn: c, Hardware: mac(), Server: at}
		offers, err := v.Solicit(t.Context())
		if err != nil || len(offers) != 2 || offers[0].Address.Addr() != netip.MustParseAddr("2001:db8::50") { // by preference
			t.Fatalf("%+v %v", offers, err)
		}
		lease, err := v.Request(t.Context(), offers[0])
		if err != nil || lease.Kind != Leased || lease.Lifetime != time.Hour {
			t.Fatalf("%+v %v", lease, err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		renewed := 0
		ended := make(chan error, 1)
		go func() { ended <- v.Keep(ctx, lease, func(Answer) { renewed++ }) }()
		time.Sleep(40 * time.Minute)
		cancel()
		if err := <-ended; err != nil || renewed != 2 { // each quarter of an hour
			t.Errorf("%d %v", renewed, err)
		}
		if err := v.Release(t.Context(), lease); err != nil {
			t.Error(err)
		}
		got, err := v.Inform(t.Context())
		if err != nil || len(got) != 1 || got[0].places[160] != "https://prov.example.com/" {
			t.Errorf("%+v %v", got, err)
		}
		mu.Lock()
		if !slices.Equal(asked, []byte{solicit, request6, renew6, renew6, release6, information}) {
			t.Errorf("%v", asked)
		}
		none = true
		mu.Unlock()
		if _, err := v.Solicit(t.Context()); ringfence.KindOf(err) != ringfence.KindUnavailable || !strings.Contains(err.Error(), "NoAddrsAvail") {
			t.Errorf("%v", err)
		}
	})
}

func FuzzParseV4(f *testing.F) {
	f.Add(answer4(question4(7), ack, "10.0.0.50", server(), opt(43, "\x01\x12https://a.example/"), opt(60, "dslforum.org"), opt(125, "\x00\x00\x0d\xe9\x02\x0b\x00"), opt(150, "\x0a\x00\x00\x06"), opt(52, "\x03")))
	f.Add(answer4(question4(7), nak, "0.0.0.0", server(), opt(56, "no")))
	f.Fuzz(func(t *testing.T, b []byte) {
		a, _, err := ParseV4(b, 7, mac())
		if err != nil {
			return
		}
		safe(t, a)
		order, _ := ParseOrder(Order4, IPv4)
		chosen(t, Choose(order, nil, []Answer{a}))
	})
}

func FuzzParseV6(f *testing.F) {
	f.Add(answer6(7, reply, server6(), address6("2001:db8::50", 1800, 3600), opt6(optVendor, "\x00\x00\x00\x09"+string(opt6(160, "https://a/x"))), opt6(24, "\x07example\x03com\x00"), opt6(56, string(opt6(3, "\x03ntp\x00")))))
	f.Add(answer6(7, advertise, server6(), opt6(optStatus, "\x00\x02none left")))
	f.Fuzz(func(t *testing.T, b []byte) {
		a, _, refused, err := ParseV6(b, 7, mac())
		if err != nil {
			return
		}
		safe(t, a)
		if strings.ContainsFunc(refused, func(r rune) bool { return r < ' ' || r > '~' }) {
			t.Errorf("%q", refused)
		}
		order, _ := ParseOrder(Order6, IPv6)
		chosen(t, Choose(nil, order, []Answer{a}))
	})
}

func FuzzParseOrder(f *testing.F) {
	f.Add("66,160,159,150,60,43,125")
	f.Add("17, ,x,99999")
	f.Fuzz(func(t *testing.T, text string) {
		for _, family := range []Family{IPv4, IPv6} {
			if order, _ := ParseOrder(text, family); len(order) > 7 {
				t.Errorf("%v", order)
			}
		}
		if rule, _ := ruleOf(text); rule != "" {
			chosen(t, Choice{Rule: rule})
		}
	})
}

// safe holds what an answer came to within its bounds.
func safe(t *testing.T, a Answer) {
	t.Helper()
	if a.Address.IsValid() && !usable(a.Address.Addr()) || len(a.DNS) > maxAddresses || len(a.NTP) > 2*maxAddresses || a.Lifetime != Forever && a.Lifetime > 0 && a.Family == IPv4 && (a.Renew > a.Rebind || a.Rebind >= a.Lifetime && a.Lifetime > time.Second) {
		t.Errorf("%+v", a)
	}
	for _, o := range a.Options {
		if len(o.Value) > 4*maxText || strings.ContainsFunc(o.Value, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			t.Errorf("%+v", o)
		}
	}
}

func chosen(t *testing.T, c Choice) {
	t.Helper()
	if c.Rule != "" && (!strings.HasPrefix(c.Rule, "https://") || strings.ContainsAny(c.Rule, " |\"\n")) {
		t.Errorf("%+v", c)
	}
}

// cable is a link of ARP in memory.
type cable struct {
	in     chan []byte
	sent   chan []byte
	closed chan struct{}
}

func (c *cable) Read(b []byte) (int, error) {
	select {
	case f := <-c.in:
		return copy(b, f), nil
	case <-c.closed:
		return 0, net.ErrClosed
	}
}

func (c *cable) Write(b []byte) (int, error) { c.sent <- slices.Clone(b); return len(b), nil }
func (c *cable) Close() error                { close(c.closed); return nil }

func TestTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		own, other := netip.MustParseAddr("10.0.0.50"), netip.MustParseAddr("10.0.0.9")
		stranger := [6]byte{2, 9}
		reply := func(hardware [6]byte, sender netip.Addr) []byte {
			b := probe(hardware, own)
			b[21] = arpReply
			copy(b[28:], sender.AsSlice())
			return b
		}
		for name, x := range map[string]struct {
			frame []byte
			taken bool
		}{"somebody has it": {reply(stranger, own), true}, "somebody asks for it as well": {probe(stranger, own), true}, "somebody else has another": {reply(stranger, other), false}, "our own echo": {probe(mac(), own), false}, "nonsense": {[]byte("x"), false}, "nobody": {nil, false}} {
			c := &cable{in: make(chan []byte, 1), sent: make(chan []byte, 10), closed: make(chan struct{})}
			if x.frame != nil {
				c.in <- x.frame
			}
			began := time.Now()
			taken, err := (&V4{Hardware: mac()}).Taken(t.Context(), c, own)
			if err != nil || taken != x.taken || taken && time.Since(began) > probeWait || !taken && (time.Since(began) != (probes+1)*probeWait || len(c.sent) != probes) {
				t.Errorf("%s: %v %v after %v", name, taken, err, time.Since(began))
			}
			if a, err := ParseARP(<-c.sent); err != nil || a.Operation != arpRequest || !a.Sender.IsUnspecified() || a.Target != own || a.Hardware != mac() { // RFC 5227: a probe names no sender
				t.Errorf("%+v %v", a, err)
			}
		}
	})
}

// TestDefend has another host say that it has the phone's address: once, and again.
func TestDefend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		own, other := netip.MustParseAddr("10.0.0.50"), netip.MustParseAddr("10.0.0.9")
		stranger := [6]byte{2, 9}
		c := &cable{in: make(chan []byte), sent: make(chan []byte, 10), closed: make(chan struct{})}
		told := 0
		ended := make(chan error, 1)
		go func() {
			ended <- (&V4{Hardware: mac()}).Defend(t.Context(), c, own, func(by net.HardwareAddr) {
				if told++; by.String() != "02:09:00:00:00:00" {
					t.Error(by)
				}
			})
		}()
		say := func(b []byte) { c.in <- b; synctest.Wait() }
		for _, b := range [][]byte{announcement(stranger, other), announcement(mac(), own), probe(stranger, own), []byte("x")} { // nobody has it by these
			say(b)
		}
		if told != 0 || len(c.sent) != 0 {
			t.Errorf("%d %d", told, len(c.sent))
		}
		for i := range 3 {
			say(announcement(stranger, own))
			if told != i+1 || len(c.sent) != i+1 {
				t.Errorf("%d %d", told, len(c.sent))
			}
			time.Sleep(defendFor)
		}
		if a, err := ParseARP(<-c.sent); err != nil || a.Sender != own || a.Target != own || a.Hardware != mac() {
			t.Errorf("%+v %v", a, err)
		}
		say(announcement(stranger, own))
		time.Sleep(time.Second)
		say(announcement(stranger, own))
		if err := <-ended; ringfence.KindOf(err) != ringfence.KindConflict || !strings.Contains(err.Error(), "02:09:00:00:00:00 has 10.0.0.50 as well") {
			t.Error(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		c = &cable{in: make(chan []byte), sent: make(chan []byte, 10), closed: make(chan struct{})}
		go func() { ended <- (&V4{Hardware: mac()}).Defend(ctx, c, own, func(net.HardwareAddr) {}) }()
		synctest.Wait()
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

func FuzzParseARP(f *testing.F) {
	f.Add(probe(mac(), netip.MustParseAddr("10.0.0.50")))
	f.Fuzz(func(t *testing.T, b []byte) {
		if a, err := ParseARP(b); err == nil && (!a.Sender.Is4() || !a.Target.Is4() || a.Operation < arpRequest || a.Operation > arpReply) {
			t.Errorf("%+v", a)
		}
	})
}
