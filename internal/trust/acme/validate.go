package acme

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	maxAnswer    = 1 << 10  // bytes of a body that are read
	maxHeader    = 16 << 10 // bytes of a response header
	maxAddresses = 4        // of one host that are tried
	maxRedirects = 3
	protocolALPN = "acme-tls/1"
)

// Reachable is the usual [Config.Reach]: every address but those that lead back to this host, to its link, to many hosts, or that hold an
// IPv4 address for a translator. Private networks are allowed, since the site's own machines live there.
func Reachable(a netip.Addr) bool {
	a = a.Unmap()
	if !a.IsValid() || a.IsUnspecified() || a.IsLoopback() || a.IsMulticast() || a.IsLinkLocalUnicast() || a.Zone() != "" {
		return false
	}
	for _, bad := range []string{"0.0.0.0/8", "255.255.255.255/32", "::/96", "64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32", "fec0::/10"} {
		if netip.MustParsePrefix(bad).Contains(a) {
			return false
		}
	}
	return true
}

// look tells why a challenge is not met, or nil. It tries a few times: what the client set up may need a moment.
func (s *Server) look(ctx context.Context, id Identifier, c Challenge, thumb string) (why *problem) {
	for try := range s.c.Tries {
		if try > 0 {
			t := time.NewTimer(s.c.Pause)
			select {
			case <-t.C:
			case <-ctx.Done():
				t.Stop()
				return refuse("serverInternal", "the server ends")
			}
		}
		once, done := context.WithTimeout(ctx, s.c.LookTime)
		why = s.lookOnce(once, id, c.Type, c.Token, keyAuthorization(c.Token, thumb))
		done()
		if why == nil {
			return nil
		}
		why.Status = 0
	}
	return why
}

func (s *Server) lookOnce(ctx context.Context, id Identifier, kind, token, auth string) *problem {
	switch kind {
	case typeHTTP:
		return s.lookHTTP(ctx, id, token, auth)
	case typeDNS:
		return s.lookDNS(ctx, id, auth)
	case typeALPN:
		return s.lookALPN(ctx, id, auth)
	}
	return refuse("serverInternal", "a challenge of this kind is unknown")
}

// addresses finds where a name is, as far as this server may go there.
func (s *Server) addresses(ctx context.Context, id Identifier) ([]netip.Addr, *problem) {
	var list []netip.Addr
	if id.Type == "ip" {
		a, err := netip.ParseAddr(id.Value)
		if err != nil {
			return nil, refuse("malformed", "the identifier is no address")
		}
		list = []netip.Addr{a}
	} else {
		var err error
		if list, err = s.c.Resolver.LookupNetIP(ctx, "ip", id.Value+"."); err != nil {
			return nil, refuse("dns", "the name could not be looked up: "+dnsReason(err))
		}
	}
	var out []netip.Addr
	for _, a := range list {
		if a = a.Unmap(); s.c.Reach(a) && !slices.Contains(out, a) {
			out = append(out, a)
		}
	}
	if len(out) == 0 {
		return nil, refuse("connection", "the name has no address that this server goes to")
	}
	// IPv6 first, as clients would (RFC 8555 section 8.3 leaves it open), and a few only.
	slices.SortStableFunc(out, func(a, b netip.Addr) int { return b.BitLen() - a.BitLen() })
	return out[:min(len(out), maxAddresses)], nil
}

// dnsReason words a failure of the resolver without the resolver's address.
func dnsReason(err error) string {
	d, ok := errors.AsType[*net.DNSError](err)
	switch {
	case ok && d.IsNotFound:
		return "it does not exist, or has no such records"
	case ok && d.IsTimeout || errors.Is(err, context.DeadlineExceeded):
		return "the DNS servers did not answer in time"
	}
	return "the DNS servers failed"
}

// dial connects to the first address that answers.
func (s *Server) dial(ctx context.Context, list []netip.Addr, port uint16) (net.Conn, error) {
	var last error
	for i, a := range list {
		// A silent address may not use up the time of those after it.
		left, share := s.c.LookTime, time.Duration(len(list)-i)
		if due, ok := ctx.Deadline(); ok {
			left = time.Until(due)
		}
		one, done := context.WithTimeout(ctx, left/share)
		conn, err := s.c.Dial(one, netip.AddrPortFrom(a, port))
		done()
		if err == nil {
			return conn, nil
		}
		last = err
	}
	return nil, last
}

