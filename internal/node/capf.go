package node

import (
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"

	"ringfence"
	"ringfence/internal/state/bus"
	"ringfence/internal/state/store"
	"ringfence/internal/trust/capf"
)

// openCAPF prepares the service that gives enterprise phones their certificates.
func (n *Node) openCAPF(context.Context) (err error) {
	if !n.Config.Enterprise.CAPF.IsValid() {
		return nil
	}
	n.CAPF, err = capf.New(capf.Config{Orders: orders{n}, Issuer: lscs{n}, LSCs: n.Authority, MICs: manufacturers{n}})
	return err
}

func (n *Node) listenCAPF(ctx context.Context) error {
	if n.CAPF == nil {
		return nil
	}
	return n.serve(ctx, "capf", n.Config.Enterprise.CAPF, func(ctx context.Context, c *tls.Conn) { n.serveCAPF(ctx, c) })
}

func (n *Node) serveCAPF(ctx context.Context, c net.Conn) {
	r, err := n.CAPF.Serve(ctx, c)
	if r.Order == "" && err != nil {
		n.log.Info("a phone was turned away by CAPF", "remote", r.Source, "name", clean(r.Name, 64), "err", err)
		return
	}
	if r.Order == "" {
		return
	}
	n.log.Info("CAPF was at an order", "device", r.Device, "operation", string(r.Operation), "status", string(r.Status), "reason", r.Reason, "remote", r.Source)
	if err := n.afterCAPF(context.WithoutCancel(ctx), r); err != nil {
		n.log.Error("the certificate that a phone has no more could not be revoked", "device", r.Device, "err", err, "hint", "ringfence trust list --state live --name "+string(r.Device))
	}
}

// afterCAPF revokes what a phone has no more: the certificate that it deleted, or the one before a new one.
func (n *Node) afterCAPF(ctx context.Context, r capf.Report) error {
	reason := map[capf.Status]string{capf.UpgradeSuccess: "superseded", capf.DeleteSuccess: "cessation of operation"}[r.Status]
	if reason == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	certs, err := n.Store.CertificatesOf(ctx, r.Device)
	for _, c := range replaced(certs, r, time.Now()) {
		if _, failed := n.RevokeSerial(ctx, c.Serial, reason); failed != nil && ringfence.KindOf(failed) != ringfence.KindConflict {
			err = errors.Join(err, failed)
		}
	}
	return err
}

// replaced returns the certificates that a phone has no more. What the report names stays, and what was signed since: the phone may be at its next order already.
func replaced(certs []store.Certificate, r capf.Report, now time.Time) (out []store.Certificate) {
	i := slices.IndexFunc(certs, func(c store.Certificate) bool { return c.Serial == r.Serial })
	if r.Status == capf.UpgradeSuccess && i < 0 {
		return nil // rather one too many than none
	}
	for j, c := range certs {
		// Those that it got by CAPF have its own name; one that it got by an activation code is none of theirs.
		mine := strings.HasPrefix(c.Subject, "CN="+r.Name+",")
		if mine && j != i && c.RevokedAt.IsZero() && c.NotAfter.After(now) && (i < 0 || !c.NotBefore.After(certs[i].NotBefore)) {
			out = append(out, c)
		}
	}
	return out
}

// manufacturers verifies the certificates that manufacturers put into phones, by the anchors that the configuration names.
type manufacturers struct{ n *Node }

// VerifyMIC implements capf.MICs.
func (m manufacturers) VerifyMIC(cert *x509.Certificate, now time.Time) error {
	var certs []*x509.Certificate
	for _, alias := range m.n.Current().Enterprise.Manufacturers {
		a, err := m.n.Keyring.Anchor(alias)
		if err != nil {
			return err
		}
		certs = append(certs, a.Cert)
	}
	return capf.NewAnchors(certs).VerifyMIC(cert, now)
}

// lscs issues and withdraws certificates of phones.
type lscs struct{ n *Node }

