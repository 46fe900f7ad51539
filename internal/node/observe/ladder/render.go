package ladder

import (
	"bufio"
	"fmt"
	"io"
	"slices"
	"strings"
)

// The layout, in characters.
const (
	timeWidth = 10 // "  +12.345 "
	minColumn = 27 // wide enough for the longest name of an SRTP suite
	maxColumn = 34
	margin    = 8 // left of the first life line, so that names can be centred on it
)

// Render draws messages as a ladder diagram in plain ASCII, at most width characters wide; a diagram with many phones may need
// more. width 0 means 100. The messages must be in the order of time.
func Render(w io.Writer, messages []Message, width int) error {
	out := bufio.NewWriter(w)
	if len(messages) == 0 {
		fmt.Fprintln(out, "nothing is remembered of this call")
		return out.Flush()
	}
	d := newDiagram(messages, width)
	d.header(out, messages)
	start := messages[0].At
	for i := range messages {
		m := &messages[i]
		at := fmt.Sprintf("%+9.3f", max(m.At.Sub(start).Seconds(), 0))
		d.line(out, at, d.arrow(d.column(m.From), d.column(m.To), m.label()))
		for _, note := range m.notes() {
			d.note(out, d.column(m.From), d.column(m.To), note)
		}
	}
	return out.Flush()
}

type diagram struct {
	names []string
	step  int
}

// newDiagram puts the caller left, the node next to it, and everybody else in the order of appearance.
func newDiagram(messages []Message, width int) *diagram {
	if width <= 0 {
		width = 100
	}
	d := &diagram{}
	see := func(name string) {
		if !slices.Contains(d.names, name) {
			d.names = append(d.names, name)
		}
	}
	for i, m := range messages {
		if i == 0 && m.Sent { // the phone stands left of the node, whoever spoke first
			see(m.To)
		}
		see(m.From)
		see(m.To)
	}
	room := width - timeWidth - 2*margin
	d.step = maxColumn
	if n := len(d.names) - 1; n > 0 {
		d.step = min(max(room/n, minColumn), maxColumn)
	}
	return d
}

func (d *diagram) column(name string) int { return margin + slices.Index(d.names, name)*d.step }

func (d *diagram) width() int { return margin + (len(d.names)-1)*d.step + margin + 1 }

// blank returns a line with nothing but the life lines.
func (d *diagram) blank(mark byte) []byte {
	line := []byte(strings.Repeat(" ", d.width()))
	for i := range d.names {
		line[margin+i*d.step] = mark
	}
	return line
}

// header names the columns and says how each is reached.
func (d *diagram) header(out io.Writer, messages []Message) {
	names, seals := d.blank(' '), d.blank(' ')
	sealed := map[string]string{}
	node := ""
	for _, m := range messages {
		other := m.From
		if node = m.To; m.Sent {
			node, other = m.From, m.To
		}
		seal := m.Seal
		if seal == "" {
			seal = "IN CLEAR"
		}
		if sealed[other] == "" {
			sealed[other] = seal
		}
	}
	for i, name := range d.names {
		at := margin + i*d.step
		centre(names, at, clip(name, d.step-2))
		if name != node {
			centre(seals, at, clip(sealed[name], d.step-2))
		}
	}
	d.line(out, "", names)
	d.line(out, "", seals)
	d.line(out, "", d.blank('|'))
}

// arrow draws from column a to column b, with the label in the middle.
func (d *diagram) arrow(a, b int, label string) []byte {
	line := d.blank('|')
	left, right := min(a, b), max(a, b)
	if left == right { // to itself: cannot happen between a phone and the node, but must not break the diagram
		return place(line, left+2, clip(label, len(line)-left-2))
	}
	for i := left + 1; i < right; i++ {
		line[i] = '-'
	}
	if a < b {
		line[right-1] = '>'
	} else {
		line[left+1] = '<'
	}
	text := " " + clip(label, right-left-7) + " "
	return place(line, left+1+(right-left-1-len(text))/2, text)
}

// note writes below an arrow, on as many lines as it takes, but at most four.
func (d *diagram) note(out io.Writer, a, b int, text string) {
	left, right := min(a, b), max(a, b)
	room := max(right-left-3, 12)
	for n := 1; text != ""; n++ {
		part := text
		if len(part) > room {
			part = part[:room]
			if i := strings.LastIndexByte(part, ' '); i > 0 && text[room] != ' ' {
				part = part[:i]
			}
		}
		if n == 4 {
			part = clip(text, room)
			text = ""
		}
		text = strings.TrimLeft(strings.TrimPrefix(text, part), " ")
		d.line(out, "", place(d.blank('|'), left+1+max(right-left-1-len(part), 0)/2, part))
	}
}

func (d *diagram) line(out io.Writer, at string, line []byte) {
	fmt.Fprintln(out, strings.TrimRight(fmt.Sprintf("%-*s%s", timeWidth, at, line), " "))
}

func centre(line []byte, at int, text string) {
	place(line, max(at-len(text)/2, 0), text)
}

// place writes text into line, as far as it fits.
func place(line []byte, at int, text string) []byte {
	if at < len(line) {
		copy(line[at:], text)
	}
	return line
}

// clip cuts a text to n characters and shows that it did.
func clip(s string, n int) string {
	switch {
	case len(s) <= n:
		return s
	case n < 3:
		return s[:max(n, 0)]
	}
	return s[:n-2] + ".."
}
