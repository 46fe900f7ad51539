package admin

import (
	"bytes"
	"cmp"
	"context"
	"crypto/x509"
	"encoding/pem"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"ringfence"
	"ringfence/internal/node/admin/api"
	"ringfence/internal/state/store"
	"ringfence/internal/trust/ca"
)

// Authority signs and withdraws certificates; *ca.Authority is one.
type Authority interface {
	Own() []ca.Standing
	Rotate(ctx context.Context) error
	Request(ctx context.Context) ([]byte, error)
	Import(ctx context.Context, file []byte, newRoot bool) (ca.Imported, error)
	RootKey(ctx context.Context, passphrase []byte) ([]byte, error)
	ForgetRootKey(ctx context.Context, fingerprint string) error
	IssueFromCSR(ctx context.Context, csr []byte, c ca.Constraints) (ca.Issued, error)
}

// Certificates are the certificates that were signed, as the store keeps them.
type Certificates interface {
	Certificate(ctx context.Context, serial string) (store.Certificate, error)
	FindCertificates(ctx context.Context, f store.CertificateFilter) ([]store.Certificate, error)
	CountCertificates(ctx context.Context, now time.Time) ([]store.CertificateCount, error)
	LastCertificates(ctx context.Context, now time.Time) ([]store.LastCertificate, error)
}

type (
	certificatesIn struct {
		After string `query:"after" maxLength:"64" doc:"list what comes after this serial"`
		Limit int    `query:"limit" minimum:"1" maximum:"1000" default:"1000"`
		Role  string `query:"role" enum:"node,device,admin,proxy,trunk,cti,machine,signer,service" doc:"only of this role"`
		Name  string `query:"name" maxLength:"64" doc:"only of this name"`
		State string `query:"state" enum:"live,expired,revoked" doc:"only in this state"`
	}
	serialPath struct {
		Serial string `path:"serial" maxLength:"64" doc:"in hexadecimal"`
	}
	newCertificateIn struct{ Body api.NewCertificate }
	importIn         struct{ Body api.ImportAuthority }
	rootKeyIn        struct{ Body api.RootPassphrase }
	forgetRootIn     struct{ Body api.ForgetRoot }
	batchIn          struct {
		Body []api.NewCertificate `maxItems:"1000"`
	}
	rehearsalIn struct {
		At time.Time `query:"at" required:"true" doc:"RFC 3339"`
	}
)

// maxBatch bounds the body of many requests, in bytes.
const maxBatch = 8 << 20

