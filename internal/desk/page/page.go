package page

import (
	"bytes"
	"context"
	"embed"
	"encoding/json"
	"html/template"
	"io/fs"
	"net/http"
	"strconv"
	"strings"
	"time"

	"ringfence"
	"ringfence/internal/desk/change"
	"ringfence/internal/desk/feature"
	"ringfence/internal/trust/quota"
)

//go:embed templates/*.html templates/style.css
var files embed.FS

// The accounts of the pages.
const (
	Admin = "admin"
	User  = "user"
)

// Config describes the pages of one phone. Desk, Status and Tabs are needed, and a password.
type Config struct {
	Name     string          // of the phone
	Life     context.Context // of the calls that are placed
	Desk     Desk
	Status   func() (rows [][2]string, all any) // what the status page shows, and the same for programs
	Tabs     func(admin bool) []Tab
	Change   Changer // nil: parameters are only shown
	Restart  func()
	Password map[string]string // by account; an empty one lets nobody in
	Max      time.Duration     // of a session; 0 means an hour
	Idle     time.Duration     // without a request; 0 means an hour
	Now      func() time.Time
	Say      func(format string, args ...any)
}

// pages serve one phone.
type pages struct {
	Config
	sessions *sessions
	guesses  *guesses
	html     *template.Template
}

// New returns the pages. They are served over TLS only, and to nobody who did not sign in. It fails if there is no password: none is made up.
func New(c Config) (http.Handler, error) {
	if c.Password[Admin] == "" && c.Password[User] == "" {
		return nil, &ringfence.Fault{Op: "page", Kind: ringfence.KindInsecure, Text: "the web pages are not served, since the profile has no password for them", Hint: "set Admin_Password or User_Password"}
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Say == nil {
		c.Say = func(string, ...any) {}
	}
	for _, d := range []*time.Duration{&c.Max, &c.Idle} {
		if *d <= 0 {
			*d = time.Hour
		}
	}
	html, err := template.New("").ParseFS(files, "templates/*.html")
	if err != nil {
		return nil, &ringfence.Fault{Op: "page", Kind: ringfence.KindInternal, Text: "the pages cannot be made", Err: err}
	}
	p := &pages{Config: c, html: html, guesses: &guesses{now: c.Now, all: map[string]*guess{}}, sessions: &sessions{max: c.Max, idle: c.Idle, now: c.Now, all: map[[32]byte]*session{}}}
	api := API(c.Life, c.Desk)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /style.css", p.style)
	mux.HandleFunc("GET /signin", func(w http.ResponseWriter, r *http.Request) {
		p.show(w, http.StatusOK, "signin.html", view{Title: "Sign in", Accounts: p.accounts()})
	})
	mux.HandleFunc("POST /signin", p.signIn)
	mux.HandleFunc("POST /signout", p.signedIn(func(w http.ResponseWriter, r *http.Request, _ *session) {
		p.sessions.end(r)
		http.SetCookie(w, &http.Cookie{Name: cookie, Path: "/", MaxAge: -1, Secure: true, HttpOnly: true, SameSite: http.SameSiteStrictMode})
		http.Redirect(w, r, "/signin", http.StatusSeeOther)
	}))
	mux.HandleFunc("GET /{$}", p.signedIn(func(w http.ResponseWriter, r *http.Request, s *session) {
		rows, _ := p.Status()
		p.show(w, http.StatusOK, "status.html", p.view(s, "Status", "/", view{Rows: rows, State: p.Desk.State()}))
	}))
	mux.HandleFunc("GET /calls", p.signedIn(func(w http.ResponseWriter, r *http.Request, s *session) {
		p.show(w, http.StatusOK, "calls.html", p.view(s, "Calls", "/calls", view{State: p.Desk.State()}))
	}))
	mux.HandleFunc("GET /parameters/{tab}", p.signedIn(p.parameters))
	mux.HandleFunc("POST /parameters/{tab}", p.signedIn(p.changeForm))
	mux.HandleFunc("POST /parameters.json", p.signedIn(p.changeJSON))
	mux.HandleFunc("POST /press", p.signedIn(p.press))
	mux.HandleFunc("POST /restart", p.signedIn(p.restart))
	mux.HandleFunc("GET /status.json", p.signedIn(func(w http.ResponseWriter, r *http.Request, _ *session) {
		_, all := p.Status()
		answer(w, http.StatusOK, all)
	}))
	mux.HandleFunc("GET /parameters.json", p.signedIn(func(w http.ResponseWriter, r *http.Request, s *session) {
		answer(w, http.StatusOK, p.Tabs(s.user == Admin))
	}))
	mux.HandleFunc("GET /state", p.signedIn(func(w http.ResponseWriter, r *http.Request, _ *session) { api.ServeHTTP(w, r) }))
	mux.HandleFunc("POST /do", p.signedIn(func(w http.ResponseWriter, r *http.Request, _ *session) { api.ServeHTTP(w, r) }))
	own := http.NewCrossOriginProtection() // what another site's page sends here is refused, whatever it carries
	return own.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
		h.Set("X-Frame-Options", "DENY")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cache-Control", "no-store")
		h.Set("Strict-Transport-Security", "max-age=31536000")
		if r.TLS == nil {
			http.Error(w, "the pages are served over TLS only", http.StatusForbidden)
			return
		}
		limit := int64(16 << 10)
		if strings.HasPrefix(r.URL.Path, "/parameters") && p.sessions.find(r) != nil || r.URL.Path == "/parameters.json" { // a whole tab; of strangers less
			limit = change.MaxRequest
		}
		r.Body = http.MaxBytesReader(w, r.Body, limit)
		mux.ServeHTTP(w, r)
	})), nil
}

