package main

import (
	"slices"
	"strings"

	"ringfence/internal/network/need"
	"ringfence/internal/network/ready/verdict"
	"ringfence/internal/network/site"
)

// firewalls are the targets whose rules a report can show.
func firewalls() (out []renderTarget) {
	for _, t := range renderTargets() {
		if t.firewall != nil {
			out = append(out, t)
		}
	}
	return out
}

func firewallNames() (out []string) {
	for _, t := range firewalls() {
		out = append(out, t.name)
	}
	return out
}

// ruler writes what the site's firewall must say for a row, in its own words.
type ruler struct {
	policy *site.Policy
	target renderTarget
}

// newRuler reads a site file, with all its mistakes at once, before anything is tested.
func newRuler(set *need.Set, file, target string) (*ruler, error) {
	if file == "" && target == "" {
		return nil, nil
	}
	all := firewalls()
	i := slices.IndexFunc(all, func(t renderTarget) bool { return t.name == target })
	switch {
	case file == "" || target == "":
		return nil, invalid("rules need to know who is where, and which firewall it is", "give --site and --firewall together; docs/guides/firewalls.md shows a site file")
	case i < 0:
		return nil, invalid("rules are not written for "+target, "there are "+strings.Join(firewallNames(), ", "))
	}
	p, err := resolved(set, file)
	if err != nil {
		return nil, err
	}
	return &ruler{p, all[i]}, nil
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
	all, _, err := r.target.firewall(&with)
	if err != nil {
		return "it cannot be said: " + err.Error()
	}
	others, _, err := r.target.firewall(&without)
	if err != nil {
		return "it cannot be said: " + err.Error()
	}
	known := map[string]int{}
	for line := range strings.Lines(others) {
		known[strings.TrimSpace(line)]++
	}
	var out []string
	for line := range strings.Lines(all) {
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

// fill adds rules to what failed.
func (r *ruler) fill(report *verdict.Report) {
	if r == nil {
		return
	}
	report.Firewall = r.target.name
	for i := range report.Checks {
		if c := &report.Checks[i]; (c.Kind == "tcp" || c.Kind == "udp") && c.Status == verdict.Fail {
			c.Rule = r.rule(c.Rows)
		}
	}
}
