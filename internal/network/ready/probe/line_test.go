package probe

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"ringfence/internal/network/ready/reflector"
	"ringfence/internal/network/ready/verdict"
)

// passes says how long a line keeps a packet, and whether it lets it through at all.
type passes func(packet []byte) (time.Duration, bool)

// newLine is a site and a cloud with a line between them that this process is, so that what the line does is known and needs no kernel with a special scheduler.
func newLine(t *testing.T, up, down passes) *lab {
	t.Helper()
	l := &lab{T: t, site: newSpace(t), cloud: newSpace(t)}
	site, cloud := l.site.tun(), l.cloud.tun()
	l.site.do(`ip link set lo up
		ip link set line up
		ip address add 10.0.0.2/24 dev line
		ip route add default dev line`)
	l.cloud.do(`ip link set lo up
		ip link set line up
		ip address add 192.0.2.2/24 dev line
		ip address add 192.0.2.3/24 dev line
		ip route add default dev line`)
	go carry(site, cloud, up)
	go carry(cloud, site, down)
	l.reflect(func(c *reflector.Config) { c.Calls = 100 })
	return l
}

// tun makes an interface whose other end is the file.
func (s *space) tun() *os.File {
	s.t.Helper()
	device := "/dev/net/tun"
	if _, err := os.Stat(device); err != nil {
		device = filepath.Join(s.t.TempDir(), "tun")
		if err := unix.Mknod(device, unix.S_IFCHR|0o600, int(unix.Mkdev(10, 200))); err != nil {
			s.t.Fatal(err)
		}
	}
	var file *os.File
	if err := s.in(func() error {
		fd, err := unix.Open(device, unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
		if err != nil {
			return err
		}
		r, err := unix.NewIfreq("line")
		if err != nil {
			return err
		}
		r.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, r)
		file = os.NewFile(uintptr(fd), device) // it can be waited for from now on
		return err
	}); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { file.Close() })
	return file
}

func carry(from, to *os.File, way passes) {
	b := make([]byte, 2048)
	for {
		n, err := from.Read(b)
		if err != nil {
			return
		}
		packet := append([]byte(nil), b[:n]...)
		d, ok := way(packet)
		switch {
		case ok && d <= 0:
			_, _ = to.Write(packet)
		case ok:
			time.AfterFunc(d, func() { _, _ = to.Write(packet) })
		}
	}
}

// narrow is a line of so many bits in a second, with room for so long in its queue.
func narrow(rate float64, room time.Duration) passes {
	var mu sync.Mutex
	var free time.Time
	return func(packet []byte) (time.Duration, bool) {
		mu.Lock()
		defer mu.Unlock()
		now := time.Now()
		if free.Before(now) {
			free = now
		}
		if free.Sub(now) > room {
			return 0, false
		}
		free = free.Add(time.Duration(float64(len(packet)*8) / rate * float64(time.Second)))
		return free.Sub(now), true
	}
}

// poor loses one of so many packets of a stream, in runs, and delays each by chance: the same of each flow.
func poor(one, run int, delay, vary time.Duration, seed uint64) passes {
	type flow struct {
		n int
		r *rand.Rand
	}
	flows := map[string]*flow{}
	return func(packet []byte) (time.Duration, bool) {
		if len(packet) != packetSize+28 {
			return delay, true
		}
		key := string(packet[12:24]) // addresses and ports
		f := flows[key]
		if f == nil {
			f = &flow{r: rand.New(rand.NewPCG(seed, 0))}
			flows[key] = f
		}
		f.n++
		d := delay
		if vary > 0 {
			d += time.Duration(f.r.Int64N(int64(vary)))
		}
		return d, one == 0 || f.n%one < one/2 || f.n%one >= one/2+run
	}
}

// capacity looks how many calls fit, again if this host was too busy to find out.
func (l *lab) capacity(calls int, progress func(int, int, string)) (c verdict.Check) {
	l.Helper()
	for range 5 {
		c = check(l, l.run("capacity", func(k *Config) {
			k.Calls, k.callStep, k.callHold, k.Progress = calls, time.Second, 1500*time.Millisecond, progress
		}, media()), "capacity")
		if c.Cause != verdict.Untested {
			break
		}
	}
	return c
}

// How many calls fit is what the rate of the line says, whichever way is the narrow one, and whether it loses or keeps waiting.
func TestCapacity(t *testing.T) {
	t.Parallel()
	const call = (callSize + 28) * 8 * 50 // bits in a second
	for _, c := range []struct {
		name          string
		up, down      passes
		asked, calls  int
		status        verdict.Status
		cause         verdict.Cause
		says, suggest string
	}{
		{"wide", narrow(1e9, time.Second), narrow(1e9, time.Second), 6, 6, verdict.Pass, "", "6 calls fit", ""},
		{"narrow to the service", narrow(5.3*call, 150*time.Millisecond), narrow(1e9, time.Second), 20, 5, verdict.Fail, verdict.Quality, "5 calls fit; with 6: ", "no more than 5 calls"},
		{"long queue back", narrow(1e9, time.Second), narrow(3.2*call, 3*time.Second), 20, 3, verdict.Fail, verdict.Quality, "3 calls fit; with 4: ", "no more than 3 calls"},
		{"none", narrow(.5*call, 20*time.Millisecond), narrow(1e9, time.Second), 2, 0, verdict.Fail, verdict.Quality, "not even one call fits: ", "a policer"},
	} {
		t.Run(c.name, func(t *testing.T) { // one after the other: each wants the host for itself
			l := newLine(t, c.up, c.down)
			shown := 0
			got := l.capacity(c.asked, func(int, int, string) { shown++ })
			if got.Status != c.status || got.Cause != c.cause || got.Values["calls"] != fmt.Sprint(c.calls) || !strings.HasPrefix(got.Seen, c.says) {
				t.Errorf("%+v", got)
			}
			is(t, got, c.status, c.cause)
			if c.suggest != "" && !strings.Contains(got.Change, c.suggest) {
				t.Errorf("%s", got.Change)
			}
			if c.name == "long queue back" && !strings.Contains(got.Seen, "ms down in queues") {
				t.Errorf("that packets wait is not told: %s", got.Seen)
			}
			if shown < 3 {
				t.Errorf("its progress is shown %d times", shown)
			}
		})
	}
}

