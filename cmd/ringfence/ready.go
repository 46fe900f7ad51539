package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/big"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"ringfence"
	"ringfence/internal/network/catalogue"
	"ringfence/internal/network/need"
	"ringfence/internal/network/ready/carrier"
	"ringfence/internal/network/ready/probe"
	"ringfence/internal/network/ready/reflector"
	"ringfence/internal/network/ready/verdict"
	"ringfence/internal/network/ready/wire"
	"ringfence/internal/network/target"
	"ringfence/internal/node"
	"ringfence/internal/node/admin/api"
	"ringfence/internal/node/sockets"
)

// readyPort is where a reflector listens unless told otherwise.
const readyPort = "8470"

func newReadyCommand(a *app) *cobra.Command {
	return group(&cobra.Command{Use: "ready", Short: "Find out whether a site's network is ready",
		Long: "ready tests a network from where phones are or will be. `ready reflect` is the far end, where the service is or where it would be; `ready run` is at the site and sends what phones would send, from\n" +
			"the ports that they would use. Both hold the same key; nobody else is answered. `ready report` makes a page of what was found, `ready checklist` a list of what the site itself has to see to. Nothing of it needs a node, except --set self;\n" +
			"`ready kept` shows what a node keeps of what sites found.",
		Example: "  ringfence ready reflect --key-file ready.key\n  ringfence ready run --set webex-calling --reflector 192.0.2.2 --key-file ready.key --json > site.json\n  ringfence ready report site.json --html site.html"},
		newReadyReflectCommand(), newReadyRunCommand(a), newReadyReportCommand(), newReadyChecklistCommand(), newReadyKeptCommand(a))
}

// readKey reads a shared key: the whole first line of a file.
func readKey(file string) ([]byte, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, &ringfence.Fault{Kind: ringfence.KindInvalid, Text: "the key file cannot be read: " + file, Hint: "`ringfence ready reflect --key-file FILE` makes one; copy it here", Err: err}
	}
	line, _, _ := strings.Cut(string(b), "\n")
	if line = strings.TrimSpace(line); len(line) < wire.MinKey || len(line) > 1024 {
		return nil, invalid(fmt.Sprintf("the first line of %s is no key: it has %d bytes, and %d to 1024 are needed", file, len(line), wire.MinKey), "`ringfence ready reflect --key-file FILE` makes one")
	}
	return []byte(line), nil
}

// makeKey makes a key file that only its owner can read; one that is there stays.
func makeKey(file string) error {
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err == nil {
		_, err = fmt.Fprintln(f, rand.Text()+rand.Text())
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		return &ringfence.Fault{Kind: ringfence.KindUnavailable, Text: "the key file cannot be written: " + file, Err: err}
	}
	return nil
}

// reflectAt reads where a reflector listens.
func reflectAt(s string) (netip.AddrPort, error) {
	if at, err := netip.ParseAddrPort(s); err == nil {
		return at, nil
	}
	if ip, err := netip.ParseAddr(s); err == nil {
		return netip.ParseAddrPort(net.JoinHostPort(ip.String(), readyPort))
	}
	return netip.AddrPort{}, invalid(fmt.Sprintf("%.60q is no address to listen at", s), "give an address of this host with or without a port, such as 192.0.2.2 or [2001:db8::2]:8470")
}

