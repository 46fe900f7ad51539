package ringfence_test

import (
	"encoding/json"
	"fmt"
	"go/ast"
	"net/url"
	"os"
	"os/exec"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"ringfence/internal/node/config"
)

// generated replaces or compares what stands between <!-- name --> and <!-- /name --> in a document.
func generated(t *testing.T, file, name, want string) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	from, to := "<!-- "+name+" -->\n", "<!-- /"+name+" -->"
	head, rest, ok := strings.Cut(string(b), from)
	got, tail, ok2 := strings.Cut(rest, to)
	switch {
	case !ok || !ok2:
		t.Errorf("%s has no place for the table: %s ... %s", file, strings.TrimSpace(from), to)
	case *update:
		if err := os.WriteFile(file, []byte(head+from+want+to+tail), 0o644); err != nil {
			t.Fatal(err)
		}
	case got != want:
		t.Errorf("%s: the table %q is out of date; run make tables. It should be:\n%s", file, name, want)
	}
}

// TestRoomTable holds ARCHITECTURE.md to the first sentences of the package comments.
func TestRoomTable(t *testing.T) {
	h := open(t)
	var b strings.Builder
	b.WriteString("| Room | What it is for |\n|---|---|\n")
	for _, room := range h.rooms() {
		sentence := h.purpose(t, room)
		if isAnnex(room) || sentence == "" {
			continue
		}
		fmt.Fprintf(&b, "| `%s` | %s%s |\n", room, strings.ToUpper(sentence[:1]), sentence[1:])
	}
	generated(t, "ARCHITECTURE.md", "rooms", b.String())
}

// TestFlowTable holds docs/flows.md to the flows that a node with the default configuration declares.
func TestFlowTable(t *testing.T) {
	var b strings.Builder
	b.WriteString("| Flow | Direction | Transport | Address | Ports | Peers | DSCP | TLS | Room | Purpose |\n|---|---|---|---|---|---|---|---|---|---|\n")
	for _, f := range config.Default().Flows() {
		addr := f.Path
		if f.Addr.IsValid() {
			addr = f.Addr.String()
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | `%s` | %s | %s | %d | %s | `%s` | %s |\n", f.Name, f.Direction, f.Transport, addr, f.Ports, f.Peers, f.DSCP, f.TLS, f.Room, f.Purpose)
	}
	generated(t, "docs/flows.md", "flows", b.String())
}

// documents returns the Markdown files of the repository.
func (h *house) documents() (names []string) {
	for _, p := range h.all {
		if path.Ext(p) == ".md" && !strings.Contains(p, "testdata/") {
			names = append(names, p)
		}
	}
	return names
}

type block struct {
	line int
	kind string // "sh", "yaml", ...
	text string
}

// blocks returns the fenced code blocks of a document.
func blocks(t *testing.T, file string) (out []block) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var open *block
	n := 0
	for line := range strings.Lines(string(b)) {
		n++
		rest, fence := strings.CutPrefix(strings.TrimSpace(line), "```")
		switch {
		case fence && open == nil:
			open = &block{line: n, kind: rest}
		case fence:
			out, open = append(out, *open), nil
		case open != nil:
			open.text += line
		}
	}
	if open != nil {
		t.Errorf("%s:%d: the code block has no end", file, open.line)
	}
	return out
}

// TestDocumentedCommands checks every code block: a command in it exists, a configuration in it is valid.
func TestDocumentedCommands(t *testing.T) {
	h := open(t)
	makefile, verbs := makeTargets(t), h.verbs()
	for _, file := range h.documents() {
		for _, b := range blocks(t, file) {
			where := fmt.Sprintf("%s:%d", file, b.line)
			kind, mark, _ := strings.Cut(b.kind, " ") // "text config": other tests use blocks by such names
			switch {
			case kind == "sh":
				planned := false
				for line := range strings.Lines(b.text) {
					if missing := missingCommand(strings.TrimSpace(line), makefile, verbs); missing != "" {
						planned = true
						if mark != "planned" {
							t.Errorf("%s: there is no %q; mark the block \"sh planned\" and say so, or correct it", where, missing)
						}
					}
				}
				if mark == "planned" && !planned {
					t.Errorf("%s: every command in this block exists now; remove the mark \"planned\" and what the text says about it", where)
				}
			case b.kind == "yaml ringfence":
				if _, err := config.Parse([]byte(b.text), where); err != nil {
					t.Errorf("%s: the configuration is refused: %v", where, err)
				}
			case kind == "json":
				if !json.Valid([]byte(b.text)) {
					t.Errorf("%s: this is not JSON", where)
				}
			case slices.Contains([]string{"text", "ini", "mermaid", "go", "sql"}, kind):
			default:
				t.Errorf("%s: code block of kind %q: use sh, json, text, ini, mermaid, go, sql or \"yaml ringfence\", so that it can be checked", where, b.kind)
			}
		}
	}
}

// missingCommand looks up a documented command, make targets in the Makefile and verbs of ours in the command line, and returns
// what does not exist.
func missingCommand(line string, makefile []string, verbs map[string]bool) string {
	words := strings.Fields(line)
	if len(words) > 0 && words[0] == "sudo" {
		words = words[1:]
	}
	if len(words) < 2 {
		return ""
	}
	switch path.Base(words[0]) {
	case "make":
		for _, w := range words[1:] {
			if strings.HasPrefix(w, "#") {
				break
			}
			if !strings.Contains(w, "=") && !slices.Contains(makefile, w) {
				return "make " + w
			}
		}
	case "ringfence":
		if !verbs[words[1]] && !strings.HasPrefix(words[1], "-") {
			return "ringfence " + words[1]
		}
	}
	return ""
}

