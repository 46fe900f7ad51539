package config

import (
	"testing"

	"ringfence"
)

// FuzzFlows reads anything as a configuration: it is refused with a fault that a person can act on, or it is valid.
func FuzzFlows(f *testing.F) {
	f.Add([]byte(""))
	f.Add([]byte("domain: voice.example.org\nsip:\n  tls: \"[::]:5061\"\nmedia:\n  first: 20000\n  last: 20100\n"))
	f.Add([]byte("domain: example.org\nunknown: 1\n"))
	f.Add([]byte("sip: {expires: 1s}\n"))
	f.Add([]byte("media: {first: 30000, last: 20000}\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := Parse(b, "test.yaml")
		if err != nil {
			if ringfence.KindOf(err) == ringfence.KindInternal {
				t.Fatalf("%q: %v is no fault of the file's author", b, err)
			}
			return
		}
		if err := c.Validate(); err != nil {
			t.Fatalf("%q was accepted and is not valid: %v", b, err)
		}
		if err := ringfence.CheckFlows(c.Flows()); err != nil {
			t.Fatalf("%q makes a flow table that contradicts itself: %v", b, err)
		}
	})
}
