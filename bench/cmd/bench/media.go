package main

import (
	"fmt"
	"os"
	"path/filepath"

	"ringfence/bench/load"
	"ringfence/bench/peer"
)

// talk relays sealed media of so many calls, each 50 packets a second in both directions. The callee's suite differs where the peer
// would otherwise hand the packets through unopened.
func talk(n int, caller load.Suite, callee map[string]load.Suite) func(*bench, *peer.Server, row) (Sample, error) {
	return func(b *bench, s *peer.Server, r row) (Sample, error) {
		sa, err := load.NewSocket()
		if err != nil {
			return Sample{}, err
		}
		defer sa.Close()
		sb, err := load.NewSocket()
		if err != nil {
			return Sample{}, err
		}
		defer sb.Close()
		as, bs := make([]*load.Leg, n), make([]*load.Leg, n)
		for i := range n {
			if as[i], err = load.NewLeg(caller, sa.Port, uint32(2*i+1)); err != nil {
				return Sample{}, err
			}
			if bs[i], err = load.NewLeg(callee[s.Name], sb.Port, uint32(2*i+2)); err != nil {
				return Sample{}, err
			}
		}
		switch s.Name {
		case "ringfence":
			phones, err := load.Fleet(&s.Target, 0, 2*n)
			if err != nil {
				return Sample{}, err
			}
			defer load.Leave(phones)
			for i := range n {
				end, err := load.Connect(phones[i], phones[n+i], as[i], bs[i])
				if err != nil {
					return Sample{}, fmt.Errorf("call %d: %w", i, err)
				}
				defer func() { _ = end() }() // the phones hang up anyhow
			}
		default:
			b.n++
			for i := range n {
				if err := b.rtpengine.Connect(fmt.Sprintf("call%d-%d", b.n, i), as[i], bs[i]); err != nil {
					return Sample{}, fmt.Errorf("call %d: %w", i, err)
				}
			}
			defer b.stop("rtpengine") // and its calls
		}
		return b.cost(s, r, load.Talk(sa, sb, as, bs))
	}
}

func (b *bench) startRtpengine(s peer.Setup) (*peer.Server, error) {
	r, err := peer.StartRtpengine(s)
	if err != nil {
		return nil, err
	}
	b.rtpengine = r
	return r.Server, nil
}

func (b *bench) stop(name string) {
	if s := b.servers[name]; s != nil {
		s.Stop()
		delete(b.servers, name)
	}
}

func (b *bench) directory() (string, error) {
	b.n++
	dir := filepath.Join(b.dir, fmt.Sprint(b.n))
	return dir, os.MkdirAll(dir, 0o755)
}
