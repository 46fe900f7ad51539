package tlspolicy

import (
	"crypto/tls"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"ringfence"
	"ringfence/internal/trust/cipherlist"
)

// Tree is the settings by place.
type Tree map[string]Settings

// Wrong is one thing that is wrong in a tree.
type Wrong struct{ Path, Text string }

// Check returns everything that is wrong, by place. listens are the addresses of the listeners by their class, as far as they are known: settings for
// an address at which nothing can listen are wrong, so that nobody believes them to hold.
func (t Tree) Check(listens map[string]netip.AddrPort) (wrong []Wrong) {
	for _, path := range slices.Sorted(maps.Keys(t)) {
		e, err := ParsePlace(path)
		if err != nil {
			wrong = append(wrong, Wrong{path, textOf(err)})
			continue
		}
		for _, text := range t[path].check(e) {
			wrong = append(wrong, Wrong{path, text})
		}
		if at, ok := listens[e.Class]; e.Addr.IsValid() && !e.Dials && listens != nil {
			switch {
			case !ok || !at.IsValid():
				wrong = append(wrong, Wrong{path, "nothing listens as " + e.Class})
			case !reaches(unmapped(at), e.Addr):
				wrong = append(wrong, Wrong{path, e.Class + " listens at " + at.String() + ", so that this would never hold"})
			}
		}
	}
	if len(wrong) > 0 {
		return wrong
	}
	for _, e := range t.endpoints() {
		wrong = append(wrong, t.together(e)...)
	}
	return sorted(wrong)
}

// reaches reports whether a connection to addr can arrive at what listens at at. Port 0 is whatever the system chooses.
func reaches(at, addr netip.AddrPort) bool {
	if at.Port() != 0 && at.Port() != addr.Port() {
		return false
	}
	return at.Addr() == addr.Addr() || at.Addr().IsUnspecified() && (at.Addr().Is6() || addr.Addr().Is4())
}

// endpoints returns every class, and each place of the tree that has an address.
func (t Tree) endpoints() (out []Endpoint) {
	for _, name := range Classes() {
		out = append(out, At(name, netip.AddrPort{}))
	}
	for _, path := range slices.Sorted(maps.Keys(t)) {
		if e, err := ParsePlace(path); err == nil && e.Addr.IsValid() {
			out = append(out, e)
		}
	}
	return out
}

// together returns what is wrong with the settings that an endpoint ends up with, each at the place that it comes from.
func (t Tree) together(e Endpoint) (wrong []Wrong) {
	f := t.For(e)
	from := f.from
	at := func(name, text string) { wrong = append(wrong, Wrong{from(name).Place, name + ": " + text}) }
	// A setting for everything is no mistake where an endpoint has its own; where it has not, this is what would come of it.
	if auth := from("client-auth"); e.Class == "https" && auth.Value != "request" {
		at("client-auth", auth.Value+" would hold for https too, where devices renew by their certificate and everybody else has none; set /interface/https to request beside it")
	}
	if f.max < f.min {
		place := from("max")
		if place.Place == builtInPlace {
			place = from("min")
		}
		wrong = append(wrong, Wrong{place.Place, "max: " + from("max").Value + " is below min " + from("min").Value + " at " + e.Class})
	}
	if !e.Dials && slices.Contains(f.anchors, HostAnchors) {
		at("anchors", HostAnchors+" would hold for "+e.Class+" too, where it means every public authority of the world, whose certificates anybody can get; set the anchors of "+HostAnchors+" where the node connects, such as /system/transport/observe")
	}
	if f.max == tls.VersionTLS12 && !slices.ContainsFunc(f.groups, classical) {
		at("groups", "none of them is for TLS 1.2, and "+e.Class+" speaks nothing else: nobody could connect; add x25519 or secp256r1")
	}
	if from("name-check").Value == "subjects" && len(f.subjects) == 0 {
		at("name-check", "subjects are to be checked at "+e.Class+", but none are set")
	}
	return wrong
}

const builtInPlace = "built in"

