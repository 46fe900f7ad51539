package config

import (
	"slices"
	"strings"
	"testing"

	"ringfence"
)

func TestPublicNames(t *testing.T) {
	const good = "trust:\n  public:\n    directory: https://acme.example.net/dir\n    names: [pbx.example.com]\n"
	c, err := Parse([]byte(good), "f")
	if err != nil {
		t.Fatal(err)
	}
	find := func(flows []ringfence.Flow, name string) *ringfence.Flow {
		i := slices.IndexFunc(flows, func(f ringfence.Flow) bool { return f.Name == name })
		if i < 0 {
			return nil
		}
		return &flows[i]
	}
	if f := find(c.Flows(), "public-http"); f == nil || f.Direction != ringfence.Listens || f.Ports.First != 80 || f.TLS != ringfence.TLSNone || find(c.Flows(), "public-tls") != nil {
		t.Errorf("%+v", f)
	}
	if f := find(c.Flows(), "public-acme"); f == nil || f.Direction != ringfence.Dials || f.Ports.First != 443 || f.TLS != ringfence.TLSServer || find(c.Flows(), "dns") == nil {
		t.Errorf("%+v", f)
	}
	c, err = Parse([]byte(good+"    challenge: tls-alpn-01\n    listen: 192.0.2.1:8443\napi: {https: \"192.0.2.2:443\"}\n"), "f")
	if err != nil {
		t.Fatal(err)
	}
	if f := find(c.Flows(), "public-tls"); f == nil || f.Ports.First != 8443 || f.TLS != ringfence.TLSServer || c.ListensTLS()["public-tls"] != c.Trust.Public.Listen {
		t.Errorf("%+v", f)
	}
	if flows := Default().Flows(); find(flows, "public-http") != nil || find(flows, "public-acme") != nil {
		t.Error("there are flows without a directory")
	}
	for text, want := range map[string]string{
		strings.Replace(good, "https:", "http:", 1):                       "is no https URL",
		strings.Replace(good, "https://", "https://me:secret@", 1):        "a URL with a name or password",
		strings.Replace(good, "acme.example.net", "a.example.net:0", 1):   "is no https URL",
		strings.Replace(good, "pbx.example.com", "\"*.example.com\"", 1):  "dns-01 alone",
		strings.Replace(good, "pbx.example.com", "192.0.2.1", 1):          "is no public host name",
		strings.Replace(good, "pbx.example.com", "localhost", 1):          "is no public host name",
		strings.Replace(good, "pbx.example.com", "PBX.example.com", 1):    "is no public host name",
		strings.Replace(good, "pbx.example.com", "-x.example.com", 1):     "is no public host name",
		strings.Replace(good, "pbx", "a.example.com, a", 1):               "comes twice",
		strings.Replace(good, "[pbx.example.com]", "[]", 1):               "1 to 100 names",
		good + "    challenge: dns-01\n":                                  "neither http-01 nor tls-alpn-01",
		good + "    alias: node\n":                                        "cannot be an alias",
		good + "    contact: [\"mailto:x@example.com, y\"]\n":             "is no mail address",
		good + "    binding: {id: x}\n":                                   "belong together",
		"trust: {public: {names: [pbx.example.com]}}\n":                   "a directory is needed",
		good + "    challenge: tls-alpn-01\napi: {https: \"[::]:443\"}\n": "both listen on tcp 443",
	} {
		if _, err := Parse([]byte(text), "f"); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s\n%v, want %q", text, err, want)
		}
	}
}