func (s *Server) routesTrust() {
	look(s, op("trust.status", http.MethodGet, "/trust/status", "Authorities, certificates, what ends next, and who was not let in and why"), s.trustStatus)
	look(s, op("certificate.list", http.MethodGet, "/certificates", "List the certificates that were signed, by serial"), s.listCertificates)
	look(s, op("certificate.show", http.MethodGet, "/certificates/{serial}", "Show a certificate"), s.showCertificate)
	issue := op("certificate.issue", http.MethodPost, "/certificates", "Sign a certificate for the key of a certificate request")
	issue.DefaultStatus = http.StatusCreated
	act(s, issue, api.ScopeAdmin, func(in *newCertificateIn) string { return in.Body.Role + " " + in.Body.Name }, func(ctx context.Context, in *newCertificateIn) (*body[api.Issued], error) {
		out, err := s.issue(ctx, in.Body)
		return answer(out), err
	})
	many := op("certificate.batch", http.MethodPost, "/certificates/batch", "Sign many certificates; each succeeds or fails by itself")
	many.MaxBodyBytes = maxBatch
	act(s, many, api.ScopeAdmin, func(in *batchIn) string { return "a batch of certificates" }, s.issueMany)
	act(s, op("trust.rotate", http.MethodPost, "/trust/rotation", "Sign a new issuing authority, and the node's own certificate by it; what the old one signed stays good"), api.ScopeAdmin,
		func(*none) string { return "the issuing authority" }, func(ctx context.Context, _ *none) (*body[[]api.Authority], error) {
			err := s.c.Authority.Rotate(ctx)
			if err == nil {
				err = s.c.Host.AuthorityChanged(ctx)
			}
			return answer(s.authorities()), err
		})
	act(s, op("trust.renew", http.MethodPost, "/trust/renewal", "Renew the node's own certificate at once; connections that are up stay"), api.ScopeAdmin,
		func(*none) string { return "the node's certificate" }, func(ctx context.Context, _ *none) (*none, error) { return nil, s.c.Host.RenewIdentity(ctx) })
	act(s, op("trust.request", http.MethodPost, "/trust/request", "Make a key for the next issuing authority, and a certificate request for it"), api.ScopeAdmin,
		func(*none) string { return "the issuing authority" }, func(ctx context.Context, _ *none) (*body[api.AuthorityRequest], error) {
			csr, err := s.c.Authority.Request(ctx)
			return answer(api.AuthorityRequest{CSR: string(csr)}), err
		})
	imp := op("trust.import", http.MethodPost, "/trust/import", "Take the certificate that answers the last request; from then on it signs, and the node has a new certificate by it")
	imp.MaxBodyBytes = maxKeyringBody
	act(s, imp, api.ScopeAdmin, func(*importIn) string { return "the issuing authority" }, func(ctx context.Context, in *importIn) (*body[api.ImportedAuthority], error) {
		out, err := s.c.Authority.Import(ctx, in.Body.File, in.Body.NewRoot)
		if err == nil {
			err = s.c.Host.AuthorityChanged(ctx)
		}
		if out.Notes == nil {
			out.Notes = []string{}
		}
		return answer(api.ImportedAuthority{Notes: out.Notes, NewRoot: out.NewRoot, Authorities: s.authorities()}), err
	})
	act(s, op("trust.root.export", http.MethodPost, "/trust/root-key", "The key of the root, encrypted by a passphrase, to be kept elsewhere; it stays here too"), api.ScopeAdmin,
		func(*rootKeyIn) string { return "the key of the root" }, func(ctx context.Context, in *rootKeyIn) (*body[api.RootKey], error) {
			pem, err := s.c.Authority.RootKey(ctx, []byte(in.Body.Passphrase))
			return answer(api.RootKey{PEM: string(pem)}), err
		})
	act(s, op("trust.root.forget", http.MethodPost, "/trust/root-key/removal", "Take the key of the root out of this node"), api.ScopeAdmin,
		func(*forgetRootIn) string { return "the key of the root" }, func(ctx context.Context, in *forgetRootIn) (*body[[]api.Authority], error) {
			err := s.c.Authority.ForgetRootKey(ctx, in.Body.SHA256)
			if err == nil {
				err = s.c.Host.AuthorityChanged(ctx)
			}
			return answer(s.authorities()), err
		})
	look(s, op("trust.rehearse", http.MethodGet, "/trust/rehearsal", "Who would have no good certificate at a time, if nothing were done until then"), s.rehearse)
}

func (s *Server) authorities() []api.Authority {
	var out []api.Authority
	away := false
	for _, o := range s.c.Authority.Own() {
		a := api.Authority{Kind: o.Kind, Subject: o.Cert.Subject.String(), Serial: o.Cert.SerialNumber.Text(16), NotBefore: o.Cert.NotBefore.UTC(), NotAfter: o.Cert.NotAfter.UTC(), Signs: o.Signs, KeyAway: o.Away,
			PEM: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: o.Cert.Raw}))}
		if o.Signs {
			a.Renewal = ca.RenewAt(o.Cert).UTC()
		}
		away = away || o.Kind == "root" && o.Away
		if o.Signs && away {
			a.ByHand = true
		}
		out = append(out, a)
	}
	return out
}