// connectionReason words a failure to connect or to read; details of our own network are nobody's business.
func connectionReason(err error) string {
	n, ok := errors.AsType[net.Error](err)
	if ok && n.Timeout() || errors.Is(err, context.DeadlineExceeded) {
		return "it did not answer in time"
	}
	return "it refused, or broke the connection"
}

// lookHTTP fetches the key authorization (RFC 8555 section 8.3).
func (s *Server) lookHTTP(ctx context.Context, id Identifier, token, auth string) *problem {
	addrs, p := s.addresses(ctx, id)
	if p != nil {
		return p
	}
	host := id.Value
	if id.Type == "ip" && strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	at := &url.URL{Scheme: "http", Host: host, Path: "/.well-known/acme-challenge/" + token}
	for range maxRedirects + 1 {
		resp, err := s.get(ctx, addrs, at)
		if err != nil {
			return refuse("connection", "fetching "+clip(at.String(), 200)+": "+connectionReason(err))
		}
		body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
		_ = resp.Body.Close() // what is left of it does not matter
		switch resp.StatusCode {
		case http.StatusOK:
		case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
			if at, p = s.follow(at, resp.Header.Get("Location")); p != nil {
				return p
			}
			continue
		default:
			return refuse("unauthorized", "fetching "+clip(at.String(), 200)+": status "+strconv.Itoa(resp.StatusCode))
		}
		switch {
		case err != nil:
			return refuse("connection", "fetching "+clip(at.String(), 200)+": "+connectionReason(err))
		case len(body) > maxAnswer:
			return refuse("incorrectResponse", "the answer is too long")
		case subtle.ConstantTimeCompare(bytes.TrimRight(body, " \t\r\n"), []byte(auth)) != 1:
			return refuse("incorrectResponse", "the answer is not the key authorization")
		}
		return nil
	}
	return refuse("connection", fmt.Sprintf("more than %d redirects", maxRedirects))
}

// follow checks where a redirect leads: only to the same host, over HTTP or HTTPS on their own ports.
func (s *Server) follow(from *url.URL, location string) (*url.URL, *problem) {
	no := func(detail string) (*url.URL, *problem) { return nil, refuse("connection", detail) }
	if location == "" || len(location) > 1024 {
		return no("a redirect leads nowhere")
	}
	to, err := from.Parse(location)
	if err != nil || to.User != nil || to.Opaque != "" {
		return no("a redirect leads nowhere")
	}
	port, usual := to.Port(), map[string]uint16{"http": s.c.HTTPPort, "https": s.c.TLSPort}[to.Scheme]
	switch {
	case usual == 0:
		return no("a redirect leads to something else than HTTP")
	case !strings.EqualFold(to.Hostname(), from.Hostname()):
		return no("a redirect leads to another host, where this server does not go")
	case port != "" && port != strconv.Itoa(int(usual)):
		return no("a redirect leads to another port, where this server does not go")
	}
	to.Host, to.Fragment = from.Host, ""
	return to, nil
}

// get sends one request and follows nothing.
func (s *Server) get(ctx context.Context, addrs []netip.Addr, at *url.URL) (*http.Response, error) {
	port := s.c.HTTPPort
	if at.Scheme == "https" {
		port = s.c.TLSPort
	}
	t := &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return s.dial(ctx, addrs, port) },
		// The certificate is what the host has none of yet; the key authorization is what proves the host.
		TLSClientConfig:        &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12},
		DisableKeepAlives:      true,
		DisableCompression:     true,
		MaxResponseHeaderBytes: maxHeader,
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at.String(), nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", "Ringfence-ACME")
	return t.RoundTrip(req)
}

