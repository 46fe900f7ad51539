package revocation

import (
	"context"
	"encoding/base64"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"ringfence"
)

// Authority signs answers and lists; *ca.Authority is one.
type Authority interface {
	OCSP(ctx context.Context, question []byte) ([]byte, error)
	CRLBy(ctx context.Context, keyID string) ([]byte, error)
}

const (
	maxQuestion = 4 << 10
	// listAge is how old a list may be that is handed out again; signing one is audited, and strangers may ask for it.
	listAge = time.Minute
)

// Handler answers POST /ocsp, GET /ocsp/QUESTION and GET /crl/KEY.crl.
func Handler(a Authority, log *slog.Logger, now func() time.Time) http.Handler {
	h := &handler{authority: a, log: log, now: now, lists: map[string]list{}}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /ocsp", h.post)
	mux.HandleFunc("GET /ocsp/{question...}", h.get)
	mux.HandleFunc("GET /crl/{file}", h.crl)
	return mux
}

type handler struct {
	authority Authority
	log       *slog.Logger
	now       func() time.Time

	mu    sync.Mutex
	lists map[string]list // by key id; only of authorities that exist
}

type list struct {
	der []byte
	at  time.Time
}

func (h *handler) post(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Content-Type") != "application/ocsp-request" {
		http.Error(w, "application/ocsp-request is expected (RFC 6960 appendix A)", http.StatusUnsupportedMediaType)
		return
	}
	b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxQuestion))
	if err != nil {
		http.Error(w, "the question cannot be read", http.StatusBadRequest)
		return
	}
	h.answer(w, r, b)
}

func (h *handler) get(w http.ResponseWriter, r *http.Request) {
	text := strings.TrimPrefix(r.URL.EscapedPath(), "/ocsp/") // base64 has slashes, some clients escape them, and some do not
	text, err := url.PathUnescape(text)
	if err != nil || len(text) > 2*maxQuestion {
		http.Error(w, "the question cannot be read", http.StatusBadRequest)
		return
	}
	b, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		http.Error(w, "the question is not base64", http.StatusBadRequest)
		return
	}
	h.answer(w, r, b)
}

func (h *handler) answer(w http.ResponseWriter, r *http.Request, question []byte) {
	der, err := h.authority.OCSP(r.Context(), question)
	if err != nil {
		h.failed(w, r, err)
		return
	}
	w.Header().Set("Content-Type", "application/ocsp-response")
	w.Header().Set("Cache-Control", "no-store") // a revocation counts at once
	_, _ = w.Write(der)                         // if the asker is gone, nobody is left to tell
}

func (h *handler) crl(w http.ResponseWriter, r *http.Request) {
	key, ok := strings.CutSuffix(r.PathValue("file"), ".crl")
	if !ok {
		http.NotFound(w, r)
		return
	}
	der, err := h.list(r.Context(), key)
	switch {
	case ringfence.KindOf(err) == ringfence.KindNotFound && err != nil:
		http.NotFound(w, r)
		return
	case err != nil:
		h.failed(w, r, err)
		return
	}
	w.Header().Set("Content-Type", "application/pkix-crl")
	w.Header().Set("Cache-Control", "max-age=60")
	_, _ = w.Write(der)
}

func (h *handler) list(ctx context.Context, key string) ([]byte, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if l, ok := h.lists[key]; ok && h.now().Sub(l.at) < listAge {
		return l.der, nil
	}
	der, err := h.authority.CRLBy(ctx, key)
	if err == nil {
		h.lists[key] = list{der, h.now()}
	}
	return der, err
}

func (h *handler) failed(w http.ResponseWriter, r *http.Request, err error) {
	h.log.Error("a question about revocation could not be answered", "path", r.URL.Path[:min(len(r.URL.Path), 80)], "err", err, "hint", ringfence.HintOf(err))
	http.Error(w, "the node failed; try again later", http.StatusServiceUnavailable)
}
