package interop_test

import (
	"bufio"
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"ringfence"
	"ringfence/internal/node/config"
	"ringfence/internal/state/store"
	"ringfence/internal/testkit"
)

// TestAuthlib has an OAuth client of somebody else sign in by code and by device, check the tokens with the published keys and by introspection,
// register with them, renew and revoke them.
func TestAuthlib(t *testing.T) {
	python := testkit.Need(t, "/usr/bin/python3", "python3")
	s := newSite(t, func(c *config.Config) {
		c.Domain = "localhost" // which resolves everywhere
		c.SIP.OAuth = netip.MustParseAddrPort("127.0.0.1:0")
	})
	s.User("alice", "101")
	var codes []string
	for _, id := range []ringfence.DeviceID{"alice-one", "alice-two"} {
		s.OK(s.Node.Store.CreateDevice(s.Ctx, store.Device{ID: id, User: "alice", Profile: store.DeviceProfile{Auth: []ringfence.Auth{ringfence.AuthToken}}}))
		code, _, err := s.Node.Enroll.NewCode(s.Ctx, id)
		s.OK(err)
		codes = append(codes, code)
	}
	s.OK(s.Node.Roster.Reload(s.Ctx))
	s.OK(s.Node.Store.CreateToken(s.Ctx, store.Token{ID: "t1", Name: "service", Hash: store.HashToken("reader"), Scopes: []string{"read"}}))
	script, err := filepath.Abs("testdata/oauth/signin.py")
	s.OK(err)
	port := func(a netip.AddrPort) string { return strconv.Itoa(int(a.Port())) }
	cmd := exec.CommandContext(s.Ctx, python, script, "https://localhost:"+port(s.HTTPS), port(s.Node.Bound("sip-oauth")), codes[0], codes[1], filepath.Join(s.home, "ca.pem"), "reader")
	cmd.Env = append(os.Environ(), "NO_PROXY=*", "PYTHONDONTWRITEBYTECODE=1")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v (python3-authlib and python3-requests must be installed)\n%s", err, out)
	}
	for _, want := range []string{"code: signed in", "token: of alice-one", "device: signed in", "sip: registered", "introspection: active", "refresh: renewed", "revoke: ended"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("it did not say %q:\n%s", want, out)
		}
	}
}

// openID is a provider that no one here wrote, in a process of its own.
type openID struct {
	*site
	cmd     *exec.Cmd
	issuer  string
	python  string
	anchors string
}

// newOpenID starts a provider and a node that signs people in there.
func newOpenID(t *testing.T, secret string, change func(*config.OpenID)) *openID {
	t.Helper()
	o := &openID{python: testkit.Need(t, "/usr/bin/python3", "python3")}
	dir := t.TempDir()
	write := func(name string, b []byte) string {
		t.Helper()
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	authority := testkit.NewAuthority("the provider's")
	pair := authority.Issue("localhost")
	key, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	var chain []byte
	for _, der := range pair.Certificate {
		chain = append(chain, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	root := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: authority.Root()})
	script, err := filepath.Abs("testdata/oauth/provider.py")
	if err != nil {
		t.Fatal(err)
	}
	redirect := filepath.Join(dir, "redirect")
	o.cmd = exec.CommandContext(t.Context(), o.python, script, write("provider.pem", chain), write("provider.key", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})), secret, redirect)
	o.cmd.Env = append(os.Environ(), "PYTHONDONTWRITEBYTECODE=1")
	var said bytes.Buffer
	o.cmd.Stderr = &said
	out, err := o.cmd.StdoutPipe()
	if err == nil {
		err = o.cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(o.stop)
	port, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		o.stop()
		t.Fatalf("%v (python3-authlib and python3-flask must be installed)\n%s", err, said.String())
	}
	o.issuer = "https://localhost:" + strings.TrimSpace(port)
	o.site = newSite(t, func(c *config.Config) {
		c.Domain = "localhost"
		c.Observe.Authorities = write("provider-root.pem", root)
		c.OAuth.Provider = config.OpenID{Issuer: o.issuer, ClientID: "node"}
		if secret != "" {
			c.OAuth.Provider.SecretFile = write("secret", []byte(secret+"\n"))
		}
		if change != nil {
			change(&c.OAuth.Provider)
		}
	})
	o.anchors = write("anchors.pem", append(root, o.Node.Authority.RootPEM()...))
	write("redirect", []byte("https://localhost:"+strconv.Itoa(int(o.HTTPS.Port()))+"/oauth/provider/callback"))
	o.User("alice", "101")
	for _, id := range []ringfence.DeviceID{"alice-one", "alice-two"} {
		o.OK(o.Node.Store.CreateDevice(o.Ctx, store.Device{ID: id, User: "alice", Profile: store.DeviceProfile{Auth: []ringfence.Auth{ringfence.AuthToken}}}))
	}
	o.Identity("alice", "alice-desk") // which proves itself otherwise and is never offered
	return o
}

func (o *openID) stop() {
	_ = o.cmd.Process.Kill()
	_ = o.cmd.Wait()
}

// run has the browser, the person and the program do something, and compares what they say.
func (o *openID) run(task string, want ...string) {
	o.Helper()
	script, err := filepath.Abs("testdata/oauth/openid.py")
	o.OK(err)
	cmd := exec.CommandContext(o.Ctx, o.python, script, task, "https://localhost:"+strconv.Itoa(int(o.HTTPS.Port())), o.issuer, o.anchors)
	cmd.Env = append(os.Environ(), "NO_PROXY=*", "PYTHONDONTWRITEBYTECODE=1")
	out, err := cmd.CombinedOutput()
	if err != nil || strings.TrimSpace(string(out)) != strings.Join(want, "\n") {
		o.Errorf("%s: %v, want %q\n%s", task, err, want, out)
	}
}

// TestOpenIDProvider signs people in at a provider that no one here wrote: with and without a secret, by claims of the ID token and of
// userinfo; and says so when it is down.
func TestOpenIDProvider(t *testing.T) {
	all := []string{"program: signed in", "device: signed in", "key: rolled over", "another browser: refused", "nobody: refused"}
	t.Run("public client, claims of userinfo", func(t *testing.T) {
		o := newOpenID(t, "", nil)
		o.run("sign", all...)
	})
	t.Run("secret, verified address", func(t *testing.T) {
		o := newOpenID(t, "correct-horse.battery_staple~1", func(p *config.OpenID) { p.Claim, p.Strip = "email", "@example.org" })
		o.run("sign", all...)
		o.run("mallory", "mallory: refused")
	})
	t.Run("another name than it gives itself", func(t *testing.T) {
		newOpenID(t, "", func(p *config.OpenID) { p.Issuer += "/" }).run("lies", "lies: said so")
	})
	t.Run("down", func(t *testing.T) {
		o := newOpenID(t, "", nil)
		o.stop()
		o.run("down", "down: said so")
	})
}
