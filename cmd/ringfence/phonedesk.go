package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	"ringfence"
	"ringfence/internal/desk/cwmp"
	"ringfence/internal/desk/flatprofile"
	"ringfence/internal/desk/line"
	"ringfence/internal/desk/resync"
	"ringfence/internal/desk/webproxy"
	"ringfence/internal/network/kerberos"
	"ringfence/internal/network/phoneports"
	"ringfence/internal/node/sockets"
	"ringfence/internal/sip/locate"
	"ringfence/internal/state/durable"
	"ringfence/internal/trust/chain"
)

// The flows of a desk phone's provisioning.
const (
	flowProfile = "phone-profile"
	flowSyslog  = "phone-syslog"
	flowWeb     = "phone-web"
	flowWPAD    = "phone-wpad"
)

func provisioningFlows() []ringfence.Flow {
	return []ringfence.Flow{
		{Name: flowProfile, Purpose: "A phone fetches its profiles over HTTPS.", Room: "cmd/ringfence", Direction: ringfence.Dials, Transport: "tcp", Peers: "the provisioning server", TLS: ringfence.TLSMutual},
		{Name: flowSyslog, Purpose: "A phone tells of its resyncs, in the clear, since its profile names a syslog server; no secret is among that.", Room: "cmd/ringfence", Direction: ringfence.Listens, Transport: "udp",
			Peers: "the syslog server", TLS: ringfence.TLSNone},
		{Name: flowWeb, Purpose: "A phone goes out by the web proxy of its site, through which TLS reaches the server itself, and fetches the file that names it and a ticket of Kerberos for it.", Room: "cmd/ringfence", Direction: ringfence.Dials, Transport: "tcp",
			Peers: "the web proxy, and the key distribution centre of its realm", TLS: ringfence.TLSNone},
		{Name: flowWPAD, Purpose: "A phone asks a DHCP server where the file is that names the web proxy (option 252).", Room: "cmd/ringfence", Direction: ringfence.Listens, Transport: "udp", Ports: ringfence.PortRange{First: 68, Last: 68},
			Peers: "the DHCP server", TLS: ringfence.TLSNone},
	}
}

// deskPhone is what the verbs share that read a desk phone's profile.
type deskPhone struct {
	cfg     string
	rule    string
	mac     string
	product string
	serial  string
	version string
	ca      string
	cert    string
	key     string
	lsc     string
	signer  string           // of firmware that is given to other phones
	mic     *tls.Certificate // of --cert
	shown   [2]string        // the files of what 802.1X shows
	dns     string
	state   string
	table   atomic.Pointer[string] // of the firewall that is in force
	asked   string                 // the DHCP server that is asked where the web proxy's file is
	realm   string                 // of Kerberos, for a web proxy
	kdc     string
	resync  bool
	dhcp    string                    // the link that DHCP is asked on
	lease   bool                      // an address may be leased
	link    *link                     // with its sockets, if --dhcp is given
	release func()                    // gives back what was leased
	told    atomic.Pointer[dhcpView]  // what DHCP came to
	options *flatprofile.Set          // with the order of its options
	acs     atomic.Pointer[cwmp.Kept] // what the ACS set, without a directory to keep it in
	telling sync.Mutex
	onTold  atomic.Pointer[func(others, place bool)] // hears that DHCP says otherwise: that the phone has to ask others, or where its profile is
	onLost  atomic.Pointer[func(error)]              // hears that a lease is gone
	port    portAccess
	access  *access // 802.1X, if it is on
	vpn     bool    // the tunnel is opened, whatever Connect_on_Bootup says
	tunnel  *tunnel
	inside  bool                             // the way into the network was gone
	stays   atomic.Bool                      // the phone starts again, and keeps it
	patient bool                             // it waits for a network that is not there yet
	say     func(format string, args ...any) // hears what happens to its network
	warned  []string                         // what the way into the network came to
}

// noMAC is the address of a phone that nobody gave one.
const noMAC = "000000000000"