func (s *Server) trustStatus(ctx context.Context, _ *none) (*body[api.TrustStatus], error) {
	now := s.c.Now()
	out := api.TrustStatus{Authorities: s.authorities(), Certificates: []api.CertificateCounts{}, Refused: []api.RefusedConnection{}}
	counts, err := s.c.Store.CountCertificates(ctx, now)
	if err != nil {
		return nil, err
	}
	for _, c := range counts {
		out.Certificates = append(out.Certificates, api.CertificateCounts{Role: c.Role, Live: c.Live, Expired: c.Expired, Revoked: c.Revoked})
	}
	if out.Next, err = s.expiries(ctx, now); err != nil {
		return nil, err
	}
	for _, k := range s.named() {
		out.Next = append(out.Next, api.Expiry{Role: k.kind, Name: k.alias, Until: k.until.UTC(), Renew: "by hand"})
	}
	slices.SortFunc(out.Next, func(a, b api.Expiry) int { return a.Until.Compare(b.Until) })
	out.Next = out.Next[:min(len(out.Next), 10)]
	for _, r := range s.c.Wires.Refusals() {
		hint := ringfence.HintOf(r.Err)
		if hint == "" { // said by TLS itself
			hint = "what would be accepted: ringfence tls explain /interface/" + strings.TrimSuffix(r.Flow, "-tls")
		}
		out.Refused = append(out.Refused, api.RefusedConnection{At: r.At, Flow: r.Flow, Remote: r.Remote.String(), Cause: clip(r.Err.Error()), Hint: hint})
	}
	return answer(out), nil
}

// expiries returns until when each identity that can still be used has a good certificate.
func (s *Server) expiries(ctx context.Context, now time.Time) ([]api.Expiry, error) {
	all, err := s.c.Store.LastCertificates(ctx, now)
	if err != nil {
		return nil, err
	}
	live := s.reachable()
	out := make([]api.Expiry, 0, len(all))
	for _, c := range all {
		e := api.Expiry{Role: c.Role, Name: c.Name, Until: c.NotAfter.UTC(), Renew: "by hand"}
		switch ca.Role(c.Role) {
		case ca.RoleNode:
			e.Renew = "by itself"
		case ca.RoleDevice:
			e.Renew = "when it connects"
			if live[ringfence.DeviceID(c.Name)] {
				e.Renew = "by itself"
			}
		}
		out = append(out, e)
	}
	if e, _, ok := s.publicExpiry(); ok {
		out = append(out, e)
	}
	return out, nil
}

// namedKey is something of the keyring that a setting names, so that connections fail without it.
type namedKey struct {
	kind  string // identity or anchor
	alias string
	place string
	until time.Time // when it or the first of its chain ends
}

func (s *Server) named() (out []namedKey) {
	identities, anchors := s.c.Host.Policy().Named()
	renewed := ""
	if s.c.Public != nil { // publicExpiry tells of that one
		renewed = s.c.Public.Status().Alias
	}
	for _, i := range s.c.Keyring.Identities() {
		if place, ok := identities[i.Alias]; ok && i.Alias != renewed {
			first := slices.MinFunc(i.Chain, func(a, b *x509.Certificate) int { return a.NotAfter.Compare(b.NotAfter) })
			out = append(out, namedKey{"identity", i.Alias, "tls." + place, first.NotAfter})
		}
	}
	makers := s.c.Host.Manufacturers()
	for _, a := range s.c.Keyring.Anchors() {
		place, ok := anchors[a.Alias]
		switch {
		case ok:
			place = "tls." + place
		case slices.Contains(makers, a.Alias):
			place = "enterprise.manufacturers"
		default:
			continue
		}
		out = append(out, namedKey{"anchor", a.Alias, place, a.Cert.NotAfter})
	}
	return out
}

func (s *Server) certificateOut(c store.Certificate) api.CertificateRecord {
	out := api.CertificateRecord{Certificate: api.Certificate{Serial: c.Serial, Subject: c.Subject, NotBefore: c.NotBefore, NotAfter: c.NotAfter, RevokedAt: c.RevokedAt, Reason: c.Reason}, Role: c.Role, Name: c.Name}
	switch {
	case !c.RevokedAt.IsZero():
		out.State = "revoked"
	case s.c.Now().Before(c.NotAfter):
		out.State = "live"
	default:
		out.State = "expired"
	}
	return out
}

func (s *Server) listCertificates(ctx context.Context, in *certificatesIn) (*body[[]api.CertificateRecord], error) {
	all, err := s.c.Store.FindCertificates(ctx, store.CertificateFilter{After: in.After, Role: in.Role, Name: in.Name, State: in.State, Now: s.c.Now(), Limit: in.Limit})
	out := make([]api.CertificateRecord, 0, len(all))
	for _, c := range all {
		out = append(out, s.certificateOut(c))
	}
	return answer(out), err
}

