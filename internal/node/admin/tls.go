package admin

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"slices"
	"strings"

	"ringfence"
	"ringfence/internal/node/admin/api"
	"ringfence/internal/trust/keyring"
	"ringfence/internal/trust/subject"
	"ringfence/internal/trust/tlspolicy"
)

type (
	explainTLSIn struct {
		Place  string   `query:"place" required:"true" maxLength:"200" example:"/interface/sip"`
		Max    string   `query:"max" enum:"1.2,1.3" doc:"the latest version that the peer knows"`
		Suites string   `query:"suites" maxLength:"4096" doc:"the peer's cipher list for TLS 1.2"`
		Groups string   `query:"groups" maxLength:"200" doc:"the peer's groups, with commas"`
		Cert   bool     `query:"cert" doc:"whether a client has a certificate that is believed"`
		Names  []string `query:"names" maxItems:"20" doc:"the names of the peer's certificate"`
	}
	editTLSIn     struct{ Body api.TLSEdit }
	newAnchorIn   struct{ Body api.NewAnchor }
	newIdentityIn struct{ Body api.NewIdentity }
	aliasPath     struct {
		Alias string `path:"alias" maxLength:"64"`
	}
)

// maxKeyringBody bounds the body that adds to the keyring, in bytes.
const maxKeyringBody = 512 << 10

func (s *Server) routesTLS() {
	look(s, op("tls.get", http.MethodGet, "/tls", "What is set in the tree of TLS settings, and what each listener and each connection that we open goes by"), func(context.Context, *none) (*body[api.TLSPolicy], error) {
		out := api.TLSPolicy{Set: s.c.Host.Policy(), Endpoints: []api.TLSEndpoint{}}
		if out.Set == nil {
			out.Set = tlspolicy.Tree{}
		}
		for _, e := range s.endpoints() {
			out.Endpoints = append(out.Endpoints, api.TLSEndpoint{Place: e.Place(), Dials: e.Dials, Decisions: out.Set.For(e).Decisions})
		}
		return answer(out), nil
	})
	look(s, op("tls.explain", http.MethodGet, "/tls/explanation", "Which settings a place goes by and why, and what a given peer would negotiate with it"), s.explainTLS)
	act(s, op("tls.edit", http.MethodPost, "/tls", "Change one setting of the tree; it is kept as a version of the configuration, and holds from the next handshake on"), api.ScopeAdmin,
		func(in *editTLSIn) string {
			return in.Body.Do + " " + clip(in.Body.Place) + " " + clip(in.Body.Setting)
		}, s.editTLS)
}

// endpoints returns what speaks TLS, and each address for which something is set.
func (s *Server) endpoints() []tlspolicy.Endpoint {
	all := s.c.Host.Endpoints()
	for place := range s.c.Host.Policy() {
		e, err := tlspolicy.ParsePlace(place)
		if err == nil && e.Addr.IsValid() && !slices.Contains(all, e) {
			all = append(all, e)
		}
	}
	slices.SortFunc(all, func(a, b tlspolicy.Endpoint) int { return strings.Compare(a.Place(), b.Place()) })
	return all
}

func (s *Server) explainTLS(_ context.Context, in *explainTLSIn) (*body[api.TLSExplanation], error) {
	e, err := tlspolicy.ParsePlace(in.Place)
	if err != nil {
		return nil, err
	}
	if e.Class == "" {
		return nil, fault("admin.tls", ringfence.KindInvalid, in.Place+" is about more than one thing", "name one of them: /interface/"+strings.Join(tlspolicy.Classes(), ", /interface/"))
	}
	all := s.c.Host.Endpoints()
	i := slices.IndexFunc(all, func(x tlspolicy.Endpoint) bool { return x.Class == e.Class })
	if i < 0 {
		return nil, fault("admin.tls", ringfence.KindNotFound, "nothing listens or connects as "+e.Class, "see `ringfence tls get`")
	}
	if !e.Addr.IsValid() {
		e = all[i]
	}
	f := s.c.Host.Policy().For(e)
	p := tlspolicy.Peer{Max: in.Max, Suites: in.Suites, Certificate: in.Cert, Names: in.Names}
	if in.Groups != "" {
		p.Groups = strings.Split(in.Groups, ",")
	}
	outcome, err := f.Try(p)
	withheld := []string{}
	if s.c.Version.FIPS {
		for _, w := range f.Withheld() {
			withheld = append(withheld, w.Text)
		}
	}
	return answer(api.TLSExplanation{TLSEndpoint: api.TLSEndpoint{Place: e.Place(), Dials: e.Dials, Decisions: f.Decisions}, Outcome: outcome, Withheld: withheld}), err
}

