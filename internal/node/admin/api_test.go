package admin_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ringfence/internal/node"
	"ringfence/internal/node/admin/api"
	"ringfence/internal/node/config"
)

// door is a node with its API, spoken to over HTTPS as a program elsewhere does.
type door struct {
	testing.TB
	node *node.Node
	http *http.Client
	base string
}

func openDoor(t testing.TB) *door {
	t.Helper()
	c := config.Default()
	c.SIP.TLS, c.API.HTTPS, c.Media.Addr = netip.MustParseAddrPort("127.0.0.1:0"), netip.MustParseAddrPort("127.0.0.1:0"), netip.MustParseAddr("127.0.0.1")
	n, err := node.Open(t.Context(), node.Options{Config: c, Data: t.TempDir(), Version: "test", Log: slog.New(slog.NewTextHandler(t.Output(), nil))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Close)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(n.Authority.RootPEM())
	tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS13}}
	t.Cleanup(tr.CloseIdleConnections)
	return &door{TB: t, node: n, http: &http.Client{Transport: tr, Timeout: 20 * time.Second}, base: "https://" + n.HTTPSAddr().String()}
}

// ask sends a request and returns the status and the body.
func (d *door) ask(method, path, token, body string) (*http.Response, []byte) {
	d.Helper()
	r, err := http.NewRequestWithContext(d.Context(), method, d.base+path, strings.NewReader(body))
	if err != nil {
		d.Fatal(err)
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := d.http.Do(r)
	if err != nil {
		d.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		d.Fatal(err)
	}
	return resp, b
}

// want is ask for a status that is expected.
func (d *door) want(status int, method, path, token, body string) []byte {
	d.Helper()
	resp, b := d.ask(method, path, token, body)
	if resp.StatusCode != status {
		d.Fatalf("%s %s: %s, want %d\n%s", method, path, resp.Status, status, b)
	}
	if status >= 400 {
		var p api.Problem
		if err := json.Unmarshal(b, &p); err != nil || p.Status != status || p.Title == "" || p.Kind == "" || resp.Header.Get("Content-Type") != "application/problem+json" {
			d.Errorf("%s %s: not a problem: %s %s", method, path, resp.Header.Get("Content-Type"), b)
		}
	}
	return b
}

// admin logs in with the administrator code.
func (d *door) admin() string {
	d.Helper()
	var t api.TokenAdded
	b, _ := json.Marshal(api.Login{Code: d.node.AdminCode.Code, Name: "test"})
	if err := json.Unmarshal(d.want(200, "POST", "/api/v1/login", "", string(b)), &t); err != nil || t.Secret == "" {
		d.Fatalf("no token: %v", err)
	}
	return t.Secret
}

// token makes one with a scope.
func (d *door) token(admin, scope string) string {
	d.Helper()
	var t api.TokenAdded
	if err := json.Unmarshal(d.want(200, "POST", "/api/v1/tokens", admin, `{"name":"`+scope+`","scope":"`+scope+`"}`), &t); err != nil {
		d.Fatal(err)
	}
	return t.Secret
}

func TestEveryOperationNeedsARight(t *testing.T) {
	d := openDoor(t)
	admin := d.admin()
	read := d.token(admin, "read")
	var doc struct {
		OpenAPI string `json:"openapi"`
		Paths   map[string]map[string]struct {
			ID       string                `json:"operationId"`
			Security []map[string][]string `json:"security"`
		} `json:"paths"`
	}
	if err := json.Unmarshal(d.want(200, "GET", "/api/v1/openapi.json", "", ""), &doc); err != nil || !strings.HasPrefix(doc.OpenAPI, "3.1") {
		t.Fatalf("no OpenAPI 3.1: %v %s", err, doc.OpenAPI)
	}
	n := 0
	for path, ops := range doc.Paths {
		for method, op := range ops {
			n++
			at := strings.ReplaceAll(path, "{id}", "nobody")
			if op.ID == "login" {
				continue
			}
			if len(op.Security) == 0 {
				t.Errorf("%s names no right", op.ID)
				continue
			}
			// The right is asked for before anything of the request is looked at.
			d.want(401, strings.ToUpper(method), at, "", "")
			d.want(401, strings.ToUpper(method), at, "rf_wrong", "")
			if scope := op.Security[0]["bearer"][0]; scope != api.ScopeRead {
				d.want(403, strings.ToUpper(method), at, read, "")
			}
		}
	}
	if n < 30 {
		t.Errorf("only %d operations are described", n)
	}
	if n := d.node.Admin.Refused(); n == 0 {
		t.Error("refusals were not counted")
	}
}

func TestRefusals(t *testing.T) {
	d := openDoor(t)
	tok := d.admin()
	d.want(201, "POST", "/api/v1/users", tok, `{"id":"alice","numbers":["2001"]}`)
	d.want(201, "POST", "/api/v1/devices", tok, `{"id":"alice-desk","user":"alice"}`)
	past := time.Now().Add(-time.Hour).Format(time.RFC3339)
	far := time.Now().Add(90 * 24 * time.Hour).Format(time.RFC3339)
	for _, c := range []struct {
		status             int
		method, path, body string
	}{
		{400, "POST", "/api/v1/users", `{"id":`},
		{422, "POST", "/api/v1/users", `{"id":"Bad Name"}`},
		{422, "POST", "/api/v1/users", `{"id":"x","surprise":1}`},
		{422, "POST", "/api/v1/users", `{"id":"x","pin":"12"}`},
		{422, "POST", "/api/v1/users", `{"id":"x","toll_class":"galactic"}`},
		{400, "POST", "/api/v1/users", `{"id":"x","numbers":["*70"]}`},
		{400, "POST", "/api/v1/users", `{"id":"x","forward":{"always":"x","busy":"","no_answer":"","unreachable":"","no_answer_seconds":0}}`},
		{409, "POST", "/api/v1/users", `{"id":"alice"}`},
		{409, "POST", "/api/v1/users", `{"id":"bob","numbers":["2001"]}`},
		{413, "POST", "/api/v1/users", `{"id":"` + strings.Repeat("x", 70<<10) + `"}`},
		{404, "GET", "/api/v1/users/nobody", ""},
		{404, "PATCH", "/api/v1/users/nobody", `{"name":"x"}`},
		{404, "DELETE", "/api/v1/users/nobody", ""},
		{422, "GET", "/api/v1/users?limit=0", ""},
		{422, "GET", "/api/v1/users?nonsense=1", ""},
		{404, "GET", "/api/v1/devices/nobody", ""},
		{404, "GET", "/api/v1/devices?user=nobody", ""},
		{404, "POST", "/api/v1/devices", `{"id":"x","user":"nobody"}`},
		{409, "POST", "/api/v1/devices", `{"id":"alice-desk","user":"alice"}`},
		{422, "POST", "/api/v1/devices", `{"id":"x","user":"alice","auth":"none"}`},
		{404, "POST", "/api/v1/devices/nobody/code", ""},
		{404, "POST", "/api/v1/devices/nobody/revoke", `{}`},
		{409, "POST", "/api/v1/devices/alice-desk/activate", ""},
		{404, "DELETE", "/api/v1/devices/nobody", ""},
		{400, "PUT", "/api/v1/devices/alice-desk/exception", `{"until":"` + past + `","reason":"because"}`},
		{400, "PUT", "/api/v1/devices/alice-desk/exception", `{"until":"` + far + `","reason":"because"}`},
		{422, "PUT", "/api/v1/devices/alice-desk/exception", `{"until":"` + far + `","reason":""}`},
		{404, "DELETE", "/api/v1/devices/alice-desk/exception", ""},
		{404, "GET", "/api/v1/calls/nothing", ""},
		{404, "DELETE", "/api/v1/calls/nothing", ""},
		{404, "POST", "/api/v1/calls", `{"from":"nobody","to":"2001"}`},
		{503, "POST", "/api/v1/calls", `{"from":"alice","to":"2001"}`},
		{404, "GET", "/api/v1/explain?from=nobody&to=1", ""},
		{422, "GET", "/api/v1/explain?from=alice", ""},
		{404, "GET", "/api/v1/cdrs/nothing", ""},
		{400, "GET", "/api/v1/cdrs?since=2030-01-02T00:00:00Z&until=2030-01-01T00:00:00Z", ""},
		{422, "GET", "/api/v1/cdrs?since=yesterday", ""},
		{400, "POST", "/api/v1/config/plan", `{"yaml":"sip: {tsl: 1}\n","name":"f.yaml"}`},
		{400, "POST", "/api/v1/config", `{"yaml":"calls: {max: 0}\n"}`},
		{409, "POST", "/api/v1/config/undo", `{}`},
		{404, "POST", "/api/v1/config/undo", `{"to":99}`},
		{404, "DELETE", "/api/v1/tokens/nothing", ""},
		{422, "POST", "/api/v1/tokens", `{"name":"x","scope":"all"}`},
		{404, "GET", "/api/v1/nothing", ""},
		{404, "GET", "/nothing", ""},
		{404, "DELETE", "/api/v1/status", ""},
	} {
		d.want(c.status, c.method, c.path, tok, c.body)
	}
	// Whatever was refused has changed nothing.
	var users []api.User
	if err := json.Unmarshal(d.want(200, "GET", "/api/v1/users", tok, ""), &users); err != nil || len(users) != 1 || len(users[0].Numbers) != 1 {
		t.Errorf("users: %+v %v", users, err)
	}
}

func TestLoginIsOnceAndLimited(t *testing.T) {
	d := openDoor(t)
	code := d.node.AdminCode.Code
	if len(code) != 23 {
		t.Fatalf("code %q", code)
	}
	d.want(401, "POST", "/api/v1/login", "", `{"code":"00000-00000-00000-00000","name":"guesser"}`)
	// As people type it.
	typed, _ := json.Marshal(api.Login{Code: strings.ToUpper(strings.ReplaceAll(code, "-", " ")), Name: "me"})
	d.want(200, "POST", "/api/v1/login", "", string(typed))
	d.want(401, "POST", "/api/v1/login", "", string(typed))
	for range 2 {
		d.want(401, "POST", "/api/v1/login", "", `{"code":"x","name":"guesser"}`)
	}
	d.want(503, "POST", "/api/v1/login", "", `{"code":"x","name":"guesser"}`)
}

func TestSecretsAreNotKept(t *testing.T) {
	d := openDoor(t)
	code, tok := d.node.AdminCode.Code, d.admin()
	d.want(201, "POST", "/api/v1/users", tok, `{"id":"alice","pin":"314159"}`)
	var added api.DeviceAdded
	if err := json.Unmarshal(d.want(201, "POST", "/api/v1/devices", tok, `{"id":"soft","user":"alice","auth":"digest-md5"}`), &added); err != nil || added.Account == nil || len(added.Account.Password) != 20 {
		t.Fatalf("%+v %v", added, err)
	}
	if got := added.Device.Auth; len(got) != 2 || got[0] != "digest-sha-256" || got[1] != "digest-md5" {
		t.Errorf("auth: %v", got)
	}
	dir := filepath.Dir(d.node.SocketPath())
	d.node.Close()
	names, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		b, err := os.ReadFile(filepath.Join(dir, n.Name()))
		if err != nil {
			continue // the socket
		}
		for what, secret := range map[string]string{"the code": strings.ReplaceAll(code, "-", ""), "the code as shown": code, "the token": tok, "the password": added.Account.Password, "the PIN": "314159"} {
			if bytes.Contains(b, []byte(secret)) {
				t.Errorf("%s is in %s", what, n.Name())
			}
		}
	}
}

