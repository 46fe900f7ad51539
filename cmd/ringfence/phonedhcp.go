package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"ringfence"
	"ringfence/internal/desk/dhcp"
	"ringfence/internal/desk/flatprofile"
	"ringfence/internal/node/sockets"
)

// The flows of DHCP.
const (
	flowDHCP4 = "phone-dhcp"
	flowDHCP6 = "phone-dhcpv6"
	flowARP   = "phone-arp"
)

func dhcpFlows() []ringfence.Flow {
	return []ringfence.Flow{
		{Name: flowDHCP4, Purpose: "A phone asks DHCP servers, in the clear, since there is no other way; what they say is no more than a place whose owner has to prove it.", Room: "desk/dhcp", Direction: ringfence.Listens, Transport: "udp",
			Ports: ringfence.PortRange{First: 68, Last: 68}, Peers: "the DHCP servers of one link", TLS: ringfence.TLSNone},
		{Name: flowDHCP6, Purpose: "A phone asks DHCPv6 servers, in the clear, for the same.", Room: "desk/dhcp", Direction: ringfence.Listens, Transport: "udp",
			Ports: ringfence.PortRange{First: 546, Last: 546}, Peers: "the DHCPv6 servers of one link", TLS: ringfence.TLSNone},
		{Name: flowARP, Purpose: "A phone asks whether an address that it was given is taken; ARP has no other way.", Room: "desk/dhcp", Direction: ringfence.Listens, Transport: "ethernet", Peers: "the hosts of one link", TLS: ringfence.TLSNone},
	}
}

// Waiting for servers.
const (
	dhcpPatience = 10 * time.Second // for the first
	dhcpOther    = 3 * time.Second  // for the other family, once one has answered
)

// dhcpView is what DHCP came to.
type dhcpView struct {
	Link     string        `json:"link"`
	Answers  []dhcp.Answer `json:"answers"`
	Choice   dhcp.Choice   `json:"profile"`
	Warnings []string      `json:"warnings"`
	Changed  []string      `json:"changed,omitempty"` // by the last answer that changed something
	Kept     []string      `json:"kept,omitempty"`    // of earlier answers, since the last one has nothing that could take its place
}

// link is a network of this host, and the two clients that ask on it.
type link struct {
	*net.Interface
	v4   *dhcp.V4
	v6   *dhcp.V6
	own4 netip.Addr
	own6 netip.Addr // not the link-local one
	arp  func() (io.ReadWriteCloser, error)

	asking sync.Mutex // of options alone: one answer is for one question
}

// autoLink is what --dhcp without a name means.
const autoLink = "auto"

// findLink returns the link of a name, or the only one there is.
func findLink(name string) (*net.Interface, error) {
	all, err := net.Interfaces()
	if err != nil {
		return nil, &ringfence.Fault{Kind: ringfence.KindUnavailable, Text: "the links of this host cannot be listed", Err: err}
	}
	var names []string
	var found *net.Interface
	for i := range all {
		l := &all[i]
		if len(l.HardwareAddr) != 6 || l.Flags&net.FlagLoopback != 0 || l.Flags&net.FlagUp == 0 {
			continue
		}
		names = append(names, l.Name)
		if l.Name == name || name == autoLink && found == nil {
			found = l
		}
	}
	switch {
	case found == nil && name == autoLink:
		return nil, &ringfence.Fault{Kind: ringfence.KindNotFound, Text: "this host has no Ethernet link that is up", Hint: "see ip link"}
	case found == nil:
		return nil, &ringfence.Fault{Kind: ringfence.KindNotFound, Text: fmt.Sprintf("there is no Ethernet link %q that is up", name), Hint: "there is " + join(names, ", ")}
	case name == autoLink && len(names) > 1:
		return nil, invalid("this host has several links: "+join(names, ", "), "name one: --dhcp="+names[0])
	}
	return found, nil
}

