package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"ringfence"
	"ringfence/internal/desk/flatprofile"
	"ringfence/internal/desk/line"
	"ringfence/internal/desk/lsc"
	"ringfence/internal/desk/webproxy"
	"ringfence/internal/trust/signin"
)

// Which certificate it is that a phone proves itself with.
const (
	ofManufacturer = "manufacturer" // MIC
	ofSite         = "site"         // LSC
)

// ownCertificateStatus is what the phone proves itself with, and why.
type ownCertificateStatus struct {
	Of      string    `json:"of,omitempty"` // manufacturer or site; empty: there is none
	Subject string    `json:"subject,omitempty"`
	Until   time.Time `json:"until,omitzero"`
	Because string    `json:"because"`
}

func (s ownCertificateStatus) String() string {
	if s.Of == "" {
		return "none: " + s.Because
	}
	return fmt.Sprintf("%s, until %s, of the %s: %s", s.Subject, stamp(s.Until), s.Of, s.Because)
}

// site is the folder with the site's certificate of the phone.
func (d *deskPhone) site() folder { return folder(cmp.Or(d.lsc, d.state)) }

// certificate chooses what the phone proves itself with: the certificate of the site if it has one that is good now, else that of the manufacturer; and never the site's if Certificate_Select says so. files are
// the two files that hold it.
func (d *deskPhone) certificate(v flatprofile.Value, now time.Time) (pair *tls.Certificate, files [2]string, s ownCertificateStatus) {
	mic := d.mic
	said := v.Name + " = " + v.Value + " (" + v.Where() + ")"
	if v.From == flatprofile.Default {
		said = v.Name + " is not set"
	}
	manufacturer := func(because string) (*tls.Certificate, [2]string, ownCertificateStatus) {
		if mic == nil {
			return nil, files, ownCertificateStatus{Because: because + ", and there is no --cert"}
		}
		return mic, [2]string{d.cert, d.key}, ownCertificateStatus{Of: ofManufacturer, Subject: mic.Leaf.Subject.String(), Until: mic.Leaf.NotAfter.UTC(), Because: because}
	}
	at := d.site()
	switch {
	case at == "":
		return manufacturer(said + ", and the phone has no folder for the certificate of the site (--lsc, --state)")
	case v.From != flatprofile.Default && v.Value == "Manufacturing installed":
		return manufacturer(said)
	}
	own, err := tls.LoadX509KeyPair(at.cert(), at.key())
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return manufacturer(said + ", and the site gave the phone none yet")
	case err != nil:
		return manufacturer(said + ", and that of the site cannot be used: " + err.Error())
	case now.Before(own.Leaf.NotBefore) || now.After(own.Leaf.NotAfter):
		return manufacturer(said + ", and that of the site is good from " + stamp(own.Leaf.NotBefore) + " to " + stamp(own.Leaf.NotAfter))
	}
	return &own, [2]string{at.cert(), at.key()}, ownCertificateStatus{Of: ofSite, Subject: own.Leaf.Subject.String(), Until: own.Leaf.NotAfter.UTC(), Because: said}
}

// present has each connection show the certificate that counts then, so that one that came while the phone runs is shown from then on.
func (d *deskPhone) present(conf *tls.Config, v flatprofile.Value) {
	conf.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		if pair, _, _ := d.certificate(v, time.Now()); pair != nil {
			return pair, nil
		}
		return &tls.Certificate{}, nil // none
	}
}

// certificateSelect says which certificate a phone shows.
const certificateSelect = "Certificate_Select"

// signInFile is where the sign-in of a line is kept.
func (d *deskPhone) signInFile(n int) string {
	return filepath.Join(d.state, fmt.Sprintf("signin-%d.json", n))
}

