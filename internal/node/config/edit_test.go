package config

import (
	"strings"
	"testing"

	"ringfence/internal/trust/tlspolicy"
)

// TestWithTLS changes the tree in files of several shapes: all else stays as it was.
func TestWithTLS(t *testing.T) {
	tree := tlspolicy.Tree{"/interface/sip": {Min: "1.3", Groups: []string{"x25519"}}}
	const section = "tls:\n  /interface/sip:\n    min: \"1.3\"\n    groups:\n    - x25519\n"
	for name, x := range map[string]struct{ before, after string }{
		"nothing":        {"", section},
		"other keys":     {"# ours\ndomain: example.com # the domain\n\nsip: {expires: 2h}", "# ours\ndomain: example.com # the domain\n\nsip: {expires: 2h}\n" + section},
		"at the end":     {"domain: example.com\ntls:\n  # strict\n  /system: {min: \"1.3\"}\n", "domain: example.com\n" + section},
		"in the middle":  {"domain: example.com\ntls: {/system: {min: \"1.3\"}}\n# who we are\nname: Example\nnode: n1\n", "domain: example.com\n" + section + "# who we are\nname: Example\nnode: n1\n"},
		"the only key":   {"tls:\n  /system: {min: \"1.3\"}", section},
		"at the top":     {"tls: {}\nname: Example\n", section + "name: Example\n"},
		"comments alone": {"# nothing yet\n", "# nothing yet\n" + section},
	} {
		got, err := withTLS(x.before, tree)
		if err != nil || got != x.after {
			t.Errorf("%s: %v\n%s\nwant\n%s", name, err, got, x.after)
			continue
		}
		c, err := Parse([]byte(got), "test")
		if err != nil || c.TLS["/interface/sip"].Min != "1.3" || len(c.TLS) != 1 {
			t.Errorf("%s: %v %v", name, err, c.TLS)
		}
		gone, err := withTLS(got, nil)
		if err != nil || strings.Contains(gone, "tls:") {
			t.Errorf("%s: %v\n%s", name, err, gone)
		}
	}
	if _, err := withTLS("{domain: example.com}", tree); err == nil {
		t.Error("a file in one line was changed")
	}
}
