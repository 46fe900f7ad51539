package main

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// deskGuide returns what the guide of desk phones has in its blocks of a kind, such as "text cfg.xml".
func deskGuide(t *testing.T, kind string) []string {
	t.Helper()
	b, err := os.ReadFile("../../docs/guides/desk-phone.md")
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, m := range regexp.MustCompile("(?ms)^```"+regexp.QuoteMeta(kind)+"\n(.*?)^```").FindAllStringSubmatch(string(b), -1) {
		out = append(out, m[1])
	}
	if len(out) == 0 {
		t.Fatalf("the guide has no block %q", kind)
	}
	return out
}

// TestDeskGuide does what the guide says with its files.
func TestDeskGuide(t *testing.T) {
	cfg, wrong, said := deskGuide(t, "text cfg.xml")[0], deskGuide(t, "text wrong.xml")[0], deskGuide(t, "text lint")[0]
	dir := t.TempDir()
	t.Chdir(dir)
	for name, text := range map[string]string{"cfg.xml": cfg, "wrong.xml": wrong, "open.xml": strings.Replace(cfg, ">TLS<", ">UDP<", 1)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	run := func(want int, args ...string) string {
		t.Helper()
		var out, errs bytes.Buffer
		if code := execute(t.Context(), args, &out, &errs); code != want {
			t.Errorf("%s: exit code %d, want %d\n%s%s", strings.Join(args, " "), code, want, out.String(), errs.String())
		}
		return out.String()
	}
	if got := run(0, "phone", "lint", "cfg.xml"); got != "9 parameters: 0 errors, 0 dangerous, 0 warnings, 0 notes\n" {
		t.Error(got)
	}
	if got := run(0, "phone", "lint", "cfg.xml", "--json"); !strings.Contains(got, `"readable": true`) {
		t.Error(got)
	}
	if got := run(2, "phone", "lint", "wrong.xml"); got != said {
		t.Error(got)
	}
	run(0, "network", "phone", "cfg.xml")
	run(3, "phone", "lint", "none.xml")
	if got := run(6, "phone", "lint", "open.xml"); !strings.Contains(got, "open.xml:8: SIP_Transport_1_: danger:") {
		t.Error(got)
	}
}
