package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"ringfence/internal/service/phone"
	"ringfence/internal/service/swarm"
	"ringfence/internal/trust/chain"
)

// swarming is what the swarm's flags say.
type swarming struct {
	count, calls, first        int
	host, domain, user, number string
	users, password, ca, dns   string
	rate                       float64
	talk, stay, patience       time.Duration
	md5, asJSON                bool
	list                       []swarmUser
	shared, codecs             string
	made                       madeUsers // unless they exist already
}

// swarmLimit bounds the file of users.
const swarmLimit = 8 << 20

func newPhoneSwarmCommand(a *app) *cobra.Command {
	s := &swarming{made: madeUsers{app: a}}
	cmd := &cobra.Command{
		Use: "swarm", Short: "Be many phones at once, and say how that went", Args: cobra.NoArgs,
		Long: "swarm registers many phones over TLS from one process, has pairs of them speak over SRTP, checks in both directions that the tone which was said is the one that is heard, and reports what registered, what was\n" +
			"sealed and heard, how long it took, and what it cost in processor time and memory of this process. Their calls are real.\n\n" +
			"At a Ringfence node it makes the users swarm-00001, swarm-00002 and so on, each with a number from --first-number on, a device and a certificate, as an administrator: by the socket of the node on this host, or by the login at the one\n" +
			"that --node names. They are removed at the end, unless --identities names a directory to keep them in for the next run, which then needs no administrator.\n\n" +
			"At any other server the users exist already. They are in a file (--users), a line each: USER PASSWORD [NUMBER [NAME-OF-DIGEST]]. Or their names follow a pattern (--user 'desk-%04d', counted from --first) and they share one\n" +
			"password (--password-file).\n\n" +
			"Pairs are made in the order of the phones; the second one of each is dialled by its number. A progress bar is shown on a terminal. It fails if a phone does not register or a call is not heard on both sides.",
		Example: "  ringfence phone swarm --count 500\n  ringfence phone swarm --count 5000 --calls 200 --for 1m --identities swarm --json\n  ringfence phone swarm --count 500 --node pbx.example.com --users users.txt --ca ca.pem --codec opus\n" +
			"  ringfence phone swarm --count 5000 --calls 200 --for 30s --node pbx.example.com --user 'desk-%04d' --password-file password.txt --rate 200",
		RunE: func(cmd *cobra.Command, _ []string) error { return s.run(cmd) },
	}
	f := cmd.Flags()
	f.IntVar(&s.count, "count", 0, "how many phones; 0: all in --users, or 100")
	f.StringVar(&s.host, "node", "", "a Ringfence node, HOST or HOST:PORT of its enrolment (8443); with --users or --user the SIP server, HOST or HOST:PORT (5061)")
	f.StringVar(&s.domain, "domain", "", "the domain of the users; without it that of --node")
	f.StringVar(&s.users, "users", "", "file of the users, a line each: USER PASSWORD [NUMBER [NAME-OF-DIGEST]]")
	f.StringVar(&s.user, "user", "", "pattern of the users' names, with one %d")
	f.StringVar(&s.number, "number", "", "pattern of the numbers that are dialled, with one %d; without it the name is dialled")
	f.IntVar(&s.first, "first", 1, "first number of the patterns")
	f.StringVar(&s.password, "password-file", "", "file with the password of all users of --user, its first line")
	f.StringVar(&s.ca, "ca", "", "believe the authorities in this file (PEM), and no others; without it those of this host")
	f.StringVar(&s.dns, "dns", "", "ask this DNS server, ADDR or ADDR:PORT, instead of those of this host")
	f.BoolVar(&s.md5, "md5", false, "answer challenges with MD5 as well")
	f.Float64Var(&s.rate, "rate", 100, "phones that are begun in a second, and calls")
	f.IntVar(&s.calls, "calls", 0, "pairs of phones that speak at the same time")
	f.DurationVar(&s.talk, "for", 10*time.Second, "how long they speak")
	f.DurationVar(&s.stay, "stay", 0, "how long the phones stay registered besides")
	f.DurationVar(&s.patience, "patience", time.Minute, "how long one registration or call may take")
	codecFlag(cmd, &s.codecs)
	s.made.flags(cmd)
	return jsonFlag(cmd, &s.asJSON)
}

