package admin

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"time"

	"ringfence"
	"ringfence/internal/network/ready/verdict"
	"ringfence/internal/node/admin/api"
	"ringfence/internal/state/store"
)

const (
	maxReadiness    = 1 << 20 // bytes of a report
	maxChecks       = 2000    // in a report
	readinessKind   = "readiness"
	readinessOfSite = 50                   // reports that are kept of a site: the latest
	readinessFor    = 400 * 24 * time.Hour // how long they are kept
)

type (
	keepIn struct {
		Site string `query:"site" required:"true" pattern:"^[a-z0-9][a-z0-9.-]{0,62}$" doc:"which site was tested" example:"seoul"`
		Body verdict.Report
	}
	keptListIn struct {
		Site  string `query:"site" maxLength:"63" doc:"only tests of this site"`
		After string `query:"after" maxLength:"40" doc:"the id of the last one of the page before"`
		Limit int    `query:"limit" minimum:"1" maximum:"100" default:"20"`
	}
	keptIn struct {
		ID string `path:"id" maxLength:"40" doc:"id of the test"`
	}
	keptFormIn struct {
		ID   string `path:"id" maxLength:"40" doc:"id of the test"`
		Form string `path:"form" enum:"page,junit,text" doc:"a page that needs nothing else, JUnit XML, or text"`
	}
	formOut struct {
		ContentType string `header:"Content-Type"`
		Policy      string `header:"Content-Security-Policy"`
		Body        []byte
	}
)

func (s *Server) routesReadiness() {
	keep := op("readiness.keep", http.MethodPost, "/network/readiness", "Hand in what `ringfence ready run --json` found at a site")
	keep.MaxBodyBytes, keep.DefaultStatus = maxReadiness, http.StatusCreated
	act(s, keep, api.ScopeReadiness, func(in *keepIn) string { return "site " + in.Site + ", " + clip(in.Body.Set) }, s.keepReadiness)
	look(s, op("readiness.list", http.MethodGet, "/network/readiness", "List the readiness tests of sites, the latest first"), s.listReadiness)
	look(s, op("readiness.show", http.MethodGet, "/network/readiness/{id}", "Show a readiness test with all that it found"), func(ctx context.Context, in *keptIn) (*body[api.Readiness], error) {
		r, err := s.readiness(ctx, in.ID)
		return answer(r), err
	})
	look(s, op("readiness.form", http.MethodGet, "/network/readiness/{id}/{form}", "Show a readiness test as a page for managers, as JUnit XML or as text"), s.formReadiness)
	act(s, op("readiness.remove", http.MethodDelete, "/network/readiness/{id}", "Remove a readiness test"), api.ScopeWrite, func(in *keptIn) string { return in.ID }, func(ctx context.Context, in *keptIn) (*none, error) {
		return nil, noTest(s.c.Store.DeleteDocument(ctx, readinessKind, in.ID))
	})
}

func noTest(err error) error {
	if ringfence.KindOf(err) != ringfence.KindNotFound {
		return err
	}
	return fault("admin.readiness", ringfence.KindNotFound, "there is no such readiness test", "see `ringfence ready kept list`")
}

// keptID makes ids of which the latest sorts first.
func keptID(at time.Time) string {
	return fmt.Sprintf("%013x-%.6s", uint64(1)<<52-1-uint64(at.UnixMicro()), rand.Text())
}

// keepLatest stores a document, and forgets those of its kind whose time is over and all but the latest of its owner.
func (s *Server) keepLatest(ctx context.Context, d store.Document, latest int) error {
	if err := s.c.Store.CreateDocuments(ctx, d); err != nil {
		return err
	}
	if _, err := s.c.Store.ForgetDocuments(ctx, d.Kind, s.c.Now()); err != nil {
		return err
	}
	all, err := s.c.Store.Documents(ctx, d.Kind, d.Owner, "", "", "", 2*latest)
	if err != nil {
		return err
	}
	for _, old := range all[min(len(all), latest):] {
		if err := s.c.Store.DeleteDocument(ctx, d.Kind, old.ID); err != nil && ringfence.KindOf(err) != ringfence.KindNotFound {
			return err
		}
	}
	return nil
}

