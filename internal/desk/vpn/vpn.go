package vpn

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"ringfence"
)

// Config is what a profile says of the tunnel.
type Config struct {
	Server   string     // VPN_Server: a name or an address, with or without a port
	At       netip.Addr // where the name leads; invalid: openconnect finds out
	User     string
	Password string
	Group    string // VPN_Tunnel_Group; empty: none
	CA       string // file of the authorities that the server is believed by; empty: those of this host
	Link     string // name of the tunnel's link
	Dir      string // a directory of this phone's own, for the script
}

// Command is how openconnect is run: the password goes to its standard input.
type Command struct {
	Program string
	Args    []string
	Stdin   string
}

// Launch starts a program and hands on what it says; the program ends with ctx. done is closed when it has, and why says why it did by itself.
type Launch func(ctx context.Context, c Command, hear func(line string)) (done <-chan struct{}, why func() error, err error)

// State is where the tunnel stands.
type State string

// The states, in the words of the phone's status page.
const (
	Connected    State = "Connected"
	Connecting   State = "Connecting"
	Disconnected State = "Disconnected"
)

// Status is what a phone's status page tells.
type Status struct {
	State    State      `json:"state"`
	Server   string     `json:"server,omitempty"`
	Group    string     `json:"group,omitempty"`
	Address  netip.Addr `json:"address,omitzero"`
	Mask     string     `json:"subnet_mask,omitempty"`
	Address6 string     `json:"address6,omitempty"`
	Sent     uint64     `json:"bytes_sent"`
	Received uint64     `json:"bytes_received"`
	TLS      string     `json:"tls,omitempty"`
	Since    time.Time  `json:"since,omitzero"`
	Error    string     `json:"error,omitempty"`
	Hint     string     `json:"hint,omitempty"`
	Attempts int        `json:"attempts,omitempty"`     // that failed since it was open
	Next     time.Time  `json:"next_attempt,omitzero"`  // to open it
	Closed   bool       `json:"nothing_goes_around_it"` // while it is not open
}

// Network is what a server assigned.
type Network struct {
	Link     string
	Gateway  netip.Addr // of the server, outside
	Address  netip.Addr
	Mask     netip.Addr // of IPv4
	Address6 netip.Prefix
	MTU      int
	DNS      []netip.Addr
	Domain   string
	Routes   []netip.Prefix // what goes into the tunnel; none: everything
	Reason   string
}

const (
	maxReport = 64 << 10
	maxList   = 64
	lookEvery = 100 * time.Millisecond
	reportTo  = "report"
)

func fault(kind ringfence.Kind, text, hint string, err error) error {
	return &ringfence.Fault{Op: "vpn", Kind: kind, Text: text, Hint: hint, Err: err}
}

// command writes the command line. Nothing in it is a secret.
func (c Config) command() (Command, error) {
	word := func(s string) bool {
		return s != "" && len(s) < 256 && s[0] != '-' && !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r == 0x7f })
	}
	switch {
	case !word(c.Server) || strings.ContainsAny(c.Server, "/?#@"):
		return Command{}, fault(ringfence.KindInvalid, fmt.Sprintf("VPN_Server = %.60q is no name of a server", c.Server), "write vpn.example.com", nil)
	case c.User == "" || c.Password == "" || strings.ContainsAny(c.User+c.Group, "\r\n\x00") || strings.ContainsAny(c.Password, "\r\n\x00"):
		return Command{}, fault(ringfence.KindInvalid, "the tunnel needs a user and a password, each of one line", "see VPN_User_Name and VPN_Password", nil)
	case strings.ContainsAny(c.Dir, " '\"\\$`") || !word(c.Link) || len(c.Link) > 15:
		return Command{}, fault(ringfence.KindInvalid, "the directory or the link of the tunnel has a name that cannot be used", "", nil)
	}
	args := []string{"--protocol=anyconnect", "--non-inter", "--passwd-on-stdin", "--user=" + c.User, "--interface=" + c.Link, "--script=" + filepath.Join(c.Dir, "tell"), "--reconnect-timeout=60", "--gnutls-priority=NORMAL:-VERS-TLS1.0:-VERS-TLS1.1"}
	if c.Group != "" {
		args = append(args, "--authgroup="+c.Group)
	}
	if c.CA != "" {
		args = append(args, "--no-system-trust", "--cafile="+c.CA)
	}
	if host, _, err := net.SplitHostPort(c.Server); c.At.IsValid() {
		if err != nil {
			host = c.Server
		}
		args = append(args, "--resolve="+host+":"+c.At.String())
	}
	return Command{Program: "openconnect", Args: append(args, "--", "https://"+c.Server), Stdin: c.Password + "\n"}, nil
}

