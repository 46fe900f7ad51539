package sheet

import (
	"bytes"
	"encoding/csv"
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"

	"ringfence/internal/network/catalogue"
	"ringfence/internal/network/need"
)

func printed(t *testing.T, s *need.Set, format string) string {
	t.Helper()
	var b bytes.Buffer
	if err := Write(&b, s, format); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestEveryRow has each form show each row, with its ports.
func TestEveryRow(t *testing.T) {
	for _, name := range catalogue.Names() {
		s, err := catalogue.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, format := range Formats() {
			out := printed(t, s, format)
			for _, n := range s.Needs {
				if !strings.Contains(out, n.ID) {
					t.Errorf("%s as %s: %s is missing", name, format, n.ID)
				}
				for _, p := range n.ToPorts {
					if !strings.Contains(out, p.String()) {
						t.Errorf("%s as %s: %s lacks %s", name, format, n.ID, p)
					}
				}
			}
		}
		rows, err := csv.NewReader(strings.NewReader(printed(t, s, "csv"))).ReadAll()
		if err != nil || len(rows) != len(s.Needs)+1 {
			t.Errorf("%s: %d rows of CSV, %v", name, len(rows), err)
		}
	}
	if err := Write(io.Discard, &need.Set{}, "pdf"); err == nil {
		t.Error("a form that is not there")
	}
}

// TestSameEachTime has a set whose addresses are those of several roles printed the same each time, so that two prints can be compared.
func TestSameEachTime(t *testing.T) {
	s := &need.Set{Addresses: map[string]string{"calls": "all", "web": "all", "names": "all", "updates": "all"}, Groups: []need.NetworkGroup{{Name: "all", Text: "The service"}}}
	for range 50 {
		if out := printed(t, s, "text"); !strings.Contains(out, "The service (calls, names, updates, web)") {
			t.Fatal(out)
		}
	}
}

// TestHostile has what stands in a set break out of no form.
func TestHostile(t *testing.T) {
	s := &need.Set{Title: "<script>alert(1)</script>", Needs: []need.Need{{ID: "a|b", Purpose: "x\ny|<img src=x>", Transport: []string{"tcp"}, From: []string{"\"a"}, To: []string{"b"}}}}
	if out := printed(t, s, "html"); strings.Contains(out, "<script>") || strings.Contains(out, "<img") {
		t.Error(out)
	}
	for _, line := range strings.Split(printed(t, s, "markdown"), "\n") {
		if strings.HasPrefix(line, "| a") && strings.Count(strings.ReplaceAll(line, `\|`, ""), "|") != len(heading())+1 {
			t.Error(line)
		}
	}
	d := xml.NewDecoder(strings.NewReader(printed(t, s, "html")))
	d.Strict, d.AutoClose, d.Entity = false, xml.HTMLAutoClose, xml.HTMLEntity
	for {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
}
