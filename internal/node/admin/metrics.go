package admin

import (
	"net/http"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Metric is the documentation of one metric (docs/guides/cli.md lists them all).
type Metric struct{ Name, Kind, Help string }

// sample is a metric with its value now.
type sample struct {
	Metric
	value  float64
	labels []string // name, value, name, value …
}

// collector reads the counters of the rooms when it is asked; nothing is counted twice.
type collector struct{ s *Server }

// Describe implements prometheus.Collector. Sending nothing makes the metrics unchecked, as their labels come with the values.
func (c collector) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (c collector) Collect(out chan<- prometheus.Metric) {
	for _, m := range c.s.samples() {
		kind := prometheus.GaugeValue
		if m.Kind == "counter" {
			kind = prometheus.CounterValue
		}
		var names, values []string
		for i := 0; i+1 < len(m.labels); i += 2 {
			names, values = append(names, m.labels[i]), append(values, m.labels[i+1])
		}
		out <- prometheus.MustNewConstMetric(prometheus.NewDesc(m.Name, m.Help, names, nil), kind, m.value, values...)
	}
}

// Metrics lists every metric of ours, in the order of the report.
func (s *Server) Metrics() (out []Metric) {
	for _, m := range s.samples() {
		if len(out) == 0 || out[len(out)-1].Name != m.Name {
			out = append(out, m.Metric)
		}
	}
	return out
}

func (s *Server) samples() []sample {
	var out []sample
	add := func(kind, name, help string, v float64, labels ...string) {
		out = append(out, sample{Metric{"ringfence_" + name, kind, help}, v, labels})
	}
	n, r, w, reg := s.counts(), s.refusals(), s.c.Wires.Stats(), s.c.Registrar.Stats()
	add("gauge", "info", "What runs; always 1.", 1, "version", s.c.Version.Version, "go", s.c.Version.Go, "node", s.c.Node, "fips", strconv.FormatBool(s.c.Version.FIPS))
	add("gauge", "uptime_seconds", "Seconds since the node started.", s.c.Now().Sub(s.started).Seconds())
	add("gauge", "users", "Users.", float64(n.Users))
	add("gauge", "devices", "Devices.", float64(n.Devices))
	add("gauge", "registrations", "Bindings that have not expired, by whether their connection is up.", float64(n.Reachable), "live", "true")
	add("gauge", "registrations", "Bindings that have not expired, by whether their connection is up.", float64(n.Registrations-n.Reachable), "live", "false")
	add("gauge", "calls", "Calls that are up.", float64(n.Calls))
	add("gauge", "connections", "SIP connections.", float64(n.Connections))
	add("counter", "calls_refused_total", "Calls refused because a leg could not be sealed.", float64(r.Calls))
	clients, turned := s.c.Host.CTIState()
	add("gauge", "cti_sessions", "Systems that follow calls.", float64(len(clients)))
	add("counter", "cti_refused_total", "CTI connections that were turned away.", float64(turned))
	add("counter", "registers_total", "REGISTER requests that changed a binding.", float64(reg.Registered), "change", "bound")
	add("counter", "registers_total", "REGISTER requests that changed a binding.", float64(reg.Unregistered), "change", "removed")
	add("counter", "challenges_total", "Digest challenges sent.", float64(reg.Challenged))
	add("counter", "requests_refused_total", "SIP requests of devices that could not prove themselves, or may not.", float64(reg.Refused))
	add("gauge", "exceptions", "Named exceptions in force.", float64(len(s.exceptions())))
	add("counter", "plain_requests_total", "SIP requests in the clear, by whether a named exception let them pass.", float64(reg.PlainServed), "outcome", "served")
	add("counter", "plain_requests_total", "SIP requests in the clear, by whether a named exception let them pass.", float64(reg.PlainRefused), "outcome", "refused")
	add("counter", "connections_accepted_total", "SIP connections accepted.", float64(w.Accepted))
	add("counter", "connections_dialled_total", "SIP connections opened by the node.", float64(w.Dialled))
	add("counter", "connections_refused_total", "SIP connections refused over a limit.", float64(w.Refused))
	add("counter", "connections_failed_total", "SIP connections that could not be opened.", float64(w.ConnFailures))
	add("counter", "connections_aged_total", "SIP connections closed because they were idle.", float64(w.InactiveAgeouts))
	add("counter", "handshake_failures_total", "TLS handshakes of SIP connections that failed, by our side in them.", float64(w.ServerHandshakes), "side", "server")
	add("counter", "handshake_failures_total", "TLS handshakes of SIP connections that failed, by our side in them.", float64(w.ClientHandshakes), "side", "client")
	add("counter", "send_failures_total", "Messages that could not be sent.", float64(w.SendFailures))
	add("counter", "garbage_total", "Messages received that were no SIP.", float64(w.Garbage))
	b, l := s.c.Host.BusStats(), s.c.Host.LadderStats()
	add("gauge", "bus_connected", "Whether the event bus reaches its NATS server.", truth(b.Connected))
	add("counter", "bus_published_total", "Events that this node told.", float64(b.Published))
	add("counter", "bus_received_total", "Events of other nodes.", float64(b.Received))
	add("counter", "bus_dropped_total", "Events that found the queue of a subscriber in this node full.", float64(b.Dropped))
	add("counter", "bus_unsent_total", "Events that other nodes were not told.", float64(b.Unsent))
	add("counter", "bus_rejected_total", "Messages on the bus that were no events.", float64(b.Rejected))
	add("gauge", "ladder_calls", "Calls whose messages are remembered.", float64(l.Calls))
	add("gauge", "ladder_bytes", "Bytes that remembered messages take.", float64(l.Bytes))
	add("counter", "ladder_skipped_total", "Calls that were not remembered because too many began in one second.", float64(l.Skipped))
	add("counter", "ladder_omitted_total", "Messages that were not remembered because their call had too many.", float64(l.Omitted))
	watching := s.c.Host.Watching()
	outside := [...]string{"hep", "syslog", "traces"}
	for _, name := range outside {
		add("counter", "export_sent_total", "Records sent to a collector outside.", float64(watching[name].Sent), "collector", name)
	}
	for _, name := range outside {
		add("counter", "export_dropped_total", "Records that a collector outside did not get.", float64(watching[name].Dropped), "collector", name)
	}
	until, failures := s.publicNumbers()
	add("gauge", "public_certificate_until_seconds", "When the certificate for public names ends, in seconds since 1970; 0: there is none.", until)
	add("gauge", "public_order_failures", "Orders of a certificate for public names that failed since the last one that did not.", failures)
	add("counter", "api_refused_total", "Requests to the administration API without the right.", float64(r.API))
	return out
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func (s *Server) newMetrics() http.Handler {
	reg := prometheus.NewRegistry()
	reg.MustRegister(collector{s}, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return promhttp.HandlerFor(reg, promhttp.HandlerOpts{MaxRequestsInFlight: 4})
}

// Refused returns how many requests were refused because the asker did not have the right.
func (s *Server) Refused() uint64 { return s.refused.Load() }
