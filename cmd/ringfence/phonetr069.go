package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"ringfence"
	"ringfence/internal/desk/cwmp"
	"ringfence/internal/desk/flatprofile"
	"ringfence/internal/desk/line"
	"ringfence/internal/network/need"
	"ringfence/internal/network/phoneports"
	"ringfence/internal/state/durable"
)

// The flows of TR-069.
const (
	flowACS  = "phone-acs"
	flowBell = "phone-connection-request"
)

// The ports that a phone chooses from for connection requests (seed document 003, table 4).
const firstBell, lastBell = 8000, 9999

func tr069Flows() []ringfence.Flow {
	return []ringfence.Flow{
		{Name: flowACS, Purpose: "A phone lets its auto-configuration server read and write its parameters (TR-069).", Room: "desk/cwmp", Direction: ringfence.Dials, Transport: "tcp", Peers: "the ACS", TLS: ringfence.TLSMutual},
		{Name: flowBell, Purpose: "An ACS asks for a session, by Digest at an address that nobody can guess. TR-069 wants that in the clear: it says nothing, and the session that follows is within TLS.", Room: "desk/cwmp",
			Direction: ringfence.Listens, Transport: "tcp", Ports: ringfence.PortRange{First: firstBell, Last: lastBell}, Peers: "the ACS", TLS: ringfence.TLSNone},
	}
}

// managed is a phone that an ACS manages.
type managed struct {
	profile *cwmp.Profile
	client  *cwmp.Client
	first   []cwmp.Occasion
	bell    net.Listener
	server  *http.Server
	port    uint16 // of connection requests; 0: none

	mu   sync.Mutex
	last *cwmp.Session
}

const acsName = "acs.json"

// keptByACS reads what an ACS set before.
func (d *deskPhone) keptByACS() (k cwmp.Kept, err error) {
	if d.state == "" {
		if inMemory := d.acs.Load(); inMemory != nil {
			k = *inMemory
		}
		return k, nil
	}
	b, err := readWhole(filepath.Join(d.state, acsName), 1<<20)
	if errors.Is(err, fs.ErrNotExist) {
		return k, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &k)
	}
	if err != nil {
		return k, &ringfence.Fault{Kind: ringfence.KindInvalid, Text: "what the ACS set before cannot be read: " + filepath.Join(d.state, acsName), Hint: "remove the file; the ACS sets it again", Err: err}
	}
	return k, nil
}

func (d *deskPhone) keepACS(k cwmp.Kept) error {
	if d.state == "" {
		d.acs.Store(&k)
		return nil
	}
	b, err := json.MarshalIndent(k, "", "  ")
	if err == nil {
		err = os.MkdirAll(d.state, 0o700)
	}
	if err == nil {
		err = durable.Replace(filepath.Join(d.state, acsName), b)
	}
	return err
}

// restoreACS puts what an ACS set before into force, if the phone is managed by one.
func (d *deskPhone) restoreACS(set *flatprofile.Set) error {
	if !set.Yes("Enable_TR-069") {
		return nil
	}
	k, err := d.keptByACS()
	if err == nil {
		cwmp.Restore(set, k)
	}
	return err
}

// acsURL is where the ACS is: as the profile says, else as DHCP does.
func (d *deskPhone) acsURL(set *flatprofile.Set) string {
	told := d.told.Load()
	if u := set.Text("ACS_URL"); u != "" || told == nil || told.Choice.ACS == nil || !set.Yes("TR-069_DHCPOption_Init") {
		return u
	}
	return told.Choice.ACS.URL
}

