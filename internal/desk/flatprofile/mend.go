package flatprofile

import (
	"bytes"
	"fmt"
	"regexp"
)

// Repair is one thing that [Mend] put right.
type Repair struct {
	Line int
	Name string // of the parameter
	Text string // what is wrong
	Fix  string
}

// Mend puts right what is often written wrong in these files, each on its own line: no blank before ua, an end that is spelt otherwise
// than its beginning, typographic quotation marks, a bare ampersand. What a phone does with such a file is not told by it: it takes
// nothing. The number of lines stays.
func Mend(b []byte) ([]byte, []Repair) {
	if len(b) > MaxSize {
		return b, nil
	}
	var out bytes.Buffer
	out.Grow(len(b))
	var repairs []Repair
	comment := false
	n := 0
	joined, quotes, element, ampersand := regexp.MustCompile(`<([A-Za-z][A-Za-z0-9_.-]*?)(ua=["'][a-z]*["'])`), regexp.MustCompile(`ua=(?:“|”|„|&quot;)([a-z]*)(?:“|”|&quot;)`),
		regexp.MustCompile(`<([A-Za-z][A-Za-z0-9_.-]*)((?:\s[^<>]*)?)>([^<]*)</([A-Za-z][A-Za-z0-9_.-]*)\s*>`), regexp.MustCompile(`&(#[0-9]+;|#x[0-9A-Fa-f]+;|[A-Za-z][A-Za-z0-9]*;)?`)
	for line := range bytes.Lines(b) {
		n++
		if comment || bytes.Contains(line, []byte("<!--")) || len(line) > maxLine { // comments may say what they like
			comment = bytes.LastIndex(line, []byte("<!--")) > bytes.LastIndex(line, []byte("-->")) || comment && !bytes.Contains(line, []byte("-->"))
			out.Write(line)
			continue
		}
		fixed := func(name, text, fix string) {
			if len(repairs) < maxProblems {
				repairs = append(repairs, Repair{n, name, text, fix})
			}
		}
		line = quotes.ReplaceAllFunc(line, func(m []byte) []byte {
			value := quotes.FindSubmatch(m)[1]
			fixed("", "typographic quotation marks stand around the value of ua", fmt.Sprintf(`write ua="%s"`, value))
			return []byte(`ua="` + string(value) + `"`)
		})
		line = joined.ReplaceAllFunc(line, func(m []byte) []byte {
			p := joined.FindSubmatch(m)
			if len(p[1]) < 2 {
				return m
			}
			fixed(string(p[1]), "there is no blank before ua", fmt.Sprintf("write <%s %s>", p[1], p[2]))
			return []byte("<" + string(p[1]) + " " + string(p[2]))
		})
		line = element.ReplaceAllFunc(line, func(m []byte) []byte {
			p := element.FindSubmatch(m)
			if bytes.Equal(p[1], p[4]) || len(p[2]) > 0 && p[2][len(p[2])-1] == '/' {
				return m
			}
			name := string(p[1])
			if len(p[4]) == len(p[1])+1 && bytes.HasPrefix(p[4], p[1]) && p[4][len(p[1])] == '_' { // of a line: the end has what the beginning lacks
				name = string(p[4])
			}
			fixed(name, fmt.Sprintf("it begins as %s and ends as %s", p[1], p[4]), fmt.Sprintf("write <%s%s>…</%s>", name, p[2], name))
			return []byte("<" + name + string(p[2]) + ">" + string(p[3]) + "</" + name + ">")
		})
		line = ampersand.ReplaceAllFunc(line, func(m []byte) []byte {
			if len(m) > 1 {
				return m
			}
			fixed("", "an ampersand stands alone", "write &amp;")
			return []byte("&amp;")
		})
		out.Write(line)
	}
	return out.Bytes(), repairs
}

// maxLine is the longest line that is mended.
const maxLine = 64 << 10
