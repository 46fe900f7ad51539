package node_test

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"ringfence"
	"ringfence/internal/state/store"
	"ringfence/internal/testkit/onehost"
	"ringfence/internal/trust/ca"
)

// simulated is a phone with a certificate that registers and holds its connection.
type simulated struct {
	id   ringfence.DeviceID
	user ringfence.UserID
	key  *ecdsa.PrivateKey
	cert tls.Certificate
	conn *tls.Conn
	r    *bufio.Reader
	seq  int
}

// renew has the phone's key certified by whoever signs now.
func (p *simulated) renew(s *site) error {
	out, err := s.Node.Authority.Issue(s.Ctx, ca.Request{Role: ca.RoleDevice, Name: string(p.id), PublicKey: p.key.Public()})
	p.cert = tls.Certificate{Certificate: out.Chain, PrivateKey: p.key}
	return err
}

// connect opens a connection from an address of its own.
func (p *simulated) connect(s *site, n int) error {
	d := tls.Dialer{NetDialer: &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 1, byte(n>>8), byte(n))}},
		Config: &tls.Config{RootCAs: s.Roots, ServerName: s.Domain, Certificates: []tls.Certificate{p.cert}}}
	c, err := d.DialContext(s.Ctx, "tcp4", s.SIP.String())
	if err != nil {
		return err
	}
	p.conn, p.r = c.(*tls.Conn), bufio.NewReader(c)
	return p.conn.SetDeadline(time.Now().Add(2 * time.Minute))
}

// register registers, or refreshes.
func (p *simulated) register(s *site) error {
	p.seq++
	_, err := fmt.Fprintf(p.conn, "REGISTER sip:%[1]s SIP/2.0\r\nVia: SIP/2.0/TLS %[2]s;branch=z9hG4bK%[3]s%[4]d\r\nMax-Forwards: 70\r\nFrom: <sip:%[5]s@%[1]s>;tag=a\r\nTo: <sip:%[5]s@%[1]s>\r\nCall-ID: %[3]s\r\n"+
		"CSeq: %[4]d REGISTER\r\nContact: <sip:%[5]s@%[2]s;transport=tls>\r\nExpires: 3600\r\nContent-Length: 0\r\n\r\n", s.Domain, p.conn.LocalAddr(), p.id, p.seq, p.user)
	if err != nil {
		return err
	}
	status := ""
	for {
		line, err := p.r.ReadString('\n')
		switch {
		case err != nil:
			return err
		case status == "":
			status = line
		case line == "\r\n" && strings.HasPrefix(status, "SIP/2.0 200"):
			return nil
		case line == "\r\n":
			return fmt.Errorf("%s", strings.TrimSpace(status))
		}
	}
}

// TestRollOver changes the issuing authority under a thousand registered phones, twice. Nobody is lost: connections that are up stay and
// can be used, phones come back with the certificates they have, and with new ones.
func TestRollOver(t *testing.T) {
	const phones = 1000
	s := &site{onehost.Open(t, onehost.Options{Within: 4 * time.Minute})}
	all := make([]*simulated, phones)
	s.OK(s.Node.Store.Tx(s.Ctx, func(tx *store.Tx) error {
		for i := range all {
			user := store.User{ID: ringfence.UserID(fmt.Sprintf("u%d", i))}
			all[i] = &simulated{id: ringfence.DeviceID(fmt.Sprintf("phone-%d", i)), user: user.ID}
			if err := tx.CreateUser(s.Ctx, user); err != nil {
				return err
			}
			if err := tx.CreateDevice(s.Ctx, store.Device{ID: all[i].id, User: user.ID}); err != nil {
				return err
			}
		}
		return nil
	}))
	s.OK(s.Node.Roster.Reload(s.Ctx))
	// each does something with every phone, sixteen at a time, and returns how many failed.
	each := func(what string, do func(i int, p *simulated) error) {
		t.Helper()
		var wg sync.WaitGroup
		var mu sync.Mutex
		var failed []error
		next := make(chan int)
		for range 16 {
			wg.Go(func() {
				for i := range next {
					if err := do(i, all[i]); err != nil {
						mu.Lock()
						failed = append(failed, fmt.Errorf("%s: %w", all[i].id, err))
						mu.Unlock()
					}
				}
			})
		}
		for i := range all {
			next <- i
		}
		close(next)
		wg.Wait()
		if len(failed) > 0 {
			t.Fatalf("%s: %d of %d were lost, first %v", what, len(failed), phones, failed[0])
		}
	}
	each("registering", func(i int, p *simulated) (err error) {
		if p.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
			return err
		}
		if err := p.renew(s); err != nil {
			return err
		}
		if err := p.connect(s, i); err != nil {
			return err
		}
		return p.register(s)
	})
	signer := func() *x509.Certificate { return s.Node.Authority.Own()[1].Cert }
	for range 2 {
		before := signer()
		s.OK(s.Node.Authority.Rotate(s.Ctx))
		s.OK(s.Node.RenewIdentity(s.Ctx))
		if signer().Equal(before) {
			t.Fatal("the authority did not change")
		}
		live := 0
		for _, c := range s.Node.Registrar.All() {
			if c.Live() {
				live++
			}
		}
		if live != phones {
			t.Fatalf("%d of %d are registered", live, phones)
		}
		each("going on", func(_ int, p *simulated) error { return p.register(s) })
	}
	each("coming back with the old certificate", func(i int, p *simulated) error {
		_ = p.conn.Close()
		if err := p.connect(s, i); err != nil {
			return err
		}
		return p.register(s)
	})
	each("coming back with a new one", func(i int, p *simulated) error {
		_ = p.conn.Close()
		if err := p.renew(s); err != nil {
			return err
		}
		if err := p.connect(s, i); err != nil {
			return err
		}
		if leaf := p.conn.ConnectionState().PeerCertificates; leaf[1].SerialNumber.Cmp(signer().SerialNumber) != 0 {
			return fmt.Errorf("the node shows a certificate of an old authority")
		}
		return p.register(s)
	})
	for _, p := range all {
		_ = p.conn.Close()
	}
}