// The kernel polices the line: it lets so many packets pass in a second.
func TestCapacityPoliced(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.reflect(func(c *reflector.Config) {
		c.Listen, c.Second, c.Calls = netip.MustParseAddrPort("192.0.2.2:8471"), netip.Addr{}, 100
	})
	l.router.rules("table ip t {\n chain f { type filter hook forward priority 0; iifname inside udp length 190 limit rate over 230/second burst 5 packets drop; }\n}") // 4.6 calls
	got := l.capacity(20, nil)
	is(t, got, verdict.Fail, verdict.Quality)
	if got.Values["calls"] != "4" || !strings.Contains(got.Seen, "% lost up") {
		t.Errorf("%s", got.Seen)
	}
}

// A queue that stays is told from moments in which a host is busy.
func TestStanding(t *testing.T) {
	f := &flight{calls: 2, came: make([]bool, 200)}
	transit := make([]time.Duration, 200)
	for i := range transit {
		f.came[i] = i%7 != 0
		transit[i] = 3 * time.Millisecond
		if i%20 > 1 {
			transit[i] = 90 * time.Millisecond // each time but two packets in a fifth of a second
		}
	}
	if got := f.standing(transit); got != 0 {
		t.Errorf("%v", got)
	}
	for i := range 40 {
		transit[100+i] += 60 * time.Millisecond
	}
	if got := f.standing(transit); got != 60*time.Millisecond {
		t.Errorf("%v", got)
	}
	clear(f.came)
	if got := f.standing(transit); got != 0 {
		t.Errorf("%v", got)
	}
}

// The reflector lends itself to so many calls and no more, and that is no fault of the line.
func TestCapacityOfReflector(t *testing.T) {
	t.Parallel()
	l := newLine(t, narrow(1e9, time.Second), narrow(1e9, time.Second))
	short := func(c *Config) { c.Calls, c.callStep, c.callHold = 5, 200*time.Millisecond, 300*time.Millisecond }
	for calls, want := range map[int]verdict.Status{0: verdict.Skip, 2: verdict.Warn} {
		l.reflect(func(c *reflector.Config) {
			c.Listen, c.Second, c.Calls = netip.AddrPortFrom(c.Listen.Addr(), uint16(9000+calls)), netip.Addr{}, calls
		})
		is(t, check(t, l.run("capacity", short, media()), "capacity"), want, verdict.Untested)
	}
}

// The search ends with the true number, within a fiftieth, in few steps.
func TestLine(t *testing.T) {
	for most := 1; most <= MaxCalls; most = most*3/2 + 1 {
		for truth := 0; truth <= most; truth = truth*5/4 + 1 {
			fit, over, done, err := line(most, time.Second, 2*time.Second, func(calls int, _ time.Duration) (step, error) {
				if calls < 1 || calls > most {
					t.Fatalf("%d calls are tried, of at most %d", calls, most)
				}
				if calls > truth {
					return step{calls: calls, fault: "too many"}, nil
				}
				return step{calls: calls}, nil
			})
			if err != nil || fit > truth || truth-fit > max(0, truth/50) || len(done) > 21 || (over.calls == 0) != (fit == most) || fit > 0 && !done[len(done)-1].held {
				t.Errorf("%d of %d: %d fit, %+v is too many; %d steps %+v", truth, most, fit, over, len(done), done)
			}
		}
	}
	// What fits for a moment only does not fit.
	fit, over, done, _ := line(100, time.Second, 2*time.Second, func(calls int, d time.Duration) (step, error) {
		if calls > 60 || d > time.Second && calls > 37 {
			return step{calls: calls, fault: "too many"}, nil
		}
		return step{calls: calls}, nil
	})
	if fit != 37 || over.calls != 38 || len(done) > maxSteps {
		t.Errorf("%d fit, %+v is too many; %+v", fit, over, done)
	}
	// Neither does what a line of luck carries: the search still ends.
	r := rand.New(rand.NewPCG(1, 1))
	fit, over, done, _ = line(100, time.Second, 2*time.Second, func(calls int, d time.Duration) (step, error) {
		if r.IntN(2) == 0 {
			return step{calls: calls, fault: "bad luck"}, nil
		}
		return step{calls: calls}, nil
	})
	if over.calls <= fit || len(done) > maxSteps {
		t.Errorf("%d fit, %+v is too many; %+v", fit, over, done)
	}
}
