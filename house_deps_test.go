package ringfence_test

import (
	"bytes"
	"flag"
	"fmt"
	"go/ast"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write deps.txt and the generated tables of the documents instead of checking them")

// licences that may be linked into the binary.
func licences() []string {
	return []string{"MIT", "ISC", "BSD-2-Clause", "BSD-3-Clause", "Apache-2.0", "MPL-2.0"}
}

const ledgerHead = `# The dependency ledger: every module that is linked into the binary, with its licence and the reason it is there.
# A test compares it with what the linker takes and with the licence file of each module; "make deps" writes it anew and
# leaves the reason of a new module open, which the test refuses until somebody gives one.
`

type dependency struct{ module, version, licence, why string }

// linked asks the go command which modules the binary takes code from, and reads their licences.
func linked(t *testing.T) map[string]dependency {
	t.Helper()
	cmd := exec.Command("go", "list", "-deps", "-f", "{{with .Module}}{{if not .Main}}{{.Path}}\t{{.Version}}\t{{.Dir}}{{end}}{{end}}", "./cmd/ringfence")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.String())
	}
	found := map[string]dependency{}
	for line := range strings.Lines(string(out)) {
		f := strings.Split(strings.TrimSpace(line), "\t")
		if len(f) != 3 {
			continue
		}
		if _, seen := found[f[0]]; !seen {
			found[f[0]] = dependency{module: f[0], version: f[1], licence: licenceOf(t, f[2])}
		}
	}
	return found
}

// licenceOf names the licence in a module's folder by the words that make it that licence.
func licenceOf(t *testing.T, dir string) string {
	t.Helper()
	for _, pattern := range []string{"LICEN[CS]E*", "licen[cs]e*", "COPYING*"} {
		names, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			b, err := os.ReadFile(name)
			if err != nil {
				continue
			}
			text := strings.Join(strings.Fields(string(b)), " ")
			for _, row := range [][2]string{
				{"Mozilla Public License Version 2.0", "MPL-2.0"}, {"Mozilla Public License, version 2.0", "MPL-2.0"},
				{"Apache License Version 2.0", "Apache-2.0"},
				{"Permission is hereby granted, free of charge", "MIT"},
				{"Permission to use, copy, modify, and/or distribute this software", "ISC"},
				{"Permission to use, copy, modify, and distribute this software", "ISC"},
				{"Neither the name", "BSD-3-Clause"},
				{"Redistribution and use in source and binary forms", "BSD-2-Clause"},
			} {
				if strings.Contains(text, row[0]) {
					return row[1]
				}
			}
		}
	}
	return "unknown"
}

func readLedger(t *testing.T) map[string]dependency {
	t.Helper()
	b, err := os.ReadFile("deps.txt")
	if err != nil && !*update {
		t.Fatal(err)
	}
	rows := map[string]dependency{}
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) == 0 || f[0] == "#" {
			continue
		}
		if len(f) < 3 {
			t.Fatalf("deps.txt: %q is not module, version, licence, reason", strings.TrimSpace(line))
		}
		rows[f[0]] = dependency{f[0], f[1], f[2], strings.Join(f[3:], " ")}
	}
	return rows
}

// TestDependencyLedger compares deps.txt with the modules whose code is in the binary.
func TestDependencyLedger(t *testing.T) {
	found, ledger := linked(t), readLedger(t)
	if *update {
		var b strings.Builder
		b.WriteString(ledgerHead)
		for _, name := range slices.Sorted(maps.Keys(found)) {
			d := found[name]
			b.WriteString(strings.TrimRight(fmt.Sprintf("%-38s %-40s %-13s %s", d.module, d.version, d.licence, ledger[name].why), " ") + "\n")
		}
		if err := os.WriteFile("deps.txt", []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
		ledger = readLedger(t)
	}
	for name, d := range found {
		row, ok := ledger[name]
		switch {
		case !ok:
			t.Errorf("%s %s is linked in and not in deps.txt; run make deps and give the reason", name, d.version)
		case row.version != d.version || row.licence != d.licence:
			t.Errorf("deps.txt has %s %s %s, the binary has %s %s; run make deps", name, row.version, row.licence, d.version, d.licence)
		case !slices.Contains(licences(), d.licence):
			t.Errorf("%s is under %q, which may not be linked", name, d.licence)
		case row.why == "":
			t.Errorf("deps.txt does not say why %s is there", name)
		}
	}
	for name := range ledger {
		if _, ok := found[name]; !ok {
			t.Errorf("deps.txt has %s, which is not linked in; run make deps", name)
		}
	}
}

// TestJudgesAreInstalled holds scripts/install-test-deps.sh to what tests ask for by testkit.Need(t, program, package).
func TestJudgesAreInstalled(t *testing.T) {
	h := open(t)
	script, err := os.ReadFile("scripts/install-test-deps.sh")
	if err != nil {
		t.Fatal(err)
	}
	packages := map[string]bool{}
	for line := range strings.Lines(string(script)) {
		f := strings.Fields(line)
		if len(f) >= 4 && strings.HasPrefix(f[0], "/") {
			packages[f[1]] = true
			if _, err := os.Stat(f[2]); err != nil && !strings.HasPrefix(f[2], "test/") {
				t.Errorf("the package %s is for %s, which does not exist", f[1], f[2])
			}
		}
	}
	if len(packages) < 3 {
		t.Fatalf("the script lists only %d packages", len(packages))
	}
	asked := 0
	for _, f := range h.files {
		if !f.test {
			continue
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok || !isCall(call, "testkit", "Need") {
				return true
			}
			asked++
			if lit, ok := call.Args[2].(*ast.BasicLit); ok {
				if name, err := strconv.Unquote(lit.Value); err == nil && !packages[name] {
					t.Errorf("%s needs the package %s; add it to scripts/install-test-deps.sh", h.fset.Position(call.Pos()), name)
				}
			}
			return true
		})
	}
	if asked < 3 {
		t.Errorf("tests ask for %d judges only", asked)
	}
}
