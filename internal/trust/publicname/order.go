package publicname

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/acme"

	"ringfence"
)

// order is one order, from the directory to the certificate.
type order struct {
	k      *Keeper
	rec    record
	guard  *guard
	client *acme.Client

	account string // URL, once it is known
	lost    bool   // the authority does not know the account any more
}

func (o *order) run(ctx context.Context) error {
	key, err := o.rec.accountKey()
	if err != nil {
		return err
	}
	o.client = &acme.Client{Key: key, DirectoryURL: o.k.c.Directory, KID: acme.KeyID(o.rec.Account), UserAgent: "Ringfence", RetryBackoff: again,
		HTTPClient: &http.Client{Transport: o.guard, Timeout: 30 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
	if err := o.enter(ctx); err != nil {
		return o.explain(err, "")
	}
	o.k.step("ordering a certificate for " + strings.Join(o.k.c.Names, " "))
	placed, err := o.client.AuthorizeOrder(ctx, acme.DomainIDs(o.k.c.Names...))
	if err != nil {
		return o.explain(err, "")
	}
	if err := o.prove(ctx, placed); err != nil {
		return err
	}
	return o.collect(ctx, placed)
}

// again answers how long to wait before a request is made again: a moment if only its nonce was old, and never if the authority does not want it.
func again(n int, _ *http.Request, res *http.Response) time.Duration {
	if n > 5 || res.StatusCode != http.StatusBadRequest {
		return 0
	}
	return time.Duration(n) * 100 * time.Millisecond
}

// enter looks at the directory, and makes the account the first time.
func (o *order) enter(ctx context.Context) error {
	o.k.step("asking " + o.k.c.Directory)
	dir, err := o.client.Discover(ctx)
	if err != nil {
		return err
	}
	if dir.OrderURL == "" || dir.RegURL == "" || dir.NonceURL == "" {
		return fault(ringfence.KindInvalid, "the directory is not one of RFC 8555", "give the URL that the authority names as its ACME directory", nil)
	}
	if o.rec.Account != "" {
		return nil
	}
	if dir.Terms != "" && !o.k.c.Agree {
		return fault(ringfence.KindDenied, "the authority has terms of service, and nobody has agreed to them: "+clean(dir.Terms, 200), "read them, and set trust.public.agree: true in the configuration", nil)
	}
	if dir.ExternalAccountRequired && o.k.c.Binding == nil {
		return noBinding(nil)
	}
	o.k.step("making an account")
	a := &acme.Account{Contact: o.k.c.Contact}
	if b := o.k.c.Binding; b != nil {
		a.ExternalAccountBinding = &acme.ExternalAccountBinding{KID: b.ID, Key: b.Key}
	}
	if _, err = o.client.Register(ctx, a, acme.AcceptTOS); err != nil && !errors.Is(err, acme.ErrAccountAlreadyExists) {
		return err
	}
	const longest = 2048
	if o.client.KID == "" || len(o.client.KID) > longest {
		return fault(ringfence.KindInvalid, "the authority names no account", "", nil)
	}
	o.account = string(o.client.KID)
	return nil
}

func noBinding(cause error) error {
	return fault(ringfence.KindDenied, "the authority makes accounts only for those whom it knows already", "get a key id and a MAC key from it, and set trust.public.binding", cause)
}

// prove shows for each name that it is ours, one after the other.
func (o *order) prove(ctx context.Context, placed *acme.Order) error {
	if n := len(placed.AuthzURLs); n == 0 || n > len(o.k.c.Names) {
		return fault(ringfence.KindInvalid, fmt.Sprintf("the authority wants %d names shown, and %d were ordered", n, len(o.k.c.Names)), "", nil)
	}
	responder := &Responder{}
	closePort := func() {}
	defer func() { closePort() }()
	open := false
	for _, at := range placed.AuthzURLs {
		z, err := o.client.GetAuthorization(ctx, at)
		if err != nil {
			return o.explain(err, "")
		}
		name := z.Identifier.Value
		if z.Identifier.Type != "dns" || z.Wildcard || !slices.Contains(o.k.c.Names, name) {
			return fault(ringfence.KindInvalid, "the authority wants a name shown that was not ordered: "+clean(name, 100), "", nil)
		}
		if z.Status == acme.StatusValid {
			o.k.step(name + " was shown before")
			continue
		}
		i := slices.IndexFunc(z.Challenges, func(c *acme.Challenge) bool { return c.Type == o.k.c.Challenge })
		if i < 0 {
			return fault(ringfence.KindUnsupported, "the authority does not take "+o.k.c.Challenge+" for "+name, "set trust.public.challenge to another kind; it offers "+offered(z.Challenges), nil)
		}
		if !goodToken(z.Challenges[i].Token) {
			return fault(ringfence.KindInvalid, "the authority's challenge for "+name+" has no good token", "", nil)
		}
		if !open { // only now: who has shown all names before needs no port
			if closePort, err = o.k.c.Answers.Open(ctx, responder); err != nil {
				closePort = func() {}
				return err
			}
			open = true
		}
		if err := o.one(ctx, responder, name, at, z.Challenges[i]); err != nil {
			return err
		}
	}
	return nil
}

func (o *order) one(ctx context.Context, r *Responder, name, at string, c *acme.Challenge) error {
	hide, err := r.show(o.client, o.k.c.Challenge, name, c.Token)
	if err != nil {
		return o.explain(err, name)
	}
	defer hide()
	o.k.step("showing " + name + " by " + o.k.c.Challenge)
	if _, err := o.client.Accept(ctx, c); err != nil {
		return o.explain(err, name)
	}
	if _, err := o.client.WaitAuthorization(ctx, at); err != nil {
		return o.explain(err, name)
	}
	o.k.step(name + " is ours, says the authority")
	return nil
}

func offered(all []*acme.Challenge) string {
	var kinds []string
	for _, c := range all {
		if len(kinds) < 8 {
			kinds = append(kinds, clean(c.Type, 20))
		}
	}
	return strings.Join(kinds, ", ")
}

// goodToken reports whether a token is one of RFC 8555 section 8.3: base64url, and with it safe in a path.
func goodToken(t string) bool {
	if len(t) < 16 || len(t) > 256 {
		return false
	}
	return strings.Trim(t, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_") == ""
}

// collect has the certificate signed for a key that was made now, checks it, and puts it in place.
func (o *order) collect(ctx context.Context, placed *acme.Order) error {
	ready, err := o.client.WaitOrder(ctx, placed.URI)
	if err != nil {
		return o.explain(err, "")
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fault(ringfence.KindInternal, "a key cannot be made", "", err)
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{DNSNames: o.k.c.Names}, key)
	if err != nil {
		return fault(ringfence.KindInternal, "a certificate request cannot be made", "", err)
	}
	o.k.step("having the certificate signed")
	ders, _, err := o.client.CreateCertFromOrder(ctx, ready, csr, true)
	if err != nil {
		return o.explain(err, "")
	}
	chain, leaf, err := certificate(ders, key.Public(), o.k.c.Names, o.k.c.Now())
	if err != nil {
		return err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return fault(ringfence.KindInternal, "the key cannot be kept", "", err)
	}
	// That it is ours is kept first: an interruption between the two must not make it look like somebody else's.
	if _, err := o.k.change(ctx, func(r *record) error {
		r.Leaves = append(r.Leaves, fingerprint(leaf))
		r.Leaves = r.Leaves[max(0, len(r.Leaves)-4):]
		return nil
	}); err != nil {
		return err
	}
	if err := o.k.c.Ring.Put(ctx, o.k.c.Alias, chain, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})); err != nil {
		return err
	}
	o.k.step("in use as " + o.k.c.Alias + " until " + leaf.NotAfter.UTC().Format(time.RFC3339))
	return nil
}

// explain says what an error of the authority, or on the way to it, means. name is what was being shown.
func (o *order) explain(err error, name string) error {
	if f, ok := errors.AsType[*ringfence.Fault](err); ok {
		return f
	}
	if z, ok := errors.AsType[*acme.AuthorizationError](err); ok {
		if name == "" {
			name = clean(z.Identifier, 100)
		}
		for _, e := range z.Errors {
			if p, ok := errors.AsType[*acme.Error](e); ok {
				return o.problem(p, name)
			}
		}
		return fault(ringfence.KindDenied, "the authority does not believe that "+name+" is ours", o.reach(name), nil)
	}
	if p, ok := errors.AsType[*acme.OrderError](err); ok {
		if p.Problem != nil {
			return o.problem(p.Problem, name)
		}
		return fault(ringfence.KindDenied, "the authority has given up the order", "", nil)
	}
	if p, ok := errors.AsType[*acme.Error](err); ok {
		return o.problem(p, name)
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return fault(ringfence.KindTimeout, "the authority does not come to an end", "it is tried again", nil)
	case errors.Is(err, context.Canceled):
		return fault(ringfence.KindCancelled, "the order was cut off", "", nil)
	}
	return fault(ringfence.KindUnavailable, "there is no good answer from "+o.k.origin+": "+clean(err.Error(), 300), "does this host reach it, and is its certificate believed? `ringfence tls explain /interface/public-acme`", nil)
}

func (o *order) reach(name string) string {
	port := "80"
	if o.k.c.Challenge == TLSALPN01 {
		port = "443"
	}
	return "the authority must reach this node at " + name + ", port " + port + ": look at its DNS records (AAAA too), NAT and firewall"
}

// problem words what an authority refuses (RFC 8555 section 6.7).
func (o *order) problem(p *acme.Error, name string) error {
	kind, what := ringfence.KindDenied, "the authority refuses"
	if name != "" {
		what += " " + name
	}
	text := what + ": " + clean(p.Detail, 300)
	if p.Detail == "" {
		text = what + fmt.Sprintf(", with status %d", p.StatusCode)
	}
	for _, s := range p.Subproblems[:min(len(p.Subproblems), 5)] {
		if s.Identifier != nil {
			text += "; " + clean(s.Identifier.Value, 100) + ": " + clean(s.Detail, 150)
		}
	}
	hint := ""
	switch strings.TrimPrefix(p.ProblemType, "urn:ietf:params:acme:error:") {
	case "rateLimited":
		kind, hint = ringfence.KindOverload, "it is tried again by itself when the authority allows it; a staging directory is there for trying"
		if o.guard.patient == 0 {
			o.guard.patient = time.Hour
		}
	case "connection", "dns", "tls", "incorrectResponse", "unauthorized":
		hint = o.reach(name)
		if name == "" {
			hint = "has the account been ended at the authority? Another alias in trust.public makes a new one"
		}
	case "caa":
		hint = "the CAA records of the name must allow this authority (RFC 8659)"
	case "rejectedIdentifier", "unsupportedIdentifier":
		hint = "this authority certifies no such name; take it out of trust.public.names, or use another authority"
	case "externalAccountRequired":
		return noBinding(p)
	case "userActionRequired":
		hint = "the terms of service have changed: " + clean(p.Instance, 200)
	case "accountDoesNotExist":
		o.lost = true
		hint = "a new account is made at the next attempt"
	case "badNonce", "serverInternal":
		kind, hint = ringfence.KindUnavailable, "it is tried again"
	case "invalidContact", "unsupportedContact":
		hint = "look at trust.public.contact"
	}
	if p.StatusCode == http.StatusServiceUnavailable || p.StatusCode == http.StatusTooManyRequests {
		kind = ringfence.KindOverload
	}
	return fault(kind, text, hint, nil)
}
