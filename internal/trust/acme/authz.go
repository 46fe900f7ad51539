package acme

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"time"

	"ringfence"
)

const (
	typeHTTP = "http-01"     // RFC 8555 section 8.3
	typeDNS  = "dns-01"      // RFC 8555 section 8.4
	typeALPN = "tls-alpn-01" // RFC 8737
)

// challengeTypes returns how control of a name can be shown: of a wildcard by DNS only (section 7.1.3), of an address not by DNS
// (RFC 8738 section 7).
func challengeTypes(a Authorization) []string {
	switch {
	case a.Identifier.Type == "ip":
		return []string{typeHTTP, typeALPN}
	case a.Wildcard:
		return []string{typeDNS}
	}
	return []string{typeHTTP, typeDNS, typeALPN}
}

// at is the status at a time.
func (a Authorization) at(now time.Time) Status {
	if (a.Status == StatusPending || a.Status == StatusValid) && !now.Before(a.Expires) {
		return StatusExpired
	}
	return a.Status
}

type challengeObject struct {
	Type      string          `json:"type"`
	URL       string          `json:"url"`
	Token     string          `json:"token"`
	Status    Status          `json:"status"`
	Validated string          `json:"validated,omitempty"`
	Error     json.RawMessage `json:"error,omitempty"`
}

type authzObject struct {
	Identifier Identifier        `json:"identifier"`
	Status     Status            `json:"status"`
	Expires    string            `json:"expires"`
	Challenges []challengeObject `json:"challenges"`
	Wildcard   bool              `json:"wildcard,omitempty"`
}

func (s *Server) challengeOf(a Authorization, c Challenge) challengeObject {
	out := challengeObject{Type: c.Type, URL: s.c.Base + pathChallenge + a.ID + "/" + c.Type, Token: c.Token, Status: c.Status, Error: c.Error}
	if !c.Validated.IsZero() {
		out.Validated = c.Validated.UTC().Format(time.RFC3339)
	}
	return out
}

func (s *Server) authzReply(a Authorization) *reply {
	out := authzObject{Identifier: a.Identifier, Status: a.at(s.c.Now()), Expires: a.Expires.UTC().Format(time.RFC3339), Wildcard: a.Wildcard, Challenges: []challengeObject{}}
	r := &reply{}
	for _, c := range a.Challenges {
		// Of one that is decided, only the challenge that decided it (section 7.1.4).
		if (out.Status == StatusValid || out.Status == StatusInvalid) && c.Status != out.Status {
			continue
		}
		if c.Status == StatusProcessing {
			r.retryAfter = time.Second
		}
		out.Challenges = append(out.Challenges, s.challengeOf(a, c))
	}
	r.body = out
	return r
}

// ownedAuthz returns an authorization of the account.
func (s *Server) ownedAuthz(q *request) (Authorization, error) {
	id := q.PathValue("id")
	if !isID(id) {
		return Authorization{}, refuse("malformed", "there is no such authorization").with(http.StatusNotFound)
	}
	a, err := s.c.State.Authorization(q.Context(), id)
	if err != nil {
		return Authorization{}, err
	}
	return a, q.own(a.Account)
}

// authorization reads or deactivates an authorization (sections 7.5 and 7.5.2).
func (s *Server) authorization(q *request) (*reply, error) {
	a, err := s.ownedAuthz(q)
	if err != nil {
		return nil, err
	}
	if len(q.payload) == 0 {
		s.resume(q, a)
		return s.authzReply(a), nil
	}
	var ask struct {
		Status Status `json:"status"`
	}
	if err := readPayload(q.payload, &ask); err != nil {
		return nil, err
	}
	if ask.Status != StatusDeactivated {
		return nil, refuse("malformed", "the only status to ask for is deactivated")
	}
	if now := a.at(s.c.Now()); now != StatusPending && now != StatusValid {
		return nil, refuse("malformed", "the authorization is "+string(now))
	}
	a.Status = StatusDeactivated
	if err := s.c.State.UpdateAuthorization(q.Context(), a); err != nil {
		return nil, err
	}
	return s.authzReply(a), nil
}

