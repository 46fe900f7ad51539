package node

import (
	"context"
	"crypto/x509"
	"encoding/hex"
	"net/netip"
	"strings"
	"time"

	"ringfence"
	"ringfence/internal/call/control"
	"ringfence/internal/call/registrar"
	"ringfence/internal/call/roster"
	"ringfence/internal/node/config"
	"ringfence/internal/state/bus"
	"ringfence/internal/state/store"
	"ringfence/internal/trust/ca"
)

// openBus joins the bus, and does here what other nodes say they did.
func (n *Node) openBus(ctx context.Context) error {
	cfg := bus.Config{Node: ringfence.NodeID(n.Config.Node), Log: n.log}
	if url := n.Config.Bus.URL; url != "" {
		e, err := config.ParseEndpoint(url, "tls")
		if err != nil {
			return err
		}
		if cfg.TLS, err = n.clientTLS("bus", netip.AddrPort{}, e.Host, nil); err != nil {
			return err
		}
		cfg.URL, cfg.Opener, cfg.Credentials = url, n.opener, n.Config.Bus.Credentials
	} else {
		server, err := bus.NewServer()
		if err != nil {
			return err
		}
		n.closers = append(n.closers, server.Close)
		cfg.Server = server
	}
	b, err := bus.Open(ctx, cfg)
	if err != nil {
		return err
	}
	n.Bus = b
	n.closers = append(n.closers, b.Close)
	return nil
}

// hearOthers begins to do what other nodes say. An event is only the occasion: what is done depends on what the store says.
func (n *Node) hearOthers(run context.Context) {
	hear := func(e bus.Event) {
		if e.Kind == bus.Lost || string(e.Node) != n.Config.Node {
			n.catchUp(run)
		}
	}
	n.Bus.Subscribe(bus.DeviceRevoked, hear)
	n.Bus.Subscribe(bus.CertificateRevoked, hear)
	n.Bus.Subscribe(bus.RosterChanged, hear)
	n.Bus.Subscribe(bus.GrantRevoked, hear)
	n.Bus.Subscribe(bus.KeyringChanged, hear)
}

// people is the roster of the administration API, with a word to other nodes about each change.
type people struct {
	*roster.Roster
	n *Node
}

// Reload implements admin.Roster.
func (p people) Reload(ctx context.Context) error {
	err := p.Roster.Reload(ctx)
	p.n.usersChanged()
	p.n.publish(bus.Event{Kind: bus.RosterChanged})
	return err
}

// catchUp reads who was revoked, and ends here what such a device still has. It runs when another node says so, when the bus may
// have lost something, and now and then.
func (n *Node) catchUp(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	type read struct {
		what string
		do   func(context.Context) error
	}
	// In this order: the keyring puts into force whom listeners believe, also by what the authority has become.
	reads := []read{{"revocations", n.Authority.Refresh}, {"users and devices", n.Roster.Reload}, {"the keyring", n.reloadKeyring}}
	if n.Lists != nil {
		reads = append(reads, read{"the trust lists", n.Lists.Refresh})
	}
	for _, r := range reads {
		if err := r.do(ctx); err != nil && ctx.Err() == nil {
			n.log.Error("the store could not be read again", "what", r.what, "err", err, "hint", ringfence.HintOf(err))
		}
	}
	n.usersChanged()
	if !n.Authority.Signs(n.identity.Leaf()) { // another one signs now, perhaps under another root
		if err := n.RenewIdentity(ctx); err != nil {
			n.log.Error("the node's certificate could not be renewed", "err", err, "hint", ringfence.HintOf(err))
		}
	}
	if err := n.replaceRevoked(ctx); err != nil {
		n.log.Error("the node's certificate, which was revoked, could not be replaced", "err", err, "hint", ringfence.HintOf(err))
	}
	over := map[ringfence.DeviceID]bool{}
	see := func(id ringfence.DeviceID) {
		if d := n.Roster.Device(id); id != "" && (d == nil || d.State != store.DeviceActive) {
			over[id] = true
		}
	}
	for _, b := range n.Registrar.All() {
		see(b.Device)
	}
	for _, c := range n.Transport.Conns() {
		if who, ok := n.Registrar.Known(c); ok {
			see(who.Device)
			n.checkGrant(ctx, c, who)
		}
	}
	n.cutSerials(n.Authority.IsRevoked)
	for id := range over {
		// What follows cannot be undone, so the store itself is asked.
		if d, err := n.Store.Device(ctx, id); err == nil && d.State == store.DeviceActive || err != nil && ringfence.KindOf(err) != ringfence.KindNotFound {
			continue
		}
		n.log.Warn("a device was revoked elsewhere; it is cut off here", "device", id)
		if _, err := n.cut(ctx, id, "revoked on another node"); err != nil {
			n.log.Error("a revoked device could not be cut off wholly", "device", id, "err", err, "hint", ringfence.HintOf(err))
		}
	}
}

