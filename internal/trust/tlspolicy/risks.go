package tlspolicy

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"net/netip"
	"slices"
	"strings"

	"ringfence/internal/trust/subject"
)

// Site is what the settings are to serve.
type Site struct {
	Domain  string                    // what phones know the node by
	Listens map[string]netip.AddrPort // the listeners by their class
	// Presents returns the certificate that peers see of an identity, or nil if that is not known yet.
	Presents func(alias string) *x509.Certificate
	FIPS     bool // the node runs in FIPS 140-3 mode, which leaves some of the settings out
}

// Risks returns whom the settings would shut out that a listener is there for: nothing of it is wrong in itself, and most of it is a mistake. Settings for one
// address of a listener that hears others too are not looked at: who makes them knows who comes there.
func (t Tree) Risks(s Site) (out []Wrong) {
	for _, name := range Classes() {
		at, ok := s.Listens[name]
		if !ok || !at.IsValid() {
			continue
		}
		f := t.For(At(name, at))
		if s.FIPS {
			f = f.inFIPS()
		}
		risk := func(setting, text string) {
			i := slices.IndexFunc(f.Decisions, func(d Decision) bool { return d.Setting == setting })
			out = append(out, Wrong{f.Decisions[i].Place, setting + ": " + text})
		}
		if f.Endpoint.Transport == "public" {
			continue // an authority looks there, and nobody else
		}
		switch f.Endpoint.Transport {
		case "phones":
			f.phoneRisks(risk)
		case "cti": // nobody comes there without a certificate, nor any phone
		default:
			f.risks(s, risk)
		}
		f.commonRisks(s, risk)
	}
	return sorted(out)
}

// risks is about the listeners of phones and browsers.
func (f Effective) risks(s Site, risk func(setting, text string)) {
	at := f.Endpoint.Class
	if f.auth != tls.NoClientCert {
		if !slices.Contains(f.anchors, OwnAnchors) {
			risk("anchors", OwnAnchors+" is not among them, so that whoever shows a certificate of this organisation is refused at "+at+", every enrolled phone among them")
		}
		if len(f.subjects) > 0 {
			risk("subjects", "whoever shows a certificate without one of these names is refused at "+at+", and those of this organisation's phones name no host; set subjects for the one address at which only the others arrive")
		}
	}
	if f.auth == tls.RequireAndVerifyClientCert {
		risk("client-auth", "phones that sign in with a password or a token have no certificate, and are refused at "+at)
	}
	if f.identity == NodeIdentity {
		return
	}
	if leaf := s.Presents(f.identity); leaf != nil {
		proves := leaf.VerifyHostname(s.Domain) == nil
		if f.Endpoint.Transport == "sip" {
			proves = subject.ProvesDomain(leaf, s.Domain)
		}
		if !proves {
			risk("identity", f.identity+" does not prove "+s.Domain+", so that phones refuse the node at "+at)
		}
	}
	if f.identity != TVSIdentity && f.identity != CAPFIdentity {
		risk("identity", f.identity+" is not of this organisation's authority: phones that know no other refuse the node at "+at+", also when they renew their certificates")
	}
}

// phoneRisks is about the services of enterprise phones.
func (f Effective) phoneRisks(risk func(setting, text string)) {
	at := f.Endpoint.Class
	if f.auth == tls.RequireAndVerifyClientCert {
		risk("client-auth", "phones that have no certificate of this organisation yet are refused at "+at)
	}
	if f.min > tls.VersionTLS12 {
		risk("min", "enterprise phones speak TLS 1.2, and are refused at "+at)
	}
	if c, _ := classOf(at); f.identity != c.identity {
		risk("identity", "enterprise phones believe at "+at+" the certificate that trust lists name for it, and not "+f.identity)
	}
}

// commonRisks is about who could not agree on anything.
func (f Effective) commonRisks(s Site, risk func(setting, text string)) {
	at := f.Endpoint.Class
	if !slices.ContainsFunc(f.groups, classical) {
		risk("groups", "whoever knows no ML-KEM is refused at "+at+", most phones among them; add secp256r1, or x25519 where FIPS 140-3 mode is off")
	}
	if f.min > tls.VersionTLS12 {
		return
	}
	leaf := s.Presents(f.identity)
	if leaf == nil {
		return
	}
	kind, fits := "ECDSA", func(name string) bool { return strings.HasPrefix(name, "TLS_ECDHE_ECDSA_") }
	switch leaf.PublicKey.(type) {
	case *ecdsa.PublicKey, ed25519.PublicKey:
	case *rsa.PublicKey:
		kind, fits = "RSA", func(name string) bool { return strings.HasPrefix(name, "TLS_ECDHE_RSA_") }
	default:
		return
	}
	if !slices.ContainsFunc(f.suites, func(id uint16) bool { return fits(tls.CipherSuiteName(id)) }) {
		risk("suites", "none of them goes with the "+kind+" key of "+f.identity+", so that whoever speaks TLS 1.2 is refused at "+at)
	}
}