// openLink opens the sockets of a link. The address families are those of IP_Mode.
func openLink(ctx context.Context, opener *sockets.Opener, set *flatprofile.Set, i *net.Interface, class string) (*link, error) {
	l := &link{Interface: i, arp: func() (io.ReadWriteCloser, error) {
		return opener.OpenFrames(flowARP, i.Name, dhcp.EtherTypeARP, [6]byte{}, false)
	}}
	var local netip.Addr
	addrs, err := i.Addrs()
	if err != nil {
		return nil, &ringfence.Fault{Kind: ringfence.KindUnavailable, Text: "the addresses of " + i.Name + " cannot be listed", Err: err}
	}
	for _, a := range addrs {
		p, err := netip.ParsePrefix(a.String())
		switch own := p.Addr(); {
		case err != nil:
		case own.Is4() && !l.own4.IsValid():
			l.own4 = own
		case own.Is6() && own.IsLinkLocalUnicast() && !local.IsValid():
			local = own
		case own.Is6() && own.IsGlobalUnicast() && !l.own6.IsValid():
			l.own6 = own
		}
	}
	mode := set.Text("IP_Mode")
	hint := "run it as root; another DHCP client of this host may have the port"
	if mode != "IPv6 Only" && set.Text("Connection_Type") != "Static IP" {
		c, err := opener.ListenLink(ctx, flowDHCP4, i.Name, netip.AddrPortFrom(netip.IPv4Unspecified(), 68))
		if err != nil {
			return nil, &ringfence.Fault{Kind: ringfence.KindDenied, Text: "DHCP is asked from port 68 of " + i.Name + ", which cannot be opened", Err: err, Hint: hint}
		}
		l.v4 = &dhcp.V4{Conn: c, Hardware: [6]byte(i.HardwareAddr), HostName: set.Text("Host_Name"), Class: class}
	}
	if mode != "IPv4 Only" && set.Text("IPv6_Connection_Type") != "Static IP" && local.IsValid() {
		c, err := settled(ctx, func() (net.PacketConn, error) {
			return opener.ListenLink(ctx, flowDHCP6, i.Name, netip.AddrPortFrom(local.WithZone(i.Name), 546))
		})
		if err != nil && l.v4 == nil {
			return nil, &ringfence.Fault{Kind: ringfence.KindDenied, Text: "DHCPv6 is asked from port 546 of " + i.Name + ", which cannot be opened", Err: err, Hint: hint}
		}
		if err == nil {
			l.v6 = &dhcp.V6{Conn: c, Hardware: [6]byte(i.HardwareAddr), Zone: i.Name, Class: class}
		}
	}
	if l.v4 == nil && l.v6 == nil {
		return nil, invalid("the profile asks for no address by DHCP", "see IP_Mode, Connection_Type and IPv6_Connection_Type")
	}
	return l, nil
}

// settled opens a socket at an address that may be new, and so tentative for a moment (RFC 4862).
func settled(ctx context.Context, open func() (net.PacketConn, error)) (c net.PacketConn, err error) {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for range 20 {
		if c, err = open(); err == nil || ctx.Err() != nil {
			break
		}
		<-tick.C
	}
	return c, err
}

func (l *link) close() {
	if l.v4 != nil {
		_ = l.v4.Conn.Close()
	}
	if l.v6 != nil {
		_ = l.v6.Conn.Close()
	}
}

// ask asks by both families at once. With take an address is leased where the link has none; otherwise one is offered at most, and nothing changes.
func (l *link) ask(ctx context.Context, take bool, patience time.Duration) ([]dhcp.Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var four, six []dhcp.Answer
	var err4, err6 error
	var wg sync.WaitGroup
	answered := func(err error) {
		if err == nil { // the other one has had its time as well
			time.AfterFunc(dhcpOther, cancel)
		}
	}
	if l.v4 != nil {
		wg.Go(func() { four, err4 = l.ask4(ctx, take); answered(err4) })
	}
	if l.v6 != nil {
		wg.Go(func() { six, err6 = l.ask6(ctx, take); answered(err6) })
	}
	wg.Wait()
	if all := append(four, six...); len(all) > 0 {
		return all, nil
	}
	if err4 != nil {
		return nil, err4
	}
	return nil, err6
}

