package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"ringfence/bench/load"
	"ringfence/bench/peer"
)

// row is one line of the table: one kind of work at one load.
type row struct {
	name   string
	what   string
	unit   string
	toLand float64 // the ratio that must be met
	goal   float64
	// absolute: toLand and goal are our own cost, not a ratio.
	absolute bool
	setup    peer.Setup
	rivals   []string // whom it runs on, ours first
	// measure does the work on one server and returns the cost of one operation.
	measure func(*bench, *peer.Server, row) (Sample, error)
}

// Sample is one run on one server.
type Sample struct {
	Cost float64 `json:"cost"` // microseconds of CPU per operation, or bytes
	Rate float64 `json:"rate"` // operations per second, if it is CPU
	Busy float64 `json:"busy"` // share of its core that the server used
}

// Result is what a row came to: the medians, and the median of the ratios of neighbouring runs.
type Result struct {
	Name   string  `json:"name"`
	What   string  `json:"what"`
	Unit   string  `json:"unit"`
	Ours   Sample  `json:"ours"`
	Peer   Sample  `json:"peer"`
	Rival  string  `json:"peer_name"`
	Ratio  float64 `json:"ratio"`
	ToLand float64 `json:"to_land,omitempty"`
	Goal   float64 `json:"goal,omitempty"`
	// Absolute tells that ToLand and Goal are about Ours.Cost, not about Ratio.
	Absolute bool                `json:"absolute,omitempty"`
	Runs     map[string][]Sample `json:"runs"`
	Notes    []string            `json:"notes,omitempty"`
}

func rows() []row {
	both := []string{"ringfence", "kamailio"}
	var out []row
	add := func(r row) {
		r.unit, r.rivals = "us", both
		out = append(out, r)
	}
	for _, l := range []struct {
		name string
		rate int
	}{{"saturation", 0}, {"2000/s", 2000}} {
		add(row{name: "register-" + l.name, what: "REGISTER with digest (401+200), live TLS 1.3 connection, " + l.name, toLand: 1.2, goal: 0.85,
			setup: peer.Setup{Users: 200, Each: true}, measure: registers(l.rate)})
	}
	add(row{name: "handshake-full", what: "the same, new connection, full TLS 1.3 handshake (ECDSA P-256, x25519)", toLand: 0.9, goal: 0.6,
		setup: peer.Setup{Users: 200, Each: true}, measure: handshakes(false)})
	add(row{name: "handshake-resumed", what: "the same, resumed", toLand: 0.8, goal: 0.5,
		setup: peer.Setup{Users: 200, Each: true}, measure: handshakes(true)})
	for _, l := range []struct {
		name string
		rate int
	}{{"saturation", 0}, {"1000/s", 1000}} {
		add(row{name: "call-" + l.name, what: "INVITE-180-200-ACK-BYE-200, TLS on both legs, " + l.name, toLand: 1.3, goal: 0.9,
			setup: peer.Setup{Users: 200, Each: true}, measure: calls(l.rate)})
	}
	for _, l := range []struct {
		name string
		rate int
	}{{"saturation", 0}, {"1000/s", 1000}} {
		udp := row{name: "udp-" + l.name, what: "the same call over UDP with RTP in the clear, by an exception for each device, " + l.name, unit: "us",
			rivals: []string{"ringfence", "sipgo"}, toLand: 0.5, goal: 0.3, setup: peer.Setup{Users: 200, Plain: true}, measure: calls(l.rate)}
		out = append(out, udp)
		if l.rate == 0 {
			udp.name, udp.what, udp.rivals = "udp-b2bua", "the same beside a back-to-back user agent", []string{"ringfence", "asterisk"}
			udp.toLand, udp.goal = 0.1, 0.06
			out = append(out, udp)
		}
	}
	out = append(out,
		row{name: "memory-idle", what: "memory of an idle registered TLS phone", unit: "KiB", rivals: both, toLand: 24, goal: 14, absolute: true, measure: idle},
		row{name: "memory-call", what: "memory kept of a finished call, right after 10,000 of them", unit: "KiB", rivals: both, toLand: 8, goal: 4, absolute: true,
			setup: peer.Setup{Users: 201}, measure: finished})
	const cm, gcm128, gcm256 = "AES_CM_128_HMAC_SHA1_80", "AEAD_AES_128_GCM", "AEAD_AES_256_GCM"
	for _, n := range []int{200, 500} {
		media := func(name, suites string, caller load.Suite, callee map[string]load.Suite) {
			out = append(out, row{name: fmt.Sprintf("srtp-%s-%d", name, n), what: fmt.Sprintf("SRTP to SRTP with re-encryption, %s, %d calls of 20 ms, each packet", suites, n),
				unit: "us", rivals: []string{"ringfence", "rtpengine"}, toLand: 0.7, goal: 0.5, setup: peer.Setup{Users: 2 * n}, measure: talk(n, caller, callee)})
		}
		media("cm", "AES_CM", cm, map[string]load.Suite{"ringfence": cm, "rtpengine": "AES_CM_128_HMAC_SHA1_32"})
		media("gcm", "GCM", gcm128, map[string]load.Suite{"ringfence": gcm256, "rtpengine": gcm256})
	}
	return out
}

// bench holds the servers that run, by name; rows that need the same setup share them.
type bench struct {
	options
	dir     string
	n       int
	setup   peer.Setup
	servers map[string]*peer.Server

	rtpengine *peer.Rtpengine
}

func (b *bench) stopAll() {
	for _, s := range b.servers {
		s.Stop()
	}
	b.servers = nil
}

