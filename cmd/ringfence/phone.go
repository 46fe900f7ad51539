package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"ringfence"
	"ringfence/internal/desk/sound"
	"ringfence/internal/node"
	"ringfence/internal/service/phone"
	"ringfence/internal/state/durable"
	"ringfence/internal/trust/ca"
	"ringfence/internal/trust/enroll"
)

// handset is what the phone verbs share.
type handset struct {
	identity string // directory with the phone's key and certificate
	code     string
	signIn   string // file of tokens, instead of an identity
	host     string
	dns      string
	tone     float64
	play     string
	record   string
	digits   string
	codecs   string // best first
	// The sound devices of this host.
	sound                   bool
	microphone, loudspeaker string
	devices                 *sound.Devices // or nil
	length                  time.Duration
	asJSON                  bool
}

func newPhoneCommand(a *app) *cobra.Command {
	h := &handset{}
	cmd := &cobra.Command{
		Use:   "phone",
		Short: "Be a phone: enrol, call, answer, listen",
		Long: "phone is a complete phone without a handset. It makes its own key, trades a one-time activation code for a certificate, and keeps\n" +
			"both in --identity. Or somebody signs in with `ringfence signin start`, and --sign-in names the file. It speaks TLS and SRTP only.\n\nIt finds its node by the NAPTR and SRV records of the domain that --node names, else by the address of that name, goes to the\n" +
			"next one when a node is down, and always checks the certificate against the domain, not against what DNS says.\n\nWithout a verb below it enrols if --enrol is given, registers, says where it stands, and ends.",
		Example: "  ringfence phone --enrol '1234 5678 9012 3456' --node pbx.example.com\n  ringfence phone call 102 --tone 440 --for 10s\n" +
			"  ringfence phone --sign-in alice.json answer --record call.wav\n  ringfence phone listen",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return h.run(cmd, h.stand) },
	}
	f := cmd.PersistentFlags()
	f.StringVar(&h.identity, "identity", defaultIdentity(), "directory of the phone's key and certificate")
	f.StringVar(&h.code, "enrol", "", "one-time activation code from ringfence device add")
	f.StringVar(&h.signIn, "sign-in", "", "register with the tokens in this file, from ringfence signin start, instead of a certificate")
	f.StringVar(&h.host, "node", "", "the node: a domain, whose DNS records lead to its nodes, or HOST:PORT of the enrolment (8443); kept after --enrol, for this time without")
	f.StringVar(&h.dns, "dns", "", "ask this DNS server, ADDR or ADDR:PORT, instead of those of this host")
	f.Float64Var(&h.tone, "tone", 0, "say a tone of this many Hz")
	f.StringVar(&h.play, "play", "", "say what is in this WAV file")
	f.StringVar(&h.record, "record", "", "keep what is heard in this WAV file")
	f.StringVar(&h.digits, "dtmf", "", "press these keys once the call is up")
	f.DurationVar(&h.length, "for", 0, "hang up after this long; 0 waits for the other side")
	f.BoolVar(&h.asJSON, "json", false, "print the proof and the audio report as JSON")
	calling := &cobra.Command{Use: "call NUMBER", Short: "Call a number and stay until the call ends", Args: cobra.ExactArgs(1),
		Long:    "call dials a number, says what --tone or --play gives it, and ends with the call or after --for. It prints the proof and what was heard.",
		Example: "  ringfence phone call 102 --tone 440 --for 10s --json\n  ringfence phone call 102 --codec opus --play question.wav --record answer.wav\n  ringfence phone call 102 --sound",
		RunE: func(cmd *cobra.Command, args []string) error {
			return h.run(cmd, func(ctx context.Context, out io.Writer, p *phone.Phone) error { return h.call(ctx, out, p, args[0]) })
		}}
	answering := &cobra.Command{Use: "answer", Short: "Answer one call and stay until it ends", Args: cobra.NoArgs,
		Long:    "answer waits for one call, answers it, and ends with it. It prints the proof and what was heard.",
		Example: "  ringfence phone answer --play greeting.wav\n  ringfence phone answer --sound",
		RunE:    func(cmd *cobra.Command, _ []string) error { return h.run(cmd, h.answer) }}
	listening := &cobra.Command{Use: "listen", Short: "Answer every call until interrupted", Args: cobra.NoArgs,
		Long:    "listen stays registered and answers every call, until it is interrupted.",
		Example: "  ringfence phone listen --tone 440",
		RunE:    func(cmd *cobra.Command, _ []string) error { return h.run(cmd, h.listen) }}
	for _, talks := range []*cobra.Command{calling, answering, listening} {
		codecFlag(talks, &h.codecs)
		soundFlags(talks, h)
	}
	cmd.AddCommand(calling, answering, listening,
		newPhoneUpCommand(h), newPhoneStatusCommand(), newPhoneLintCommand(), newPhoneExplainCommand(), newPhoneDoCommand(), newPhoneDHCPCommand(), newPhoneDot1xCommand(), newPhoneDirectoryCommand(), newPhoneVPNCommand(), newPhoneTR069Command(), newPhoneFirmwareCommand(), newPhoneReportCommand(), newPhoneSwarmCommand(a), newPhoneSoundCommand(),
	)
	return cmd
}

