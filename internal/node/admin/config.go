package admin

import (
	"context"
	"net/http"

	"ringfence/internal/node/admin/api"
	"ringfence/internal/node/config"
)

type (
	configIn struct{ Body api.ConfigText }
	undoIn   struct{ Body api.Undo }
	exportIn struct {
		Whole bool `query:"whole" doc:"every setting with its value, instead of the file as it was written"`
	}
	limitIn struct {
		Limit int `query:"limit" minimum:"1" maximum:"1000" default:"50"`
	}
)

func (s *Server) routesConfig() {
	plan := op("config.plan", http.MethodPost, "/config/plan", "Check a configuration and say what it would change; nothing changes")
	plan.MaxBodyBytes = maxConfigBody
	look(s, plan, func(_ context.Context, in *configIn) (*body[api.ConfigPlan], error) {
		p, err := s.c.Settings.Plan(in.Body.YAML, nameOf(in.Body))
		return answer(planOut(p)), err
	})
	apply := op("config.apply", http.MethodPost, "/config", "Apply a configuration: all of it or nothing; it is kept as a version")
	apply.MaxBodyBytes = maxConfigBody
	act(s, apply, api.ScopeAdmin, func(in *configIn) string { return nameOf(in.Body) + " " + in.Body.Note }, func(ctx context.Context, in *configIn) (*body[api.ConfigPlan], error) {
		p, err := s.c.Settings.Apply(ctx, in.Body.YAML, nameOf(in.Body), whoOf(ctx).Name, clip(in.Body.Note))
		return answer(planOut(p)), err
	})
	act(s, op("config.undo", http.MethodPost, "/config/undo", "Apply an earlier version again"), api.ScopeAdmin, func(*undoIn) string { return "configuration" },
		func(ctx context.Context, in *undoIn) (*body[api.ConfigPlan], error) {
			p, err := s.c.Settings.Undo(ctx, in.Body.To, whoOf(ctx).Name)
			return answer(planOut(p)), err
		})
	export := op("config.export", http.MethodGet, "/config", "The configuration as it was last applied")
	// It may hold a database password, so looking at it takes the highest scope.
	export.Description = "It may hold the password of a database, so it needs the scope admin."
	lookAs(s, export, api.ScopeAdmin, func(_ context.Context, in *exportIn) (*body[api.ConfigText], error) {
		if !in.Whole {
			return answer(api.ConfigText{YAML: s.c.Settings.Text()}), nil
		}
		b, err := s.c.Settings.Whole()
		return answer(api.ConfigText{YAML: string(b)}), err
	})
	lookAs(s, op("config.versions", http.MethodGet, "/config/versions", "List the versions, the latest first"), api.ScopeAdmin, func(ctx context.Context, in *limitIn) (*body[[]api.ConfigVersion], error) {
		all, err := s.c.Settings.List(ctx, in.Limit)
		out := make([]api.ConfigVersion, 0, len(all))
		for _, v := range all {
			out = append(out, api.ConfigVersion{Version: v.N, At: v.At, Author: v.Author, Note: v.Note, YAML: v.YAML})
		}
		return answer(out), err
	})
}

func nameOf(c api.ConfigText) string {
	if c.Name == "" {
		return "configuration"
	}
	return clip(c.Name)
}

func planOut(p config.Plan) api.ConfigPlan {
	out := api.ConfigPlan{Version: p.Version, Changes: []api.ConfigChange{}, Flows: []api.FlowChange{}, Restart: p.Restart(), Risks: append([]string{}, p.Risks...), Notes: append([]string{}, p.Notes...)}
	for _, c := range p.Changes {
		out.Changes = append(out.Changes, api.ConfigChange{Key: c.Key, From: c.From, To: c.To, Restart: c.Restart})
	}
	for _, f := range p.Flows {
		out.Flows = append(out.Flows, api.FlowChange{Flow: f.Flow, From: f.From, To: f.To})
	}
	return out
}
