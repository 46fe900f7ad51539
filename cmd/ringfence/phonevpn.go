package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"ringfence"
	"ringfence/internal/desk/engine"
	"ringfence/internal/desk/flatprofile"
	"ringfence/internal/desk/vpn"
	"ringfence/internal/node/sockets"
	"ringfence/internal/sip/locate"
)

// vpnLink is the name of the tunnel's link.
const vpnLink = "rfvpn0"

// vpnPatience is how long a phone waits for its tunnel.
const vpnPatience = time.Minute

// closedRoutes marks the routes that keep what belongs in the tunnel from going around it, and the way to the server itself, so that all can be taken out together.
const closedRoutes = "219"

// closedMetric makes such a route count only while the tunnel's own is gone: routes without a metric come first.
const closedMetric = "4000"

// tunnel is a phone's tunnel, open or being opened again, with the directory of its script.
type tunnel struct {
	config vpn.Config
	host   string // of the server
	names  *reachable
	ways   map[netip.Addr][]string // outside: to the server, and to the name servers that know it
	stop   context.CancelFunc      // of hold
	ended  chan struct{}

	mu      sync.Mutex
	open    *vpn.Tunnel
	trouble vpn.Attempt // since it is not open
}

// openTunnel opens the tunnel that a profile describes, in a network namespace of the phone's own.
func (d *deskPhone) openTunnel(ctx context.Context, set *flatprofile.Set) (*tunnel, error) {
	if set.Text("VPN_Server") == "" {
		return nil, &ringfence.Fault{Kind: ringfence.KindNotFound, Text: "the profile has no tunnel: VPN_Server is empty", Hint: "set VPN_Server, VPN_User_Name and VPN_Password"}
	}
	if err := ownNetwork("no tunnel is opened", "--vpn"); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "rf-vpn")
	if err != nil {
		return nil, &ringfence.Fault{Kind: ringfence.KindUnavailable, Text: "there is no directory for the tunnel", Err: err}
	}
	t := &tunnel{ways: map[netip.Addr][]string{}, config: vpn.Config{Server: set.Text("VPN_Server"), User: set.Text("VPN_User_Name"), Password: set.Text("VPN_Password"), Group: set.Text("VPN_Tunnel_Group"), Link: vpnLink, Dir: dir}}
	fail := func(err error) (*tunnel, error) { t.close(); return nil, err }
	if t.host, _, err = net.SplitHostPort(t.config.Server); err != nil {
		t.host = t.config.Server
	}
	openRoutes() // of a phone that was killed
	if t.names, err = d.resolver(); err != nil {
		return fail(err)
	}
	found, err := t.names.addresses(ctx, t.host)
	if err != nil || len(found) == 0 {
		return fail(&ringfence.Fault{Kind: ringfence.KindUnavailable, Text: "there is no address of " + t.host, Hint: "see VPN_Server", Err: err})
	}
	t.config.At = found[0]
	for _, s := range t.names.asked { // where one is out of reach it does not help
		if way, err := wayTo(ctx, s.Addr()); err == nil && !s.Addr().IsLoopback() {
			t.ways[s.Addr()] = way
		}
	}
	if d.ca != "" {
		if t.config.CA, err = filepath.Abs(d.ca); err != nil {
			return fail(&ringfence.Fault{Kind: ringfence.KindInternal, Text: "a file has no whole name", Err: err})
		}
	}
	if t.open, err = t.start(ctx); err != nil {
		return fail(err)
	}
	return t, nil
}

// start opens the tunnel once.
func (t *tunnel) start(ctx context.Context) (*vpn.Tunnel, error) {
	launch := func(ctx context.Context, c vpn.Command, hear func(string)) (<-chan struct{}, func() error, error) {
		e, err := engine.Start(ctx, engine.Program{Path: c.Program, Args: c.Args, Stdin: c.Stdin, Hear: hear, Hint: "apt-get install openconnect, and run this as root"})
		if err != nil {
			return nil, nil, err
		}
		return e.Done(), e.Wait, nil
	}
	ctx, cancel := context.WithTimeout(ctx, vpnPatience)
	defer cancel()
	return vpn.Open(ctx, t.config, launch, func(n vpn.Network) error { return t.apply(ctx, n) }, func() ([]byte, error) { return os.ReadFile("/proc/self/net/dev") }, time.Now)
}

