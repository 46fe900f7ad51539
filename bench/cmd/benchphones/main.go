// Command benchphones measures what phones cost: those of `ringfence phone swarm` and as many accounts of baresip, at the same node, with the same password, tones and codec. It is not part of the product.
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"ringfence/bench/peer"
	"ringfence/bench/proc"
)

type options struct {
	node, product string
	phones, calls int
	seconds       int
}

// cost is what phones took of a processor, in microseconds until a phone is registered, for each second of a phone that waits, and for each second of a call, of both its phones; and bytes of memory for each phone.
type cost struct{ start, idle, call, memory float64 }

func main() {
	var o options
	flag.StringVar(&o.node, "node", "", "the benchnode binary")
	flag.StringVar(&o.product, "ringfence", "", "the product's binary")
	flag.IntVar(&o.phones, "phones", 40, "how many phones register")
	flag.IntVar(&o.calls, "calls", 20, "how many pairs of them speak")
	flag.IntVar(&o.seconds, "seconds", 10, "how long each is measured")
	reps := flag.Int("reps", 3, "how often")
	flag.Parse()
	if err := run(o, *reps); err != nil {
		fmt.Fprintln(os.Stderr, "benchphones:", err)
		os.Exit(1)
	}
}

func run(o options, reps int) error {
	fmt.Println("| Work | Ours | baresip | Ratio |\n|---|---|---|---|")
	for range reps {
		dir, err := os.MkdirTemp("", "ringfence-bench-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		s, err := peer.Ringfence(peer.Setup{Core: 0, Dir: dir, Password: "onlyforthisrun", Users: o.phones, Node: o.node})
		if err != nil {
			return err
		}
		ours, err := o.ours(s, dir)
		if err != nil {
			s.Stop()
			return fmt.Errorf("ours: %w", err)
		}
		theirs, err := o.baresip(s, dir)
		s.Stop()
		if err != nil {
			return fmt.Errorf("baresip: %w", err)
		}
		for _, row := range []struct {
			name, unit string
			a, b       float64
		}{{"until a phone is registered", "us", ours.start, theirs.start}, {"a phone that waits, each second", "us", ours.idle, theirs.idle}, {"a call, each second, both phones", "us", ours.call, theirs.call}, {"a registered phone's memory", "KiB", ours.memory / 1024, theirs.memory / 1024}} {
			ratio := "-" // a peer that does nothing meanwhile
			if row.b > 0 {
				ratio = fmt.Sprintf("%.2f", row.a/row.b)
			}
			fmt.Printf("| %s | %.1f %s | %.1f %s | %s |\n", row.name, row.a, row.unit, row.b, row.unit, ratio)
		}
	}
	return nil
}

// ours runs the swarm.
func (o options) ours(s *peer.Server, dir string) (c cost, err error) {
	users, anchor := filepath.Join(dir, "users"), filepath.Join(dir, "anchor.pem")
	var lines strings.Builder
	for i := range o.phones {
		fmt.Fprintf(&lines, "u%d %s %d d%d\n", i, s.Password, 100000+i, i)
	}
	if err := os.WriteFile(users, []byte(lines.String()), 0o600); err != nil {
		return c, err
	}
	if err := os.WriteFile(anchor, []byte(s.Anchor), 0o600); err != nil {
		return c, err
	}
	length := strconv.Itoa(o.seconds) + "s"
	p, err := proc.Start(1, o.product, "phone", "swarm", "--node", "localhost:"+strconv.Itoa(int(s.Addr.Port())), "--domain", s.Domain, "--users", users, "--ca", anchor, "--calls", strconv.Itoa(o.calls), "--for", length, "--stay", length, "--json")
	if err != nil {
		return c, err
	}
	defer p.Stop()
	var r struct {
		Registered int
		Calls      struct{ Heard int }
		Usage      struct {
			Start float64 `json:"cpu_ms_per_registration"`
			Idle  float64 `json:"cpu_us_per_phone_and_second"`
			Call  float64 `json:"cpu_ms_per_call_and_second"`
			Bytes float64 `json:"bytes_per_phone"`
		}
	}
	if err := json.NewDecoder(p.Out).Decode(&r); err != nil {
		return c, fmt.Errorf("%w: %s", err, p.Tail())
	}
	if r.Registered != o.phones || r.Calls.Heard != o.calls {
		return c, fmt.Errorf("%d registered, %d calls were heard: %s", r.Registered, r.Calls.Heard, p.Tail())
	}
	return cost{r.Usage.Start * 1000, r.Usage.Idle, r.Usage.Call * 1000, r.Usage.Bytes}, nil
}

// baresip runs a process for each phone, as it must: it opens one connection to a server, and a connection is one phone's. The second of each pair answers by itself.
func (o options) baresip(s *peer.Server, dir string) (c cost, err error) {
	config := `poll_method epoll
sip_listen 127.0.0.1:0
module_path /usr/lib/baresip/modules
module stdio.so
module g711.so
module srtp.so
module ausine.so
module aubridge.so
module_tmp account.so
module_app menu.so
audio_source ausine,440
audio_player aubridge,ear
audio_alert aubridge,ear
ausrc_srate 48000
ausrc_channels 2
auplay_srate 8000
auplay_channels 1
rtp_ports 40000-49999
`
	all := make([]*instance, o.phones)
	defer func() {
		for _, p := range all {
			if p != nil {
				p.Stop()
			}
		}
	}()
	for i := range all {
		home := filepath.Join(dir, "baresip-"+strconv.Itoa(i))
		if err := os.Mkdir(home, 0o700); err != nil {
			return c, err
		}
		account := fmt.Sprintf("<sip:u%d@%s;transport=tls>;auth_user=d%d;auth_pass=%s;outbound=\"sip:%s;transport=tls\";mediaenc=srtp-mand;regint=3600;answermode=auto;audio_codecs=pcmu\n", i, s.Domain, i, s.Password, s.Addr)
		for name, text := range map[string]string{"config": config, "accounts": account, "contacts": ""} {
			if err := os.WriteFile(filepath.Join(home, name), []byte(text), 0o600); err != nil {
				return c, err
			}
		}
		if all[i], err = start(home); err != nil {
			return c, err
		}
	}
	var memory int64
	for _, p := range all {
		if err := p.await("200 OK"); err != nil {
			return c, err
		}
		memory += p.Memory()
		c.start += float64(p.Busy().Microseconds()) / float64(o.phones)
	}
	c.memory = float64(memory) / float64(o.phones)
	measure := func() float64 { // microseconds a second
		used := func() (sum time.Duration) {
			for _, p := range all {
				sum += p.Busy()
			}
			return sum
		}
		before, began := used(), time.Now()
		time.Sleep(time.Duration(o.seconds) * time.Second)
		return float64((used() - before).Microseconds()) / time.Since(began).Seconds()
	}
	idle := measure()
	c.idle = idle / float64(o.phones)
	for i := range o.calls {
		if _, err := fmt.Fprintf(all[2*i].In, "/dial %d\n", 100000+2*i+1); err != nil {
			return c, err
		}
	}
	for i := range 2 * o.calls {
		if err := all[i].await("Call established"); err != nil {
			return c, err
		}
	}
	c.call = (measure() - idle) / float64(o.calls)
	return c, nil
}

// instance is one baresip.
type instance struct {
	*proc.Proc
	said chan string
}

func start(home string) (*instance, error) {
	p, err := proc.Start(1, "sh", "-c", "exec baresip -f "+home+" 2>&1")
	if err != nil {
		return nil, err
	}
	x := &instance{p, make(chan string, 1000)}
	go func() {
		defer close(x.said)
		for in := bufio.NewScanner(p.Out); in.Scan(); {
			select {
			case x.said <- in.Text():
			default:
			}
		}
	}()
	return x, nil
}

func (x *instance) await(what string) error {
	late := time.After(time.Minute)
	last := ""
	for {
		select {
		case line, ok := <-x.said:
			if !ok {
				return fmt.Errorf("it ended before %q: %s", what, last)
			}
			if last = line; strings.Contains(line, what) {
				return nil
			}
		case <-late:
			return fmt.Errorf("%q did not come: %s", what, last)
		}
	}
}
