package nat

import (
	"fmt"
	"math"
	"net/netip"
	"time"

	"ringfence"
)

// Question is what a plan is asked. Zero values take the defaults beside them.
type Question struct {
	Devices int            // how many phones and applications there are
	Calls   int            // how many of them talk at once; a tenth
	Pool    []netip.Prefix // the addresses outside
	First   uint16         // the ports of each address that may be used: from 1024
	Last    uint16         // to 65535
	Block   int            // ports that one device is given at a time; 0: one by one
	// Idle is how many bindings a device holds that does not talk: its SIP connection, a connection for its configuration, and one for names and time. 3.
	Idle int
	// Call is how many more it holds in a call: RTP and RTCP of voice and of video. 4.
	Call int
	// Reuse says that a port outside may serve several destinations at once (endpoint-dependent mapping): then only one service's bindings count against it.
	Reuse    bool
	UDP, TCP time.Duration // how long the device keeps a binding that is silent; 0: not known
	Refresh  time.Duration // how often a phone refreshes what it registered; 2 min, the longer of what the documents state
	Hold     time.Duration // how long a call lasts; 3 min. What it leaves behind lasts until UDP is over
	Table    int           // how many connections the device can hold; 0: not known
}

// Finding is one thing that a plan says.
type Finding struct {
	Subject string `json:"subject"` // pool, block, udp-timeout, tcp-timeout, conntrack
	OK      bool   `json:"ok"`
	Text    string `json:"text"`
	Do      string `json:"do,omitempty"` // what to change, if it is not
}

// Plan is the answer.
type Plan struct {
	Devices   int       `json:"devices"`
	Calls     int       `json:"calls"`
	Needed    int       `json:"bindings_needed"`    // at the busiest time
	Capacity  int       `json:"bindings_capacity"`  // of the pool
	Used      float64   `json:"used"`               // needed of capacity; above 1 the pool is exhausted
	Addresses int       `json:"addresses_needed"`   // with a quarter of head room
	MostAtOne int       `json:"devices_possible"`   // that the pool as it is can serve, with the same share of calls
	Lingering int       `json:"bindings_lingering"` // of those needed: of calls that are over
	Conntrack int       `json:"conntrack_entries"`  // that the translating device must be able to hold
	Linux     []string  `json:"linux"`              // settings of a Linux that translates, at least (sysctl)
	Blocks    Blocks    `json:"blocks"`             // of ports, one device each
	Assumed   []string  `json:"assumed"`
	Findings  []Finding `json:"findings"`
	OK        bool      `json:"ok"`
}

// Blocks is what becomes of the pool if each device gets a block of ports: one line of a log a block instead of one a binding (RFC 7422), and nobody takes the ports of others (RFC 6888 REQ-4).
type Blocks struct {
	Size       int `json:"size"`        // the smallest power of two that holds a device in a call
	PerAddress int `json:"per_address"` // how many devices share an address
	Addresses  int `json:"addresses_needed"`
}

// Bounds of a question.
const (
	maxDevices = 10_000_000
	headroom   = 1.25
	maxTime    = 7 * 24 * time.Hour
	minTCP     = 30 * time.Minute // of the document: connections are kept at least so long
)

