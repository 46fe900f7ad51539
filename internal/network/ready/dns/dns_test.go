package dns

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"ringfence"
	"ringfence/internal/testkit"
)

func message(t testing.TB, h dnsmessage.Header, name string, typ Type, records ...dnsmessage.Resource) []byte {
	t.Helper()
	m := dnsmessage.Message{Header: h, Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName(name), Type: typ, Class: dnsmessage.ClassINET}}, Answers: records}
	b, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func srv(name, target string, priority, weight uint16) dnsmessage.Resource {
	return dnsmessage.Resource{Header: dnsmessage.ResourceHeader{Name: dnsmessage.MustNewName(name), Class: dnsmessage.ClassINET}, Body: &dnsmessage.SRVResource{Priority: priority, Weight: weight, Port: 5061, Target: dnsmessage.MustNewName(target)}}
}

func TestParse(t *testing.T) {
	h := dnsmessage.Header{ID: 7, Response: true}
	b := message(t, h, "_sips._tcp.Example.com.", SRV, srv("_sips._tcp.example.com.", "B.example.com.", 20, 1), srv("_sips._tcp.example.com.", "a.example.com.", 10, 1), srv("_sips._tcp.example.com.", "c.example.com.", 10, 9))
	a, err := ParseAnswer(b, 7, "_sips._tcp.example.com", SRV)
	if err != nil || a.Code != "NOERROR" {
		t.Fatalf("%+v %v", a, err)
	}
	var order []string
	for _, r := range a.Service() {
		order = append(order, r.To)
	}
	if !slices.Equal(order, []string{"c.example.com", "a.example.com", "b.example.com"}) {
		t.Error(order)
	}
	for name, b := range map[string][]byte{"short": b[:11], "cut": b[:len(b)-3], "a question": message(t, dnsmessage.Header{ID: 7}, "_sips._tcp.example.com.", SRV), "another id": message(t, dnsmessage.Header{ID: 8, Response: true}, "_sips._tcp.example.com.", SRV),
		"another name": message(t, h, "example.com.", SRV), "another type": message(t, h, "_sips._tcp.example.com.", A)} {
		if _, err := ParseAnswer(b, 7, "_sips._tcp.example.com", SRV); err == nil {
			t.Errorf("%s is read", name)
		}
	}
	short := message(t, dnsmessage.Header{ID: 7, Response: true, Truncated: true, RCode: dnsmessage.RCodeNameError}, "a.", A)
	if a, err := ParseAnswer(short, 7, "a", A); err != nil || !a.Truncated || a.Code != "NXDOMAIN" {
		t.Errorf("%+v %v", a, err)
	}
	for _, name := range []string{strings.Repeat("a", 300), strings.Repeat("a", 64) + ".example", "a..b"} {
		if _, err := Query(1, name, A); err == nil {
			t.Errorf("%q is asked", name)
		}
	}
}

// dnsmasq starts a name server with some settings.
func dnsmasq(t *testing.T, args ...string) netip.AddrPort {
	t.Helper()
	for range 5 {
		pc, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		at := pc.LocalAddr().(*net.UDPAddr).AddrPort()
		pc.Close()
		cmd := exec.Command(testkit.Need(t, "/usr/sbin/dnsmasq", "dnsmasq-base"), append([]string{"-k", "-C", "/dev/null", "--no-resolv", "--no-hosts", "--pid-file", "--listen-address=127.0.0.1", "--bind-interfaces", "--port", fmt.Sprint(at.Port())}, args...)...)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for range 100 {
			if c, err := net.Dial("tcp", at.String()); err == nil {
				c.Close()
				return at
			}
			<-tick.C
		}
	}
	t.Fatal("dnsmasq does not come up")
	return netip.AddrPort{}
}

func client() *Client {
	id := uint16(0)
	dial := func(network string) func(context.Context, netip.AddrPort) (net.Conn, error) {
		return func(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, network, to.String())
		}
	}
	return &Client{UDP: dial("udp"), TCP: dial("tcp"), Random: func() uint16 { id++; return id }, Patience: time.Second}
}

// TestAsDig gives the same order and the same addresses as dig, over UDP and, for an answer that does not fit, over TCP.
func TestAsDig(t *testing.T) {
	args := []string{"--srv-host=_sips._tcp.example.com,a.example.com,5061,10,5", "--srv-host=_sips._tcp.example.com,b.example.com,5061,20,5", "--host-record=a.example.com,192.0.2.1,2001:db8::1", "--cname=alias.example.com,a.example.com"}
	for i := range 120 {
		args = append(args, fmt.Sprintf("--host-record=many.example.com,192.0.2.%d", i+1))
	}
	at := dnsmasq(t, args...)
	c := client()
	for _, q := range []struct {
		name, typ string
		t         Type
		over      string
	}{{"_sips._tcp.example.com", "SRV", SRV, "udp"}, {"a.example.com", "A", A, "udp"}, {"a.example.com", "AAAA", AAAA, "udp"}, {"alias.example.com", "A", A, "udp"}, {"many.example.com", "A", A, "tcp"}} {
		a, err := c.Ask(t.Context(), at, q.name, q.t)
		if err != nil || a.Code != "NOERROR" || a.Truncated || a.Over != q.over {
			t.Errorf("%s: %+v %v", q.name, a, err)
			continue
		}
		var got []string
		for _, r := range a.Records {
			switch r.Type {
			case SRV:
				got = append(got, fmt.Sprintf("%d %d %d %s.", r.Priority, r.Weight, r.Port, r.To))
			case CNAME:
				got = append(got, r.To+".")
			default:
				got = append(got, r.Addr.String())
			}
		}
		out, err := exec.CommandContext(t.Context(), testkit.Need(t, "/usr/bin/dig", "bind9-dnsutils"), "@127.0.0.1", "-p", fmt.Sprint(at.Port()), "+short", q.name, q.typ).Output()
		if err != nil {
			t.Fatal(err)
		}
		want := strings.Fields(strings.ReplaceAll(strings.TrimSpace(string(out)), " ", "_"))
		for i := range got {
			got[i] = strings.ReplaceAll(got[i], " ", "_")
		}
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("%s %s: %q; dig says %q", q.name, q.typ, got, want)
		}
	}
	if a, err := c.Ask(t.Context(), at, "other.example.org", A); err != nil || a.Code != "REFUSED" {
		t.Errorf("%+v %v", a, err)
	}
	// TCP that is closed leaves the short answer.
	c.TCP = func(context.Context, netip.AddrPort) (net.Conn, error) { return nil, net.ErrClosed }
	if a, err := c.Ask(t.Context(), at, "many.example.com", A); err != nil || !a.Truncated || a.Over != "udp" {
		t.Errorf("%+v %v", a, err)
	}
	if _, err := c.AskTCP(t.Context(), at, "a.example.com", A); ringfence.KindOf(err) != ringfence.KindUnavailable {
		t.Error(err)
	}
}

func FuzzAnswer(f *testing.F) {
	f.Add(message(f, dnsmessage.Header{ID: 7, Response: true}, "a.", SRV, srv("a.", "b.", 1, 2)))
	f.Add([]byte{0, 7, 0x80, 0, 0, 1, 0, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := ParseAnswer(b, 7, "a", SRV)
		if err != nil {
			return
		}
		if len(a.Records) > maxRecords || len(a.Service()) > len(a.Records) {
			t.Errorf("%+v", a)
		}
	})
}
