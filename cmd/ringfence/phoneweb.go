package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"ringfence"
	"ringfence/internal/desk/page"
)

const flowPage = "phone-page"

// pageFlow is how a desk phone's web pages are reached.
func pageFlow() ringfence.Flow {
	return ringfence.Flow{Name: flowPage, Purpose: "People look at a phone's web pages, over HTTPS, with a password.", Room: "cmd/ringfence", Direction: ringfence.Listens, Transport: "tcp", Peers: "browsers", TLS: ringfence.TLSServer}
}

// serve serves the phone's web pages until ctx ends. cancel ends the phone, which starts again if the page says so.
func (x *desk) serve(ctx context.Context, at string, cancel context.CancelFunc, out io.Writer) error {
	set := x.inForce.Load()
	addr, err := x.pageAddr(at)
	if err != nil {
		return err
	}
	seconds := func(name string) time.Duration {
		n, _ := strconv.ParseUint(set.Text(name), 10, 31) // what is no number is 0: the pages' own limit
		return time.Duration(n) * time.Second
	}
	name := set.Text("Station_Name")
	if name == "" {
		name = x.flags.product
	}
	handler, err := page.New(page.Config{Name: name, Life: ctx, Desk: x.features, Password: x.pagePasswords(), Max: seconds("Session_Max_Timeout"), Idle: seconds("Session_Idle_Timeout"),
		Status: func() ([][2]string, any) { s := x.status(); return x.pageRows(s), s },
		Tabs: func(admin bool) []page.Tab {
			var lines []int
			for _, l := range x.plan.Lines {
				lines = append(lines, l.Number)
			}
			did := x.flags.networkUses(set)
			for _, u := range x.plan.Used {
				did[u.Name] = u.Did
			}
			explainWeb(x.profiles, did)
			return page.Tabs(set, lines, did, admin)
		},
		Change: x,
		Restart: func() {
			x.restarting.Store(true)
			time.AfterFunc(time.Second, cancel) // so that the page that says so is sent
		},
		Say: func(format string, args ...any) { fmt.Fprintf(out, "web page: "+format+"\n", args...) }})
	if err != nil {
		return err
	}
	conf := &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}}
	x.plan.Ciphers.Apply(conf)
	if own, _, _ := x.flags.certificate(set.Get(certificateSelect), time.Now()); own != nil {
		conf.Certificates = []tls.Certificate{*own}
	} else {
		pair, err := ownCertificate(addr.Addr())
		if err != nil {
			return err
		}
		conf.Certificates = []tls.Certificate{pair}
		sum := sha256.Sum256(pair.Certificate[0])
		fmt.Fprintf(out, "web page: the certificate is the phone's own, of this start; SHA-256 %s\n", hex.EncodeToString(sum[:]))
	}
	ln, err := x.opener.Listen(ctx, flowPage, addr)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 2 * time.Minute, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10, ErrorLog: log.New(io.Discard, "", 0),
		BaseContext: func(net.Listener) context.Context { return ctx }}
	context.AfterFunc(ctx, func() { _ = server.Close() })
	go func() { _ = server.Serve(tls.NewListener(ln, conf)) }()
	fmt.Fprintf(out, "web page: https://%s/\n", ln.Addr())
	return nil
}

// pagePasswords are the passwords of the pages, by account.
func (x *desk) pagePasswords() map[string]string {
	set := x.inForce.Load()
	out := map[string]string{page.User: set.Text("User_Password")}
	if set.Yes("Enable_Web_Admin_Access") {
		out[page.Admin] = set.Text("Admin_Password")
	}
	return out
}

// servable says why the pages could not be served.
func (x *desk) servable(at string) error {
	if !x.inForce.Load().Yes("Enable_Web_Server") {
		return invalid("the profile has Enable_Web_Server = No", "leave --web out")
	}
	if _, err := x.pageAddr(at); err != nil {
		return err
	}
	_, err := page.New(page.Config{Password: x.pagePasswords()})
	return err
}

// pageAddr reads where the pages are served.
func (x *desk) pageAddr(at string) (netip.AddrPort, error) {
	if full, err := netip.ParseAddrPort(at); err == nil {
		return full, nil
	}
	a, err := netip.ParseAddr(strings.Trim(at, "[]"))
	if err != nil {
		return netip.AddrPort{}, invalid(fmt.Sprintf("--web %.60q is no address", at), "write --web 192.0.2.7 or --web 192.0.2.7:8443")
	}
	port, err := parsePort(x.inForce.Load().Text("Web_Server_Port"))
	return netip.AddrPortFrom(a, port), err
}

// pageRows are what the status page shows besides lines and lamps.
func (x *desk) pageRows(s deskStatus) [][2]string {
	rows := [][2]string{{"Product", x.flags.product}, {"MAC address", x.flags.mac}, {"Serial number", x.flags.serial}, {"Software version", x.flags.version}}
	for _, l := range s.Lines {
		sealed := ""
		if l.Proof != nil {
			sealed = string(l.Proof.Verdict)
			if l.Proof.TLS != nil {
				sealed += ", " + l.Proof.TLS.Version + ", " + l.Proof.TLS.Suite
			}
		}
		text := strings.TrimSpace(fmt.Sprintf("%s, %s %s", l.Address, l.State, l.Server))
		for _, more := range []string{sealed, l.Error} {
			if more != "" {
				text += "; " + more
			}
		}
		rows = append(rows, [2]string{fmt.Sprintf("Line %d, %s", l.Line, l.Transport), text})
	}
	for _, r := range s.Resync {
		text := fmt.Sprintf("%d parameters from %s", r.Parameters, r.URL)
		if r.Error != "" {
			text = "failed: " + r.Error
		}
		rows = append(rows, [2]string{r.Rule, text})
	}
	web := string(s.Web.Mode)
	if s.Web.Host != "" {
		web += ", " + s.Web.Host
	}
	rows = append(rows, [2]string{"Web proxy", web}, [2]string{"Certificate", s.Certificate})
	for _, w := range s.Warnings {
		rows = append(rows, [2]string{"Warning", w})
	}
	return rows
}

// ownCertificate makes a certificate for the pages of a phone that has none. Nobody vouches for it; its fingerprint is printed.
func ownCertificate(at netip.Addr) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	now := time.Now()
	c := &x509.Certificate{SerialNumber: big.NewInt(now.UnixNano()), Subject: pkix.Name{CommonName: "desk phone"}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(90 * 24 * time.Hour), KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, IPAddresses: []net.IP{at.AsSlice()}}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		return tls.Certificate{}, err
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}
