package page

import (
	"crypto/tls"
	"encoding/json"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"ringfence"
	"ringfence/internal/desk/feature"
	"ringfence/internal/desk/flatprofile"
)

func set(t *testing.T) *flatprofile.Set {
	t.Helper()
	f, err := flatprofile.Parse([]byte(`<flat-profile><Station_Name ua="rw">&lt;script&gt;alert(1)&lt;/script&gt;</Station_Name><Password_2_>hunter2-line</Password_2_><User_ID_2_>bob</User_ID_2_><Extended_Function_3_>fnc=sd;ext=1</Extended_Function_3_></flat-profile>`))
	if err != nil {
		t.Fatal(err)
	}
	s := flatprofile.NewSet(flatprofile.Parameters())
	s.Add(f, "cfg.xml")
	return s
}

func TestTabs(t *testing.T) {
	find := func(tabs []Tab, tab, section, name string) *Parameter {
		for _, x := range tabs {
			for _, y := range x.Sections {
				for i, p := range y.Parameters {
					if x.Name == tab && y.Name == section && p.Name == name {
						return &y.Parameters[i]
					}
				}
			}
		}
		return nil
	}
	admin, user := Tabs(set(t), []int{1, 2}, map[string]string{"User_ID_2_": "is bob's"}, true), Tabs(set(t), []int{1, 2}, nil, false)
	for _, x := range []struct{ tab, section, name, value, label string }{
		{"System", "HTTP Proxy Settings", "Use_Auto_Discovery__WPAD_", "Yes", "Use Auto Discovery (WPAD)"}, {"Ext 2", "Subscriber Information", "User_ID_2_", "bob", "User ID"}, {"Ext 2", "Subscriber Information", "Password_2_", "(secret)", "Password"},
		{"Phone", "Line Key", "Extended_Function_3_", "fnc=sd;ext=1", "Extended Function"}, {"Ext 1", "SIP Settings", "SIP_Transport_1_", "UDP", "SIP Transport"},
	} {
		if p := find(admin, x.tab, x.section, x.name); p == nil || p.Value != x.value || p.Label != x.label || p.Does == "" {
			t.Errorf("%s: %+v", x.name, p)
		}
	}
	if p := find(admin, "Ext 2", "Subscriber Information", "User_ID_2_"); p.Did != "is bob's" || p.From != "cfg.xml:1" || p.Default {
		t.Errorf("%+v", p)
	}
	if p := find(admin, "Ext 1", "Subscriber Information", "Password_1_"); p.Value != "" || p.Set {
		t.Errorf("%+v", p)
	}
	if find(admin, "Phone", "Line Key", "Extended_Function_4_") != nil || find(user, "Ext 2", "Subscriber Information", "Password_2_") != nil || find(user, "System", "HTTP Proxy Settings", "Proxy_Mode") == nil {
		t.Error("what is seen is not what the profile lets be seen")
	}
	b, err := json.Marshal(admin)
	if err != nil || strings.Contains(string(b), "hunter2-line") {
		t.Error("a secret is shown", err)
	}
}

// site is a phone's pages over TLS, and a browser.
type site struct {
	*testing.T
	*httptest.Server
	*http.Client
	desk      *still
	now       time.Time
	restarted int
}

func serve(t *testing.T) *site {
	t.Helper()
	s := &site{T: t, desk: &still{}, now: time.Unix(1e9, 0)}
	h, err := New(Config{Name: "Desk <7>", Life: t.Context(), Desk: s.desk, Status: func() ([][2]string, any) {
		return [][2]string{{"Product", "CP-8841"}}, map[string]string{"product": "CP-8841"}
	},
		Tabs: func(admin bool) []Tab { return Tabs(set(t), []int{2}, nil, admin) }, Restart: func() { s.restarted++ }, Password: map[string]string{Admin: "of the admin", User: "of the user"},
		Max: time.Hour, Idle: 10 * time.Minute, Now: func() time.Time { return s.now }})
	if err != nil {
		t.Fatal(err)
	}
	s.Server = httptest.NewTLSServer(h)
	t.Cleanup(s.Close)
	s.Client = s.browser()
	return s
}