// hold opens the tunnel again whenever it ends, until the phone leaves. Nothing goes around it in the meantime: its routes have closed ones behind them. back is told when it is open again, with addresses that may be new, and hold ends.
func (t *tunnel) hold(say func(format string, args ...any), back func()) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	t.stop, t.ended = cancel, ended
	go func() {
		defer close(ended)
		select {
		case <-ctx.Done():
			return
		case <-t.open.Done():
		}
		err := t.open.Err()
		if err == nil {
			return // it was closed
		}
		again, err := vpn.Again(ctx, err, t.again, func(a vpn.Attempt) {
			t.mu.Lock()
			t.trouble = a
			t.mu.Unlock()
			say("WARNING: the tunnel is gone, and nothing goes around it: %v; it is opened again at %s", a.Err, a.Next.UTC().Format(time.RFC3339))
		}, time.Now)
		if err != nil {
			return
		}
		t.mu.Lock()
		t.open, t.trouble = again, vpn.Attempt{}
		t.mu.Unlock()
		say("the tunnel is open again")
		back()
	}()
}

// again is one attempt to open a tunnel that ended. The server may have moved; its name is asked for outside, where it was known before, and what is not told keeps the address that it had.
func (t *tunnel) again(ctx context.Context) (*vpn.Tunnel, error) {
	short, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	var outside [][]string
	for _, s := range t.names.asked {
		if way := t.ways[s.Addr()]; way != nil {
			outside = append(outside, append(slices.Clone(way), "proto", closedRoutes))
			_ = runIP(ctx, append([]string{"route", "replace"}, outside[len(outside)-1]...)...)
		}
	}
	found, err := t.names.addresses(short, t.host)
	for _, way := range outside {
		_ = runIP(context.WithoutCancel(ctx), append([]string{"route", "del"}, way...)...)
	}
	if old := t.ways[t.config.At]; err == nil && len(found) > 0 {
		t.mu.Lock()
		t.config.At = found[t.trouble.Number%len(found)]
		t.mu.Unlock()
		if t.ways[t.config.At] == nil && old != nil { // the way out is what it was
			t.ways[t.config.At] = append([]string{netip.PrefixFrom(t.config.At, t.config.At.BitLen()).String()}, old[1:]...)
		}
	}
	if way := t.ways[t.config.At]; way != nil {
		if err := runIP(ctx, append(append([]string{"route", "replace"}, way...), "proto", closedRoutes)...); err != nil {
			return nil, err
		}
	}
	return t.start(ctx)
}

// apply puts on the link what the server assigned. If it names no networks everything goes into the tunnel but the tunnel itself. Behind each route stands one that lets nothing through, for when the link is gone.
func (t *tunnel) apply(ctx context.Context, n vpn.Network) error {
	steps := [][]string{{"link", "set", "dev", n.Link, "up"}}
	if n.MTU > 0 {
		steps[0] = append(steps[0], "mtu", strconv.Itoa(n.MTU))
	}
	if n.Address.IsValid() {
		steps = append(steps, []string{"address", "replace", netip.PrefixFrom(n.Address, 32).String(), "dev", n.Link})
	}
	if n.Address6.IsValid() {
		steps = append(steps, []string{"-6", "address", "replace", n.Address6.String(), "dev", n.Link, "nodad"})
	}
	routes := slices.Clone(n.Routes)
	if n.Address.IsValid() {
		routes = append(routes, n.Prefix().Masked())
	}
	closed := slices.Clone(routes)
	if len(n.Routes) == 0 {
		// Two halves are nearer than any default route, which stays as it is for when the tunnel is gone.
		four, six := []netip.Prefix{netip.MustParsePrefix("0.0.0.0/1"), netip.MustParsePrefix("128.0.0.0/1")}, []netip.Prefix{netip.MustParsePrefix("::/1"), netip.MustParsePrefix("8000::/1")}
		routes = append(routes, four...)
		if n.Address6.IsValid() {
			routes = append(routes, six...)
		}
		closed = append(append(closed, four...), six...) // a server that assigns no address of IPv6 has none of it
	}
	if n.Gateway.IsValid() && slices.ContainsFunc(closed, func(p netip.Prefix) bool { return p.Contains(n.Gateway) }) {
		way := t.ways[n.Gateway]
		if way == nil {
			var err error
			if way, err = wayTo(ctx, n.Gateway); err != nil {
				return err
			}
			t.ways[n.Gateway] = way
		}
		steps = append(steps, append(append([]string{"route", "replace"}, way...), "proto", closedRoutes))
	}
	for _, r := range closed {
		if r.Addr().Is6() {
			if _, err := os.Stat("/proc/sys/net/ipv6"); err != nil { // no IPv6 here, and no way around
				continue
			}
		}
		steps = append(steps, []string{"route", "replace", "unreachable", r.String(), "metric", closedMetric, "proto", closedRoutes})
	}
	for _, r := range routes {
		steps = append(steps, []string{"route", "replace", r.String(), "dev", n.Link})
	}
	for _, args := range steps {
		if err := runIP(ctx, args...); err != nil {
			return err
		}
	}
	return nil
}