func defaultIdentity() string {
	dir, err := os.UserConfigDir()
	if err != nil {
		return "ringfence-phone"
	}
	return filepath.Join(dir, "ringfence", "phone")
}

// run opens the phone, does one thing with it, and closes it.
func (h *handset) run(cmd *cobra.Command, do func(context.Context, io.Writer, *phone.Phone) error) error {
	ctx, out := cmd.Context(), cmd.OutOrStdout()
	if h.asJSON {
		out = cmd.ErrOrStderr()
	}
	sockets, err := newReachable(h.dns)
	if err != nil {
		return err
	}
	codecs, err := readCodecs(h.codecs)
	if err != nil {
		return err
	}
	ctx, done := context.WithCancel(ctx)
	if err := h.openSound(ctx, cmd.ErrOrStderr()); err != nil {
		done()
		return err
	}
	defer h.devices.Wait()
	defer done()
	id, conf, tokens, err := h.credentials(ctx, sockets, out)
	if err != nil {
		return err
	}
	servers, err := sockets.servers(id.Host, id.Bootstrap.SIP.Port, id.ByName)
	if err != nil {
		return err
	}
	media, err := sockets.media(ctx, servers)
	if err != nil {
		return err
	}
	p, err := phone.Open(ctx, phone.Config{Opener: sockets, Servers: oneFamily{servers, media}, ServerName: id.Bootstrap.SIP.Host, MediaAddr: media, Log: node.Discard(),
		TLS: conf, Tokens: tokens, User: string(id.Bootstrap.User), Domain: id.Bootstrap.Domain, Codecs: codecs, UserAgent: "Ringfence phone"})
	if err != nil {
		return err
	}
	defer func() { _ = p.Close() }()
	fmt.Fprintf(out, "registered as %s at %s\n", p.Address(), p.Server())
	go tellRegistration(ctx, cmd.ErrOrStderr(), p, func(phone.Event) {})
	if err := do(ctx, out, p); err != nil || !h.asJSON {
		return err
	}
	return nil
}

// tellRegistration says when the phone cannot be called any more, why, and when it can again. Otherwise one that listens would be silent
// when its sign-in is over or its certificate was revoked.
func tellRegistration(ctx context.Context, out io.Writer, p *phone.Phone, other func(phone.Event)) {
	last := ""
	for {
		select {
		case <-ctx.Done():
			return
		case e := <-p.Events():
			r := e.Registration
			switch {
			case ctx.Err() != nil:
			case e.Kind != phone.RegistrationChanged:
				other(e)
			case r.State == phone.Registered && last != "":
				fmt.Fprintf(out, "registered again at %s\n", p.Server())
				last = ""
			case r.Err != nil && r.Err.Error() != last: // once, not at each attempt
				last = r.Err.Error()
				fmt.Fprintln(out, "not registered:", last)
				if hint := ringfence.HintOf(r.Err); hint != "" {
					fmt.Fprintln(out, "hint: "+hint)
				}
			}
		}
	}
}