func (d *deskPhone) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&d.cfg, "cfg", "", "the configuration file (cfg.xml)")
	f.StringVar(&d.rule, "profile-rule", "", "fetch the profile as this rule says, as if it stood in Profile_Rule")
	f.BoolVar(&d.resync, "resync", false, "fetch what the rules in --cfg lead to")
	f.StringVar(&d.dhcp, "dhcp", "", "ask the DHCP servers of this link where the profile is; without a name, of the only link there is")
	f.Lookup("dhcp").NoOptDefVal = autoLink
	f.StringVar(&d.mac, "mac", noMAC, "MAC address of the phone, for $MA, $MAU and $MAC; with --dhcp that of the link")
	f.StringVar(&d.product, "product", "CP-8841-3PCC", "name of the product, for $PN and $PSN")
	f.StringVar(&d.serial, "serial", "", "serial number, for $SN")
	f.StringVar(&d.version, "firmware", "11.3.7", "version of the firmware, for $SWVER")
	f.StringVar(&d.ca, "ca", "", "believe the authorities in this file (PEM), and no others; without it those of this host")
	f.StringVar(&d.cert, "cert", "", "certificate of the phone, as its manufacturer gave it (MIC; PEM, with its chain)")
	f.StringVar(&d.key, "key", "", "its key (PEM)")
	f.StringVar(&d.lsc, "lsc", "", "directory with the phone's certificate of the site (lsc.pem, lsc.key), as ringfence trust capf run keeps it; without it --state. It is shown as soon as it is there, unless Certificate_Select is Manufacturing installed")
	f.StringVar(&d.dns, "dns", "", "ask this DNS server, ADDR or ADDR:PORT, instead of those of this host")
	f.StringVar(&d.asked, "wpad-dhcp", "", "ask this DHCP server where the file is that names the web proxy (Proxy_Mode Auto); --dhcp asks by itself, and without either DNS is asked alone")
	f.StringVar(&d.realm, "realm", "", "realm of Kerberos, for a web proxy that wants Negotiate; without it that is made with NTLM")
	f.StringVar(&d.kdc, "kdc", "", "its key distribution centre, HOST or HOST:PORT")
	f.StringVar(&d.state, "state", "", "directory that keeps the last good profiles, for when the server is gone; they hold passwords")
}

// profiles is what came of the files and rules that were given.
type profiles struct {
	set     *flatprofile.Set
	result  resync.Result
	fetched bool
	opener  *sockets.Opener
	names   *locate.Resolver
	tls     *tls.Config
	phone   *resync.Phone
	web     *webproxy.Phone
	noWeb   error // why the profile leaves no way to the web
}

