package admin

import (
	"context"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"ringfence"
	"ringfence/internal/node/admin/api"
	"ringfence/internal/state/store"
)

// who is the asker of a request.
type who struct {
	Name   string // as the audit shows it
	Scopes []string
}

type (
	whoKey    struct{}
	remoteKey struct{} // address of somebody who logs in
)

func whoOf(ctx context.Context) who {
	w, _ := ctx.Value(whoKey{}).(who)
	if w.Name == "" {
		w.Name = "nobody"
	}
	return w
}

// may reports whether the asker has a scope; admin includes write, which includes read, and what hands in reports of readiness tests.
func (w who) may(scope string) bool {
	if scope == api.ScopeReadiness && slices.Contains(w.Scopes, scope) {
		return true
	}
	if scope == api.ScopeReadiness {
		scope = api.ScopeWrite
	}
	order := []string{api.ScopeRead, api.ScopeWrite, api.ScopeAdmin}
	need := slices.Index(order, scope)
	return need >= 0 && slices.ContainsFunc(w.Scopes, func(s string) bool { return slices.Index(order, s) >= need })
}

// fromSocket asks the kernel who is at the other end of a Unix socket and gives root and this process's own user every right. Anybody else has none, even with the file permissions changed.
func (s *Server) fromSocket(ctx context.Context, c net.Conn) context.Context {
	uid, ok := peerUID(c)
	if !ok {
		return ctx
	}
	if !trusted(uid, os.Geteuid()) {
		s.c.Log.Warn("somebody else is at the administration socket", "uid", uid)
		return ctx
	}
	return context.WithValue(ctx, whoKey{}, who{Name: "uid " + strconv.Itoa(uid) + " on this host", Scopes: []string{api.ScopeAdmin}})
}

// trusted reports whether a user of this host may do everything: root, and whom the node runs as.
func trusted(uid, own int) bool { return uid == 0 || uid == own }

// identify returns ctx with the asker in it.
func (s *Server) identify(ctx context.Context, authorization string) (context.Context, error) {
	if whoOf(ctx).Scopes != nil {
		return ctx, nil
	}
	scheme, secret, _ := strings.Cut(authorization, " ")
	if !strings.EqualFold(scheme, bearer) || secret == "" {
		return ctx, fault("admin.auth", ringfence.KindUnauthenticated, "a token is needed", "get one with `ringfence login`, or work on the node's own host")
	}
	t, err := s.c.Store.TokenByHash(ctx, store.HashToken(strings.TrimSpace(secret)), s.c.Now())
	switch {
	case ringfence.KindOf(err) == ringfence.KindNotFound && err != nil:
		return ctx, fault("admin.auth", ringfence.KindUnauthenticated, "the token is unknown or has expired", "log in again with `ringfence login`")
	case err != nil:
		return ctx, err
	}
	return context.WithValue(ctx, whoKey{}, who{Name: "token " + t.Name, Scopes: t.Scopes}), nil
}

// check identifies the asker and sees to it that they have the scope.
func (s *Server) check(ctx context.Context, authorization, scope, remote string) (context.Context, error) {
	ctx, err := s.identify(ctx, authorization)
	if err == nil && !whoOf(ctx).may(scope) {
		err = fault("admin.auth", ringfence.KindDenied, "the token does not have the scope "+scope, "use a token with more rights: ringfence token add --scope "+scope)
	}
	if err != nil {
		s.refused.Add(1)
		s.c.Log.Warn("an API request was refused", "remote", remote, "who", whoOf(ctx).Name, "cause", err, "hint", ringfence.HintOf(err))
	}
	return ctx, err
}

// authorize lets a request through to an operation if the asker has the scope that the operation's description names.
func (s *Server) authorize(ctx huma.Context, next func(huma.Context)) {
	scope := ""
	for _, way := range ctx.Operation().Security {
		for _, scopes := range way {
			scope = scopes[0]
		}
	}
	if scope == "" { // logging in
		next(huma.WithValue(ctx, remoteKey{}, ctx.RemoteAddr()))
		return
	}
	known, err := s.check(ctx.Context(), ctx.Header("Authorization"), scope, ctx.RemoteAddr())
	if err != nil {
		_, w := humago.Unwrap(ctx)
		writeProblem(w, problemOf(err))
		return
	}
	next(huma.WithContext(ctx, known))
}

// Allow returns who asks by a request with an API token that has a scope, for what is served beside the API.
func (s *Server) Allow(r *http.Request, scope string) (string, error) {
	ctx, err := s.check(r.Context(), r.Header.Get("Authorization"), scope, r.RemoteAddr)
	return whoOf(ctx).Name, err
}

// serveMetrics answers Prometheus, to those who may read.
func (s *Server) serveMetrics(w http.ResponseWriter, r *http.Request) {
	if _, err := s.check(r.Context(), r.Header.Get("Authorization"), api.ScopeRead, r.RemoteAddr); err != nil {
		writeProblem(w, problemOf(err))
		return
	}
	s.metrics.ServeHTTP(w, r)
}