func newReadyReflectCommand() *cobra.Command {
	var listen, second, keyFile string
	var allow []string
	var calls int
	var asJSON bool
	cmd := &cobra.Command{
		Use: "reflect [--listen ADDRESS[:PORT]]", Short: "Be the far end of readiness tests",
		Long: "reflect runs until it is interrupted. It opens the ports that a prober with the key asks for, as long as that prober is connected, and answers it alone: at most as much as it was sent, and only to\n" +
			"the address that it is connected from. Without --key-file it makes a key for this time and prints it. Where ports below 1024 are tested it needs root, or CAP_NET_BIND_SERVICE, to open them; what it\n" +
			"cannot open is reported as not tested. Ports that another program has are not tested either, so do not run it on the host that gives the service.",
		Example: "  ringfence ready reflect --key-file ready.key\n  ringfence ready reflect --listen 192.0.2.2 --second 192.0.2.3 --key-file ready.key\n  ringfence ready reflect --allow 1024-65535",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			at, err := reflectAt(listen)
			if err != nil {
				return err
			}
			if calls < 0 || calls > wire.MaxCalls {
				return invalid(fmt.Sprintf("--calls is 0 to %d", wire.MaxCalls), "each call takes some 85 kbit/s each way")
			}
			c := reflector.Config{Listen: at, Calls: calls, Log: func(text string) { fmt.Fprintln(cmd.ErrOrStderr(), stamp(time.Now())+" "+text) }}
			if second != "" {
				if c.Second, err = netip.ParseAddr(second); err != nil || c.Second == at.Addr() || at.Addr().IsUnspecified() {
					return invalid(fmt.Sprintf("%.60q is no other address of this host", second), "give two addresses, --listen 192.0.2.2 --second 192.0.2.3, or leave --second out")
				}
			}
			for _, s := range allow {
				p, err := need.ParsePorts(s)
				if err != nil {
					return err
				}
				c.Allow = append(c.Allow, p)
			}
			oneTime := keyFile == ""
			if oneTime {
				c.Key = []byte(rand.Text())
			} else if err = makeKey(keyFile); err == nil {
				c.Key, err = readKey(keyFile)
			}
			if err != nil {
				return err
			}
			if c.Opener, err = sockets.New(reflector.Flows()); err != nil {
				return err
			}
			if c.TLS, c.SPKI, c.Issuer, err = reflectorTLS(); err != nil {
				return err
			}
			r, err := reflector.New(c)
			if err != nil {
				return err
			}
			return r.Serve(cmd.Context(), func(at netip.AddrPort) {
				out := map[string]string{"listens": at.String(), "spki_sha256": c.SPKI}
				if oneTime {
					out["key"] = string(c.Key)
				} else {
					out["key_file"] = keyFile
				}
				_ = show(cmd, asJSON, out, func(w io.Writer) {
					facts(w, "listens", at.String(), "key file", keyFile, "key for this time", out["key"], "TLS key (SHA-256)", c.SPKI)
					fmt.Fprintln(w, "It runs until it is interrupted.")
				})
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&listen, "listen", "0.0.0.0", "address, and port of the control channel (default "+readyPort+")")
	f.StringVar(&second, "second", "", "another address of this host, to tell kinds of NAT apart")
	f.StringVar(&keyFile, "key-file", "", "file of the shared key; it is made if it is not there")
	f.IntVar(&calls, "calls", 100, "how many calls at a time a prober may send to find out how many a line carries; 0: none")
	f.StringSliceVar(&allow, "allow", []string{"1-65535"}, "ports that may be opened")
	return jsonFlag(cmd, &asJSON)
}

// reflectorTLS makes a key and a certificate that nobody needs to believe: probers compare the key with what they are told.
func reflectorTLS() (conf *tls.Config, spki, issuer string, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, "", "", err
	}
	t := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "ringfence reflector"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(30 * 24 * time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	if err != nil {
		return nil, "", "", err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, "", "", err
	}
	sum := sha256.Sum256(cert.RawSubjectPublicKeyInfo)
	return &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}, Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}, hex.EncodeToString(sum[:]), cert.Issuer.String(), nil
}

// readyRun is the flags of `ready run`.
type readyRun struct {
	set, setFile, reflector, keyFile, direction, name string
	roles, rows, only, clocks                         []string
	seed                                              uint64
	samples, flows, calls                             int
	voice, lifetime                                   time.Duration
	asJSON                                            bool
	junit, html                                       string
	web                                               readyWeb
	names                                             readyNames
	site, firewall, keep                              string
}

