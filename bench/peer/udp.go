package peer

import (
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
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

// Asterisk would start asterisk as a B2BUA. Debian 12 has no package of it, so nobody has been able to try; until then it says so.
func Asterisk(Setup) (*Server, error) {
	if path, err := exec.LookPath("asterisk"); err == nil {
		return nil, errors.New(path + " is there, but the benchmark has no configuration for it yet")
	}
	return nil, errors.New("asterisk is not installed, and Debian 12 has no package of it")
}
