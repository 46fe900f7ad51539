package config

import (
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/parser"

	"ringfence"
	"ringfence/internal/call/dialplan"
	"ringfence/internal/call/trunk"
	"ringfence/internal/service/cti"
	"ringfence/internal/sip/locate"
	"ringfence/internal/trust/profile"
	"ringfence/internal/trust/tlspolicy"
)

// Config is the whole configuration of a node. [Default] works without a file.
type Config struct {
	Domain string `yaml:"domain"` // the domain of every address-of-record
	Name   string `yaml:"name"`   // the organisation, as certificates name it
	Node   string `yaml:"node"`   // this node's name
	// FIPS runs the node in the FIPS 140-3 mode of Go's cryptography, which cannot be changed while a process runs; docs/guides/tls-policy.md.
	FIPS bool `yaml:"fips,omitempty"`

	SIP     SIP           `yaml:"sip"`
	Media   Media         `yaml:"media"`
	API     API           `yaml:"api"`
	Store   Store         `yaml:"store"`
	Calls   Calls         `yaml:"calls"`
	Plan    dialplan.Plan `yaml:"dialplan"`
	Log     Log           `yaml:"log"`
	Bus     Bus           `yaml:"bus"`
	Observe Observe       `yaml:"observe"`
	OAuth   OAuth         `yaml:"oauth,omitempty"`
	// Security is how securely phones and trunks must speak, and Trunks are the other telephone systems; docs/guides/trunks.md.
	Security profile.Security `yaml:"security,omitempty"`
	Trunks   []trunk.Trunk    `yaml:"trunks,omitempty"`
	// Enterprise is what only enterprise phones need.
	Enterprise Enterprise `yaml:"enterprise,omitempty"`
	// CTI is the interface by which other systems follow calls; docs/guides/cti.md.
	CTI CTI `yaml:"cti,omitempty"`
	// ACME gives the site's own machines their certificates (RFC 8555); EST gives devices of other vendors theirs (RFC 7030).
	ACME ACME `yaml:"acme,omitempty"`
	EST  EST  `yaml:"est,omitempty"`
	// Trust is what the node gets from authorities outside.
	Trust Trust `yaml:"trust,omitempty"`
	// TLS is what listeners speak, by place in the tree; docs/guides/tls-policy.md.
	TLS     tlspolicy.Tree `yaml:"tls,omitempty"`
	NodeDNS []string       `yaml:"node-names"` // further names of this node, for its certificate
}

// SIP says where signalling listens.
type SIP struct {
	TLS     netip.AddrPort `yaml:"tls"`     // SIP over TLS, e.g. [::]:5061
	Expires time.Duration  `yaml:"expires"` // longest registration
	WSS     netip.AddrPort `yaml:"wss"`     // SIP over secure WebSocket (RFC 7118), e.g. [::]:7443; empty: off
	Origins []string       `yaml:"origins"` // pages of other hosts that may use it: host names, or scheme://host with *
	// ReachedAt is where the other nodes of a shared database reach this node's SIP over TLS, e.g. 192.0.2.11:5061; empty: calls between phones at different nodes are
	// not possible.
	ReachedAt netip.AddrPort `yaml:"reached-at,omitempty"`
	// Plain is where devices with a named exception speak SIP in the clear over UDP and TCP, e.g. [::]:5060; empty: off, whatever
	// exceptions there are.
	Plain netip.AddrPort `yaml:"plain"`
	// OAuth is where phones and programs that have an access token and no certificate speak SIP over TLS, e.g. [::]:5090; empty: off.
	OAuth netip.AddrPort `yaml:"oauth,omitempty"`
	// ChallengeEach asks a device without a certificate for its credentials at each REGISTER, not only once a connection.
	ChallengeEach bool `yaml:"challenge-each,omitempty"`
	// Proxies are the names of the edge proxies through which phones may come (`ringfence trust issue --role proxy`); empty: none may.
	Proxies []string `yaml:"proxies,omitempty"`
	// DNS are the servers that are asked where a proxy is, address and port; empty: those of this host.
	DNS []netip.AddrPort `yaml:"dns,omitempty"`
}

// Media says which ports media uses.
type Media struct {
	Addr  netip.Addr `yaml:"addr"`
	First uint16     `yaml:"first"`
	Last  uint16     `yaml:"last"`
	DSCP  uint8      `yaml:"dscp"`
	// Advertise is the address phones reach our media at, if it is not the one they reach our signalling at.
	Advertise netip.Addr `yaml:"advertise"`
}