func newReadyRunCommand(a *app) *cobra.Command {
	r := &readyRun{}
	cmd := &cobra.Command{
		Use: "run --reflector HOST[:PORT] --key-file FILE", Short: "Test from a site what its network lets through",
		Long: "run sends what a set of requirements asks for to a reflector, and says row by row what passed: every TCP port, and of each range both ends and ports within at equal distances, from the ports that the row\n" +
			"demands. Where something does not pass it looks for the exact borders. Then it looks for machines that change SIP (ALG), the kind of NAT, marks that do not survive (DSCP), the path MTU and black\n" +
			"holes, loss, jitter and how a call would sound (MOS by ITU-T G.107, with its parameters), with --calls how many calls fit, what carries media through a VPN of this host, whether somebody takes TLS apart,\n" +
			"and with --ntp whether time servers answer and know the time. With --proxy, --pac, --wpad or --dhcp it finds the web proxy, evaluates its auto-configuration file for the names of the set, and says\n" +
			"for each product whether it is let in, what goes through, and whether SIP and media, which never do, have their own way. With --resolver it asks name servers: over UDP and TCP, for\n" +
			"the names of the set, for the servers of --srv, and whether they lie. Each failure names its row, what was sent and seen, the machine on\n" +
			"the way if it is known, what to change, with --site and --firewall the rule in the words of that firewall, and the command that tests it again.\n\n" +
			"It ends with 0 if all that is needed works, with 4 if something that is needed does not, with 5 for a wrong key, and with 7 if the reflector cannot be reached or stops answering; what was found until\n" +
			"then is still written. Nothing needs root, except sending from ports below 1024, asking DHCP, and hearing which machine changed a mark or refused a connection; what was not tried without it is said. Progress goes to standard error.",
		Example: "  ringfence ready run --set webex-calling --reflector 192.0.2.2 --key-file ready.key\n  ringfence ready run --set webex-calling --role device --reflector reflector.example.com --key-file ready.key --json > site.json\n" +
			"  ringfence ready run --row wc-p-06 --only udp --reflector 192.0.2.2 --key-file ready.key\n  ringfence ready run --only nat --lifetime 5m --flows 500 --reflector 192.0.2.2 --key-file ready.key\n" +
			"  ringfence ready run --only capacity --calls 50 --reflector 192.0.2.2 --key-file ready.key\n" +
			"  ringfence ready run --site site.yaml --firewall nftables --reflector 192.0.2.2 --key-file ready.key\n" +
			"  ringfence ready run --only proxy --wpad corp.example.com --proxy-user phone1 --proxy-password-file pw --reflector 192.0.2.2 --key-file ready.key\n" +
			"  ringfence ready run --only dns --resolver 192.0.2.53 --srv _sips._tcp.example.com=a.example.com,b.example.com --reflector 192.0.2.2 --key-file ready.key\n" +
			"  ringfence network requirements --json > self.json\n  ringfence ready run --set-file self.json --direction inbound --reflector 192.0.2.2 --key-file ready.key --junit ready.xml --html ready.html",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return r.run(cmd, a) },
	}
	setFlag(cmd, &r.set, "webex-calling", append([]string{"self"}, catalogue.Names()...))
	f := cmd.Flags()
	f.StringVar(&r.setFile, "set-file", "", "a set in a file instead, as ringfence network requirements --json prints it")
	f.StringVar(&r.reflector, "reflector", "", "where ringfence ready reflect runs (port "+readyPort+" unless given)")
	f.StringVar(&r.keyFile, "key-file", "", "file of the shared key; -: read it from standard input")
	f.StringVar(&r.direction, "direction", "", "which rows: outbound, inbound or internal; the prober stands where they are opened (default: outbound, and inbound for self)")
	f.StringSliceVar(&r.roles, "role", nil, "only rows from this role; may be repeated")
	f.StringSliceVar(&r.rows, "row", nil, "only this row; may be repeated")
	f.StringSliceVar(&r.only, "only", nil, "only these kinds of checks: "+strings.Join(probe.Kinds(), ", "))
	f.StringVar(&r.name, "name", "", "the name to ask for by TLS (default: one of the set's, since that is where inspectors look)")
	f.Uint64Var(&r.seed, "seed", 0, "of the random samples, to take the same ones again (default: random)")
	f.IntVar(&r.samples, "samples", 8, "ports tried in each range, beside its ends")
	f.DurationVar(&r.voice, "voice", 10*time.Second, "how long to send voice")
	f.DurationVar(&r.lifetime, "lifetime", 0, "also find out whether the NAT remembers a silent port for so long; it takes that long")
	f.IntVar(&r.flows, "flows", 0, "also find out whether the NAT carries so many flows at a time, up to 4000")
	f.IntVar(&r.calls, "calls", 0, fmt.Sprintf("also find out how many calls at a time the line carries, up to so many (at most %d); it takes a minute or two, and fills the line", wire.MaxCalls))
	f.StringSliceVar(&r.clocks, "ntp", nil, "also ask this time server, as HOST or HOST:PORT; may be repeated")
	r.web.flags(cmd)
	r.names.flags(cmd)
	f.StringVar(&r.site, "site", "", "the site file: with it, what fails also shows the rule that the site's firewall must have")
	f.StringVar(&r.firewall, "firewall", "", "in whose words: "+strings.Join(target.Names(), ", "))
	_ = cmd.RegisterFlagCompletionFunc("firewall", cobra.FixedCompletions(target.Names(), cobra.ShellCompDirectiveNoFileComp))
	f.StringVar(&r.keep, "keep", "", "also hand the report in at the node of --node or --data, as of this site; see ringfence ready kept")
	f.StringVar(&r.junit, "junit", "", "also write JUnit XML to this file")
	f.StringVar(&r.html, "html", "", "also write a page to this file")
	_ = cmd.RegisterFlagCompletionFunc("only", cobra.FixedCompletions(probe.Kinds(), cobra.ShellCompDirectiveNoFileComp))
	return jsonFlag(cmd, &r.asJSON)
}

