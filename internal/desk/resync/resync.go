package resync

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"ringfence"
	"ringfence/internal/desk/flatprofile"
	"ringfence/internal/desk/profilerule"
	"ringfence/internal/trust/chain"
)

// Keeper keeps profiles from one start to the next. They hold passwords.
type Keeper interface {
	Load(rule string) (Kept, bool, error)
	Save(rule string, k Kept) error
}

// Kept is the last good profile of a rule.
type Kept struct {
	URL     string    `json:"url"` // where it came from
	At      time.Time `json:"at"`
	SHA256  string    `json:"sha256"`
	Profile []byte    `json:"profile"` // decrypted and unpacked
}

// Phone fetches the profiles of one phone. All but Device, Send and Keep are needed.
type Phone struct {
	Device Device
	TLS    *tls.Config // anchors, suites and the phone's certificate; the check of the server's name is added here
	Lookup func(ctx context.Context, host string) ([]netip.Addr, error)
	Dial   func(ctx context.Context, at netip.AddrPort) (net.Conn, error)
	Send   func(server string, line []byte) // one message to the syslog server that the profile names
	Keep   Keeper
	Now    func() time.Time
	// Proxy, if set, opens a way to a server by a web proxy, and says by which. Without a connection and without an error the way is the direct one.
	Proxy func(ctx context.Context, host string, port uint16) (conn net.Conn, via string, err error)

	custom []*x509.Certificate // of Custom_CA_Rule
	last   time.Time
	failed bool
	said   []string
}

// Outcome is what became of one rule.
type Outcome struct {
	Rule       string    `json:"rule"` // the parameter
	Condition  string    `json:"condition,omitempty"`
	URL        string    `json:"url,omitempty"`
	Server     string    `json:"server,omitempty"` // its address, or that of the proxy
	TLS        string    `json:"tls,omitempty"`
	Proven     string    `json:"proven,omitempty"` // subject of the server
	Decoded    []string  `json:"decoded,omitempty"`
	Parameters int       `json:"parameters"`
	Tried      []string  `json:"tried,omitempty"`    // addresses, in order
	Error      string    `json:"error,omitempty"`    // why nothing new came
	Hint       string    `json:"hint,omitempty"`     // what to do about it
	LastGood   time.Time `json:"last_good,omitzero"` // of the profile that is used instead
	Err        error     `json:"-"`
}

// Result is what a resync came to.
type Result struct {
	Set      *flatprofile.Set `json:"-"`
	Outcomes []Outcome        `json:"outcomes"`
	Messages []string         `json:"messages"` // for the syslog server
}

// Failed returns the first rule that brought nothing new, or nil.
func (r Result) Failed() error {
	for _, o := range r.Outcomes {
		if o.Err != nil {
			return o.Err
		}
	}
	return nil
}

// rules are the parameters that are gone through, in order.
func rules() []string {
	return []string{"Profile_Rule", "Profile_Rule_B", "Profile_Rule_C", "Profile_Rule_D"}
}

// Run goes through the rules that are in force, and returns what is in force then. What set holds is left as it is.
func (p *Phone) Run(ctx context.Context, set *flatprofile.Set) Result {
	p.said = nil
	r := Result{Set: set.Clone(), Outcomes: []Outcome{}}
	failed := false
	step := func(rule string, do func(context.Context, *flatprofile.Set, string, *Outcome) error) {
		text := r.Set.Text(rule)
		if text == "" {
			return
		}
		o := Outcome{Rule: rule}
		if err := do(ctx, r.Set, text, &o); err != nil {
			failed = true
			o.Err, o.Error, o.Hint = err, err.Error(), ringfence.HintOf(err)
		}
		r.Outcomes = append(r.Outcomes, o)
	}
	if r.Set.Text("Provision_Enable") != "No" {
		step("Custom_CA_Rule", p.anchors)
		for _, rule := range rules() {
			if r.Set.Get(rule).From == flatprofile.Default { // nobody set it: the default leads to TFTP
				continue
			}
			before := r.Set.Text("Custom_CA_Rule")
			step(rule, p.profile)
			if after := r.Set.Text("Custom_CA_Rule"); after != before {
				step("Custom_CA_Rule", p.anchors)
			}
		}
	}
	p.last, p.failed = p.Now(), failed
	r.Messages = p.said
	return r
}

// at returns what the macros stand for now.
func (p *Phone) at(set *flatprofile.Set) *circumstances {
	return &circumstances{device: p.Device, set: set, installed: len(p.TLS.Certificates) > 0 || p.TLS.GetClientCertificate != nil, last: p.last, now: p.Now(), failed: p.failed}
}