func (l *link) ask4(ctx context.Context, take bool) ([]dhcp.Answer, error) {
	if l.own4.IsValid() {
		return l.v4.Inform(ctx, l.own4)
	}
	offers, err := l.v4.Discover(ctx)
	if err != nil || !take {
		return offers, err
	}
	leased, err := l.v4.Request(ctx, offers[0])
	if err != nil {
		return nil, err
	}
	frames, err := l.arp()
	if err != nil {
		return nil, err
	}
	taken, err := l.v4.Taken(ctx, frames, leased.Address.Addr())
	if err == nil && taken {
		_ = l.v4.Decline(leased) // RFC 2131 section 3.1
		err = &ringfence.Fault{Kind: ringfence.KindConflict, Text: fmt.Sprintf("%s leases %s, which another host of the link has already", leased.Server, leased.Address.Addr()), Hint: "the server was told; start again, and find who has the address: ip neigh"}
	}
	if err != nil {
		return nil, err
	}
	return append([]dhcp.Answer{leased}, offers[1:]...), nil
}

func (l *link) ask6(ctx context.Context, take bool) ([]dhcp.Answer, error) {
	if take && !l.own6.IsValid() {
		half, cancel := context.WithTimeout(ctx, dhcpPatience/2)
		offers, err := l.v6.Solicit(half)
		if err == nil {
			var leased dhcp.Answer
			if leased, err = l.v6.Request(half, offers[0]); err == nil {
				cancel()
				return append([]dhcp.Answer{leased}, offers[1:]...), nil
			}
		}
		cancel()
	}
	return l.v6.Inform(ctx)
}

// look says what answers come to, by the order of options in the profile.
func lookAt(l *net.Interface, set *flatprofile.Set, answers []dhcp.Answer) dhcpView {
	v := dhcpView{Link: l.Name, Answers: answers, Warnings: dhcp.Others(answers)}
	order4, wrong4 := dhcp.ParseOrder(set.Text("DHCP_Option_To_Use"), dhcp.IPv4)
	order6, wrong6 := dhcp.ParseOrder(set.Text("DHCPv6_Option_To_Use"), dhcp.IPv6)
	for _, w := range wrong4 {
		v.Warnings = append(v.Warnings, "DHCP_Option_To_Use: "+w)
	}
	for _, w := range wrong6 {
		v.Warnings = append(v.Warnings, "DHCPv6_Option_To_Use: "+w)
	}
	v.Choice = dhcp.Choose(order4, order6, answers)
	return v
}

// vendorClass is what a phone says it is. One that an ACS manages says so, or servers would not tell of the ACS (TR-069 section 3.1).
func vendorClass(product string, set *flatprofile.Set) string {
	if set.Yes("Enable_TR-069") {
		return product + " dslforum.org"
	}
	return product
}

// configure gives the link the addresses that were leased, their routers, and a route to them.
func (l *link) configure(ctx context.Context, answers []dhcp.Answer) error {
	for _, a := range answers {
		if a.Kind != dhcp.Leased {
			continue
		}
		if err := l.setAddress(ctx, a); err != nil {
			return err
		}
		if a.Family == dhcp.IPv4 && len(a.Routers) > 0 {
			if err := runIP(ctx, "-4", "route", "replace", "default", "via", a.Routers[0].String(), "dev", l.Name, "onlink"); err != nil {
				return err
			}
		}
	}
	return nil
}

func (l *link) setAddress(ctx context.Context, a dhcp.Answer) error {
	args := []string{"address", "replace", a.Address.String(), "dev", l.Name}
	if a.Lifetime != dhcp.Forever {
		preferred := a.Lifetime
		if a.Family == dhcp.IPv6 {
			preferred = a.Preferred
		}
		args = append(args, "valid_lft", fmt.Sprint(int(a.Lifetime/time.Second)), "preferred_lft", fmt.Sprint(int(min(preferred, a.Lifetime)/time.Second)))
	}
	return runIP(ctx, args...)
}

