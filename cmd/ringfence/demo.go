package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/spf13/cobra"

	"ringfence"
	"ringfence/internal/node"
	"ringfence/internal/node/config"
	"ringfence/internal/node/sockets"
	"ringfence/internal/service/phone"
	"ringfence/internal/state/store"
	"ringfence/internal/trust/enroll"
)

func newDemoCommand(version string) *cobra.Command {
	var asJSON, verbose bool
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Make a sealed call between two phones on this host, and prove it",
		Long: "demo starts a node with its own new certificate authority in a temporary directory, enrols two headless phones by one-time\n" +
			"codes, lets one call the other over TLS 1.3 and SRTP, checks at both ends that the other's tone is heard, and prints the proof\n" +
			"of every leg. It uses free ports on the loopback address, needs no internet and leaves nothing behind.",
		Example: "  ringfence demo\n  ringfence demo --json | jq .legs",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), 30*time.Second)
			defer cancel()
			d := &demo{out: cmd.OutOrStdout(), log: node.Discard(), version: version}
			if asJSON {
				d.out = io.Discard
			}
			if verbose {
				d.log = slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), nil))
			}
			result, err := d.run(ctx)
			if err != nil {
				return err
			}
			if asJSON {
				return json.NewEncoder(cmd.OutOrStdout()).Encode(result)
			}
			d.print(result)
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	cmd.Flags().BoolVarP(&verbose, "verbose", "v", false, "show the node's log on standard error")
	return cmd
}

// demoResult is what demo --json prints.
type demoResult struct {
	OK      bool              `json:"ok"`
	Seconds float64           `json:"seconds"`
	Legs    []ringfence.Proof `json:"legs"`
	Audio   demoAudio         `json:"audio"`
}

// demoAudio says what was said and heard; the top-level tone is the caller's, heard by the callee.
type demoAudio struct {
	OK         bool        `json:"ok"`
	SentHz     float64     `json:"tone_hz_sent"`
	HeardHz    float64     `json:"tone_hz_heard"`
	Seconds    float64     `json:"seconds"`
	Directions []demoSound `json:"directions"`
}

type demoSound struct {
	From    string  `json:"from"`
	To      string  `json:"to"`
	SentHz  float64 `json:"tone_hz_sent"`
	HeardHz float64 `json:"tone_hz_heard"`
	Seconds float64 `json:"seconds"`
}

type demo struct {
	out     io.Writer
	log     *slog.Logger
	version string
	node    *node.Node
}

const (
	aliceHz = 440.0
	bobHz   = 697.0
	talk    = 2.0 // seconds of tone that each end must hear
)

func (d *demo) step(format string, args ...any) { fmt.Fprintf(d.out, "  • "+format+"\n", args...) }

func (d *demo) run(ctx context.Context) (demoResult, error) {
	start := time.Now()
	data, err := os.MkdirTemp("", "ringfence-demo-")
	if err != nil {
		return demoResult{}, err
	}
	defer func() { _ = os.RemoveAll(data) }()
	c := config.Default()
	loopback := netip.MustParseAddr("127.0.0.1")
	c.SIP.TLS, c.API.HTTPS, c.Media.Addr = netip.AddrPortFrom(loopback, 0), netip.AddrPortFrom(loopback, 0), loopback
	if d.node, err = node.Open(ctx, node.Options{Config: c, Data: data, Version: d.version, Log: d.log}); err != nil {
		return demoResult{}, err
	}
	defer d.node.Close()
	d.step("a node is up with a certificate authority of its own: SIP over TLS on %s, enrolment on %s", d.node.SIPAddr(), d.node.HTTPSAddr())
	alice, err := d.phone(ctx, "alice", "101")
	if err != nil {
		return demoResult{}, err
	}
	defer func() { _ = alice.Close() }()
	bob, err := d.phone(ctx, "bob", "102")
	if err != nil {
		return demoResult{}, err
	}
	defer func() { _ = bob.Close() }()
	result, err := d.call(ctx, alice, bob)
	result.Seconds = math.Round(time.Since(start).Seconds()*100) / 100
	return result, err
}

// phone makes a user with a device, enrols the device by a one-time code, and registers it.
func (d *demo) phone(ctx context.Context, user ringfence.UserID, number ringfence.Number) (*phone.Phone, error) {
	n := d.node
	device := ringfence.DeviceID(user + "-desk")
	if err := n.Store.CreateUser(ctx, store.User{ID: user, Name: string(user), Numbers: []ringfence.Number{number}}); err != nil {
		return nil, err
	}
	if err := n.Store.CreateDevice(ctx, store.Device{ID: device, User: user, Kind: "headless", Created: time.Now()}); err != nil {
		return nil, err
	}
	if err := n.Roster.Reload(ctx); err != nil {
		return nil, err
	}
	code, _, err := n.Enroll.NewCode(ctx, device)
	if err != nil {
		return nil, err
	}
	opener, err := sockets.New(append(phone.Flows(ringfence.PortRange{}, ringfence.PortRange{}), enrolFlow()))
	if err != nil {
		return nil, err
	}
	client := enroll.Client{Dial: func(ctx context.Context) (net.Conn, error) { return opener.Dial(ctx, enrolFlow().Name, n.HTTPSAddr()) }}
	id, err := client.Enrol(ctx, "localhost", code)
	if err != nil {
		return nil, err
	}
	p, err := phone.Open(ctx, phone.Config{Opener: opener, Server: n.SIPAddr(), ServerName: id.Bootstrap.SIP.Host,
		TLS:  &tls.Config{RootCAs: id.Pool(), Certificates: []tls.Certificate{id.Certificate()}, MinVersion: tls.VersionTLS13},
		User: string(id.Bootstrap.User), Domain: id.Bootstrap.Domain, MediaAddr: n.SIPAddr().Addr(), Log: d.log})
	if err != nil {
		return nil, err
	}
	d.step("%s made its key, enrolled with a one-time code and registered as %s (%s)", device, user, number)
	return p, nil
}

