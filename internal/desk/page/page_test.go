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
	"slices"
	"strings"
	"testing"
	"time"

	"ringfence"
	"ringfence/internal/desk/change"
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
		{"Phone", "Line Key", "Extended_Function_3_", "fnc=sd;ext=1", "Extended Function 3"}, {"Ext 1", "SIP Settings", "SIP_Transport_1_", "UDP", "SIP Transport"},
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
	if find(admin, "Phone", "Line Key", "Short_Name_4_") != nil || find(admin, "Phone", "Line Key", "Extended_Function_4_") == nil || find(user, "Ext 2", "Subscriber Information", "Password_2_") != nil || find(user, "System", "HTTP Proxy Settings", "Proxy_Mode") == nil {
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
	changed   []change.Request
}

// Change implements Changer: Station_Name may be "bad", which is refused, and "danger", which has to be confirmed.
func (s *site) Change(account string, admin bool, r change.Request) (change.Report, error) {
	report := change.Report{Changed: []string{}, Refused: []change.Problem{}, Dangers: []change.Problem{}}
	s.changed = append(s.changed, r)
	for _, c := range r.Changes {
		report.Changed = append(report.Changed, c.Name)
		switch {
		case c.Value == "bad" || !admin && c.Name != "Station_Name":
			report.Refused = append(report.Refused, change.Problem{Name: c.Name, Text: "it is <bad>", Fix: "write good"})
		case c.Value == "danger" && !r.Confirm:
			report.Dangers = append(report.Dangers, change.Problem{Name: c.Name, Text: "it is <dangerous>"})
		case c.Value == "broken":
			return report, &ringfence.Fault{Kind: ringfence.KindUnsupported, Text: "nowhere to keep it", Hint: "--state"}
		}
	}
	report.Done = len(report.Changed) > 0 && len(report.Refused)+len(report.Dangers) == 0
	return report, nil
}

