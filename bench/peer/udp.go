package peer

import (
	"fmt"
	"net/netip"
	"strings"

	"ringfence/bench/load"
	"ringfence/bench/proc"
)

// Sipgo starts the proxy that is made with sipgo.
func Sipgo(s Setup) (*Server, error) {
	p, err := proc.Start(s.Core, s.Proxy)
	if err != nil {
		return nil, err
	}
	line, err := p.Out.ReadString('\n')
	if err != nil {
		p.Stop()
		return nil, fmt.Errorf("the proxy did not start: %s", p.Tail())
	}
	addr, err := netip.ParseAddrPort(strings.TrimSpace(line))
	if err != nil {
		p.Stop()
		return nil, err
	}
	return &Server{Proc: p, Name: "sipgo", Target: load.Target{Addr: addr, Domain: "ringfence.internal", Password: s.Password, Plain: true}}, nil
}