// Make answers a question.
func Make(q Question) (Plan, error) {
	q = q.filled()
	if err := q.check(); err != nil {
		return Plan{}, err
	}
	p := Plan{Devices: q.Devices, Calls: q.Calls, OK: true}
	// A call that ends is followed by another one, and its bindings stay until they have been silent for so long.
	left := float64(q.Call) * q.UDP.Seconds() / q.Hold.Seconds()
	p.Lingering = int(math.Ceil(float64(q.Calls) * left))
	bindings := q.Devices*q.Idle + q.Calls*q.Call + p.Lingering
	p.Needed = bindings
	most := q.Idle + q.Call + int(math.Ceil(left)) // of one device
	ports := int(q.Last) - int(q.First) + 1
	addresses := 0
	for _, pool := range q.Pool {
		addresses += 1 << min(pool.Addr().BitLen()-pool.Bits(), 30)
	}
	if q.Block > 0 { // a device takes whole blocks, also if it fills none
		idle, talking := blocks(q.Idle, q.Block), blocks(most, q.Block)
		p.Needed = ((q.Devices-q.Calls)*idle + q.Calls*talking) * q.Block
		ports = ports / q.Block * q.Block
	}
	p.Capacity = addresses * ports
	p.Used = float64(p.Needed) / float64(p.Capacity)
	p.MostAtOne = int(float64(p.Capacity) / headroom / (float64(p.Needed) / float64(q.Devices)))
	p.Addresses = int(math.Ceil(float64(p.Needed) * headroom / float64(ports)))
	p.Conntrack = int(math.Ceil(float64(bindings) * headroom))
	p.Linux = linux(q, p.Conntrack)
	p.Blocks.Size = power(most)
	if p.Blocks.PerAddress = (int(q.Last) - int(q.First) + 1) / p.Blocks.Size; p.Blocks.PerAddress > 0 {
		p.Blocks.Addresses = blocks(q.Devices, p.Blocks.PerAddress)
	}
	p.Assumed = []string{fmt.Sprintf("%d bindings of a device that does not talk, and %d more in a call", q.Idle, q.Call), fmt.Sprintf("%d of %d devices talk at once", q.Calls, q.Devices), fmt.Sprintf("ports %d to %d of each address", q.First, q.Last),
		fmt.Sprintf("phones refresh every %s", q.Refresh), "a quarter of head room"}
	if q.Reuse {
		p.Assumed = append(p.Assumed, "a port outside serves several destinations at once; what is counted here goes to one service")
	} else {
		p.Assumed = append(p.Assumed, "a port outside belongs to one binding, whatever its destination")
	}
	if q.UDP > 0 {
		p.Assumed = append(p.Assumed, fmt.Sprintf("a call lasts %s, and its bindings %s longer", q.Hold, q.UDP))
	}
	p.judge(q, addresses, most)
	return p, nil
}

// linux returns what a Linux has to be set to. Its table of connections is a hash table in which each stands twice, once a direction, so that as many buckets as connections keep the chains at two; a UDP connection on which nothing came back has a timeout of
// its own (nf_conntrack-sysctl of the kernel's documentation).
func linux(q Question, entries int) []string {
	n := power(max(entries, 1024))
	udp := int(math.Ceil((q.Refresh + q.Refresh/4).Seconds()))
	return []string{fmt.Sprintf("net.netfilter.nf_conntrack_max = %d", n), fmt.Sprintf("net.netfilter.nf_conntrack_buckets = %d", n), fmt.Sprintf("net.netfilter.nf_conntrack_udp_timeout = %d", udp), fmt.Sprintf("net.netfilter.nf_conntrack_udp_timeout_stream = %d", udp),
		fmt.Sprintf("net.netfilter.nf_conntrack_tcp_timeout_established = %d", int(minTCP.Seconds()))}
}

// power returns the smallest power of two that is n or more.
func power(n int) int {
	p := 1
	for p < n {
		p *= 2
	}
	return p
}

func blocks(bindings, size int) int { return (bindings + size - 1) / size }

func (q Question) filled() Question {
	def := func(v *int, to int) {
		if *v == 0 {
			*v = to
		}
	}
	def(&q.Calls, (q.Devices+9)/10)
	def(&q.Idle, 3)
	def(&q.Call, 4)
	if q.First == 0 {
		q.First = 1024
	}
	if q.Last == 0 {
		q.Last = 65535
	}
	if q.Refresh == 0 {
		q.Refresh = 2 * time.Minute
	}
	if q.Hold == 0 {
		q.Hold = 3 * time.Minute
	}
	return q
}