// theSet returns the requirements that are tested.
func (r *readyRun) theSet(cmd *cobra.Command, a *app) (api.NetworkSet, error) {
	if r.setFile == "" {
		return a.requirements(cmd, r.set, "")
	}
	var s api.NetworkSet
	f, err := os.Open(r.setFile)
	if err == nil {
		defer func() { _ = f.Close() }()
		err = json.NewDecoder(io.LimitReader(f, 4<<20)).Decode(&s)
	}
	if err != nil {
		return s, &ringfence.Fault{Kind: ringfence.KindInvalid, Text: "the set cannot be read: " + r.setFile, Hint: "`ringfence network requirements --json` prints one", Err: err}
	}
	if wrong := s.Check(); len(wrong) > 0 {
		return s, invalid(r.setFile+": "+strings.Join(wrong, "\n"+r.setFile+": "), "")
	}
	return s, nil
}

// reflectorAddr finds the address of the reflector.
func reflectorAddr(ctx context.Context, s string) (netip.AddrPort, error) {
	return hostAddr(ctx, s, readyPort, invalid(fmt.Sprintf("%.60q is no reflector", s), "give HOST or HOST:PORT with --reflector, where `ringfence ready reflect` runs"))
}

// hostAddr finds the address of HOST or HOST:PORT.
func hostAddr(ctx context.Context, s, defaultPort string, bad error) (netip.AddrPort, error) {
	if ip, err := netip.ParseAddr(s); err == nil {
		s = net.JoinHostPort(ip.String(), defaultPort)
	} else if _, _, err := net.SplitHostPort(s); err != nil && s != "" {
		s = net.JoinHostPort(s, defaultPort)
	}
	host, port, err := net.SplitHostPort(s)
	number, err2 := strconv.ParseUint(port, 10, 16)
	if err != nil || err2 != nil || host == "" || number == 0 {
		return netip.AddrPort{}, bad
	}
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil || len(addrs) == 0 {
		return netip.AddrPort{}, &ringfence.Fault{Kind: ringfence.KindUnavailable, Text: "this name has no address: " + host, Err: err}
	}
	return netip.AddrPortFrom(addrs[0].Unmap(), uint16(number)), nil
}

