package phone

import (
	"crypto/tls"
	"errors"
	"time"

	"ringfence"
	"ringfence/internal/sip/transport"
	"ringfence/internal/trust/subject"
)

// verifier says what the handshake proved about the server. The phone's tls.Config has checked the chain and the name before.
type verifier struct{}

// Verify implements transport.Verifier.
func (verifier) Verify(cs tls.ConnectionState) (transport.Peer, *ringfence.TLSProof, error) {
	if len(cs.PeerCertificates) == 0 {
		return transport.Peer{}, nil, &ringfence.Fault{Op: "phone.verify", Kind: ringfence.KindInsecure, Text: "the server showed no certificate"}
	}
	leaf := cs.PeerCertificates[0]
	if name := cs.ServerName; name != "" && !subject.ProvesDomain(leaf, name) && !subject.Matches(leaf, name, false) {
		return transport.Peer{}, nil, &ringfence.Fault{Op: "phone.verify", Kind: ringfence.KindInsecure, Text: "the server proves the name " + name + " by a wildcard alone, which does not count in SIP (RFC 5922)",
			Hint: "give the server a certificate with the name itself"}
	}
	proof := &ringfence.TLSProof{
		Version: tls.VersionName(cs.Version), Suite: tls.CipherSuiteName(cs.CipherSuite),
		PeerSubject: leaf.Subject.String(), PeerIssuer: leaf.Issuer.String(), PeerNames: append([]string(nil), leaf.DNSNames...), Resumed: cs.DidResume,
	}
	if cs.CurveID != 0 {
		proof.Group = cs.CurveID.String()
	}
	for _, ip := range leaf.IPAddresses {
		proof.PeerNames = append(proof.PeerNames, ip.String())
	}
	if len(cs.VerifiedChains) > 0 {
		chain := cs.VerifiedChains[0]
		proof.Anchor = chain[len(chain)-1].Subject.String()
	}
	name := cs.ServerName
	if name == "" {
		name = leaf.Subject.CommonName
	}
	return transport.Peer{Name: name, Role: "node", Serial: leaf.SerialNumber.Text(16)}, proof, nil
}

// Proof returns what was verified about the phone's own connection. Without a registration the verdict is refused, with the
// reason.
func (p *Phone) Proof() ringfence.Proof {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := ringfence.Proof{ID: p.cfg.User + "@" + p.cfg.Domain, Peer: "server " + p.serverName(), Verdict: ringfence.Refused,
		Auth: ringfence.AuthNone, TLS: p.proof, At: time.Now()}
	if p.proof != nil {
		out.Auth = ringfence.AuthCertificate // the server always proves itself so; how we did is in Registration
	}
	switch {
	case p.reg.State == Registered && p.cfg.Plain != "":
		out.Verdict, out.Auth, out.Reason = ringfence.Exception, p.reg.Auth, "the phone signals in the clear over "+p.cfg.Plain+", as it was told to"
	case p.reg.State == Registered && p.proof != nil && p.cfg.AnyName:
		out.Verdict, out.Reason = ringfence.Exception, "the server's name is not checked, as the phone was told"
	case p.reg.State == Registered && p.proof != nil:
		out.Verdict = ringfence.Sealed
	case p.reg.Err != nil:
		out.Reason = p.reg.Err.Error()
	default:
		out.Reason = "the phone is not registered"
	}
	return out
}

// tlsCause makes the cause of a failed connection readable: what is wrong with whose certificate.
func tlsCause(err error) (text, hint string, ok bool) {
	var unverified *tls.CertificateVerificationError
	var alert tls.AlertError
	switch {
	case errors.As(err, &unverified):
		return "the server's certificate was not accepted", "check that the phone has the trust list of this server, and the right server name", true
	case errors.As(err, &alert):
		return "the server refused the TLS handshake", "check that the phone's certificate is valid and was not revoked", true
	}
	return "", "", false
}

// serverName is the name that the present server must have. p.mu is held.
func (p *Phone) serverName() string {
	if named, ok := p.cfg.Servers.(NamedServers); ok && p.conn != nil {
		return named.NameOf(p.conn.Remote)
	}
	return p.cfg.ServerName
}