// script writes down what openconnect tells, and does nothing else.
func script(dir string) string {
	to := filepath.Join(dir, reportTo)
	return "#!/bin/sh\numask 077\n/usr/bin/env -0 > " + to + ".new && /bin/mv " + to + ".new " + to + "\n"
}

// ParseReport reads what the script wrote down: names and values, each ended by a zero byte.
func ParseReport(b []byte) (n Network, err error) {
	bad := func(text string) (Network, error) {
		return Network{}, &ringfence.Fault{Op: "vpn.report", Kind: ringfence.KindInvalid, Text: text}
	}
	if len(b) > maxReport {
		return bad("the server assigns more than can be read")
	}
	values := map[string]string{}
	for pair := range bytes.SplitSeq(b, []byte{0}) {
		if name, value, ok := strings.Cut(string(pair), "="); ok {
			values[name] = value
		}
	}
	n.Reason, n.Link = values["reason"], values["TUNDEV"]
	if n.Reason == "" {
		return bad("openconnect does not say what happened")
	}
	n.Gateway, _ = netip.ParseAddr(values["VPNGATEWAY"])
	if text := values["INTERNAL_IP4_ADDRESS"]; text != "" {
		a, err := netip.ParseAddr(text)
		if err != nil || !a.Is4() || !a.IsGlobalUnicast() {
			return bad(fmt.Sprintf("the server assigns %.40q, which is no address", text))
		}
		n.Address = a
		n.Mask = netip.AddrFrom4([4]byte{255, 255, 255, 255})
		if m, err := netip.ParseAddr(values["INTERNAL_IP4_NETMASK"]); err == nil && m.Is4() {
			n.Mask = m
		}
		if ones(n.Mask) < 0 {
			return bad(n.Mask.String() + " is no mask of a subnet")
		}
	}
	for _, name := range []string{"INTERNAL_IP6_NETMASK", "INTERNAL_IP6_ADDRESS"} { // the first has a length with it
		text := values[name]
		if text != "" && !strings.Contains(text, "/") {
			text += "/128"
		}
		if p, err := netip.ParsePrefix(text); err == nil && p.Addr().Is6() && p.Addr().IsGlobalUnicast() && !p.Addr().Is4In6() {
			n.Address6 = p
			break
		}
	}
	if mtu, err := strconv.Atoi(values["INTERNAL_IP4_MTU"]); err == nil && mtu >= 576 && mtu <= 9000 {
		n.MTU = mtu
	}
	for _, name := range []string{"INTERNAL_IP4_DNS", "INTERNAL_IP6_DNS"} {
		for text := range strings.FieldsSeq(values[name]) {
			if a, err := netip.ParseAddr(text); err == nil && a.Zone() == "" && len(n.DNS) < 8 && a.IsGlobalUnicast() {
				n.DNS = append(n.DNS, a)
			}
		}
	}
	if domain, _, _ := strings.Cut(values["CISCO_DEF_DOMAIN"], " "); len(domain) <= 253 && !strings.ContainsFunc(domain, func(r rune) bool {
		return !(r == '.' || r == '-' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z')
	}) {
		n.Domain = strings.ToLower(domain)
	}
	for _, f := range []struct {
		prefix string
		bits   int
	}{{"CISCO_SPLIT_INC", 32}, {"CISCO_IPV6_SPLIT_INC", 128}} {
		count, _ := strconv.Atoi(values[f.prefix])
		for i := range min(count, maxList) {
			at := fmt.Sprintf("%s_%d_", f.prefix, i)
			length, err := strconv.Atoi(values[at+"MASKLEN"])
			p := netip.PrefixFrom(first(netip.ParseAddr(values[at+"ADDR"])), length)
			if err != nil || !p.IsValid() || p.Addr().BitLen() != f.bits || p.Addr().IsLoopback() || p.Addr().IsMulticast() {
				return bad("the server names a network that is none")
			}
			n.Routes = append(n.Routes, p.Masked())
		}
	}
	if n.Reason == "connect" && !n.Address.IsValid() && !n.Address6.IsValid() {
		return bad("the server assigns no address")
	}
	return n, nil
}

func first[T any](x T, _ error) T { return x }

// ones counts the bits of a mask, or says that it is none.
func ones(mask netip.Addr) int {
	m := mask.As4()
	v := uint32(m[0])<<24 | uint32(m[1])<<16 | uint32(m[2])<<8 | uint32(m[3])
	for n := 32; n >= 0; n-- {
		if v == ^uint32(0)<<(32-n) {
			return n
		}
	}
	return -1
}

// Prefix returns the address with the length of its mask.
func (n Network) Prefix() netip.Prefix { return netip.PrefixFrom(n.Address, ones(n.Mask)) }

// ParseCounters reads how many bytes a link received and sent, from what the kernel keeps in /proc/net/dev.
func ParseCounters(b []byte, link string) (received, sent uint64, ok bool) {
	lines := bufio.NewScanner(bytes.NewReader(b))
	for lines.Scan() {
		name, rest, found := strings.Cut(lines.Text(), ":")
		if f := strings.Fields(rest); found && strings.TrimSpace(name) == link && len(f) >= 9 {
			received, err1 := strconv.ParseUint(f[0], 10, 64)
			sent, err2 := strconv.ParseUint(f[8], 10, 64)
			if err1 == nil && err2 == nil {
				return received, sent, true
			}
		}
	}
	return 0, 0, false
}

// Tunnel is a tunnel that is open, or was.
type Tunnel struct {
	config Config
	done   <-chan struct{}
	why    func() error
	cancel context.CancelFunc
	count  func() ([]byte, error)
	now    func() time.Time

	mu      sync.Mutex
	status  Status
	network Network
	last    []string
}

// Open opens the tunnel, and returns when it is up. apply puts what the server assigned on the link. count returns what the kernel counts, as /proc/net/dev has it.
func Open(ctx context.Context, c Config, launch Launch, apply func(Network) error, count func() ([]byte, error), now func() time.Time) (*Tunnel, error) {
	command, err := c.command()
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(c.Dir, "tell"), []byte(script(c.Dir)), 0o700); err != nil {
		return nil, fault(ringfence.KindUnavailable, "the script of the tunnel cannot be written", "", err)
	}
	if err := os.Remove(filepath.Join(c.Dir, reportTo)); err != nil && !errors.Is(err, fs.ErrNotExist) { // of a tunnel before
		return nil, fault(ringfence.KindUnavailable, "what a tunnel before was assigned cannot be removed", "", err)
	}
	life, cancel := context.WithCancel(context.WithoutCancel(ctx)) // it is closed in order, after the phone
	t := &Tunnel{config: c, cancel: cancel, count: count, now: now, status: Status{State: Connecting, Server: c.Server, Group: c.Group, Since: now()}}
	if t.done, t.why, err = launch(life, command, t.hear); err != nil {
		cancel()
		return nil, err
	}
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			err = fault(ringfence.KindTimeout, "the tunnel to "+c.Server+" does not come up in time", "", ctx.Err())
		case <-t.done:
			err = t.failure()
		case <-tick.C:
			n, found, bad := t.report()
			if err = bad; err == nil && found && n.Reason == "connect" {
				if err = apply(n); err == nil {
					t.up(n)
					go t.watch()
					return t, nil
				}
			}
		}
		if err != nil {
			t.Close()
			return nil, err
		}
	}
}