func (q Question) check() error {
	bad := func(text, hint string) error {
		return &ringfence.Fault{Op: "nat.plan", Kind: ringfence.KindInvalid, Text: text, Hint: hint}
	}
	switch {
	case q.Devices < 1 || q.Devices > maxDevices:
		return bad(fmt.Sprintf("%d devices are not between 1 and %d", q.Devices, maxDevices), "give --devices")
	case q.Calls < 0 || q.Calls > q.Devices:
		return bad(fmt.Sprintf("%d of %d devices cannot talk at once", q.Calls, q.Devices), "")
	case q.First > q.Last:
		return bad(fmt.Sprintf("the ports %d to %d are the wrong way round", q.First, q.Last), "")
	case q.Idle < 0 || q.Call < 0 || q.Idle+q.Call == 0 || q.Idle > 1000 || q.Call > 1000:
		return bad("a device holds between 1 and 1000 bindings", "")
	case q.Block < 0 || q.Block > int(q.Last)-int(q.First)+1:
		return bad(fmt.Sprintf("%d is no size of a block of ports", q.Block), "")
	case q.UDP < 0 || q.TCP < 0 || q.Refresh < 0 || max(q.UDP, q.TCP, q.Refresh) > maxTime:
		return bad("a timeout is between nothing and a week", "")
	case q.Hold < time.Second || q.Hold > maxTime:
		return bad(fmt.Sprintf("a call does not last %s", q.Hold), "calls last between a second and a week; most some three minutes")
	case q.Table < 0:
		return bad(fmt.Sprintf("no device holds %d connections", q.Table), "")
	case len(q.Pool) == 0:
		return bad("there is no pool", "give --pool 192.0.2.0/29, or several")
	}
	for i, p := range q.Pool {
		if !p.IsValid() || p != p.Masked() {
			return bad(p.String()+" has host bits", "write "+p.Masked().String())
		}
		for _, other := range q.Pool[:i] {
			if p.Overlaps(other) {
				return bad(p.String()+" and "+other.String()+" overlap", "")
			}
		}
	}
	return nil
}

// judge says what is good and what is not.
func (p *Plan) judge(q Question, addresses, most int) {
	say := func(subject string, ok bool, do, format string, args ...any) {
		f := Finding{Subject: subject, OK: ok, Text: fmt.Sprintf(format, args...)}
		if !ok {
			f.Do, p.OK = do, false
		}
		p.Findings = append(p.Findings, f)
	}
	more := fmt.Sprintf("give the pool %d addresses", p.Addresses)
	switch {
	case p.Used > 1:
		say("pool", false, more, "%d bindings are needed and the pool of %d addresses holds %d: it is exhausted, and phones that come late do not connect", p.Needed, addresses, p.Capacity)
	case p.Used*headroom > 1:
		say("pool", false, more, "%d of %d bindings are needed (%.0f %%): less than a quarter is left for bursts", p.Needed, p.Capacity, p.Used*100)
	default:
		say("pool", true, "", "%d of %d bindings are needed (%.0f %%)", p.Needed, p.Capacity, p.Used*100)
	}
	switch b := p.Blocks; {
	case q.Block > 0:
		say("block", q.Block >= most, fmt.Sprintf("make blocks of %d ports", most), "a device in a call holds %d bindings, and a block has %d ports", most, q.Block)
	case b.Addresses == 0:
		say("block", true, "", "a device in a call holds %d bindings, and a block of %d ports does not fit into the range", most, b.Size)
	case b.Addresses <= addresses:
		say("block", true, "", "blocks of %d ports would do as well: %d devices share an address, and a log has a line for each block", b.Size, b.PerAddress)
	default:
		say("block", true, "", "blocks of %d ports would take %d addresses, since %d devices share one: give ports one by one, unless each binding has to be logged", b.Size, b.Addresses, b.PerAddress)
	}
	if q.UDP > 0 {
		least := q.Refresh + q.Refresh/4
		say("udp-timeout", q.UDP >= least, "set it to "+least.String()+" or more", "silent UDP bindings end after %s, and phones refresh every %s", q.UDP, q.Refresh)
	}
	if q.TCP > 0 {
		say("tcp-timeout", q.TCP >= minTCP, "set it to "+minTCP.String()+" or more", "silent TCP connections end after %s; at least %s is asked for", q.TCP, minTCP)
	}
	if q.Table > 0 {
		say("conntrack", q.Table >= p.Conntrack, fmt.Sprintf("let it hold %d", p.Conntrack), "the translating device must hold %d connections with a quarter of head room, and it holds %d; what does not fit is dropped", p.Conntrack, q.Table)
		return
	}
	say("conntrack", true, "", "the translating device must hold %d connections", p.Conntrack)
}
