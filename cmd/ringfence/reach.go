package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"ringfence"
	"ringfence/internal/node/admin/client"
	"ringfence/internal/node/sockets"
	"ringfence/internal/state/durable"
)

// clientFlows declares how the command line reaches a node.
func clientFlows() []ringfence.Flow {
	return []ringfence.Flow{
		{Name: "cli-socket", Purpose: "administration of the node on this host", Room: "cmd/ringfence", Direction: ringfence.Dials, Transport: "unix", Peers: "this host", TLS: ringfence.HostSocket},
		{Name: "cli-https", Purpose: "administration of a node elsewhere", Room: "cmd/ringfence", Direction: ringfence.Dials, Transport: "tcp", Peers: "the node", TLS: ringfence.TLSServer},
	}
}

// login is what is remembered of a node that we logged in to.
type login struct {
	Token  string `json:"token"`
	Anchor string `json:"anchor"` // PEM
}

// loginFile is where logins are kept, readable by their owner only.
func loginFile() (string, error) {
	dir, err := os.UserConfigDir()
	if err != nil {
		return "", &ringfence.Fault{Kind: ringfence.KindUnavailable, Text: "there is no configuration directory", Hint: "set HOME or XDG_CONFIG_HOME", Err: err}
	}
	return filepath.Join(dir, "ringfence", "logins.json"), nil
}

func readLogins() (map[string]login, error) {
	all := map[string]login{}
	file, err := loginFile()
	if err != nil {
		return nil, err
	}
	b, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return all, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &all)
	}
	if err != nil {
		return nil, &ringfence.Fault{Kind: ringfence.KindInvalid, Text: "the file of logins cannot be read: " + file, Hint: "remove it and log in again", Err: err}
	}
	return all, nil
}

func writeLogins(all map[string]login) error {
	file, err := loginFile()
	if err != nil {
		return err
	}
	b, err := json.MarshalIndent(all, "", "  ")
	if err == nil {
		err = os.MkdirAll(filepath.Dir(file), 0o700)
	}
	if err == nil {
		err = durable.Replace(file, b)
	}
	if err != nil {
		return &ringfence.Fault{Kind: ringfence.KindUnavailable, Text: "the login cannot be kept in " + file, Err: err}
	}
	return nil
}

// hostPort reads --node: HOST, HOST:PORT or https://HOST:PORT.
func hostPort(s string) (string, error) {
	bad := invalid(fmt.Sprintf("%q is no address of a node", s), "give HOST or HOST:PORT, e.g. pbx.example.com:8443")
	if strings.Contains(s, "://") {
		u, err := url.Parse(s)
		if err != nil || u.Scheme != "https" || u.Host == "" || strings.Trim(u.Path, "/") != "" {
			return "", bad
		}
		s = u.Host
	}
	if ip, err := netip.ParseAddr(s); err == nil {
		return net.JoinHostPort(ip.String(), "8443"), nil
	}
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		host, port = strings.Trim(s, "[]"), "8443"
	}
	if host == "" || strings.ContainsAny(host, "/ @") {
		return "", bad
	}
	return net.JoinHostPort(host, port), nil
}

// client returns a client of the node that the flags name.
func (a *app) client() (*client.Client, error) {
	if a.node == "" {
		return a.local()
	}
	at, err := hostPort(a.node)
	if err != nil {
		return nil, err
	}
	all, err := readLogins()
	if err != nil {
		return nil, err
	}
	l, ok := all[at]
	if !ok {
		return nil, &ringfence.Fault{Kind: ringfence.KindUnauthenticated, Text: "there is no login for " + at, Hint: "ringfence login --node " + at + " --code CODE --pin FINGERPRINT"}
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM([]byte(l.Anchor)) {
		return nil, &ringfence.Fault{Kind: ringfence.KindInvalid, Text: "the login for " + at + " has no trust anchor", Hint: "log in again"}
	}
	return remote(at, &tls.Config{RootCAs: roots}, l.Token)
}

// local returns a client of the node of the data directory.
func (a *app) local() (*client.Client, error) {
	opener, err := sockets.New(clientFlows())
	if err != nil {
		return nil, err
	}
	path := filepath.Join(a.data, "admin.sock")
	return client.New(client.Config{Dial: func(ctx context.Context) (net.Conn, error) {
		c, err := opener.DialUnix(ctx, "cli-socket", path)
		switch {
		case errors.Is(err, fs.ErrPermission):
			return nil, &ringfence.Fault{Kind: ringfence.KindDenied, Text: "you may not use " + path, Hint: "run it as root or as the node's user", Err: err}
		case err != nil:
			return nil, &ringfence.Fault{Kind: ringfence.KindUnavailable, Text: "no node runs with the data directory " + a.data,
				Hint: "start it with `ringfence up --data " + a.data + "`, or name another with --data or --node"}
		}
		return c, nil
	}}), nil
}

// remote returns a client of a node elsewhere. The name in at is what its certificate must prove.
func remote(at string, conf *tls.Config, token string) (*client.Client, error) {
	opener, err := sockets.New(clientFlows())
	if err != nil {
		return nil, err
	}
	host, port, err := net.SplitHostPort(at)
	if err != nil {
		return nil, err
	}
	conf.MinVersion, conf.ServerName = tls.VersionTLS13, host
	return client.New(client.Config{Host: at, TLS: conf, Token: token, Dial: func(ctx context.Context) (net.Conn, error) {
		number, err := net.DefaultResolver.LookupPort(ctx, "tcp", port)
		if err != nil {
			return nil, err
		}
		addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
		for _, ip := range addrs {
			var c net.Conn
			if c, err = opener.Dial(ctx, "cli-https", netip.AddrPortFrom(ip.Unmap(), uint16(number))); err == nil {
				return c, nil
			}
		}
		return nil, &ringfence.Fault{Kind: ringfence.KindUnavailable, Text: "no node can be reached at " + at, Hint: "is it running, and is the port allowed?", Err: err}
	}}), nil
}

// ask sends one request to the node that the flags name.
func (a *app) ask(ctx context.Context, method, path string, query url.Values, in, out any) error {
	c, err := a.client()
	if err != nil {
		return err
	}
	defer c.Close()
	return c.Do(ctx, method, path, query, in, out)
}
