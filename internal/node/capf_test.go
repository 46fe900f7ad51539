package node_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"testing"

	"ringfence"
	"ringfence/internal/state/store"
	"ringfence/internal/trust/ca"
)

// TestLeafAlone has a phone show its certificate without the authority that signed it, as one does that got it by CAPF: it registers, and its proof ends in the root.
func TestLeafAlone(t *testing.T) {
	s := newSite(t, nil)
	s.User("alice", "101")
	s.OK(s.Node.Store.CreateDevice(s.Ctx, store.Device{ID: "sep001122334455", User: "alice"}))
	s.OK(s.Node.Roster.Reload(s.Ctx))
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	s.OK(err)
	out, err := s.Node.Authority.Issue(s.Ctx, ca.Request{Role: ca.RoleDevice, Name: "sep001122334455", PublicKey: key.Public()})
	s.OK(err)
	p := &simulated{id: "sep001122334455", user: "alice", cert: tls.Certificate{Certificate: out.Chain[:1], PrivateKey: key}}
	s.OK(p.connect(s, 7))
	defer p.conn.Close()
	s.OK(p.register(s))
	for _, c := range s.Node.Transport.Conns() {
		if c.Peer.Name == "sep001122334455" {
			if root := s.Node.Authority.RootCerts()[0].Subject.String(); c.Peer.Role != string(ca.RoleDevice) || c.TLS.Anchor != root {
				t.Errorf("%+v, anchor %q", c.Peer, c.TLS.Anchor)
			}
			return
		}
	}
	t.Error("the connection is not known as the device's", ringfence.DeviceID(p.id))
}

// TestLeafAloneOfANewAuthority has another node sign new issuing authorities: phones with certificates of them, which show nothing else, are let in as soon as
// this node knows.
func TestLeafAloneOfANewAuthority(t *testing.T) {
	s := newSite(t, nil)
	s.User("alice", "101")
	s.OK(s.Node.Store.CreateDevice(s.Ctx, store.Device{ID: "sep001122334455", User: "alice"}))
	s.OK(s.Node.Roster.Reload(s.Ctx))
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	s.OK(err)
	other, err := ca.Open(s.Ctx, ca.Config{Name: s.Node.Config.Name, Vault: s.Node.Store, Ledger: s.Node.Store})
	s.OK(err)
	for i := range 3 {
		s.OK(other.Rotate(s.Ctx))
		s.Node.Maintain(s.Ctx)
		out, err := other.Issue(s.Ctx, ca.Request{Role: ca.RoleDevice, Name: "sep001122334455", PublicKey: key.Public()})
		s.OK(err)
		p := &simulated{id: "sep001122334455", user: "alice", cert: tls.Certificate{Certificate: out.Chain[:1], PrivateKey: key}}
		s.OK(p.connect(s, 7))
		if err := p.register(s); err != nil {
			t.Errorf("authority %d: %v", i+1, err)
		}
		_ = p.conn.Close()
	}
}