// publish tells everybody; before there is a bus nobody listens.
func (n *Node) publish(e bus.Event) {
	if n.Bus == nil {
		return
	}
	e.Cause = clean(e.Cause, 1024)
	e.Number = clean(e.Number, 256)
	if err := n.Bus.Publish(context.Background(), e); err != nil {
		n.log.Debug("an event was not told", "kind", e.Kind, "err", err)
	}
}

// clean makes what a peer chose fit for an event: plain text of bounded length.
func clean(s string, limit int) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == 0xfffd {
			return '?'
		}
		return r
	}, s)
	if len(s) > limit {
		s = strings.ToValidUTF8(s[:limit], "")
	}
	return s
}

// ears hear what happens in the rooms of calls, and pass it on to the bus and the watchers.
type ears struct{ n *Node }

var (
	_ control.Events   = ears{}
	_ registrar.Events = ears{}
)

// RegistrationChanged implements registrar.Events.
func (e ears) RegistrationChanged(c registrar.Change) {
	state := "gone"
	if c.Bound {
		state = "bound"
	}
	e.n.publish(bus.Event{Kind: bus.RegistrationChanged, User: c.User, Device: c.Device, State: state, Cause: c.Why})
}

// CallStarted implements control.Events.
func (e ears) CallStarted(id ringfence.CallID, from ringfence.UserID, dialled string, at time.Time) {
	if e.n.Ladder != nil {
		e.n.Ladder.Begin(id, at)
	}
	e.n.publish(bus.Event{Kind: bus.CallStarted, Call: id, User: from, Number: dialled, At: at.UTC()})
}

// LegOpened implements control.Events.
func (e ears) LegOpened(l control.LegOpened) {
	if l.SIPCallID == "" {
		return
	}
	if e.n.Ladder != nil {
		e.n.Ladder.Link(l.Call, l.Leg, l.SIPCallID, string(l.Device))
	}
	if e.n.watchers.legs != nil {
		e.n.watchers.legs.add(l.SIPCallID, l.Call)
	}
}

// LegMoved implements control.Events.
func (e ears) LegMoved(l control.LegOpened, _ ringfence.CallID) { e.LegOpened(l) }

// LegRefused implements control.Events.
func (e ears) LegRefused(call ringfence.CallID, leg ringfence.LegID, device ringfence.DeviceID, cause string) {
	e.n.publish(bus.Event{Kind: bus.LegRefused, Call: call, Leg: leg, Device: device, Cause: cause})
}

// CallAnswered implements control.Events.
func (e ears) CallAnswered(id ringfence.CallID, at time.Time) {
	e.n.publish(bus.Event{Kind: bus.CallAnswered, Call: id, At: at.UTC()})
}

// CallMerged implements control.Events.
func (e ears) CallMerged(gone, into ringfence.CallID) {
	e.n.publish(bus.Event{Kind: bus.CallEnded, Call: gone, State: string(ringfence.Sealed), Cause: "went over to the call " + string(into)})
	e.forget(gone)
}

// CallEnded implements control.Events.
func (e ears) CallEnded(x control.Ended) {
	e.n.publish(bus.Event{Kind: bus.CallEnded, Call: x.CDR.Call, State: string(x.CDR.Verdict), Cause: x.CDR.Cause, At: x.CDR.End.UTC()})
	if e.n.watchers.traces != nil {
		e.n.traced(x)
	}
	e.forget(x.CDR.Call)
}

func (e ears) forget(id ringfence.CallID) {
	if e.n.watchers.legs != nil {
		e.n.watchers.legs.end(id, time.Now())
	}
}

// issuer is the authority, with a word to everybody about each certificate of a device.
type issuer struct {
	*ca.Authority
	n *Node
}

// IssueDevice implements enroll.Issuer.
func (i issuer) IssueDevice(ctx context.Context, csr []byte, id ringfence.DeviceID, sipURI string) ([][]byte, error) {
	chain, err := i.Authority.IssueDevice(ctx, csr, id, sipURI)
	if err != nil {
		return nil, err
	}
	if leaf, err := x509.ParseCertificate(chain[0]); err == nil {
		i.n.publish(bus.Event{Kind: bus.CertificateIssued, Device: id, Serial: hex.EncodeToString(leaf.SerialNumber.Bytes())})
	}
	return chain, nil
}
