package iosacl

import (
	"math/rand/v2"
	"strings"
	"testing"

	"ringfence/internal/network/box"
	"ringfence/internal/network/site"
	"ringfence/internal/testkit/policies"
)

// tested is this firewall.
func tested() policies.Writer {
	return policies.Writer{Render: Render, Parse: Parse, Inside: "GigabitEthernet0/1", Outside: "GigabitEthernet0/0", Named: true}
}

// TestSets has both sets that are built in come back exactly.
func TestSets(t *testing.T) { tested().Sets(t) }

// TestRandom renders random policies and reads them back.
func TestRandom(t *testing.T) { tested().Random(t) }

// host is a policy for one host, which no network device has.
func TestRefuses(t *testing.T) {
	if _, _, err := Render(&site.Policy{Set: "self", Host: true, Interfaces: &box.Interfaces{}}); err == nil || !strings.Contains(err.Error(), "one host") {
		t.Error(err)
	}
	p := policies.Random(rand.New(rand.NewPCG(1, 2)), "", "")
	if _, _, err := Render(p); err == nil || !strings.Contains(err.Error(), "names none") {
		t.Error(err)
	}
}
