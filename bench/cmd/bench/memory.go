package main

import (
	"errors"
	"time"

	"ringfence/bench/load"
	"ringfence/bench/peer"
)

// settle lets the server come to rest; ours is asked to give back what it has freed, which it would do by itself within minutes.
func settle(s *peer.Server) error {
	time.Sleep(2 * time.Second)
	if s.Name != "ringfence" {
		return nil
	}
	return s.Tell("gc")
}

// idle measures what one registered phone takes that keeps its TLS connection and is silent.
func idle(b *bench, s *peer.Server, _ row) (Sample, error) {
	if err := settle(s); err != nil {
		return Sample{}, err
	}
	before := s.Memory()
	phones, err := load.Fleet(&s.Target, 0, b.phones)
	if err != nil {
		return Sample{}, err
	}
	defer b.stop(s.Name) // the next run begins with a fresh server
	defer load.Leave(phones)
	if err := settle(s); err != nil {
		return Sample{}, err
	}
	return Sample{Cost: float64(s.Memory()-before) / 1024 / float64(len(phones))}, nil
}

// finished measures what is kept of a call that has ended, right after many of them.
func finished(b *bench, s *peer.Server, _ row) (Sample, error) {
	phones, err := load.Fleet(&s.Target, 0, 200)
	if err != nil {
		return Sample{}, err
	}
	defer b.stop(s.Name)
	defer load.Leave(phones)
	if err := settle(s); err != nil {
		return Sample{}, err
	}
	const calls, rate = 10_000, 500
	before := s.Memory()
	j := load.PlaceCalls(phones[:100], phones[100:], rate)
	for limit := time.Now().Add(3 * calls / rate * time.Second); j.Ops() < calls && time.Now().Before(limit); {
		time.Sleep(10 * time.Millisecond)
	}
	j.Stop()
	done := j.Ops()
	if done < calls/2 {
		return Sample{}, errors.Join(errors.New("too few calls were made"), j.Err())
	}
	if s.Name == "ringfence" {
		if err := s.Tell("gc"); err != nil {
			return Sample{}, err
		}
	}
	return Sample{Cost: float64(max(s.Memory()-before, 0)) / 1024 / float64(done), Rate: rate}, nil
}