// kept is what is stored of a test.
type kept struct {
	At     time.Time      `json:"at"`
	By     string         `json:"by"`
	Report verdict.Report `json:"report"`
}

func (s *Server) keepReadiness(ctx context.Context, in *keepIn) (*body[api.ReadinessKept], error) {
	r := in.Body
	wrong := r.Check()
	switch {
	case wrong != "":
	case len(r.Checks) > maxChecks:
		wrong = fmt.Sprintf("a report has at most %d checks", maxChecks)
	case !regexp.MustCompile(`^[a-zA-Z0-9._-]{1,64}$`).MatchString(r.Set):
		wrong = "the report does not say of which set it is"
	case r.Began.IsZero() || r.Ended.Before(r.Began):
		wrong = "the report does not say when it began and ended"
	}
	if wrong != "" {
		return nil, fault("admin.readiness", ringfence.KindInvalid, wrong, "hand in what `ringfence ready run --json` wrote")
	}
	now := s.c.Now()
	k := kept{At: now.UTC(), By: whoOf(ctx).Name, Report: r}
	b, err := json.Marshal(k)
	if err != nil {
		return nil, err
	}
	d := store.Document{Kind: readinessKind, ID: keptID(now), Version: 1, Owner: in.Site, Tag: r.Set, State: string(r.Outcome()), Until: now.Add(readinessFor), Body: b}
	if err := s.keepLatest(ctx, d, readinessOfSite); err != nil {
		return nil, err
	}
	return answer(keptOut(d, k)), nil
}

func keptOut(d store.Document, k kept) api.ReadinessKept {
	r := &k.Report
	out := api.ReadinessKept{ID: d.ID, Site: d.Owner, Kept: k.At, By: k.By, Set: r.Set, SetVersion: r.SetVersion, Began: r.Began, Ended: r.Ended, Reflector: r.Reflector, SeenAs: r.SeenAs, Outcome: r.Outcome(),
		Passed: r.Count(verdict.Pass), Failed: r.Count(verdict.Fail), Warned: r.Count(verdict.Warn), Skipped: r.Count(verdict.Skip), Failures: []string{}}
	for _, c := range r.Failed() {
		out.Failures = append(out.Failures, c.ID)
	}
	return out
}

func (s *Server) listReadiness(ctx context.Context, in *keptListIn) (*body[[]api.ReadinessKept], error) {
	all, err := s.c.Store.Documents(ctx, readinessKind, in.Site, "", "", in.After, in.Limit)
	out := make([]api.ReadinessKept, 0, len(all))
	for _, d := range all {
		var k kept
		if err := json.Unmarshal(d.Body, &k); err != nil {
			return nil, &ringfence.Fault{Op: "admin.readiness", Kind: ringfence.KindInternal, Text: "a readiness test that was kept cannot be read: " + d.ID, Hint: "remove it", Err: err}
		}
		out = append(out, keptOut(d, k))
	}
	return answer(out), err
}

func (s *Server) readiness(ctx context.Context, id string) (out api.Readiness, err error) {
	d, err := s.c.Store.Document(ctx, readinessKind, id)
	if err != nil {
		return out, noTest(err)
	}
	var k kept
	if err := json.Unmarshal(d.Body, &k); err != nil {
		return out, &ringfence.Fault{Op: "admin.readiness", Kind: ringfence.KindInternal, Text: "a readiness test that was kept cannot be read: " + id, Hint: "remove it", Err: err}
	}
	return api.Readiness{ReadinessKept: keptOut(d, k), Report: k.Report}, nil
}

func (s *Server) formReadiness(ctx context.Context, in *keptFormIn) (*formOut, error) {
	r, err := s.readiness(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	// What a page shows came from elsewhere: it may run nothing and fetch nothing.
	out := &formOut{Policy: "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"}
	var b bytes.Buffer
	switch in.Form {
	case "page":
		out.ContentType, err = "text/html; charset=utf-8", r.Report.HTML(&b)
	case "junit":
		out.ContentType, err = "application/xml", r.Report.JUnit(&b)
	default:
		out.ContentType = "text/plain; charset=utf-8"
		r.Report.Text(&b)
	}
	out.Body = b.Bytes()
	return out, err
}