// lookDNS looks for the digest of the key authorization in TXT records (RFC 8555 section 8.4).
func (s *Server) lookDNS(ctx context.Context, id Identifier, auth string) *problem {
	name := "_acme-challenge." + id.Value
	records, err := s.c.Resolver.LookupTXT(ctx, name+".")
	if err != nil {
		return refuse("dns", "the TXT records of "+name+" could not be looked up: "+dnsReason(err))
	}
	sum := sha256.Sum256([]byte(auth))
	want := base64.RawURLEncoding.EncodeToString(sum[:])
	if !slices.Contains(records, want) {
		return refuse("incorrectResponse", fmt.Sprintf("none of the %d TXT records of %s is the digest of the key authorization", len(records), name))
	}
	return nil
}

// lookALPN asks for the certificate that only who answers for the name's port can show (RFC 8737 section 3).
func (s *Server) lookALPN(ctx context.Context, id Identifier, auth string) *problem {
	addrs, p := s.addresses(ctx, id)
	if p != nil {
		return p
	}
	conn, err := s.dial(ctx, addrs, s.c.TLSPort)
	if err != nil {
		return refuse("connection", "connecting for tls-alpn-01: "+connectionReason(err))
	}
	defer conn.Close()
	name := id.Value
	if id.Type == "ip" {
		name = reverseName(addrs[0])
	}
	// It is a certificate of the client's own making; what it has to say is checked below.
	c := tls.Client(conn, &tls.Config{ServerName: name, NextProtos: []string{protocolALPN}, InsecureSkipVerify: true, MinVersion: tls.VersionTLS12})
	if err := c.HandshakeContext(ctx); err != nil {
		return refuse("tls", "the TLS handshake for tls-alpn-01 failed")
	}
	st := c.ConnectionState()
	if st.NegotiatedProtocol != protocolALPN || len(st.PeerCertificates) == 0 {
		return refuse("unauthorized", "the host does not speak "+protocolALPN)
	}
	return checkALPN(st.PeerCertificates[0], id, auth)
}

// checkALPN checks a certificate of tls-alpn-01: the name and nothing else, and the digest of the key authorization, critical.
func checkALPN(c *x509.Certificate, id Identifier, auth string) *problem {
	no := func(detail string) *problem {
		return refuse("incorrectResponse", "the certificate of tls-alpn-01 "+detail)
	}
	if !bytes.Equal(c.RawIssuer, c.RawSubject) {
		return no("is not self-signed")
	}
	if !slices.Equal(namesIn(c.DNSNames, c.IPAddresses), []Identifier{id}) || len(c.DNSNames)+len(c.IPAddresses) != 1 || len(c.EmailAddresses)+len(c.URIs) != 0 {
		return no("is not for exactly the name")
	}
	sans, digests, sum := 0, 0, sha256.Sum256([]byte(auth))
	for _, e := range c.Extensions {
		switch {
		case e.Id.Equal(asn1.ObjectIdentifier{2, 5, 29, 17}):
			sans++
			var names []asn1.RawValue
			if rest, err := asn1.Unmarshal(e.Value, &names); err != nil || len(rest) > 0 || len(names) != 1 { // also names of forms that x509 leaves out
				return no("is not for exactly the name")
			}
		case e.Id.Equal(asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 31}):
			digests++
			var got []byte
			rest, err := asn1.Unmarshal(e.Value, &got)
			if err != nil || len(rest) > 0 || !e.Critical || subtle.ConstantTimeCompare(got, sum[:]) != 1 {
				return no("does not have the digest of the key authorization in a critical extension")
			}
		}
	}
	if sans != 1 || digests != 1 {
		return no("lacks a name or the digest of the key authorization")
	}
	return nil
}

// reverseName is an address as a name, for SNI (RFC 8738 section 6).
func reverseName(a netip.Addr) string {
	b := a.AsSlice()
	slices.Reverse(b)
	var out strings.Builder
	for _, x := range b {
		if a.Is4() {
			fmt.Fprintf(&out, "%d.", x)
		} else {
			fmt.Fprintf(&out, "%x.%x.", x&15, x>>4)
		}
	}
	if a.Is4() {
		return out.String() + "in-addr.arpa"
	}
	return out.String() + "ip6.arpa"
}