func TestRevokedPasswordNeverWorksAgain(t *testing.T) {
	d := openDoor(t)
	tok := d.admin()
	d.want(201, "POST", "/api/v1/users", tok, `{"id":"alice"}`)
	d.want(201, "POST", "/api/v1/devices", tok, `{"id":"soft","user":"alice","auth":"digest-sha-256"}`)
	has := func() bool {
		_, err := d.node.Store.DigestSecret(t.Context(), "soft", d.node.Config.Domain, "digest-sha-256")
		return err == nil
	}
	if !has() {
		t.Fatal("there is no secret to begin with")
	}
	d.want(200, "POST", "/api/v1/devices/soft/revoke", tok, `{"reason":"lost"}`)
	d.want(204, "POST", "/api/v1/devices/soft/activate", tok, "")
	if has() {
		t.Error("the old password came back")
	}
	d.want(200, "POST", "/api/v1/devices/soft/code", tok, "")
	if !has() {
		t.Error("there is no new password")
	}
}

func TestAudit(t *testing.T) {
	d := openDoor(t)
	tok := d.admin()
	d.want(201, "POST", "/api/v1/users", tok, `{"id":"alice"}`)
	d.want(409, "POST", "/api/v1/users", tok, `{"id":"alice"}`)
	d.want(200, "GET", "/api/v1/users", tok, "")
	var all []api.AuditEntry
	if err := json.Unmarshal(d.want(200, "GET", "/api/v1/audit?limit=2", tok, ""), &all); err != nil || len(all) != 2 {
		t.Fatalf("%+v %v", all, err)
	}
	if e := all[1]; e.Who != "token test" || e.What != "user.add" || e.Target != "user alice" || e.Outcome != "done" {
		t.Errorf("success: %+v", e)
	}
	if e := all[0]; e.What != "user.add" || e.Outcome == "done" {
		t.Errorf("failure: %+v", e)
	}
}