func (s *Server) showCertificate(ctx context.Context, in *serialPath) (*body[api.CertificateRecord], error) {
	c, err := s.c.Store.Certificate(ctx, in.Serial)
	if err != nil {
		if ringfence.KindOf(err) == ringfence.KindNotFound {
			err = fault("admin.trust", ringfence.KindNotFound, "there is no certificate with the serial "+clip(in.Serial), "see `ringfence trust list`")
		}
		return nil, err
	}
	out := s.certificateOut(c)
	out.PEM = c.PEM
	return answer(out), nil
}

// readCSR takes a certificate request out of its PEM.
func readCSR(text string) ([]byte, error) {
	block, rest := pem.Decode([]byte(text))
	if block == nil || block.Type != "CERTIFICATE REQUEST" || len(bytes.TrimSpace(rest)) > 0 {
		return nil, fault("admin.trust", ringfence.KindInvalid, "the certificate request is not one PEM block of PKCS #10", "make it with: openssl req -new")
	}
	return block.Bytes, nil
}

func (s *Server) issue(ctx context.Context, in api.NewCertificate) (api.Issued, error) {
	csr, err := readCSR(in.CSR)
	if err != nil {
		return api.Issued{}, err
	}
	c := ca.Constraints{Role: ca.Role(in.Role), Name: in.Name, URIs: in.URIs, Lifetime: time.Duration(in.Days) * 24 * time.Hour}
	for _, h := range in.Hosts {
		if a, err := netip.ParseAddr(h); err == nil {
			c.IPs = append(c.IPs, a)
		} else {
			c.DNSNames = append(c.DNSNames, h)
		}
	}
	if c.Role == ca.RoleDevice {
		d, err := s.c.Store.Device(ctx, ringfence.DeviceID(in.Name))
		if err != nil {
			return api.Issued{}, unknown(err, "device", in.Name)
		}
		if !d.Certifiable() {
			return api.Issued{}, fault("admin.trust", ringfence.KindDenied, "the device "+clip(in.Name)+" is revoked, or proves itself in another way than by certificate", "see `ringfence device show "+clip(in.Name)+"`")
		}
		if len(c.URIs) == 0 {
			c.URIs = []string{s.c.Registrar.AOR(d.User)}
		}
	}
	out, err := s.c.Authority.IssueFromCSR(ctx, csr, c)
	if err != nil {
		return api.Issued{}, err
	}
	return api.Issued{Serial: out.Leaf.SerialNumber.Text(16), Until: out.Leaf.NotAfter, PEM: string(out.PEM)}, nil
}

func (s *Server) issueMany(ctx context.Context, in *batchIn) (*body[[]api.IssuedOrNot], error) {
	out := make([]api.IssuedOrNot, 0, len(in.Body))
	for _, one := range in.Body {
		issued, err := s.issue(ctx, one)
		if err != nil {
			out = append(out, api.IssuedOrNot{Error: problemOf(err)})
			continue
		}
		out = append(out, api.IssuedOrNot{Issued: &issued})
	}
	return answer(out), nil
}