// hold renews what was leased, and asks again for options that came alone, until ctx ends; and gives back what was leased then. later hears each answer, conflict of another host that has the address, and lost why it is gone.
func (l *link) hold(ctx context.Context, answers []dhcp.Answer, later func(dhcp.Answer), conflict func(string), lost func(error)) (release func()) {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	for _, a := range answers {
		if a.Kind == dhcp.Information {
			wg.Go(func() { l.refresh(ctx, a, later) })
		}
		if a.Kind != dhcp.Leased {
			continue
		}
		changed := func(renewed dhcp.Answer) {
			old := a
			a = renewed
			_ = l.setAddress(ctx, renewed)
			if old.Address != renewed.Address { // another mask
				_ = runIP(ctx, "address", "del", old.Address.String(), "dev", l.Name)
			}
			later(renewed)
		}
		wg.Go(func() {
			err := error(nil)
			if a.Family == dhcp.IPv4 {
				err = l.keep4(ctx, a, changed, conflict)
			} else {
				err = l.v6.Keep(ctx, a, changed)
			}
			last := context.WithoutCancel(ctx)
			if err != nil {
				if ringfence.KindOf(err) == ringfence.KindConflict && a.Family == dhcp.IPv4 {
					_ = l.v4.Decline(a)
				}
				lost(err)
			} else if a.Family == dhcp.IPv4 {
				_ = l.v4.Release(a)
			} else {
				short, done := context.WithTimeout(last, 2*time.Second)
				_ = l.v6.Release(short, a)
				done()
			}
			_ = runIP(last, "address", "del", a.Address.String(), "dev", l.Name)
		})
	}
	return func() { cancel(); wg.Wait() }
}

