package config_test

import (
	"strings"
	"testing"

	"ringfence"
	"ringfence/internal/node/config"
)

func TestOAuthClients(t *testing.T) {
	for text, want := range map[string]string{
		"[{id: softphone, redirects: [\"http://127.0.0.1/done\", \"https://a.example.org/cb\", \"org.example.app:/cb\"]}]": "",
		"[{id: ringfence}]":  "oauth.clients[0].id",
		"[{id: a}, {id: a}]": "oauth.clients[1].id",
		"[{id: \"a b\"}]":    "oauth.clients[0].id",
		"[{id: a, redirects: [\"http://a.example.org/cb\"]}]":    "in the clear",
		"[{id: a, redirects: [\"http://localhost/cb\"]}]":        "in the clear",
		"[{id: a, redirects: [\"https://a.example.org/cb#x\"]}]": "redirects[0]",
		"[{id: a, redirects: [\"https://u@a.example.org/cb\"]}]": "redirects[0]",
		"[{id: a, redirects: [\"javascript:alert(1)\"]}]":        "redirects[0]",
		"[{id: a, redirects: [\"/cb\"]}]":                        "redirects[0]",
		"[{id: a, redirects: [\"https:///cb\"]}]":                "names no host",
	} {
		_, err := config.Parse([]byte("oauth:\n  clients: "+text+"\n"), "test.yaml")
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

func TestOpenIDProvider(t *testing.T) {
	for text, want := range map[string]string{
		"{issuer: \"https://login.example.org/realms/staff\", client-id: ringfence}":                                         "",
		"{issuer: \"https://login.example.org:8444\", client-id: a, secret-file: /x, claim: email, strip: \"@example.org\"}": "",
		"{issuer: \"https://login.example.org\", client-id: a, claim: \"https://example.org/claims/name\"}":                  "",
		"{client-id: a}": "oauth.provider.issuer",
		"{issuer: \"http://login.example.org\", client-id: a}":                                        "oauth.provider.issuer",
		"{issuer: \"https://login.example.org?x=1\", client-id: a}":                                   "oauth.provider.issuer",
		"{issuer: \"https://login.example.org#\", client-id: a}":                                      "oauth.provider.issuer",
		"{issuer: \"https://u@login.example.org\", client-id: a}":                                     "oauth.provider.issuer",
		"{issuer: \"https://login.example.org:70000\", client-id: a}":                                 "oauth.provider.issuer",
		"{issuer: \"https://login.example.org:0\", client-id: a}":                                     "oauth.provider.issuer",
		"{issuer: \"https:///x\", client-id: a}":                                                      "oauth.provider.issuer",
		"{issuer: \"https://login.example.org\"}":                                                     "oauth.provider.client-id",
		"{issuer: \"https://login.example.org\", client-id: \"a b\"}":                                 "oauth.provider.client-id",
		"{issuer: \"https://login.example.org\", client-id: a, claim: \"a b\"}":                       "oauth.provider.claim",
		"{issuer: \"https://login.example.org\", client-id: a, claim: email}":                         "oauth.provider.strip",
		"{issuer: \"https://login.example.org\", client-id: a, claim: email, strip: \"example.org\"}": "oauth.provider.strip",
		"{issuer: \"https://login.example.org\", client-id: a, secret: x}":                            "secret",
	} {
		_, err := config.Parse([]byte("oauth:\n  provider: "+text+"\n"), "test.yaml")
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
	c := config.Default()
	c.OAuth.Provider = config.OpenID{Issuer: "https://login.example.org/realms/staff", ClientID: "a"}
	flow := func(name string) (out ringfence.Flow) {
		for _, f := range c.Flows() {
			if f.Name == name {
				out = f
			}
		}
		return out
	}
	if f := flow("oidc"); f.Direction != ringfence.Dials || f.Ports.First != 443 || f.Ports.Last != 443 || f.TLS != ringfence.TLSServer || flow("dns").Name == "" {
		t.Errorf("%+v", f)
	}
	// Its flow is declared when a node starts, so it takes a restart, and what is live is not held up by it.
	old := config.Default()
	next := c
	next.OAuth.Clients = []config.OAuthClient{{ID: "a"}}
	if m := config.Merge(old, next); m.OAuth.Provider.Issuer != "" || len(m.OAuth.Clients) != 1 {
		t.Errorf("%+v", m.OAuth)
	}
	changes, err := config.Diff(old, next)
	if err != nil {
		t.Fatal(err)
	}
	for _, ch := range changes {
		if ch.Restart != strings.HasPrefix(ch.Key, "oauth.provider") {
			t.Errorf("%+v", ch)
		}
	}
	if len(changes) < 2 {
		t.Errorf("%+v", changes)
	}
	for _, f := range config.Default().Flows() {
		if f.Name == "oidc" {
			t.Error("a flow to nobody")
		}
	}
}
