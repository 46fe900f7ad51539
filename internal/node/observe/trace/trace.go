package trace

import (
	"context"
	"log/slog"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"ringfence"
)

// Config says where traces go.
type Config struct {
	// URL is the OTLP/HTTP endpoint, e.g. "https://collector.example:4318"; without a path, /v1/traces is used.
	URL     string
	Client  *http.Client // makes the requests; it decides about TLS
	Node    string
	Version string
	Log     *slog.Logger
	Batch   time.Duration // how long spans wait for company: 5 s
}

// Call is a finished call.
type Call struct {
	ID                 ringfence.CallID
	Start, Answer, End time.Time // Answer is zero if nobody answered
	From, To           string
	Cause              string
	Verdict            ringfence.Verdict
	Legs               []Leg
}

// Leg is one leg of a finished call.
type Leg struct {
	Side       string
	Start, End time.Time
	Codec      string
	Proof      ringfence.Proof
}

// Exporter sends traces. Its methods may be called from any goroutine.
type Exporter struct {
	provider *sdk.TracerProvider
	tracer   trace.Tracer
	queue    chan Call
	stop     chan struct{}
	once     sync.Once
	wg       sync.WaitGroup

	exported, dropped, failed atomic.Uint64
}

// Stats counts since start.
type Stats struct {
	Exported uint64 `json:"exported"` // spans that the collector took
	Dropped  uint64 `json:"dropped"`  // calls that found the queue full
	Failed   uint64 `json:"failed"`   // spans that the collector did not take
}

// New returns an exporter. It connects when there is something to send.
func New(ctx context.Context, cfg Config) (*Exporter, error) {
	if cfg.Batch == 0 {
		cfg.Batch = 5 * time.Second
	}
	u, err := url.Parse(cfg.URL)
	if err != nil || u.Host == "" {
		return nil, &ringfence.Fault{Op: "trace.open", Kind: ringfence.KindInvalid, Text: "the URL of the collector of traces cannot be read", Err: err}
	}
	if u.Path == "" || u.Path == "/" {
		u.Path = "/v1/traces"
	}
	// Headers are set so that nothing comes from the environment.
	client, err := otlptracehttp.New(ctx, otlptracehttp.WithEndpointURL(u.String()), otlptracehttp.WithHTTPClient(cfg.Client),
		otlptracehttp.WithHeaders(map[string]string{}), otlptracehttp.WithCompression(otlptracehttp.GzipCompression), otlptracehttp.WithTimeout(10*time.Second))
	if err != nil {
		return nil, &ringfence.Fault{Op: "trace.open", Kind: ringfence.KindInvalid, Text: "the collector of traces cannot be used", Err: err}
	}
	e := &Exporter{queue: make(chan Call, 1024), stop: make(chan struct{})}
	about := resource.NewSchemaless(attribute.String("service.name", "ringfence"), attribute.String("service.version", cfg.Version),
		attribute.String("service.instance.id", cfg.Node))
	e.provider = sdk.NewTracerProvider(sdk.WithResource(about), sdk.WithSampler(sdk.AlwaysSample()),
		sdk.WithRawSpanLimits(sdk.SpanLimits{AttributeValueLengthLimit: 1024, AttributeCountLimit: 64, EventCountLimit: 16, LinkCountLimit: 1, AttributePerEventCountLimit: 8, AttributePerLinkCountLimit: 1}),
		sdk.WithBatcher(&counted{client, e, cfg.Log}, sdk.WithBatchTimeout(cfg.Batch), sdk.WithMaxQueueSize(8192), sdk.WithMaxExportBatchSize(512), sdk.WithExportTimeout(15*time.Second)))
	e.tracer = e.provider.Tracer("ringfence")
	e.wg.Go(e.run)
	return e, nil
}

// counted is an exporter that counts, and says when the collector does not take spans.
type counted struct {
	sdk.SpanExporter
	e   *Exporter
	log *slog.Logger
}

