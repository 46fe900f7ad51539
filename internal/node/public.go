package node

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync/atomic"
	"time"

	"ringfence"
	"ringfence/internal/node/config"
	"ringfence/internal/trust/publicname"
	"ringfence/internal/trust/tlspolicy"
)

// openPublic prepares what keeps a certificate for the public names, if the configuration has some.
func (n *Node) openPublic(ctx context.Context) error {
	p := n.Config.Trust.Public
	if !p.On() {
		return nil
	}
	binding, err := readBinding(p.Binding)
	if err != nil {
		return err
	}
	server, err := p.Server()
	if err != nil {
		return err
	}
	transport := &http.Transport{DialTLSContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return n.dialTLS(ctx, "public-acme", server) }, MaxIdleConns: 2, IdleConnTimeout: 30 * time.Second,
		ResponseHeaderTimeout: 30 * time.Second, MaxResponseHeaderBytes: 64 << 10, DisableCompression: true}
	n.closers = append(n.closers, transport.CloseIdleConnections)
	var contact []string
	for _, mail := range p.Contact {
		contact = append(contact, "mailto:"+mail)
	}
	n.Public, err = publicname.Open(ctx, publicname.Config{Names: p.Names, Directory: p.Directory, Contact: contact, Agree: p.Agree, Challenge: p.Kind(), Alias: p.As(), Binding: binding, Node: n.Config.Node,
		Vault: n.Store, Ring: publicRing{n}, Answers: publicAnswers{n}, Transport: transport, Audit: n.audited("publicname"), Log: n.log})
	return err
}

// readBinding reads the MAC key of an external account binding; nil if there is none.
func readBinding(b config.Binding) (*publicname.Binding, error) {
	if b.ID == "" {
		return nil, nil
	}
	bad := func(kind ringfence.Kind, text, hint string, cause error) (*publicname.Binding, error) {
		return nil, &ringfence.Fault{Op: "node.public", Kind: kind, Text: "trust.public.binding.key-file: " + text, Hint: hint, Err: cause}
	}
	f, err := os.Open(b.KeyFile)
	if err != nil {
		return bad(ringfence.KindNotFound, "it cannot be read", "", err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return bad(ringfence.KindUnavailable, "it cannot be read", "", err)
	}
	if st.Mode().IsRegular() && st.Mode().Perm()&0o077 != 0 {
		return bad(ringfence.KindInsecure, fmt.Sprintf("others may use it (mode %o)", st.Mode().Perm()), "chmod 600 "+b.KeyFile, nil)
	}
	text, err := io.ReadAll(io.LimitReader(f, 4096))
	if err != nil {
		return bad(ringfence.KindUnavailable, "it cannot be read", "", err)
	}
	text = bytes.TrimRight(bytes.TrimSpace(text), "=")
	key, err := base64.RawURLEncoding.DecodeString(string(text))
	if err != nil || len(key) < 16 {
		return bad(ringfence.KindInvalid, "it holds no key in base64url", "copy the HMAC key as the authority shows it", nil)
	}
	return &publicname.Binding{ID: b.ID, Key: key}, nil
}

// publicRing is the keyring as the certificate for public names goes into it.
type publicRing struct{ n *Node }

// Certificate implements publicname.Ring.
func (r publicRing) Certificate(alias string) (*tls.Certificate, error) {
	return r.n.Keyring.Certificate(alias)
}

// Put implements publicname.Ring: from the next handshake on it is presented, here and at other nodes.
func (r publicRing) Put(ctx context.Context, alias string, chain, key []byte) error {
	_, notes, err := keys{r.n.Keyring, r.n}.AddIdentity(ctx, alias, chain, key, true)
	for _, text := range notes {
		r.n.log.Info("the certificate for public names", "note", text)
	}
	return err
}

// publicAnswers opens the port of challenges.
type publicAnswers struct{ n *Node }

// Open implements publicname.Answers.
func (a publicAnswers) Open(ctx context.Context, r *publicname.Responder) (func(), error) {
	p, n := a.n.Config.Trust.Public, a.n
	if p.Kind() == publicname.TLSALPN01 {
		return n.answerTLS(ctx, r)
	}
	ln, err := n.opener.Listen(ctx, "public-http", p.At())
	if err != nil {
		return nil, err
	}
	hs := &http.Server{Handler: r, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 5 * time.Second, WriteTimeout: 5 * time.Second, IdleTimeout: 5 * time.Second, MaxHeaderBytes: 8 << 10,
		ErrorLog: slog.NewLogLogger(n.log.Handler(), slog.LevelDebug), ConnState: few()}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = hs.Serve(ln) // it ends by Close
	}()
	return func() {
		_ = hs.Close()
		<-done
	}, nil
}

// most is how many connections a port of challenges has at a time: an authority comes with a handful.
const most = 32

// few is an http.Server.ConnState that closes connections above most as they come.
func few() func(net.Conn, http.ConnState) {
	var n atomic.Int32
	return func(c net.Conn, s http.ConnState) {
		switch s {
		case http.StateNew:
			if n.Add(1) > most {
				_ = c.Close()
			}
		case http.StateClosed, http.StateHijacked:
			n.Add(-1)
		}
	}
}

// answerTLS answers tls-alpn-01: a handshake says all, and nothing is spoken after it (RFC 8737 section 4).
func (n *Node) answerTLS(ctx context.Context, r *publicname.Responder) (func(), error) {
	at := n.Config.Trust.Public.At()
	conf, err := n.policy.Server(tlspolicy.At("public-tls", at), tlspolicy.Options{NextProtos: []string{"acme-tls/1"}, Present: r.Certificate})
	if err != nil {
		return nil, err
	}
	ln, err := n.opener.Listen(ctx, "public-tls", at)
	if err != nil {
		return nil, err
	}
	run, stop := context.WithCancel(context.WithoutCancel(ctx))
	room := make(chan struct{}, most)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := ln.Accept()
			if errors.Is(err, net.ErrClosed) {
				break
			}
			if err != nil {
				select {
				case <-run.Done():
				case <-time.After(100 * time.Millisecond):
				}
				continue
			}
			select {
			case room <- struct{}{}:
			default:
				_ = c.Close()
				continue
			}
			go func() {
				defer func() { <-room }()
				defer c.Close()
				limit, cancel := context.WithTimeout(run, 10*time.Second)
				defer cancel()
				_ = tls.Server(c, conf).HandshakeContext(limit)
			}()
		}
		for range most { // until the last one is gone
			room <- struct{}{}
		}
	}()
	return func() {
		stop()
		_ = ln.Close()
		<-done
	}, nil
}
