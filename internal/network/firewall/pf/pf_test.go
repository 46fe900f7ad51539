package pf

import (
	"testing"

	"ringfence/internal/testkit/branch"
	"ringfence/internal/testkit/policies"
)

// tested is this firewall.
func tested() policies.Writer {
	return policies.Writer{Render: Render, Parse: Parse, Inside: "em1", Outside: "em0"}
}

// TestSets has both sets that are built in come back exactly.
func TestSets(t *testing.T) { tested().Sets(t) }

// TestRandom renders random policies and reads them back.
func TestRandom(t *testing.T) { tested().Random(t) }

// TestHost writes the firewall of one host.
func TestHost(t *testing.T) {
	tested().Exact(t, branch.Policy(t, "self"))
}
