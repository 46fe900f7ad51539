package token

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"ringfence"
	"ringfence/internal/state/store"
)

// elsewhere is a provider at which the code is the name of the user.
type elsewhere struct {
	fails error
	n     int
}

func (*elsewhere) Name() string { return "login.example.org" }

func (e *elsewhere) Begin(context.Context) (string, string, Finish, error) {
	if e.fails != nil {
		return "", "", nil, e.fails
	}
	e.n++
	state := fmt.Sprintf("state-%d", e.n)
	return "https://login.example.org/auth?state=" + state, state, func(_ context.Context, v url.Values) (ringfence.UserID, string, error) {
		if v.Get("code") == "" {
			return "", "", &ringfence.Fault{Kind: ringfence.KindDenied, Text: "the provider says <no>"}
		}
		return ringfence.UserID(v.Get("code")), "sub-1", nil
	}, nil
}

// browser keeps cookies, as far as they are what a browser would keep of this host.
type browser struct {
	*site
	cookies map[string]string
}

func (s *site) browser() *browser { return &browser{s, map[string]string{}} }

func (b *browser) do(method, path string, v url.Values) (*http.Response, string) {
	b.Helper()
	var r *http.Request
	if method == http.MethodGet {
		r = httptest.NewRequest(method, path+"?"+v.Encode(), nil)
	} else {
		r = httptest.NewRequest(method, path, strings.NewReader(v.Encode()))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for name, value := range b.cookies {
		r.AddCookie(&http.Cookie{Name: name, Value: value})
	}
	w := httptest.NewRecorder()
	b.s.Handler().ServeHTTP(w, r)
	for _, c := range w.Result().Cookies() {
		if !strings.HasPrefix(c.Name, "__Host-") || !c.Secure || !c.HttpOnly || c.Path != "/" || c.Domain != "" || c.SameSite != http.SameSiteLaxMode {
			b.Errorf("%+v", c)
		}
		if c.MaxAge < 0 {
			delete(b.cookies, c.Name)
		} else {
			b.cookies[c.Name] = c.Value
		}
	}
	return w.Result(), w.Body.String()
}

// leave goes to the provider and returns the state.
func (b *browser) leave(v url.Values) string {
	b.Helper()
	res, body := b.do(http.MethodPost, pathOutside, v)
	state, ok := strings.CutPrefix(res.Header.Get("Location"), "https://login.example.org/auth?state=")
	if res.StatusCode != http.StatusSeeOther || !ok {
		b.Fatalf("%d %s\n%s", res.StatusCode, res.Header.Get("Location"), body)
	}
	return state
}

func (b *browser) refused(res *http.Response, body, why string) {
	b.Helper()
	if res.StatusCode < 400 || res.Header.Get("Location") != "" || !strings.Contains(body, why) {
		b.Errorf("%d %s, want %q\n%s", res.StatusCode, res.Header.Get("Location"), why, body[strings.Index(body, "<main>"):])
	}
}

func outsideSite(t *testing.T) (*site, *elsewhere) {
	s := newSite(t)
	e := &elsewhere{}
	s.s.c.Outside = e
	s.ok(s.db.CreateUser(t.Context(), store.User{ID: "bob"}))
	s.ok(s.db.CreateDevice(t.Context(), store.Device{ID: "bob-desk", User: "bob", Profile: store.DeviceProfile{Auth: []ringfence.Auth{ringfence.AuthCertificate}}}))
	return s, e
}

func choices(page string) (out []string) {
	for _, m := range regexp.MustCompile(`name="device" value="([^"]*)"`).FindAllStringSubmatch(page, -1) {
		out = append(out, m[1])
	}
	return out
}

func TestProgramSignsInWithAProvider(t *testing.T) {
	s, _ := outsideSite(t)
	b := s.browser()
	if _, page := b.do(http.MethodGet, pathAuthorize, askFor()); !strings.Contains(page, `formaction="/oauth/provider"`) || !strings.Contains(page, "sign in with login.example.org") {
		t.Fatal(page)
	}
	state := b.leave(askFor())
	res, page := b.do(http.MethodGet, pathReturn, form1("state", state, "code", "alice"))
	if got := fmt.Sprint(choices(page)); res.StatusCode != 200 || got != "[alice-app alice-two]" || !strings.Contains(page, "phone</strong>") || !strings.Contains(page, "You are <strong>alice") {
		t.Fatalf("%d %s\n%s", res.StatusCode, got, page)
	}
	b.refused2(pathReturn, http.MethodGet, form1("state", state, "code", "alice"), "not begun in this browser") // a second time
	res, body := b.do(http.MethodPost, pathChoose, form1("state", state, "device", "alice-two"))
	to, err := url.Parse(res.Header.Get("Location"))
	if err != nil || res.StatusCode != http.StatusSeeOther || !strings.HasPrefix(to.String(), redirect+"?") || to.Query().Get("state") != "s&1" || len(b.cookies) != 0 {
		t.Fatalf("%d %s %v\n%s", res.StatusCode, to, b.cookies, body)
	}
	if a := s.good(s.tokens(redeem(to.Query().Get("code"))).Access); a.Device != "alice-two" || a.User != "alice" {
		t.Errorf("%+v", a)
	}
	b.refused2(pathChoose, http.MethodPost, form1("state", state, "device", "alice-two"), "not begun in this browser")
	entries, err := s.db.Audit(t.Context(), 0, 10)
	s.ok(err)
	if !strings.Contains(fmt.Sprint(entries), "token.outside user alice proved at login.example.org as sub-1") {
		t.Errorf("%v", entries)
	}
}

func (b *browser) refused2(path, method string, v url.Values, why string) {
	b.Helper()
	res, body := b.do(method, path, v)
	b.refused(res, body, why)
}

func TestDeviceIsApprovedWithAProvider(t *testing.T) {
	s, _ := outsideSite(t)
	b := s.browser()
	begun := func() (device, user string) {
		t.Helper()
		_, body := s.do(http.MethodPost, pathBegin, form1("client_id", "phone"))
		m := regexp.MustCompile(`"device_code":"([^"]+)".*"user_code":"([^"]+)"`).FindStringSubmatch(body)
		if m == nil {
			t.Fatal(body)
		}
		return m[1], m[2]
	}
	device, user := begun()
	b.refused2(pathOutside, http.MethodPost, form1("user_code", "BBBB-BBBB"), "No device waits")
	state := b.leave(form1("user_code", strings.ToLower(user)))
	// The link alone does nothing: whoever followed it sees what the device has to show, and has to agree.
	if _, page := b.do(http.MethodGet, pathReturn, form1("state", state, "code", "alice")); !strings.Contains(page, user) || len(choices(page)) != 2 {
		t.Fatal(page)
	}
	poll := form1("grant_type", grantDevice, "client_id", "phone", "device_code", device)
	s.problem(poll, "authorization_pending")
	if res, page := b.do(http.MethodPost, pathChoose, form1("state", state, "device", "alice-app")); res.StatusCode != 200 || !strings.Contains(page, "approved as alice-app") {
		t.Fatal(page)
	}
	s.now = s.now.Add(6 * time.Second)
	if a := s.good(s.tokens(poll).Access); a.Device != "alice-app" {
		t.Errorf("%+v", a)
	}
	// Somebody else approves it meanwhile.
	_, user = begun()
	state = b.leave(form1("user_code", user))
	b.do(http.MethodGet, pathReturn, form1("state", state, "code", "alice"))
	if res, page := s.do(http.MethodPost, pathDevice, form1("user_code", user, "activation", "alice-two")); res.StatusCode != 200 {
		t.Fatal(page)
	}
	b.refused2(pathChoose, http.MethodPost, form1("state", state, "device", "alice-app"), "No device waits")
}

func TestProviderVisitIsRefused(t *testing.T) {
	s, e := outsideSite(t)
	b, thief := s.browser(), s.browser()
	// Who has the link and not the cookie: somebody who wants a victim's browser to finish what they began, or the other way round.
	state := b.leave(askFor())
	thief.leave(askFor())
	thief.refused2(pathReturn, http.MethodGet, form1("state", state, "code", "alice"), "not begun in this browser")
	thief.cookies = map[string]string{cookieOf(state): "guessed"}
	thief.refused2(pathReturn, http.MethodGet, form1("state", state, "code", "alice"), "not begun in this browser")
	b.refused2(pathReturn, http.MethodGet, form1("code", "alice"), "not begun in this browser")
	b.refused2(pathChoose, http.MethodPost, form1("state", state, "device", "alice-app"), "not begun in this browser") // before coming back
	if _, page := b.do(http.MethodGet, pathReturn, form1("state", state, "code", "alice")); len(choices(page)) != 2 {
		t.Fatal(page)
	}
	thief.refused2(pathChoose, http.MethodPost, form1("state", state, "device", "alice-app"), "not begun in this browser")
	b.refused2(pathChoose, http.MethodPost, form1("state", state, "device", "bob-desk"), "none of your devices")
	b.refused2(pathChoose, http.MethodPost, form1("state", state, "device", "alice-app"), "not begun in this browser") // it is over now

	for code, why := range map[string]string{"": "the provider says &lt;no&gt;", "bob": "no device here", "nobody": "no device here", "<script>": "&lt;script&gt;"} {
		state = b.leave(askFor())
		b.refused2(pathReturn, http.MethodGet, form1("state", state, "code", code), why)
	}
	// Between coming back and choosing the device is revoked.
	state = b.leave(askFor())
	b.do(http.MethodGet, pathReturn, form1("state", state, "code", "alice"))
	d, err := s.db.Device(t.Context(), "alice-two")
	s.ok(err)
	d.State = store.DeviceRevoked
	s.ok(s.db.UpdateDevice(t.Context(), d))
	b.refused2(pathChoose, http.MethodPost, form1("state", state, "device", "alice-two"), "none of your devices")
	// It takes too long, on either side.
	state = b.leave(askFor())
	s.now = s.now.Add(visitLife + time.Second)
	b.refused2(pathReturn, http.MethodGet, form1("state", state, "code", "alice"), "not begun in this browser")
	// A program that is not known leads nobody anywhere; one that asks wrongly hears of it.
	b.refused2(pathOutside, http.MethodPost, with(askFor(), "redirect_uri", "https://evil.example.org/"), "may not have its answer sent there")
	if res, _ := b.do(http.MethodPost, pathOutside, with(askFor(), "code_challenge", "")); !strings.HasPrefix(res.Header.Get("Location"), redirect+"?error=invalid_request") {
		t.Error(res.Header.Get("Location"))
	}
	// The provider is down: the page says so and still takes a code.
	e.fails = &ringfence.Fault{Kind: ringfence.KindUnavailable, Text: "the provider cannot be reached", Hint: "use an activation code"}
	res, page := b.do(http.MethodPost, pathOutside, askFor())
	if b.refused(res, page, "the provider cannot be reached: use an activation code"); res.StatusCode != http.StatusServiceUnavailable || !strings.Contains(page, `name="activation"`) || !strings.Contains(page, challenge()) {
		t.Errorf("%d %s", res.StatusCode, page)
	}
	e.fails = nil
	// One source cannot fill the table, and what is over makes room.
	s.now = s.now.Add(visitLife + time.Second)
	for i := range maxVisitsPerSource + 1 {
		res, body := s.browser().do(http.MethodPost, pathOutside, askFor())
		if (res.StatusCode == http.StatusSeeOther) != (i < maxVisitsPerSource) {
			t.Fatalf("%d: %d %s", i, res.StatusCode, body)
		}
	}
	s.now = s.now.Add(visitLife + time.Second)
	b.leave(askFor())
	if n := len(s.s.visits); n != 1 {
		t.Errorf("%d visits are kept", n)
	}
	// Without a provider there are no such pages.
	s.s.c.Outside = nil
	for _, path := range []string{pathOutside, pathChoose} {
		if res, _ := b.do(http.MethodPost, path, askFor()); res.StatusCode != http.StatusNotFound {
			t.Errorf("%s: %d", path, res.StatusCode)
		}
	}
	if _, page := b.do(http.MethodGet, pathAuthorize, askFor()); strings.Contains(page, pathOutside) {
		t.Error(page)
	}
}
