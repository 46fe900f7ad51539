package admin

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"ringfence"
	"ringfence/internal/network/evidence"
	"ringfence/internal/network/posture"
	"ringfence/internal/node/admin/api"
	"ringfence/internal/state/store"
)

const (
	maxFinding     = 1 << 20 // bytes
	findingKind    = "finding"
	findingsOfSite = 200                  // that are kept of a site: the latest
	findingsFor    = 400 * 24 * time.Hour // how long they are kept
)

type (
	findingIn struct {
		Site string `query:"site" required:"true" pattern:"^[a-z0-9][a-z0-9.-]{0,62}$" doc:"which site it is about" example:"seoul"`
		Body api.NewFinding
	}
	findingListIn struct {
		Site  string `query:"site" maxLength:"63" doc:"only of this site"`
		Kind  string `query:"kind" enum:"posture,firewall" doc:"only of this kind"`
		After string `query:"after" maxLength:"40" doc:"the id of the last one of the page before"`
		Limit int    `query:"limit" minimum:"1" maximum:"100" default:"20"`
	}
	findingPath struct {
		ID string `path:"id" maxLength:"40" doc:"id of the finding"`
	}
)

func (s *Server) routesFindings() {
	keep := op("finding.keep", http.MethodPost, "/network/findings", "Hand in what was found out about a site: the posture of a TLS server, or a record of a firewall that is watched")
	keep.MaxBodyBytes, keep.DefaultStatus = maxFinding, http.StatusCreated
	act(s, keep, api.ScopeReadiness, func(in *findingIn) string { return "site " + in.Site + ", " + clip(in.Body.Subject) }, s.keepFinding)
	look(s, op("finding.list", http.MethodGet, "/network/findings", "List what was found out about sites, the latest first"), s.listFindings)
	look(s, op("finding.show", http.MethodGet, "/network/findings/{id}", "Show a finding with all of it"), func(ctx context.Context, in *findingPath) (*body[api.Finding], error) {
		d, err := s.c.Store.Document(ctx, findingKind, in.ID)
		if err != nil {
			return nil, noFinding(err)
		}
		f, err := findingOf(d)
		return answer(f), err
	})
	act(s, op("finding.remove", http.MethodDelete, "/network/findings/{id}", "Remove a finding"), api.ScopeWrite, func(in *findingPath) string { return in.ID }, func(ctx context.Context, in *findingPath) (*none, error) {
		return nil, noFinding(s.c.Store.DeleteDocument(ctx, findingKind, in.ID))
	})
}

func noFinding(err error) error {
	if ringfence.KindOf(err) != ringfence.KindNotFound {
		return err
	}
	return fault("admin.finding", ringfence.KindNotFound, "there is no such finding", "see `ringfence network findings list`")
}

// ofItsKind says what is wrong with a finding: it must be what the commands print.
func ofItsKind(f api.NewFinding) string {
	b, err := json.Marshal(f.Finding)
	if err != nil {
		return err.Error()
	}
	if f.Kind == "firewall" {
		var r evidence.Record
		if err := json.Unmarshal(b, &r); err != nil || r.Number < 1 || r.Firewall == "" || r.Proof == nil && r.Failure == "" {
			return "this is no record of a firewall: hand in what `ringfence network watch --json` printed"
		}
		return ""
	}
	var r posture.Report
	if err := json.Unmarshal(b, &r); err != nil || len(r.Versions)+len(r.Refused) == 0 {
		return "this is no posture of a TLS server: hand in what `ringfence tls probe --json` printed"
	}
	return ""
}

// found is what is stored of a finding.
type found struct {
	At      time.Time      `json:"at"`
	By      string         `json:"by"`
	Subject string         `json:"subject"`
	Finding map[string]any `json:"finding"`
}

func (s *Server) keepFinding(ctx context.Context, in *findingIn) (*body[api.FindingKept], error) {
	if wrong := ofItsKind(in.Body); wrong != "" {
		return nil, fault("admin.finding", ringfence.KindInvalid, wrong, "")
	}
	now := s.c.Now()
	b, err := json.Marshal(found{At: now.UTC(), By: whoOf(ctx).Name, Subject: strings.Map(printable, in.Body.Subject), Finding: in.Body.Finding})
	if err != nil {
		return nil, err
	}
	d := store.Document{Kind: findingKind, ID: keptID(now), Version: 1, Owner: in.Site, Tag: in.Body.Kind, State: in.Body.Verdict, Until: now.Add(findingsFor), Body: b}
	if err := s.keepLatest(ctx, d, findingsOfSite); err != nil {
		return nil, err
	}
	f, err := findingOf(d)
	return answer(f.FindingKept), err
}

// printable drops what a terminal would obey.
func printable(r rune) rune {
	if r < ' ' || r >= 0x7f && r < 0xa0 {
		return -1
	}
	return r
}

func findingOf(d store.Document) (api.Finding, error) {
	var f found
	if err := json.Unmarshal(d.Body, &f); err != nil {
		return api.Finding{}, &ringfence.Fault{Op: "admin.finding", Kind: ringfence.KindInternal, Text: "a finding that was kept cannot be read: " + d.ID, Hint: "remove it", Err: err}
	}
	return api.Finding{FindingKept: api.FindingKept{ID: d.ID, Site: d.Owner, Kind: d.Tag, Subject: f.Subject, Verdict: d.State, Kept: f.At, By: f.By}, Finding: f.Finding}, nil
}

func (s *Server) listFindings(ctx context.Context, in *findingListIn) (*body[[]api.FindingKept], error) {
	all, err := s.c.Store.Documents(ctx, findingKind, in.Site, in.Kind, "", in.After, in.Limit)
	out := make([]api.FindingKept, 0, len(all))
	for _, d := range all {
		f, err := findingOf(d)
		if err != nil {
			return nil, err
		}
		out = append(out, f.FindingKept)
	}
	return answer(out), err
}