// API says where enrolment and the administration listen.
type API struct {
	HTTPS netip.AddrPort `yaml:"https"`
	// Revocation is where OCSP and revocation lists are also answered without TLS, e.g. [::]:8080; certificates that are signed from then on say so.
	// Empty: they are answered at https alone, and certificates do not mention it.
	Revocation netip.AddrPort `yaml:"revocation,omitempty"`
}

// Store says where facts are kept.
type Store struct {
	DSN string `yaml:"dsn"` // empty: SQLite in the data directory
}

// Calls bounds calls.
type Calls struct {
	Max  int           `yaml:"max"`
	Ring time.Duration `yaml:"ring"` // how long a call rings without an answer
	// Silence ends a call when a phone that should be heard has sent nothing that authenticates, not even RTCP, for so long.
	Silence time.Duration `yaml:"silence"`
	// Announcements are sound files (WAV, mono, 8000 or 16000 Hz, a minute at most) that a caller hears before a failing call is refused.
	Announcements Announcements `yaml:"announcements,omitempty"`
}

// Announcements names a sound file for each way to fail; empty: the caller's phone says what it says by itself.
type Announcements struct {
	Unknown     string `yaml:"unknown,omitempty"`     // nobody's number
	Barred      string `yaml:"barred,omitempty"`      // the caller may not call that
	Busy        string `yaml:"busy,omitempty"`        // busy, or not to be disturbed
	NoAnswer    string `yaml:"no-answer,omitempty"`   // it rang, and nobody answered
	Unreachable string `yaml:"unreachable,omitempty"` // no phone is registered, or there is no way there
}

// Files returns the sound files by the key they stand at.
func (a Announcements) Files() map[string]string {
	out := map[string]string{}
	for key, file := range map[string]string{"unknown": a.Unknown, "barred": a.Barred, "busy": a.Busy, "no-answer": a.NoAnswer, "unreachable": a.Unreachable} {
		if file != "" {
			out[key] = file
		}
	}
	return out
}

// OAuth says which programs may be signed in, besides our own phone, and where people may prove who they are.
type OAuth struct {
	Clients []OAuthClient `yaml:"clients,omitempty"`
	// Provider is an OpenID provider outside, at which people may prove who they are instead of typing an activation code; empty: none.
	Provider OpenID `yaml:"provider,omitempty"`
}

// OpenID is an OpenID provider, and who its people are here.
type OpenID struct {
	Issuer     string `yaml:"issuer,omitempty"`      // exactly as it calls itself, e.g. https://login.example.org/realms/staff
	ClientID   string `yaml:"client-id,omitempty"`   // how it knows this node
	SecretFile string `yaml:"secret-file,omitempty"` // file with the client secret, read at each use; empty: a public client
	Claim      string `yaml:"claim,omitempty"`       // which claim names our user; empty: preferred_username
	Strip      string `yaml:"strip,omitempty"`       // what has to end the claim and is taken off, e.g. "@example.org"
}

// ACME says whether and how machines get certificates by ACME, at the https port.
type ACME struct {
	Serve bool `yaml:"serve,omitempty"`
	// Networks are those in which machines are looked for when they show that a name is theirs; empty: every address but this host's and its link's.
	Networks []netip.Prefix `yaml:"networks,omitempty"`
	// HTTPPort and TLSPort are where they are looked for, if not at 80 and 443 as the standard has it.
	HTTPPort uint16 `yaml:"http-port,omitempty"`
	TLSPort  uint16 `yaml:"tls-port,omitempty"`
}

// Ports returns where machines are looked for.
func (a ACME) Ports() (http, tls uint16) {
	http, tls = 80, 443
	if a.HTTPPort != 0 {
		http = a.HTTPPort
	}
	if a.TLSPort != 0 {
		tls = a.TLSPort
	}
	return http, tls
}

// EST says whether and how devices get certificates by EST, at the https port.
type EST struct {
	Serve bool `yaml:"serve,omitempty"`
	// Linked takes only requests that are tied to their connection, which few devices can.
	Linked bool `yaml:"linked,omitempty"`
	// SameKey lets a device renew its certificate for the key that it has.
	SameKey bool `yaml:"same-key,omitempty"`
}

