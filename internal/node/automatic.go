package node

import (
	"context"
	"crypto/x509"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"ringfence"
	"ringfence/internal/state/store"
	"ringfence/internal/trust/acme"
	"ringfence/internal/trust/ca"
	"ringfence/internal/trust/capf"
	"ringfence/internal/trust/est"
)

// automatic serves those who get certificates without an administrator at hand, if the configuration wants it: ACME and EST.
func (n *Node) automatic(mux *http.ServeMux) (err error) {
	if n.Config.ACME.Serve {
		plain, sealed := n.Config.ACME.Ports()
		state := acme.NewStored(n.Store)
		n.ACME, err = acme.New(acme.Config{Base: "https://" + net.JoinHostPort(n.Config.Domain, strconv.Itoa(int(n.webAddr.Port()))), State: state, Bindings: state, Policy: acme.Names{}, Issuer: machines{n}, Resolver: net.DefaultResolver,
			Dial: n.dialMachine, Reach: n.reachable, Audit: n.audited("acme"), Log: n.log, HTTPPort: plain, TLSPort: sealed})
		if err != nil {
			return err
		}
		n.closers = append(n.closers, n.ACME.Close)
		mux.Handle("/acme/", n.ACME.Handler())
	}
	if e := n.Config.EST; e.Serve {
		server, err := est.New(est.Config{Authenticator: devices{n}, Issuer: devices{n}, Audit: n.audited("est"), Log: n.log, Linked: e.Linked, SameKey: e.SameKey})
		if err != nil {
			return err
		}
		mux.Handle("/.well-known/est/", server.Handler())
	}
	return nil
}

// audited keeps who did what.
func (n *Node) audited(who string) func(ctx context.Context, what, target, outcome string) error {
	return func(ctx context.Context, what, target, outcome string) error {
		return n.Store.AppendAudit(ctx, store.AuditEntry{At: time.Now(), Who: "trust/" + who, What: clean(what, 64), Target: clean(target, 256), Outcome: clean(outcome, 256)})
	}
}

// dialMachine opens the way to a machine that wants a certificate.
func (n *Node) dialMachine(ctx context.Context, at netip.AddrPort) (net.Conn, error) {
	flow := "acme-http"
	if _, sealed := n.Config.ACME.Ports(); at.Port() == sealed {
		flow = "acme-tls"
	}
	return n.opener.Dial(ctx, flow, at)
}

// reachable says where machines are looked for. Without networks in the configuration it is nowhere on this host.
func (n *Node) reachable(a netip.Addr) bool {
	if in := n.Config.ACME.Networks; len(in) > 0 {
		return slices.ContainsFunc(in, func(p netip.Prefix) bool { return p.Contains(a.Unmap()) })
	}
	return acme.Reachable(a) && !slices.Contains(localAddrs(), a.Unmap())
}

// machines is the authority for what orders by ACME.
type machines struct{ n *Node }

// Sign implements acme.Issuer.
func (m machines) Sign(ctx context.Context, w acme.Wanted) ([][]byte, error) {
	name := "acme-" + w.Account[:min(len(w.Account), 16)]
	if len(w.DNSNames) > 0 && len(w.DNSNames[0]) <= 64 && w.DNSNames[0][0] != '*' {
		name = w.DNSNames[0]
	}
	out, err := m.n.Authority.Issue(ctx, ca.Request{Role: ca.RoleMachine, Name: name, DNSNames: w.DNSNames, IPs: w.IPs, PublicKey: w.PublicKey})
	return out.Chain, err
}

// Revoke implements acme.Issuer.
func (m machines) Revoke(ctx context.Context, leaf *x509.Certificate, reason int) error {
	text := map[int]string{1: "key compromise", 3: "affiliation changed", 4: "superseded", 5: "cessation of operation", 9: "privilege withdrawn"}[reason]
	if text == "" {
		text = "asked for by its holder"
	}
	if m.n.Authority.IsRevoked(leaf.SerialNumber.Text(16)) {
		return &ringfence.Fault{Op: "node.acme", Kind: ringfence.KindConflict, Text: "the certificate is revoked already"}
	}
	_, err := m.n.RevokeSerial(ctx, leaf.SerialNumber.Text(16), text)
	return err
}

// Revoked implements acme.Issuer.
func (m machines) Revoked(_ context.Context, leaf *x509.Certificate) (bool, error) {
	return m.n.Authority.IsRevoked(leaf.SerialNumber.Text(16)), nil
}

// devices is the authority for devices that come by EST, and knows who they are.
type devices struct{ n *Node }

var (
	_ est.Authenticator = devices{}
	_ est.Issuer        = devices{}
)

// Certificate implements est.Authenticator: a certificate of ours, or one of a manufacturer that the configuration names, for a device that is there already.
func (d devices) Certificate(_ context.Context, chain []*x509.Certificate) (est.Client, error) {
	id, err := d.n.Authority.VerifyDevice(chain, time.Now())
	if err == nil {
		return est.Client{Name: string(id), Certificate: chain[0]}, nil
	}
	if len(chain) == 0 || manufacturers(d).VerifyMIC(chain[0], time.Now()) != nil {
		return est.Client{}, err
	}
	who, err := capf.Subject(chain[0].Subject)
	if err != nil {
		return est.Client{}, err
	}
	if id = d.n.deviceNamed(who.DeviceName()); id == "" {
		return est.Client{}, &ringfence.Fault{Op: "node.est", Kind: ringfence.KindDenied, Text: "there is no device " + who.DeviceName(), Hint: "add it first: ringfence device add"}
	}
	return est.Client{Name: string(id), Certificate: chain[0]}, nil
}

// Code implements est.Authenticator: the code is an activation code, and whose it is does not depend on what the device calls itself.
func (d devices) Code(ctx context.Context, remote, _, code string) (est.Client, error) {
	id, giveBack, err := d.n.Enroll.HoldCode(ctx, remote, code)
	if err != nil {
		return est.Client{}, err
	}
	return est.Client{Name: string(id), Settle: func(ctx context.Context, issued bool) error {
		if issued {
			return nil
		}
		return giveBack(ctx)
	}}, nil
}

// Anchors implements est.Issuer.
func (d devices) Anchors(context.Context) (out [][]byte, err error) {
	for _, c := range d.n.Authority.AnchorCerts() {
		out = append(out, c.Raw)
	}
	return out, nil
}

// Enrol implements est.Issuer.
func (d devices) Enrol(ctx context.Context, c est.Client, csr *x509.CertificateRequest) ([]byte, time.Duration, error) {
	dev, err := d.n.Store.Device(ctx, ringfence.DeviceID(c.Name))
	if err != nil {
		return nil, 0, err
	}
	if !dev.Certifiable() {
		return nil, 0, &ringfence.Fault{Op: "node.est", Kind: ringfence.KindDenied, Text: "the device " + c.Name + " is revoked, or proves itself in another way than by certificate"}
	}
	chain, err := issuer{d.n.Authority, d.n}.IssueDevice(ctx, csr.Raw, dev.ID, d.n.Registrar.AOR(dev.User))
	if err != nil {
		return nil, 0, err
	}
	return chain[0], 0, nil
}

// Renew implements est.Issuer.
func (d devices) Renew(ctx context.Context, c est.Client, csr *x509.CertificateRequest) ([]byte, time.Duration, error) {
	return d.Enrol(ctx, c, csr)
}

// maintainACME removes what is over.
func (n *Node) maintainACME(ctx context.Context) {
	if n.ACME == nil {
		return
	}
	if err := n.ACME.Sweep(ctx); err != nil {
		n.log.Warn("old orders of ACME could not be removed", "err", err)
	}
}
