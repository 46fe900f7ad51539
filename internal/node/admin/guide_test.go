package admin_test

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// TestMetricsAreDocumented holds the list of metrics in the guide to what is reported.
func TestMetricsAreDocumented(t *testing.T) {
	b, err := os.ReadFile("../../../docs/guides/cli.md")
	if err != nil {
		t.Fatal(err)
	}
	metrics := openDoor(t).node.Admin.Metrics()
	for _, m := range metrics {
		if row := fmt.Sprintf("| `%s` | %s | %s |\n", m.Name, m.Kind, m.Help); !strings.Contains(string(b), row) {
			t.Errorf("the guide lacks: %s", row)
		}
	}
	if n := strings.Count(string(b), "| `ringfence_"); n != len(metrics) {
		t.Errorf("the guide has %d metrics and the node %d", n, len(metrics))
	}
}
