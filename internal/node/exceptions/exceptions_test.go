package exceptions

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"ringfence"
	"ringfence/internal/call/registrar"
	"ringfence/internal/call/roster"
	"ringfence/internal/sip/transport"
	"ringfence/internal/state/store"
)

// world is a node as a warden sees it. Its devices are "door" and "gate", which had exceptions, and "desk", which is sealed.
type world struct {
	inForce []roster.Exception
	bound   []registrar.Contact
	calls   map[ringfence.DeviceID]int
	known   map[*transport.Conn]ringfence.DeviceID
	order   []string
	endedAt time.Time // when a call was ended first
}

func (w *world) Exceptions(time.Time) []roster.Exception { return w.inForce }

func (w *world) Exception(id ringfence.DeviceID, now time.Time) (roster.Exception, bool) {
	for _, e := range w.inForce {
		if e.Device == id && now.Before(e.Until) {
			return e, true
		}
	}
	return roster.Exception{}, false
}

func (w *world) All() []registrar.Contact { return w.bound }

func (w *world) Known(c *transport.Conn) (registrar.Identity, bool) {
	id, ok := w.known[c]
	return registrar.Identity{Device: id}, ok
}

// registrations and talk are the halves that have a method of one name.
type registrations struct{ *world }

func (r registrations) EndExceptions(context.Context) (gone []ringfence.DeviceID, err error) {
	r.order = append(r.order, "registrations")
	for _, c := range r.bound {
		if _, ok := r.Exception(c.Device, time.Now()); !ok && c.Proof.Verdict == ringfence.Exception {
			gone = append(gone, c.Device)
			r.bound = nil // the others are of no interest
		}
	}
	return gone, nil
}

type talk struct{ *world }

func (t talk) InTheClear(id ringfence.DeviceID) int { return t.calls[id] }

func (t talk) EndExceptions() (n int) {
	t.order = append(t.order, "calls")
	for id, calls := range t.calls {
		if _, ok := t.Exception(id, time.Now()); !ok {
			n += calls
			delete(t.calls, id)
			t.endedAt = time.Now()
		}
	}
	return n
}

func (w *world) Conns() (out []*transport.Conn) {
	w.order = append(w.order, "connections")
	for c := range w.known {
		out = append(out, c)
	}
	return out
}

func contact(id ringfence.DeviceID, v ringfence.Verdict) registrar.Contact {
	return registrar.Contact{Binding: store.Binding{Device: id, Proof: ringfence.Proof{Verdict: v}}}
}

func newWorld(until time.Time) (*world, *Warden, *bytes.Buffer) {
	w := &world{
		inForce: []roster.Exception{{Device: "gate", Until: until}, {Device: "door", Until: until.Add(-time.Hour)}},
		bound:   []registrar.Contact{contact("door", ringfence.Exception), contact("door", ringfence.Sealed), contact("desk", ringfence.Sealed)},
		calls:   map[ringfence.DeviceID]int{"door": 2},
		known:   map[*transport.Conn]ringfence.DeviceID{{TLS: &ringfence.TLSProof{}}: "desk", {Dialled: true}: "door"},
	}
	var log bytes.Buffer
	return w, New(Config{Roster: w, Registrar: registrations{w}, Calls: talk{w}, Connections: w, Log: slog.New(slog.NewTextHandler(&log, nil))}), &log
}

func TestList(t *testing.T) {
	until := time.Now().Add(3 * time.Hour)
	_, warden, _ := newWorld(until)
	list := warden.List()
	if len(list) != 2 || list[0].Device != "door" || list[0].Bindings != 1 || list[0].Calls != 2 || list[1].Device != "gate" || list[1].Bindings+list[1].Calls != 0 {
		t.Errorf("%+v", list)
	}
	if !warden.Latest().Equal(until) {
		t.Errorf("the last one ends at %v, not at %v", warden.Latest(), until)
	}
}

// While an exception is in force nothing of it ends; then all of it does, once, and connections that are sealed or that we opened stay.
func TestEndsWithTheException(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		w, warden, log := newWorld(start.Add(time.Hour + 2*every + every/2)) // the door's ends an hour earlier
		ctx, stop := context.WithTimeout(t.Context(), 6*every+every/2)
		defer stop()
		warden.Run(ctx)
		if warden.Ended() != 3 || w.endedAt.Sub(start) != 3*every {
			t.Errorf("%d ended, after %v", warden.Ended(), w.endedAt.Sub(start))
		}
		if strings.Join(w.order[:3], " ") != "calls registrations connections" || len(w.order) != 3*6 {
			t.Errorf("the order was %v", w.order)
		}
		if strings.Count(log.String(), "\n") != 1 || !strings.Contains(log.String(), "an exception is over") || !strings.Contains(log.String(), "devices=[door]") {
			t.Errorf("log: %s", log)
		}
	})
}