// tokens returns what gives a line its access tokens, until ctx ends.
func (x *desk) tokens(ctx context.Context, l line.Line, out io.Writer) (*lineTokens, error) {
	d, p := x.flags, x.profiles
	if d.state == "" {
		return nil, invalid(fmt.Sprintf("line %d signs in by tokens, and there is nowhere to keep them", l.Number), "give --state DIR")
	}
	roots := p.phone.Roots()
	client := &signin.Client{ID: ownProgram, HTTP: &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialTLSContext: func(ctx context.Context, _, address string) (net.Conn, error) {
		host, text, err := net.SplitHostPort(address)
		if err == nil {
			err = p.set.Permit(host)
		}
		if err != nil {
			return nil, err
		}
		port, err := parsePort(text)
		if err != nil {
			return nil, err
		}
		found, err := p.lookup(ctx, host)
		if err != nil || len(found) == 0 {
			return nil, &ringfence.Fault{Kind: ringfence.KindUnavailable, Text: "there is no address of " + host, Err: err}
		}
		var worst error
		for _, a := range found {
			raw, err := p.opener.Dial(ctx, signInFlow().Name, netip.AddrPortFrom(a, port))
			if err != nil {
				worst = cmp.Or(worst, err)
				continue
			}
			conf := &tls.Config{RootCAs: roots, ServerName: host, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}}
			x.plan.Ciphers.Apply(conf)
			c := tls.Client(raw, conf)
			if err := c.HandshakeContext(ctx); err != nil {
				_ = raw.Close()
				return nil, unproven(host, err)
			}
			return c, nil
		}
		return nil, worst
	}}}}
	t := &lineTokens{desk: x, line: l, life: ctx, out: out, keeper: &signin.Keeper{Path: d.signInFile(l.Number), Client: client, Log: slog.New(slog.DiscardHandler)}}
	if acct, err := signin.Read(t.keeper.Path); err == nil {
		if err := t.own(acct); err != nil {
			return nil, err
		}
	} else if ringfence.KindOf(err) != ringfence.KindNotFound {
		return nil, err
	}
	return t, nil
}

// lineTokens gives a line its access tokens. While nobody is signed in it has a code shown, and waits in the background until somebody types it at the server (RFC 8628).
type lineTokens struct {
	desk   *desk
	line   line.Line
	life   context.Context
	out    io.Writer
	keeper *signin.Keeper

	mu    sync.Mutex
	shown error // what has to be done; nil: no code is shown
}

// own refuses a sign-in of somebody else than whose the line is.
func (t *lineTokens) own(acct signin.Account) error {
	if string(acct.SIP.User) == t.line.User {
		return nil
	}
	return &ringfence.Fault{Kind: ringfence.KindDenied, Text: fmt.Sprintf("line %d is of %s, and %s signed in", t.line.Number, t.line.User, acct.SIP.User), Hint: "end that sign-in: ringfence signin end " + t.keeper.Path}
}

// Token implements phone.Tokens.
func (t *lineTokens) Token(ctx context.Context, refused string) (string, error) {
	text, err := t.keeper.Token(ctx, refused)
	if kind := ringfence.KindOf(err); err == nil || kind != ringfence.KindNotFound && kind != ringfence.KindUnauthenticated {
		return text, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.shown != nil {
		return "", t.shown
	}
	srv, err := t.keeper.Client.Discover(ctx, "https://"+t.line.SignIn)
	if err != nil {
		return "", err
	}
	p, err := t.keeper.Client.Begin(ctx, srv)
	if err != nil {
		return "", err
	}
	todo := fmt.Sprintf("open %s and type %s, until %s", p.URI, p.UserCode, stamp(p.Expires))
	t.shown = &ringfence.Fault{Kind: ringfence.KindUnauthenticated, Text: fmt.Sprintf("nobody is signed in for line %d", t.line.Number), Hint: todo}
	fmt.Fprintf(t.out, "line %d, %s: somebody has to sign in: %s\n", t.line.Number, t.line.User, todo)
	go func() {
		err := t.wait(srv, p)
		t.mu.Lock()
		t.shown = nil // who asks next begins anew
		t.mu.Unlock()
		if err != nil && t.life.Err() == nil {
			fmt.Fprintf(t.out, "line %d: %v\n", t.line.Number, err)
			return
		}
		for i, l := range t.desk.plan.Lines {
			if q := t.desk.lines[i]; l.Number == t.line.Number && q != nil && t.life.Err() == nil {
				q.Retry()
			}
		}
	}()
	return "", t.shown
}

// wait waits until somebody typed the code, and keeps what comes of it.
func (t *lineTokens) wait(srv signin.Server, p signin.Pairing) error {
	got, err := t.keeper.Client.Wait(t.life, srv, p)
	if err != nil {
		return err
	}
	acct := signin.Account{Issuer: srv.Issuer, Client: ownProgram, TokenEndpoint: srv.Token, RevokeEndpoint: srv.Revoke, Node: t.line.SignIn, Anchors: t.desk.anchors(), SIP: got.SIP}
	acct.Take(got)
	if err := t.own(acct); err != nil {
		_ = t.keeper.Client.Revoke(t.life, acct) // nobody uses it
		return err
	}
	if err := os.MkdirAll(t.desk.flags.state, 0o700); err != nil {
		return &ringfence.Fault{Kind: ringfence.KindUnavailable, Text: "the tokens cannot be kept", Err: err}
	}
	return signin.Create(t.life, t.keeper.Path, acct, true)
}

// anchors are the authorities of --ca as text, so that `ringfence signin end` can be given the file.
func (x *desk) anchors() string {
	b, err := readWhole(x.flags.ca, 64<<10)
	if err != nil {
		return "" // those of this host
	}
	if block, _ := pem.Decode(b); block == nil {
		if c, err := x509.ParseCertificate(b); err == nil {
			return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}))
		}
		return ""
	}
	return string(b)
}