// builtIn is what holds where nothing is set.
func builtIn(e Endpoint) Settings {
	c, _ := classOf(e.Class)
	s := Settings{Min: "1.2", Max: "1.3", Suites: "ECDHE+AESGCM:ECDHE+CHACHA20:!PSK", Groups: []string{"X25519MLKEM768", "x25519", "secp256r1"}, Identity: NodeIdentity, Anchors: strings.Fields(c.anchors), ClientAuth: c.auth}
	if c.identity != "" {
		s.Identity = c.identity
	}
	if c.dials {
		s.NameCheck = "host"
	}
	return s
}

// Decision says where a setting comes from.
type Decision struct {
	Setting string   `json:"setting"`
	Value   string   `json:"value"`
	Place   string   `json:"place"`          // "built in" where nothing is set
	Over    []string `json:"over,omitempty"` // the less specific places whose value does not count, as PLACE: VALUE
}

// Effective is what an endpoint speaks.
type Effective struct {
	Endpoint  Endpoint   `json:"-"`
	Decisions []Decision `json:"decisions"`

	min, max  uint16
	suites    []uint16
	groups    []tls.CurveID
	identity  string
	anchors   []string
	auth      tls.ClientAuthType
	subjects  []string
	bySubject bool // the server must prove one of the subjects instead of the name that was dialled
}

// For returns what an endpoint speaks. The tree must have been checked.
func (t Tree) For(e Endpoint) Effective {
	f := Effective{Endpoint: e}
	base, value := builtIn(e), map[string]string{}
	for _, field := range fields() {
		if !field.fits(e) {
			continue
		}
		d := Decision{Setting: field.name, Value: field.value(base), Place: builtInPlace}
		for _, place := range e.places() {
			if v := field.value(t[place]); v != "" {
				d.Over = append(d.Over, d.Place+": "+d.Value)
				d.Value, d.Place = v, place
			}
		}
		f.Decisions = append(f.Decisions, d)
		value[field.name] = d.Value
	}
	version := map[string]uint16{"1.2": tls.VersionTLS12, "1.3": tls.VersionTLS13}
	f.min, f.max = version[value["min"]], version[value["max"]]
	if list, err := cipherlist.Parse(value["suites"]); err == nil {
		f.suites = list.Served()
	}
	for g := range strings.FieldsSeq(value["groups"]) {
		if id, ok := group(g); ok {
			f.groups = append(f.groups, id)
		}
	}
	f.identity, f.anchors, f.subjects, f.bySubject = value["identity"], strings.Fields(value["anchors"]), strings.Fields(value["subjects"]), value["name-check"] == "subjects"
	switch value["client-auth"] {
	case "none":
		f.auth = tls.NoClientCert
	case "require":
		f.auth = tls.RequireAndVerifyClientCert
	default:
		f.auth = tls.VerifyClientCertIfGiven
	}
	return f
}

// Named returns the aliases of identities and anchors that the tree names and that may be missing, each with the place that names it.
func (t Tree) Named() (identities, anchors map[string]string) {
	identities, anchors = map[string]string{}, map[string]string{}
	for _, path := range slices.Sorted(maps.Keys(t)) {
		if id := t[path].Identity; id != "" && id != NodeIdentity {
			identities[id] = path
		}
		for _, a := range t[path].Anchors {
			if a != OwnAnchors && a != HostAnchors {
				anchors[a] = path
			}
		}
	}
	return identities, anchors
}

// apply puts the part that needs nobody else into a configuration.
func (f Effective) apply(c *tls.Config) {
	c.MinVersion, c.MaxVersion, c.CipherSuites, c.CurvePreferences = f.min, f.max, f.suites, f.groups
	if !f.Endpoint.Dials {
		c.ClientAuth = f.auth
	}
}

func invalid(text, hint string) error {
	return &ringfence.Fault{Op: "tlspolicy", Kind: ringfence.KindInvalid, Text: text, Hint: hint}
}

func textOf(err error) string {
	if hint := ringfence.HintOf(err); hint != "" {
		return err.(*ringfence.Fault).Text + "; " + hint
	}
	return err.Error()
}