// enrolFlow declares the phone's way to enrolment.
func enrolFlow() ringfence.Flow {
	return ringfence.Flow{Name: "phone-enrol", Purpose: "enrolment by activation code", Room: "cmd/ringfence", Direction: ringfence.Dials,
		Transport: "tcp", Peers: "the node", TLS: ringfence.TLSServer}
}

func (d *demo) call(ctx context.Context, alice, bob *phone.Phone) (demoResult, error) {
	var r demoResult
	out, err := alice.Call(ctx, "102", phone.CallOptions{Audio: phone.Tone(aliceHz)})
	if err != nil {
		return r, err
	}
	var in *phone.Call
	select {
	case in = <-bob.Incoming():
	case <-ctx.Done():
		return r, &ringfence.Fault{Op: "demo", Kind: ringfence.KindTimeout, Text: "bob's phone did not ring"}
	}
	if err := in.Answer(ctx, phone.CallOptions{Audio: phone.Tone(bobHz)}); err != nil {
		return r, err
	}
	if err := out.WaitAnswered(ctx); err != nil {
		return r, err
	}
	d.step("alice calls 102, bob answers; both say a tone and listen for the other's")
	r.Audio, err = listen(ctx, out, in)
	if err != nil {
		return r, err
	}
	calls := d.node.Calls.List()
	out.Hangup()
	if err := in.WaitEnded(ctx); err != nil {
		return r, err
	}
	if len(calls) != 1 {
		return r, &ringfence.Fault{Op: "demo", Kind: ringfence.KindInternal, Text: fmt.Sprintf("the node knows %d calls, not one", len(calls))}
	}
	r.OK = r.Audio.OK && len(calls[0].Legs) == 2
	for _, l := range calls[0].Legs {
		r.Legs = append(r.Legs, l.Proof)
		r.OK = r.OK && l.Verdict == ringfence.Sealed
	}
	if !r.OK {
		return r, &ringfence.Fault{Op: "demo", Kind: ringfence.KindInsecure, Text: "the call was not sealed, or not heard, on every leg"}
	}
	return r, nil
}

// listen waits until both ends have heard enough of the other's tone.
func listen(ctx context.Context, out, in *phone.Call) (demoAudio, error) {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	near := func(got, want float64) bool { return math.Abs(got-want) <= want/100 }
	for {
		a, b := out.Audio(), in.Audio()
		if near(b.HeardHz, aliceHz) && near(a.HeardHz, bobHz) && a.HeardSeconds >= talk && b.HeardSeconds >= talk {
			return demoAudio{OK: true, SentHz: aliceHz, HeardHz: b.HeardHz, Seconds: b.HeardSeconds, Directions: []demoSound{
				{"alice", "bob", aliceHz, b.HeardHz, b.HeardSeconds}, {"bob", "alice", bobHz, a.HeardHz, a.HeardSeconds}}}, nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return demoAudio{}, &ringfence.Fault{Op: "demo", Kind: ringfence.KindTimeout,
				Text: fmt.Sprintf("the tones were not heard: alice heard %.0f Hz for %.1f s, bob %.0f Hz for %.1f s", a.HeardHz, a.HeardSeconds, b.HeardHz, b.HeardSeconds)}
		}
	}
}

func (d *demo) print(r demoResult) {
	for _, s := range r.Audio.Directions {
		d.step("%s heard %s: sent %.0f Hz, heard %.1f Hz for %.1f s", s.To, s.From, s.SentHz, s.HeardHz, s.Seconds)
	}
	fmt.Fprintln(d.out, "\nProof of every leg")
	for _, l := range r.Legs {
		fmt.Fprintf(d.out, "  %s  %s  %s\n", l.ID, l.Verdict, l.Peer)
		fmt.Fprintf(d.out, "    signalling  %s, %s, %s, peer %s\n", l.TLS.Version, l.TLS.Suite, l.TLS.Group, l.TLS.PeerSubject)
		fmt.Fprintf(d.out, "    media       SRTP %s, DSCP %d, %d packets in, %d out, %d lost, %d rejected, MOS %.1f\n",
			l.Media.Suite, l.Media.DSCP, l.Media.PacketsIn, l.Media.PacketsOut, l.Media.Lost, l.Media.Rejected, l.Media.MOS)
	}
	fmt.Fprintf(d.out, "\nSealed from the first ring, in %.1f s.\n", r.Seconds)
}
