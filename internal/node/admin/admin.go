package admin

import (
	"context"
	"encoding/json"
	"log/slog"
	"net"
	"net/http"
	"path"
	"reflect"
	"strings"
	"sync/atomic"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"ringfence"
	"ringfence/internal/call/dialplan"
	"ringfence/internal/node/admin/api"
)

// Config holds what the API needs of the other rooms.
type Config struct {
	Node, Domain string
	Version      api.Version
	StoreKind    string // "sqlite" or "postgres"

	Store     Store
	Roster    Roster
	Registrar Registrar
	Calls     Calls
	Ladder    Ladder // nil: messages are not remembered
	Wires     Wires
	Codes     Codes
	SignIns   SignIns
	Authority Authority
	Keyring   Keyring
	Lists     Lists // nil: no trust lists are published
	// OrderCheck is nil if phones get no certificates by CAPF.
	OrderCheck OrderCheck
	Machines   Machines // nil: no machine gets certificates by ACME
	Public     Public   // nil: no certificate for public names is kept
	Feeds      Feeds
	Anchor     func() []byte // the trust anchor as PEM
	Settings   Settings
	Host       Host
	Plan       func() dialplan.Plan
	Log        *slog.Logger
	Now        func() time.Time // nil: time.Now
}

// Server is the API. Its handlers may run at the same time.
type Server struct {
	c       Config
	api     huma.API
	mux     *http.ServeMux
	metrics http.Handler
	started time.Time
	tries   *attempts
	// computing holds whoever computes something that takes long.
	computing chan struct{}
	refused   atomic.Uint64 // requests without the right
}

const (
	// maxBody bounds a request, in bytes; a configuration may be larger.
	maxBody       = 64 << 10
	maxConfigBody = 2 << 20 // JSON may need two bytes for one
	bearer        = "bearer"
)

// New builds the API and every route of it.
func New(c Config) *Server {
	if c.Now == nil {
		c.Now = time.Now
	}
	s := &Server{c: c, mux: http.NewServeMux(), started: c.Now(), tries: newAttempts(c.Now), computing: make(chan struct{}, 1)}
	hc := huma.DefaultConfig("Ringfence", c.Version.Version)
	hc.OpenAPIPath, hc.DocsPath, hc.SchemasPath = "/api/v1/openapi", "", ""
	hc.CreateHooks = nil // no $schema members in answers
	hc.RejectUnknownQueryParameters = true
	hc.Transformers = []huma.Transformer{asProblem}
	hc.Info.Description = "Administration of a Ringfence node. On the Unix socket admin.sock in the data directory, root and the node's user need no token."
	hc.Components.SecuritySchemes = map[string]*huma.SecurityScheme{
		bearer: {Type: "http", Scheme: "bearer", Description: "A token from `ringfence login` or `ringfence token add`. The scope admin includes write, which includes read; readiness is to hand in reports of readiness tests and nothing else, and write includes it."},
	}
	hc.Components.Schemas = huma.NewMapRegistry("#/components/schemas/", schemaName)
	s.api = humago.New(s.mux, hc)
	s.api.UseMiddleware(s.authorize)
	s.routesAccess()
	s.routesUsers()
	s.routesDevices()
	s.routesExceptions()
	s.routesSignIns()
	s.routesTrust()
	s.routesTLS()
	s.routesTrunks()
	s.routesCTI()
	s.routesNetwork()
	s.routesPlane()
	s.routesReadiness()
	s.routesFindings()
	s.routesFeed()
	s.routesKeyring()
	s.routesLists()
	s.routesCAPF()
	s.routesACME()
	s.routesPublic()
	s.routesState()
	s.routesCalls()
	s.routesRecords()
	s.routesConfig()
	s.metrics = s.newMetrics()
	s.mux.HandleFunc("GET /metrics", s.serveMetrics)
	s.mux.HandleFunc("GET /anchor.pem", s.serveAnchor)
	s.mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		writeProblem(w, problemOf(&ringfence.Fault{Kind: ringfence.KindNotFound, Text: "there is no " + r.Method + " " + clip(r.URL.Path), Hint: "see /api/v1/openapi.json"}))
	})
	// The framework describes errors by its own type; describe ours in its place, which has the hint and the kind too.
	schemas := s.api.OpenAPI().Components.Schemas
	problem := schemas.Schema(reflect.TypeFor[api.Problem](), false, "Problem")
	if own, ok := schemas.Map()["ErrorModel"]; ok {
		*own = *problem
	}
	return s
}

// OpenAPI returns the description of the API, as JSON.
func (s *Server) OpenAPI() ([]byte, error) { return json.MarshalIndent(s.api.OpenAPI(), "", "  ") }

// Handler answers requests over the network, where a token is needed.
func (s *Server) Handler() http.Handler { return secured(s.mux) }

// ServeSocket answers requests on a Unix socket until ctx is over, for peers that the kernel names as root or as this process's user.
func (s *Server) ServeSocket(ctx context.Context, ln net.Listener) {
	hs := &http.Server{Handler: secured(s.mux), ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 30 * time.Second, WriteTimeout: 2 * time.Minute,
		IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10, ErrorLog: slog.NewLogLogger(s.c.Log.Handler(), slog.LevelDebug),
		ConnContext: func(ctx context.Context, c net.Conn) context.Context { return s.fromSocket(ctx, c) }}
	stop := context.AfterFunc(ctx, func() { _ = hs.Close() })
	defer stop()
	_ = hs.Serve(ln) // it ends by Close
}

// secured sets what every answer should carry.
func secured(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Cache-Control", "no-store")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Strict-Transport-Security", "max-age=31536000")
		next.ServeHTTP(w, r)
	})
}

func (s *Server) serveAnchor(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/x-pem-file")
	_, _ = w.Write(s.c.Anchor()) // if the reader is gone, nobody is left to tell
}

// schemaName names a type in the description of the API. Those of rooms have the name of the room before their own, since two rooms may have a Change.
func schemaName(t reflect.Type, hint string) string {
	name := huma.DefaultSchemaNamer(t, hint)
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
		t = t.Elem()
	}
	room := path.Base(t.PkgPath())
	if t.Name() == "" || room == "api" || room == "ringfence" || room == "admin" || strings.Contains(t.Name(), "[") {
		return name
	}
	return strings.ToUpper(room[:1]) + room[1:] + name
}
