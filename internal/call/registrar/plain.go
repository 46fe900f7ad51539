package registrar

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"ringfence"
	"ringfence/internal/sip"
	"ringfence/internal/sip/transaction"
	"ringfence/internal/state/store"
)

// longestPlain bounds a registration over datagrams: nothing else keeps the way back to such a phone open, and the transport
// forgets a silent peer after 15 minutes.
const longestPlain = 10 * time.Minute

// excepted says whether a device may speak in the clear now.
func (r *Registrar) excepted(id ringfence.DeviceID) bool {
	_, ok := r.cfg.Roster.Exception(id, time.Now())
	return ok
}

// refusePlain answers who may not speak in the clear. The answer is the same for everybody, so that it does not tell which
// devices there are, which passwords are right, or who has an exception; the log says what was wrong.
func (r *Registrar) refusePlain(tx *transaction.Server, claims, cause string) {
	r.mu.Lock()
	r.stats.Refused++
	r.stats.PlainRefused++
	now, quiet := time.Now(), r.plainLogged
	if now.Sub(quiet) >= time.Second { // a flood must not fill the log
		r.plainLogged = now
	}
	r.mu.Unlock()
	tx.Reply(403, "TLS Required", func(w *sip.Writer) {
		w.Header(sip.HeaderWarning, fmt.Sprintf("399 %s %q", r.cfg.Domain, "SIP in the clear is refused: register over TLS"))
	})
	if now.Sub(quiet) >= time.Second {
		r.cfg.Log.Warn("SIP in the clear was refused", "remote", tx.Conn.Remote, "transport", tx.Conn.Network, "claims", fmt.Sprintf("%.64q", claims), "cause", cause,
			"hint", "switch the phone to TLS; if it cannot, allow it for a while: ringfence device exception ID --until 48h --reason WHY")
	}
}

// proofOf says what a binding made on this connection rests on.
func (r *Registrar) proofOf(tx *transaction.Server, id Identity, now time.Time) ringfence.Proof {
	p := ringfence.Proof{ID: "conn-" + strconv.FormatUint(tx.Conn.ID, 10), Peer: "device " + string(id.Device), Verdict: ringfence.Sealed, Auth: id.Auth, TLS: tx.Conn.TLS, At: now}
	if tx.Conn.Peer.Role == proxyRole {
		p.Via = tx.Conn.Peer.Name
	}
	if tx.Conn.TLS == nil {
		p.Verdict, p.Reason = ringfence.Exception, "plain SIP by an exception that is over"
		if e, ok := r.cfg.Roster.Exception(id.Device, now); ok {
			p.Reason = "plain SIP by the " + e.String()
		}
	}
	return p
}

// EndExceptions removes the bindings that were made in the clear by devices whose exception is over, and returns these devices.
func (r *Registrar) EndExceptions(ctx context.Context) ([]ringfence.DeviceID, error) {
	r.mu.Lock()
	var ended []ringfence.DeviceID
	var keys []store.BindingKey
	for user, list := range r.byUser {
		kept := make([]*Contact, 0, len(list))
		for _, c := range list {
			if c.Proof.Verdict == ringfence.Sealed || r.excepted(c.Device) {
				kept = append(kept, c)
				continue
			}
			keys = append(keys, c.Key())
			ended = append(ended, c.Device)
		}
		if len(kept) < len(list) {
			r.set(user, kept)
		}
	}
	r.mu.Unlock()
	if len(keys) == 0 {
		return nil, nil
	}
	return ended, r.cfg.Ledger.ApplyBindings(ctx, nil, keys)
}
