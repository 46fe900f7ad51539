package main

import (
	"fmt"
	"os"
	"text/tabwriter"
)

func (r Result) line() string {
	s := fmt.Sprintf("%-22s ours %8.1f %s (%.0f/s, busy %.0f%%)", r.Name, r.Ours.Cost, r.Unit, r.Ours.Rate, 100*r.Ours.Busy)
	if r.Rival != "" {
		s += fmt.Sprintf("  %s %8.1f %s (%.0f/s, busy %.0f%%)  ratio %.2f (to land %.2f)", r.Rival, r.Peer.Cost, r.Unit, r.Peer.Rate, 100*r.Peer.Busy, r.Ratio, r.ToLand)
	}
	for _, n := range r.Notes {
		s += "\n    " + n
	}
	return s
}

func (r Result) verdict() string {
	value := r.Ratio
	if r.Absolute {
		value = r.Ours.Cost
	}
	switch {
	case value == 0:
		return "-"
	case value <= r.Goal:
		return "goal"
	case value <= r.ToLand:
		return "lands"
	}
	return "MISSED"
}

func table(results []Result) {
	w := tabwriter.NewWriter(os.Stdout, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "work\tours\tpeer\t\tratio\tto land\tgoal\t")
	for _, r := range results {
		fmt.Fprintf(w, "%s\t%.1f %s\t%.1f %s\t%s\t%.2f\t%.2f\t%.2f\t%s\n", r.What, r.Ours.Cost, r.Unit, r.Peer.Cost, r.Unit, r.Rival, r.Ratio, r.ToLand, r.Goal, r.verdict())
	}
	_ = w.Flush()
}
