package node

import (
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"strings"
	"time"

	"ringfence"
	"ringfence/internal/state/bus"
	"ringfence/internal/trust/ca"
	"ringfence/internal/trust/publish"
	"ringfence/internal/trust/trustlist"
	"ringfence/internal/trust/tvs"
)

// openLists publishes trust lists, if the configuration wants them.
func (n *Node) openLists(ctx context.Context) (err error) {
	e := n.Config.Enterprise
	if !e.Publishes() {
		return nil
	}
	var services []trustlist.Role
	if e.TVS.IsValid() {
		services = append(services, trustlist.TVS)
	}
	if e.CAPF.IsValid() {
		services = append(services, trustlist.CAPF)
	}
	n.Lists, err = publish.Open(ctx, publish.Config{Node: n.Config.Node, Services: services, Vault: n.Store, Shelf: n.Store, Certify: n.certify, Revoked: n.Authority.IsRevoked, Changed: func() {
		l, _ := n.Lists.Published()
		n.log.Info("trust lists were published", "version", l.Version, "why", l.Note)
		n.publish(bus.Event{Kind: bus.KeyringChanged})
	}})
	if err != nil {
		return err
	}
	return n.present(ctx)
}

// certify signs what trust lists name.
func (n *Node) certify(ctx context.Context, service bool, name string, pub crypto.PublicKey) ([][]byte, error) {
	req := ca.Request{Role: ca.RoleSigner, Name: name, PublicKey: pub}
	if service {
		req.Role, req.DNSNames, req.IPs = ca.RoleService, unique([]string{n.Config.Domain, n.Config.Node + "." + n.Config.Domain}), localAddrs()
	}
	out, err := n.Authority.Issue(ctx, req)
	return out.Chain, err
}

// present tells the lists what this node presents to phones.
func (n *Node) present(ctx context.Context) error {
	if n.Lists == nil {
		return nil
	}
	err := n.Lists.Present(ctx, n.identity.Leaf())
	if _, waiting := n.Lists.Published(); err == nil && waiting != "" {
		n.log.Warn("a new trust list waits, since phones would be lost by it", "why", waiting, "hint", "see `ringfence trustlist plan`")
	}
	return err
}

// maintainLists replaces what is due or revoked: the services' certificates, and the signers.
func (n *Node) maintainLists(ctx context.Context) error {
	if n.Lists == nil {
		return nil
	}
	return errors.Join(n.present(ctx), n.Lists.Maintain(ctx))
}

// service returns the certificate of a service that trust lists name.
func (n *Node) service(role trustlist.Role) (*tls.Certificate, error) {
	if n.Lists == nil {
		return nil, &ringfence.Fault{Op: "node.lists", Kind: ringfence.KindUnavailable, Text: "no trust lists are published", Hint: "set enterprise.lists, enterprise.tvs or enterprise.capf"}
	}
	return n.Lists.Service(role)
}

// listenPhones opens what only enterprise phones need.
func (n *Node) listenPhones(ctx context.Context) error {
	for _, open := range []func(context.Context) error{n.listenCAPF, n.listenCTI} {
		if err := open(ctx); err != nil {
			return err
		}
	}
	at := n.Config.Enterprise.TVS
	if !at.IsValid() {
		return nil
	}
	conf, err := n.serverTLS("tvs", at)
	if err != nil {
		return err
	}
	server, err := tvs.New(tvs.Config{Book: book{n}, TTL: n.Config.Enterprise.TVSRemember, Heard: func(e tvs.Event) {
		n.log.Debug("a phone asked about a certificate", "remote", e.Remote, "device", e.Device, "subject", e.Subject, "valid", e.Valid, "why", e.Why, "err", e.Err)
	}})
	if err != nil {
		return err
	}
	ln, err := n.opener.Listen(ctx, "tvs", at)
	if err != nil {
		return err
	}
	n.bound["tvs"] = ln.Addr().(*net.TCPAddr).AddrPort()
	run, stop := context.WithCancel(context.WithoutCancel(ctx))
	n.wg.Go(func() { _ = server.Serve(run, tls.NewListener(ln, conf)) })
	n.closers = append(n.closers, stop)
	return nil
}

// book believes what the trust lists name or will, and what HTTPS presents by a setting.
type book struct{ n *Node }

var _ tvs.Book = book{}

func (b book) list() *tvs.ListBook {
	all := b.n.Lists.Entries()
	for _, i := range b.n.Keyring.Identities() {
		all = append(all, trustlist.Entry{Role: trustlist.AppServer, Cert: i.Chain[0]})
	}
	return tvs.NewListBook(all, func(_ context.Context, c *x509.Certificate) (bool, error) {
		return b.n.Authority.IsRevoked(c.SerialNumber.Text(16)), nil
	})
}

// Believed implements tvs.Book.
func (b book) Believed(ctx context.Context, hash [sha256.Size]byte) (tvs.Standing, error) {
	return b.list().Believed(ctx, hash)
}

// Named implements tvs.Book.
func (b book) Named(ctx context.Context, serial []byte) ([]*x509.Certificate, error) {
	return b.list().Named(ctx, serial)
}

// fetches says which device asks for a list: by its certificate, or by the name in the file's name.
func (n *Node) fetches(r *http.Request, name string) (ringfence.DeviceID, bool) {
	if r.TLS != nil && len(r.TLS.PeerCertificates) > 0 {
		if id, err := n.Authority.VerifyDevice(r.TLS.PeerCertificates, time.Now()); err == nil {
			return id, true
		}
	}
	return n.deviceNamed(name), false
}

// deviceNamed returns the device that a phone calls SEP001122334455, or "".
func (n *Node) deviceNamed(name string) ringfence.DeviceID {
	for _, id := range []string{name, strings.ToLower(name)} {
		if d := n.Roster.Device(ringfence.DeviceID(id)); id != "" && d != nil {
			return d.ID
		}
	}
	return ""
}
