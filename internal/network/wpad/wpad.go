package wpad

import (
	"bufio"
	"cmp"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"ringfence"
)

// Finder looks for a file.
type Finder struct {
	Lookup func(ctx context.Context, host string) ([]netip.Addr, error)
	Dial   func(ctx context.Context, to netip.AddrPort) (net.Conn, error)
	// Listen opens UDP at an address of this host, for DHCP.
	Listen func(ctx context.Context, at netip.AddrPort) (net.PacketConn, error)
	TLS    *tls.Config // for https; it decides whom to believe
}

// File is a file and where it came from.
type File struct {
	URL  string
	From netip.AddrPort // who sent it
	Type string         // its media type
	Body []byte
}

const (
	maxURL       = 2048
	maxFile      = 1 << 20
	maxHeader    = 64 << 10
	maxRedirects = 3
	fetchTime    = 10 * time.Second
	dhcpTime     = 2 * time.Second
	dhcpTries    = 2
)

func fault(kind ringfence.Kind, text, hint string, err error) error {
	return &ringfence.Fault{Op: "wpad", Kind: kind, Text: text, Hint: hint, Err: err}
}

// ParseURL reads where a file is.
func ParseURL(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	if err != nil || len(s) > maxURL || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.User != nil || strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
		return nil, fault(ringfence.KindInvalid, fmt.Sprintf("%.120q is no address of a file", s), "write http://wpad.example.com/wpad.dat", err)
	}
	if p := u.Port(); p != "" {
		if n, err := strconv.ParseUint(p, 10, 16); err != nil || n == 0 {
			return nil, fault(ringfence.KindInvalid, fmt.Sprintf("%.120q has no port", s), "", err)
		}
	}
	return u, nil
}

// Names returns the names that hosts of a domain ask for, the domain's own first. Those of the domains above are asked by hosts that climb, which gives the proxy of a site to whoever has that name.
func Names(domain string) (out []string) {
	labels := strings.Split(strings.Trim(strings.ToLower(domain), "."), ".")
	for n := 0; n == 0 || len(labels)-n >= 2; n++ {
		out = append(out, "wpad."+strings.Join(labels[n:], "."))
	}
	return out
}

// ByDNS fetches the file from the host that a name is of.
func (f *Finder) ByDNS(ctx context.Context, name string) (*File, error) {
	return f.Fetch(ctx, "http://"+name+"/wpad.dat")
}

// ByDHCP asks the server at an address for option 252, from an address of this host.
func (f *Finder) ByDHCP(ctx context.Context, own netip.Addr, server netip.AddrPort) (Offer, error) {
	if !own.Is4() || !server.Addr().Is4() {
		return Offer{}, fault(ringfence.KindUnsupported, "DHCP option 252 is of IPv4", "", nil)
	}
	c, err := f.Listen(ctx, netip.AddrPortFrom(own, 68))
	if err != nil {
		return Offer{}, fault(ringfence.KindDenied, "DHCP is asked from port 68, which cannot be opened", "run as root, or give the address of the file; a DHCP client of this host may have the port", err)
	}
	defer func() { _ = c.Close() }()
	defer context.AfterFunc(ctx, func() { _ = c.Close() })()
	var random [10]byte
	if _, err := rand.Read(random[:]); err != nil {
		return Offer{}, err
	}
	id, hardware := binary.BigEndian.Uint32(random[:]), [6]byte(random[4:])
	hardware[0] = hardware[0]&^1 | 2 // locally administered
	b := make([]byte, maxReply+1)
	for range dhcpTries {
		if _, err := c.WriteTo(Inform(id, own, hardware), net.UDPAddrFromAddrPort(server)); err != nil {
			return Offer{}, fault(ringfence.KindUnavailable, "the DHCP server cannot be asked", "", err)
		}
		until := time.Now().Add(dhcpTime)
		for time.Now().Before(until) {
			_ = c.SetReadDeadline(until)
			n, from, err := c.ReadFrom(b)
			if err != nil {
				break
			}
			if a, ok := from.(*net.UDPAddr); !ok || a.AddrPort().Addr().Unmap() != server.Addr() {
				continue
			}
			if o, err := ParseOffer(b[:n], id); err == nil {
				return o, nil
			}
		}
		if ctx.Err() != nil {
			break
		}
	}
	return Offer{}, fault(ringfence.KindTimeout, "the DHCP server "+server.String()+" does not answer", "it answers hosts of its own networks, and some answer no question without a lease (DHCPINFORM)", nil)
}