// ExportSpans implements sdk.SpanExporter.
func (c *counted) ExportSpans(ctx context.Context, spans []sdk.ReadOnlySpan) error {
	err := c.SpanExporter.ExportSpans(ctx, spans)
	if err == nil {
		c.e.exported.Add(uint64(len(spans)))
		return nil
	}
	if c.e.failed.Add(uint64(len(spans))) == uint64(len(spans)) { // the first time
		c.log.Warn("the collector of traces does not take them", "err", err)
	}
	return nil // handled: the library would write it to the standard error
}

// Call sends a finished call. It never waits.
func (e *Exporter) Call(c Call) {
	select {
	case e.queue <- c:
	default:
		e.dropped.Add(1)
	}
}

// Stats returns the counters.
func (e *Exporter) Stats() Stats {
	return Stats{Exported: e.exported.Load(), Dropped: e.dropped.Load(), Failed: e.failed.Load()}
}

// Close sends what waits, for as long as ctx allows, and stops.
func (e *Exporter) Close(ctx context.Context) {
	e.once.Do(func() {
		close(e.stop)
		e.wg.Wait()
		_ = e.provider.Shutdown(ctx)
	})
}

func (e *Exporter) run() {
	for {
		select {
		case c := <-e.queue:
			e.spans(c)
		case <-e.stop:
			for len(e.queue) > 0 {
				e.spans(<-e.queue)
			}
			return
		}
	}
}

// spans makes the spans of a call, with the times at which things happened.
func (e *Exporter) spans(c Call) {
	ctx, root := e.tracer.Start(context.Background(), "call", trace.WithNewRoot(), trace.WithTimestamp(c.Start), trace.WithSpanKind(trace.SpanKindServer),
		trace.WithAttributes(attribute.String("ringfence.call.id", string(c.ID)), attribute.String("ringfence.call.from", c.From), attribute.String("ringfence.call.to", c.To),
			attribute.String("ringfence.call.cause", c.Cause), attribute.String("ringfence.verdict", string(c.Verdict))))
	if !c.Answer.IsZero() {
		root.AddEvent("answered", trace.WithTimestamp(c.Answer))
	}
	for _, l := range c.Legs {
		e.leg(ctx, c, l)
	}
	if c.Verdict == ringfence.Refused {
		root.SetStatus(codes.Error, c.Cause)
	}
	root.End(trace.WithTimestamp(c.End))
}

func (e *Exporter) leg(ctx context.Context, c Call, l Leg) {
	if l.End.IsZero() {
		l.End = c.End
	}
	kind := trace.SpanKindClient
	if l.Side == "caller" {
		kind = trace.SpanKindServer
	}
	p := l.Proof
	attrs := []attribute.KeyValue{attribute.String("ringfence.leg.id", p.ID), attribute.String("ringfence.leg.side", l.Side), attribute.String("ringfence.leg.peer", p.Peer),
		attribute.String("ringfence.verdict", string(p.Verdict)), attribute.String("ringfence.auth", string(p.Auth))}
	if l.Codec != "" {
		attrs = append(attrs, attribute.String("ringfence.codec", l.Codec))
	}
	if t := p.TLS; t != nil {
		attrs = append(attrs, attribute.String("ringfence.tls.version", t.Version), attribute.String("ringfence.tls.suite", t.Suite), attribute.String("ringfence.tls.group", t.Group))
	}
	if m := p.Media; m != nil {
		attrs = append(attrs, attribute.String("ringfence.srtp.suite", m.Suite), attribute.Float64("ringfence.mos", m.MOS), attribute.Float64("ringfence.jitter_ms", m.JitterMS),
			attribute.Int64("ringfence.packets_in", int64(m.PacketsIn)), attribute.Int64("ringfence.packets_out", int64(m.PacketsOut)), attribute.Int64("ringfence.packets_lost", int64(m.Lost)))
	}
	_, span := e.tracer.Start(ctx, "leg", trace.WithTimestamp(l.Start), trace.WithSpanKind(kind), trace.WithAttributes(attrs...))
	if p.Verdict == ringfence.Refused {
		span.SetAttributes(attribute.String("ringfence.reason", p.Reason))
		span.SetStatus(codes.Error, p.Reason)
	}
	span.End(trace.WithTimestamp(l.End))
}