// credentials returns who the phone is and how it proves that: by its certificate, or by the tokens of a sign-in.
func (h *handset) credentials(ctx context.Context, sockets *reachable, out io.Writer) (keptIdentity, *tls.Config, phone.Tokens, error) {
	if h.signIn == "" {
		id, err := h.enrolled(ctx, sockets, out)
		if err != nil {
			return id, nil, nil, err
		}
		return id, &tls.Config{RootCAs: id.Pool(), Certificates: []tls.Certificate{id.Certificate()}, MinVersion: tls.VersionTLS12}, nil, nil
	}
	if h.code != "" {
		return keptIdentity{}, nil, nil, invalid("--sign-in and --enrol exclude each other", "a device has a certificate or signs in, as `ringfence device show` says")
	}
	id, keeper, roots, err := h.signedIn(sockets)
	return id, &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}, keeper, err
}

// stand prints where the phone stands.
func (h *handset) stand(_ context.Context, out io.Writer, p *phone.Phone) error {
	proof := p.Proof()
	if h.asJSON {
		return json.NewEncoder(os.Stdout).Encode(proof)
	}
	fmt.Fprintf(out, "%s: %s, %s, %s, server %s\n", proof.Verdict, proof.TLS.Version, proof.TLS.Suite, proof.TLS.Group, proof.TLS.PeerSubject)
	return nil
}

// options opens what the phone says and where it keeps what it hears.
func (h *handset) options() (opt phone.CallOptions, rec *phone.Recorder, err error) {
	switch {
	case h.tone < 0 || h.tone > 3800:
		return opt, nil, invalid(fmt.Sprintf("--tone %g: between 1 and 3800 Hz", h.tone), "")
	case h.tone > 0 && h.play != "":
		return opt, nil, invalid("--tone and --play exclude each other", "choose one")
	case h.tone > 0:
		opt.Audio = phone.Tone(h.tone)
	case h.play != "":
		file, err := os.ReadFile(h.play)
		if err != nil {
			return opt, nil, invalid(err.Error(), "")
		}
		if opt.Audio, err = phone.PlayWAV(file, false); err != nil {
			return opt, nil, err
		}
	}
	if h.record != "" {
		rec = phone.NewRecorder(3600)
		opt.Hear = rec
	}
	if h.devices == nil {
		return opt, rec, nil
	}
	here := h.devices.Handset()
	if opt.Audio == nil {
		opt.Audio = here
	}
	if opt.Hear = here; rec != nil {
		opt.Hear = both{rec, here}
	}
	return opt, rec, nil
}

func (h *handset) call(ctx context.Context, out io.Writer, p *phone.Phone, number string) error {
	opt, rec, err := h.options()
	if err != nil {
		return err
	}
	c, err := p.Call(ctx, number, opt)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "calling %s\n", number)
	if err := c.WaitAnswered(ctx); err != nil {
		c.Hangup()
		return err
	}
	return h.talk(ctx, out, c, rec, h.record)
}

func (h *handset) answer(ctx context.Context, out io.Writer, p *phone.Phone) error {
	fmt.Fprintln(out, "waiting for a call")
	select {
	case c := <-p.Incoming():
		return h.take(ctx, out, c)
	case <-ctx.Done():
		return nil
	}
}

func (h *handset) listen(ctx context.Context, out io.Writer, p *phone.Phone) error {
	fmt.Fprintln(out, "waiting for calls; interrupt to end")
	for {
		select {
		case c := <-p.Incoming():
			go func() {
				if err := h.take(ctx, out, c); err != nil {
					fmt.Fprintln(out, "call:", err)
				}
			}()
		case <-ctx.Done():
			return nil
		}
	}
}

func (h *handset) take(ctx context.Context, out io.Writer, c *phone.Call) error {
	opt, rec, err := h.options()
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "%s calls\n", c.Peer().Number)
	if err := c.Answer(ctx, opt); err != nil {
		return err
	}
	return h.talk(ctx, out, c, rec, h.record)
}

