package dot1x

import (
	"context"
	"net"
	"strings"
	"sync"
	"time"

	"ringfence"
)

// Dial opens the control socket of wpa_supplicant: datagrams, from a socket that can be answered.
type Dial func(ctx context.Context) (net.Conn, error)

// Supplicant is a wpa_supplicant that runs.
type Supplicant struct {
	ask    net.Conn
	events net.Conn
	now    func() time.Time
	asking sync.Mutex
	mu     sync.Mutex
	status Status
	over   bool          // it was told that EAP succeeded, and so all that came before
	told   chan struct{} // one is in it when the status has changed
}

const (
	answerTime = 5 * time.Second
	startTime  = 10 * time.Second
)

func fault(kind ringfence.Kind, text, hint string, err error) error {
	return &ringfence.Fault{Op: "dot1x", Kind: kind, Text: text, Hint: hint, Err: err}
}

// Attach speaks to a wpa_supplicant, which may just be starting, and follows what it does until ctx ends.
func Attach(ctx context.Context, dial Dial, now func() time.Time) (*Supplicant, error) {
	start, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	s := &Supplicant{now: now, told: make(chan struct{}, 1), status: Status{State: Authenticating, Since: now()}}
	var err error
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		if s.ask, err = dial(start); err == nil {
			if _, err = s.command("PING"); err == nil {
				break
			}
			_ = s.ask.Close()
		}
		select {
		case <-tick.C:
		case <-start.Done():
			return nil, fault(ringfence.KindUnavailable, "wpa_supplicant is not to be reached at its control socket", "is it installed, and may it open the link?", err)
		}
	}
	if s.events, err = dial(start); err == nil {
		_ = s.events.SetDeadline(time.Now().Add(answerTime))
		var b [maxReply]byte
		n := 0
		if _, err = s.events.Write([]byte("ATTACH")); err == nil {
			n, err = s.events.Read(b[:])
		}
		if err == nil && strings.TrimSpace(string(b[:n])) != "OK" {
			err = fault(ringfence.KindDenied, "wpa_supplicant does not tell of its events", "", nil)
		}
	}
	if err != nil {
		s.Close()
		return nil, fault(ringfence.KindUnavailable, "wpa_supplicant does not tell of its events", "", err)
	}
	_ = s.events.SetDeadline(time.Time{})
	context.AfterFunc(ctx, s.Close)
	go s.follow()
	s.refresh()
	return s, nil
}

// Close stops following. wpa_supplicant goes on.
func (s *Supplicant) Close() {
	_ = s.ask.Close()
	if s.events != nil {
		_ = s.events.Close()
	}
}

// command sends a command, and returns the answer.
func (s *Supplicant) command(text string) (string, error) {
	s.asking.Lock()
	defer s.asking.Unlock()
	_ = s.ask.SetDeadline(time.Now().Add(answerTime))
	if _, err := s.ask.Write([]byte(text)); err != nil {
		return "", fault(ringfence.KindUnavailable, "wpa_supplicant is gone", "", err)
	}
	var b [maxReply]byte
	n, err := s.ask.Read(b[:])
	if err != nil {
		return "", fault(ringfence.KindUnavailable, "wpa_supplicant does not answer", "", err)
	}
	if answer := string(b[:n]); !strings.HasPrefix(answer, "FAIL") && !strings.HasPrefix(answer, "UNKNOWN COMMAND") {
		return answer, nil
	}
	return "", fault(ringfence.KindUnsupported, "wpa_supplicant refuses "+text, "", nil)
}

// follow takes events until the socket is closed. After each it asks for the whole status, so that one that was lost does not matter.
func (s *Supplicant) follow() {
	var b [maxReply]byte
	for {
		n, err := s.events.Read(b[:])
		if err != nil {
			return
		}
		e, ok := ParseEvent(b[:n])
		if !ok {
			continue
		}
		s.mu.Lock()
		s.status.hear(e)
		s.over = e.Name == "CTRL-EVENT-EAP-SUCCESS" || s.over && e.Name != "CTRL-EVENT-EAP-STARTED"
		s.mu.Unlock()
		s.refresh()
	}
}

// refresh asks for the status.
func (s *Supplicant) refresh() {
	answer, err := s.command("STATUS")
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.status.State
	if err == nil {
		s.status.take(ParseStatus([]byte(answer)))
	}
	if s.status.State != before {
		s.status.Since = s.now()
	}
	select {
	case s.told <- struct{}{}:
	default:
	}
}

// Status returns where the phone stands.
func (s *Supplicant) Status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.status
}

// WaitSettled waits until the phone is let in or refused, and returns the error of a refusal; or that nothing happened until ctx ended.
func (s *Supplicant) WaitSettled(ctx context.Context) error {
	tick := time.NewTicker(time.Second) // the state machine can go on without an event
	defer tick.Stop()
	for late := false; ; {
		s.mu.Lock()
		now, over := s.status, s.over
		s.mu.Unlock()
		switch {
		case now.State == Authenticated && (over || late): // the status can be ahead of the events, which tell of the server
			return nil
		case now.State == Held && strings.Contains(now.Error, "not believed"):
			return fault(ringfence.KindInsecure, now.Error, now.Hint, nil)
		case now.State == Held && now.Error != "":
			return fault(ringfence.KindDenied, now.Error, now.Hint, nil)
		}
		select {
		case <-ctx.Done():
			now := s.Status()
			if now.Error != "" {
				return fault(ringfence.KindDenied, now.Error, now.Hint, ctx.Err())
			}
			return fault(ringfence.KindTimeout, "the switch does not let the phone in: the transaction is still "+string(now.State), "does this port of the switch ask who is there (802.1X)?", ctx.Err())
		case <-s.told:
		case <-tick.C:
			late = now.State == Authenticated
			s.refresh()
		}
	}
}

// Logoff leaves the network: wpa_supplicant sends an EAPOL-Logoff for the phone.
func (s *Supplicant) Logoff() error {
	_, err := s.command("LOGOFF")
	return err
}

// Logon asks to be let in again after a Logoff.
func (s *Supplicant) Logon() error {
	_, err := s.command("LOGON")
	return err
}
