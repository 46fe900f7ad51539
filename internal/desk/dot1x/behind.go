package dot1x

import (
	"context"
	"sync"
	"time"
)

// Link is one port of the phone, as EAPOL frames see it. Read returns one frame of those that came in.
type Link interface {
	Read(b []byte) (int, error)
	Write(b []byte) (int, error)
	Close() error
}

// Behind is the computer at the PC port, as its frames showed it.
type Behind struct {
	Station string    `json:"station,omitempty"`
	State   string    `json:"state"` // "nobody", "authenticating", "authenticated", "refused", "logged off"
	Since   time.Time `json:"since,omitzero"`
	Logoffs int       `json:"proxy_logoffs"` // that the phone sent for it
}

// Behind.State.
const (
	Nobody    = "nobody"
	Asking    = "authenticating"
	LetIn     = "authenticated"
	Refused   = "refused"
	LoggedOff = "logged off"
)

// PassThrough carries EAPOL between the switch and a computer at the PC port, and logs the computer off that has left. One station is minded: the one that spoke last.
type PassThrough struct {
	Own    [6]byte // the phone's address: what is for the phone alone stays here
	Switch Link    // must hear frames for others too
	PC     Link
	Up     func() bool // whether the PC port has a link
	Now    func() time.Time

	mu      sync.Mutex
	state   Behind
	station [6]byte
	version byte
}

// linkLook is how often the link of the PC port is looked at.
const linkLook = 100 * time.Millisecond

// Behind returns what is known of the computer.
func (p *PassThrough) Behind() Behind {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.state.State == "" {
		return Behind{State: Nobody}
	}
	return p.state
}

// Run carries frames until ctx ends, and closes both links. A computer that is let in then is logged off: nobody would notice any more that it goes.
func (p *PassThrough) Run(ctx context.Context) {
	var wg sync.WaitGroup
	wg.Go(func() { p.carry(p.PC, p.fromPC) })
	wg.Go(func() { p.carry(p.Switch, p.fromSwitch) })
	tick := time.NewTicker(linkLook)
	defer tick.Stop()
	up := p.Up()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-tick.C:
			now := p.Up()
			if up && !now {
				p.gone()
			}
			up = now
		}
	}
	p.gone()
	_, _ = p.PC.Close(), p.Switch.Close()
	wg.Wait()
}

func (p *PassThrough) carry(from Link, take func(Frame, []byte)) {
	b := make([]byte, maxFrame+1)
	for {
		n, err := from.Read(b)
		if err != nil {
			return
		}
		if f, err := ParseFrame(b[:n]); err == nil {
			take(f, b[:n])
		}
	}
}

// fromPC passes on what the computer says to the switch.
func (p *PassThrough) fromPC(f Frame, b []byte) {
	if f.From == p.Own { // whoever says they are the phone
		return
	}
	p.mu.Lock()
	if f.From != p.station {
		if p.state.State == LetIn { // another computer took its place, and the link never went down
			p.logoff()
		}
		p.station = f.From
	}
	p.version = f.Version
	switch {
	case f.Type == typeLogoff:
		p.enter(LoggedOff)
	case p.state.State != LetIn || f.Type == typeStart:
		p.enter(Asking)
	}
	p.mu.Unlock()
	_, _ = p.Switch.Write(b)
}

// fromSwitch passes on what is for the computer, or for whoever is at the port.
func (p *PassThrough) fromSwitch(f Frame, b []byte) {
	p.mu.Lock()
	known := p.station != [6]byte{}
	mine := f.To == p.station && known
	if mine && f.Type == typeEAP {
		switch f.Code {
		case codeSuccess:
			p.enter(LetIn)
		case codeFailure:
			p.enter(Refused)
		}
	}
	p.mu.Unlock()
	if mine || f.To == Group() {
		_, _ = p.PC.Write(b)
	}
}

// enter changes the state; the lock is held.
func (p *PassThrough) enter(state string) {
	if p.state.State != state || p.state.Station != hardware(p.station) {
		p.state.State, p.state.Station, p.state.Since = state, hardware(p.station), p.Now()
	}
}

// gone logs the computer off that was let in, or may be in a moment.
func (p *PassThrough) gone() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.state.State == LetIn || p.state.State == Asking {
		p.logoff()
		p.enter(LoggedOff)
	}
}

// logoff speaks for the computer; the lock is held.
func (p *PassThrough) logoff() {
	if _, err := p.Switch.Write(Logoff(p.station, p.version)); err == nil {
		p.state.Logoffs++
	}
}