// phoneReport is what --json prints after a call.
type phoneReport struct {
	Peer  string          `json:"peer"`
	Proof ringfence.Proof `json:"proof"`
	Audio phone.Audio     `json:"audio"`
	End   string          `json:"end"`
}

// talk stays until the call ends and reports; what was heard goes into the file record.
func (h *handset) talk(ctx context.Context, out io.Writer, c *phone.Call, rec *phone.Recorder, record string) error {
	fmt.Fprintf(out, "in a call with %s\n", c.Peer().Number)
	if h.digits != "" {
		if err := c.SendDigits(h.digits); err != nil {
			return err
		}
	}
	end := "ended by the other side"
	wait := ctx
	if h.length > 0 {
		var cancel context.CancelFunc
		wait, cancel = context.WithTimeout(ctx, h.length)
		defer cancel()
	}
	report := phoneReport{Peer: c.Peer().Number}
	if err := c.WaitEnded(wait); err != nil {
		end = err.Error()
		if wait.Err() != nil {
			end = "hung up"
			report.Proof, report.Audio = c.Proof(), c.Audio()
			c.Hangup()
		}
	}
	if report.Proof.ID == "" {
		report.Proof, report.Audio = c.Proof(), c.Audio()
	}
	report.End = end
	if rec != nil {
		wav, err := rec.WAV()
		if err != nil {
			return err
		}
		if err := os.WriteFile(record, wav, 0o600); err != nil {
			return invalid(err.Error(), "")
		}
	}
	if h.asJSON {
		return json.NewEncoder(os.Stdout).Encode(report)
	}
	fmt.Fprintf(out, "%s: %s\n", end, report.Proof.Verdict)
	if t := report.Proof.TLS; t != nil {
		fmt.Fprintf(out, "  signalling  %s, %s, %s, server %s\n", t.Version, t.Suite, t.Group, t.PeerSubject)
	}
	if m := report.Proof.Media; m != nil {
		fmt.Fprintf(out, "  media       %s, SRTP %s, %d packets in, %d out, %d lost, %d rejected, MOS %.1f\n", report.Audio.Codec, m.Suite, m.PacketsIn, m.PacketsOut, m.Lost, m.Rejected, m.MOS)
	}
	if report.Audio.HeardHz > 0 {
		fmt.Fprintf(out, "  heard       %.1f Hz\n", report.Audio.HeardHz)
	}
	return nil
}

// keptIdentity is an enrolled identity with the host it came from.
type keptIdentity struct {
	enroll.Identity
	Host   string
	ByName bool // Host is a domain whose DNS records lead to its nodes
}

type identityFile struct {
	Host      string           `json:"host"`
	ByName    bool             `json:"by_name,omitempty"`
	API       uint16           `json:"api_port"`
	Device    string           `json:"device"`
	Bootstrap enroll.Bootstrap `json:"bootstrap"`
}

// enrolled enrols if a code was given, else reads the kept identity, renewing it when two thirds of its life are over.
func (h *handset) enrolled(ctx context.Context, sockets *reachable, out io.Writer) (keptIdentity, error) {
	if h.code != "" {
		if h.host == "" {
			return keptIdentity{}, invalid("--enrol needs --node", "ringfence phone --enrol CODE --node HOST")
		}
		at, err := hostPort(h.host)
		if err != nil {
			return keptIdentity{}, err
		}
		host, text, err := net.SplitHostPort(at)
		if err != nil {
			return keptIdentity{}, invalid(err.Error(), "")
		}
		port, err := parsePort(text)
		if err != nil {
			return keptIdentity{}, err
		}
		about := identityFile{Host: host, ByName: isDomain(h.host), API: port}
		id, err := h.client(sockets, about).Enrol(ctx, host, h.code)
		if err != nil {
			return keptIdentity{}, err
		}
		fmt.Fprintf(out, "enrolled as device %s of %s\n", id.Device, id.Bootstrap.User)
		return keptIdentity{id, host, about.ByName}, h.keep(id, about)
	}
	id, file, err := h.load()
	if err != nil {
		return keptIdentity{}, err
	}
	if h.host != "" { // for this time only
		at, err := hostPort(h.host)
		if err != nil {
			return keptIdentity{}, err
		}
		if file.Host, _, err = net.SplitHostPort(at); err != nil {
			return keptIdentity{}, invalid(err.Error(), "")
		}
		file.ByName = isDomain(h.host)
	}
	if time.Now().After(ca.RenewAt(id.Leaf)) {
		fresh, err := h.client(sockets, file).Renew(ctx, id.Bootstrap.SIP.Host, id)
		if err == nil {
			err = h.keep(fresh, file)
			id = fresh
		}
		if err != nil {
			fmt.Fprintln(out, "the certificate could not be renewed:", err)
		}
	}
	return keptIdentity{id, file.Host, file.ByName}, nil
}

