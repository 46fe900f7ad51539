package admin

import (
	"context"
	"net/http"
	"time"

	"ringfence"
	"ringfence/internal/node/admin/api"
	"ringfence/internal/state/store"
)

type (
	span struct {
		Since time.Time `query:"since" doc:"calls that began then or later"`
		Until time.Time `query:"until" doc:"and before then"`
		Limit int       `query:"limit" minimum:"1" maximum:"10000" default:"1000"`
	}
	auditIn struct {
		Before int64 `query:"before" minimum:"0" doc:"entries with a lower id"`
		Limit  int   `query:"limit" minimum:"1" maximum:"1000" default:"100"`
	}
	cdrPath struct {
		ID ringfence.CallID `path:"id" maxLength:"64" doc:"id of the call"`
	}
)

func (s *Server) routesRecords() {
	look(s, op("cdr.list", http.MethodGet, "/cdrs", "List call records, the latest first"), func(ctx context.Context, in *span) (*body[[]api.CDR], error) {
		if !in.Until.IsZero() && in.Until.Before(in.Since) {
			return nil, fault("admin.cdr", ringfence.KindInvalid, "until is before since", "")
		}
		all, err := s.c.Store.CDRs(ctx, in.Since, in.Until, in.Limit)
		out := make([]api.CDR, 0, len(all))
		for _, c := range all {
			out = append(out, cdrOut(c))
		}
		return answer(out), err
	})
	look(s, op("cdr.show", http.MethodGet, "/cdrs/{id}", "Show the record of one call with the proof of its legs"), func(ctx context.Context, in *cdrPath) (*body[api.CDR], error) {
		c, err := s.c.Store.CDR(ctx, in.ID)
		return answer(cdrOut(c)), unknown(err, "cdr", string(in.ID))
	})
	look(s, op("audit.list", http.MethodGet, "/audit", "List who did what, the latest first"), func(ctx context.Context, in *auditIn) (*body[[]api.AuditEntry], error) {
		all, err := s.c.Store.Audit(ctx, in.Before, in.Limit)
		out := make([]api.AuditEntry, 0, len(all))
		for _, a := range all {
			out = append(out, api.AuditEntry{ID: a.ID, At: a.At, Who: a.Who, What: a.What, Target: a.Target, Outcome: a.Outcome})
		}
		return answer(out), err
	})
}

func cdrOut(c store.CDR) api.CDR {
	out := api.CDR{Call: c.Call, Start: c.Start, Answer: c.Answer, End: c.End, From: c.From, To: c.To, Direction: c.Direction, Cause: c.Cause, Verdict: c.Verdict, Legs: c.Legs}
	if !c.Answer.IsZero() {
		out.Seconds = c.End.Sub(c.Answer).Round(time.Millisecond).Seconds()
	}
	if out.Legs == nil {
		out.Legs = []ringfence.Proof{}
	}
	return out
}