func TestExceptionIsListed(t *testing.T) {
	d := openDoor(t)
	tok := d.admin()
	d.want(201, "POST", "/api/v1/users", tok, `{"id":"door"}`)
	d.want(201, "POST", "/api/v1/devices", tok, `{"id":"door-1","user":"door"}`)
	until := time.Now().Add(48 * time.Hour).UTC().Truncate(time.Second)
	body, _ := json.Marshal(api.NewException{Until: until, Reason: "replaced on Friday"})
	write := d.token(tok, "write")
	d.want(403, "PUT", "/api/v1/devices/door-1/exception", write, string(body))
	d.want(200, "PUT", "/api/v1/devices/door-1/exception", tok, string(body))
	var st api.Status
	if err := json.Unmarshal(d.want(200, "GET", "/api/v1/status", tok, ""), &st); err != nil || len(st.Exceptions) != 1 || st.Exceptions[0].Subject != "device door-1" || !st.Exceptions[0].Until.Equal(until) {
		t.Errorf("%+v %v", st.Exceptions, err)
	}
	if p := d.node.Roster.Device("door-1").Profile.Plain; p == nil || !p.Until.Equal(until) {
		t.Errorf("the roster does not know: %+v", p)
	}
	d.want(204, "DELETE", "/api/v1/devices/door-1/exception", write, "")
	if p := d.node.Roster.Device("door-1").Profile.Plain; p != nil {
		t.Errorf("it did not end: %+v", p)
	}
	// It goes with the device, so that another one of the same name has none.
	d.want(200, "PUT", "/api/v1/devices/door-1/exception", tok, string(body))
	d.want(200, "DELETE", "/api/v1/devices/door-1", tok, "")
	if b := d.want(200, "GET", "/api/v1/exceptions", tok, ""); strings.TrimSpace(string(b)) != "[]" {
		t.Errorf("exceptions: %s", b)
	}
}