// report reads what the script wrote down last.
func (t *Tunnel) report() (n Network, found bool, err error) {
	b, err := os.ReadFile(filepath.Join(t.config.Dir, reportTo))
	if err != nil {
		return n, false, nil
	}
	n, err = ParseReport(b)
	if err == nil && n.Link != t.config.Link {
		err = fault(ringfence.KindInternal, "openconnect uses another link than it was told", "", nil)
	}
	return n, true, err
}

func (t *Tunnel) up(n Network) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.network = n
	t.status.State, t.status.Since, t.status.Address = Connected, t.now(), n.Address
	if n.Address.IsValid() {
		t.status.Mask = n.Mask.String()
	}
	if n.Address6.IsValid() {
		t.status.Address6 = n.Address6.String()
	}
}

// watch notices when the tunnel ends by itself.
func (t *Tunnel) watch() {
	<-t.done
	err := t.failure()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.status.State, t.status.Since = Disconnected, t.now()
	if t.why() != nil {
		t.status.Error, t.status.Hint = err.Error(), ringfence.HintOf(err)
	}
}

const maxSaid = 20

// hear keeps what openconnect says: it tells by that alone why it fails.
func (t *Tunnel) hear(line string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if rest, ok := strings.CutPrefix(line, "Connected to HTTPS on "); ok {
		if _, suite, ok := strings.Cut(rest, " with ciphersuite "); ok {
			t.status.TLS = suite
		}
	}
	if t.last = append(t.last, line); len(t.last) > maxSaid {
		t.last = slices.Delete(t.last, 0, 1)
	}
}

