package client

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"ringfence"
	"ringfence/internal/node/admin/api"
)

// maxAnswer bounds an answer, in bytes: ten thousand call records with their proof.
const maxAnswer = 64 << 20

// Config says how a node is reached.
type Config struct {
	// Dial connects to the node: its Unix socket, or its HTTPS port.
	Dial func(ctx context.Context) (net.Conn, error)
	// TLS protects the connection and names whom to trust; nil for a Unix socket.
	TLS   *tls.Config
	Host  string // as it is named in the request, e.g. "pbx.example.com:8443"
	Token string // empty on a Unix socket
}

// Client is a client of one node. Its methods may be called from any goroutine.
type Client struct {
	base  string
	token string
	http  *http.Client
}

// New returns a client; nothing is connected yet.
func New(c Config) *Client {
	scheme, host := "http://", "node"
	if c.TLS != nil {
		scheme, host = "https://", c.Host
	}
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) { return c.Dial(ctx) }
	return &Client{base: scheme + host, token: c.Token, http: &http.Client{Timeout: time.Minute,
		Transport:     &http.Transport{DialContext: dial, TLSClientConfig: c.TLS, MaxIdleConns: 2, IdleConnTimeout: 30 * time.Second, ResponseHeaderTimeout: 45 * time.Second},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
}

// Close gives idle connections back.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Do sends one request below /api/v1 and reads its answer into out. in and out may be nil; out may be a *[]byte for an answer
// that is not JSON.
func (c *Client) Do(ctx context.Context, method, path string, query url.Values, in, out any) error {
	return c.do(ctx, method, "/api/v1"+path, query, in, out)
}

// Anchor fetches the trust anchor, for which no token is needed.
func (c *Client) Anchor(ctx context.Context) (pem []byte, err error) {
	err = c.do(ctx, http.MethodGet, "/anchor.pem", nil, nil, &pem)
	return pem, err
}

func (c *Client) do(ctx context.Context, method, path string, query url.Values, in, out any) error {
	const op = "client"
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return &ringfence.Fault{Op: op, Kind: ringfence.KindInternal, Text: "the request cannot be written", Err: err}
		}
		body = bytes.NewReader(b)
	}
	target := c.base + path
	if len(query) > 0 {
		target += "?" + query.Encode()
	}
	r, err := http.NewRequestWithContext(ctx, method, target, body)
	if err != nil {
		return &ringfence.Fault{Op: op, Kind: ringfence.KindInvalid, Text: "the request cannot be made", Err: err}
	}
	if in != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	if c.token != "" {
		r.Header.Set("Authorization", "Bearer "+c.token)
	}
	resp, err := c.http.Do(r)
	if err != nil {
		return failed(err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	switch {
	case err != nil:
		return failed(err)
	case len(b) > maxAnswer:
		return &ringfence.Fault{Op: op, Kind: ringfence.KindUnsupported, Text: "the answer is too long", Hint: "ask for less at once"}
	case resp.StatusCode >= 300:
		return problem(resp, b)
	}
	if raw, ok := out.(*[]byte); ok {
		*raw = b
		return nil
	}
	if out == nil || len(b) == 0 {
		return nil
	}
	if err := json.Unmarshal(b, out); err != nil {
		return &ringfence.Fault{Op: op, Kind: ringfence.KindUnsupported, Text: "the node's answer is not understood", Hint: "is the node of another version?", Err: err}
	}
	return nil
}

// failed words an error of the connection.
func failed(err error) error {
	if f, ok := errors.AsType[*ringfence.Fault](err); ok {
		return f
	}
	if wrong, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return &ringfence.Fault{Op: "client", Kind: ringfence.KindInsecure, Text: "the node's certificate is not trusted", Err: wrong.Err,
			Hint: "log in with --pin and the fingerprint of `ringfence trust` on the node's host, or with --ca"}
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return &ringfence.Fault{Op: "client", Kind: ringfence.KindTimeout, Text: "the node does not answer", Err: err}
	}
	return &ringfence.Fault{Op: "client", Kind: ringfence.KindUnavailable, Text: "the node cannot be reached", Err: err}
}

// problem reads a refusal.
func problem(resp *http.Response, b []byte) error {
	p := api.Problem{Status: resp.StatusCode}
	if strings.HasSuffix(resp.Header.Get("Content-Type"), "json") && json.Unmarshal(b, &p) == nil && p.Status != 0 {
		return p.Fault()
	}
	return &ringfence.Fault{Op: "client", Kind: ringfence.KindUnavailable, Text: fmt.Sprintf("the answer is %s, which a node does not say", resp.Status), Hint: "is there a node at this address?"}
}