// Enterprise says what is done for enterprise phones, which believe what a trust list names.
type Enterprise struct {
	// Lists publishes trust lists, built anew whenever a certificate in them changes. They are also published for the sake of TVS and CAPF.
	Lists bool `yaml:"lists,omitempty"`
	// TVS is where phones ask whether a certificate is good, e.g. [::]:2445; empty: off.
	TVS netip.AddrPort `yaml:"tvs,omitempty"`
	// CAPF is where phones get their certificates (LSC) when that is ordered, e.g. [::]:3804; empty: off.
	CAPF netip.AddrPort `yaml:"capf,omitempty"`
	// Manufacturers are the aliases of anchors whose certificates in phones (MIC) count as a proof towards CAPF.
	Manufacturers []string `yaml:"manufacturers,omitempty"`
	// TVSRemember is for how long phones may remember an answer; that is also how long a revocation may take to reach them.
	TVSRemember time.Duration `yaml:"tvs-remember,omitempty"`
}

// Publishes reports whether trust lists are published.
func (e Enterprise) Publishes() bool { return e.Lists || e.TVS.IsValid() || e.CAPF.IsValid() }

// CTI says who may follow calls.
type CTI struct {
	// Listen is where clients connect, e.g. [::]:8012; empty: off.
	Listen netip.AddrPort `yaml:"listen,omitempty"`
	// Clients are the identities that may connect, and whose calls they may follow.
	Clients []cti.Client `yaml:"clients,omitempty"`
}

// OAuthClient is a program that may be signed in. It keeps no secret of its own.
type OAuthClient struct {
	ID        string   `yaml:"id"`
	Redirects []string `yaml:"redirects,omitempty"` // where an authorization code may be sent; http://127.0.0.1/… means any port
}

// Log says how to log.
type Log struct {
	Format string `yaml:"format"` // "text" or "json"
	Level  string `yaml:"level"`  // "debug", "info", "warn" or "error"
	Syslog string `yaml:"syslog"` // also to "tls://host:6514" (RFC 5425) or "unix:///dev/log"; empty: not
}

// Default returns a configuration that works on any host.
func Default() Config {
	return Config{
		Domain: "ringfence.internal", Name: "Ringfence", Node: "node-1",
		SIP:   SIP{TLS: netip.MustParseAddrPort("[::]:5061"), Expires: time.Hour, Origins: []string{}},
		Media: Media{Addr: netip.IPv6Unspecified(), First: 16384, Last: 32767, DSCP: 46},
		API:   API{HTTPS: netip.MustParseAddrPort("[::]:8443")},
		Calls: Calls{Max: 10_000, Ring: 2 * time.Minute, Silence: 90 * time.Second},
		Plan:  dialplan.Default(), Log: Log{Format: "text", Level: "info"}, Observe: Observe{Ladder: 500},
	}
}

// Load is Read of a file.
func Load(path string) (Config, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return Config{}, &ringfence.Fault{Op: "config.load", Kind: ringfence.KindNotFound, Text: "the configuration cannot be read", Err: err}
	}
	return Read(b, path)
}

// maxSize bounds a configuration file, in bytes.
const maxSize = 1 << 20

// Parse reads a configuration that is to be put into force, over the defaults; unknown keys are errors. name is used in errors, which name the file, and line
// and column where they are known, for each thing that is wrong.
func Parse(b []byte, name string) (Config, error) { return parse(b, name, Config.Check) }

// Read is Parse for one that was put into force before: what changed since then on the disk is wrong only if no node can run without it.
func Read(b []byte, name string) (Config, error) { return parse(b, name, Config.essential) }

func parse(b []byte, name string, check func(Config) []Wrong) (Config, error) {
	c := Default()
	if len(b) > maxSize {
		return c, &ringfence.Fault{Op: "config.parse", Kind: ringfence.KindInvalid, Text: name + " is larger than 1 MiB"}
	}
	file, err := parser.ParseBytes(b, 0)
	if err == nil && empty(file) {
		return c, nil
	}
	if err == nil {
		err = yaml.UnmarshalWithOptions(b, &c, yaml.Strict())
	}
	if err != nil {
		return Default(), &ringfence.Fault{Op: "config.parse", Kind: ringfence.KindInvalid, Text: located(name, file, err),
			Hint: "docs/guides/cli.md lists the keys; `ringfence config export` prints a whole file"}
	}
	if wrong := check(c); len(wrong) > 0 {
		return c, &ringfence.Fault{Op: "config.check", Kind: ringfence.KindInvalid, Text: locatedAll(name, file, wrong)}
	}
	return c, nil
}

// Export writes a configuration as a file that Parse reads back.
func Export(c Config) ([]byte, error) {
	b, err := yaml.MarshalWithOptions(c, yaml.UseLiteralStyleIfMultiline(true))
	if err != nil {
		return nil, &ringfence.Fault{Op: "config.export", Kind: ringfence.KindInternal, Text: "the configuration cannot be written", Err: err}
	}
	return b, nil
}