// read takes the file, and fetches what the rules say.
func (d *deskPhone) read(ctx context.Context, flows ...ringfence.Flow) (*profiles, error) {
	if d.cfg == "" && d.rule == "" && d.dhcp == "" {
		return nil, invalid("there is no profile", "give --cfg FILE, --profile-rule RULE or --dhcp, or several")
	}
	p := &profiles{set: flatprofile.NewSet(flatprofile.Parameters())}
	var err error
	if d.cfg != "" {
		if p.set, err = readProfile(d.cfg); err != nil {
			return nil, err
		}
	}
	if d.rule != "" {
		p.set.Put(flatprofile.Value{Name: "Profile_Rule", Value: d.rule, From: "--profile-rule"})
	}
	if p.tls, err = d.trust(); err != nil {
		return nil, err
	}
	_, d.shown, _ = d.certificate(p.set.Get(certificateSelect), time.Now())
	if err := d.join(ctx, p.set); err != nil {
		return nil, err
	}
	mac := strings.ToLower(strings.NewReplacer(":", "", "-", "", ".", "").Replace(d.mac))
	if !regexp.MustCompile(`^[0-9a-f]{12}$`).MatchString(mac) {
		return nil, invalid("--mac "+d.mac+" is no MAC address", "write it as 00:0e:08:ab:cd:ef")
	}
	d.present(p.tls, p.set.Get(certificateSelect))
	servers, search, err := nameServers(d.dns)
	if err != nil {
		return nil, err
	}
	told, domains := d.tunnelServers()
	if len(told) == 0 {
		told, domains = d.nameServers()
	}
	if d.dns == "" && len(told) > 0 {
		servers, search = told, domains
	}
	if p.opener, err = sockets.New(append(append(append(provisioningFlows(), signInFlow()), flows...), locate.Flows(servers)...)); err != nil {
		return nil, err
	}
	var hosts map[string][]netip.Addr
	if text, err := os.ReadFile("/etc/hosts"); err == nil {
		hosts = locate.ParseHosts(text)
	}
	p.names = locate.New(locate.Config{Opener: p.opener, Servers: servers, Search: search, Hosts: hosts})
	conf := p.tls.Clone()
	line.Suites(p.set).Apply(conf)
	p.phone = &resync.Phone{Device: resync.Device{MAC: mac, Product: d.product, Serial: d.serial, SWVer: d.version}, TLS: conf, Lookup: p.lookup, Now: time.Now,
		Dial: func(ctx context.Context, at netip.AddrPort) (net.Conn, error) {
			return p.opener.Dial(ctx, flowProfile, at)
		},
		Send: func(server string, text []byte) { p.syslog(ctx, server, text) }}
	if d.state != "" {
		p.phone.Keep = keptProfiles(d.state)
	}
	if err := d.goByProxy(p, search); err != nil {
		return nil, err
	}
	for _, rule := range []string{"Profile_Rule", "Profile_Rule_B", "Profile_Rule_C", "Profile_Rule_D"} {
		p.fetched = p.fetched || p.set.Get(rule).From != flatprofile.Default && p.set.Text(rule) != ""
	}
	if p.fetched = p.fetched && (d.rule != "" || d.resync); p.fetched { // a file alone is read, and leads nowhere
		p.result = p.phone.Run(ctx, p.set)
		p.set = p.result.Set
		d.present(p.tls, p.set.Get(certificateSelect))
		p.web.Setting, p.noWeb = webproxy.Of(p.set) // what came counts from now on
	}
	if err := d.restoreACS(p.set); err != nil {
		return p, err
	}
	return p, d.restoreChanges(p.set)
}

// goByProxy has provisioning go by the web proxy that the profile names. Signalling and voice know nothing of it.
func (d *deskPhone) goByProxy(p *profiles, search []string) error {
	conf := p.tls.Clone()
	conf.GetClientCertificate = nil // a proxy is not told whose phone this is
	p.web = &webproxy.Phone{Lookup: p.lookup, TLS: conf, Domains: search, Now: time.Now, Own: p.opener.SourceFor,
		Dial: func(ctx context.Context, at netip.AddrPort) (net.Conn, error) { return p.opener.Dial(ctx, flowWeb, at) },
		Listen: func(ctx context.Context, at netip.AddrPort) (net.PacketConn, error) {
			return p.opener.ListenUDP(ctx, flowWPAD, at)
		}}
	if domain := p.set.Text("Domain"); domain != "" {
		p.web.Domains = append([]string{domain}, search...)
	}
	if d.asked != "" {
		at, err := netip.ParseAddr(d.asked)
		if err != nil || !at.Is4() {
			return invalid(fmt.Sprintf("--wpad-dhcp %.60q is no address of a DHCP server", d.asked), "write --wpad-dhcp 192.0.2.1")
		}
		p.web.DHCP = netip.AddrPortFrom(at, 67)
	}
	if d.dhcp != "" {
		p.web.Offered = d.offeredProxy
	}
	if (d.realm == "") != (d.kdc == "") {
		return invalid("Kerberos takes --realm and --kdc together", "")
	}
	if d.realm != "" {
		p.web.Ticket = func(ctx context.Context, service string) ([]byte, error) { return d.ticket(ctx, p, service) }
	}
	p.web.Setting, p.noWeb = webproxy.Of(p.set)
	p.phone.Proxy = func(ctx context.Context, host string, port uint16) (net.Conn, string, error) {
		if p.noWeb != nil {
			return nil, "", p.noWeb
		}
		conn, use, err := p.web.Connect(ctx, webproxy.Provisioning, host, port)
		return conn, use.Way, err
	}
	return nil
}

