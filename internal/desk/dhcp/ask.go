package dhcp

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"time"

	"ringfence"
)

// gather is how long a phone waits for further offers after the first.
const gather = time.Second

// random returns 32 bits.
func random() (uint32, error) {
	var b [4]byte
	if _, err := rand.Read(b[:]); err != nil {
		return 0, fault(ringfence.KindInternal, "there is no randomness", "", err)
	}
	return binary.BigEndian.Uint32(b[:]), nil
}

// about returns a time and up to a tenth more or less, so that phones that start together do not go on asking together (RFC 2131 section 4.1, RFC 8415 section 15).
func about(d time.Duration) time.Duration {
	n, err := random()
	if err != nil || d <= 0 {
		return d
	}
	return d - d/10 + time.Duration(uint64(n)*uint64(d/5)>>32)
}

// waits are the times between two questions: each twice the one before, up to a bound, and how many questions there are (0: as many as the context allows).
type waits struct {
	first, longest time.Duration
	questions      int
	until          time.Time // if set each wait is half of the time that is left until then, and a minute at least (RFC 2131 section 4.4.5)
}

// errEnough ends an exchange with success.
var errEnough = errors.New("enough")

// ask sends a question until take has what it wants: it returns errEnough, or another error to give up, or nil to hear more. After the first answer that it calls good it is heard for a while more.
func ask(ctx context.Context, c net.PacketConn, to net.Addr, w waits, question func(elapsed time.Duration) []byte, take func(b []byte, from netip.AddrPort) (good bool, err error)) error {
	defer context.AfterFunc(ctx, func() { _ = c.SetReadDeadline(time.Unix(1, 0)) })()
	began, wait, any := time.Now(), w.first, false
	buf := make([]byte, maxMessage+1)
	for n := 0; !any && (w.questions == 0 || n < w.questions); n++ {
		if ctx.Err() != nil {
			break
		}
		if _, err := c.WriteTo(question(time.Since(began)), to); err != nil {
			return fault(ringfence.KindUnavailable, "the network cannot be asked", "is the interface up?", err)
		}
		if !w.until.IsZero() {
			wait = max(time.Until(w.until)/2, time.Minute)
		}
		until := time.Now().Add(about(wait))
		for {
			_ = c.SetReadDeadline(until)
			if ctx.Err() != nil { // the deadline that was just set is over the one of the context
				break
			}
			k, from, err := c.ReadFrom(buf)
			if ctx.Err() != nil || errors.Is(err, net.ErrClosed) || err != nil && !time.Now().Before(until) {
				break
			}
			if err != nil { // e.g. an ICMP message: nobody is there yet
				if timeout := net.Error(nil); errors.As(err, &timeout) && timeout.Timeout() {
					break
				}
				continue
			}
			at, _ := from.(*net.UDPAddr)
			if at == nil || k > maxMessage {
				continue
			}
			good, err := take(buf[:k], at.AddrPort())
			if errors.Is(err, errEnough) {
				return nil
			}
			if err != nil {
				return err
			}
			if good && !any {
				any, until = true, time.Now().Add(gather)
			}
		}
		wait = min(2*wait, w.longest)
	}
	switch {
	case any:
		return nil
	case ctx.Err() != nil && !errors.Is(ctx.Err(), context.DeadlineExceeded):
		return fault(ringfence.KindCancelled, "the exchange was given up", "", ctx.Err())
	}
	return fault(ringfence.KindTimeout, "no DHCP server answers", "is there one on this network, and does it answer hosts that it does not know?", nil)
}

// Keeper renews leases.
type keeper interface {
	Renew(ctx context.Context, a Answer) (Answer, error)
	Rebind(ctx context.Context, a Answer) (Answer, error)
}

// Keep holds a lease until ctx ends or it is over, and tells changed of each answer. It returns nil when ctx ends, else why the address must not be used any more.
func keep(ctx context.Context, k keeper, a Answer, changed func(Answer)) error {
	for a.Lifetime != Forever {
		end := a.At.Add(a.Lifetime)
		if !pause(ctx, max(time.Until(a.At.Add(a.Renew)), time.Second)) { // whatever the server says
			return nil
		}
		renewed, err := attempt(ctx, k.Renew, a, a.At.Add(a.Rebind))
		if err != nil && !refused(err) && ctx.Err() == nil {
			renewed, err = attempt(ctx, k.Rebind, a, end)
		}
		switch {
		case ctx.Err() != nil:
			return nil
		case refused(err):
			return err
		case err != nil:
			return fault(ringfence.KindTimeout, "the lease of "+a.Address.Addr().String()+" is over, and no server renewed it", "", err)
		}
		a = renewed
		changed(a)
	}
	<-ctx.Done()
	return nil
}

func refused(err error) bool { return ringfence.KindOf(err) == ringfence.KindDenied }

func attempt(ctx context.Context, do func(context.Context, Answer) (Answer, error), a Answer, until time.Time) (Answer, error) {
	ctx, cancel := context.WithDeadline(ctx, until)
	defer cancel()
	return do(ctx, a)
}

// pause waits, and reports whether it was not for the end of ctx.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(max(d, 0))
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
