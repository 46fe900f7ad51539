package node

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"time"
)

// revocationBase is where certificates say that revocation is to be asked for.
func (n *Node) revocationBase() string {
	at := n.Config.API.Revocation
	if bound := n.revocationAddr.Load(); bound != nil {
		at = *bound
	}
	if !at.IsValid() || at.Port() == 0 {
		return ""
	}
	return "http://" + net.JoinHostPort(n.Config.Domain, strconv.Itoa(int(at.Port())))
}

// listenRevocation answers about revocation without TLS, if the configuration says where.
func (n *Node) listenRevocation(ctx context.Context, answers http.Handler) error {
	at := n.Config.API.Revocation
	if !at.IsValid() {
		return nil
	}
	ln, err := n.opener.Listen(ctx, "revocation", at)
	if err != nil {
		return err
	}
	bound := ln.Addr().(*net.TCPAddr).AddrPort()
	n.revocationAddr.Store(&bound)
	n.bound["revocation"] = bound
	hs := &http.Server{Handler: answers, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 10 * time.Second, IdleTimeout: 30 * time.Second, MaxHeaderBytes: 16 << 10,
		ErrorLog: slog.NewLogLogger(n.log.Handler(), slog.LevelDebug)}
	n.wg.Go(func() { _ = hs.Serve(ln) })
	n.closers = append(n.closers, func() { _ = hs.Close() })
	return nil
}
