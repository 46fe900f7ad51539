package main

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"ringfence"
)

const guide = "../../docs/guides/cli.md"

// verbs returns every command of the tree in order, without those that cobra adds for itself.
func verbs(cmd *cobra.Command) (out []*cobra.Command) {
	for _, c := range cmd.Commands() {
		if c.Hidden || c.Name() == "help" || c.Name() == "completion" && cmd != c.Root() {
			continue
		}
		out = append(append(out, c), verbs(c)...)
	}
	return out
}

// TestEveryVerbIsExplained holds each verb to a description and an example of its own.
func TestEveryVerbIsExplained(t *testing.T) {
	root := newRootCommand()
	for _, c := range verbs(root) {
		name := c.CommandPath()
		if c.Short == "" || c.Long == "" || c.Example == "" {
			t.Errorf("%s needs Short, Long and Example", name)
		}
		if !strings.Contains(c.Example, "ringfence ") {
			t.Errorf("%s: the example shows no command", name)
		}
		for line := range strings.Lines(c.Example) {
			if m := regexp.MustCompile(`ringfence ([a-z][^|>#)]*)`).FindStringSubmatch(line); m != nil {
				found, _, err := root.Find(strings.Fields(m[1]))
				if err != nil || found == root {
					t.Errorf("%s: the example uses a verb that does not exist: %s", name, line)
				}
			}
		}
		if c.Name() == "list" && c.Flags().Lookup("json") == nil {
			t.Errorf("%s is a listing without --json", name)
		}
		c.LocalFlags().VisitAll(func(f *pflag.Flag) {
			if f.Usage == "" {
				t.Errorf("%s --%s has no description", name, f.Name)
			}
			if strings.Contains(f.Usage, "`") { // which help takes for the name of its value
				t.Errorf("%s --%s: a command in its description is marked", name, f.Name)
			}
		})
	}
}

// TestGuide compares the tables of docs/guides/cli.md with the program; -update writes them anew.
func TestGuide(t *testing.T) {
	b, err := os.ReadFile(guide)
	if err != nil {
		t.Fatal(err)
	}
	text := string(b)
	for name, table := range map[string]string{"verbs": verbTable(), "exit codes": exitTable()} {
		text = between(t, text, name, table)
	}
	if *update {
		if err := os.WriteFile(guide, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if text != string(b) {
		t.Errorf("%s is not what the program says; run go test ./cmd/ringfence -run TestGuide -update", guide)
	}
}

// between replaces what stands between the marks of a generated part.
func between(t *testing.T, text, name, with string) string {
	t.Helper()
	start, end := "<!-- begin "+name+" -->\n", "<!-- end "+name+" -->"
	i, j := strings.Index(text, start), strings.Index(text, end)
	if i < 0 || j < i {
		t.Fatalf("%s has no part %q", guide, name)
	}
	return text[:i+len(start)] + with + text[j:]
}

func verbTable() string {
	var b strings.Builder
	for _, c := range verbs(newRootCommand()) {
		fmt.Fprintf(&b, "### %s\n\n%s\n\n```sh\n", c.CommandPath(), c.Long)
		for line := range strings.Lines(c.Example) {
			b.WriteString(strings.TrimPrefix(line, "  "))
		}
		b.WriteString("\n```\n\n")
		var flags []string
		c.LocalFlags().VisitAll(func(f *pflag.Flag) {
			if f.Name != "help" {
				flags = append(flags, fmt.Sprintf("`--%s` %s", f.Name, f.Usage))
			}
		})
		if len(flags) > 0 {
			fmt.Fprintf(&b, "Flags: %s.\n\n", strings.Join(flags, "; "))
		}
	}
	return b.String()
}

func exitTable() string {
	kinds := map[int][]string{}
	for k := ringfence.KindInternal; k <= ringfence.KindCancelled; k++ {
		kinds[k.Exit()] = append(kinds[k.Exit()], k.String())
	}
	var codes []int
	for c := range kinds {
		codes = append(codes, c)
	}
	slices.Sort(codes)
	var b strings.Builder
	b.WriteString("| Code | Kind |\n|---|---|\n| 0 | it was done |\n")
	for _, c := range codes {
		fmt.Fprintf(&b, "| %d | %s |\n", c, strings.Join(kinds[c], ", "))
	}
	return b.String()
}