func (s *Server) rehearse(ctx context.Context, in *rehearsalIn) (*body[api.Rehearsal], error) {
	now := s.c.Now()
	if in.At.Before(now) {
		return nil, fault("admin.rehearse", ringfence.KindInvalid, "the time is over", "give one that is to come, such as --at +90d")
	}
	out := api.Rehearsal{At: in.At.UTC(), Lost: []api.Loss{}, Renewing: []api.Expiry{}}
	away := false
	for _, a := range s.c.Authority.Own() {
		if a.Kind == "root" && !in.At.Before(a.Cert.NotAfter) {
			out.Lost = append(out.Lost, api.Loss{Role: "root", Name: a.Cert.Subject.CommonName, Until: a.Cert.NotAfter.UTC(), Why: "the trust anchor of everybody ends", Do: "found a new authority well before, and enrol every device again"})
		}
		if a.Kind == "root" {
			away = a.Away
		}
		if a.Signs && away && !in.At.Before(a.Cert.NotAfter) {
			out.Lost = append(out.Lost, api.Loss{Role: "issuing", Name: a.Cert.Subject.CommonName, Until: a.Cert.NotAfter.UTC(), Why: "nothing can be signed any more, and the key for its successor is kept elsewhere", Do: "ringfence trust ca request; have it signed; ringfence trust ca import"})
		}
	}
	all, err := s.expiries(ctx, now)
	if err != nil {
		return nil, err
	}
	for _, e := range all {
		if in.At.Before(e.Until) {
			continue
		}
		switch {
		case e.Role == "public":
			if _, failing, _ := s.publicExpiry(); failing != "" {
				out.Lost = append(out.Lost, api.Loss{Role: e.Role, Name: e.Name, Until: e.Until, Why: "it could not be renewed: " + clip(failing), Do: "ringfence trust public status"})
				continue
			}
			out.Renewing = append(out.Renewing, e)
		case e.Renew == "by itself":
			out.Renewing = append(out.Renewing, e)
		case e.Role == string(ca.RoleDevice):
			d, err := s.c.Store.Device(ctx, ringfence.DeviceID(e.Name))
			if ringfence.KindOf(err) == ringfence.KindNotFound || err == nil && d.State != store.DeviceActive {
				continue // nobody waits for it
			}
			out.Lost = append(out.Lost, api.Loss{Role: e.Role, Name: e.Name, Until: e.Until, Why: "it is not connected, and renews only when it is", Do: "connect it before; later it needs `ringfence device code " + e.Name + "`"})
		default:
			out.Lost = append(out.Lost, api.Loss{Role: e.Role, Name: e.Name, Until: e.Until, Why: "nobody renews it by itself", Do: "certify a new key: ringfence trust issue --role " + e.Role + " --name " + e.Name})
		}
	}
	for _, k := range s.named() {
		if in.At.Before(k.until) {
			continue
		}
		l := api.Loss{Role: k.kind, Name: k.alias, Until: k.until.UTC(), Why: k.place + " names it: nobody is let in whose certificate comes from it", Do: "add its successor, and set that beside it: ringfence trust anchor add ALIAS FILE"}
		if k.kind == "identity" {
			l.Why, l.Do = k.place+" names it: whoever checks certificates leaves", "ringfence trust identity add "+k.alias+" --cert FILE --key FILE --replace"
		}
		out.Lost = append(out.Lost, l)
	}
	slices.SortFunc(out.Lost, func(a, b api.Loss) int { return cmp.Or(a.Until.Compare(b.Until), cmp.Compare(a.Name, b.Name)) })
	out.OK = len(out.Lost) == 0
	return answer(out), nil
}

// revoke withdraws one certificate, or all of a name.
func (s *Server) revoke(ctx context.Context, in *body[api.RevokeSerial]) (*body[api.Ended], error) {
	b := in.Body
	if (b.Serial == "") == (b.Name == "") {
		return nil, fault("admin.trust", ringfence.KindInvalid, "a serial or a name is needed, and not both", "see `ringfence trust list`")
	}
	if b.Serial != "" {
		e, err := s.c.Host.RevokeSerial(ctx, b.Serial, b.Reason)
		return answer(e), err
	}
	var all api.Ended
	live, err := s.c.Store.FindCertificates(ctx, store.CertificateFilter{Name: b.Name, State: "live", Now: s.c.Now(), Limit: 1000})
	if err != nil {
		return nil, err
	}
	if len(live) == 0 {
		return nil, fault("admin.trust", ringfence.KindNotFound, "there is no good certificate of "+clip(b.Name), "see `ringfence trust list --state live`")
	}
	for _, c := range live {
		if ca.Role(c.Role) == ca.RoleDevice {
			return nil, fault("admin.trust", ringfence.KindInvalid, clip(b.Name)+" is a device", "use `ringfence device revoke "+clip(b.Name)+"`, which ends its calls and registrations too")
		}
	}
	for _, c := range live {
		e, err := s.c.Host.RevokeSerial(ctx, c.Serial, b.Reason)
		if err != nil {
			return nil, err
		}
		all.Certificates += e.Certificates
		all.Connections += e.Connections
		all.Calls += e.Calls
	}
	return answer(all), nil
}