// manage makes the phone ready for its ACS.
func (d *deskPhone) manage(ctx context.Context, p *profiles, tell func(cwmp.Session)) (*managed, error) {
	if !p.set.Yes("Enable_TR-069") {
		return nil, &ringfence.Fault{Kind: ringfence.KindNotFound, Text: "no ACS manages the phone: Enable_TR-069 is No", Hint: "set Enable_TR-069 to Yes, and ACS_URL"}
	}
	where := d.acsURL(p.set)
	if where == "" {
		return nil, &ringfence.Fault{Kind: ringfence.KindNotFound, Text: "no ACS manages the phone: ACS_URL is empty", Hint: "set ACS_URL, or let DHCP name the ACS (option 43 or 125)"}
	}
	u, err := cwmp.ParseURL(where)
	if err != nil {
		return nil, err
	}
	if err := p.set.Permit(u.Hostname()); err != nil {
		return nil, err
	}
	kept, err := d.keptByACS()
	if err != nil {
		return nil, err
	}
	m := &managed{}
	mac := strings.ToUpper(p.phone.Device.MAC)
	id := cwmp.Identity{Manufacturer: "Ringfence", OUI: mac[:6], ProductClass: d.product, Serial: cmp.Or(d.serial, mac)}
	bell := ""
	var rung <-chan struct{}
	if user, password := p.set.Text("Connection_Request_Username"), p.set.Text("Connection_Request_Password"); user != "" && password != "" {
		ring := &cwmp.Doorbell{Path: cwmp.NewPath(), User: user, Password: password, Now: time.Now}
		at, err := m.listen(ctx, p, u)
		if err != nil {
			return nil, err
		}
		m.port, rung, bell = at.Port(), ring.Rung(), "http://"+at.String()+ring.Path
		m.server = &http.Server{Handler: ring, ReadTimeout: 5 * time.Second, WriteTimeout: 5 * time.Second, IdleTimeout: 5 * time.Second, MaxHeaderBytes: 8 << 10, ErrorLog: log.New(io.Discard, "", 0)}
		go func() { _ = m.server.Serve(m.bell) }()
	}
	if kept.ACS != where { // another one has other wishes
		kept.Notify, kept.Told, kept.Scheduled, kept.Order, kept.Transfers = nil, nil, nil, nil, nil
	}
	m.profile = cwmp.NewProfile(p.set, id, cmp.Or(p.phone.Device.HWVer, "1"), d.version, bell, kept, d.keepACS)
	if kept.ACS != where {
		m.first = append(m.first, cwmp.Occasion{Event: cwmp.Bootstrap})
	}
	m.first = append(m.first, cwmp.Occasion{Event: cwmp.Boot})
	if kept.Reboot {
		m.first = append(m.first, cwmp.Occasion{Event: cwmp.Rebooted, Key: kept.RebootKey})
	}
	m.client = &cwmp.Client{Identity: id, Phone: m.profile, Rung: rung, ACS: func() cwmp.ACS { return d.reach(p, m.profile.Values()) }, Interval: func() (time.Duration, bool) {
		set := m.profile.Values()
		n, err := strconv.ParseUint(set.Text("Periodic_Inform_Interval"), 10, 31)
		return m.profile.Kept().Periodic(time.Duration(n)*time.Second, time.Now()), err == nil && n > 0 && set.Yes("Periodic_Inform_Enable")
	}, Tell: func(s cwmp.Session) {
		m.note(s, where)
		tell(s)
	}, Fetch: func(ctx context.Context, o cwmp.Order) (bool, error) {
		f, err := p.phone.Profile(ctx, m.profile.Values(), o.URL, o.User, o.Password)
		if err != nil {
			return false, err
		}
		_, err = m.profile.Take(f)
		return err == nil, err
	}, Retry: func() (uint32, uint32) { return d.retry(m.profile.Kept()) }}
	return m, nil
}

// retry is what the phone waits by after a session that failed: as the ACS said, else as DHCP did (TR-069 section 3.1).
func (d *deskPhone) retry(k cwmp.Kept) (wait, multiplier uint32) {
	if told := d.told.Load(); told != nil && told.Choice.ACS != nil {
		if n, err := strconv.ParseUint(told.Choice.ACS.RetryWait, 10, 16); err == nil && n > 0 && k.RetryWait == 0 {
			k.RetryWait = uint32(n)
		}
		if n, err := strconv.ParseUint(told.Choice.ACS.RetryMultiplier, 10, 16); err == nil && n >= 1000 && k.RetryMultiplier == 0 {
			k.RetryMultiplier = uint32(n)
		}
	}
	return k.Retry()
}

// reach is how the ACS is reached with the parameters that are in force.
func (d *deskPhone) reach(p *profiles, set *flatprofile.Set) cwmp.ACS {
	conf := p.tls.Clone()
	line.Suites(set).Apply(conf)
	conf.RootCAs = p.phone.Roots()
	version := 0
	if set.Yes("CWMP_V1.2_Support") {
		version = 2
	}
	return cwmp.ACS{URL: d.acsURL(set), User: set.Text("ACS_Username"), Password: set.Text("ACS_Password"), Version: version, Named: set.Text("ACS_URL") == "", TLS: conf, Now: time.Now, Lookup: func(ctx context.Context, host string) ([]netip.Addr, error) {
		if err := set.Permit(host); err != nil { // a redirection, or an ACS_URL of the ACS itself
			return nil, err
		}
		return p.lookup(ctx, host)
	}, Dial: func(ctx context.Context, at netip.AddrPort) (net.Conn, error) {
		return p.opener.Dial(ctx, flowACS, at)
	}}
}

// note keeps what a session came to.
func (m *managed) note(s cwmp.Session, where string) {
	m.mu.Lock()
	m.last = &s
	m.mu.Unlock()
	if s.Error == "" || s.Reboot { // the ACS has heard of the first events
		_ = m.profile.Remember(func(k *cwmp.Kept) { k.ACS, k.Reboot, k.RebootKey = where, s.Reboot, s.Key })
	}
}

