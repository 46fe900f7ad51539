package admin

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"unicode"

	"github.com/danielgtaylor/huma/v2"

	"ringfence"
	"ringfence/internal/node/admin/api"
)

// problemOf words an error for the far end. What went wrong inside of us stays in the log.
func problemOf(err error) *api.Problem {
	if p, ok := errors.AsType[*api.Problem](err); ok {
		return p
	}
	f, ok := errors.AsType[*ringfence.Fault](err)
	if !ok || f.Kind == ringfence.KindInternal {
		f = &ringfence.Fault{Kind: ringfence.KindInternal, Text: "the node failed", Hint: "look at the node's log"}
	}
	text := f.Text
	if text == "" {
		text = f.Kind.String()
	}
	return &api.Problem{Title: title(f.Kind.HTTP(), f.Kind), Status: f.Kind.HTTP(), Detail: text, Hint: ringfence.HintOf(f), Kind: f.Kind.String()}
}

func title(status int, kind ringfence.Kind) string {
	if t := http.StatusText(status); t != "" {
		return t
	}
	return kind.String()
}

// asProblem turns the framework's own errors (a body that does not fit, an unknown parameter) into problems with a kind.
func asProblem(_ huma.Context, _ string, v any) (any, error) {
	m, ok := v.(*huma.ErrorModel)
	if !ok {
		return v, nil
	}
	kind := ringfence.KindInvalid
	switch {
	case m.Status == http.StatusNotFound:
		kind = ringfence.KindNotFound
	case m.Status == http.StatusRequestTimeout:
		kind = ringfence.KindTimeout
	case m.Status >= 500:
		kind = ringfence.KindInternal
	}
	p := &api.Problem{Title: m.Title, Status: m.Status, Detail: m.Detail, Kind: kind.String()}
	for _, e := range m.Errors {
		p.Errors = append(p.Errors, api.ProblemDetail{Message: e.Message, Location: e.Location})
	}
	return p, nil
}

func writeProblem(w http.ResponseWriter, p *api.Problem) {
	b, err := json.Marshal(p)
	if err != nil { // it is made of plain strings
		b = []byte(`{"title":"Internal Server Error","status":500}`)
	}
	w.Header().Set("Content-Type", p.ContentType(""))
	if p.Status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", `Bearer realm="ringfence"`)
	}
	w.WriteHeader(p.Status)
	_, _ = w.Write(b) // if the asker is gone, nobody is left to tell
}

// clip bounds words that came from outside and drops what could disturb a terminal.
func clip(s string) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return -1
	}, s)
	if r := []rune(s); len(r) > 200 {
		s = string(r[:200]) + "…"
	}
	return s
}