func serve(t *testing.T) *site {
	t.Helper()
	s := &site{T: t, desk: &still{}, now: time.Unix(1e9, 0)}
	h, err := New(Config{Name: "Desk <7>", Life: t.Context(), Desk: s.desk, Status: func() ([][2]string, any) {
		return [][2]string{{"Product", "CP-8841"}}, map[string]string{"product": "CP-8841"}
	},
		Tabs: func(admin bool) []Tab { return Tabs(set(t), []int{2}, nil, admin) }, Restart: func() { s.restarted++ }, Change: s, Password: map[string]string{Admin: "of the admin", User: "of the user"},
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
	if _, text, _ := s.ask("/parameters/Ext%202", nil); !strings.Contains(text, `placeholder="(secret)"`) || strings.Contains(text, "hunter2-line") {
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

// TestChanges changes parameters by the form of a tab, and as a program does.
func TestChanges(t *testing.T) {
	s := serve(t)
	if code, _, _ := s.ask("/parameters/Phone", url.Values{"p.Station_Name": {"x"}}); code != 401 || s.changed != nil {
		t.Errorf("nobody signed in: %d", code)
	}
	_, text, _ := s.ask("/signin", url.Values{"account": {"admin"}, "password": {"of the admin"}})
	token := regexp.MustCompile(`name="token" value="([A-Z2-7]+)"`).FindStringSubmatch(text)[1]
	if _, text, _ := s.ask("/parameters/Ext%202", nil); !strings.Contains(text, `<input id="Password_2_" name="p.Password_2_" type="password" autocomplete="new-password" value="" placeholder="(secret)">`) || !strings.Contains(text, `<select id="SIP_Transport_2_" name="p.SIP_Transport_2_"><option selected>UDP</option><option>TCP</option>`) {
		t.Error(text)
	}
	if _, text, _ := s.ask("/parameters/Phone", nil); !strings.Contains(text, `value="&lt;script&gt;alert(1)&lt;/script&gt;"`) {
		t.Error(text)
	}
	post := func(want int, tab string, form url.Values) string {
		t.Helper()
		s.changed = nil
		form.Set("token", token)
		code, text, _ := s.ask("/parameters/"+tab, form)
		if code != want || strings.Contains(text, "<bad>") || strings.Contains(text, "<dangerous>") {
			t.Errorf("%d, want %d: %s", code, want, text)
		}
		return text
	}
	told := func(want ...change.Change) {
		t.Helper()
		if len(s.changed) != 1 || !slices.Equal(s.changed[0].Changes, want) {
			t.Errorf("%+v, want %+v", s.changed, want)
		}
	}
	if text := post(200, "Phone", url.Values{"p.Station_Name": {"Reception"}, "p.Voice_Mail_Number": {""}, "p.Proxy_Mode": {"Manual"}, "p.Nonsense": {"x"}}); !strings.Contains(text, "Changed: Station_Name") { // of this tab, and what differs
		t.Error(text)
	}
	told(change.Change{Name: "Station_Name", Value: "Reception"})
	if text := post(422, "Phone", url.Values{"p.Station_Name": {"bad"}}); !strings.Contains(text, "it is &lt;bad&gt;; write good") || !strings.Contains(text, `name="p.Station_Name" value="bad"`) { // what was typed stays
		t.Error(text)
	}
	if text := post(409, "Phone", url.Values{"p.Station_Name": {"danger"}}); !strings.Contains(text, "it is &lt;dangerous&gt;") || !strings.Contains(text, `name="confirm" value="yes"`) || strings.Contains(text, "Changed:") {
		t.Error(text)
	}
	if text := post(200, "Phone", url.Values{"p.Station_Name": {"danger"}, "confirm": {"yes"}}); !strings.Contains(text, "Changed:") || !s.changed[0].Confirm {
		t.Error(text)
	}
	if text := post(501, "Phone", url.Values{"p.Station_Name": {"broken"}}); !strings.Contains(text, "nowhere to keep it (--state)") {
		t.Error(text)
	}
	post(200, "Ext%202", url.Values{"p.Password_2_": {""}, "p.User_ID_2_": {"bob"}}) // a secret that nobody typed stays
	told()
	post(200, "Ext%202", url.Values{"p.Password_2_": {"new"}})
	told(change.Change{Name: "Password_2_", Value: "new"})
	post(200, "Ext%202", url.Values{"p.Password_2_": {""}, "c.Password_2_": {"yes"}})
	told(change.Change{Name: "Password_2_"})
	post(200, "Phone", url.Values{"p.Station_Name": {"typed"}, "p.Voice_Mail_Number": {"9"}, "reset": {"Station_Name"}})
	told(change.Change{Name: "Station_Name", Reset: true})
	post(404, "Nothing", url.Values{})
	post(403, "Phone", url.Values{"p.Station_Name": {strings.Repeat("x", change.MaxRequest)}}) // the token is not reached
	s.changed = nil
	for name, f := range map[string]func(*http.Request){
		"no token": func(r *http.Request) {
			r.Body, r.ContentLength = io.NopCloser(strings.NewReader("p.Station_Name=x")), 16
		},
		"another site": func(r *http.Request) {
			r.Header.Set("Sec-Fetch-Site", "cross-site")
			r.Header.Set("Origin", "https://evil.example.com")
		},
	} {
		if code, _, _ := s.ask("/parameters/Phone", url.Values{"p.Station_Name": {"x"}, "token": {token}}, f); code != 403 || s.changed != nil {
			t.Errorf("%s: %d %+v", name, code, s.changed)
		}
	}

	// As a program does.
	program := func(want int, account, body string) string {
		t.Helper()
		code, text, _ := s.ask("/parameters.json", url.Values{}, func(r *http.Request) {
			r.SetBasicAuth(account, "of the "+account)
			r.Header.Set("Content-Type", "application/json")
			r.Body, r.ContentLength = io.NopCloser(strings.NewReader(body)), int64(len(body))
		})
		if code != want {
			t.Errorf("%s: %d, want %d: %s", body, code, want, text)
		}
		return text
	}
	if text := program(200, User, `{"changes":[{"name":"Station_Name","value":"x"}]}`); !strings.Contains(text, `"done": true`) {
		t.Error(text)
	}
	program(422, User, `{"changes":[{"name":"Proxy_2_","value":"x"}]}`)
	program(409, Admin, `{"changes":[{"name":"Proxy_2_","value":"danger"}]}`)
	program(200, Admin, `{"changes":[{"name":"Proxy_2_","value":"danger"}],"confirm":true}`)
	program(200, Admin, `{"changes":[]}`)
	program(400, Admin, `{"changes":[{"name":"Proxy_2_","colour":"red"}]}`)
	program(400, Admin, strings.Repeat(" ", change.MaxRequest+1))
	program(501, Admin, `{"changes":[{"name":"Proxy_2_","value":"broken"}]}`)
	_, user, _ := s.ask("/parameters.json", nil, func(r *http.Request) { r.SetBasicAuth(User, "of the user") })
	var tabs []Tab
	if err := json.Unmarshal([]byte(user), &tabs); err != nil {
		t.Fatal(err)
	}
	for _, tab := range tabs {
		for _, section := range tab.Sections {
			for _, p := range section.Parameters {
				if p.Editable != (p.Access == "rw") {
					t.Errorf("%+v", p)
				}
			}
		}
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
	w, r := httptest.NewRecorder(), httptest.NewRequest(http.MethodPost, "/parameters.json", strings.NewReader(`{"changes":[]}`))
	r.TLS = &tls.ConnectionState{}
	r.SetBasicAuth(User, "secret")
	if h.ServeHTTP(w, r); w.Code != http.StatusNotImplemented {
		t.Errorf("a phone whose parameters are not changed here: %d", w.Code)
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
