package admin

import (
	"context"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"ringfence"
	"ringfence/internal/desk/flatprofile"
	"ringfence/internal/network/audit"
	"ringfence/internal/network/catalogue"
	"ringfence/internal/network/firewall"
	"ringfence/internal/network/marks"
	"ringfence/internal/network/names"
	"ringfence/internal/network/nat"
	"ringfence/internal/network/need"
	"ringfence/internal/network/phoneports"
	"ringfence/internal/network/phonewall"
	"ringfence/internal/network/prove"
	"ringfence/internal/network/ready/duties"
	"ringfence/internal/network/site"
	"ringfence/internal/network/target"
	"ringfence/internal/node/admin/api"
)

const (
	maxPlaneBody = 16 << 20        // rules of a firewall are large
	planeWait    = 5 * time.Second // for a proof that is under way: calls come first, and there is one at a time
)

type (
	renderIn struct{ Body api.NetworkRender }
	proveIn  struct{ Body api.NetworkProve }
	diffIn   struct{ Body api.NetworkDiff }
	natIn    struct{ Body api.NATQuestion }
	phoneIn  struct{ Body api.NetworkPhone }
	dutiesIn struct{ Body api.NetworkChecklist }
)

func (s *Server) routesPlane() {
	compute(s, op("network.render", http.MethodPost, "/network/render", "Write a set in the words of a firewall, a proxy, a resolver or a router, with what is lost"), s.render)
	compute(s, op("network.prove", http.MethodPost, "/network/prove", "Prove what a firewall prints of its rules against what a site needs"), s.prove)
	compute(s, op("network.audit", http.MethodPost, "/network/audit", "Say what is wrong with a firewall, and the smallest change that makes it exact"), s.auditFirewall)
	compute(s, op("network.diff", http.MethodPost, "/network/diff", "Say what has to change for new needs to be met"), s.diff)
	compute(s, op("network.nat", http.MethodPost, "/network/nat", "Plan the address translation of a site"), s.planNAT)
	compute(s, op("network.phone", http.MethodPost, "/network/phone", "Say which ports a desk phone's own firewall leaves open, for whom, and who outside reaches them"), s.phone)
	compute(s, op("network.checklist", http.MethodPost, "/network/checklist", "List what the owner of a site has to see to, with what tools found as evidence"), s.checklist)
}

// compute registers an operation that changes nothing and may take long. One runs at a time, since calls come first.
func compute[I, O any](s *Server, o huma.Operation, h func(*I) (*O, error)) {
	o.MaxBodyBytes = maxPlaneBody
	o.Errors = append(o.Errors, http.StatusServiceUnavailable)
	look(s, o, func(ctx context.Context, in *I) (*O, error) {
		wait, stop := context.WithTimeout(ctx, planeWait)
		defer stop()
		select {
		case s.computing <- struct{}{}:
			defer func() { <-s.computing }()
			return h(in)
		case <-wait.Done():
			return nil, fault(o.OperationID, ringfence.KindOverload, "another proof is under way", "try again later, or run it elsewhere: `ringfence network` needs no node for it")
		}
	})
}

// needs returns a set: one in the request, the node's own, or one that is built in, also as it was at the end of a day.
func (s *Server) needs(name string, inline *need.Set) (*need.Set, error) {
	if inline != nil {
		if wrong := inline.Check(); len(wrong) > 0 {
			return nil, fault("admin.network", ringfence.KindInvalid, strings.Join(wrong[:min(len(wrong), 20)], "\n"), "")
		}
		return inline, nil
	}
	name, day, dated := strings.Cut(name, "@")
	set, err := s.networkSet(name)
	if err != nil || !dated {
		return set, err
	}
	at, err := time.Parse(time.DateOnly, day)
	if err != nil {
		return nil, fault("admin.network", ringfence.KindInvalid, clip(day)+" is no day", "write 2024-01-31")
	}
	return catalogue.At(set, at).Set, nil
}

func (s *Server) policy(n api.NetworkNeeds) (*need.Set, *site.Site, *site.Policy, error) {
	set, err := s.needs(n.Set, n.Needs)
	if err != nil {
		return nil, nil, nil, err
	}
	at, err := site.Parse([]byte(n.Site), "site", set)
	if err != nil {
		return nil, nil, nil, err
	}
	return set, at, site.Resolve(set, at), nil
}

func (s *Server) render(in *renderIn) (*body[api.NetworkRendering], error) {
	b := in.Body
	out := api.NetworkRendering{Target: b.Target, Files: []firewall.File{}, Lost: []need.Loss{}}
	var text string
	var err error
	switch {
	case slices.Contains(target.Names(), b.Target):
		t, err := target.Find(b.Target)
		if err != nil {
			return nil, err
		}
		set, _, p, err := s.policy(b.NetworkNeeds)
		if err != nil {
			return nil, err
		}
		out.Set, out.Version = set.ID, set.Version()
		if len(p.Missing) > 0 {
			var lacks []string
			for _, m := range p.Missing {
				lacks = append(lacks, m.Row+" lacks "+m.Missing)
			}
			return nil, fault("admin.network", ringfence.KindInvalid, "the site file says too little:\n"+strings.Join(lacks, "\n"), "complete it, or name the rows under `without`")
		}
		if err := t.For(p, 1); err != nil {
			return nil, err
		}
		out.Files, out.Certificate, err = t.Render(p)
		return answer(out), err
	case slices.Contains(names.Targets(), b.Target), slices.Contains(marks.Targets(), b.Target):
		set, err := s.needs(b.Set, b.Needs)
		if err != nil {
			return nil, err
		}
		out.Set, out.Version = set.ID, set.Version()
		if slices.Contains(marks.Targets(), b.Target) {
			text, out.Lost, err = marks.Render(set, b.Target)
		} else {
			text, out.Lost, err = names.Render(set, b.Target, names.Options{Proxy: b.Proxy, Otherwise: b.Otherwise, Customer: b.Customer})
		}
		if err != nil {
			return nil, err
		}
	default:
		err = fault("admin.network", ringfence.KindInvalid, clip(b.Target)+" is no target", "there are "+strings.Join(slices.Concat(target.Names(), names.Targets(), marks.Targets()), ", "))
	}
	out.Files = append(out.Files, firewall.File{Text: text})
	out.Lost = append([]need.Loss{}, out.Lost...)
	return answer(out), err
}