func (s *site) browser() *http.Client {
	jar, err := cookiejar.New(nil)
	if err != nil {
		s.Fatal(err)
	}
	return &http.Client{Jar: jar, Transport: s.Server.Client().Transport}
}

// ask returns what a page says; form is posted, unless it is nil.
func (s *site) ask(path string, form url.Values, change ...func(*http.Request)) (int, string, http.Header) {
	s.Helper()
	req, err := http.NewRequest(http.MethodGet, s.URL+path, nil)
	if form != nil {
		req, err = http.NewRequest(http.MethodPost, s.URL+path, strings.NewReader(form.Encode()))
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	if err != nil {
		s.Fatal(err)
	}
	for _, f := range change {
		f(req)
	}
	resp, err := s.Do(req)
	if err != nil {
		s.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		s.Fatal(err)
	}
	return resp.StatusCode, string(b), resp.Header
}

func TestPages(t *testing.T) {
	s := serve(t)
	for _, path := range []string{"/", "/calls", "/parameters/System", "/nothing"} {
		if code, text, h := s.ask(path, nil); path != "/nothing" && !strings.Contains(text, `name="password"`) || path == "/nothing" && code != 404 || !strings.Contains(h.Get("Content-Security-Policy"), "default-src 'none'") || strings.Contains(text, "CP-8841") {
			t.Errorf("%s: %d %s", path, code, text)
		}
	}
	for _, path := range []string{"/status.json", "/state", "/parameters.json"} {
		if code, text, h := s.ask(path, nil); code != 401 || strings.Contains(text, "CP-8841") || h.Get("WWW-Authenticate") != "" {
			t.Errorf("%s: %d %s", path, code, text)
		}
	}
	in := url.Values{"account": {"admin"}, "password": {"of the user"}}
	if code, text, _ := s.ask("/signin", in); code != 401 || !strings.Contains(text, "This is not the password") {
		t.Errorf("%d %s", code, text)
	}
	in.Set("password", "of the admin")
	code, text, _ := s.ask("/signin", in)
	if code != 200 || !strings.Contains(text, "CP-8841") || !strings.Contains(text, "Desk &lt;7&gt;") || !strings.Contains(text, "alice &lt;b&gt;") {
		t.Fatalf("%d %s", code, text)
	}
	token := regexp.MustCompile(`name="token" value="([A-Z2-7]+)"`).FindStringSubmatch(text)[1]
	if _, text, _ := s.ask("/parameters/Phone", nil); !strings.Contains(text, "&lt;script&gt;alert") || strings.Contains(text, "<script") {
		t.Error(text)
	}
	if _, text, _ := s.ask("/parameters/Ext%202", nil); !strings.Contains(text, ">(secret)<") || strings.Contains(text, "hunter2-line") {
		t.Error(text)
	}
	if code, _, _ := s.ask("/parameters/Nothing", nil); code != 404 {
		t.Error(code)
	}

	// Buttons, forms of others, and what is not this session's.
	if code, _, _ := s.ask("/press", url.Values{"do": {"hold"}, "call": {"1"}, "token": {token}}); code != 200 || len(s.desk.told) != 1 || s.desk.told[0] != (feature.Command{Do: feature.DoHold, Call: 1}) {
		t.Errorf("%d %+v", code, s.desk.told)
	}
	if code, text, _ := s.ask("/press", url.Values{"do": {"hold"}, "call": {"9"}, "token": {token}}); code != 404 || !strings.Contains(text, "there is no call 9 (look)") {
		t.Errorf("%d %s", code, text)
	}
	for name, f := range map[string]func(*http.Request){
		"no token": func(r *http.Request) { r.Body = http.NoBody; r.ContentLength = 0 },
		"another site": func(r *http.Request) {
			r.Header.Set("Sec-Fetch-Site", "cross-site")
			r.Header.Set("Origin", "https://evil.example.com")
		},
	} {
		if code, _, _ := s.ask("/press", url.Values{"do": {"hold"}, "call": {"1"}, "token": {token}}, f); code != 403 || len(s.desk.told) != 2 {
			t.Errorf("%s: %d %+v", name, code, s.desk.told)
		}
	}
	if code, _, _ := s.ask("/restart", url.Values{"token": {token}}); code != 200 || s.restarted != 1 {
		t.Errorf("%d %d", code, s.restarted)
	}
	// It ends: by sign-out, when nobody did anything, and after its time.
	s.now = s.now.Add(9 * time.Minute)
	if _, text, _ := s.ask("/", nil); !strings.Contains(text, "CP-8841") {
		t.Error("the session ended too soon")
	}
	s.now = s.now.Add(11 * time.Minute)
	if _, text, _ := s.ask("/", nil); strings.Contains(text, "CP-8841") {
		t.Error("nobody did anything, and the session goes on")
	}
	if code, _, _ := s.ask("/signin", in); code != 200 {
		t.Error(code)
	}
	for range 7 {
		s.now = s.now.Add(9 * time.Minute)
		_, text, _ = s.ask("/", nil)
	}
	if strings.Contains(text, "CP-8841") {
		t.Error("the session goes on after an hour")
	}
	_, text, _ = s.ask("/signin", in)
	token = regexp.MustCompile(`name="token" value="([A-Z2-7]+)"`).FindStringSubmatch(text)[1]
	s.ask("/signout", url.Values{"token": {token}})
	if _, text, _ := s.ask("/", nil); strings.Contains(text, "CP-8841") {
		t.Error("the session goes on after its end")
	}
}

// TestPrograms has programs send the password with each request, as a user and as the administrator, and one that guesses.
func TestPrograms(t *testing.T) {
	s := serve(t)
	with := func(account, password string) func(*http.Request) {
		return func(r *http.Request) { r.SetBasicAuth(account, password) }
	}
	for range 2 * maxGuesses { // a program that asks often is none that guesses
		if code, text, _ := s.ask("/status.json", nil, with(User, "of the user")); code != 200 || !strings.Contains(text, "CP-8841") {
			t.Fatalf("%d %s", code, text)
		}
	}
	_, user, _ := s.ask("/parameters.json", nil, with(User, "of the user"))
	_, admin, _ := s.ask("/parameters.json", nil, with(Admin, "of the admin"))
	if strings.Contains(user, "Profile_Rule") || !strings.Contains(admin, "Profile_Rule") || strings.Contains(admin, "hunter2-line") {
		t.Error("a user sees what the administrator does")
	}
	do := func(r *http.Request) {
		r.Body = io.NopCloser(strings.NewReader(`{"do":"hangup"}`))
		r.ContentLength = 15
	}
	if code, _, _ := s.ask("/do", url.Values{}, with(User, "of the user"), do); code != 200 || len(s.desk.told) != 1 {
		t.Error(code)
	}
	if code, _, _ := s.ask("/restart", url.Values{}, with(User, "of the user")); code != 403 || s.restarted != 0 {
		t.Error(code)
	}
	for i := range maxGuesses {
		if code, _, _ := s.ask("/status.json", nil, with(Admin, "guess")); code != 401 {
			t.Errorf("guess %d: %d", i, code)
		}
	}
	if code, _, h := s.ask("/status.json", nil, with(Admin, "of the admin")); code != 429 || h.Get("Retry-After") == "" {
		t.Errorf("after %d guesses: %d", maxGuesses, code)
	}
	if code, _, _ := s.ask("/signin", url.Values{"account": {"admin"}, "password": {"of the admin"}}); code != 429 {
		t.Errorf("after %d guesses: %d", maxGuesses, code)
	}
	s.now = s.now.Add(guessPeriod + time.Second)
	if code, _, _ := s.ask("/status.json", nil, with(Admin, "of the admin")); code != 200 {
		t.Error(code)
	}
}

func TestNoPassword(t *testing.T) {
	if _, err := New(Config{}); ringfence.KindOf(err) != ringfence.KindInsecure {
		t.Errorf("pages without a password: %v", err)
	}
	h, err := New(Config{Password: map[string]string{User: "secret"}, Desk: &still{}})
	if err != nil {
		t.Fatal(err)
	}
	for name, x := range map[string]struct {
		tls  *tls.ConnectionState
		code int
	}{"in the clear": {nil, 403}, "an account without a password": {&tls.ConnectionState{}, 401}} {
		w, r := httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/state", nil)
		r.TLS = x.tls
		r.SetBasicAuth(Admin, "")
		if h.ServeHTTP(w, r); w.Code != x.code {
			t.Errorf("%s: %d", name, w.Code)
		}
	}
}
