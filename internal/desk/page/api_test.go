package page

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"ringfence"
	"ringfence/internal/desk/feature"
)

// still is a phone at which nothing happens, but that remembers what it was told.
type still struct{ told []feature.Command }

func (s *still) State() feature.State {
	return feature.State{Lines: []feature.Line{{Number: 1, Name: "alice <b>"}}, Calls: []feature.Call{}, Lists: []feature.Entry{}, Lamps: []feature.Lamp{}}
}

func (s *still) Do(_, _ context.Context, c feature.Command) (feature.Result, error) {
	s.told = append(s.told, c)
	if c.Call == 9 {
		return feature.Result{}, &ringfence.Fault{Op: "phone", Kind: ringfence.KindNotFound, Text: "there is no call 9", Hint: "look"}
	}
	return feature.Result{Call: 1, Text: "done"}, nil
}

func TestAPI(t *testing.T) {
	d := &still{}
	h := API(t.Context(), d)
	ask := func(method, path, body string) (int, string) {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(method, path, strings.NewReader(body)))
		return w.Code, w.Body.String()
	}
	if code, text := ask(http.MethodGet, "/state", ""); code != 200 || !strings.Contains(text, `"alice \u003cb\u003e"`) {
		t.Errorf("%d %s", code, text)
	}
	if code, text := ask(http.MethodPost, "/do", `{"do":"hold","call":1}`); code != 200 || !strings.Contains(text, `"done"`) || len(d.told) != 1 || d.told[0] != (feature.Command{Do: feature.DoHold, Call: 1}) {
		t.Errorf("%d %s %+v", code, text, d.told)
	}
	for body, kind := range map[string]ringfence.Kind{`{"do":"hold","call":9}`: ringfence.KindNotFound, `{`: ringfence.KindInvalid, `{"do":"` + strings.Repeat("x", feature.MaxCommand) + `"}`: ringfence.KindInvalid} {
		code, text := ask(http.MethodPost, "/do", body)
		var p Problem
		if err := json.Unmarshal([]byte(text), &p); err != nil || code != kind.HTTP() || ringfence.KindOf(p.Fault()) != kind {
			t.Errorf("%.40s: %d %s %v", body, code, text, err)
		}
	}
	if code, _ := ask(http.MethodGet, "/do", ""); code != http.StatusMethodNotAllowed {
		t.Errorf("GET /do: %d", code)
	}
}
