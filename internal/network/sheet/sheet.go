package sheet

import (
	"encoding/csv"
	"fmt"
	"html/template"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"ringfence"
	"ringfence/internal/network/need"
)

// Formats returns the forms in which a set can be printed.
func Formats() []string { return []string{"text", "markdown", "html", "csv"} }

// Write prints a set in one of [Formats], or as one of its [Lists].
func Write(w io.Writer, s *need.Set, format string) error {
	switch format {
	case "text":
		return text(w, s)
	case "markdown":
		return markdown(w, s)
	case "html":
		return page(w, s)
	case "csv":
		return commas(w, s)
	case "prefixes":
		return networkList(w, s)
	case "domains":
		return domainList(w, s)
	}
	return fault(fmt.Sprintf("%.40q is no form", format), "there are "+strings.Join(append(Formats(), Lists()...), ", "))
}

func fault(text, hint string) error {
	return &ringfence.Fault{Op: "sheet.write", Kind: ringfence.KindInvalid, Text: text, Hint: hint}
}

// heading is the columns of the table of rows.
func heading() []string {
	return []string{"Row", "Direction", "Transport", "From", "Ports", "To", "Ports", "DSCP", "Purpose", "Believed"}
}

// row is what the columns say of a row.
func row(s *need.Set, n need.Need) []string {
	dscp := "-"
	if n.DSCP != nil {
		dscp = fmt.Sprint(*n.DSCP)
	}
	believed := string(n.Confidence())
	if n.Line > 0 {
		believed += fmt.Sprintf(", line %d", n.Line)
	}
	if more := append(append([]string(nil), n.Repairs...), n.Questions...); len(more) > 0 {
		believed += " (" + strings.Join(more, " ") + ")"
	}
	purpose := n.Purpose
	if n.Protocol != "" {
		purpose = n.Protocol + ": " + purpose
	}
	return []string{n.ID, string(n.Direction), strings.Join(n.Transport, "+"), strings.Join(n.From, ", "), ports(n.FromPorts, ""), strings.Join(n.To, ", "), ports(n.ToPorts, n.Chosen), dscp, purpose, believed}
}

func ports(all []need.Ports, chosen string) string {
	if len(all) == 0 {
		if chosen != "" {
			return chosen
		}
		return "-"
	}
	parts := make([]string, len(all))
	for i, p := range all {
		parts[i] = p.String()
	}
	return strings.Join(parts, " ")
}

// more is a table beside the rows.
type more struct {
	Title   string
	Heading []string
	Rows    [][]string
}

// besides returns the other tables of a set that hold anything.
func besides(s *need.Set) (out []more) {
	add := func(title string, heading []string, rows [][]string) {
		if len(rows) > 0 {
			out = append(out, more{title, heading, rows})
		}
	}
	var rows [][]string
	for _, m := range s.Marks {
		rows = append(rows, []string{m.ID, m.From, m.Traffic, ports(m.FromPorts, ""), ports(m.ToPorts, ""), strings.Trim(fmt.Sprint(m.DSCP), "[]")})
	}
	add("Marks of quality of service", []string{"Row", "From", "Traffic", "Ports", "To ports", "DSCP"}, rows)
	rows = nil
	for _, f := range s.Forwarders {
		rows = append(rows, []string{f.ID, f.Region, f.Site, f.Address.String(), f.Zone})
	}
	add("Name servers for conditional forwarding", []string{"Row", "Region", "Site", "Address", "Zone"}, rows)
	rows = nil
	for _, p := range s.Proxies {
		rows = append(rows, []string{p.ID, p.Product, strings.Join(p.SetUp, ", "), strings.Join(p.Authentication, ", ")})
	}
	add("Web proxies", []string{"Row", "Product", "Told of it by", "Proves itself by"}, rows)
	rows = nil
	for _, r := range s.Reserved {
		rows = append(rows, []string{r.ID, strings.Join(r.Transport, "+"), ports(r.Ports, ""), r.Why})
	}
	add("Ports that nothing may use", []string{"Row", "Transport", "Ports", "Why"}, rows)
	return out
}