// ticket gets a ticket of Kerberos for a web proxy, for the user of the profile.
func (d *deskPhone) ticket(ctx context.Context, p *profiles, service string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	host, text, err := net.SplitHostPort(d.kdc)
	if err != nil {
		host, text = d.kdc, "88"
	}
	port, err := parsePort(text)
	if err != nil {
		return nil, invalid(fmt.Sprintf("%.60q is no key distribution centre", d.kdc), "give HOST or HOST:PORT with --kdc")
	}
	user := p.web.Setting.User[strings.LastIndexByte(p.web.Setting.User, '\\')+1:]
	user, _, _ = strings.Cut(user, "@")
	k := &kerberos.Client{Realm: d.realm, User: user, Password: p.web.Setting.Password, Ask: func(ctx context.Context, b []byte) ([]byte, error) {
		found, err := p.lookup(ctx, host)
		if err == nil && len(found) > 0 {
			var conn net.Conn
			if conn, err = p.opener.Dial(ctx, flowWeb, netip.AddrPortFrom(found[0], port)); err == nil {
				defer func() { _ = conn.Close() }()
				if end, ok := ctx.Deadline(); ok {
					_ = conn.SetDeadline(end)
				}
				return kerberos.Exchange(conn, b)
			}
		}
		return nil, &ringfence.Fault{Kind: ringfence.KindUnavailable, Text: "the key distribution centre " + d.kdc + " cannot be reached", Hint: "check --kdc, and that TCP is allowed to port 88", Err: err}
	}}
	return k.Token(ctx, service)
}

// webStatus is by which web proxy a desk phone goes, and why.
type webStatus struct {
	webproxy.Setting
	Used  []webproxy.Use `json:"used"`
	Error string         `json:"error,omitempty"`
	Hint  string         `json:"hint,omitempty"`
}

func (p *profiles) webStatus() webStatus {
	s := webStatus{Setting: p.web.Setting, Used: p.web.Uses()}
	if s.Used == nil {
		s.Used = []webproxy.Use{}
	}
	if p.noWeb != nil {
		s.Error, s.Hint = p.noWeb.Error(), ringfence.HintOf(p.noWeb)
	}
	return s
}

func printWeb(w io.Writer, s webStatus) {
	how := "none: Proxy_Mode is Off"
	switch s.Mode {
	case webproxy.Manual:
		how = s.Host
		if s.SignsIn {
			how += ", as " + s.User
		}
	case webproxy.Auto:
		how = "by the file at " + s.PAC
		if s.WPAD {
			how = "by a file that WPAD finds"
		}
	}
	if s.Mode != webproxy.Off {
		how += "; Proxy_Mode is " + string(s.Mode)
	}
	fmt.Fprintf(w, "web proxy: %s (%s)\n", how, s.From)
	if s.Error != "" {
		fmt.Fprintf(w, "  FAILED: %s\n", s.Error)
		if s.Hint != "" {
			fmt.Fprintf(w, "  hint: %s\n", s.Hint)
		}
	}
	for _, u := range s.Used {
		scheme := ""
		if u.Scheme != "" && u.Scheme != "none" {
			scheme = ", signed in by " + u.Scheme
		}
		fmt.Fprintf(w, "  %s to %s: %s%s, since %s\n", u.Application, u.Target, u.Way, scheme, u.Because)
		if u.Error != "" {
			fmt.Fprintf(w, "    FAILED: %s\n", u.Error)
		}
		if u.Warning != "" {
			fmt.Fprintf(w, "    WARNING: %s\n", u.Warning)
		}
	}
}

// lookup returns the A records of a name. Provisioning asks for no others.
func (p *profiles) lookup(ctx context.Context, host string) ([]netip.Addr, error) {
	servers, err := p.names.Host(host, 443)
	if err != nil {
		return nil, err
	}
	found, err := servers.Find(ctx)
	var out []netip.Addr
	_, literal := netip.ParseAddr(host)
	for _, at := range found {
		if a := at.Addr().Unmap(); (a.Is4() || literal == nil) && !slices.Contains(out, a) {
			out = append(out, a)
		}
	}
	return out, err
}

// syslog sends one message, if it can. A phone goes on without.
func (p *profiles) syslog(ctx context.Context, server string, text []byte) {
	host, port, err := net.SplitHostPort(server)
	if err != nil {
		host, port = server, "514"
	}
	n, err := parsePort(port)
	if err != nil {
		return
	}
	found, err := p.lookup(ctx, host)
	if err != nil || len(found) == 0 {
		return
	}
	local := netip.IPv4Unspecified()
	if found[0].Is6() {
		local = netip.IPv6Unspecified()
	}
	pc, err := p.opener.ListenUDP(ctx, flowSyslog, netip.AddrPortFrom(local, 0))
	if err != nil {
		return
	}
	_, _ = pc.WriteTo(text, net.UDPAddrFromAddrPort(netip.AddrPortFrom(found[0], n)))
	_ = pc.Close()
}

