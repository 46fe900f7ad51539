package tvs

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"net"
	"slices"
	"time"

	"ringfence"
	"ringfence/internal/trust/signedfile"
	"ringfence/internal/trust/trustlist"
)

// Answer is what the service says of a certificate.
type Answer struct {
	Valid bool
	Roles []trustlist.Role
	TTL   time.Duration     // for how long it may be remembered
	Cert  *x509.Certificate // that it is about
}

// Allows reports whether the certificate is believed in a role. That of a TVS is never given by a TVS.
func (a Answer) Allows(role trustlist.Role) bool {
	if !a.Valid || role == trustlist.TVS {
		return false
	}
	return slices.Contains(a.Roles, role) || (role == trustlist.CCM || role == trustlist.TFTP) && slices.Contains(a.Roles, trustlist.CCMTFTP)
}

// Verify asks over conn whether a certificate is believed. conn is TLS to the service (see OneOf); it is good for one question, and closed.
func Verify(ctx context.Context, conn net.Conn, device string, cert *x509.Certificate) (Answer, error) {
	m, err := ask(ctx, conn, &Message{Command: VerifyRequest, Device: device, Cert: cert.Raw})
	if err != nil {
		return Answer{}, err
	}
	return m.answer(cert), nil
}

// Query asks over conn for the certificate of somebody who signed a file, and whether it is believed. The answer is checked to be about the one that was
// asked for; the signature of the file is left to the caller. conn is as for Verify.
func Query(ctx context.Context, conn net.Conn, device string, who signedfile.Signer) (Answer, error) {
	const op = "tvs.query"
	m, err := ask(ctx, conn, &Message{Command: QueryRequest, Device: device, Subject: who.Name, Issuer: who.Issuer, Serial: trim(who.Serial)})
	if err != nil || !m.Valid {
		return Answer{}, err
	}
	cert, err := x509.ParseCertificate(m.Cert)
	if err != nil {
		return Answer{}, fault(op, ringfence.KindInvalid, "the service answered with a certificate that cannot be read", "", err)
	}
	if !named(cert.RawIssuer, who.Issuer) || !bytes.Equal(cert.SerialNumber.Bytes(), trim(who.Serial)) || who.Name != "" && !named(cert.RawSubject, who.Name) {
		return Answer{}, fault(op, ringfence.KindDenied, "the service answered with another certificate than it was asked for", "the service is broken, or somebody else: do not believe it", nil)
	}
	return m.answer(cert), nil
}

func (m *Message) answer(cert *x509.Certificate) Answer {
	if !m.Valid {
		return Answer{Cert: cert}
	}
	roles := slices.DeleteFunc(slices.Clone(m.Roles), func(r trustlist.Role) bool { return r == trustlist.TVS })
	return Answer{Valid: true, Roles: roles, TTL: min(time.Duration(m.TTL)*time.Second, maxTTL), Cert: cert}
}

// ask sends a request and returns the answer to it.
func ask(ctx context.Context, conn net.Conn, m *Message) (*Message, error) {
	const op = "tvs.ask"
	defer conn.Close()
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if _, err := text([]byte(m.Device), maxDevice); err != nil || m.Device == "" {
		return nil, fault(op, ringfence.KindInvalid, "a device has a printable name of 1 to 64 bytes", "such as CP-8841-SEP001122334455", nil)
	}
	var id [4]byte
	if _, err := rand.Read(id[:]); err != nil {
		return nil, fault(op, ringfence.KindInternal, "there are no random numbers", "", err)
	}
	m.Session = binary.BigEndian.Uint32(id[:])
	b, err := m.Append(nil)
	if err != nil {
		return nil, err
	}
	if _, err := conn.Write(b); err != nil {
		return nil, lost(op, err)
	}
	ans, err := receive(conn, m.Command+1)
	if err != nil {
		return nil, err
	}
	if ans.Session != m.Session {
		return nil, fault(op, ringfence.KindInvalid, "the service answered another question", "", nil)
	}
	return ans, nil
}

// OneOf returns a check of TLS connections to the service, for VerifyConnection of a tls.Config with InsecureSkipVerify: the server has one of these
// certificates, those with the role TVS in the phone's trust list. Who issued it does not matter: the list vouches for it.
func OneOf(certs []*x509.Certificate, now func() time.Time) func(tls.ConnectionState) error {
	return func(s tls.ConnectionState) error {
		const op = "tvs.connect"
		if len(s.PeerCertificates) == 0 {
			return fault(op, ringfence.KindUnauthenticated, "the service showed no certificate", "", nil)
		}
		leaf, t := s.PeerCertificates[0], now()
		if !slices.ContainsFunc(certs, leaf.Equal) {
			return fault(op, ringfence.KindUnauthenticated, "the service has the certificate of "+leaf.Subject.String()+", which is not in the trust list as TVS", "", nil)
		}
		if t.Before(leaf.NotBefore) || t.After(leaf.NotAfter) {
			return fault(op, ringfence.KindUnauthenticated, "the certificate of the service is not valid at this time", "look at the clock, or renew the certificate and the list", nil)
		}
		return nil
	}
}
