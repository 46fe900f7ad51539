package main

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/spf13/cobra"

	"ringfence"
	"ringfence/internal/node"
	"ringfence/internal/node/config"
	"ringfence/internal/state/durable"
)

type upFlags struct {
	config, sip, https, domain, name string
	phrase, phraseCommand            string
	drain                            time.Duration
	json, fips                       bool
}

func newUpCommand(a *app) *cobra.Command {
	f := &upFlags{}
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Run the platform",
		Long: "up runs a node until it is told to stop. The first start makes the data directory, a certificate authority, the node's identity and a\n" +
			"one-time administrator code; later starts resume. The configuration is --config, otherwise ringfence.yaml in the data directory.\n\n" +
			"SIGTERM or an interrupt drains: no new calls are taken, and calls may end by themselves until --drain is over; a second one stops\n" +
			"at once. SIGHUP reads the configuration again.\n\n" +
			"With --fips, or fips: true in the configuration, it runs in the FIPS 140-3 mode of Go's cryptography, for which it starts itself again.\n\n" +
			"Where the sealing key is wrapped with a passphrase (`ringfence trust seal`), --passphrase-file names the file that has it, or --passphrase-command what prints it; at a first\n" +
			"start it wraps the key.\n\n" +
			"While it runs, run.json in the data directory says where it listens.",
		Example: "  ringfence up\n  ringfence up --domain example.com --data /srv/ringfence\n  ringfence up --config /etc/ringfence.yaml --drain 2m\n  ringfence up --fips",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return f.run(cmd, a) },
	}
	cmd.Flags().StringVar(&f.config, "config", "", "configuration file (default: ringfence.yaml in the data directory)")
	cmd.Flags().StringVar(&f.sip, "listen-sip", "", "where SIP over TLS listens, e.g. 0.0.0.0:5061; port 0 takes any free one")
	cmd.Flags().StringVar(&f.https, "listen-https", "", "where enrolment and the API listen, e.g. 0.0.0.0:8443")
	cmd.Flags().StringVar(&f.domain, "domain", "", "domain of every address-of-record, e.g. example.com")
	cmd.Flags().DurationVar(&f.drain, "drain", 30*time.Second, "how long calls may go on after a stop")
	cmd.Flags().StringVar(&f.phrase, "passphrase-file", "", "file whose first line opens the sealing key (default: the systemd credential ringfence-passphrase, if there is one)")
	cmd.Flags().StringVar(&f.phraseCommand, "passphrase-command", "", "command that prints what opens the sealing key, for tokens, TPMs and vaults")
	cmd.MarkFlagsMutuallyExclusive("passphrase-file", "passphrase-command")
	cmd.Flags().BoolVar(&f.fips, "fips", false, "run in FIPS 140-3 mode")
	cmd.Flags().BoolVar(&f.json, "json", false, "print where it listens as one JSON object")
	return cmd
}

// override returns what the flags say over any configuration.
func (f *upFlags) override() (func(*config.Config), error) {
	sip, err := listenAddr("--listen-sip", f.sip)
	if err != nil {
		return nil, err
	}
	https, err := listenAddr("--listen-https", f.https)
	if err != nil {
		return nil, err
	}
	return func(c *config.Config) {
		if sip.IsValid() {
			c.SIP.TLS = sip
		}
		if https.IsValid() {
			c.API.HTTPS = https
		}
		if f.domain != "" {
			c.Domain = f.domain
		}
		if f.name != "" {
			c.Name = f.name
		}
		c.FIPS = c.FIPS || f.fips
	}, nil
}

func listenAddr(flag, s string) (netip.AddrPort, error) {
	if s == "" {
		return netip.AddrPort{}, nil
	}
	if strings.HasPrefix(s, ":") {
		s = "[::]" + s
	}
	at, err := netip.ParseAddrPort(s)
	if err != nil {
		return at, invalid(fmt.Sprintf("%s: %q is no address with a port", flag, s), "give an IP address and a port, e.g. 0.0.0.0:5061")
	}
	return at, nil
}

// running is run.json: where a node that runs can be found.
type running struct {
	PID     int       `json:"pid"`
	Version string    `json:"version"`
	Domain  string    `json:"domain"`
	Started time.Time `json:"started"`
	SIP     string    `json:"sip"`
	HTTPS   string    `json:"https"`
	Socket  string    `json:"socket"`
	Anchor  string    `json:"anchor_sha256"`
	// Code is printed once, at the first start, and is not in the file.
	Code        string    `json:"admin_code,omitempty"`
	CodeExpires time.Time `json:"admin_code_expires,omitzero"`
}