// trust reads whom the phone believes, and its own certificate.
func (d *deskPhone) trust() (*tls.Config, error) {
	conf := &tls.Config{MinVersion: tls.VersionTLS12}
	var err error
	if d.ca == "" {
		if conf.RootCAs, err = x509.SystemCertPool(); err != nil {
			conf.RootCAs = x509.NewCertPool()
		}
	} else {
		b, err := readWhole(d.ca, chain.MaxFile)
		if err != nil {
			return nil, err
		}
		certs, err := chain.Read(b)
		if err != nil {
			return nil, err
		}
		conf.RootCAs = x509.NewCertPool()
		for _, c := range certs {
			conf.RootCAs.AddCert(c)
		}
	}
	if (d.cert == "") != (d.key == "") {
		return nil, invalid("--cert and --key belong together", "give both, or none")
	}
	if d.cert != "" {
		pair, err := tls.LoadX509KeyPair(d.cert, d.key)
		if err != nil {
			return nil, &ringfence.Fault{Kind: ringfence.KindInvalid, Text: "the phone's certificate and key cannot be used", Err: err, Hint: "both are PEM, and the key is that of the certificate"}
		}
		d.mic = &pair
	}
	return conf, nil
}

// keptProfiles is a directory of the last good profiles.
type keptProfiles string

func (k keptProfiles) file(rule string) string { return filepath.Join(string(k), rule+".json") }

// Load implements resync.Keeper.
func (k keptProfiles) Load(rule string) (out resync.Kept, ok bool, err error) {
	b, err := readWhole(k.file(rule), 2*flatprofile.MaxSize)
	if errors.Is(err, fs.ErrNotExist) {
		return out, false, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &out)
	}
	return out, err == nil, err
}

// Save implements resync.Keeper.
func (k keptProfiles) Save(rule string, p resync.Kept) error {
	b, err := json.Marshal(p)
	if err == nil {
		err = os.MkdirAll(string(k), 0o700)
	}
	if err == nil {
		err = durable.Replace(k.file(rule), b)
	}
	return err
}

// explained is a parameter as `phone explain` tells of it.
type explained struct {
	Name    string `json:"name"`
	Value   string `json:"value"`
	From    string `json:"from"`
	Line    int    `json:"line,omitempty"`
	Tab     string `json:"tab,omitempty"`
	Section string `json:"section,omitempty"`
	Does    string `json:"does,omitempty"`
	Did     string `json:"did"`
}

// explanation is what `phone explain --json` prints.
type explanation struct {
	DHCP       *dhcpView        `json:"dhcp,omitempty"`
	Resync     []resync.Outcome `json:"resync,omitempty"`
	Messages   []string         `json:"syslog,omitempty"`
	Warnings   []string         `json:"warnings"`
	Web        webStatus        `json:"web_proxy"`
	Parameters []explained      `json:"parameters"`
}