func (h *handset) client(sockets *reachable, at identityFile) *enroll.Client {
	return &enroll.Client{Dial: func(ctx context.Context) (net.Conn, error) {
		return sockets.dial(ctx, enrolFlow().Name, at.Host, at.API, at.ByName)
	}}
}

// keep writes the identity so that only its owner can read it. The key is made on this host and never leaves it.
func (h *handset) keep(id enroll.Identity, file identityFile) error {
	file.Device, file.Bootstrap = string(id.Device), id.Bootstrap
	key, err := x509.MarshalECPrivateKey(id.Key)
	if err != nil {
		return err
	}
	about, err := json.MarshalIndent(file, "", "  ")
	if err != nil {
		return err
	}
	var chain, anchors []byte
	for _, der := range id.Chain {
		chain = append(chain, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	for _, a := range id.Anchors {
		anchors = append(anchors, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.Raw})...)
	}
	if err := os.MkdirAll(h.identity, 0o700); err != nil {
		return invalid(err.Error(), "choose another --identity")
	}
	for name, b := range map[string][]byte{"key.pem": pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: key}), "chain.pem": chain, "anchors.pem": anchors, "phone.json": about} {
		if err := durable.Replace(filepath.Join(h.identity, name), b); err != nil {
			return invalid(err.Error(), "choose another --identity")
		}
	}
	return nil
}

func (h *handset) load() (enroll.Identity, identityFile, error) {
	var file identityFile
	var id enroll.Identity
	missing := func(err error) error {
		return &ringfence.Fault{Op: "phone", Kind: ringfence.KindNotFound, Text: "this phone has no identity in " + h.identity, Err: err,
			Hint: "enrol it: `ringfence device add NAME --user USER` on the node, then `ringfence phone --enrol CODE --node HOST` here"}
	}
	about, err := os.ReadFile(filepath.Join(h.identity, "phone.json"))
	if err != nil {
		return id, file, missing(nil)
	}
	if err := json.Unmarshal(about, &file); err != nil {
		return id, file, missing(err)
	}
	pair, err := tls.LoadX509KeyPair(filepath.Join(h.identity, "chain.pem"), filepath.Join(h.identity, "key.pem"))
	if err != nil {
		return id, file, missing(err)
	}
	key, ok := pair.PrivateKey.(*ecdsa.PrivateKey)
	if !ok {
		return id, file, missing(errors.New("the key is of another kind"))
	}
	anchors, err := os.ReadFile(filepath.Join(h.identity, "anchors.pem"))
	if err != nil {
		return id, file, missing(err)
	}
	for block, rest := pem.Decode(anchors); block != nil; block, rest = pem.Decode(rest) {
		a, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return id, file, missing(err)
		}
		id.Anchors = append(id.Anchors, a)
	}
	id.Device, id.Key, id.Chain, id.Leaf, id.Bootstrap = ringfence.DeviceID(file.Device), key, pair.Certificate, pair.Leaf, file.Bootstrap
	return id, file, nil
}

func parsePort(text string) (uint16, error) {
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil || n == 0 {
		return 0, invalid(text+" is no port", "write HOST or HOST:PORT")
	}
	return uint16(n), nil
}
