package admin

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"ringfence"
	"ringfence/internal/node/admin/api"
	"ringfence/internal/state/store"
)

// body is an answer with a body and nothing else.
type body[T any] struct{ Body T }

func answer[T any](v T) *body[T] { return &body[T]{Body: v} }

// none is a request without parameters, or an answer without a body.
type none struct{}

// op describes one operation: its id is also what the audit calls it.
func op(id, method, path, summary string) huma.Operation {
	return huma.Operation{OperationID: id, Method: method, Path: "/api/v1" + path, Summary: summary, MaxBodyBytes: maxBody,
		Errors: []int{http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusUnprocessableEntity}}
}

// look registers an operation that changes nothing; it needs the scope read.
func look[I, O any](s *Server, o huma.Operation, h func(context.Context, *I) (*O, error)) {
	lookAs(s, o, api.ScopeRead, h)
}

// lookAs is look for what takes more than the scope read.
func lookAs[I, O any](s *Server, o huma.Operation, scope string, h func(context.Context, *I) (*O, error)) {
	o.Security = []map[string][]string{{bearer: {scope}}}
	huma.Register(s.api, o, func(ctx context.Context, in *I) (*O, error) {
		out, err := h(ctx, in)
		return out, s.told(ctx, o.OperationID, err)
	})
}

// act registers an operation that changes something. It is audited with who did it and to what, whether it succeeded or not.
// It goes on to its end if the asker goes away, so that nothing is left half done.
func act[I, O any](s *Server, o huma.Operation, scope string, target func(*I) string, h func(context.Context, *I) (*O, error)) {
	o.Security = []map[string][]string{{bearer: {scope}}}
	o.Errors = append(o.Errors, http.StatusConflict)
	huma.Register(s.api, o, func(ctx context.Context, in *I) (*O, error) {
		ctx = context.WithoutCancel(ctx)
		out, err := h(ctx, in)
		return out, s.told(ctx, o.OperationID, firstOf(err, s.audit(ctx, o.OperationID, target(in), err)))
	})
}

func (s *Server) audit(ctx context.Context, what, target string, err error) error {
	outcome := "done"
	if err != nil {
		outcome = clip(problemOf(err).Detail)
	}
	failed := s.c.Store.AppendAudit(ctx, store.AuditEntry{At: s.c.Now(), Who: whoOf(ctx).Name, What: what, Target: clip(target), Outcome: outcome})
	if failed != nil {
		s.c.Log.Error("an action could not be audited", "what", what, "target", target, "outcome", outcome, "err", failed)
		return &ringfence.Fault{Op: "admin.audit", Kind: ringfence.KindOverload, Text: "it was done, but the audit could not be written", Hint: ringfence.HintOf(failed), Err: failed}
	}
	return nil
}

// told logs what the asker is not told, and returns the error as a problem.
func (s *Server) told(ctx context.Context, what string, err error) error {
	if err == nil {
		return nil
	}
	if ringfence.KindOf(err) == ringfence.KindInternal {
		s.c.Log.Error("a request failed", "what", what, "who", whoOf(ctx).Name, "err", err)
	}
	return problemOf(err)
}

func firstOf(errs ...error) error {
	for _, e := range errs {
		if e != nil {
			return e
		}
	}
	return nil
}

func fault(op string, k ringfence.Kind, text, hint string) error {
	return &ringfence.Fault{Op: op, Kind: k, Text: text, Hint: hint}
}