func (m *managed) session() *cwmp.Session {
	if m == nil {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.last
}

// listen opens one port by chance, at the address by which the phone reaches the ACS.
func (m *managed) listen(ctx context.Context, p *profiles, u *url.URL) (netip.AddrPort, error) {
	found, err := p.lookup(ctx, u.Hostname())
	if err != nil || len(found) == 0 {
		return netip.AddrPort{}, &ringfence.Fault{Kind: ringfence.KindUnavailable, Text: "there is no address of " + u.Hostname(), Hint: "see ACS_URL", Err: err}
	}
	own, err := p.opener.SourceFor(netip.AddrPortFrom(found[0], 443))
	if err != nil {
		return netip.AddrPort{}, err
	}
	for range 20 {
		at := netip.AddrPortFrom(own, uint16(firstBell+rand.IntN(lastBell-firstBell+1)))
		if m.bell, err = p.opener.Listen(ctx, flowBell, at); err == nil {
			return at, nil
		}
	}
	return netip.AddrPort{}, err
}

func (m *managed) close() {
	if m != nil && m.server != nil {
		_ = m.server.Close()
	}
}

// opened narrows what the phone's firewall leaves open for connection requests to the one port that was chosen.
func (m *managed) opened(v *phoneports.View) {
	if m == nil || m.port == 0 {
		return
	}
	for i, o := range v.Open {
		if o.One && o.Transport == "tcp" && o.Ports.First <= m.port && m.port <= o.Ports.Last {
			v.Open[i].One, v.Open[i].Ports = false, need.Ports{First: m.port, Last: m.port}
		}
	}
}

func newPhoneTR069Command() *cobra.Command {
	d := &deskPhone{}
	var once, asJSON bool
	cmd := &cobra.Command{
		Use: "tr069", Short: "Let an auto-configuration server manage a desk phone (TR-069), and say what it does", Args: cobra.NoArgs,
		Long: "tr069 tells the ACS of a desk phone's profile (Enable_TR-069, ACS_URL) that the phone is there, lets it read and write the phone's parameters, and prints what it asked in each session. It goes on at\n" +
			"Periodic_Inform_Interval, and when the ACS asks for it (Connection_Request_Username, by Digest at a port from 8000 to 9999), until it is interrupted or the ACS asks for a restart. `ringfence phone up` does so as well.\n\n" +
			"The ACS is reached by HTTPS alone and must prove its name to --ca. A change is made as a whole or not at all, and only if the phone would take it from its file. With --state it is kept, and in force at the next start.\n" +
			"docs/guides/desk-phone.md tells of the data model.",
		Example: "  ringfence phone tr069 --cfg cfg.xml --ca ca.pem --once\n  ringfence phone tr069 --cfg cfg.xml --ca ca.pem --state /var/lib/desk\n  ringfence phone tr069 --cfg cfg.xml --once --json | jq '.requests'",
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			p, err := d.read(ctx, tr069Flows()...)
			if err != nil {
				return err
			}
			if once {
				return d.oneSession(ctx, cmd, p, asJSON)
			}
			m, err := d.manage(ctx, p, func(s cwmp.Session) { _ = show(cmd, asJSON, s, func(w io.Writer) { printSession(w, s) }) })
			if err != nil {
				return err
			}
			defer m.close()
			if m.port != 0 {
				fmt.Fprintf(cmd.ErrOrStderr(), "connection requests are heard at port %d\n", m.port)
			}
			if reboot, _ := m.client.Run(ctx, m.first); reboot {
				fmt.Fprintln(cmd.ErrOrStderr(), "the ACS asks for a restart, or had the phone take a profile that counts from the next start on")
			}
			return nil
		},
	}
	d.flags(cmd)
	cmd.Flags().BoolVar(&once, "once", false, "make one session and end; it fails if the session does")
	return jsonFlag(cmd, &asJSON)
}

func (d *deskPhone) oneSession(ctx context.Context, cmd *cobra.Command, p *profiles, asJSON bool) error {
	p.set.Put(flatprofile.Value{Name: "Connection_Request_Username", From: "--once"}) // nobody can ask for another session
	m, err := d.manage(ctx, p, func(cwmp.Session) {})
	if err != nil {
		return err
	}
	s, failed := m.client.ACS().Run(ctx, m.client.Identity, m.profile, m.first, 0)
	m.client.Tell(s)
	if err := show(cmd, asJSON, s, func(w io.Writer) { printSession(w, s) }); err != nil {
		return err
	}
	return failed
}

func printSession(w io.Writer, s cwmp.Session) {
	var events []string
	for _, e := range s.Events {
		events = append(events, string(e.Event))
	}
	fmt.Fprintf(w, "%s  %s  %s\n", s.At.Format(time.RFC3339), s.URL, join(events, ", "))
	if s.TLS != "" {
		fmt.Fprintf(w, "  from %s, which is %s (%s)\n", s.Server, s.Subject, s.TLS)
	}
	for _, d := range s.Done {
		fmt.Fprintf(w, "  %s", d.Method)
		if len(d.Names) > 0 {
			fmt.Fprintf(w, ": %s", join(d.Names, ", "))
		}
		if d.Fault != "" {
			fmt.Fprintf(w, ": REFUSED: %s", d.Fault)
		}
		fmt.Fprintln(w)
	}
	if s.Reboot {
		fmt.Fprintln(w, "  the ACS asks for a restart")
	}
	if s.Error != "" {
		fmt.Fprintf(w, "  FAILED: %s\n", s.Error)
	}
}