func (s *Server) editTLS(ctx context.Context, in *editTLSIn) (*body[api.ConfigPlan], error) {
	b := in.Body
	e := tlspolicy.Edit{Place: b.Place, Setting: b.Setting, Values: b.Values}
	note := strings.TrimSpace("tls " + b.Do + " " + b.Place + " " + b.Setting + " " + strings.Join(b.Values, " "))
	p, err := s.c.Settings.EditTLS(ctx, whoOf(ctx).Name, clip(note), b.Force, func(t tlspolicy.Tree) (tlspolicy.Tree, error) {
		switch b.Do {
		case "set":
			return t.Set(e)
		case "add":
			return t.Add(e)
		}
		return t.Remove(e)
	})
	return answer(planOut(p)), err
}

func (s *Server) routesKeyring() {
	look(s, op("anchor.list", http.MethodGet, "/anchors", "List the anchors that were added"), func(context.Context, *none) (*body[[]api.Anchor], error) {
		return answer(s.anchorsOut(s.c.Keyring.Anchors())), nil
	})
	add := op("anchor.add", http.MethodPost, "/anchors", "Add the certificates of a file as anchors; nobody believes them before a TLS setting names them")
	add.DefaultStatus, add.MaxBodyBytes = http.StatusCreated, maxKeyringBody
	act(s, add, api.ScopeAdmin, func(in *newAnchorIn) string { return clip(in.Body.Alias) }, func(ctx context.Context, in *newAnchorIn) (*body[[]api.Anchor], error) {
		added, err := s.c.Keyring.AddAnchors(ctx, in.Body.Alias, in.Body.File)
		return answer(s.anchorsOut(added)), err
	})
	act(s, op("anchor.remove", http.MethodDelete, "/anchors/{alias}", "Remove an anchor that no setting names"), api.ScopeAdmin, func(in *aliasPath) string { return clip(in.Alias) },
		func(ctx context.Context, in *aliasPath) (*none, error) {
			return nil, s.c.Keyring.RemoveAnchor(ctx, in.Alias)
		})
	look(s, op("identity.list", http.MethodGet, "/identities", "List the identities that were added"), func(context.Context, *none) (*body[[]api.Identity], error) {
		out := []api.Identity{}
		for _, i := range s.c.Keyring.Identities() {
			out = append(out, s.identityOut(i))
		}
		return answer(out), nil
	})
	addID := op("identity.add", http.MethodPost, "/identities", "Add a certificate with its chain and key; nothing presents it before a TLS setting names it")
	addID.DefaultStatus, addID.MaxBodyBytes = http.StatusCreated, maxKeyringBody
	act(s, addID, api.ScopeAdmin, func(in *newIdentityIn) string { return clip(in.Body.Alias) }, func(ctx context.Context, in *newIdentityIn) (*body[api.AddedIdentity], error) {
		id, notes, err := s.c.Keyring.AddIdentity(ctx, in.Body.Alias, []byte(in.Body.Chain), []byte(in.Body.Key), in.Body.Replace)
		if err != nil {
			return nil, err
		}
		if notes == nil {
			notes = []string{}
		}
		return answer(api.AddedIdentity{Identity: s.identityOut(id), Notes: notes}), nil
	})
	act(s, op("identity.remove", http.MethodDelete, "/identities/{alias}", "Remove an identity, with its key, that no setting names"), api.ScopeAdmin, func(in *aliasPath) string { return clip(in.Alias) },
		func(ctx context.Context, in *aliasPath) (*none, error) {
			return nil, s.c.Keyring.RemoveIdentity(ctx, in.Alias)
		})
}

func (s *Server) anchorsOut(all []keyring.Anchor) []api.Anchor {
	_, used := s.c.Host.Policy().Named()
	out := make([]api.Anchor, 0, len(all))
	for _, a := range all {
		sum := sha256.Sum256(a.Cert.Raw)
		out = append(out, api.Anchor{Alias: a.Alias, Owner: a.Cert.Subject.String(), Issuer: a.Cert.Issuer.String(), SelfSigned: a.SelfSigned(), NotBefore: a.Cert.NotBefore.UTC(), NotAfter: a.Cert.NotAfter.UTC(), Added: a.Added,
			SHA256: hex.EncodeToString(sum[:]), Used: used[a.Alias]})
	}
	return out
}

func (s *Server) identityOut(i keyring.Identity) api.Identity {
	used, _ := s.c.Host.Policy().Named()
	leaf := i.Chain[0]
	return api.Identity{Alias: i.Alias, Subject: leaf.Subject.String(), Names: append([]string{}, subject.Names(leaf)...), Issuer: leaf.Issuer.String(), Chain: len(i.Chain), NotAfter: leaf.NotAfter.UTC(), Added: i.Added, Used: used[i.Alias]}
}