// How often the phone looks whether its certificate of the site has to be renewed, and how long it waits after a failure.
const (
	enrolEvery = time.Hour
	enrolAgain = 10 * time.Minute
	enrolTime  = 30 * time.Second
)

// enrol gets the phone its certificate of the site, or the successor of the one that it has, from the EST server that the profile names. It returns when to look again; 0 means never.
func (x *desk) enrol(ctx context.Context) time.Duration {
	d, set := x.flags, x.inForce.Load()
	where := set.Text("CDC_Server_1_")
	if where == "" {
		return 0
	}
	say := func(format string, args ...any) { fmt.Fprintf(x.out, format+"\n", args...) }
	at := d.site()
	if at == "" {
		say("WARNING: CDC_Server_1_ is set, and the phone has no folder for a certificate of the site (--state, --lsc)")
		return 0
	}
	now := time.Now()
	var old *x509.Certificate
	if pair, err := tls.LoadX509KeyPair(at.cert(), at.key()); err == nil && now.Before(pair.Leaf.NotAfter) {
		if !lsc.Due(pair.Leaf, now) {
			return enrolEvery
		}
		if _, _, s := d.certificate(set.Get(certificateSelect), now); s.Of == ofSite { // which renews itself
			old = pair.Leaf
		}
	}
	ctx, cancel := context.WithTimeout(ctx, enrolTime)
	defer cancel()
	s := lsc.Server{URL: where, Password: set.Text("CDC_Challenge_Password_1_"), Web: x.profiles.requests(webproxy.Provisioning), Now: time.Now}
	got, err := s.Enrol(ctx, "SEP"+strings.ToUpper(x.profiles.phone.Device.MAC), old)
	if err == nil && got.Later > 0 {
		say("somebody has to agree to the phone's certificate of the site; the phone asks again in %s", got.Later)
		return got.Later
	}
	if err == nil {
		err = at.Store(got.Certificate, got.Key)
	}
	if err != nil {
		hint := ringfence.HintOf(err)
		if hint != "" {
			hint = " (" + hint + ")"
		}
		say("WARNING: the phone got no certificate of the site: %v%s", err, hint)
		return enrolAgain
	}
	say("the phone has a certificate of the site: %s, until %s", got.Certificate.Subject, stamp(got.Certificate.NotAfter))
	return enrolEvery
}

// keepEnrolled renews the certificate of the site in time, until ctx ends.
func (x *desk) keepEnrolled(ctx context.Context, wait time.Duration) {
	for wait > 0 {
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
			wait = x.enrol(ctx)
		case <-ctx.Done():
			timer.Stop()
			return
		}
	}
}