func (f *upFlags) run(cmd *cobra.Command, a *app) error {
	ctx := cmd.Context()
	// Signals are taken before the node starts, so that none is lost while it does.
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer signal.Stop(signals)
	opts, unlock, err := f.begin(cmd, a)
	if err != nil {
		return err
	}
	defer unlock()
	level := &slog.LevelVar{}
	if err := level.UnmarshalText([]byte(opts.Config.Log.Level)); err != nil {
		return err
	}
	opts.LogLevel, opts.Log = level, logger(cmd.ErrOrStderr(), opts.Config.Log.Format, level)
	defer node.TuneGarbage()()
	n, err := node.Open(ctx, opts)
	clear(opts.Passphrase)
	if err != nil {
		return err
	}
	r := running{PID: os.Getpid(), Version: opts.Version, Domain: opts.Config.Domain, Started: time.Now().UTC().Truncate(time.Second),
		SIP: n.SIPAddr().String(), HTTPS: n.HTTPSAddr().String(), Socket: n.SocketPath(), Anchor: fingerprint(n.Authority.RootPEM())}
	file := filepath.Join(opts.Data, "run.json")
	b, err := json.MarshalIndent(r, "", "  ")
	if err == nil {
		err = durable.Replace(file, b)
	}
	if err != nil {
		n.Close()
		return err
	}
	defer func() { _ = os.Remove(file) }()
	r.Code, r.CodeExpires = n.AdminCode.Code, n.AdminCode.Expires
	if err := show(cmd, f.json, r, func(w io.Writer) { r.print(w, n.Reach()) }); err != nil {
		n.Close()
		return err
	}
	return serve(ctx, n, signals, f.drain, opts.Log)
}

// serve runs until it is told to stop or cannot go on, and then drains. It returns why it could not go on.
func serve(ctx context.Context, n *node.Node, signals <-chan os.Signal, drain time.Duration, log *slog.Logger) (failed error) {
	for stopping := false; !stopping; {
		select {
		case s := <-signals:
			if s == syscall.SIGHUP {
				_ = n.Reload(ctx) // it has logged what was wrong; the node goes on
				continue
			}
			stopping = true
		case failed = <-n.Failed():
			stopping = true
		case <-ctx.Done():
			stopping = true
		}
	}
	log.Info("stopping: no new calls are taken", "calls", n.Calls.Count(), "drain", drain)
	// The same signal has ended the command's context; the drain goes on without it.
	draining, stop := context.WithTimeout(context.WithoutCancel(ctx), drain)
	defer stop()
	done := make(chan struct{})
	go func() {
		defer close(done)
		n.Shutdown(draining)
	}()
	first := time.Now()
	for {
		select {
		case <-done:
			return failed
		case s := <-signals:
			// One key press reaches us both as a signal and as the end of the context.
			if s != syscall.SIGHUP && time.Since(first) > 100*time.Millisecond {
				stop()
			}
		}
	}
}

// begin makes the data directory, keeps others out of it until unlock is called, and reads the configuration and the passphrase. If the configuration asks for FIPS 140-3 mode, the
// program starts itself again in it first.
func (f *upFlags) begin(cmd *cobra.Command, a *app) (opts node.Options, unlock func(), err error) {
	data, err := filepath.Abs(a.data)
	if err != nil {
		return opts, nil, err
	}
	if unlock, err = lockData(data); err != nil {
		return opts, nil, err
	}
	opts, err = f.options(data)
	if err == nil && opts.Config.FIPS {
		if err = cmd.Context().Err(); err == nil { // a stop that came before would be forgotten
			err = intoFIPS()
		}
	}
	if err == nil {
		opts.Passphrase, err = startPhrase(cmd, phraseOf{f.phrase, f.phraseCommand})
	}
	if err != nil {
		unlock()
	}
	return opts, unlock, err
}

// options reads the configuration and makes the node's options of it. At the first start it writes a configuration file.
func (f *upFlags) options(data string) (node.Options, error) {
	override, err := f.override()
	if err != nil {
		return node.Options{}, err
	}
	file := f.config
	if file == "" {
		file = filepath.Join(data, "ringfence.yaml")
		if _, err := os.Stat(file); errors.Is(err, fs.ErrNotExist) {
			if err := f.firstFile(file, override); err != nil {
				return node.Options{}, err
			}
		}
	}
	if file, err = filepath.Abs(file); err != nil {
		return node.Options{}, err
	}
	c, err := config.Load(file)
	if err != nil {
		return node.Options{}, err
	}
	override(&c)
	return node.Options{Config: c, Data: data, Version: node.BuildVersion("").Version, ConfigFile: file, Override: override}, nil
}

