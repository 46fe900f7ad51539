package page

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"

	"ringfence"
	"ringfence/internal/desk/feature"
)

// Desk is the phone that is served.
type Desk interface {
	State() feature.State
	Do(ctx, life context.Context, c feature.Command) (feature.Result, error)
}

// Problem is why a command was not done.
type Problem struct {
	Kind string `json:"kind"`
	Text string `json:"text"`
	Hint string `json:"hint,omitempty"`
}

// Fault returns the problem as an error of the kind that it names.
func (p Problem) Fault() error {
	kind := ringfence.KindInternal
	for k := ringfence.KindInternal; k <= ringfence.KindCancelled; k++ {
		if k.String() == p.Kind {
			kind = k
		}
	}
	return &ringfence.Fault{Kind: kind, Text: p.Text, Hint: p.Hint}
}

// API serves GET /state and POST /do. life is how long the calls live that are placed.
func API(life context.Context, d Desk) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /state", func(w http.ResponseWriter, r *http.Request) { answer(w, http.StatusOK, d.State()) })
	mux.HandleFunc("POST /do", func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, feature.MaxCommand))
		var c feature.Command
		if err == nil {
			c, err = feature.ParseCommand(b)
		} else if tooLong := new(http.MaxBytesError); errors.As(err, &tooLong) {
			err = &ringfence.Fault{Op: "phone", Kind: ringfence.KindInvalid, Text: "the command is too long"}
		}
		var result feature.Result
		if err == nil {
			result, err = d.Do(r.Context(), life, c)
		}
		if err != nil {
			refuse(w, err)
			return
		}
		answer(w, http.StatusOK, result)
	})
	return mux
}

func refuse(w http.ResponseWriter, err error) {
	kind := ringfence.KindOf(err)
	answer(w, kind.HTTP(), Problem{Kind: kind.String(), Text: err.Error(), Hint: ringfence.HintOf(err)})
}

func answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	_ = e.Encode(v) // who asked is gone, if anything
}
