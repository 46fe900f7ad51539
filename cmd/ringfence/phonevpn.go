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

// tunnel is a tunnel with the directory of its script and the routes that it made.
type tunnel struct {
	*vpn.Tunnel
	dir string
	out []string // the route to the server itself
}

// openTunnel opens the tunnel that a profile describes, in a network namespace of the phone's own.
func (d *deskPhone) openTunnel(ctx context.Context, set *flatprofile.Set) (*tunnel, error) {
	if set.Text("VPN_Server") == "" {
		return nil, &ringfence.Fault{Kind: ringfence.KindNotFound, Text: "the profile has no tunnel: VPN_Server is empty", Hint: "set VPN_Server, VPN_User_Name and VPN_Password"}
	}
	if err := ownNetwork("no tunnel is opened", "--vpn"); err != nil {
		return nil, err
	}
	t := &tunnel{}
	var err error
	if t.dir, err = os.MkdirTemp("", "rf-vpn"); err != nil {
		return nil, &ringfence.Fault{Kind: ringfence.KindUnavailable, Text: "there is no directory for the tunnel", Err: err}
	}
	fail := func(err error) (*tunnel, error) { t.close(); return nil, err }
	c := vpn.Config{Server: set.Text("VPN_Server"), User: set.Text("VPN_User_Name"), Password: set.Text("VPN_Password"), Group: set.Text("VPN_Tunnel_Group"), Link: vpnLink, Dir: t.dir}
	host, _, err := net.SplitHostPort(c.Server)
	if err != nil {
		host = c.Server
	}
	names, err := d.resolver()
	if err != nil {
		return fail(err)
	}
	found, err := names.addresses(ctx, host)
	if err != nil || len(found) == 0 {
		return fail(&ringfence.Fault{Kind: ringfence.KindUnavailable, Text: "there is no address of " + host, Hint: "see VPN_Server", Err: err})
	}
	c.At = found[0]
	if d.ca != "" {
		if c.CA, err = filepath.Abs(d.ca); err != nil {
			return fail(&ringfence.Fault{Kind: ringfence.KindInternal, Text: "a file has no whole name", Err: err})
		}
	}
	launch := func(ctx context.Context, c vpn.Command, hear func(string)) (<-chan struct{}, func() error, error) {
		e, err := engine.Start(ctx, engine.Program{Path: c.Program, Args: c.Args, Stdin: c.Stdin, Hear: hear, Hint: "apt-get install openconnect, and run this as root"})
		if err != nil {
			return nil, nil, err
		}
		return e.Done(), e.Wait, nil
	}
	ctx, cancel := context.WithTimeout(ctx, vpnPatience)
	defer cancel()
	t.Tunnel, err = vpn.Open(ctx, c, launch, func(n vpn.Network) error { return t.apply(ctx, n) }, func() ([]byte, error) { return os.ReadFile("/proc/self/net/dev") }, time.Now)
	if err != nil {
		return fail(err)
	}
	return t, nil
}

// apply puts on the link what the server assigned. If it names no networks everything goes into the tunnel but the tunnel itself.
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
	if len(n.Routes) == 0 {
		if n.Gateway.IsValid() {
			way, err := wayTo(ctx, n.Gateway)
			if err != nil {
				return err
			}
			t.out = append([]string{"route", "del"}, way...)
			steps = append(steps, append([]string{"route", "replace"}, way...))
		}
		// Two halves are nearer than any default route, which stays as it is for when the tunnel is gone.
		routes = append(routes, netip.MustParsePrefix("0.0.0.0/1"), netip.MustParsePrefix("128.0.0.0/1"))
		if n.Address6.IsValid() {
			routes = append(routes, netip.MustParsePrefix("::/1"), netip.MustParsePrefix("8000::/1"))
		}
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

func (t *tunnel) close() {
	if t.Tunnel != nil {
		t.Close()
	}
	if t.out != nil {
		_ = runIP(context.Background(), t.out...)
	}
	_ = os.RemoveAll(t.dir)
}

func (t *tunnel) status() vpn.Status {
	if t == nil {
		return vpn.Status{State: vpn.Disconnected}
	}
	return t.Status()
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
	return &reachable{opener, locate.New(locate.Config{Opener: opener, Servers: servers, Search: search, Hosts: hosts})}, nil
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
	n := d.tunnel.Network()
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
			"It changes addresses and routes, so it takes root and a network namespace of the phone's own. `ringfence phone up` opens the tunnel if Connect_on_Bootup is Yes, or with --vpn.\n" +
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
				case <-t.Done():
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