// file fetches the file that a rule leads to, decoded, and logs how it went. check says whether it is one that can be used.
func (p *Phone) file(ctx context.Context, set *flatprofile.Set, text string, o *Outcome, check func([]byte) error) (b []byte, err error) {
	c := p.at(set)
	defer func() {
		if err != nil {
			c.err = strings.TrimPrefix(err.Error(), "resync: ")
			p.log("Log_Failure_Msg", priorityError, c)
		}
	}()
	rule, err := profilerule.Parse(text)
	if err != nil {
		return nil, err
	}
	target, ok, err := rule.Choose(c.value, c.secret)
	if err != nil || !ok {
		return nil, err
	}
	o.Condition, o.URL = target.If, target.URL
	if len(target.Unknown) > 0 {
		return nil, bad("the rule has a macro that nobody knows: $%s", target.Unknown[0])
	}
	asked := false
	a, err := p.fetch(ctx, target, c, func() {
		o.Tried = append(o.Tried, c.by())
		if !asked {
			asked = true
			p.log("Log_Request_Msg", priorityNotice, c)
		}
	})
	if err != nil {
		return nil, err
	}
	o.Server = a.from
	if a.tls != nil && len(a.tls.PeerCertificates) > 0 {
		o.TLS, o.Proven = tls.VersionName(a.tls.Version)+", "+tls.CipherSuiteName(a.tls.CipherSuite), a.tls.PeerCertificates[0].Subject.String()
	}
	if b, o.Decoded, err = Decode(a.body, a.codings, target.Key, set.Text("IKM_HTTP_Encrypt_Content")); err == nil {
		err = check(b)
	}
	if err != nil {
		return nil, err
	}
	p.log("Log_Success_Msg", priorityNotice, c)
	return b, nil
}

// profile fetches a profile and puts it into force. If it cannot be had, the last good one of the rule is.
func (p *Phone) profile(ctx context.Context, set *flatprofile.Set, text string, o *Outcome) error {
	var f *flatprofile.File
	b, err := p.file(ctx, set, text, o, func(b []byte) (err error) {
		f, err = flatprofile.Parse(b)
		if err == nil && f.Root != flatprofile.Root {
			err = bad("the file is no profile: the element around all others is %.40q", f.Root)
		}
		return err
	})
	if err == nil && b == nil { // no alternative of the rule applies
		return nil
	}
	if err != nil {
		cause := p.lastGood(set, o, err)
		if ringfence.KindOf(err) == ringfence.KindNotFound && set.Text("Resync_Fails_On_FNF") == "No" && !o.LastGood.IsZero() {
			o.Decoded = append(o.Decoded, "nothing: the file is not there, and the one kept from "+o.LastGood.UTC().Format(time.RFC3339)+" stays in force")
			return nil
		}
		return cause
	}
	o.Parameters = len(f.Elements)
	set.Add(f, from(o.Rule, o.URL))
	if p.Keep == nil {
		return nil
	}
	sum := sha256.Sum256(b)
	if err := p.Keep.Save(o.Rule, Kept{URL: o.URL, At: p.Now(), SHA256: hex.EncodeToString(sum[:]), Profile: b}); err != nil {
		return &ringfence.Fault{Op: "resync.keep", Kind: ringfence.KindUnavailable, Text: "the profile is in force, and cannot be kept for when the server is gone", Err: err}
	}
	return nil
}

// lastGood puts the profile that was good before into force, and returns why it had to.
func (p *Phone) lastGood(set *flatprofile.Set, o *Outcome, cause error) error {
	if p.Keep == nil {
		return cause
	}
	k, ok, err := p.Keep.Load(o.Rule)
	if err != nil || !ok || k.URL != o.URL { // a rule that leads elsewhere now has no good profile yet
		return cause
	}
	f, err := flatprofile.Parse(k.Profile)
	if sum := sha256.Sum256(k.Profile); err != nil || hex.EncodeToString(sum[:]) != k.SHA256 {
		return cause // what was kept is damaged
	}
	o.LastGood, o.Parameters = k.At, len(f.Elements)
	set.Add(f, fmt.Sprintf("%s, kept from %s", from(o.Rule, k.URL), k.At.UTC().Format(time.RFC3339)))
	return cause
}

func from(rule, url string) string { return rule + " " + url }

// anchors fetches the anchors of the custom CA rule; the server that has them must be believed already.
func (p *Phone) anchors(ctx context.Context, set *flatprofile.Set, text string, o *Outcome) error {
	var certs []*x509.Certificate
	_, err := p.file(ctx, set, text, o, func(b []byte) (err error) {
		if certs, err = chain.Read(b); err != nil {
			return err
		}
		for _, c := range certs {
			if !c.IsCA {
				return &ringfence.Fault{Op: "resync.anchors", Kind: ringfence.KindInsecure, Text: fmt.Sprintf("%q is no certificate of an authority", c.Subject)}
			}
		}
		return nil
	})
	if err == nil && certs != nil {
		p.custom = certs
		for _, c := range certs {
			o.Decoded = append(o.Decoded, "anchor "+c.Subject.String())
		}
	}
	return err
}