// firstFile writes the configuration of a first start: what the flags say, so that later starts resume without them.
func (f *upFlags) firstFile(file string, override func(*config.Config)) error {
	c := config.Default()
	override(&c)
	if err := c.Validate(); err != nil {
		return err
	}
	type sip struct {
		TLS string `yaml:"tls"`
	}
	type web struct {
		HTTPS string `yaml:"https"`
	}
	first := struct {
		Domain string `yaml:"domain"`
		Name   string `yaml:"name,omitempty"`
		FIPS   bool   `yaml:"fips,omitempty"`
		SIP    *sip   `yaml:"sip,omitempty"`
		API    *web   `yaml:"api,omitempty"`
	}{Domain: c.Domain, Name: f.name, FIPS: f.fips}
	if f.sip != "" {
		first.SIP = &sip{c.SIP.TLS.String()}
	}
	if f.https != "" {
		first.API = &web{c.API.HTTPS.String()}
	}
	b, err := yaml.Marshal(first)
	if err != nil {
		return err
	}
	text := "# Configuration of this node. `ringfence config export --whole` prints every setting with its value;\n" +
		"# `ringfence config plan FILE` shows what a change would do.\n" + string(b)
	return durable.Replace(file, []byte(text))
}

// lockData makes the data directory and sees to it that one node at a time runs with it.
func lockData(data string) (func(), error) {
	if err := os.MkdirAll(data, 0o700); err != nil {
		return nil, &ringfence.Fault{Kind: ringfence.KindUnavailable, Text: "the data directory cannot be made", Hint: "choose another with --data", Err: err}
	}
	f, err := os.OpenFile(filepath.Join(data, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, &ringfence.Fault{Kind: ringfence.KindDenied, Text: "the data directory cannot be written", Hint: "run it as the user who owns " + data, Err: err}
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close()
		return nil, &ringfence.Fault{Kind: ringfence.KindConflict, Text: "a node runs with the data directory " + data + " already", Hint: "see `ringfence status --data " + data + "`"}
	}
	return func() { _ = f.Close() }, nil
}

func logger(w io.Writer, format string, level slog.Leveler) *slog.Logger {
	o := &slog.HandlerOptions{Level: level}
	if format == "json" {
		return slog.New(slog.NewJSONHandler(w, o))
	}
	return slog.New(slog.NewTextHandler(w, o))
}

// fingerprint returns the SHA-256 of a PEM certificate, in hexadecimal.
func fingerprint(b []byte) string {
	block, _ := pem.Decode(b)
	if block == nil {
		return ""
	}
	return fmt.Sprintf("%x", sha256.Sum256(block.Bytes))
}

func (r running) print(w io.Writer, reach string) {
	facts(w, "Ringfence", r.Version, "domain", r.Domain, "SIP over TLS", r.SIP, "enrolment and API", "https://"+r.HTTPS, "administration", r.Socket, "trust anchor", "SHA-256 "+r.Anchor)
	fmt.Fprintln(w)
	if r.Code != "" {
		_, port, _ := strings.Cut(r.HTTPS[strings.LastIndex(r.HTTPS, ":"):], ":")
		fmt.Fprintf(w, "One-time administrator code: %s\n", r.Code)
		fmt.Fprintf(w, "It is shown only now and is good until %s. It gives a token for another host:\n", stamp(r.CodeExpires))
		fmt.Fprintf(w, "  ringfence login --node %s:%s --code %s --pin %s\n\n", reach, port, r.Code, r.Anchor)
		fmt.Fprintln(w, "On this host no code is needed. What to do next, in another terminal:")
		fmt.Fprintln(w, "  ringfence user add alice --number 2001 --name \"Alice Adams\"")
		fmt.Fprintln(w, "  ringfence device add alice-desk --user alice")
		fmt.Fprintln(w, "and let the phone enrol with the code that it prints. See docs/guides/first-phone.md.")
		return
	}
	fmt.Fprintln(w, "The node has resumed. `ringfence status` shows how it is.")
}

// readCertificate reads one PEM certificate.
func readCertificate(b []byte) (*x509.Certificate, error) {
	block, _ := pem.Decode(b)
	if block == nil {
		return nil, invalid("the trust anchor is not PEM", "")
	}
	return x509.ParseCertificate(block.Bytes)
}
