// Command pgo makes one profile for the compiler out of the CPU profiles of several benchmark rows. It is not part of the product.
//
//	pgo OUT IN...
//
// Each row counts the same however long it ran, and only what the compiler reads is kept: functions, lines and how often.
package main

import (
	"fmt"
	"os"

	"github.com/google/pprof/profile"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "pgo:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) < 2 {
		return fmt.Errorf("usage: pgo OUT IN...")
	}
	var all []*profile.Profile
	for _, name := range args[1:] {
		p, err := read(name)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		all = append(all, p)
	}
	merged, err := profile.Merge(all)
	if err != nil {
		return err
	}
	merged.TimeNanos, merged.DurationNanos, merged.Comments = 0, 0, nil
	for _, m := range merged.Mapping {
		m.File, m.BuildID = "ringfence", ""
	}
	out, err := os.Create(args[0])
	if err != nil {
		return err
	}
	if err := merged.Write(out); err != nil {
		return err
	}
	return out.Close()
}

// read returns a profile whose samples add up to ten thousand hundredths of a second, less those too rare to tell anything.
func read(name string) (*profile.Profile, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	p, err := profile.Parse(f)
	if err != nil {
		return nil, err
	}
	var sum int64
	for _, s := range p.Sample {
		s.Label, s.NumLabel, s.NumUnit = nil, nil, nil
		sum += s.Value[0]
	}
	if sum == 0 {
		return nil, fmt.Errorf("no samples")
	}
	p.Scale(10_000 / float64(sum))
	return p.Compact(), nil
}