// read reads who the phones are.
func (s *swarming) read() error {
	switch {
	case s.host == "":
		return invalid("there is no --node", "give the SIP server: --node pbx.example.com")
	case s.users != "" && s.user != "":
		return invalid("who are the phones?", "give --users FILE, or --user 'desk-%04d' with --password-file, or neither at a Ringfence node")
	case s.user != "" && s.password == "":
		return invalid("--user needs --password-file", "passwords on the command line are seen by everybody on this host")
	case s.user != "" && s.count < 1:
		return invalid("how many?", "give --count")
	}
	if s.user != "" {
		b, err := readWhole(s.password, 4096)
		if err != nil {
			return err
		}
		line, _, _ := strings.Cut(string(b), "\n")
		if s.shared = strings.TrimSuffix(line, "\r"); s.shared == "" {
			return invalid("there is no password in "+s.password, "write it into the first line")
		}
		for _, pattern := range []string{s.user, s.number} {
			if pattern != "" && strings.Contains(fmt.Sprintf(pattern, 1), "%!") {
				return invalid(fmt.Sprintf("%.60q has not one %%d", pattern), "write it as 'desk-%04d'")
			}
		}
		return nil
	}
	b, err := readWhole(s.users, swarmLimit)
	if err != nil {
		return err
	}
	n := 0
	for line := range strings.Lines(string(b)) {
		n++
		f := strings.Fields(line)
		if len(f) == 0 || strings.HasPrefix(f[0], "#") {
			continue
		}
		if len(f) < 2 || len(f) > 4 {
			return invalid(fmt.Sprintf("%s:%d: this is no user", s.users, n), "write USER PASSWORD, USER PASSWORD NUMBER, or both with the name that digest has")
		}
		x := swarmUser{user: f[0], password: f[1], number: f[0], auth: f[0]}
		if len(f) > 2 {
			x.number = f[2]
		}
		if len(f) > 3 {
			x.auth = f[3]
		}
		s.list = append(s.list, x)
	}
	if s.count == 0 {
		s.count = len(s.list)
	}
	if s.count > len(s.list) || s.count == 0 {
		return invalid(fmt.Sprintf("there are %d users in %s, and %d phones are wanted", len(s.list), s.users, s.count), "write as many lines")
	}
	return nil
}

// swarmUser is who a phone is.
type swarmUser struct{ user, password, number, auth string }

// who returns who a phone is.
func (s *swarming) who(i int) swarmUser {
	if s.user == "" {
		return s.list[i]
	}
	x := swarmUser{user: fmt.Sprintf(s.user, s.first+i), password: s.shared}
	x.number, x.auth = x.user, x.user
	if s.number != "" {
		x.number = fmt.Sprintf(s.number, s.first+i)
	}
	return x
}

func (s *swarming) run(cmd *cobra.Command) (err error) {
	out := cmd.ErrOrStderr()
	bar := &progressBar{out: out}
	if f, ok := out.(*os.File); ok {
		bar.terminal = isTerminal(f)
	}
	codecs, err := readCodecs(s.codecs)
	if err != nil {
		return err
	}
	c := swarm.Config{Calls: s.calls, Rate: s.rate, Talk: s.talk, Stay: s.stay, Patience: s.patience, Usage: processUsage, Progress: bar.show, Agent: "Ringfence swarm"}
	if s.users == "" && s.user == "" {
		if c.Count = s.count; c.Count == 0 {
			c.Count = 100
		}
		if err := c.Check(); err != nil {
			return err
		}
		defer func() {
			bar.end()
			err = errors.Join(err, s.made.clean(context.WithoutCancel(cmd.Context())))
			bar.end()
		}()
		err = s.made.make(cmd.Context(), s.host, s.dns, c.Count, bar.show)
		c.Opener, c.Phone, c.Number = s.made.sockets, func(i int) phone.Config { return s.made.phones[i] }, func(i int) string { return s.made.numbers[i] }
	} else {
		err = s.existing(cmd.Context(), &c)
	}
	if err != nil {
		return err
	}
	each := c.Phone
	c.Phone = func(i int) phone.Config {
		conf := each(i)
		conf.Codecs = codecs
		return conf
	}
	r, err := swarm.Run(cmd.Context(), c)
	bar.end()
	if err != nil {
		return err
	}
	if err := show(cmd, s.asJSON, r, func(w io.Writer) { printSwarm(w, r) }); err != nil {
		return err
	}
	return r.Failure()
}

// existing has the phones be users of a server that exist.
func (s *swarming) existing(ctx context.Context, c *swarm.Config) error {
	if err := s.read(); err != nil {
		return err
	}
	host, port := s.host, uint16(5061)
	if h, p, err := net.SplitHostPort(s.host); err == nil {
		n, err := parsePort(p)
		if err != nil {
			return err
		}
		host, port = h, n
	}
	if s.domain == "" {
		s.domain = host
	}
	conf := &tls.Config{MinVersion: tls.VersionTLS12, ClientSessionCache: tls.NewLRUClientSessionCache(64)}
	if s.ca != "" {
		b, err := readWhole(s.ca, chain.MaxFile)
		if err != nil {
			return err
		}
		certs, err := chain.Read(b)
		if err != nil {
			return err
		}
		conf.RootCAs = x509.NewCertPool()
		for _, c := range certs {
			conf.RootCAs.AddCert(c)
		}
	}
	sockets, err := newReachable(s.dns)
	if err != nil {
		return err
	}
	servers, err := sockets.servers(host, port, isDomain(s.host))
	if err != nil {
		return err
	}
	media, err := sockets.media(ctx, servers)
	if err != nil {
		return err
	}
	c.Opener, c.Count = sockets, s.count
	c.Number = func(i int) string { return s.who(i).number }
	c.Phone = func(i int) phone.Config { return s.config(i, host, conf, servers, media) }
	return nil
}