// Fetch gets a file, by a few redirections at most.
func (f *Finder) Fetch(ctx context.Context, from string) (*File, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTime)
	defer cancel()
	for range maxRedirects + 1 {
		u, err := ParseURL(from)
		if err != nil {
			return nil, err
		}
		file, next, err := f.get(ctx, u)
		if err != nil || file != nil {
			return file, err
		}
		to, err := u.Parse(next)
		if err != nil {
			return nil, fault(ringfence.KindInvalid, "the redirection of "+u.Redacted()+" leads nowhere", "", err)
		}
		from = to.String()
	}
	return nil, fault(ringfence.KindInvalid, fmt.Sprintf("more than %d redirections", maxRedirects), "", nil)
}

// open connects to the host of a URL.
func (f *Finder) open(ctx context.Context, u *url.URL) (net.Conn, netip.AddrPort, error) {
	at, err := netip.ParseAddr(u.Hostname())
	if err != nil {
		all, err := f.Lookup(ctx, u.Hostname())
		if err != nil || len(all) == 0 {
			return nil, netip.AddrPort{}, fault(ringfence.KindNotFound, "there is no address of "+u.Hostname(), "", err)
		}
		at = all[0].Unmap()
	}
	port, _ := strconv.ParseUint(cmp.Or(u.Port(), map[string]string{"http": "80", "https": "443"}[u.Scheme]), 10, 16)
	to := netip.AddrPortFrom(at, uint16(port))
	conn, err := f.Dial(ctx, to)
	if err != nil {
		return nil, to, fault(ringfence.KindUnavailable, "nobody answers at "+to.String()+", where "+u.Redacted()+" should be", "", err)
	}
	if u.Scheme == "http" {
		return conn, to, nil
	}
	if f.TLS == nil {
		_ = conn.Close()
		return nil, to, fault(ringfence.KindUnsupported, "files are not fetched by https here", "", nil)
	}
	conf := f.TLS.Clone()
	conf.ServerName = u.Hostname()
	t := tls.Client(conn, conf)
	if err := t.HandshakeContext(ctx); err != nil {
		_ = conn.Close()
		return nil, to, fault(ringfence.KindInsecure, "the certificate of "+u.Host+" is not believed", "", err)
	}
	return t, to, nil
}

// get makes one request. Without an error there is a file, or where it is instead.
func (f *Finder) get(ctx context.Context, u *url.URL) (file *File, next string, err error) {
	conn, at, err := f.open(ctx, u)
	if err != nil {
		return nil, "", err
	}
	defer func() { _ = conn.Close() }()
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
	broken := func(err error) (*File, string, error) {
		if ctx.Err() != nil {
			return nil, "", fault(ringfence.KindTimeout, u.Redacted()+" does not come in time", "", err)
		}
		return nil, "", fault(ringfence.KindInvalid, "what answers for "+u.Redacted()+" is no web server", "", err)
	}
	if _, err := fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\nAccept: application/x-ns-proxy-autoconfig, */*;q=0.1\r\nConnection: close\r\n\r\n", u.RequestURI(), u.Host); err != nil {
		return broken(err)
	}
	limit := &io.LimitedReader{R: conn, N: maxHeader}
	r, err := http.ReadResponse(bufio.NewReader(limit), &http.Request{Method: http.MethodGet})
	if err != nil {
		return broken(err)
	}
	limit.N = maxFile + 1<<16
	switch code := r.StatusCode; {
	case code == http.StatusOK:
	case code >= 300 && code < 400 && r.Header.Get("Location") != "":
		return nil, r.Header.Get("Location"), nil
	default:
		return nil, "", fault(ringfence.KindNotFound, fmt.Sprintf("the server of %s answers %d", u.Redacted(), code), "", nil)
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, maxFile+1))
	if err != nil && !(errors.Is(err, io.ErrUnexpectedEOF) && len(body) > maxFile) {
		return broken(err)
	}
	if len(body) > maxFile {
		return nil, "", fault(ringfence.KindInvalid, fmt.Sprintf("%s is longer than %d bytes", u.Redacted(), maxFile), "", nil)
	}
	return &File{URL: u.Redacted(), From: at, Type: r.Header.Get("Content-Type"), Body: body}, "", nil
}