// explain says what each parameter is, where it came from, and what it did.
func explain(p *profiles, uses map[string]string, all bool, only []string) (explanation, error) {
	plan := line.Of(p.set)
	out := explanation{Resync: p.result.Outcomes, Messages: p.result.Messages, Warnings: []string{}, Web: p.webStatus(), Parameters: []explained{}}
	did := uses
	for _, u := range plan.Used {
		did[u.Name] = u.Did
	}
	for _, o := range p.result.Outcomes {
		switch {
		case o.Err != nil && !o.LastGood.IsZero():
			did[o.Rule] = "failed: the profile kept from " + o.LastGood.UTC().Format(time.RFC3339) + " is in force"
		case o.Err != nil:
			did[o.Rule] = "failed: nothing of it is in force"
		default:
			did[o.Rule] = fmt.Sprintf("brought %d parameters from %s", o.Parameters, o.URL)
		}
	}
	explainWeb(p, did)
	for _, o := range phoneports.Look(p.set).Open {
		for _, because := range o.Because {
			name, _, _ := strings.Cut(because, " = ")
			name, _, _ = strings.Cut(name, ":")
			if known, _, ok := p.set.Catalogue().Find(name); ok && p.set.Get(name).From != flatprofile.Default && (known.Section != "SIP Settings" || did[name] == "") {
				opens := "leaves " + o.Transport + " " + o.Ports.String() + " open"
				if did[name] != "" {
					opens = did[name] + "; " + opens
				}
				did[name] = opens
			}
		}
	}
	add := func(v flatprofile.Value) {
		known, _, ok := p.set.Catalogue().Find(v.Name)
		e := explained{Name: v.Name, Value: v.Value, From: v.From, Line: v.Line, Tab: known.Tab, Section: known.Section, Does: known.Does, Did: did[v.Name]}
		if v.Secret && v.Value != "" {
			e.Value = "(secret)"
		}
		switch {
		case e.Did != "":
		case !ok:
			e.Did = "passed over: there is no such parameter in the catalogue"
		case known.Type == flatprofile.Rule && v.From != flatprofile.Default && strings.HasPrefix(v.Name, "Profile_Rule"):
			e.Did = "not followed: --resync does"
		case known.Now != "":
			e.Did = "taken as " + known.Now
		case v.From == flatprofile.Default:
			e.Did = "-"
		default:
			e.Did = "kept; this phone does nothing with it"
		}
		out.Parameters = append(out.Parameters, e)
	}
	listed := map[string]bool{}
	for _, v := range p.set.Changed() {
		listed[v.Name] = true
		if len(only) == 0 || slices.Contains(only, v.Name) {
			add(v)
		}
	}
	for _, u := range plan.Used { // what nobody set and still counts
		if !listed[u.Name] && len(only) == 0 {
			listed[u.Name] = true
			add(u.Value)
		}
	}
	if all {
		for _, known := range p.set.Catalogue().All() {
			name := known.Name
			if i := strings.Index(name, "_n_"); i >= 0 {
				name = name[:i] + "_1_"
			}
			if !listed[name] {
				listed[name] = true
				add(p.set.Get(name))
			}
		}
	}
	for _, name := range only {
		if listed[name] {
			continue
		}
		if _, _, ok := p.set.Catalogue().Find(name); !ok {
			hint := "`ringfence phone explain --all` lists them"
			if meant := p.set.Catalogue().Nearest(name); meant != "" {
				hint = "is " + meant + " meant?"
			}
			return out, &ringfence.Fault{Kind: ringfence.KindNotFound, Text: "there is no parameter " + strconv.Quote(name), Hint: hint}
		}
		add(p.set.Get(name))
	}
	out.Warnings = append(out.Warnings, plan.Ciphers.Warnings...)
	for _, l := range plan.Lines {
		out.Warnings = append(out.Warnings, l.Warnings...)
		if l.Refused != nil {
			out.Warnings = append(out.Warnings, fmt.Sprintf("line %d is not used: %s", l.Number, l.Reason))
		}
	}
	return out, nil
}

// explainWeb says what the parameters of the web proxy did.
func explainWeb(p *profiles, did map[string]string) {
	s := p.web.Setting
	switch s.Mode {
	case webproxy.Off:
		did["Proxy_Mode"] = "no application goes by a web proxy"
	case webproxy.Manual:
		did["Proxy_Mode"] = "provisioning goes by " + s.Host + "; signalling and voice do not"
		did["Proxy_Host"], did["Proxy_Port"] = "the web proxy", "its port"
		if s.SignsIn {
			did["Proxy_Server_Requires_Authentication"], did["Proxy_Username"], did["Proxy_Password"] = "signs in, by the safest scheme that the proxy offers", "who signs in", "with which password"
		}
	case webproxy.Auto:
		did["Proxy_Mode"] = "a file of the site decides how provisioning goes; signalling and voice go directly"
		did["Use_Auto_Discovery__WPAD_"] = map[bool]string{true: "the file is found by DHCP and DNS", false: "the file is where PAC_URL says"}[s.WPAD]
		if !s.WPAD {
			did["PAC_URL"] = "where the file is"
		}
	}
	if p.noWeb != nil {
		did["Proxy_Mode"] = "FAILED: " + p.noWeb.Error()
	}
}