func (r *readyRun) check(s *need.Set) error {
	where := "see `ringfence network requirements --set " + s.ID + "`, the columns ROW and FROM"
	if r.setFile != "" {
		where = "see needs, id and from, in " + r.setFile
	}
	for _, k := range r.only {
		if !slices.Contains(probe.Kinds(), k) {
			return invalid(fmt.Sprintf("%.20q is no kind of check", k), "there are "+strings.Join(probe.Kinds(), ", "))
		}
	}
	for _, id := range r.rows {
		if !slices.ContainsFunc(s.Needs, func(n need.Need) bool { return n.ID == id }) {
			return invalid(fmt.Sprintf("there is no row %.40q in %s", id, s.ID), where)
		}
	}
	for _, role := range r.roles {
		if _, ok := s.Roles[role]; !ok {
			return invalid(fmt.Sprintf("there is no role %.40q in %s", role, s.ID), where)
		}
	}
	if r.direction == "" {
		r.direction = string(need.Outbound)
		if s.ID == "self" {
			r.direction = string(need.Inbound) // phones open what the node listens to
		}
	}
	switch {
	case !slices.Contains([]need.Direction{need.Outbound, need.Inbound, need.Internal}, need.Direction(r.direction)):
		return invalid(fmt.Sprintf("%.20q is no direction", r.direction), "there are outbound, inbound and internal")
	case r.samples < 0 || r.samples > 200:
		return invalid("--samples is 0 to 200", "")
	case r.flows < 0 || r.flows > 4000:
		return invalid("--flows is 0 to 4000", "a phone has some ten flows at a time; `ringfence network nat` plans for a site")
	case r.calls < 0 || r.calls > wire.MaxCalls:
		return invalid(fmt.Sprintf("--calls is 0 to %d", wire.MaxCalls), "each call takes some 85 kbit/s each way")
	case r.voice < 0 || r.voice > 5*time.Minute || r.lifetime < 0 || r.lifetime > 9*time.Minute:
		return invalid("--voice takes up to 5m, --lifetime up to 9m", "")
	}
	return nil
}

// again is the command that makes one check again.
func (r *readyRun) again(kind string, rows []string) string {
	out := "ringfence ready run --set " + r.set
	if r.setFile != "" {
		out = "ringfence ready run --set-file " + r.setFile
	}
	if kind == "ntp" {
		out += " --ntp " + strings.Join(r.clocks, ",")
	}
	if kind == "proxy" {
		out += r.web.again()
	} else if kind == "nat" {
		if r.flows > 0 {
			out += fmt.Sprintf(" --flows %d", r.flows)
		}
		if r.lifetime > 0 {
			out += " --lifetime " + r.lifetime.String()
		}
	} else if kind == "capacity" {
		out += fmt.Sprintf(" --calls %d", r.calls)
	} else if kind == "dns" {
		out += r.names.again()
	} else if kind == "tcp" || kind == "udp" {
		out += " --row " + strings.Join(rows, ",")
	}
	if r.site != "" && (kind == "tcp" || kind == "udp") {
		out += " --site " + r.site + " --firewall " + r.firewall
	}
	return out + " --only " + kind + " --direction " + r.direction + " --reflector " + r.reflector + " --key-file " + r.keyFile
}