// keep4 renews an address of IPv4 and watches over it, until ctx ends or it is lost.
func (l *link) keep4(ctx context.Context, a dhcp.Answer, changed func(dhcp.Answer), conflict func(string)) error {
	frames, err := l.arp()
	if err != nil {
		return l.v4.Keep(ctx, a, changed) // a host that hears no ARP has the address all the same
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defended := make(chan error, 1)
	go func() {
		err := l.v4.Defend(ctx, frames, a.Address.Addr(), func(other net.HardwareAddr) {
			conflict(fmt.Sprintf("%s says that it has %s as well", other, a.Address.Addr()))
		})
		if ringfence.KindOf(err) == ringfence.KindConflict {
			cancel()
		}
		defended <- err
	}()
	err = l.v4.Keep(ctx, a, changed)
	cancel()
	if fought := <-defended; err == nil && ringfence.KindOf(fought) == ringfence.KindConflict && fought != nil {
		return fought
	}
	return err
}

// refresh asks again for options that came without an address, when their time is over.
func (l *link) refresh(ctx context.Context, a dhcp.Answer, later func(dhcp.Answer)) {
	for {
		timer := time.NewTimer(a.Refresh())
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
		if again, err := l.options(ctx, a.Family); err == nil {
			a = again
			later(again)
		}
	}
}

// options asks for options alone.
func (l *link) options(ctx context.Context, f dhcp.Family) (dhcp.Answer, error) {
	l.asking.Lock()
	defer l.asking.Unlock()
	ctx, cancel := context.WithTimeout(ctx, dhcpPatience)
	defer cancel()
	var found []dhcp.Answer
	var err error
	if f == dhcp.IPv4 {
		found, err = l.v4.Inform(ctx, l.own4)
	} else {
		found, err = l.v6.Inform(ctx)
	}
	if err != nil {
		return dhcp.Answer{}, err
	}
	return found[0], nil
}

func runIP(ctx context.Context, args ...string) error {
	_, err := outputOfIP(ctx, args...)
	return err
}

func outputOfIP(ctx context.Context, args ...string) (string, error) {
	c := exec.CommandContext(ctx, "ip", args...)
	var said bytes.Buffer
	c.Stderr = &said
	out, err := c.Output()
	if err != nil {
		return "", &ringfence.Fault{Kind: ringfence.KindUnavailable, Text: "ip " + strings.Join(args, " ") + ": " + strings.TrimSpace(said.String()), Err: err, Hint: "run it as root, where the package iproute2 is installed"}
	}
	return string(out), nil
}

func newPhoneDHCPCommand() *cobra.Command {
	var cfg, product string
	var patience time.Duration
	var asJSON bool
	cmd := &cobra.Command{
		Use: "dhcp [LINK]", Short: "Say what the DHCP servers of a network tell a desk phone, and which option leads to its profile", Args: cobra.MaximumNArgs(1),
		Long: "dhcp asks the servers of a link by IPv4 and IPv6 as a desk phone does, prints every option that they send, and goes through those that may say where the profile is, in the order of DHCP_Option_To_Use\n" +
			"and DHCPv6_Option_To_Use. The first counts that leads to a profile by HTTPS; of each other it says why it does not. A link that has an address keeps it: options alone are asked for (DHCPINFORM,\n" +
			"Information-request). Where there is none an offer is printed and not taken.\n\n" +
			"Nobody proves who answers. So an option may say where a profile is and which phone asks, and no more: no password, no condition, none of the phone's parameters. More than one server is a warning.\n" +
			"It ends with 8 (timeout) if nobody answers, with 3 (not found) if no option leads to a profile. It takes root, since DHCP is asked from ports 68 and 546.",
		Example: "  ringfence phone dhcp\n  ringfence phone dhcp eth0 --cfg cfg.xml\n  ringfence phone dhcp eth0 --json | jq '.profile'",
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, set := cmd.Context(), flatprofile.NewSet(flatprofile.Parameters())
			var err error
			if cfg != "" {
				if set, err = readProfile(cfg); err != nil {
					return err
				}
			}
			opener, err := sockets.New(dhcpFlows())
			if err != nil {
				return err
			}
			i, err := findLink(append(args, autoLink)[0])
			if err != nil {
				return err
			}
			l, err := openLink(ctx, opener, set, i, vendorClass(product, set))
			if err != nil {
				return err
			}
			defer l.close()
			answers, err := l.ask(ctx, false, patience)
			if err != nil {
				return err
			}
			v := lookAt(i, set, answers)
			if err := show(cmd, asJSON, v, func(w io.Writer) { printDHCP(w, v) }); err != nil {
				return err
			}
			if v.Choice.Rule == "" {
				return &ringfence.Fault{Kind: ringfence.KindNotFound, Text: "no option leads to a profile", Hint: "let the server send option 160 with the https address of the profiles"}
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&cfg, "cfg", "", "the phone's configuration file, for the order of the options")
	cmd.Flags().StringVar(&product, "product", "CP-8841-3PCC", "name of the product: what the phone says it is (option 60)")
	cmd.Flags().DurationVar(&patience, "wait", dhcpPatience, "give up after this long")
	return jsonFlag(cmd, &asJSON)
}

func printDHCP(w io.Writer, v dhcpView) {
	var rows [][]string
	for _, a := range v.Answers {
		for _, o := range a.Options {
			value := o.Value
			if o.Problem != "" {
				value = strings.TrimSpace(value + " (passed over: " + o.Problem + ")")
			}
			rows = append(rows, []string{string(a.Family), a.Server.String(), fmt.Sprint(o.Code), o.Name, value})
		}
	}
	for _, a := range v.Answers {
		what := string(a.Kind)
		if a.Address.IsValid() {
			what += " of " + a.Address.String()
		}
		fmt.Fprintf(w, "%s: %s from %s\n", a.Family, what, a.Server)
	}
	table(w, []string{"FAMILY", "SERVER", "OPTION", "NAME", "VALUE"}, rows)
	fmt.Fprintln(w)
	rows = nil
	for _, s := range v.Choice.Sources {
		came := "passed over: " + s.Why
		if s.Why == "" {
			came = "TAKEN: " + s.Rule
		}
		rows = append(rows, []string{string(s.Family), fmt.Sprint(s.Option), s.Value, came})
	}
	table(w, []string{"FAMILY", "OPTION", "SAYS", "AND"}, rows)
	printDHCPChoice(w, v)
}

func printDHCPChoice(w io.Writer, v dhcpView) {
	if v.Choice.Rule != "" {
		fmt.Fprintf(w, "profile rule: %s (%s)\n", v.Choice.Rule, v.Choice.From)
	}
	for _, a := range v.Answers {
		if a.WPAD != "" {
			fmt.Fprintf(w, "web proxy's file: %s (option 252 of %s)\n", a.WPAD, a.Server)
		}
	}
	if v.Choice.ACS != nil {
		fmt.Fprintf(w, "auto-configuration server: %s (option %d)\n", v.Choice.ACS.URL, v.Choice.ACS.Option)
	}
	if len(v.Changed) > 0 {
		fmt.Fprintf(w, "changed last: %s\n", strings.Join(v.Changed, "; "))
	}
	for _, text := range append(slices.Clone(v.Warnings), v.Kept...) {
		fmt.Fprintf(w, "WARNING: %s\n", text)
	}
}

// byDHCP asks the network of a phone.
func (d *deskPhone) byDHCP(ctx context.Context, set *flatprofile.Set) error {
	i, err := findLink(d.dhcp)
	if err != nil {
		return err
	}
	opener, err := sockets.New(dhcpFlows())
	if err != nil {
		return err
	}
	if d.link, err = openLink(ctx, opener, set, i, vendorClass(d.product, set)); err != nil {
		return err
	}
	if !d.lease {
		defer d.link.close()
	}
	take := d.lease && !(d.link.own4.IsValid() && d.link.own6.IsValid())
	if take {
		if err := ownNetwork("no address is leased", "--dhcp"); err != nil {
			take = false // the host has its own addresses; options alone are asked for, or offered
			if !d.link.own4.IsValid() && d.link.v4 != nil {
				return err
			}
		}
	}
	answers, err := d.awaitAnswers(ctx, set, take)
	if err != nil {
		return err
	}
	if err := d.link.configure(ctx, answers); err != nil {
		return err
	}
	v := lookAt(i, set, answers)
	d.told.Store(&v)
	d.options = set
	if d.mac == noMAC {
		d.mac = i.HardwareAddr.String()
	}
	d.byOption(set)
	return nil
}

// Waits of a phone that nobody gives an address.
const (
	dhcpFirstWait   = 10 * time.Second // RFC 2131 section 3.1: at least that long after a decline
	dhcpLongestWait = 64 * time.Second
)

// awaitAnswers asks until a server answers, if the phone is one that waits.
func (d *deskPhone) awaitAnswers(ctx context.Context, set *flatprofile.Set, take bool) ([]dhcp.Answer, error) {
	answers, err := d.link.ask(ctx, take, dhcpPatience)
	if err == nil || !d.patient {
		return answers, err
	}
	tell, done := d.waiting(ctx, set)
	defer done()
	for wait := dhcpFirstWait; err != nil; wait = min(2*wait, dhcpLongestWait) {
		if k := ringfence.KindOf(err); k != ringfence.KindTimeout && k != ringfence.KindConflict && k != ringfence.KindDenied || ctx.Err() != nil {
			return nil, err
		}
		d.say("WARNING: the phone has no address yet, and asks again: %v", err)
		tell(func(s *deskStatus) {
			s.Warnings = []string{"the phone waits for an address, and does nothing else until then: " + err.Error()}
		})
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil, ctx.Err()
		case <-timer.C:
		}
		answers, err = d.link.ask(ctx, take, dhcpPatience)
	}
	return answers, nil
}

// askOptions asks again for options that came without an address, before a profile is fetched.
func (d *deskPhone) askOptions(ctx context.Context) {
	if d.release == nil {
		return
	}
	for _, a := range d.answers() {
		if a.Kind != dhcp.Information {
			continue
		}
		if again, err := d.link.options(ctx, a.Family); err == nil { // a server that is silent changes nothing
			d.later(ctx, again)
		}
	}
}

// later takes what a server says when it is asked again. A matter that it leaves out, or has nonsense for, stays as it was.
func (d *deskPhone) later(ctx context.Context, a dhcp.Answer) {
	d.telling.Lock()
	defer d.telling.Unlock()
	before := d.told.Load()
	answers, changes, kept := dhcp.Replace(before.Answers, a)
	v := lookAt(d.link.Interface, d.options, answers)
	v.Changed, v.Kept = before.Changed, kept
	if len(changes) > 0 {
		v.Changed = nil
	}
	var matters []dhcp.Matter
	for _, c := range changes {
		v.Changed = append(v.Changed, c.Text)
		matters = append(matters, c.Matter)
	}
	d.told.Store(&v)
	if a.Kind == dhcp.Leased && a.Family == dhcp.IPv4 && slices.Contains(matters, dhcp.Way) {
		_ = d.link.configure(ctx, []dhcp.Answer{answers[slices.IndexFunc(answers, func(x dhcp.Answer) bool { return x.Kind == dhcp.Leased && x.Family == dhcp.IPv4 })]})
	}
	if len(kept) > 0 && !slices.Equal(kept, before.Kept) {
		d.say("WARNING: DHCP: %s", strings.Join(kept, "; "))
	}
	if len(changes) == 0 {
		return
	}
	d.say("DHCP says otherwise: %s", strings.Join(v.Changed, "; "))
	if f := d.onTold.Load(); f != nil {
		(*f)(slices.Contains(matters, dhcp.Names) || slices.Contains(matters, dhcp.Manager) || slices.Contains(matters, dhcp.Web), v.Choice.Rule != before.Choice.Rule)
	}
}

// byOption puts the rule that an option leads to where nobody set one.
func (d *deskPhone) byOption(set *flatprofile.Set) {
	if told := d.told.Load(); told != nil && told.Choice.Rule != "" && set.Get("Profile_Rule").From == flatprofile.Default {
		set.Put(flatprofile.Value{Name: "Profile_Rule", Value: told.Choice.Rule, From: told.Choice.From})
		d.resync = true
	}
}

// nameServers are those that DHCP named, if it gave the phone its address: the host's own are others then.
func (d *deskPhone) nameServers() (servers []netip.AddrPort, search []string) {
	told := d.told.Load()
	if told == nil {
		return nil, nil
	}
	for _, a := range told.Answers {
		if a.Kind != dhcp.Leased {
			continue
		}
		for _, s := range a.DNS {
			if s.IsLinkLocalUnicast() && s.Is6() {
				s = s.WithZone(d.link.Name)
			}
			servers = append(servers, netip.AddrPortFrom(s, 53))
		}
		for _, name := range a.Domains {
			if !slices.Contains(search, name) {
				search = append(search, name)
			}
		}
	}
	return servers, search
}

// offeredProxy is what DHCP said of the file that names the web proxy.
func (d *deskPhone) offeredProxy() (address string, by netip.Addr) {
	for _, a := range d.answers() {
		if a.WPAD != "" {
			return a.WPAD, a.Server
		}
	}
	return "", by
}

// answers are what the servers said last.
func (d *deskPhone) answers() []dhcp.Answer {
	if told := d.told.Load(); told != nil {
		return told.Answers
	}
	return nil
}

func printDHCPStatus(w io.Writer, v dhcpView) {
	for _, a := range v.Answers {
		switch {
		case a.Kind == dhcp.Leased && a.Lifetime == dhcp.Forever:
			fmt.Fprintf(w, "dhcp: %s has %s from %s, without end\n", v.Link, a.Address, a.Server)
		case a.Kind == dhcp.Leased:
			fmt.Fprintf(w, "dhcp: %s has %s from %s, leased at %s for %s\n", v.Link, a.Address, a.Server, a.At.UTC().Format(time.RFC3339), a.Lifetime)
		default:
			fmt.Fprintf(w, "dhcp: %s by %s from %s\n", a.Kind, a.Family, a.Server)
		}
	}
	printDHCPChoice(w, v)
}
