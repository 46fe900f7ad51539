package main

import (
	"slices"
	"strings"

	"ringfence/internal/network/firewall"
	"ringfence/internal/network/need"
	"ringfence/internal/network/ready/verdict"
	"ringfence/internal/network/site"
	"ringfence/internal/network/target"
)

// ruler writes what the site's firewall must say for a row, in its own words.
type ruler struct {
	policy *site.Policy
	target target.Target
}

// newRuler reads a site file, with all its mistakes at once, before anything is tested.
func newRuler(set *need.Set, file, name string) (*ruler, error) {
	if file == "" && name == "" {
		return nil, nil
	}
	if file == "" || name == "" {
		return nil, invalid("rules need to know who is where, and which firewall it is", "give --site and --firewall together; docs/guides/firewalls.md shows a site file")
	}
	t, err := target.Find(name)
	if err != nil {
		return nil, err
	}
	p, err := resolved(set, file)
	if err != nil {
		return nil, err
	}
	return &ruler{p, t}, t.For(p, 1)
}

// rule returns the lines that the rules of all rows have and those of all others have not. A row that the site file does not resolve says so.
func (r *ruler) rule(rows []string) string {
	without, with, missing := *r.policy, *r.policy, []string(nil)
	without.Rows, without.Missing, with.Missing = nil, nil, nil
	for _, row := range r.policy.Rows {
		if !slices.Contains(rows, row.ID) {
			without.Rows = append(without.Rows, row)
		}
	}
	for _, u := range r.policy.Missing {
		if slices.Contains(rows, u.Row) {
			missing = append(missing, "the site file lacks "+u.Missing)
		}
	}
	if len(without.Rows) == len(with.Rows) {
		if missing == nil {
			missing = []string{"the site file leaves this row out: see `rows` and `without` there"}
		}
		return strings.Join(missing, "\n")
	}
	all, _, err := r.target.Render(&with)
	if err != nil {
		return "it cannot be said: " + err.Error()
	}
	if strings.HasPrefix(joined(all), "{") { // lines of JSON mean nothing by themselves
		only := with
		only.Rows = slices.DeleteFunc(slices.Clone(with.Rows), func(row site.Row) bool { return !slices.Contains(rows, row.ID) })
		if all, _, err = r.target.Render(&only); err != nil {
			return "it cannot be said: " + err.Error()
		}
		return strings.TrimSpace(joined(all))
	}
	others, _, err := r.target.Render(&without)
	if err != nil {
		return "it cannot be said: " + err.Error()
	}
	known := map[string]int{}
	for line := range strings.Lines(joined(others)) {
		known[strings.TrimSpace(line)]++
	}
	var out []string
	for line := range strings.Lines(joined(all)) {
		if line = strings.TrimSpace(line); known[line] > 0 {
			known[line]--
		} else if line != "" {
			out = append(out, line)
		}
	}
	if len(out) == 0 {
		return "the rules of other rows let this one through as well"
	}
	return strings.Join(out, "\n")
}

func joined(files []firewall.File) (out string) {
	for _, f := range files {
		out += f.Text + "\n"
	}
	return out
}

// fill adds rules to what failed.
func (r *ruler) fill(report *verdict.Report) {
	if r == nil {
		return
	}
	report.Firewall = r.target.Name
	for i := range report.Checks {
		if c := &report.Checks[i]; (c.Kind == "tcp" || c.Kind == "udp") && c.Status == verdict.Fail {
			c.Rule = r.rule(c.Rows)
		}
	}
}