func (r *readyRun) run(cmd *cobra.Command, a *app) error {
	if r.keyFile == "" {
		return invalid("which key do both ends hold?", "give --key-file, or --key-file - and the one-time key that the reflector printed on standard input")
	}
	s, err := r.theSet(cmd, a)
	if err == nil {
		err = r.check(&s.Set)
	}
	if err != nil {
		return err
	}
	c := probe.Config{Set: &s.Set, Version: s.Version, Direction: need.Direction(r.direction), Roles: r.roles, Rows: r.rows, Kinds: r.only, Name: r.name, Seed: r.seed, Between: r.samples, Voice: r.voice, Lifetime: r.lifetime, Flows: r.flows, Calls: r.calls, Carrier: carrier.Host{},
		TLS:   &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12}, // whatever is shown is what is looked at; nothing is said over it
		Again: r.again, Program: "ringfence " + node.BuildVersion("").Version}
	if c.Reflector, err = reflectorAddr(cmd.Context(), r.reflector); err != nil {
		return err
	}
	for _, h := range r.clocks {
		at, err := hostAddr(cmd.Context(), h, "123", invalid(fmt.Sprintf("%.60q is no time server", h), "give HOST or HOST:PORT with --ntp"))
		if err != nil {
			return err
		}
		c.Clocks = append(c.Clocks, at)
	}
	if r.keyFile == "-" {
		line := make([]byte, 1025)
		n, _ := io.ReadFull(cmd.InOrStdin(), line)
		if c.Key = []byte(strings.TrimSpace(string(line[:n]))); len(c.Key) < wire.MinKey || n > 1024 {
			return invalid("there is no key on standard input", "the reflector printed one when it began")
		}
	} else if c.Key, err = readKey(r.keyFile); err != nil {
		return err
	}
	if c.Opener, err = sockets.New(probe.Flows()); err != nil {
		return err
	}
	if c.Web, err = r.web.open(&s.Set, c.Opener); err != nil {
		return err
	}
	rules, err := newRuler(&s.Set, r.site, r.firewall)
	if err != nil {
		return err
	}
	if c.Names, err = r.names.open(cmd.Context(), &s.Set); err != nil {
		return err
	}
	if c.Seed == 0 {
		n, err := rand.Int(rand.Reader, big.NewInt(1<<32))
		if err != nil {
			return err
		}
		c.Seed = n.Uint64() + 1
	}
	if c.Name == "" {
		c.Name = "reflector.invalid"
		if len(s.Domains) > 0 {
			c.Name = strings.TrimPrefix(s.Domains[0].Pattern, "*.")
		}
	}
	c.Progress = func(done, total int, what string) {
		fmt.Fprintf(cmd.ErrOrStderr(), "%3d of %d  %s\n", done, total, what)
	}
	report, failed := probe.Run(cmd.Context(), c)
	rules.fill(report)
	if err := writeReport(report, r.junit, r.html); err != nil {
		return err
	}
	if err := show(cmd, r.asJSON, report, report.Text); err != nil {
		return err
	}
	if r.keep != "" {
		k, err := a.keepReport(cmd, r.keep, report)
		if err != nil {
			return errors.Join(err, failed)
		}
		fmt.Fprintf(cmd.ErrOrStderr(), "kept as %s\n", k.ID)
	}
	if failed != nil {
		return failed
	}
	return report.Err()
}

// writeReport writes the files that are asked for.
func writeReport(r *verdict.Report, junit, html string) error {
	for _, w := range []struct {
		file  string
		write func(io.Writer) error
	}{{junit, r.JUnit}, {html, r.HTML}} {
		if w.file == "" {
			continue
		}
		f, err := os.Create(w.file)
		if err == nil {
			err = errors.Join(w.write(f), f.Close())
		}
		if err != nil {
			return &ringfence.Fault{Kind: ringfence.KindUnavailable, Text: "the report cannot be written: " + w.file, Err: err}
		}
	}
	return nil
}

func newReadyReportCommand() *cobra.Command {
	var junit, html string
	cmd := &cobra.Command{
		Use: "report FILE", Short: "Make a page of what a readiness test found",
		Long: "report reads what `ready run --json` wrote and prints it as text: what needs work first, each with what to change and the command that tests it again. --html writes a page that needs nothing else and\n" +
			"runs no script, with the answer on top and a list of what to change; --junit writes what systems of continuous integration read. FILE - is standard input.",
		Example: "  ringfence ready report site.json\n  ringfence ready report site.json --html site.html\n  ringfence ready report site.json --junit site.xml",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			r, err := readReport(cmd, args[0])
			if err != nil {
				return err
			}
			if err := writeReport(r, junit, html); err != nil {
				return err
			}
			if junit == "" && html == "" {
				r.Text(cmd.OutOrStdout())
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&html, "html", "", "write a page to this file")
	cmd.Flags().StringVar(&junit, "junit", "", "write JUnit XML to this file")
	return cmd
}