// Validate reports what keeps a node from starting, or nil.
func (c Config) Validate() error {
	wrong := c.essential()
	if len(wrong) == 0 {
		return nil
	}
	lines := make([]string, len(wrong))
	for i, w := range wrong {
		lines[i] = w.String()
	}
	return &ringfence.Fault{Op: "config.check", Kind: ringfence.KindInvalid, Text: strings.Join(lines, "\n")}
}

// ListensTLS returns the addresses of the listeners that speak TLS, by the names of their flows; invalid where one is off.
func (c Config) ListensTLS() map[string]netip.AddrPort {
	return map[string]netip.AddrPort{"sip": c.SIP.TLS, "sip-wss": c.SIP.WSS, "sip-oauth": c.SIP.OAuth, "https": c.API.HTTPS, "tvs": c.Enterprise.TVS, "capf": c.Enterprise.CAPF, "cti": c.CTI.Listen,
		"public-tls": c.Trust.Public.answersTLS()}
}

// trunksOut returns the trunks to which calls go out, each with where it is.
func (c Config) trunksOut() (out []string) {
	for _, t := range c.Trunks {
		if p, ok := c.Security.Trunk(t.Security); ok && p.Outgoing == profile.TLS {
			out = append(out, t.Name+" ("+t.HostPort()+")")
		}
	}
	return out
}

// AsksDNS reports whether the node looks for other SIP servers.
func (c Config) AsksDNS() bool { return len(c.SIP.Proxies) > 0 || len(c.trunksOut()) > 0 }

