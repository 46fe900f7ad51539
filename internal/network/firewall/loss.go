package firewall

import (
	"ringfence/internal/network/box"
	"ringfence/internal/network/site"
)

// Difference is a part of a row, with a packet of it.
type Difference struct {
	Packets string `json:"packets"` // in words
	Example string `json:"example"` // one of them
}

// RowLoss is what a rendering made of a row.
type RowLoss struct {
	Row      string       `json:"row"`
	Wider    []Difference `json:"wider,omitempty"`    // what it lets through and the row does not need
	Narrower []Difference `json:"narrower,omitempty"` // what the row needs and it does not let through
}

// Limit is something that a target has only so many of.
type Limit struct {
	Where   string `json:"where"`
	What    string `json:"what"`
	Has     int    `json:"has"`
	Allowed int    `json:"allowed"`
}

// Certificate says how far a rendering is what was asked for.
type Certificate struct {
	Exact       bool              `json:"exact"`
	Rows        int               `json:"rows"`
	Losses      []RowLoss         `json:"losses"`
	NotRendered []site.Unresolved `json:"not_rendered"`
	Exceeded    []Limit           `json:"exceeded,omitempty"` // what the target does not take, as it comes
}

// maxDifferences bounds how many parts of a row are told.
const maxDifferences = 5

// Certify compares what a rendering says for each row with what the row needs.
func Certify(p *site.Policy, rendered map[string]box.List) (*Certificate, error) {
	c := &Certificate{Rows: len(p.Rows), Losses: []RowLoss{}, NotRendered: append([]site.Unresolved{}, p.Missing...)}
	needs := map[string]box.List{}
	var order []string
	for _, r := range p.Rows {
		if needs[r.ID] == nil {
			order = append(order, r.ID)
		}
		needs[r.ID] = append(needs[r.ID], r.Boxes(p.Interfaces)...)
	}
	for _, id := range order {
		wider, err := rendered[id].Subtract(needs[id])
		if err != nil {
			return nil, err
		}
		narrower, err := needs[id].Subtract(rendered[id])
		if err != nil {
			return nil, err
		}
		if len(wider)+len(narrower) > 0 {
			c.Losses = append(c.Losses, RowLoss{id, Differences(wider, p.Interfaces), Differences(narrower, p.Interfaces)})
		}
	}
	c.Exact = len(c.Losses)+len(c.NotRendered) == 0
	return c, nil
}

// Differences words the first boxes of a list.
func Differences(l box.List, n *box.Interfaces) (out []Difference) {
	for _, b := range l[:min(len(l), maxDifferences)] {
		out = append(out, Difference{b.Describe(n), b.Packet().Describe(n)})
	}
	return out
}