func (s *swarming) config(i int, host string, conf *tls.Config, servers phone.Servers, media netip.Addr) phone.Config {
	x := s.who(i)
	return phone.Config{Servers: oneFamily{servers, media}, ServerName: host, TLS: conf, User: x.user, AuthUser: x.auth, Domain: s.domain, Password: x.password, AllowMD5: s.md5, MediaAddr: media, MaxCalls: 1}
}

// progressBar shows how far a swarm is: on a terminal as a bar, elsewhere as a line at the end of each phase.
type progressBar struct {
	out      io.Writer
	terminal bool
	last     swarm.Progress
}

const barWidth = 40

func (b *progressBar) show(p swarm.Progress) {
	if p.Phase != b.last.Phase {
		b.end()
	}
	b.last = p
	if b.terminal {
		full := 0
		if p.Total > 0 {
			full = barWidth * p.Done / p.Total
		}
		fmt.Fprintf(b.out, "\r%-12s [%s%s] %d of %d%s ", p.Phase, strings.Repeat("#", full), strings.Repeat(".", barWidth-full), p.Done, p.Total, failures(p.Failed))
	}
}

func failures(n int) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf(", %d failed", n)
}

func (b *progressBar) end() {
	switch {
	case b.last.Phase == "":
	case b.terminal:
		fmt.Fprintln(b.out)
	default:
		fmt.Fprintf(b.out, "%s: %d of %d%s\n", b.last.Phase, b.last.Done, b.last.Total, failures(b.last.Failed))
	}
	b.last = swarm.Progress{}
}

// heldMemory returns what the kernel says that this process holds, and the most it held; nothing where it does not say.
func heldMemory() (now, most uint64) {
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, 0
	}
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		n, err := strconv.ParseUint(f[1], 10, 64)
		switch {
		case err != nil:
		case f[0] == "VmRSS:":
			now = n << 10
		case f[0] == "VmHWM:":
			most = n << 10
		}
	}
	return now, most
}

func printSwarm(w io.Writer, r swarm.Report) {
	milliseconds := func(t swarm.Times) string {
		return fmt.Sprintf("half within %.0f ms, 95 %% within %.0f ms, all within %.0f ms", t.Median, t.P95, t.Most)
	}
	facts(w, "phones", fmt.Sprintf("%d of %d registered, %d over verified TLS, in %.1f s", r.Registered, r.Count, r.Sealed, r.Seconds), "registration", milliseconds(r.Register))
	if r.Calls.Wanted > 0 {
		facts(w, "calls", fmt.Sprintf("%d of %d up, %d sealed, %d heard on both sides", r.Calls.Up, r.Calls.Wanted, r.Calls.Sealed, r.Calls.Heard), "answered", milliseconds(r.Calls.Setup),
			"voice", fmt.Sprintf("MOS %.1f or better, %d packets lost", r.Calls.LeastMOS, r.Calls.Lost))
	}
	if r.Lost > 0 {
		facts(w, "lost", fmt.Sprintf("%d phones lost their registration", r.Lost))
	}
	u := r.Usage
	cost := fmt.Sprintf("%.1f s of processor, %.2f ms a registration", u.CPUSeconds, u.CPUMillisecondsPerPhone)
	if u.CPUMillisecondsPerCallSecond > 0 {
		cost += fmt.Sprintf(", %.2f ms a second of a call (both phones)", u.CPUMillisecondsPerCallSecond)
	}
	if u.CPUMicrosecondsPerIdleSecond > 0 {
		cost += fmt.Sprintf(", %.1f µs a second of a phone that waits", u.CPUMicrosecondsPerIdleSecond)
	}
	facts(w, "cost", cost, "memory", fmt.Sprintf("%d KiB a phone, %d MiB at most", u.BytesPerPhone>>10, u.PeakBytes>>20))
	for _, c := range append(append([]swarm.Cause{}, r.Failed...), r.Calls.Failed...) {
		fmt.Fprintf(w, "FAILED %d times: %s\n", c.Count, c.Text)
		if c.Hint != "" {
			fmt.Fprintf(w, "  hint: %s\n", c.Hint)
		}
	}
}
