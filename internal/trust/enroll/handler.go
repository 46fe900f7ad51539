package enroll

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"ringfence"
)

// Handler answers the enrolment protocol. Serve it over TLS 1.3 with timeouts; let the TLS server ask for a client
// certificate without insisting (tls.RequestClientCert), for renewals.
func (s *Service) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("POST "+pathHello, s.answer(s.hello, s.c.AnswerAfter))
	mux.Handle("POST "+pathRequest, s.answer(s.request, s.c.AnswerAfter))
	mux.Handle("POST "+pathRenew, s.answer(s.renewal, 0))
	return mux
}

// answer limits the source, runs one step and writes what it returns, not before the given time has passed: how long an answer
// takes then does not tell whether a code exists.
func (s *Service) answer(step func(*http.Request) (any, error), after time.Duration) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		due := time.NewTimer(after)
		defer due.Stop()
		var out any
		err := fault("enroll.limit", ringfence.KindOverload, "too many tries from this address", "wait a minute", nil)
		if s.limit.allow(r.RemoteAddr) {
			out, err = step(r)
		}
		select {
		case <-due.C:
		case <-r.Context().Done():
			return
		}
		status := http.StatusOK
		if err != nil {
			status, out = refuse(err)
		}
		b, err := json.Marshal(out)
		if err != nil {
			status, b = http.StatusInternalServerError, []byte(`{"error":{"kind":"internal","text":"the answer cannot be written"}}`)
		}
		h := w.Header()
		h.Set("Content-Type", "application/json")
		h.Set("Cache-Control", "no-store")
		w.WriteHeader(status)
		w.Write(b) // if the device is gone, nobody is left to tell
	})
}

// refuse words an error for the far end. What went wrong inside of us is not its business.
func refuse(err error) (int, errorReply) {
	var e errorReply
	f, ok := errors.AsType[*ringfence.Fault](err)
	if !ok || f.Kind == ringfence.KindInternal {
		f = &ringfence.Fault{Kind: ringfence.KindInternal, Text: "the node failed", Hint: "look at the node's log"}
	}
	e.Error.Kind, e.Error.Text, e.Error.Hint = f.Kind.String(), f.Text, ringfence.HintOf(f)
	return f.Kind.HTTP(), e
}

func (s *Service) hello(r *http.Request) (any, error) {
	exported, err := exporter(r.TLS)
	if err != nil {
		return nil, err
	}
	var m helloMsg
	if err := firstOf(readJSON(r.Body, maxBody, true, &m), m.check()); err != nil {
		return nil, err
	}
	st, err := s.begin(r.Context(), m.Lookup, m.Nonce, exported)
	if err != nil {
		return nil, err
	}
	anchors, err := s.anchors()
	if err != nil {
		return nil, err
	}
	out := helloReply{Salt: st.act.Salt, Params: st.cost, Nonce: st.serverNonce, MAC: st.serverProof(st.act.Verifier, anchors)}
	for _, a := range anchors {
		out.Anchors = append(out.Anchors, writeCert(a.Raw))
	}
	return out, nil
}

func (s *Service) request(r *http.Request) (any, error) {
	exported, err := exporter(r.TLS)
	if err != nil {
		return nil, err
	}
	var m requestMsg
	if err := readJSON(r.Body, maxBody, true, &m); err != nil {
		return nil, err
	}
	if err := m.check(); err != nil {
		return nil, err
	}
	// The device may vanish at any moment, but a step that has begun is finished: the code is used if and only if the certificate is.
	return s.redeem(context.WithoutCancel(r.Context()), m, exported)
}

func (s *Service) renewal(r *http.Request) (any, error) {
	if _, err := exporter(r.TLS); err != nil {
		return nil, err
	}
	var m renewMsg
	if err := readJSON(r.Body, maxBody, true, &m); err != nil {
		return nil, err
	}
	return s.renew(context.WithoutCancel(r.Context()), r.TLS.PeerCertificates, m.CSR)
}