// accounts are those that have a password.
func (p *pages) accounts() (out []string) {
	for _, a := range []string{Admin, User} {
		if p.Password[a] != "" {
			out = append(out, a)
		}
	}
	return out
}

// known reports whether a password is that of an account.
func (p *pages) known(account, password string) bool {
	want := p.Password[account]
	good := len(password) <= maxPassword && same(password, want)
	return want != "" && good
}

// view is what a template shows.
type view struct {
	Phone    string
	Title    string
	Account  string
	Admin    bool
	At       string
	Token    string
	Error    string
	Accounts []string
	Rows     [][2]string
	State    feature.State
	Tabs     []string
	Tab      Tab

	CanChange bool
	Notice    string
	Report    change.Report
	Entered   map[string]string // by name
	Ask       bool              // whether what is dangerous is meant
}

func (p *pages) view(s *session, title, at string, v view) view {
	v.Title, v.At, v.Account, v.Admin, v.Token, v.CanChange = title, at, s.user, s.user == Admin, s.token, p.Change != nil
	for _, t := range p.Tabs(v.Admin) {
		v.Tabs = append(v.Tabs, t.Name)
	}
	return v
}

func (p *pages) show(w http.ResponseWriter, status int, name string, v view) {
	v.Phone = p.Name
	var b bytes.Buffer
	if err := p.html.ExecuteTemplate(&b, name, v); err != nil {
		p.Say("a page could not be made: %v", err)
		http.Error(w, "the page could not be made", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(b.Bytes()) // if the reader is gone, nobody is left to tell
}

func (p *pages) style(w http.ResponseWriter, _ *http.Request) {
	b, err := fs.ReadFile(files, "templates/style.css")
	if err != nil {
		http.Error(w, "there is no style", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/css; charset=utf-8")
	_, _ = w.Write(b)
}

// signIn takes a password. Whoever guesses has to wait.
func (p *pages) signIn(w http.ResponseWriter, r *http.Request) {
	account, password := r.PostFormValue("account"), r.PostFormValue("password")
	source := quota.Source(r.RemoteAddr)
	if wait := p.guesses.wait(source); wait > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(wait/time.Second)+1))
		p.show(w, http.StatusTooManyRequests, "signin.html", view{Title: "Sign in", Accounts: p.accounts(), Error: "Too many tries. Wait a few minutes."})
		return
	}
	if !p.known(account, password) {
		p.guesses.wrong(source)
		p.Say("somebody at %s does not know the password of the web pages", r.RemoteAddr)
		p.show(w, http.StatusUnauthorized, "signin.html", view{Title: "Sign in", Accounts: p.accounts(), Error: "This is not the password."})
		return
	}
	http.SetCookie(w, &http.Cookie{Name: cookie, Value: p.sessions.begin(account), Path: "/", Secure: true, HttpOnly: true, SameSite: http.SameSiteStrictMode, MaxAge: int(p.Max / time.Second)})
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

// signedIn lets through who signed in: by the form, or, for programs, by Basic with each request. Browsers are not asked for the latter, so that they never send it by themselves.
func (p *pages) signedIn(next func(http.ResponseWriter, *http.Request, *session)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if account, password, ok := r.BasicAuth(); ok {
			source := quota.Source(r.RemoteAddr)
			if wait := p.guesses.wait(source); wait > 0 {
				w.Header().Set("Retry-After", strconv.Itoa(int(wait/time.Second)+1))
				answer(w, http.StatusTooManyRequests, Problem{Kind: ringfence.KindOverload.String(), Text: "too many tries"})
				return
			}
			if !p.known(account, password) {
				p.guesses.wrong(source)
				answer(w, http.StatusUnauthorized, Problem{Kind: ringfence.KindUnauthenticated.String(), Text: "this is not the password"})
				return
			}
			next(w, r, &session{user: account})
			return
		}
		s := p.sessions.find(r)
		switch {
		case s == nil && r.Method == http.MethodGet && !strings.HasSuffix(r.URL.Path, ".json") && r.URL.Path != "/state":
			http.Redirect(w, r, "/signin", http.StatusSeeOther)
		case s == nil:
			answer(w, http.StatusUnauthorized, Problem{Kind: ringfence.KindUnauthenticated.String(), Text: "nobody signed in", Hint: "sign in at /signin, or send the password with the request (Basic)"})
		case r.Method == http.MethodPost && !same(s.token, token(r)):
			answer(w, http.StatusForbidden, Problem{Kind: ringfence.KindDenied.String(), Text: "the form is not of this session", Hint: "load the page again"})
		default:
			next(w, r, s)
		}
	}
}

// token is what a form carries, or a program with a session in a header.
func token(r *http.Request) string {
	if t := r.Header.Get("X-Phone-Token"); t != "" {
		return t
	}
	if strings.HasPrefix(r.Header.Get("Content-Type"), "application/x-www-form-urlencoded") {
		return r.PostFormValue("token")
	}
	return ""
}

func (p *pages) parameters(w http.ResponseWriter, r *http.Request, s *session) {
	for _, t := range p.Tabs(s.user == Admin) {
		if t.Name == r.PathValue("tab") {
			p.show(w, http.StatusOK, "parameters.html", p.view(s, t.Name, "/parameters/"+t.Name, view{Tab: t}))
			return
		}
	}
	p.show(w, http.StatusNotFound, "error.html", p.view(s, "Not found", "", view{Error: "There is no such page."}))
}

// press does what a button of the page of calls says.
func (p *pages) press(w http.ResponseWriter, r *http.Request, s *session) {
	c := feature.Command{Do: feature.Verb(r.PostFormValue("do")), Number: r.PostFormValue("number"), Kind: feature.Kind(r.PostFormValue("kind")), On: r.PostFormValue("on") == "on"}
	for name, to := range map[string]*int{"line": &c.Line, "call": &c.Call, "other": &c.Other, "key": &c.Key} {
		*to, _ = strconv.Atoi(r.PostFormValue(name)) // what is no number is 0, which means that nobody said
	}
	b, err := json.Marshal(c)
	if err == nil {
		c, err = feature.ParseCommand(b)
	}
	if err == nil {
		_, err = p.Desk.Do(r.Context(), p.Life, c)
	}
	if err != nil {
		text := err.Error()
		if hint := ringfence.HintOf(err); hint != "" {
			text += " (" + hint + ")"
		}
		p.show(w, ringfence.KindOf(err).HTTP(), "calls.html", p.view(s, "Calls", "/calls", view{State: p.Desk.State(), Error: text}))
		return
	}
	http.Redirect(w, r, "/calls", http.StatusSeeOther)
}

func (p *pages) restart(w http.ResponseWriter, r *http.Request, s *session) {
	if s.user != Admin || p.Restart == nil {
		answer(w, http.StatusForbidden, Problem{Kind: ringfence.KindDenied.String(), Text: "only the administrator starts the phone again"})
		return
	}
	p.Say("the phone starts again, as %s said by the web page", s.user)
	p.show(w, http.StatusOK, "error.html", p.view(s, "Restart", "", view{Error: "The phone starts again. Sign in again in a few seconds."}))
	p.Restart()
}
