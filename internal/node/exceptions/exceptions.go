package exceptions

import (
	"cmp"
	"context"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"ringfence"
	"ringfence/internal/call/registrar"
	"ringfence/internal/call/roster"
	"ringfence/internal/sip/transport"
)

// every is how often the end of exceptions is looked for.
const every = 5 * time.Second

// Roster knows which exceptions are in force.
type Roster interface {
	Exception(id ringfence.DeviceID, now time.Time) (roster.Exception, bool)
	Exceptions(now time.Time) []roster.Exception
}

// Registrar knows who registered in the clear, and who is at the other end of a connection.
type Registrar interface {
	All() []registrar.Contact
	Known(c *transport.Conn) (registrar.Identity, bool)
	EndExceptions(ctx context.Context) ([]ringfence.DeviceID, error)
}

// Calls knows which calls are in the clear.
type Calls interface {
	InTheClear(id ringfence.DeviceID) int
	EndExceptions() int
}

// Connections lists the SIP connections.
type Connections interface {
	Conns() []*transport.Conn
}

// Config says what a Warden watches.
type Config struct {
	Roster      Roster
	Registrar   Registrar
	Calls       Calls
	Connections Connections
	Log         *slog.Logger
}

// Warden watches over what is in the clear. Its methods may be called from any goroutine.
type Warden struct {
	Config
	ended atomic.Uint64
}

// New returns a warden, which watches while Run runs.
func New(c Config) *Warden { return &Warden{Config: c} }

// Exception is a named exception in force, and what uses it now.
type Exception struct {
	roster.Exception
	Bindings int // registrations made in the clear
	Calls    int // calls with plain SIP or RTP
}

// List returns the exceptions in force, by device.
func (w *Warden) List() []Exception {
	var out []Exception
	for _, e := range w.Roster.Exceptions(time.Now()) {
		x := Exception{Exception: e, Calls: w.Calls.InTheClear(e.Device)}
		for _, c := range w.Registrar.All() {
			if c.Device == e.Device && c.Proof.Verdict == ringfence.Exception {
				x.Bindings++
			}
		}
		out = append(out, x)
	}
	slices.SortFunc(out, func(a, b Exception) int { return cmp.Compare(a.Device, b.Device) })
	return out
}

// Latest returns when the last exception in force ends; the zero time if there is none.
func (w *Warden) Latest() (latest time.Time) {
	for _, e := range w.Roster.Exceptions(time.Now()) {
		if e.Until.After(latest) {
			latest = e.Until
		}
	}
	return latest
}

// Ended returns how many calls, registrations and connections were ended because an exception was over.
func (w *Warden) Ended() uint64 { return w.ended.Load() }

// Run watches until ctx is over.
func (w *Warden) Run(ctx context.Context) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			w.end(ctx)
		}
	}
}

// end ends what is in the clear without an exception in force: calls, registrations and connections, in this order, so that the goodbye
// of a call still finds its way.
func (w *Warden) end(ctx context.Context) {
	calls := w.Calls.EndExceptions()
	devices, err := w.Registrar.EndExceptions(ctx)
	if err != nil {
		w.Log.Error("registrations whose exception is over could not be removed from the store", "err", err, "hint", ringfence.HintOf(err))
	}
	conns := 0
	for _, c := range w.Connections.Conns() {
		who, ok := w.Registrar.Known(c)
		if !ok || c.Secure() || c.Dialled {
			continue
		}
		if _, excepted := w.Roster.Exception(who.Device, time.Now()); !excepted {
			conns++
			c.Close(&ringfence.Fault{Op: "exceptions.end", Kind: ringfence.KindInsecure, Text: "the exception of device " + string(who.Device) + " is over"})
		}
	}
	w.ended.Add(uint64(calls + len(devices) + conns))
	if calls+len(devices)+conns > 0 {
		w.Log.Warn("an exception is over", "devices", devices, "registrations", len(devices), "calls", calls, "connections", conns,
			"hint", "move the phone to TLS, or renew the exception: ringfence device exception ID --until 48h --reason WHY")
	}
}
