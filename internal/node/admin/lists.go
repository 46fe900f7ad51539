package admin

import (
	"context"
	"net/http"

	"ringfence"
	"ringfence/internal/node/admin/api"
	"ringfence/internal/state/store"
	"ringfence/internal/trust/publish"
	"ringfence/internal/trust/trustlist"
)

type (
	listPlanIn struct {
		Rotate string `query:"rotate" enum:"a,b" doc:"with another signer there"`
	}
	publishIn struct{ Body api.PublishLists }
	rotateIn  struct{ Body api.RotateSigner }
)

func (s *Server) routesLists() {
	look(s, op("trustlist.show", http.MethodGet, "/trustlists", "The trust lists that are published, and which device holds which"), s.showLists)
	look(s, op("trustlist.plan", http.MethodGet, "/trustlists/plan", "What publishing would do, before anything is published"), func(ctx context.Context, in *listPlanIn) (*body[api.ListPlan], error) {
		return s.plan(func(l Lists) (publish.Proposal, error) { return l.Plan(ctx, in.Rotate) })
	})
	act(s, op("trustlist.publish", http.MethodPost, "/trustlists", "Publish a list that waits"), api.ScopeAdmin, func(*publishIn) string { return "the trust lists" },
		func(ctx context.Context, in *publishIn) (*body[api.ListPlan], error) {
			return s.plan(func(l Lists) (publish.Proposal, error) { return l.Publish(ctx, in.Body.Force) })
		})
	act(s, op("trustlist.rotate", http.MethodPost, "/trustlists/rotation", "Replace one of the two signers, and publish the list that follows"), api.ScopeAdmin, func(in *rotateIn) string { return "signer " + in.Body.Signer },
		func(ctx context.Context, in *rotateIn) (*body[api.ListPlan], error) {
			return s.plan(func(l Lists) (publish.Proposal, error) { return l.Rotate(ctx, in.Body.Signer, in.Body.Force) })
		})
}

// plan does something with the lists, if there are any.
func (s *Server) plan(do func(Lists) (publish.Proposal, error)) (*body[api.ListPlan], error) {
	if s.c.Lists == nil {
		return nil, noLists()
	}
	p, err := do(s.c.Lists)
	if err != nil {
		return nil, err
	}
	out := api.ListPlan{Changes: p.Changes, Signer: p.By, Added: records(p.Added), Removed: records(p.Removed), Held: []api.HeldList{}, Lost: len(p.Lost())}
	for _, h := range p.Held {
		out.Held = append(out.Held, api.HeldList{Version: h.Version, Devices: holders(h.Devices), Taken: h.Taken, Lost: h.Stranded, Why: h.Why})
	}
	return answer(out), nil
}

func noLists() error {
	return fault("admin.trustlist", ringfence.KindNotFound, "no trust lists are published", "set enterprise.lists in the configuration, and start the node again")
}

func records(r []trustlist.Record) []trustlist.Record {
	if r == nil {
		return []trustlist.Record{}
	}
	return r
}

func holders(all []store.ListHolder) []api.ListHolder {
	out := make([]api.ListHolder, 0, len(all))
	for _, h := range all {
		out = append(out, api.ListHolder{Device: string(h.Device), Kind: h.Kind, Version: h.Version, Fetched: h.Fetched.UTC(), Proved: h.Proved})
	}
	return out
}

func (s *Server) showLists(ctx context.Context, _ *none) (*body[api.TrustLists], error) {
	if s.c.Lists == nil {
		return nil, noLists()
	}
	l, waiting := s.c.Lists.Published()
	all, err := s.c.Lists.Holders(ctx)
	if err != nil {
		return nil, err
	}
	list, err := trustlist.Parse(l.ITL)
	if err != nil {
		return nil, err
	}
	return answer(api.TrustLists{Version: l.Version, Made: l.Made.UTC(), Note: l.Note, Waiting: waiting, Signer: list.Signer.Name, Records: records(list.Records), Devices: holders(all),
		Files: map[string][]byte{"itl": l.ITL, "ctl": l.CTL, "json": l.JSON}}), nil
}
