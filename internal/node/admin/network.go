package admin

import (
	"context"
	"net/http"
	"time"

	"ringfence"
	"ringfence/internal/network/catalogue"
	"ringfence/internal/network/feed"
	"ringfence/internal/network/need"
	"ringfence/internal/node/admin/api"
)

type (
	networkSetIn struct {
		Name string `path:"name" maxLength:"64" doc:"self, or a set that is built in" example:"webex-calling"`
		At   string `query:"at" maxLength:"10" doc:"as it was at the end of this day" example:"2023-12-10"`
	}
	networkChangesIn struct {
		Name  string `path:"name" maxLength:"64" doc:"a set that is built in" example:"webex-calling"`
		Since string `query:"since" maxLength:"16" doc:"a version or a day; only what came later" example:"2024-01-01"`
	}
)

func (s *Server) routesNetwork() {
	look(s, op("network.set", http.MethodGet, "/network/sets/{name}", "What a service needs of the network, row by row, with where each row comes from; self is this node"), func(_ context.Context, in *networkSetIn) (*body[api.NetworkSet], error) {
		set, err := s.networkSet(in.Name)
		if err != nil {
			return nil, err
		}
		if in.At == "" {
			return answer(api.NetworkSet{Set: *set, Version: set.Version()}), nil
		}
		day, err := time.Parse(time.DateOnly, in.At)
		if err != nil {
			return nil, fault("admin.network", ringfence.KindInvalid, clip(in.At)+" is no day", "write 2024-01-31")
		}
		past := catalogue.At(set, day)
		return answer(api.NetworkSet{Set: *past.Set, Version: past.Version(), NotUndone: past.NotUndone}), nil
	})
	look(s, op("network.changes", http.MethodGet, "/network/sets/{name}/changes", "The history of a set, the latest first, with whose work each change is"), func(_ context.Context, in *networkChangesIn) (*body[api.NetworkChanges], error) {
		set, err := s.networkSet(in.Name)
		if err != nil {
			return nil, err
		}
		changes, err := set.Since(in.Since)
		if err != nil {
			return nil, err
		}
		out := api.NetworkChanges{Set: set.ID, Version: set.Version(), Changes: []api.NetworkChange{}}
		for _, c := range changes {
			out.Changes = append(out.Changes, api.NetworkChange{Change: c, Concerns: append([]string{}, c.Concerns()...)})
		}
		return answer(out), nil
	})
}

// signedOut is a feed as it is signed.
type signedOut struct {
	ContentType string `header:"Content-Type"`
	Body        []byte
}

func (s *Server) routesFeed() {
	type nameIn struct {
		Name string `path:"name" maxLength:"64" doc:"self, or a set that is built in" example:"webex-calling"`
	}
	look(s, op("network.feed", http.MethodGet, "/network/sets/{name}/feed", "The set as a signed feed, whose serial number grows with each change"), func(ctx context.Context, in *nameIn) (*signedOut, error) {
		set, err := s.networkSet(in.Name)
		if err != nil {
			return nil, err
		}
		text, err := s.c.Feeds.Feed(ctx, set)
		return &signedOut{"application/jose", text}, err
	})
	look(s, op("network.feed.key", http.MethodGet, "/network/feed-key", "The public key that feeds are signed by"), func(ctx context.Context, _ *none) (*body[api.FeedKey], error) {
		key, err := s.c.Feeds.Key(ctx)
		if err != nil {
			return nil, err
		}
		text, err := feed.KeyPEM(key)
		return answer(api.FeedKey{ID: feed.ID(key), PEM: string(text)}), err
	})
}

func (s *Server) networkSet(name string) (*need.Set, error) {
	if name == "self" {
		return catalogue.Self(s.c.Node, s.c.Host.Flows()), nil
	}
	return catalogue.Open(name)
}
