package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"ringfence"
	"ringfence/internal/network/kerberos"
	"ringfence/internal/network/need"
	"ringfence/internal/network/proxy"
	"ringfence/internal/network/ready/probe"
	"ringfence/internal/network/wpad"
)

// readyWeb is the flags about web proxies.
type readyWeb struct {
	proxy, pac, domain, dhcp, user, passwordFile, realm, kdc string
	basic                                                    bool
	products                                                 []string
}

func (w *readyWeb) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&w.proxy, "proxy", "", "the site's web proxy, HOST:PORT, as it is typed in by hand")
	f.StringVar(&w.pac, "pac", "", "its auto-configuration file: an address, or a file here")
	f.StringVar(&w.domain, "wpad", "", "the domain of the site's hosts, in which they look for the name wpad")
	f.StringVar(&w.dhcp, "dhcp", "", "ask this DHCP server where the auto-configuration file is (option 252); it takes port 68")
	f.StringVar(&w.user, "proxy-user", "", "who logs in at the proxy: USER, or DOMAIN\\USER for NTLM")
	f.StringVar(&w.passwordFile, "proxy-password-file", "", "file with the password, its first line")
	f.BoolVar(&w.basic, "proxy-basic", false, "the password may be told to the proxy in the clear (Basic)")
	f.StringVar(&w.realm, "realm", "", "realm of Kerberos, for Negotiate")
	f.StringVar(&w.kdc, "kdc", "", "its key distribution centre, HOST or HOST:PORT")
	f.StringSliceVar(&w.products, "product", nil, "a product that the site has, by its row, such as wc-x-07; what its row cannot do then fails the test; may be repeated")
}

func (w *readyWeb) used() bool { return w.proxy != "" || w.pac != "" || w.domain != "" || w.dhcp != "" }

// again is the flags once more.
func (w *readyWeb) again() (out string) {
	for _, f := range []struct{ name, value string }{{"proxy", w.proxy}, {"pac", w.pac}, {"wpad", w.domain}, {"dhcp", w.dhcp}, {"proxy-user", w.user}, {"proxy-password-file", w.passwordFile}, {"realm", w.realm}, {"kdc", w.kdc},
		{"product", strings.Join(w.products, ",")}} {
		if f.value != "" {
			out += " --" + f.name + " " + f.value
		}
	}
	if w.basic {
		out += " --proxy-basic"
	}
	return out
}

func (w *readyWeb) check(s *need.Set) error {
	if w.proxy != "" {
		if err := proxy.Target(w.proxy); err != nil {
			return invalid(fmt.Sprintf("%.80q is no web proxy", w.proxy), "write --proxy proxy.example.com:3128")
		}
	}
	for _, id := range w.products {
		if !slices.ContainsFunc(s.Proxies, func(p need.Proxy) bool { return p.ID == id }) {
			var all []string
			for _, p := range s.Proxies {
				all = append(all, p.ID+" ("+p.Product+")")
			}
			return invalid(fmt.Sprintf("there is no product %.40q in %s", id, s.ID), "there are "+strings.Join(all, ", "))
		}
	}
	switch {
	case !w.used() && (w.user != "" || w.realm != "" || w.basic || len(w.products) > 0):
		return invalid("which proxy?", "give --proxy, --pac, --wpad or --dhcp")
	case w.user != "" && w.passwordFile == "":
		return invalid("--proxy-user needs --proxy-password-file", "passwords on the command line are seen by everybody on this host")
	case (w.realm == "") != (w.kdc == "") || w.realm != "" && w.user == "":
		return invalid("Kerberos takes --realm, --kdc and --proxy-user together", "")
	case w.domain != "" && (!strings.Contains(w.domain, ".") || proxy.Target(w.domain+":1") != nil):
		return invalid(fmt.Sprintf("%.80q is no domain of hosts", w.domain), "write --wpad corp.example.com")
	}
	return nil
}

// open makes of the flags what the prober needs; nil without any.
func (w *readyWeb) open(s *need.Set, o probe.Opener) (*probe.Web, error) {
	if err := w.check(s); err != nil || !w.used() {
		return nil, err
	}
	out := &probe.Web{Proxy: w.proxy, Domain: w.domain, Basic: w.basic, Products: w.products, Trust: &tls.Config{MinVersion: tls.VersionTLS12},
		Lookup: func(ctx context.Context, host string) ([]netip.Addr, error) {
			return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
		}}
	if strings.HasPrefix(w.pac, "http://") || strings.HasPrefix(w.pac, "https://") {
		if _, err := wpad.ParseURL(w.pac); err != nil {
			return nil, err
		}
		out.PAC = w.pac
	} else if w.pac != "" {
		f, err := os.Open(w.pac)
		if err == nil {
			out.Script, err = io.ReadAll(io.LimitReader(f, 2<<20))
			_ = f.Close()
		}
		if err != nil {
			return nil, &ringfence.Fault{Kind: ringfence.KindInvalid, Text: "the auto-configuration file cannot be read: " + w.pac, Hint: "give a file, or an address that begins with http://", Err: err}
		}
	}
	if w.dhcp != "" {
		at, err := netip.ParseAddr(w.dhcp)
		if err != nil || !at.Is4() {
			return nil, invalid(fmt.Sprintf("%.60q is no address of a DHCP server", w.dhcp), "write --dhcp 192.0.2.1")
		}
		out.DHCP = netip.AddrPortFrom(at, 67)
	}
	if w.user == "" {
		return out, nil
	}
	b, err := os.ReadFile(w.passwordFile)
	if err != nil {
		return nil, &ringfence.Fault{Kind: ringfence.KindInvalid, Text: "the password cannot be read: " + w.passwordFile, Err: err}
	}
	password, _, _ := strings.Cut(string(b), "\n")
	out.Who = proxy.Credentials{User: w.user, Password: strings.TrimSuffix(password, "\r")}
	if w.realm == "" {
		return out, nil
	}
	user := w.user[strings.LastIndexByte(w.user, '\\')+1:]
	k := &kerberos.Client{Realm: w.realm, User: user, Password: out.Who.Password, Ask: func(ctx context.Context, b []byte) ([]byte, error) {
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		at, err := hostAddr(ctx, w.kdc, "88", invalid(fmt.Sprintf("%.60q is no key distribution centre", w.kdc), "give HOST or HOST:PORT with --kdc"))
		if err != nil {
			return nil, err
		}
		from, err := o.SourceFor(at)
		if err != nil {
			return nil, err
		}
		conn, err := o.DialFrom(ctx, probe.FlowWeb, netip.AddrPortFrom(from, 0), at)
		if err != nil {
			return nil, &ringfence.Fault{Kind: ringfence.KindUnavailable, Text: "the key distribution centre cannot be reached", Hint: "check --kdc, and that TCP is allowed to port 88", Err: err}
		}
		defer func() { _ = conn.Close() }()
		_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
		return kerberos.Exchange(conn, b)
	}}
	out.Who.Token = k.Token
	return out, nil
}
