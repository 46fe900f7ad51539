package verdict

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"ringfence"
)

// Status is the outcome of a check.
type Status string

// The outcomes.
const (
	Pass Status = "pass"
	Fail Status = "fail" // something that is needed does not work
	Warn Status = "warn" // it works, worse than it should
	Skip Status = "skip" // it was not tested, and why
)

// Cause is a class of reasons.
type Cause string

// The classes of reasons.
const (
	Dropped     Cause = "dropped"             // nothing came back, and nobody said why
	Rejected    Cause = "rejected"            // a machine on the way, or the reflector's host, said no
	Replaced    Cause = "answered by another" // somebody else answered in the reflector's place
	Rewritten   Cause = "SIP rewritten"       // an application layer gateway changed SIP messages
	Symmetric   Cause = "NAT mapping"         // the NAT gives each destination another port, or another address
	Exhausted   Cause = "NAT ports"           // the NAT has no more of them
	Marks       Cause = "marks changed"       // DSCP did not survive
	BlackHole   Cause = "MTU black hole"      // large packets vanish, and nobody says so
	SmallMTU    Cause = "small MTU"
	Quality     Cause = "quality"
	Intercepted Cause = "TLS intercepted"
	Clock       Cause = "clock" // a time server that does not know the time, or another time
	Untested    Cause = "not tested"
	Proxy       Cause = "web proxy"    // there is none where one should be, it does not let through, or it is found in different ways
	Login       Cause = "proxy login"  // it wants to know who asks in a way that does not work
	Lies        Cause = "DNS lies"     // a name server leads elsewhere
	Unknown     Cause = "DNS"          // a name server does not know what it should, or names are wrong
	Doubled     Cause = "TCP in TCP"   // a VPN of this host carries media in a TCP connection
	Limited     Cause = "rate limited" // what does not pass at once passes slowly
)

// Check is one finding.
type Check struct {
	ID       string            `json:"id"`             // e.g. "udp/wc-p-06"
	Kind     string            `json:"kind"`           // e.g. "udp"
	Rows     []string          `json:"rows,omitempty"` // requirements that it is about
	Title    string            `json:"title"`
	Required bool              `json:"required"` // if it fails, something that is needed does not work
	Status   Status            `json:"status"`
	Sent     string            `json:"sent,omitempty"`
	Seen     string            `json:"seen,omitempty"`
	Cause    Cause             `json:"cause,omitempty"`
	Blocked  []string          `json:"blocked,omitempty"` // ports that do not pass
	Change   string            `json:"change,omitempty"`  // what to change, in words
	Hop      string            `json:"hop,omitempty"`     // the machine on the way that did it, or between which two, if that is known
	Rule     string            `json:"rule,omitempty"`    // what the site's firewall must say, in its own words; see Report.Firewall
	Again    string            `json:"again,omitempty"`   // the command that tests it again
	Values   map[string]string `json:"values,omitempty"`
	Took     float64           `json:"took_seconds"`
}

// Report is a whole test.
type Report struct {
	Format     string            `json:"format"` // Format
	Program    string            `json:"program"`
	Set        string            `json:"set"`
	SetTitle   string            `json:"set_title"`
	SetVersion string            `json:"set_version,omitempty"`
	Reflector  string            `json:"reflector"`
	Local      string            `json:"local"` // the address that the test was made from
	SeenAs     string            `json:"seen_as"`
	Began      time.Time         `json:"began"`
	Ended      time.Time         `json:"ended"`
	Parameters map[string]string `json:"parameters"`
	Firewall   string            `json:"firewall,omitempty"` // in whose words the rules are, e.g. nftables
	Checks     []Check           `json:"checks"`
	Broken     string            `json:"broken,omitempty"` // why the test did not come to its end
}

// Format names the form of a report.
const Format = "ringfence-ready/1"

// Count returns how many checks ended so.
func (r *Report) Count(s Status) (n int) {
	for _, c := range r.Checks {
		if c.Status == s {
			n++
		}
	}
	return n
}

// Failed returns the checks of what is needed and does not work.
func (r *Report) Failed() (out []Check) {
	for _, c := range r.Checks {
		if c.Required && c.Status == Fail {
			out = append(out, c)
		}
	}
	return out
}

// Err returns a conflict if something that is needed does not work, so that a script can tell that from a test that could not be made.
func (r *Report) Err() error {
	if failed := r.Failed(); len(failed) > 0 {
		ids := make([]string, len(failed))
		for i, c := range failed {
			ids[i] = c.ID
		}
		return &ringfence.Fault{Op: "ready", Kind: ringfence.KindConflict, Text: fmt.Sprintf("%d of %d checks failed of what is needed: %s", len(failed), len(r.Checks), strings.Join(ids, ", ")),
			Hint: "change what stands under each of them, then use its command to test it again"}
	}
	return nil
}

// Check says what is wrong with a report that was read, or nothing.
func (r *Report) Check() string {
	if r.Format != Format {
		return fmt.Sprintf("this is no report of the form %s", Format)
	}
	for _, c := range r.Checks {
		switch c.Status {
		case Pass, Fail, Warn, Skip:
		default:
			return fmt.Sprintf("%.40q is no outcome of a check", c.Status)
		}
	}
	return ""
}

// Outcome is the answer of a whole report.
type Outcome string

// The answers.
const (
	Ready        Outcome = "ready"
	Better       Outcome = "ready and it could be better"
	NotReady     Outcome = "not ready"
	Inconclusive Outcome = "inconclusive" // it was broken off, or nothing could be tested
)

// Outcome says whether the network is ready.
func (r *Report) Outcome() Outcome {
	switch {
	case len(r.Failed()) > 0:
		return NotReady
	case r.Broken != "" || r.Count(Pass) == 0:
		return Inconclusive
	case r.Count(Warn) > 0 || r.Count(Fail) > 0:
		return Better
	}
	return Ready
}

const maxReport = 8 << 20

// ParseReport reads a report that was written as JSON.
func ParseReport(b []byte) (*Report, error) {
	bad := func(text string, err error) (*Report, error) {
		return nil, &ringfence.Fault{Op: "verdict.parse", Kind: ringfence.KindInvalid, Text: text, Hint: "give what `ringfence ready run --json` wrote", Err: err}
	}
	if len(b) > maxReport {
		return bad("a report is at most 8 MiB long", nil)
	}
	var r Report
	if err := json.Unmarshal(b, &r); err != nil {
		return bad("this is no report", err)
	}
	if wrong := r.Check(); wrong != "" {
		return bad(wrong, nil)
	}
	return &r, nil
}