// Flows declares what the node needs of the network.
func (c Config) Flows() []ringfence.Flow {
	at := func(a netip.AddrPort) ringfence.PortRange {
		return ringfence.PortRange{First: a.Port(), Last: a.Port()}
	}
	flows := []ringfence.Flow{
		{Name: "sip-tls", Purpose: "SIP signalling of phones over TLS", Room: "sip/transport", Direction: ringfence.Listens, Transport: "tcp",
			Addr: c.SIP.TLS.Addr(), Ports: at(c.SIP.TLS), Peers: "any phone", DSCP: 24, TLS: ringfence.TLSServer},
		{Name: "media", Purpose: "voice of every call, sealed by SRTP", Room: "media/relay", Direction: ringfence.Listens, Transport: "udp",
			Addr: c.Media.Addr, Ports: ringfence.PortRange{First: c.Media.First, Last: c.Media.Last}, Peers: "any phone", DSCP: c.Media.DSCP, TLS: ringfence.MediaSRTP},
		{Name: "https", Purpose: "enrolment of devices and the administration API", Room: "node/admin", Direction: ringfence.Listens, Transport: "tcp",
			Addr: c.API.HTTPS.Addr(), Ports: at(c.API.HTTPS), Peers: "any phone, any administrator", TLS: ringfence.TLSServer},
		{Name: "admin-socket", Purpose: "administration from this host, guarded by file permissions", Room: "node/admin", Direction: ringfence.Listens,
			Transport: "unix", Path: "admin.sock", Peers: "this host", TLS: ringfence.HostSocket},
	}
	if c.API.Revocation.IsValid() {
		flows = append(flows, ringfence.Flow{Name: "revocation", Room: "trust/revocation", Direction: ringfence.Listens, Transport: "tcp", Addr: c.API.Revocation.Addr(), Ports: at(c.API.Revocation), Peers: "whoever verifies a certificate",
			Purpose: "OCSP and revocation lists, which are signed themselves; who is about to verify a certificate cannot ask by TLS", TLS: ringfence.TLSNone})
	}
	if c.SIP.WSS.IsValid() {
		flows = append(flows, ringfence.Flow{Name: "sip-wss", Purpose: "SIP signalling of browsers over secure WebSocket", Room: "sip/transport", Direction: ringfence.Listens,
			Transport: "tcp", Addr: c.SIP.WSS.Addr(), Ports: at(c.SIP.WSS), Peers: "any browser", DSCP: 24, TLS: ringfence.TLSServer})
	}
	if c.SIP.OAuth.IsValid() {
		flows = append(flows, ringfence.Flow{Name: "sip-oauth", Purpose: "SIP signalling over TLS of phones and programs that prove themselves by an access token", Room: "sip/transport",
			Direction: ringfence.Listens, Transport: "tcp", Addr: c.SIP.OAuth.Addr(), Ports: at(c.SIP.OAuth), Peers: "any phone that signed in", DSCP: 24, TLS: ringfence.TLSServer})
	}
	if c.ACME.Serve {
		plain, sealed := c.ACME.Ports()
		flows = append(flows, ringfence.Flow{Name: "acme-http", Purpose: "looks whether a machine that wants a certificate holds its name (RFC 8555 section 8.3), in the clear since it has none yet", Room: "trust/acme",
			Direction: ringfence.Dials, Transport: "tcp", Ports: ringfence.PortRange{First: plain, Last: plain}, Peers: "machines that order certificates", TLS: ringfence.TLSNone},
			ringfence.Flow{Name: "acme-tls", Purpose: "the same by RFC 8737, where the machine shows a certificate that it made for the occasion", Room: "trust/acme",
				Direction: ringfence.Dials, Transport: "tcp", Ports: ringfence.PortRange{First: sealed, Last: sealed}, Peers: "machines that order certificates", TLS: ringfence.TLSNone})
	}
	flows = append(flows, c.Trust.Public.flows()...)
	if c.Enterprise.TVS.IsValid() {
		flows = append(flows, ringfence.Flow{Name: "tvs", Purpose: "answers enterprise phones whether a certificate is good", Room: "trust/tvs", Direction: ringfence.Listens, Transport: "tcp",
			Addr: c.Enterprise.TVS.Addr(), Ports: at(c.Enterprise.TVS), Peers: "enterprise phones", TLS: ringfence.TLSServer})
	}
	if c.Enterprise.CAPF.IsValid() {
		flows = append(flows, ringfence.Flow{Name: "capf", Purpose: "gives enterprise phones their certificates when that was ordered", Room: "trust/capf", Direction: ringfence.Listens, Transport: "tcp",
			Addr: c.Enterprise.CAPF.Addr(), Ports: at(c.Enterprise.CAPF), Peers: "enterprise phones", TLS: ringfence.TLSServer})
	}
	if c.CTI.Listen.IsValid() {
		flows = append(flows, ringfence.Flow{Name: "cti", Purpose: "events of calls, for systems that have a client certificate and are named in cti.clients", Room: "service/cti", Direction: ringfence.Listens, Transport: "tcp",
			Addr: c.CTI.Listen.Addr(), Ports: at(c.CTI.Listen), Peers: "CTI clients", TLS: ringfence.TLSServer})
	}
	if c.SIP.Plain.IsValid() {
		for _, transport := range [...]string{"udp", "tcp"} {
			flows = append(flows, ringfence.Flow{Name: "sip-plain-" + transport, Purpose: "SIP in the clear, for devices with a named exception only; everybody else is refused",
				Room: "sip/transport", Direction: ringfence.Listens, Transport: transport, Addr: c.SIP.Plain.Addr(), Ports: at(c.SIP.Plain),
				Peers: "devices with a named exception", DSCP: 24, TLS: ringfence.TLSNone})
		}
	}
	if len(c.SIP.Proxies) > 0 {
		flows = append(flows, ringfence.Flow{Name: "sip-peer", Purpose: "SIP signalling to an edge proxy whose own connection is gone, at the address in its Path", Room: "sip/transport",
			Direction: ringfence.Dials, Transport: "tcp", Peers: "edge proxies: " + strings.Join(c.SIP.Proxies, ", "), DSCP: 24, TLS: ringfence.TLSMutual})
	}
	if out := c.trunksOut(); len(out) > 0 {
		flows = append(flows, ringfence.Flow{Name: "sip-trunk", Purpose: "SIP signalling to other telephone systems", Room: "call/trunk", Direction: ringfence.Dials, Transport: "tcp", Peers: "trunks: " + strings.Join(out, ", "), DSCP: 24, TLS: ringfence.TLSMutual})
	}
	if c.AsksDNS() {
		servers := c.SIP.DNS
		if len(servers) == 0 {
			servers = []netip.AddrPort{netip.AddrPortFrom(netip.IPv6Unspecified(), 53)} // those of this host
		}
		flows = append(flows, locate.Flows(servers)...)
	}
	if c.SIP.ReachedAt.IsValid() {
		flows = append(flows, ringfence.Flow{Name: "sip-node", Purpose: "calls to phones that are connected at another node of the same database", Room: "sip/transport",
			Direction: ringfence.Dials, Transport: "tcp", Peers: "the other nodes, where the database says that they are reached", DSCP: 24, TLS: ringfence.TLSMutual})
	}
	return c.outsideFlows(flows)
}