func makeTargets(t *testing.T) (names []string) {
	t.Helper()
	b, err := os.ReadFile("Makefile")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`(?m)^([a-z][a-z-]*):.*?(##.*)?$`).FindAllStringSubmatch(string(b), -1) {
		if m[2] == "" {
			t.Errorf("Makefile: the target %q does not say what it does; add ## and a few words", m[1])
		}
		names = append(names, m[1])
	}
	return names
}

// verbs returns the first words of all Use strings in the command line, and of all calls of its helper group(use, …).
func (h *house) verbs() map[string]bool {
	found := map[string]bool{}
	for _, f := range h.files {
		if !strings.HasPrefix(f.room, "cmd/") || f.test {
			continue
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			var text ast.Expr
			switch n := n.(type) {
			case *ast.KeyValueExpr:
				if isName(n.Key, "Use") {
					text = n.Value
				}
			case *ast.CallExpr:
				if isName(n.Fun, "group") && len(n.Args) > 0 {
					text = n.Args[0]
				}
			}
			if lit, ok := text.(*ast.BasicLit); ok {
				if use, err := strconv.Unquote(lit.Value); err == nil && use != "" {
					found[strings.Fields(use)[0]] = true
				}
			}
			return true
		})
	}
	return found
}

// TestReadmesAgree holds the Korean README to the same commands as the English one.
func TestReadmesAgree(t *testing.T) {
	commands := func(file string) (all []string) {
		for _, b := range blocks(t, file) {
			for line := range strings.Lines(b.text) {
				code, _, _ := strings.Cut(line, "#") // comments are in the reader's language
				all = append(all, strings.TrimSpace(code))
			}
		}
		return all
	}
	english, korean := commands("README.md"), commands("README.ko.md")
	if !slices.Equal(english, korean) {
		t.Errorf("the commands of README.md and README.ko.md differ:\n%q\n%q", english, korean)
	}
	for _, must := range []string{"make demo", "make test"} {
		if !slices.Contains(english, must) {
			t.Errorf("README.md does not tell about %q", must)
		}
	}
}

// TestLinks checks that what a document points at is there: relative links, and in the journeys every file and function.
func TestLinks(t *testing.T) {
	h := open(t)
	declared := map[string]bool{}
	for _, f := range h.files {
		for _, d := range f.ast.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok {
				declared[fn.Name.Name] = true
			}
		}
	}
	link := regexp.MustCompile(`\]\(([^)\s]+)\)`)
	code := regexp.MustCompile("`([A-Za-z0-9_./]+\\.(?:go|sql)|[A-Za-z0-9_./]+\\(\\))`")
	for _, file := range h.documents() {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range link.FindAllStringSubmatch(string(b), -1) {
			u, err := url.Parse(m[1])
			if err != nil || u.Scheme != "" || u.Path == "" {
				continue
			}
			if _, err := os.Stat(path.Join(path.Dir(file), u.Path)); err != nil {
				t.Errorf("%s links to %s, which is not there", file, m[1])
			}
		}
		if !strings.HasPrefix(file, "docs/journeys/") {
			continue
		}
		for _, m := range code.FindAllStringSubmatch(string(b), -1) {
			if name, isFunc := strings.CutSuffix(m[1], "()"); isFunc {
				if _, after, dotted := strings.Cut(name, "."); dotted {
					name = after[strings.LastIndex(after, ".")+1:]
				}
				if !declared[name] {
					t.Errorf("%s names the function %s, which does not exist", file, m[1])
				}
				continue
			}
			_, inside := os.Stat(path.Join("internal", m[1]))
			if _, top := os.Stat(m[1]); inside != nil && top != nil {
				t.Errorf("%s names the file %s, which does not exist", file, m[1])
			}
		}
	}
}

// TestNoMachinePaths keeps the repository free of the places where it was written and of the names of registries.
func TestNoMachinePaths(t *testing.T) {
	h := open(t)
	slash := "/"
	forbidden := []string{slash + "work/", slash + "root/", slash + "tmp/wt", "proxy.golang" + ".org", "sum.golang" + ".org", "registry." + "npmjs", "deb.debian" + ".org", "pypi" + ".org"}
	if out, err := exec.Command("go", "env", "GOPROXY").Output(); err == nil {
		for _, p := range strings.FieldsFunc(strings.TrimSpace(string(out)), func(r rune) bool { return r == ',' || r == '|' }) {
			if u, err := url.Parse(p); err == nil && u.Hostname() != "" {
				forbidden = append(forbidden, u.Hostname())
			}
		}
	}
	for _, file := range h.all {
		info, err := os.Stat(file)
		if err != nil || info.Size() > 4<<20 {
			continue
		}
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, word := range forbidden {
			if i := strings.Index(string(b), word); i >= 0 {
				t.Errorf("%s:%d: %q does not belong in the repository", file, 1+strings.Count(string(b[:i]), "\n"), word)
			}
		}
	}
}
