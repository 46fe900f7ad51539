package trace_test

import (
	"compress/gzip"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	otlp "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	proto "go.opentelemetry.io/proto/otlp/trace/v1"
	wire "google.golang.org/protobuf/proto"

	"ringfence"
	"ringfence/internal/node/observe/trace"
)

// collector takes traces over TLS as an OpenTelemetry collector does.
func collector(t *testing.T, status int) (*httptest.Server, <-chan *otlp.ExportTraceServiceRequest) {
	t.Helper()
	got := make(chan *otlp.ExportTraceServiceRequest, 10)
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		z, err := gzip.NewReader(r.Body)
		if err != nil || r.URL.Path != "/v1/traces" {
			t.Errorf("%s %s: %v", r.Method, r.URL.Path, err)
			return
		}
		b, err := io.ReadAll(z)
		req := &otlp.ExportTraceServiceRequest{}
		if err != nil || wire.Unmarshal(b, req) != nil {
			t.Errorf("no request: %v", err)
		}
		got <- req
		w.WriteHeader(status)
	}))
	t.Cleanup(s.Close)
	return s, got
}

func next(t *testing.T, got <-chan *otlp.ExportTraceServiceRequest) *otlp.ExportTraceServiceRequest {
	t.Helper()
	select {
	case r := <-got:
		return r
	case <-time.After(20 * time.Second):
		t.Fatal("the collector got nothing")
		return nil
	}
}

func attr(s *proto.Span, key string) string {
	for _, a := range s.Attributes {
		if a.Key == key {
			return a.Value.GetStringValue()
		}
	}
	return ""
}

func TestCallIsATrace(t *testing.T) {
	s, got := collector(t, 200)
	e, err := trace.New(t.Context(), trace.Config{URL: s.URL, Client: s.Client(), Node: "node-1", Version: "test", Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	start := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	e.Call(trace.Call{ID: "c1", Start: start, Answer: start.Add(time.Second), End: start.Add(time.Minute), From: "100", To: "200", Cause: "ended by caller", Verdict: ringfence.Refused,
		Legs: []trace.Leg{
			{Side: "caller", Start: start, End: start.Add(time.Minute), Codec: "opus", Proof: ringfence.Proof{ID: "c1-a", Peer: "device alice-desk", Verdict: ringfence.Sealed,
				TLS: &ringfence.TLSProof{Version: "TLS 1.3", Suite: "TLS_AES_128_GCM_SHA256"}, Media: &ringfence.MediaProof{Suite: "AEAD_AES_256_GCM", MOS: 4.4}}},
			{Side: "callee", Start: start.Add(time.Millisecond), Proof: ringfence.Proof{ID: "c1-b", Verdict: ringfence.Refused, Reason: "no key"}},
		}})
	e.Close(t.Context())
	spans := map[string]*proto.Span{}
	for _, rs := range next(t, got).ResourceSpans {
		for _, ss := range rs.ScopeSpans {
			for _, sp := range ss.Spans {
				spans[sp.Name+attr(sp, "ringfence.leg.id")] = sp
			}
		}
	}
	root, a, b := spans["call"], spans["legc1-a"], spans["legc1-b"]
	if root == nil || a == nil || b == nil || len(spans) != 3 {
		t.Fatalf("%v", spans)
	}
	if string(a.ParentSpanId) != string(root.SpanId) || string(b.ParentSpanId) != string(root.SpanId) || string(a.TraceId) != string(root.TraceId) || len(root.ParentSpanId) != 0 {
		t.Error("the legs are not below the call")
	}
	if root.StartTimeUnixNano != uint64(start.UnixNano()) || root.EndTimeUnixNano != uint64(start.Add(time.Minute).UnixNano()) || b.EndTimeUnixNano != root.EndTimeUnixNano {
		t.Error("the times are not those of the call")
	}
	for _, c := range []struct {
		span      *proto.Span
		key, want string
	}{
		{root, "ringfence.call.id", "c1"}, {root, "ringfence.verdict", "refused"}, {root, "ringfence.call.cause", "ended by caller"},
		{a, "ringfence.verdict", "sealed"}, {a, "ringfence.srtp.suite", "AEAD_AES_256_GCM"}, {a, "ringfence.tls.suite", "TLS_AES_128_GCM_SHA256"}, {a, "ringfence.codec", "opus"},
		{b, "ringfence.reason", "no key"},
	} {
		if v := attr(c.span, c.key); v != c.want {
			t.Errorf("%s of %s is %q, want %q", c.key, c.span.Name, v, c.want)
		}
	}
	if len(root.Events) != 1 || root.Events[0].Name != "answered" || b.Status.GetCode() != proto.Status_STATUS_CODE_ERROR {
		t.Errorf("events %v, status %v", root.Events, b.Status)
	}
	if st := e.Stats(); st.Exported != 3 || st.Failed+st.Dropped != 0 {
		t.Errorf("%+v", st)
	}
}

func TestCollectorThatRefuses(t *testing.T) {
	s, got := collector(t, 400)
	e, err := trace.New(t.Context(), trace.Config{URL: s.URL, Client: s.Client(), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	e.Call(trace.Call{ID: "c1", Start: time.Now(), End: time.Now()})
	e.Close(t.Context())
	next(t, got)
	if st := e.Stats(); st.Failed != 1 || st.Exported != 0 {
		t.Errorf("%+v", st)
	}
}