// challenge reads a challenge, or takes the client's word that it is ready to be looked at (section 7.5.1).
func (s *Server) challenge(q *request) (*reply, error) {
	a, err := s.ownedAuthz(q)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(a.Challenges, func(c Challenge) bool { return c.Type == q.PathValue("type") })
	if i < 0 {
		return nil, refuse("malformed", "the authorization has no such challenge").with(http.StatusNotFound)
	}
	if len(q.payload) > 0 {
		var nothing struct{}
		if err := readPayload(q.payload, &nothing); err != nil {
			return nil, err
		}
		if a, err = s.begin(q, a, i); err != nil {
			return nil, err
		}
	} else {
		s.resume(q, a)
	}
	out := &reply{body: s.challengeOf(a, a.Challenges[i]), links: []string{"<" + s.c.Base + pathAuthz + a.ID + `>;rel="up"`}}
	if a.Challenges[i].Status == StatusProcessing {
		out.retryAfter = time.Second
	}
	return out, nil
}

// begin starts looking at a challenge, unless it is looked at or decided already.
func (s *Server) begin(q *request, a Authorization, i int) (Authorization, error) {
	now := s.c.Now()
	if a.at(now) != StatusPending || a.Challenges[i].Status != StatusPending {
		s.resume(q, a)
		return a, nil
	}
	if wait := s.tries.Take(a.Account + " " + a.Identifier.Value); wait > 0 {
		return a, tooMany("too many tries for "+a.Identifier.Value, wait)
	}
	select {
	case s.waiting <- struct{}{}:
	default:
		return a, fault("acme.challenge", ringfence.KindOverload, "too many challenges wait to be looked at", "", nil)
	}
	a.Challenges = slices.Clone(a.Challenges)
	a.Challenges[i].Status, a.Challenges[i].Started = StatusProcessing, now
	if err := s.c.State.UpdateAuthorization(q.Context(), a); err != nil {
		<-s.waiting
		return a, err
	}
	a.Version++
	s.start(a, i, q.thumb)
	return a, nil
}

// resume looks anew at challenges that somebody began to look at and never finished, such as a node that was stopped.
func (s *Server) resume(q *request, a Authorization) {
	now := s.c.Now()
	longest := time.Duration(s.c.Tries)*(s.c.LookTime+s.c.Pause) + time.Minute // with the time in the queue
	for i, c := range a.Challenges {
		if a.at(now) != StatusPending || c.Status != StatusProcessing || now.Sub(c.Started) <= longest {
			continue
		}
		select {
		case s.waiting <- struct{}{}:
		default:
			return
		}
		a.Challenges = slices.Clone(a.Challenges)
		a.Challenges[i].Started = now
		if err := s.c.State.UpdateAuthorization(q.Context(), a); err != nil { // somebody else was faster, or the next request tries
			<-s.waiting
			return
		}
		a.Version++
		s.start(a, i, q.thumb)
	}
}

// start looks at a challenge in the background; it gives back the token of s.waiting.
func (s *Server) start(a Authorization, i int, thumb string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		<-s.waiting
		return
	}
	s.wait.Go(func() {
		defer func() { <-s.waiting }()
		select {
		case s.looking <- struct{}{}:
			defer func() { <-s.looking }()
		case <-s.ctx.Done():
			return
		}
		why := s.look(s.ctx, a.Identifier, a.Challenges[i], thumb)
		if s.ctx.Err() != nil { // what was seen while everything ends proves nothing
			return
		}
		if err := s.decide(context.WithoutCancel(s.ctx), a.ID, a.Challenges[i].Type, why); err != nil {
			s.c.Log.Error("the outcome of an ACME challenge could not be kept", "name", a.Identifier.Value, "err", err, "hint", ringfence.HintOf(err))
		}
	})
}

// decide keeps the outcome of a challenge: valid if why is nil.
func (s *Server) decide(ctx context.Context, id, kind string, why *problem) error {
	outcome := "shown by " + kind
	if why != nil {
		outcome = "not shown by " + kind + ": " + why.Error()
	}
	for try := 0; ; try++ {
		a, err := s.c.State.Authorization(ctx, id)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(a.Challenges, func(c Challenge) bool { return c.Type == kind })
		if i < 0 || a.at(s.c.Now()) != StatusPending || a.Challenges[i].Status != StatusProcessing {
			return nil // it was deactivated, or another challenge decided
		}
		c := &a.Challenges[i]
		if why == nil {
			c.Status, c.Validated, a.Status = StatusValid, s.c.Now(), StatusValid
		} else {
			c.Status, c.Error, a.Status = StatusInvalid, why.record(), StatusInvalid
		}
		if try == 0 {
			if err := s.c.Audit(ctx, "acme.challenge", a.Identifier.Value, outcome+" for account "+a.Account); err != nil {
				return err
			}
		}
		if err = s.c.State.UpdateAuthorization(ctx, a); err == nil || ringfence.KindOf(err) != ringfence.KindConflict || try >= 5 {
			return err
		}
	}
}
