package entry

import (
	"fmt"
	"slices"
	"strings"

	"ringfence"
	"ringfence/internal/network/box"
)

// Edit is a change at one place of a chain: what stands there goes, or stays, and something comes before it.
type Edit struct {
	Chain  int // among those of the ruleset; [State] to let through what comes back on connections
	At     int // the rule that is meant; the number of rules is the end
	Remove bool
	Add    []Added
}

// State is the chain of an edit that has packets of connections pass which are up; not every format can say it in one place.
const State = -1

// Added is a rule that comes.
type Added struct {
	Row    string
	Entry  Entry
	Accept bool
}

// Patch is what changes a configuration, and what takes that back, in its own words; and the configuration with the change.
type Patch struct {
	Diff, Back string
	Text       []byte
}

// Impossible is the fault of a change that a format cannot say.
func Impossible(op, format string, args ...any) error {
	return &ringfence.Fault{Op: op, Kind: ringfence.KindUnsupported, Text: fmt.Sprintf(format, args...), Hint: "change it by hand, and audit again"}
}

// Face returns the name of the one interface in a list, or "".
func Face(n *box.Interfaces, l []box.Span) string {
	if len(l) == 1 && l[0].First == l[0].Last {
		return n.Name(int(l[0].First.Lo))
	}
	return ""
}

// hunk is a change of lines: some go, and others come in their place.
type hunk struct {
	at      int // the first line that goes, from 0, or before which others come
	gone    int
	instead []string
}

// File is lines that change, for a format that is edited as a file.
type File struct {
	lines []string
	hunks []hunk
}

// NewFile takes a file apart.
func NewFile(b []byte) *File {
	return &File{lines: strings.Split(strings.TrimSuffix(string(b), "\n"), "\n")}
}

// Replace puts lines in the place of those from first to last, both from 1 and included; last may be first-1 for none.
func (f *File) Replace(first, last int, lines ...string) {
	f.hunks = append(f.hunks, hunk{first - 1, last - first + 1, lines})
}

// Patch makes a unified diff, and the one back, of what was replaced.
func (f *File) Patch(name string) Patch {
	slices.SortStableFunc(f.hunks, func(a, b hunk) int {
		if a.at != b.at {
			return a.at - b.at
		}
		return min(a.gone, 1) - min(b.gone, 1) // what comes before a line stands before what comes instead of it
	})
	var out []string
	at := 0
	for _, h := range f.hunks {
		out = append(append(out, f.lines[min(at, h.at):h.at]...), h.instead...)
		at = max(at, h.at+h.gone)
	}
	out = append(out, f.lines[min(at, len(f.lines)):]...)
	return Patch{Diff: f.unified(name, false), Back: f.unified(name, true), Text: []byte(strings.Join(out, "\n") + "\n")}
}

const around = 3 // lines around a change that a diff shows

func (f *File) unified(name string, back bool) string {
	var b strings.Builder
	fmt.Fprintf(&b, "--- %s\n+++ %s\n", name, name)
	shift := 0
	for i := 0; i < len(f.hunks); {
		j := i + 1
		for j < len(f.hunks) && f.hunks[j].at-(f.hunks[j-1].at+f.hunks[j-1].gone) <= 2*around {
			j++
		}
		first, last := max(0, f.hunks[i].at-around), min(len(f.lines), f.hunks[j-1].at+f.hunks[j-1].gone+around)
		var body []string
		at, old, now := first, 0, 0
		same := func(to int) {
			for ; at < to; at++ {
				body, old, now = append(body, " "+f.lines[at]), old+1, now+1
			}
		}
		minus, plus := "-", "+"
		if back {
			minus, plus = plus, minus
		}
		for _, h := range f.hunks[i:j] {
			same(h.at)
			var gone, come []string
			for ; at < h.at+h.gone; at++ {
				gone, old = append(gone, minus+f.lines[at]), old+1
			}
			for _, l := range h.instead {
				come, now = append(come, plus+l), now+1
			}
			if back {
				gone, come = come, gone
			}
			body = append(append(body, gone...), come...)
		}
		same(last)
		begin := func(line, n int) int {
			if n == 0 {
				return line
			}
			return line + 1
		}
		from, to := fmt.Sprintf("%d,%d", begin(first, old), old), fmt.Sprintf("%d,%d", begin(first+shift, now), now)
		if back {
			from, to = to, from
		}
		fmt.Fprintf(&b, "@@ -%s +%s @@\n%s\n", from, to, strings.Join(body, "\n"))
		shift += now - old
		i = j
	}
	return b.String()
}
