package admin

import (
	"cmp"
	"context"
	"net/http"
	"slices"

	"ringfence"
	"ringfence/internal/call/control"
	"ringfence/internal/node/admin/api"
	"ringfence/internal/sip"
)

type (
	callPath struct {
		ID ringfence.CallID `path:"id" maxLength:"64" doc:"id of the call"`
	}
	newCallIn struct{ Body api.NewCall }
	explainIn struct {
		From ringfence.UserID `query:"from" required:"true" maxLength:"64" doc:"who calls" example:"alice"`
		To   string           `query:"to" required:"true" maxLength:"64" doc:"what is dialled" example:"2002"`
	}
)

func (s *Server) routesCalls() {
	look(s, op("call.list", http.MethodGet, "/calls", "List the calls that are up, the oldest first"), func(context.Context, *none) (*body[[]api.Call], error) {
		out := []api.Call{}
		for _, v := range s.c.Calls.List() {
			out = append(out, callOut(v))
		}
		slices.SortFunc(out, func(a, b api.Call) int { return cmp.Or(a.Start.Compare(b.Start), cmp.Compare(a.ID, b.ID)) })
		return answer(out), nil
	})
	look(s, op("call.show", http.MethodGet, "/calls/{id}", "Show a call with its legs and their proof"), func(_ context.Context, in *callPath) (*body[api.Call], error) {
		v, ok := s.c.Calls.Show(in.ID)
		if !ok {
			return nil, s.noCall(in.ID)
		}
		return answer(callOut(v)), nil
	})
	look(s, op("call.messages", http.MethodGet, "/calls/{id}/messages", "The SIP messages of a call, also one that has ended lately; they hold no keys and no credentials"),
		func(_ context.Context, in *callPath) (*body[api.Messages], error) {
			if s.c.Ladder == nil {
				return nil, fault("admin.call", ringfence.KindUnavailable, "this node does not remember the messages of calls", "set observe.ladder to the number of calls to remember")
			}
			messages, omitted, ok := s.c.Ladder.Messages(in.ID)
			if !ok {
				return nil, fault("admin.call", ringfence.KindNotFound, "no messages of call "+clip(string(in.ID))+" are remembered", "only the last calls are; see observe.ladder in the configuration")
			}
			return answer(api.Messages{Messages: messages, Omitted: omitted}), nil
		})
	start := op("call.start", http.MethodPost, "/calls", "Start a call: the phones of one user ring, and what answers dials")
	start.DefaultStatus = http.StatusAccepted
	act(s, start, api.ScopeWrite, func(in *newCallIn) string { return string(in.Body.From) + " to " + in.Body.To },
		func(_ context.Context, in *newCallIn) (*body[api.CallStarted], error) {
			if s.c.Roster.User(in.Body.From) == nil {
				return nil, unknown(fault("admin.call", ringfence.KindNotFound, "", ""), "user", string(in.Body.From))
			}
			id, err := s.c.Calls.Originate(in.Body.From, in.Body.To)
			return answer(api.CallStarted{ID: id}), err
		})
	act(s, op("call.hangup", http.MethodDelete, "/calls/{id}", "End a call"), api.ScopeWrite, func(in *callPath) string { return "call " + string(in.ID) },
		func(ctx context.Context, in *callPath) (*none, error) {
			if !s.c.Calls.Hangup(in.ID, whoOf(ctx).Name) {
				return nil, s.noCall(in.ID)
			}
			return nil, nil
		})
	look(s, op("call.explain", http.MethodGet, "/explain", "What the dial plan would decide, and why; nothing is called"), func(_ context.Context, in *explainIn) (*body[api.Explanation], error) {
		e, err := s.explain(in.From, in.To)
		return answer(e), err
	})
}

func (s *Server) noCall(id ringfence.CallID) error {
	return fault("admin.call", ringfence.KindNotFound, "there is no call "+clip(string(id)), "see `ringfence call list`, and `ringfence cdr list` for calls that have ended")
}

func callOut(v control.View) api.Call {
	c := api.Call{ID: v.ID, From: v.From, To: v.To, Dialled: v.Dialled, State: v.State, Start: v.Start.UTC(), Verdict: v.Verdict, Reasons: v.Reasons, Legs: []api.Leg{}}
	if !v.Answered.IsZero() {
		c.Answered = v.Answered.UTC()
	}
	if c.Reasons == nil {
		c.Reasons = []string{}
	}
	for _, l := range v.Legs {
		c.Legs = append(c.Legs, api.Leg{Proof: l.Proof, Side: l.Side, State: l.State, Held: l.Held, Codec: l.Codec})
	}
	return c
}

func (s *Server) explain(from ringfence.UserID, to string) (api.Explanation, error) {
	if s.c.Roster.User(from) == nil {
		return api.Explanation{}, unknown(fault("admin.call", ringfence.KindNotFound, "", ""), "user", string(from))
	}
	d := s.c.Calls.Explain(from, to)
	e := api.Explanation{From: from, Dialled: to, Action: string(d.Action), User: d.User, Feature: string(d.Feature), Number: d.Number, Trunk: d.Trunk, Class: string(d.Class), Reasons: d.Reasons}
	if d.Group != nil {
		e.Group = d.Group.Name
	}
	if d.Fault != nil {
		e.Hint = d.Fault.Hint
	}
	return e, nil
}

// ringfenceUser returns the user of an address-of-record of ours.
func ringfenceUser(aor string) (ringfence.UserID, error) {
	u, err := sip.ParseURI([]byte(aor))
	if err != nil {
		return "", err
	}
	return ringfence.UserID(sip.Unescape(u.User)), nil
}
