package interop_test

import (
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
