package node_test

import (
	"context"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ringfence"
	"ringfence/internal/node"
	"ringfence/internal/node/config"
)

// TestOpenIDSecretFile holds the node to a secret that not everybody can read, before anybody signs in.
func TestOpenIDSecretFile(t *testing.T) {
	open := func(name string, mode os.FileMode, content string) error {
		t.Helper()
		file := filepath.Join(t.TempDir(), name)
		if content != "" {
			if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(file, mode); err != nil {
				t.Fatal(err)
			}
		}
		c := config.Default()
		c.SIP.TLS, c.API.HTTPS = netip.MustParseAddrPort("127.0.0.1:0"), netip.MustParseAddrPort("127.0.0.1:0")
		c.OAuth.Provider = config.OpenID{Issuer: "https://127.0.0.1:1/x", ClientID: "node", SecretFile: file}
		n, err := node.Open(context.WithoutCancel(t.Context()), node.Options{Config: c, Data: t.TempDir(), Log: slog.New(slog.DiscardHandler)})
		if err == nil {
			n.Close()
		}
		return err
	}
	for name, tc := range map[string]struct {
		mode    os.FileMode
		content string
	}{"missing": {}, "everybody's": {0o644, "secret\n"}, "two lines": {0o600, "a\nb\n"}, "only a line end": {0o600, "\n"}, "too long": {0o600, strings.Repeat("x", 5000)}} {
		if err := open("secret", tc.mode, tc.content); ringfence.KindOf(err) != ringfence.KindUnavailable || !strings.Contains(err.Error(), "oauth.provider.secret-file") || ringfence.HintOf(err) == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := open("secret", 0o640, "secret\r\n"); err != nil {
		t.Error(err)
	}
}

// TestOpenIDProviderIsAway has a node start without its provider: its page says so, goes on taking codes, and the node's tokens are good.
func TestOpenIDProviderIsAway(t *testing.T) {
	s := newSite(t, func(c *config.Config) {
		c.SIP.OAuth = netip.MustParseAddrPort("127.0.0.1:0")
		c.OAuth.Provider = config.OpenID{Issuer: "https://127.0.0.1:1/x", ClientID: "node"}
	})
	s.User("alice", "101")
	if f := s.flow("oidc"); f.Ports.First != 1 || f.Room != "trust/oidc" {
		t.Errorf("%+v", f)
	}
	var begun struct {
		User string `json:"user_code"`
	}
	if got := s.https("/oauth/device_authorization", url.Values{"client_id": {"ringfence"}}, &begun); got != 200 {
		t.Fatal(got)
	}
	if got := s.https("/oauth/provider", url.Values{"user_code": {begun.User}}, nil); got != http.StatusServiceUnavailable {
		t.Error(got)
	}
	p := s.signIn("alice-app")
	if m := p.register("Authorization: Bearer " + p.access); m.Status() != 200 {
		t.Error(m.Status())
	}
}
