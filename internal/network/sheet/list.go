package sheet

import (
	"encoding/csv"
	"encoding/xml"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"time"

	"ringfence/internal/network/need"
)

// Lists returns the lists that a set can be printed as, which machines take: the networks or the names, one a line.
func Lists() []string { return []string{"prefixes", "domains"} }

// networkList writes the networks of those that are not the customer's own, IPv4 first, each once, as firewalls take an external list.
func networkList(w io.Writer, s *need.Set) error {
	var all []netip.Prefix
	for _, g := range s.Groups {
		for _, n := range g.Networks {
			all = append(all, n.Prefix)
		}
	}
	slices.SortFunc(all, func(a, b netip.Prefix) int { return a.Compare(b) })
	for _, p := range slices.Compact(all) {
		if _, err := fmt.Fprintln(w, p); err != nil {
			return err
		}
	}
	return nil
}

func domainList(w io.Writer, s *need.Set) error {
	var all []string
	for _, d := range s.Domains {
		all = append(all, strings.ToLower(d.Pattern))
	}
	slices.Sort(all)
	for _, d := range slices.Compact(all) {
		if _, err := fmt.Fprintln(w, d); err != nil {
			return err
		}
	}
	return nil
}

// Histories returns the forms in which the history of a set can be written.
func Histories() []string { return []string{"csv", "rss"} }

// History writes changes of a set, for a spreadsheet or a feed reader.
func History(w io.Writer, s *need.Set, all []need.Change, format string) error {
	switch format {
	case "csv":
		return changesCSV(w, all)
	case "rss":
		return changesRSS(w, s, all)
	}
	return fault(fmt.Sprintf("%.20q is no form of a history", format), "there are "+strings.Join(Histories(), ", "))
}

func changesCSV(w io.Writer, all []need.Change) error {
	c := csv.NewWriter(w)
	if err := c.Write([]string{"id", "date", "confidence", "change", "category", "subject", "items", "was", "is", "concerns", "note"}); err != nil {
		return err
	}
	for _, x := range all {
		if err := c.Write([]string{x.ID, x.Date, x.Confidence, x.Change, x.Category, x.Subject, strings.Join(x.Items, " "), x.Was, x.Is, strings.Join(x.Concerns(), " "), x.Note}); err != nil {
			return err
		}
	}
	c.Flush()
	return c.Error()
}

// The elements of RSS 2.0 that are needed here.
type (
	rss struct {
		XMLName xml.Name `xml:"rss"`
		Version string   `xml:"version,attr"`
		Channel channel  `xml:"channel"`
	}
	channel struct {
		Title       string `xml:"title"`
		Link        string `xml:"link"`
		Description string `xml:"description"`
		Items       []item `xml:"item"`
	}
	item struct {
		Title       string   `xml:"title"`
		Description string   `xml:"description"`
		Categories  []string `xml:"category"` // whose work it is
		GUID        guid     `xml:"guid"`
		Date        string   `xml:"pubDate,omitempty"`
	}
	guid struct {
		PermaLink bool   `xml:"isPermaLink,attr"`
		ID        string `xml:",chardata"`
	}
)

func changesRSS(w io.Writer, s *need.Set, all []need.Change) error {
	name := "urn:ringfence:set:" + s.ID
	out := rss{Version: "2.0", Channel: channel{Title: s.Title, Link: name, Description: "What was added, changed and removed, version " + s.Version()}}
	for _, c := range all {
		x := item{Title: c.Change + ": " + c.Subject, Categories: c.Concerns(), GUID: guid{ID: name + ":" + c.ID}}
		var told []string
		for _, t := range []string{strings.Join(c.Items, " "), c.Note} {
			if t != "" {
				told = append(told, t)
			}
		}
		if c.Was != "" || c.Is != "" {
			told = append(told, c.Was+" became "+c.Is)
		}
		x.Description = strings.Join(told, "; ")
		if d, err := time.Parse(time.DateOnly, c.Date); err == nil {
			x.Date = d.Format(time.RFC1123Z)
		}
		out.Channel.Items = append(out.Channel.Items, x)
	}
	if _, err := io.WriteString(w, xml.Header); err != nil {
		return err
	}
	e := xml.NewEncoder(w)
	e.Indent("", "  ")
	if err := e.Encode(out); err != nil {
		return err
	}
	_, err := io.WriteString(w, "\n")
	return err
}
