package config_test

import (
	"strings"
	"testing"

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