func TestPublicPaths(t *testing.T) {
	d := openDoor(t)
	resp, b := d.ask("GET", "/anchor.pem", "", "")
	if resp.StatusCode != 200 || !bytes.Equal(b, d.node.Authority.RootPEM()) {
		t.Errorf("anchor: %s %s", resp.Status, b)
	}
	d.want(401, "GET", "/metrics", "", "")
	tok := d.token(d.admin(), "read")
	resp, b = d.ask("GET", "/metrics", tok, "")
	if resp.StatusCode != 200 {
		t.Fatalf("metrics: %s", resp.Status)
	}
	for _, m := range d.node.Admin.Metrics() {
		if !strings.Contains(string(b), "# TYPE "+m.Name+" "+m.Kind+"\n") {
			t.Errorf("the metric %s (%s) is not reported", m.Name, m.Kind)
		}
	}
}

func TestSocketNeedsNoToken(t *testing.T) {
	d := openDoor(t)
	st, err := os.Stat(d.node.SocketPath())
	if err != nil || st.Mode().Perm() != 0o600 {
		t.Fatalf("the socket: %v %v", st, err)
	}
	tr := &http.Transport{DialContext: dialUnix(d.node.SocketPath())}
	defer tr.CloseIdleConnections()
	c := &http.Client{Transport: tr, Timeout: 10 * time.Second}
	resp, err := c.Get("http://node/api/v1/status")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != 200 {
		t.Errorf("status over the socket: %s", resp.Status)
	}
}

func TestSlowBodyIsCut(t *testing.T) {
	d := openDoor(t)
	tok := d.admin()
	r, w := io.Pipe()
	defer w.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, "POST", d.base+"/api/v1/users", r)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+tok)
	req.Header.Set("Content-Type", "application/json")
	go func() { _, _ = w.Write([]byte(`{"id":`)) }() // and never the rest
	resp, err := d.http.Do(req)
	if err == nil {
		defer resp.Body.Close()
		if resp.StatusCode != 408 {
			t.Errorf("a body that never ends: %s", resp.Status)
		}
	} else if ctx.Err() != nil {
		t.Errorf("a body that never ends held the server: %v", err)
	}
}