func newPhoneExplainCommand() *cobra.Command {
	d := &deskPhone{}
	var all, asJSON bool
	cmd := &cobra.Command{
		Use: "explain [PARAMETER…]", Short: "Say of each parameter of a desk phone what it is, where it came from, and what it did",
		Long: "explain reads a desk phone's file (--cfg), or fetches the profile that a rule leads to (--profile-rule), as the phone does, and prints each parameter that was set or counts: its value, the file or rule and\n" +
			"the line that it came from, and what it did. With names it tells of those alone; with --all of every parameter there is. Secrets are not shown.\n\n" +
			"A profile is fetched by HTTPS only. The server must prove its name; --ca names whom to believe, --cert and --key who the phone is. With --state the last good profile is kept, and used\n" +
			"when the server is gone or sends nonsense. It fails if a rule brought nothing new. With --dhcp it asks the network where the profile is, unless a rule says so, and prints what the servers\n" +
			"sent; see `ringfence phone dhcp`. docs/guides/desk-phone.md tells of rules.",
		Example: "  ringfence phone explain --cfg cfg.xml\n  ringfence phone explain --profile-rule '[--key \"$SA\"] https://prov.example.com/$MA.xml' --cfg keys.xml --mac 00:0e:08:ab:cd:ef\n" +
			"  ringfence phone explain SIP_Transport_1_ --cfg cfg.xml --json\n  ringfence phone explain --dhcp=eth0 --ca ca.pem",
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := d.read(cmd.Context())
			if err != nil {
				return err
			}
			e, err := explain(p, d.networkUses(p.set), all, args)
			if err != nil {
				return err
			}
			e.DHCP = d.told.Load()
			if err := show(cmd, asJSON, e, func(w io.Writer) { printExplained(w, e) }); err != nil {
				return err
			}
			return p.result.Failed()
		},
	}
	d.flags(cmd)
	cmd.Flags().BoolVar(&all, "all", false, "tell of every parameter of the catalogue; of lines and keys of the first")
	return jsonFlag(cmd, &asJSON)
}

func printResync(w io.Writer, outcomes []resync.Outcome, messages []string) {
	for _, o := range outcomes {
		what := fmt.Sprintf("%d parameters from %s", o.Parameters, o.URL)
		switch {
		case o.Err != nil && !o.LastGood.IsZero():
			what = fmt.Sprintf("FAILED: %s; the profile kept from %s is in force", o.Error, o.LastGood.UTC().Format(time.RFC3339))
		case o.Err != nil:
			what = "FAILED: " + o.Error
		case o.URL == "":
			what = "no alternative of the rule applies"
		case o.Rule == "Custom_CA_Rule":
			what = join(o.Decoded, ", ") + " from " + o.URL
		}
		fmt.Fprintf(w, "%s: %s\n", o.Rule, what)
		if o.Proven != "" {
			fmt.Fprintf(w, "  from %s, which is %s (%s)\n", o.Server, o.Proven, o.TLS)
		}
		if len(o.Decoded) > 0 && o.Rule != "Custom_CA_Rule" {
			fmt.Fprintf(w, "  decoded: %s\n", join(o.Decoded, ", "))
		}
	}
	for _, m := range messages {
		fmt.Fprintf(w, "syslog: %s\n", m)
	}
}

func printExplained(w io.Writer, e explanation) {
	if e.DHCP != nil {
		printDHCP(w, *e.DHCP)
	}
	printResync(w, e.Resync, e.Messages)
	if e.Web.Mode != webproxy.Off || e.Web.Error != "" {
		printWeb(w, e.Web)
	}
	var rows [][]string
	for _, x := range e.Parameters {
		from := x.From
		if x.Line > 0 {
			from += ":" + strconv.Itoa(x.Line)
		}
		rows = append(rows, []string{x.Name, x.Value, from, x.Did})
	}
	table(w, []string{"PARAMETER", "VALUE", "FROM", "DID"}, rows)
	for _, text := range e.Warnings {
		fmt.Fprintf(w, "WARNING: %s\n", text)
	}
}
