package node

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"time"

	"ringfence"
	"ringfence/internal/node/config"
	"ringfence/internal/trust/oidc"
	"ringfence/internal/trust/token"
)

const (
	flowOpenID = "oidc"
	maxSecret  = 4 << 10 // bytes
)

// openOpenID returns the OpenID provider of the configuration, or nil. It is not asked before somebody signs in: the node starts without it.
func (n *Node) openOpenID() (token.Outside, error) {
	c := n.Config.OAuth.Provider
	if c.Issuer == "" {
		return nil, nil
	}
	client := &http.Client{Transport: &http.Transport{DialTLSContext: func(ctx context.Context, _, addr string) (net.Conn, error) {
		host, text, err := net.SplitHostPort(addr)
		if err != nil {
			return nil, err
		}
		port, err := strconv.ParseUint(text, 10, 16)
		if err != nil {
			return nil, err
		}
		return n.dialTLS(ctx, flowOpenID, config.Endpoint{Scheme: "https", Host: host, Port: uint16(port)})
	}, MaxIdleConns: 2, IdleConnTimeout: 30 * time.Second, MaxResponseHeaderBytes: 64 << 10}}
	n.closers = append(n.closers, client.CloseIdleConnections)
	o := oidc.Config{Issuer: c.Issuer, ClientID: c.ClientID, Claim: c.Claim, Strip: c.Strip, HTTP: client, Log: n.log, Redirect: func() string { return n.issuer() + token.ReturnPath }}
	if c.SecretFile != "" {
		o.Secret = func() (string, error) { return readSecret(c.SecretFile) }
		if _, err := o.Secret(); err != nil { // better now than when the first person signs in
			return nil, err
		}
	}
	p, err := oidc.New(o)
	if err != nil {
		return nil, err
	}
	return outside{p}, nil
}

// readSecret reads the client secret, without the end of its line.
func readSecret(path string) (string, error) {
	bad := func(text string, err error) (string, error) {
		return "", &ringfence.Fault{Op: "node.openid", Kind: ringfence.KindUnavailable, Text: "oauth.provider.secret-file " + text, Hint: "put the client secret into " + path + ", and let not everybody read it: chmod o= " + path, Err: err}
	}
	f, err := os.Open(path)
	if err != nil {
		return bad("cannot be read", err)
	}
	defer f.Close()
	if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() || st.Mode().Perm()&0o007 != 0 {
		return bad("is no file, or everybody on this host can use it", err)
	}
	b, err := io.ReadAll(io.LimitReader(f, maxSecret+1))
	b = bytes.TrimRight(b, "\r\n")
	if err != nil || len(b) == 0 || len(b) > maxSecret || bytes.ContainsFunc(b, func(r rune) bool { return r < ' ' || r > '~' }) {
		return bad("holds no secret of one line", err)
	}
	return string(b), nil
}

// outside is the OpenID provider as the authorization server asks it.
type outside struct{ *oidc.Provider }

// Begin implements token.Outside.
func (o outside) Begin(ctx context.Context) (at, state string, finish token.Finish, err error) {
	a, err := o.Provider.Begin(ctx)
	return a.URL, a.State, func(ctx context.Context, answer url.Values) (ringfence.UserID, string, error) {
		who, err := o.Finish(ctx, a, answer)
		return who.User, who.Subject, err
	}, err
}

// issuer is the address of the authorization server.
func (n *Node) issuer() string {
	return "https://" + net.JoinHostPort(n.Config.Domain, strconv.Itoa(int(n.webAddr.Port())))
}