// openRoutes takes out the routes that keep what belongs in a tunnel from going around it.
func openRoutes() {
	for _, family := range []string{"-4", "-6"} {
		_ = runIP(context.Background(), family, "route", "flush", "proto", closedRoutes)
	}
}

// close signs off, and takes the routes out.
func (t *tunnel) close() {
	if t.stop != nil {
		t.stop()
		<-t.ended
	}
	if t.open != nil {
		t.open.Close()
	}
	openRoutes()
	_ = os.RemoveAll(t.config.Dir)
}

func (t *tunnel) status() vpn.Status {
	if t == nil {
		return vpn.Status{State: vpn.Disconnected}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.open.Status()
	s.Closed = true
	if t.trouble.Number > 0 {
		return troubled(s, t.trouble)
	}
	return s
}

// troubled is the status of a tunnel that is not open.
func troubled(s vpn.Status, a vpn.Attempt) vpn.Status {
	s.State, s.Attempts, s.Next, s.Closed = vpn.Disconnected, a.Number, a.Next.UTC().Truncate(time.Second), true
	s.Error, s.Hint = a.Err.Error(), ringfence.HintOf(a.Err)
	return s
}

// awaitTunnel opens the tunnel of a phone that starts. If the server is only gone the phone waits for it, and says so; nothing else is done until then.
func (d *deskPhone) awaitTunnel(ctx context.Context, set *flatprofile.Set) (*tunnel, error) {
	t, err := d.openTunnel(ctx, set)
	if err == nil || !d.patient || !vpn.Passing(err) {
		return t, err
	}
	tell, done := d.waiting(ctx, set)
	defer done()
	_, err = vpn.Again(ctx, err, func(ctx context.Context) (*vpn.Tunnel, error) {
		if t, err = d.openTunnel(ctx, set); err != nil {
			return nil, err
		}
		return t.open, nil
	}, func(a vpn.Attempt) {
		tell(func(s *deskStatus) {
			s.Warnings = []string{"the phone waits for its tunnel, and does nothing else until then"}
			s.VPN = troubled(vpn.Status{Server: set.Text("VPN_Server"), Group: set.Text("VPN_Tunnel_Group")}, a)
		})
		d.say("WARNING: the tunnel is not open, and the phone waits for it: %v; it is tried again at %s", a.Err, a.Next.UTC().Format(time.RFC3339))
	}, time.Now)
	return t, err
}

func printVPN(w io.Writer, s vpn.Status) {
	fmt.Fprintf(w, "VPN: %s", s.State)
	if s.Server != "" {
		fmt.Fprintf(w, ", %s", s.Server)
	}
	if s.Group != "" {
		fmt.Fprintf(w, ", group %s", s.Group)
	}
	if s.State == vpn.Connected {
		fmt.Fprintf(w, ", since %s\n  VPN IP address: %s\n  VPN subnet mask: %s\n  bytes sent: %d\n  bytes received: %d", s.Since.UTC().Format(time.RFC3339), s.Address, s.Mask, s.Sent, s.Received)
		if s.Address6 != "" {
			fmt.Fprintf(w, "\n  VPN IPv6 address: %s", s.Address6)
		}
		if s.TLS != "" {
			fmt.Fprintf(w, "\n  TLS: %s", s.TLS)
		}
	}
	fmt.Fprintln(w)
	if s.Error != "" {
		fmt.Fprintf(w, "  %s\n", s.Error)
	}
	if s.Hint != "" {
		fmt.Fprintf(w, "  hint: %s\n", s.Hint)
	}
	if s.Attempts > 0 {
		fmt.Fprintf(w, "  nothing goes around it; attempt %d is at %s\n", s.Attempts, s.Next.Format(time.RFC3339))
	}
}

// resolver finds names by the DNS servers that the phone has by now.
func (d *deskPhone) resolver() (*reachable, error) {
	servers, search, err := nameServers(d.dns)
	if err != nil {
		return nil, err
	}
	if told, domains := d.nameServers(); d.dns == "" && len(told) > 0 {
		servers, search = told, domains
	}
	opener, err := sockets.New(locate.Flows(servers))
	if err != nil {
		return nil, err
	}
	var hosts map[string][]netip.Addr
	if text, err := os.ReadFile("/etc/hosts"); err == nil {
		hosts = locate.ParseHosts(text)
	}
	return &reachable{Opener: opener, asked: servers, names: locate.New(locate.Config{Opener: opener, Servers: servers, Search: search, Hosts: hosts})}, nil
}

// addresses returns the addresses of a name.
func (r *reachable) addresses(ctx context.Context, host string) (out []netip.Addr, err error) {
	servers, err := r.names.Host(host, 443)
	if err != nil {
		return nil, err
	}
	found, err := servers.Find(ctx)
	for _, at := range found {
		out = append(out, at.Addr().Unmap())
	}
	return out, err
}

// tunnelServers are the DNS servers that the tunnel brought.
func (d *deskPhone) tunnelServers() (servers []netip.AddrPort, search []string) {
	if d.tunnel == nil {
		return nil, nil
	}
	n := d.tunnel.open.Network()
	for _, a := range n.DNS {
		servers = append(servers, netip.AddrPortFrom(a, 53))
	}
	if n.Domain != "" {
		search = []string{n.Domain}
	}
	return servers, search
}

func newPhoneVPNCommand() *cobra.Command {
	d := &deskPhone{}
	var stay time.Duration
	var asJSON bool
	cmd := &cobra.Command{
		Use: "vpn", Short: "Open the tunnel of a desk phone, say where it stands, and close it", Args: cobra.NoArgs,
		Long: "vpn opens the tunnel that a desk phone's profile describes (VPN_Server, VPN_User_Name, VPN_Password, VPN_Tunnel_Group) to a server that speaks as AnyConnect does, with openconnect as the engine, and prints what\n" +
			"the phone's status page has: the connection, the address and mask that the server assigned, and the bytes sent and received. The server must prove its name to --ca. After --for the tunnel is closed.\n\n" +
			"It changes addresses and routes, so it takes root and a network namespace of the phone's own. `ringfence phone up` opens the tunnel if Connect_on_Bootup is Yes, or with --vpn, and opens it\n" +
			"again when it ends; what belongs in it does not go around it in the meantime.\n" +
			"It ends with 5 (unauthenticated) if the server does not let the user in, with 6 (insecure) if it is not believed, with 3 if there is no such group.",
		Example: "  ip netns exec desk ringfence phone vpn --cfg cfg.xml --ca ca.pem\n  ip netns exec desk ringfence phone vpn --cfg cfg.xml --ca ca.pem --for 1m --json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			p, err := d.read(ctx)
			if err != nil {
				return err
			}
			t, err := d.openTunnel(ctx, p.set)
			if err != nil {
				return err
			}
			defer t.close()
			if stay > 0 {
				timer := time.NewTimer(stay)
				defer timer.Stop()
				select {
				case <-ctx.Done():
				case <-timer.C:
				case <-t.open.Done():
				}
			}
			s := t.status()
			return show(cmd, asJSON, s, func(w io.Writer) { printVPN(w, s) })
		},
	}
	d.flags(cmd)
	cmd.Flags().DurationVar(&stay, "for", 0, "keep the tunnel open for this long")
	return jsonFlag(cmd, &asJSON)
}

// wayTo returns the route that packets to an address take now, in the words of ip.
func wayTo(ctx context.Context, to netip.Addr) ([]string, error) {
	out, err := outputOfIP(ctx, "-o", "route", "get", to.String())
	if err != nil {
		return nil, err
	}
	way := []string{netip.PrefixFrom(to, to.BitLen()).String()}
	f := strings.Fields(out)
	for i := 0; i+1 < len(f); i++ {
		if f[i] == "via" || f[i] == "dev" {
			if _, err := netip.ParseAddr(f[i+1]); f[i] == "via" && err != nil {
				continue
			}
			way = append(way, f[i], f[i+1])
		}
	}
	if len(way) < 3 {
		return nil, &ringfence.Fault{Kind: ringfence.KindUnavailable, Text: "there is no route to " + net.JoinHostPort(to.String(), "443")}
	}
	return way, nil
}
