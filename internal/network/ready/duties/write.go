package duties

import (
	"fmt"
	"html/template"
	"io"
	"strings"
	"unicode"
)

// plain takes out what a terminal would obey: some of the evidence is what strangers said.
func plain(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
}

func (c *Checklist) summary() string {
	return fmt.Sprintf("%d done, %d undone, %d open", c.Count(Done), c.Count(Undone), c.Count(Open))
}

func (e Evidence) String() string {
	return plain(fmt.Sprintf("%s (%s): %s", e.File, e.Tool, e.Says))
}

// Text writes the list for people at a terminal.
func (c *Checklist) Text(w io.Writer) {
	fmt.Fprintf(w, "Duties of the site: %s\n", c.summary())
	for _, d := range c.Duties {
		fmt.Fprintf(w, "\n%-6s  %s: %s (%s, %s)\n", d.Status, d.ID, d.Title, d.Layer, d.Owner)
		for _, e := range d.Evidence {
			fmt.Fprintf(w, "        found    %s\n", e)
		}
		if len(d.Evidence) == 0 {
			fmt.Fprintf(w, "        collect  %s\n", d.Collect)
		}
		if d.ByHand != "" {
			fmt.Fprintf(w, "        by hand  %s\n", plain(d.ByHand))
		}
	}
}

// Markdown writes the list as a table.
func (c *Checklist) Markdown(w io.Writer) {
	// What was found is text, and no markup.
	cell := strings.NewReplacer("\\", "\\\\", "|", "\\|", "<", "&lt;", "&", "&amp;", "`", "\\`", "[", "\\[", "*", "\\*", "_", "\\_", "!", "\\!")
	fmt.Fprintf(w, "# Duties of the site\n\n%s\n\n| Duty | Layer | Owner | What | Status | Evidence | By hand: who, what, when |\n|---|---|---|---|---|---|---|\n", c.summary())
	for _, d := range c.Duties {
		found := make([]string, len(d.Evidence))
		for i, e := range d.Evidence {
			found[i] = cell.Replace(e.String())
		}
		if len(found) == 0 {
			found = []string{"collect: " + d.Collect}
		}
		fmt.Fprintf(w, "| %s | %s | %s | %s | %s | %s | %s |\n", d.ID, d.Layer, d.Owner, d.Title, d.Status, strings.Join(found, "; "), cell.Replace(plain(d.ByHand)))
	}
}

// HTML writes a page that needs nothing else and runs no script.
func (c *Checklist) HTML(w io.Writer) error {
	t, err := template.New("duties").Funcs(template.FuncMap{"plain": plain}).Parse(`<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1"><title>Duties of the site</title>
<style>:root{color-scheme:light dark}body{font:15px/1.5 system-ui,sans-serif;max-width:75rem;margin:2rem auto;padding:0 1rem}table{border-collapse:collapse;width:100%}th,td{border:1px solid #8886;padding:.4rem .6rem;text-align:left;vertical-align:top;overflow-wrap:anywhere}
.undone{background:#d333}.done{background:#3a33}td:last-child{min-width:12rem}ul{margin:0;padding-left:1.1rem}</style></head>
<body><h1>Duties of the site</h1><p>{{.Summary}}</p>
<table><thead><tr><th scope="col">Duty</th><th scope="col">Layer</th><th scope="col">Owner</th><th scope="col">Status</th><th scope="col">Evidence</th><th scope="col">By hand: who, what, when</th></tr></thead><tbody>
{{range .Duties}}<tr><td><strong>{{.ID}}</strong><br>{{.Title}}</td><td>{{.Layer}}</td><td>{{.Owner}}</td><td class="{{.Status}}">{{.Status}}</td><td>{{if .Evidence}}<ul>{{range .Evidence}}<li>{{.}}</li>{{end}}</ul>{{else}}collect: {{.Collect}}{{end}}</td><td>{{plain .ByHand}}</td></tr>
{{end}}</tbody></table></body></html>
`)
	if err != nil {
		return err
	}
	return t.Execute(w, struct {
		Summary string
		Duties  []Duty
	}{c.summary(), c.Duties})
}