// server returns a running server for a row, starting it if need be.
func (b *bench) server(name string, r row) (*peer.Server, error) {
	if b.setup != r.setup {
		b.stopAll()
		b.setup = r.setup
	}
	if s := b.servers[name]; s != nil && s.Alive() {
		return s, nil
	}
	s := r.setup
	if s.Users == 0 {
		s.Users = b.phones
	}
	s.Core, s.Node, s.Proxy, s.Password = b.core, b.node, b.proxy, fmt.Sprintf("p%d", time.Now().UnixNano())
	var err error
	if s.Dir, err = b.directory(); err != nil {
		return nil, err
	}
	start := map[string]func(peer.Setup) (*peer.Server, error){"ringfence": peer.Ringfence, "kamailio": peer.Kamailio, "sipgo": peer.Sipgo, "asterisk": peer.Asterisk, "rtpengine": b.startRtpengine}[name]
	srv, err := start(s)
	if err != nil {
		return nil, err
	}
	if b.servers == nil {
		b.servers = map[string]*peer.Server{}
	}
	b.servers[name] = srv
	return srv, nil
}

// row runs one row on each server by turns.
func (b *bench) row(r row) Result {
	res := Result{Name: r.name, What: r.what, Unit: r.unit, ToLand: r.toLand, Goal: r.goal, Absolute: r.absolute, Runs: map[string][]Sample{}}
	if len(r.rivals) > 1 {
		res.Rival = r.rivals[1]
	}
	var ratios []float64
	for rep := range b.reps {
		got := map[string]Sample{}
		for _, name := range r.rivals {
			s, err := b.server(name, r)
			if err == nil {
				var sample Sample
				if sample, err = r.measure(b, s, r); err == nil {
					got[name] = sample
					res.Runs[name] = append(res.Runs[name], sample)
				}
			}
			if err != nil {
				note := fmt.Sprintf("%s, run %d: %v", name, rep+1, err)
				if s != nil && !s.Alive() {
					note += "; it died: " + s.Tail()
				}
				res.Notes = append(res.Notes, note)
			}
		}
		if ours, theirs := got["ringfence"], got[res.Rival]; ours.Cost > 0 && theirs.Cost > 0 {
			ratios = append(ratios, ours.Cost/theirs.Cost)
		}
	}
	res.Ours, res.Peer, res.Ratio = median(res.Runs["ringfence"]), median(res.Runs[res.Rival]), medianOf(ratios)
	return res
}

func median(s []Sample) Sample {
	if len(s) == 0 {
		return Sample{}
	}
	s = slices.Clone(s)
	slices.SortFunc(s, func(a, b Sample) int {
		if a.Cost < b.Cost {
			return -1
		}
		return 1
	})
	return s[len(s)/2]
}

func medianOf(f []float64) float64 {
	if len(f) == 0 {
		return 0
	}
	f = slices.Sorted(slices.Values(f))
	return f[len(f)/2]
}

// cost measures the server while a job runs, and then ends the job.
func (b *bench) cost(s *peer.Server, r row, j *load.Job) (Sample, error) {
	time.Sleep(time.Second)
	if b.profile != "" && s.Name == "ringfence" {
		if err := s.Tell("profile " + filepath.Join(b.profile, slug(r.name)+".prof")); err != nil {
			return Sample{}, err
		}
	}
	cpu, ops, start := s.CPU(), j.Ops(), time.Now()
	time.Sleep(time.Duration(b.seconds * float64(time.Second)))
	used, done, wall := s.CPU()-cpu, j.Ops()-ops, time.Since(start)
	if b.profile != "" && s.Name == "ringfence" {
		for _, line := range []string{"stop", "heap " + filepath.Join(b.profile, slug(r.name)+".heap")} {
			if err := s.Tell(line); err != nil {
				return Sample{}, err
			}
		}
	}
	j.Stop()
	if err := j.Err(); err != nil {
		return Sample{}, err
	}
	if done == 0 {
		return Sample{}, errors.New("nothing was done")
	}
	if again := j.Resent(); again > done/100 {
		return Sample{}, fmt.Errorf("%d requests had to be sent again during %d calls", again, done)
	}
	return Sample{Cost: float64(used.Nanoseconds()) / 1e3 / float64(done), Rate: float64(done) / wall.Seconds(), Busy: used.Seconds() / wall.Seconds()}, nil
}

func slug(s string) string {
	b := []byte(s)
	for i, c := range b {
		if c == '/' {
			b[i] = '-'
		}
	}
	return string(b)
}

func registers(rate int) func(*bench, *peer.Server, row) (Sample, error) {
	return func(b *bench, s *peer.Server, r row) (Sample, error) {
		phones, err := load.Fleet(&s.Target, 0, 200)
		if err != nil {
			return Sample{}, err
		}
		defer load.Hangup(phones)
		return b.cost(s, r, load.Registers(phones, rate))
	}
}

func handshakes(resumed bool) func(*bench, *peer.Server, row) (Sample, error) {
	return func(b *bench, s *peer.Server, r row) (Sample, error) {
		t := s.Target
		t.Group = tls.X25519 // what OpenSSL 3.0 can do too
		return b.cost(s, r, load.Handshakes(&t, 32, 0, resumed))
	}
}

func calls(rate int) func(*bench, *peer.Server, row) (Sample, error) {
	return func(b *bench, s *peer.Server, r row) (Sample, error) {
		phones, err := load.Fleet(&s.Target, 0, r.setup.Users)
		if err != nil {
			return Sample{}, err
		}
		defer load.Hangup(phones)
		half := len(phones) / 2
		return b.cost(s, r, load.PlaceCalls(phones[:half], phones[half:], rate))
	}
}