// failure says why openconnect ended, in our words.
func (t *Tunnel) failure() error {
	t.mu.Lock()
	said := strings.Join(t.last, "\n")
	t.mu.Unlock()
	cause := t.why()
	for _, x := range []struct {
		says string
		kind ringfence.Kind
		text string
		hint string
	}{
		{"verify failed", ringfence.KindInsecure, "the VPN server is not believed to be " + t.config.Server, "is its authority that of --ca, and does its certificate have this name?"},
		{"Auth choice", ringfence.KindNotFound, "the VPN server has no group " + strconv.Quote(t.config.Group), "see VPN_Tunnel_Group"},
		{"Login failed", ringfence.KindUnauthenticated, "the VPN server does not let the user in", "see VPN_User_Name and VPN_Password"},
		{"fgets (stdin)", ringfence.KindUnauthenticated, "the VPN server does not let the user in", "see VPN_User_Name and VPN_Password"},
		{"User input required", ringfence.KindUnauthenticated, "the VPN server asks again, and for what the profile does not have", "see VPN_User_Name, VPN_Password and VPN_Tunnel_Group"},
		{"Received server disconnect", ringfence.KindUnavailable, "the VPN server ended the session", ""},
		{"Session terminated by server", ringfence.KindUnavailable, "the VPN server ended the session", ""},
		{"Cookie", ringfence.KindUnavailable, "the VPN server knows the session no more", ""},
		{"getaddrinfo failed", ringfence.KindUnavailable, "there is no address of " + t.config.Server, "see VPN_Server"},
		{"Failed to connect", ringfence.KindUnavailable, "nobody answers at " + t.config.Server, "see VPN_Server"},
		{"/dev/net/tun", ringfence.KindDenied, "no tunnel can be made here", "run it as root, where /dev/net/tun is"},
		{"Failed to complete authentication", ringfence.KindUnauthenticated, "the VPN server breaks off before it asks who signs in", "it may want a certificate, which no parameter of a profile names: let the group take a user name and a password"},
	} {
		if strings.Contains(said, x.says) {
			return fault(x.kind, x.text, x.hint, cause)
		}
	}
	return fault(ringfence.KindUnavailable, "the tunnel to "+t.config.Server+" ended", "", cause)
}

// Network returns what the server assigned.
func (t *Tunnel) Network() Network {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.network
}

// Status returns where the tunnel stands. The bytes are those of the link: what goes through the tunnel, without its envelopes.
func (t *Tunnel) Status() Status {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.status.State == Connected {
		if b, err := t.count(); err == nil {
			if received, sent, ok := ParseCounters(b, t.config.Link); ok {
				t.status.Received, t.status.Sent = received, sent
			}
		}
	}
	return t.status
}

// Err says why the tunnel ended by itself; nil if it has not, or was closed.
func (t *Tunnel) Err() error {
	select {
	case <-t.done:
		if t.why() == nil {
			return nil
		}
		return t.failure()
	default:
		return nil
	}
}

// Done is closed when the tunnel has ended.
func (t *Tunnel) Done() <-chan struct{} { return t.done }

// Close signs off and waits for the end.
func (t *Tunnel) Close() {
	t.cancel()
	<-t.done
}