func text(w io.Writer, s *need.Set) error {
	fmt.Fprintf(w, "%s\n", s.Title)
	if s.Document != "" {
		fmt.Fprintf(w, "Lines are those of %s.\n", s.Document)
	}
	fmt.Fprintln(w)
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintln(t, strings.ToUpper(strings.Join(heading(), "\t")))
	for _, n := range s.Needs {
		fmt.Fprintln(t, strings.Join(row(s, n), "\t"))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, m := range besides(s) {
		fmt.Fprintf(w, "\n%s\n", m.Title)
		t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
		fmt.Fprintln(t, "  "+strings.ToUpper(strings.Join(m.Heading, "\t")))
		for _, r := range m.Rows {
			fmt.Fprintln(t, "  "+strings.Join(r, "\t"))
		}
		if err := t.Flush(); err != nil {
			return err
		}
	}
	for _, g := range s.Groups {
		fmt.Fprintf(w, "\n%s (%s)\n", g.Text, strings.Join(rolesOf(s, g.Name), ", "))
		for _, n := range g.Networks {
			fmt.Fprintf(w, "  %s\n", n.Prefix)
		}
	}
	if len(s.Domains) > 0 {
		fmt.Fprintln(w, "\nNames")
		t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
		for _, d := range s.Domains {
			fmt.Fprintf(t, "  %s\t%s\n", d.Pattern, d.Purpose)
		}
		if err := t.Flush(); err != nil {
			return err
		}
	}
	if len(s.Questions) > 0 {
		fmt.Fprintln(w, "\nOpen questions")
		for _, q := range s.Questions {
			fmt.Fprintf(w, "  %s: %s\n      Until somebody decides otherwise: %s.\n", q.ID, q.Text, q.Decision)
		}
	}
	return nil
}

// rolesOf returns whose addresses a group holds.
func rolesOf(s *need.Set, group string) (out []string) {
	for role, g := range s.Addresses {
		if g == group {
			out = append(out, role)
		}
	}
	slices.Sort(out) // the same each time, so that two prints can be compared
	return out
}

func markdown(w io.Writer, s *need.Set) error {
	cell := strings.NewReplacer("|", "\\|", "\n", " ")
	line := func(cells []string) {
		for i := range cells {
			cells[i] = cell.Replace(cells[i])
		}
		fmt.Fprintf(w, "| %s |\n", strings.Join(cells, " | "))
	}
	fmt.Fprintf(w, "# %s\n\n", s.Title)
	line(heading())
	fmt.Fprintln(w, strings.Repeat("|---", len(heading()))+"|")
	for _, n := range s.Needs {
		line(row(s, n))
	}
	for _, m := range besides(s) {
		fmt.Fprintf(w, "\n## %s\n\n", m.Title)
		line(m.Heading)
		fmt.Fprintln(w, strings.Repeat("|---", len(m.Heading))+"|")
		for _, r := range m.Rows {
			line(r)
		}
	}
	for _, g := range s.Groups {
		fmt.Fprintf(w, "\n## %s\n\n", g.Text)
		for _, n := range g.Networks {
			fmt.Fprintf(w, "- `%s`\n", n.Prefix)
		}
	}
	if len(s.Domains) > 0 {
		fmt.Fprint(w, "\n## Names\n\n")
		for _, d := range s.Domains {
			fmt.Fprintf(w, "- `%s`: %s\n", d.Pattern, d.Purpose)
		}
	}
	if len(s.Questions) > 0 {
		fmt.Fprint(w, "\n## Open questions\n\n")
		for _, q := range s.Questions {
			fmt.Fprintf(w, "- **%s** %s *Until somebody decides otherwise: %s.*\n", q.ID, q.Text, q.Decision)
		}
	}
	_, err := fmt.Fprintln(w)
	return err
}

func commas(w io.Writer, s *need.Set) error {
	c := csv.NewWriter(w)
	if err := c.Write([]string{"row", "direction", "transport", "from", "from_networks", "from_ports", "to", "to_networks", "to_ports", "dscp", "purpose", "believed", "note"}); err != nil {
		return err
	}
	for _, n := range s.Needs {
		r := row(s, n)
		if err := c.Write([]string{r[0], r[1], r[2], r[3], networks(s, n.From), r[4], r[5], networks(s, n.To), r[6], r[7], r[8], r[9], n.Note}); err != nil {
			return err
		}
	}
	c.Flush()
	return c.Error()
}

func networks(s *need.Set, roles []string) string {
	var out []string
	for _, role := range roles {
		for _, p := range s.NetworksOf(role) {
			out = append(out, p.String())
		}
	}
	return strings.Join(out, " ")
}

func page(w io.Writer, s *need.Set) error {
	rows := make([][]string, len(s.Needs))
	for i, n := range s.Needs {
		rows[i] = row(s, n)
	}
	return pageTemplate().Execute(w, struct {
		*need.Set
		Heading []string
		Rows    [][]string
		Besides []more
	}{s, heading(), rows, besides(s)})
}

func pageTemplate() *template.Template {
	return template.Must(template.New("page").Parse(`<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1"><title>{{.Title}}</title>
<style>
:root { color-scheme: light dark; --line: #8884; --soft: #8881; }
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; padding: 0 1.25rem; max-width: 100rem; }
h1 { font-size: 1.5rem; margin: 0 0 .25rem; } h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; }
.from { opacity: .7; margin: 0 0 1.5rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .85rem; }
th, td { text-align: left; vertical-align: top; padding: .4rem .6rem; border-bottom: 1px solid var(--line); }
th { position: sticky; top: 0; background: Canvas; } tbody tr:nth-child(even) { background: var(--soft); }
td:nth-child(1), td:nth-child(5), td:nth-child(7), code { font-family: ui-monospace, monospace; }
td:nth-child(1) { white-space: nowrap; }
ul.nets { columns: 14rem; list-style: none; padding: 0; } dt { font-weight: 600; margin-top: .6rem; } dd { margin: 0 0 0 1.25rem; }
</style></head><body>
<h1>{{.Title}}</h1>
<p class="from">{{len .Needs}} rows{{with .Document}}, with the lines of {{.}}{{end}}</p>
<div class="scroll"><table><thead><tr>{{range .Heading}}<th>{{.}}</th>{{end}}</tr></thead>
<tbody>{{range .Rows}}<tr>{{range .}}<td>{{.}}</td>{{end}}</tr>
{{end}}</tbody></table></div>
{{range .Besides}}<h2>{{.Title}}</h2><div class="scroll"><table><thead><tr>{{range .Heading}}<th>{{.}}</th>{{end}}</tr></thead>
<tbody>{{range .Rows}}<tr>{{range .}}<td>{{.}}</td>{{end}}</tr>
{{end}}</tbody></table></div>{{end}}
{{range .Groups}}<h2>{{.Text}}</h2><ul class="nets">{{range .Networks}}<li><code>{{.Prefix}}</code></li>{{end}}</ul>{{end}}
{{with .Domains}}<h2>Names</h2><dl>{{range .}}<dt><code>{{.Pattern}}</code></dt><dd>{{.Purpose}}</dd>{{end}}</dl>{{end}}
{{with .Questions}}<h2>Open questions</h2><dl>{{range .}}<dt>{{.ID}}</dt><dd>{{.Text}} <em>Until somebody decides otherwise: {{.Decision}}.</em></dd>{{end}}</dl>{{end}}
</body></html>
`))
}