// proving returns what a request is about.
func (s *Server) proving(b api.NetworkProve) (t target.Target, set *need.Set, at *site.Site, p *site.Policy, err error) {
	if t, err = target.Find(b.Format); err == nil {
		set, at, p, err = s.policy(b.NetworkNeeds)
	}
	return t, set, at, p, err
}

func (s *Server) prove(in *proveIn) (*body[prove.Result], error) {
	t, _, _, p, err := s.proving(in.Body)
	if err != nil {
		return nil, err
	}
	r, err := t.Prove(p, in.Body.Files)
	if err != nil {
		return nil, err
	}
	return answer(*r), nil
}

func (s *Server) auditFirewall(in *proveIn) (*body[audit.Report], error) {
	t, set, at, p, err := s.proving(in.Body)
	if err != nil {
		return nil, err
	}
	r, err := t.Audit(p, in.Body.Files, set, at)
	if err != nil {
		return nil, err
	}
	return answer(*r), nil
}

func (s *Server) diff(in *diffIn) (*body[api.NetworkDifference], error) {
	old, err := s.needs(in.Body.Old, in.Body.OldNeeds)
	if err != nil {
		return nil, err
	}
	now, err := s.needs(in.Body.New, in.Body.NewNeeds)
	if err != nil {
		return nil, err
	}
	out := api.NetworkDifference{Changes: []api.NetworkChange{}}
	for _, c := range need.Diff(old, now) {
		out.Changes = append(out.Changes, api.NetworkChange{Change: c, Concerns: append([]string{}, c.Concerns()...)})
	}
	return answer(out), nil
}

func (s *Server) planNAT(in *natIn) (*body[nat.Plan], error) {
	b := in.Body
	q := nat.Question{Devices: b.Devices, Calls: b.Calls, Block: b.Block, Reuse: b.Reuse, UDP: time.Duration(b.UDPSeconds) * time.Second, TCP: time.Duration(b.TCPSeconds) * time.Second, Hold: time.Duration(b.CallSeconds) * time.Second, Table: b.Table}
	for _, text := range b.Pool {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, fault("admin.network", ringfence.KindInvalid, clip(text)+" is no network", "write 192.0.2.0/29")
		}
		q.Pool = append(q.Pool, p)
	}
	plan, err := nat.Make(q)
	if err != nil {
		return nil, err
	}
	return answer(plan), nil
}

func (s *Server) phone(in *phoneIn) (*body[phonewall.Findings], error) {
	b := in.Body
	f, err := flatprofile.Parse([]byte(b.Profile))
	if err != nil {
		return nil, err
	}
	profile := flatprofile.NewSet(flatprofile.Parameters())
	profile.Add(f, "profile")
	out := phonewall.Findings{View: phoneports.Look(profile)}
	if b.Set == "" && b.Needs == nil {
		if b.Site != "" || len(b.Files)+len(b.As) > 0 {
			return nil, fault("admin.network", ringfence.KindInvalid, "what the phone is compared with is a set", "name one in `set`, such as webex-calling")
		}
		return answer(out), nil
	}
	set, err := s.needs(b.Set, b.Needs)
	if err != nil {
		return nil, err
	}
	as, err := phonewall.Roles(set, b.As)
	if err != nil {
		return nil, err
	}
	if b.Site == "" {
		if len(b.Files) > 0 {
			return nil, fault("admin.network", ringfence.KindInvalid, "who is inside the firewall and who outside is not said", "give the site file in `site`")
		}
		out.Compared, err = phonewall.Compare(out.View, set, set.Needs, as)
		return answer(out), err
	}
	at, err := site.Parse([]byte(b.Site), "site", set)
	if err != nil {
		return nil, err
	}
	if out.Compared, err = phonewall.Compare(out.View, set, at.Needs(set), as); err != nil || len(b.Files) == 0 {
		return answer(out), err
	}
	t, err := target.Find(b.Format)
	if err != nil {
		return nil, err
	}
	p := site.Resolve(set, at)
	rules, err := t.Rules(p, b.Files)
	if err != nil {
		return nil, err
	}
	return answer(out), out.Compared.Behind(set, at, p, rules)
}

func (s *Server) checklist(in *dutiesIn) (*body[duties.Checklist], error) {
	c := duties.New()
	for _, f := range in.Body.Files {
		if err := c.Parse([]byte(f.Text), clip(f.Name)); err != nil {
			return nil, err
		}
	}
	return answer(*c), nil
}
