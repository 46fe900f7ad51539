package nft

import (
	"bytes"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"ringfence/internal/network/box"
	"ringfence/internal/testkit"
	"ringfence/internal/testkit/branch"
	"ringfence/internal/testkit/router"
)

// TestSoak compresses a day: in the first of its 24 hours 10,000 flows begin, in each that follows a thousand of them again; the kernel judges each as it did before, and has forgotten all of them before the next
// hour. How long it remembers a flow is made as short as two seconds for that.
func TestSoak(t *testing.T) {
	t.Parallel()
	if !router.Alone(t, 0) {
		return
	}
	nft := testkit.Need(t, "/usr/sbin/nft", "nftables")
	w := router.New(t)
	p := branch.Policy(t, "webex-calling")
	text, _, err := Render(p)
	if err != nil {
		t.Fatal(err)
	}
	router.Run(t, nft, text, "-f", "-")
	for _, name := range strings.Fields("generic icmp icmpv6 udp udp_stream tcp_syn_sent tcp_unacknowledged tcp_established tcp_close") {
		name = strings.Replace(name, "tcp_", "tcp_timeout_", 1)
		if !strings.HasPrefix(name, "tcp_") {
			name = strings.Replace(name+"_timeout", "udp_stream_timeout", "udp_timeout_stream", 1)
		}
		if err := os.WriteFile("/proc/sys/net/netfilter/nf_conntrack_"+name, []byte("2"), 0); err != nil {
			t.Fatal(err)
		}
	}
	tracked := func() int {
		b, err := os.ReadFile("/proc/thread-self/net/nf_conntrack")
		if err != nil {
			t.Fatal(err)
		}
		return bytes.Count(b, []byte("\n"))
	}
	packets := router.Random(p.Boxes(), p.Interfaces, 10000, 22)
	boxes, most := p.Boxes(), 0
	for hour := range 24 {
		again := packets
		if hour > 0 {
			again = packets[(hour-1)%10*1000:][:1000]
		}
		for batch := range slices.Chunk(again, 1000) {
			for try := range 2 { // a packet may be lost on a busy machine, but not twice
				var lost []box.Packet
				for i, ok := range w.Travel(batch, p.Interfaces, false) {
					switch has := boxes.Has(batch[i]); {
					case ok && !has, has && !ok && try == 1:
						t.Fatalf("hour %d: %s: got through %v", hour, batch[i].Describe(p.Interfaces), ok)
					case has && !ok:
						lost = append(lost, batch[i])
					}
				}
				if batch = lost; len(lost) == 0 {
					break
				}
			}
			most = max(most, tracked())
		}
		ended := time.Now().Add(20 * time.Second)
		for tracked() > 0 {
			if time.Now().After(ended) {
				t.Fatalf("hour %d: the kernel still remembers %d flows", hour, tracked())
			}
			<-time.After(50 * time.Millisecond)
		}
	}
	t.Logf("the kernel remembered up to %d flows at once", most)
	if most < 300 {
		t.Error("too few to mean anything")
	}
}
