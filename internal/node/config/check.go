package config

import (
	"fmt"
	"net/netip"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	"ringfence"
	"ringfence/internal/call/dialplan"
	"ringfence/internal/call/trunk"
	"ringfence/internal/service/cti"
	"ringfence/internal/trust/profile"
)

// Wrong is one thing that is wrong in a configuration that could be read.
type Wrong struct {
	Key  string // where, e.g. "dialplan.rules[2]"
	Text string // what
}

// String returns "key: text".
func (w Wrong) String() string { return w.Key + ": " + w.Text }

// Check returns everything that is wrong.
func (c Config) Check() []Wrong { return append(c.essential(), c.checkSounds()...) }

// essential returns what is wrong and keeps a node from starting. A sound that cannot be played does not: calls do without it.
func (c Config) essential() (wrong []Wrong) {
	bad := func(when bool, key, format string, args ...any) {
		if when {
			wrong = append(wrong, Wrong{key, fmt.Sprintf(format, args...)})
		}
	}
	host := regexp.MustCompile(`^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$`)
	bad(!host.MatchString(c.Domain), "domain", "%.80q is not a domain name in lower case", c.Domain)
	bad(c.Name == "" || len(c.Name) > 64, "name", "the organisation's name has 1 to 64 bytes")
	bad(!host.MatchString(c.Node), "node", "%.80q is not a host name in lower case", c.Node)
	bad(!c.SIP.TLS.IsValid(), "sip.tls", "an address with port is needed, e.g. \"[::]:5061\"")
	for i, o := range c.SIP.Origins {
		_, err := path.Match(o, "")
		bad(err != nil || o == "" || strings.ContainsAny(o, " \t"), fmt.Sprintf("sip.origins[%d]", i), "%.80q is neither a host name nor scheme://host", o)
		bad(o == "*", fmt.Sprintf("sip.origins[%d]", i), "any page of the world could use a phone's session; name the hosts")
	}
	for i, p := range c.SIP.Proxies {
		bad(!host.MatchString(p) || slices.Contains(c.SIP.Proxies[:i], p), fmt.Sprintf("sip.proxies[%d]", i), "%.80q is not a host name in lower case, or comes twice", p)
	}
	if at := c.SIP.ReachedAt; at != (netip.AddrPort{}) {
		bad(!at.IsValid() || at.Port() == 0 || at.Addr().IsUnspecified() || at.Addr().IsMulticast(), "sip.reached-at", "an address of this host with port is needed, e.g. \"192.0.2.11:5061\"")
		bad(c.Store.DSN == "", "sip.reached-at", "a database of one's own has no other nodes; it goes with store.dsn")
	}
	for i, s := range c.SIP.DNS {
		bad(!s.IsValid() || s.Port() == 0, fmt.Sprintf("sip.dns[%d]", i), "an address with port is needed, e.g. \"192.0.2.53:53\"")
	}
	bad(c.SIP.Expires < time.Minute || c.SIP.Expires > 24*time.Hour, "sip.expires", "%s is not between 1m and 24h", c.SIP.Expires)
	bad(!c.Media.Addr.IsValid(), "media.addr", "an address is needed, e.g. \"::\"")
	bad(c.Media.First < 1024 || c.Media.Last <= c.Media.First, "media.first", "the ports %d to %d are no range above 1023", c.Media.First, c.Media.Last)
	bad(c.Media.DSCP > 63, "media.dscp", "%d is above 63", c.Media.DSCP)
	bad(!c.API.HTTPS.IsValid(), "api.https", "an address with port is needed, e.g. \"[::]:8443\"")
	bad(c.Calls.Max < 1 || c.Calls.Max > 1_000_000, "calls.max", "%d is not between 1 and 1000000", c.Calls.Max)
	bad(c.Calls.Ring < 5*time.Second || c.Calls.Ring > 10*time.Minute, "calls.ring", "%s is not between 5s and 10m", c.Calls.Ring)
	bad(c.Calls.Silence < time.Second || c.Calls.Silence > time.Hour, "calls.silence", "%s is not between 1s and 1h", c.Calls.Silence)
	bad(!slices.Contains([]string{"text", "json"}, c.Log.Format), "log.format", "%.40q is neither text nor json", c.Log.Format)
	bad(!slices.Contains([]string{"debug", "info", "warn", "error"}, c.Log.Level), "log.level", "%.40q is none of debug, info, warn and error", c.Log.Level)
	for i, n := range c.NodeDNS {
		bad(!host.MatchString(n), fmt.Sprintf("node-names[%d]", i), "%.80q is not a host name in lower case", n)
	}
	bad(c.Enterprise.TVSRemember != 0 && (c.Enterprise.TVSRemember < time.Minute || c.Enterprise.TVSRemember > 30*24*time.Hour), "enterprise.tvs-remember", "%s is not between 1m and 720h", c.Enterprise.TVSRemember)
	for _, w := range cti.Check(c.CTI.Clients) {
		wrong = append(wrong, Wrong{"cti." + w.Key, w.Text})
	}
	bad(c.CTI.Listen.IsValid() && len(c.CTI.Clients) == 0, "cti.clients", "who may connect is needed, e.g. {identity: bwcticlient.webex.com, users: ['*']}")
	for _, w := range c.TLS.Check(c.ListensTLS()) {
		wrong = append(wrong, Wrong{"tls." + w.Path, w.Text})
	}
	for _, w := range c.Security.Check() {
		wrong = append(wrong, Wrong{"security." + w.Key, w.Text})
	}
	for _, w := range trunk.Check(c.Trunks, c.Security) {
		wrong = append(wrong, Wrong(w))
	}
	for i, t := range c.Trunks {
		bad(strings.EqualFold(t.Host, c.Domain), fmt.Sprintf("trunks[%d]", i), "host: %s is our own domain: whoever calls by this trunk would be shown as one of ours", t.Host)
	}
	bad(c.Plan.Trunk != "" && !slices.ContainsFunc(c.Trunks, func(t trunk.Trunk) bool {
		p, _ := c.Security.Trunk(t.Security)
		return t.Name == c.Plan.Trunk && p.Outgoing == profile.TLS
	}), "dialplan.trunk", "there is no trunk %.60q to which calls go out", c.Plan.Trunk)
	bad(c.Security.Mode == profile.Sealed && c.SIP.Plain.IsValid(), "sip.plain", "the cluster is encrypted: nobody may speak in the clear, and so nothing needs to listen there")
	if c.inFIPS() {
		for _, w := range c.TLS.CheckFIPS() {
			wrong = append(wrong, Wrong{"tls." + w.Path, w.Text})
		}
	}
	wrong = append(wrong, c.checkOAuth()...)
	wrong = append(wrong, c.checkOutside()...)
	wrong = append(wrong, c.Trust.Public.check()...)
	wrong = append(wrong, checkPlan(c.Plan)...)
	if len(wrong) == 0 {
		if err := ringfence.CheckFlows(c.Flows()); err != nil {
			wrong = append(wrong, Wrong{"", textOf(err)})
		}
	}
	return wrong
}

// checkPlan asks the dial plan about each of its parts alone, to say which one is wrong, and then about the whole.
func checkPlan(p dialplan.Plan) (wrong []Wrong) {
	part := func(key string, only dialplan.Plan) {
		only.Emergency = []string{"112"}
		if err := only.Validate(); err != nil {
			wrong = append(wrong, Wrong{key, textOf(err)})
		}
	}
	for i, r := range p.Rules {
		part(fmt.Sprintf("dialplan.rules[%d]", i), dialplan.Plan{Rules: []dialplan.Rule{r}})
	}
	for i, g := range p.Groups {
		part(fmt.Sprintf("dialplan.groups[%d]", i), dialplan.Plan{Groups: []dialplan.Group{g}})
	}
	for i, r := range p.Recordings {
		part(fmt.Sprintf("dialplan.recordings[%d]", i), dialplan.Plan{Recordings: []dialplan.Recording{r}})
	}
	if len(wrong) == 0 {
		if err := p.Validate(); err != nil {
			wrong = append(wrong, Wrong{"dialplan", textOf(err)})
		}
	}
	return wrong
}

func textOf(err error) string {
	if f, ok := err.(*ringfence.Fault); ok {
		return f.Text
	}
	return err.Error()
}
