package probe

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"os/exec"
	"strings"
	"testing"
	"time"

	"ringfence/internal/network/ready/verdict"
	"ringfence/internal/testkit"
)

// irtt is what the program of that name says, in nanoseconds.
type irtt struct {
	Stats struct {
		Sent       int       `json:"packets_sent"`
		Arrived    int       `json:"server_packets_received"`
		Returned   int       `json:"packets_received"`
		RTT        irttTimes `json:"rtt"`
		Up         irttTimes `json:"send_delay"`
		Down       irttTimes `json:"receive_delay"`
		UpVaries   irttTimes `json:"ipdv_send"`
		DownVaries irttTimes `json:"ipdv_receive"`
	} `json:"stats"`
}

type irttTimes struct{ Min, Mean, Median float64 }

// V13: irtt says the same of the same line: loss within 0.2 %, variation within 1 ms, and what follows for the opinion score.
func TestVoiceAsIRTT(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name     string
		up, down passes
		within   float64 // of medians, in ms; a median of what is spread is uncertain itself
	}{
		{"good", poor(0, 0, 5*time.Millisecond, 0, 1), poor(0, 0, 5*time.Millisecond, 0, 2), 1},
		{"1 % and 30 ms", poor(100, 1, 20*time.Millisecond, 30*time.Millisecond, 3), poor(0, 0, 10*time.Millisecond, 0, 4), 1.5},
		{"3 % and 60 ms back", poor(0, 0, 40*time.Millisecond, 0, 5), poor(33, 1, 40*time.Millisecond, 60*time.Millisecond, 6), 2.5},
		{"5 % in bursts", poor(100, 5, 80*time.Millisecond, 0, 7), poor(100, 5, 0, 30*time.Millisecond, 8), 1.5},
	} {
		t.Run(c.name, func(t *testing.T) { // one after the other: each wants the host for itself
			l := newLine(t, c.up, c.down)
			l.cloud.serve("", testkit.Need(t, "/usr/bin/irtt", "irtt"), "server", "-b", "192.0.2.2:2112")
			var wrong []string
			for n := range uint64(4) { // a host that was busy for a moment says nothing about a line
				if wrong = l.asIRTT(n+1, c.within); len(wrong) == 0 {
					return
				}
			}
			t.Errorf("%s", strings.Join(wrong, "\n"))
		})
	}
}

// asIRTT measures with both at a time and returns what they do not agree on.
func (l *lab) asIRTT(seed uint64, within float64) (wrong []string) {
	l.Helper()
	const long = 6 * time.Second
	ctx, cancel := context.WithTimeout(l.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, testkit.Need(l, "/usr/bin/irtt", "irtt"), "client", "-Q", "-o", "-", "-i", "20ms", "-d", long.String(), "-l", fmt.Sprint(packetSize), "192.0.2.2:2112")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	busy := disturbance()
	if err := l.site.in(cmd.Start); err != nil {
		l.Fatal(err)
	}
	c := check(l, l.run("voice", func(c *Config) { c.Voice, c.Seed = long, seed }, media()), "voice")
	err := cmd.Wait()
	late := busy()
	if err != nil {
		l.Fatalf("irtt: %v\n%s", err, out.String())
	}
	var j irtt
	if err := json.Unmarshal(out.Bytes(), &j); err != nil {
		l.Fatalf("irtt: %v\n%.500s", err, out.String())
	}
	s := j.Stats
	if s.Sent < 150 { // it leaves out what it is late for
		return []string{fmt.Sprintf("irtt sent %d packets", s.Sent)}
	}
	host := 2 * float64(late) / float64(time.Millisecond) // what this host itself adds
	within += host
	l.Logf("within %.2f ms", within)
	differ := func(what string, ours, theirs, within float64) {
		l.Logf("%s: %.3f, irtt has %.3f", what, ours, theirs)
		if math.Abs(ours-theirs) > within || math.IsNaN(ours) {
			wrong = append(wrong, fmt.Sprintf("%s: %.3f, irtt has %.3f", what, ours, theirs))
		}
	}
	for _, w := range []struct {
		name     string
		of, got  int
		varies   irttTimes
		transits irttTimes
	}{{"up", s.Sent, s.Arrived, s.UpVaries, s.Up}, {"down", s.Arrived, s.Returned, s.DownVaries, s.Down}} {
		var loss, jitter, r, mos, mean, last, median, most float64
		if _, err := fmt.Sscanf(c.Values[w.name], "loss %f %%, jitter %f ms, R %f, MOS %f", &loss, &jitter, &r, &mos); err != nil {
			l.Fatalf("%v: %q", err, c.Values[w.name])
		}
		if _, err := fmt.Sscanf(c.Values["jitter "+w.name], "mean difference of transit %f ms (RFC 5481), at the end %f ms (RFC 3550); over the fastest packet: median %f ms, 95 of 100 within %f ms", &mean, &last, &median, &most); err != nil {
			l.Fatalf("%v: %q", err, c.Values["jitter "+w.name])
		}
		theirs := 100 * (1 - float64(w.got)/float64(w.of))
		differ(w.name+": loss in %", loss, theirs, .2+quiet(host))
		differ(w.name+": variation in ms", mean, w.varies.Mean/1e6, 1+host)
		differ(w.name+": median over the fastest in ms", median, (w.transits.Median-w.transits.Min)/1e6, within)
		play := max(40*time.Millisecond, 2*time.Duration(max(s.UpVaries.Mean, s.DownVaries.Mean)))
		_, want := verdict.Stream{Delay: time.Duration(s.RTT.Median)/2 + packetTime + play, Loss: theirs / 100, BurstRatio: burstOf(l, c.Values[w.name]), Ie: codecIe, Bpl: codecBpl}.Quality()
		differ(w.name+": MOS", mos, want, .03+quiet(host)/8)
	}
	rtt, err := time.ParseDuration(c.Values["round trip"])
	if err != nil {
		l.Fatal(err)
	}
	differ("round trip in ms", float64(rtt)/1e6, s.RTT.Median/1e6, within)
	return wrong
}

// quiet is nothing on a host that does what it should in time, and grows beyond: a busy host loses packets of irtt's itself.
func quiet(ms float64) float64 { return max(0, ms-1) }

// disturbance measures how late this host is with what it has to do, until the mean of that is asked for.
func disturbance() (mean func() time.Duration) {
	stop, sum := make(chan struct{}), make(chan time.Duration)
	go func() {
		const each = 5 * time.Millisecond
		var late time.Duration
		n := time.Duration(0)
		t := time.NewTimer(each)
		defer t.Stop()
		for began := time.Now(); ; began = time.Now() {
			select {
			case <-stop:
				sum <- late / max(n, 1)
				return
			case <-t.C:
			}
			late += time.Since(began) - each
			n++
			t.Reset(each)
		}
	}()
	return func() time.Duration { close(stop); return <-sum }
}

// burstOf reads how long losses last out of the parameters, since irtt does not say.
func burstOf(t testing.TB, s string) (b float64) {
	t.Helper()
	_, rest, _ := strings.Cut(s, "BurstR ")
	if _, err := fmt.Sscanf(rest, "%f", &b); err != nil {
		t.Fatalf("%v: %q", err, s)
	}
	return b
}