// IssueLSC implements capf.Issuer.
func (l lscs) IssueLSC(ctx context.Context, device ringfence.DeviceID, name string, pub crypto.PublicKey) ([]byte, error) {
	d, err := l.n.Store.Device(ctx, device)
	if err != nil {
		return nil, err
	}
	if d.State != store.DeviceActive {
		return nil, &ringfence.Fault{Op: "node.capf", Kind: ringfence.KindDenied, Text: "the device " + string(device) + " is revoked"}
	}
	chain, err := l.n.Authority.IssueLSC(ctx, device, l.n.Registrar.AOR(d.User), pub, func(issuer *x509.Certificate, from, until time.Time, also ...*url.URL) (*x509.Certificate, error) {
		return capf.Template(name, issuer, pub, from, until, also...)
	})
	if err != nil {
		return nil, err
	}
	if leaf, err := x509.ParseCertificate(chain[0]); err == nil {
		l.n.publish(bus.Event{Kind: bus.CertificateIssued, Device: device, Serial: leaf.SerialNumber.Text(16)})
	}
	return chain[0], nil
}

// Revoke implements capf.Issuer.
func (l lscs) Revoke(ctx context.Context, serial, reason string) error {
	_, err := l.n.RevokeSerial(ctx, serial, reason)
	return err
}

// orders keeps the orders of CAPF in the store.
type orders struct{ n *Node }

var _ capf.Orders = orders{}

func orderOf(o store.CAPFOrder) capf.Order {
	return capf.Order{ID: o.ID, Device: o.Device, Operation: capf.Operation(o.Operation), Auth: capf.Authentication(o.Auth), String: o.String, Exception: o.Exception, Old: o.Old, Key: capf.Key(o.Key), WeakKey: o.WeakKey,
		CompletesBy: o.CompletesBy}
}

func outcomeOf(o capf.Outcome) (store.CAPFOutcome, bool) {
	return store.CAPFOutcome{Status: string(o.Status), Reason: o.Reason, At: o.At, Source: o.Source, Serial: o.Serial, Certificate: o.Certificate, Locked: o.Locked}, o.Status == capf.OperationPending
}

// Pending implements capf.Orders.
func (s orders) Pending(ctx context.Context, name string) (capf.Order, error) {
	id := s.n.deviceNamed(name)
	if d := s.n.Roster.Device(id); id == "" || d == nil || d.State != store.DeviceActive {
		return capf.Order{}, &ringfence.Fault{Op: "node.capf", Kind: ringfence.KindNotFound, Text: "there is no device " + clean(name, 64)}
	}
	o, err := s.n.Store.OpenCAPFOrder(ctx, id)
	if err != nil && ringfence.KindOf(err) == ringfence.KindNotFound {
		return capf.Order{Device: id, Operation: capf.NoPendingOperation}, nil
	}
	if err == nil && capf.Authentication(o.Auth) == capf.ByNull { // the exception must still be in force
		if _, ok := s.n.Roster.Exception(id, time.Now()); !ok {
			o.Exception = ""
		}
	}
	return orderOf(o), err
}

// Spend implements capf.Orders.
func (s orders) Spend(ctx context.Context, id string) (int, bool, error) {
	return s.n.Store.SpendCAPFAttempt(ctx, id)
}

// Refuse implements capf.Orders.
func (s orders) Refuse(ctx context.Context, id string, o capf.Outcome) error {
	out, open := outcomeOf(o)
	return s.n.Store.RefuseCAPFOrder(ctx, id, out, open)
}

// Claim implements capf.Orders.
func (s orders) Claim(ctx context.Context, id, session string, until time.Time) (string, error) {
	return s.n.Store.ClaimCAPFOrder(ctx, id, session, until, time.Now())
}

// Issued implements capf.Orders.
func (s orders) Issued(ctx context.Context, id, session, serial string) error {
	return s.n.Store.NoteCAPFIssued(ctx, id, session, serial)
}

// Record implements capf.Orders.
func (s orders) Record(ctx context.Context, id, session string, o capf.Outcome) error {
	out, open := outcomeOf(o)
	return s.n.Store.RecordCAPFOrder(ctx, id, session, out, open)
}

// Stale implements capf.Orders.
func (s orders) Stale(ctx context.Context, now time.Time) (abandoned []capf.Abandoned, overdue []capf.Order, err error) {
	all, err := s.n.Store.StaleCAPFOrders(ctx, now)
	for _, o := range all {
		if o.Session != "" {
			abandoned = append(abandoned, capf.Abandoned{Order: o.ID, Operation: capf.Operation(o.Operation), Session: o.Session, Serial: o.Issued})
		} else {
			overdue = append(overdue, orderOf(o))
		}
	}
	return abandoned, overdue, err
}
