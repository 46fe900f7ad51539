package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	"ringfence"
	"ringfence/internal/desk/cwmp"
	"ringfence/internal/desk/dhcp"
	"ringfence/internal/desk/feature"
	"ringfence/internal/desk/flatprofile"
	"ringfence/internal/desk/line"
	"ringfence/internal/desk/paging"
	"ringfence/internal/desk/resync"
	"ringfence/internal/desk/vpn"
	"ringfence/internal/media/codec"
	"ringfence/internal/media/rtp"
	"ringfence/internal/network/phoneports"
	"ringfence/internal/network/phonewall"
	"ringfence/internal/node"
	"ringfence/internal/node/sockets"
	"ringfence/internal/service/phone"
	"ringfence/internal/sip/mediasec"
	"ringfence/internal/state/durable"
)

// lineStatus is where a line stands.
type lineStatus struct {
	Line       int              `json:"line"`
	Address    string           `json:"address"`
	Transport  line.Transport   `json:"transport"`
	InTheClear bool             `json:"in_the_clear"`
	State      string           `json:"state"` // as phone.State says, or "refused"
	Server     string           `json:"server,omitempty"`
	Expires    time.Time        `json:"expires,omitzero"`
	Auth       ringfence.Auth   `json:"auth,omitempty"`
	SignedIn   string           `json:"signs_in_at,omitempty"` // who gives its access tokens
	Proof      *ringfence.Proof `json:"proof,omitempty"`
	Error      string           `json:"error,omitempty"`
	Hint       string           `json:"hint,omitempty"`
	Warnings   []string         `json:"warnings"`
	MediaSec   mediasec.State   `json:"mediasec"`
	Mechanisms []string         `json:"mediasec_mechanisms"` // that the server listed
}

// deskStatus is where a desk phone stands.
type deskStatus struct {
	At          time.Time            `json:"at"`
	PID         int                  `json:"pid"`
	Certificate string               `json:"certificate,omitempty"` // as people read it
	Proves      ownCertificateStatus `json:"own_certificate"`
	Resync      []resync.Outcome     `json:"resync"`
	Warnings    []string             `json:"warnings"`
	Access      accessStatus         `json:"dot1x"`
	VPN         vpn.Status           `json:"vpn"`
	TR069       *cwmp.Session        `json:"tr069,omitempty"` // the last session with the ACS
	DHCP        *dhcpView            `json:"dhcp,omitempty"`
	Lines       []lineStatus         `json:"lines"`
	Web         webStatus            `json:"web_proxy"`
	Firewall    phoneports.View      `json:"firewall"`
	Applied     string               `json:"firewall_applied,omitempty"` // the table of nftables that holds it; empty: it is a plan
	Phone       feature.State        `json:"phone"`
}

// desk is a desk phone that runs.
type desk struct {
	*handset
	flags      *deskPhone
	profiles   *profiles
	inForce    atomic.Pointer[flatprofile.Set]
	latest     atomic.Pointer[profiles] // that were fetched
	plan       line.Plan
	walled     bool     // the firewall is put into force
	managed    *managed // by an ACS; or nil
	features   *feature.Desk
	sounds     atomic.Int32 // files of calls
	heardPages atomic.Int32
	changing   sync.Mutex // of parameters, by the web page
	paging     paging.Setting
	// restarting is set when the phone ends to start again.
	restarting atomic.Bool
	orders     chan string // of the server
	triggered  chan string // the parameter whose condition came to hold
	network    chan bool   // that DHCP says otherwise, and whether the phone has to ask others
	mu         sync.Mutex
	outcomes   []resync.Outcome // of the last resync
	view       phoneports.View
	out        io.Writer // for whoever started the phone
	opener     *sockets.Opener
	at         map[int]*lineServers // by number of the line
	lines      []*phone.Phone       // by index of plan.Lines; nil if it is refused
}

func newPhoneUpCommand(h *handset) *cobra.Command {
	d := &deskPhone{}
	var once, firewall, asJSON bool
	answers := answering{}
	web := ""
	cmd := &cobra.Command{
		Use: "up", Short: "Be the desk phone that a configuration file describes", Args: cobra.NoArgs,
		Long: "up reads a desk phone's file (--cfg), or fetches its profile (--profile-rule, --dhcp), registers each line as it says, and answers calls until it is interrupted. Voice is SRTP, whatever the file says.\n\n" +
			"A line signals over UDP or TCP, in the clear, only where its SIP_Transport says so, and up says so loudly. Auto means TLS here. Servers that Restricted_Access_Domains does not list are refused.\n" +
			"Auth_INVITE challenges the first INVITE; TLS_Name_Validate and TLS_Cipher_List count as on the phone. up prints which ports the phone's firewall leaves open; with --firewall it puts that\n" +
			"into force with nftables, which takes a network namespace of the phone's own.\n\n" +
			"--dhcp asks the network for the profile. In a network namespace of the phone's own it leases an address as well, puts it on the link with its router, uses the DNS servers of the lease, renews it, and\n" +
			"gives it back at the end. What a server says otherwise at a renewal counts at once; nonsense changes nothing.\n\n" +
			"With Enable_802.1X_Authentication and --ethernet the phone first proves itself to the switch, by EAP-TLS (--cert, --key) or EAP-FAST (--eap-user); --pc-port carries the 802.1X of a computer behind it.\n\n" +
			"With Connect_on_Bootup, or --vpn, the tunnel to VPN_Server is opened before a profile is fetched, in a network namespace of the phone's own; nothing goes around it while it is gone. See `ringfence phone vpn`.\n\n" +
			"With Enable_TR-069 an ACS manages the phone while it runs; see `ringfence phone tr069`. If it asks for a restart the phone starts again.\n\n" +
			"--state keeps the last good profiles and where the phone stands, for `ringfence phone status`, and lets `ringfence phone do` tell it what to do. With --record call.wav\n" +
			"the calls are kept in call-1.wav and so on. --web serves the phone's pages. With a rule to fetch by, the profile is fetched again in its interval and when the server orders it by a NOTIFY. It fails with --once if a line is not registered.",
		Example: "  ringfence phone up --cfg cfg.xml --ca ca.pem\n  ringfence phone up --profile-rule 'https://prov.example.com/$MA.xml' --mac 00:0e:08:ab:cd:ef --state /var/lib/desk\n  ringfence phone up --dhcp --ca ca.pem\n  ringfence phone up --cfg cfg.xml --state desk --no-answer --web 192.0.2.7:8443\n  ringfence phone up --cfg cfg.xml --state desk --sound\n  ringfence phone up --cfg cfg.xml --once --json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			defer d.takeWall(context.WithoutCancel(cmd.Context())) // it stays in force while the phone starts again
			for {
				again, err := d.up(cmd, h, answers, web, once, firewall, asJSON)
				if !again || err != nil {
					return err
				}
			}
		},
	}
	d.flags(cmd)
	d.port.flags(cmd)
	cmd.Flags().StringVar(&d.port.link, "ethernet", "", "link of the phone's network port, for 802.1X where the profile switches it on")
	cmd.Flags().BoolVar(&d.vpn, "vpn", false, "open the tunnel of the profile, whatever Connect_on_Bootup says")
	soundFlags(cmd, h)
	cmd.Flags().BoolVar(&once, "once", false, "register, say where each line stands, and end")
	cmd.Flags().DurationVar(&answers.after, "ring", 0, "let calls ring this long before the phone answers them by itself")
	cmd.Flags().BoolVar(&answers.never, "no-answer", false, "leave calls ringing until ringfence phone do answer takes them")
	cmd.Flags().StringVar(&web, "web", "", "serve the phone's web pages here, over HTTPS: ADDR, at Web_Server_Port, or ADDR:PORT; the passwords are those of the profile")
	cmd.Flags().StringVar(&d.signer, "signer", "", "give the firmware that --state keeps to the phones of the link, if one of these certificates (PEM) signed it and the profile says Peer_Firmware_Sharing")
	cmd.Flags().BoolVar(&firewall, "firewall", false, "put the phone's firewall into force with nftables, in a network namespace of its own")
	return jsonFlag(cmd, &asJSON)
}

// firstAttempt is how long up waits for the lines before it says where they stand: longer than timer F of RFC 3261.
const firstAttempt = 35 * time.Second

// answering is when the phone takes calls by itself.
type answering struct {
	after time.Duration
	never bool
}

func (d *deskPhone) up(cmd *cobra.Command, h *handset, answers answering, web string, once, firewall, asJSON bool) (again bool, fault error) {
	ctx, cancel := context.WithCancel(cmd.Context())
	defer cancel()
	out := cmd.OutOrStdout()
	if asJSON {
		out = cmd.ErrOrStderr()
	}
	d.lease = true
	d.stays.Store(false)
	d.patient, d.say = !once, func(format string, args ...any) { fmt.Fprintf(cmd.ErrOrStderr(), format+"\n", args...) }
	defer func() {
		if !d.stays.Load() {
			d.leave()
		}
	}()
	lost := make(chan error, 2)
	gone := func(err error) { lost <- err; cancel() }
	d.onLost.Store(&gone)
	startsAgain := func() bool { // for want of an address
		select {
		case err := <-lost:
			d.say("WARNING: the address is gone, and the phone asks for another: %v", err)
			d.stays.Store(false)
			return cmd.Context().Err() == nil
		default:
			return false
		}
	}
	p, err := d.read(ctx, tr069Flows()...)
	if d.link != nil && d.release == nil {
		d.release = d.link.hold(cmd.Context(), d.answers(), func(a dhcp.Answer) { d.later(cmd.Context(), a) }, func(what string) { d.say("WARNING: %s; the phone says that it is its own", what) }, func(err error) { (*d.onLost.Load())(err) })
	}
	if err != nil {
		switch {
		case startsAgain():
			return true, nil
		case d.patient && cmd.Context().Err() != nil: // it was told to end while it waited
			d.forgetStatus()
			return false, nil
		}
		return false, err
	}
	if _, _, err := h.options(); err != nil { // rather now than at the first call
		return false, err
	}
	if err := h.openSound(ctx, cmd.ErrOrStderr()); err != nil {
		return false, err
	}
	defer h.devices.Wait()
	defer cancel()
	x := &desk{handset: h, flags: d, profiles: p, plan: line.Of(p.set), view: phoneports.Look(p.set), at: map[int]*lineServers{}, orders: make(chan string, 1), network: make(chan bool, 1), triggered: make(chan string, 1), outcomes: p.result.Outcomes, out: cmd.ErrOrStderr(), paging: paging.Of(p.set)}
	x.inForce.Store(p.set)
	x.features = feature.New(feature.Config{Setting: feature.Of(p.set), Answers: !answers.never, After: answers.after, Sound: func() (feature.Sound, error) { return x.sound(out) },
		Say: func(format string, args ...any) { fmt.Fprintf(out, format+"\n", args...) }})
	if told := d.told.Load(); told != nil {
		printDHCPStatus(out, *told)
	}
	if web != "" { // rather now than when the lines are registered
		if err := x.servable(web); err != nil {
			return false, err
		}
	}
	printResync(out, p.result.Outcomes, p.result.Messages)
	for _, w := range x.warnings() {
		fmt.Fprintln(cmd.ErrOrStderr(), "WARNING: "+w)
	}
	if p.set.Yes("Enable_TR-069") && !once {
		if x.managed, err = d.manage(ctx, p, func(s cwmp.Session) { printSession(cmd.ErrOrStderr(), s) }); err != nil {
			return false, err
		}
		defer x.managed.close()
		x.managed.opened(&x.view)
		go func() {
			if reboot, _ := x.managed.client.Run(ctx, x.managed.first); reboot {
				fmt.Fprintln(cmd.ErrOrStderr(), "the ACS has the phone start again")
				x.restarting.Store(true)
				cancel()
			}
		}()
	}
	if x.walled = firewall; firewall {
		if err := d.putWall(ctx, x.view); err != nil {
			return false, err
		}
	}
	enrolled := x.enrol(ctx)
	stack, err := x.start(ctx)
	if err != nil {
		return false, err
	}
	defer stack.Close()
	defer x.close()
	x.wait(ctx)
	s := x.status()
	x.keep(s)
	if err := show(cmd, asJSON, s, func(w io.Writer) { printDesk(w, s) }); err != nil {
		return false, err
	}
	if once {
		return false, x.failed()
	}
	fmt.Fprintln(out, "waiting for calls; interrupt to end")
	x.attend(ctx, cmd.ErrOrStderr())
	x.features.Watch(ctx)
	x.pages(ctx)
	x.giveKept(ctx, d.signer)
	go x.keepEnrolled(ctx, enrolled)
	resynced := make(chan struct{})
	go func() {
		defer close(resynced)
		x.resyncs(ctx, cancel, cmd.ErrOrStderr())
	}()
	defer func() { cancel(); <-resynced }() // before the phone leaves
	if d.access != nil {
		d.access.hold(d.say)
	}
	told := x.told
	d.onTold.Store(&told)
	defer d.onTold.Store(nil)
	if d.tunnel != nil {
		d.tunnel.hold(d.say, func() { // its addresses may be others, and so may be what it leads to
			x.again(cancel, true)
		})
	}
	for i, q := range x.lines {
		if q != nil && len(x.plan.Lines[i].Then) > 0 {
			go x.comeBack(ctx, x.plan.Lines[i], q)
		}
	}
	if web != "" {
		if err := x.serve(ctx, web, cancel, cmd.ErrOrStderr()); err != nil {
			return false, err
		}
	}
	if err := x.control(ctx); err != nil {
		fmt.Fprintf(cmd.ErrOrStderr(), "WARNING: `ringfence phone do` does not reach this phone: %v\n", err)
	}
	tick := time.NewTicker(5 * time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			d.forgetStatus()
			return startsAgain() || x.restarting.Load(), nil
		case <-tick.C:
			x.keep(x.status())
		}
	}
}

// attend takes what happens to the lines.
func (x *desk) attend(ctx context.Context, out io.Writer) {
	for i, q := range x.lines {
		if q != nil {
			number := x.plan.Lines[i].Number
			go tellRegistration(ctx, out, q, func(e phone.Event) {
				switch e.Kind {
				case phone.Notified:
					x.features.Told(number, e.Package, e.Body)
				case phone.Ordered:
					x.ordered(e.Package)
				case phone.Transferred:
					x.features.Transferred(ctx, number, e.Call)
				}
			})
		}
	}
}

func (x *desk) warnings() []string {
	out := append(append([]string{}, x.flags.warned...), x.plan.Ciphers.Warnings...)
	out = append(out, feature.Of(x.inForce.Load()).Wrong...)
	out = append(out, pagingWarnings(x.paging)...)
	if x.profiles.noWeb != nil {
		out = append(out, "provisioning has no way out: "+x.profiles.noWeb.Error())
	}
	for _, l := range x.plan.Lines {
		out = append(out, l.Warnings...)
		if l.Refused != nil {
			out = append(out, fmt.Sprintf("line %d is not used: %s", l.Number, l.Reason))
		}
	}
	return out
}

// start opens the lines that are not refused.
func (x *desk) start(ctx context.Context) (*phone.Stack, error) {
	flows := append(phone.Flows(ringfence.PortRange{}, x.plan.Media), controlFlow(ringfence.Listens), pageFlow())
	flows = append(flows, paging.Flows(x.paging)...)
	usable := 0
	for _, l := range x.plan.Lines {
		if l.Refused == nil {
			usable++
			if l.Clear {
				flows = append(flows, phone.PlainFlow(lineFlow(l), string(l.Transport), ringfence.PortRange{First: l.LocalPort, Last: l.LocalPort}))
			}
		}
	}
	if usable == 0 {
		for _, l := range x.plan.Lines {
			return nil, l.Refused
		}
		return nil, invalid("the profile has no line that is enabled", "set Proxy_1_ and User_ID_1_")
	}
	opener, err := sockets.New(flows)
	if err != nil {
		return nil, err
	}
	x.opener = opener
	stack := phone.NewStack(phone.StackConfig{Opener: opener, Log: node.Discard(), UserAgent: "Ringfence desk phone"})
	x.lines = make([]*phone.Phone, len(x.plan.Lines))
	for i, l := range x.plan.Lines {
		if l.Refused != nil {
			continue
		}
		conf, err := x.config(ctx, l, opener)
		if err == nil {
			x.lines[i], err = stack.Start(conf)
		}
		if err != nil {
			x.plan.Lines[i].Refused, x.plan.Lines[i].Reason = err, err.Error()
			continue
		}
		x.features.Attach(l.Number, l.User, x.lines[i])
	}
	return stack, nil
}

func lineFlow(l line.Line) string { return fmt.Sprintf("phone-sip-%d", l.Number) }

// config makes a phone of a line.
func (x *desk) config(ctx context.Context, l line.Line, opener *sockets.Opener) (phone.Config, error) {
	conf := phone.Config{ServerName: l.Host, User: l.User, Domain: l.Domain, Display: l.Display, AuthUser: l.AuthUser, Password: l.Password, AllowMD5: true, AnyName: !l.NameValidate, Expires: l.Expires,
		MediaPorts: x.plan.Media, UserAgent: "Ringfence desk phone"}
	port := uint16(5061)
	if l.Clear {
		port = 5060
		conf.Plain, conf.SIPPort, conf.Flow, conf.AnyName = string(l.Transport), l.LocalPort, lineFlow(l), false
	}
	if l.Port != 0 {
		port = l.Port
	}
	conf.MediaSec = mediasec.Who(l.MediaSec)
	for _, c := range l.Codecs {
		conf.Codecs = append(conf.Codecs, codec.Name(c))
	}
	conf.OpusType, conf.AnswerAll = l.OpusType, l.ListAll
	if l.Suite != "" {
		conf.Suites = append([]rtp.Suite{rtp.Suite(l.Suite)}, slices.DeleteFunc(rtp.Suites(), func(s rtp.Suite) bool { return s == rtp.Suite(l.Suite) })...)
	}
	conf.Auto, conf.Screen, conf.Audio = x.features.Auto(l.Number), x.features.Screen(l.Number), x.features.Audio()
	if l.AuthInvite {
		conf.InviteRealm = l.Realm
	}
	conf.PageRealm, conf.PagePassword = l.PageRealm, l.PagePassword
	conf.InviteMD5, conf.Orders = !l.SHA256, l.Orders
	if l.AuthOrders {
		conf.OrderRealm = l.Realm
	}
	conf.TLS = x.trust(l)
	if l.OAuth {
		tokens, err := x.tokens(ctx, l, x.out)
		if err != nil {
			return conf, err
		}
		conf.Tokens, conf.TLS.GetClientCertificate = tokens, nil // who has tokens shows no certificate
	}
	servers, err := x.servers(l, port)
	if err != nil {
		return conf, err
	}
	found, err := servers.Find(ctx)
	for _, at := range found {
		var source netip.Addr
		if source, err = opener.SourceFor(at); err == nil {
			servers.media = source
			conf.MediaAddr, conf.Servers = source, servers
			x.at[l.Number] = servers
			return conf, nil
		}
	}
	if err == nil {
		err = &ringfence.Fault{Kind: ringfence.KindUnavailable, Text: "there is no address of " + l.Host}
	}
	return conf, err
}

// trust is the TLS of a line: its suites, and whether the server's name counts.
func (x *desk) trust(l line.Line) *tls.Config {
	conf := x.profiles.tls.Clone()
	x.plan.Ciphers.Apply(conf)
	conf.RootCAs = x.profiles.phone.Roots()
	if l.NameValidate {
		return conf
	}
	roots := conf.RootCAs
	conf.InsecureSkipVerify = true // VerifyConnection checks the chain, and the profile says that the name does not count
	conf.VerifyConnection = func(cs tls.ConnectionState) error {
		if len(cs.PeerCertificates) == 0 {
			return errors.New("the server showed no certificate")
		}
		between := x509.NewCertPool()
		for _, c := range cs.PeerCertificates[1:] {
			between.AddCert(c)
		}
		_, err := cs.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: between})
		return err
	}
	return conf
}

// wait gives every line one attempt.
func (x *desk) wait(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, firstAttempt)
	defer cancel()
	for _, q := range x.lines {
		if q != nil {
			_ = q.WaitRegistration(ctx, func(r phone.Registration) bool { return r.State == phone.Registered || r.Err != nil })
		}
	}
}

func (x *desk) close() {
	var wg sync.WaitGroup
	for _, q := range x.lines {
		if q != nil {
			wg.Go(func() { _ = q.Close() })
		}
	}
	wg.Wait()
}

// failed returns why the first line that should be registered is not.
func (x *desk) failed() error {
	for i, l := range x.plan.Lines {
		switch q := x.lines[i]; {
		case l.Refused != nil:
			return l.Refused
		case !q.Registered():
			if err := q.Registration().Err; err != nil {
				return err
			}
			return &ringfence.Fault{Kind: ringfence.KindTimeout, Text: fmt.Sprintf("line %d is still %s", l.Number, q.Registration().State)}
		}
	}
	return x.profiles.result.Failed()
}

func (x *desk) status() deskStatus {
	x.mu.Lock()
	outcomes, view := x.outcomes, x.view
	x.mu.Unlock()
	s := deskStatus{At: time.Now().UTC().Truncate(time.Second), PID: os.Getpid(), Resync: outcomes, Warnings: x.warnings(), Access: x.flags.access.status(), VPN: x.flags.tunnel.status(), TR069: x.managed.session(), DHCP: x.flags.told.Load(), Lines: []lineStatus{}, Web: x.profiles.webStatus(), Phone: x.features.State(), Firewall: view, Applied: x.flags.wall()}
	if s.Resync == nil {
		s.Resync = []resync.Outcome{}
	}
	if _, _, s.Proves = x.flags.certificate(x.inForce.Load().Get(certificateSelect), time.Now()); s.Proves.Of != "" {
		s.Certificate = s.Proves.String()
	}
	for i, l := range x.plan.Lines {
		at := lineStatus{Line: l.Number, Address: "sip:" + l.User + "@" + l.Domain, Transport: l.Transport, InTheClear: l.Clear, State: "refused", MediaSec: mediasec.Off, Mechanisms: []string{}, Error: l.Reason, Warnings: l.Warnings}
		if l.Refused != nil {
			at.Hint = ringfence.HintOf(l.Refused)
		}
		if i < len(x.lines) && x.lines[i] != nil {
			q := x.lines[i]
			r, proof := q.Registration(), q.Proof()
			var list []string
			at.MediaSec, list = q.MediaSec()
			at.Mechanisms = append(at.Mechanisms, list...)
			if l.OAuth {
				at.SignedIn = l.SignIn
			}
			at.State, at.Expires, at.Auth, at.Proof = r.State.String(), r.Expires.UTC().Truncate(time.Second), r.Auth, &proof
			if r.Expires.IsZero() {
				at.Expires = time.Time{}
			}
			if server := q.Server(); server.IsValid() {
				at.Server = server.String()
			}
			if r.Err != nil {
				at.Error, at.Hint = r.Err.Error(), ringfence.HintOf(r.Err)
			}
		}
		s.Lines = append(s.Lines, at)
	}
	return s
}

const statusName = "status.json"

// keep leaves the status for `phone status`. A phone goes on without.
func (x *desk) keep(s deskStatus) { x.flags.keepStatus(s) }

// forgetStatus takes away what only a phone that runs has.
func (d *deskPhone) forgetStatus() {
	if d.state != "" {
		_ = os.Remove(filepath.Join(d.state, statusName))
		_ = os.Remove(filepath.Join(d.state, controlName))
	}
}

func (d *deskPhone) keepStatus(s deskStatus) {
	if d.state == "" {
		return
	}
	b, err := json.MarshalIndent(s, "", "  ")
	if err == nil {
		err = os.MkdirAll(d.state, 0o700)
	}
	if err == nil {
		_ = durable.Replace(filepath.Join(d.state, statusName), b)
	}
}

func printDesk(w io.Writer, s deskStatus) {
	var rows [][]string
	for _, l := range s.Lines {
		sealed := "-"
		if l.Proof != nil && l.State == phone.Registered.String() {
			if sealed = string(l.Proof.Verdict); l.Proof.TLS != nil {
				sealed += ", " + l.Proof.TLS.Version + ", " + l.Proof.TLS.Suite
			}
		}
		transport := string(l.Transport)
		if l.InTheClear {
			transport += " IN THE CLEAR"
		}
		rows = append(rows, []string{fmt.Sprint(l.Line), l.Address, transport, l.State, l.Server, string(l.Auth), sealed})
	}
	table(w, []string{"LINE", "ADDRESS", "TRANSPORT", "STATE", "SERVER", "AUTH", "PROOF"}, rows)
	for _, l := range s.Lines {
		if len(l.Mechanisms) > 0 || l.MediaSec == mediasec.Unknown || l.MediaSec == mediasec.Asked {
			fmt.Fprintf(w, "line %d: MediaSec: %s; the server lists: %s\n", l.Line, l.MediaSec, join(l.Mechanisms, ", "))
		}
		if l.Error != "" {
			fmt.Fprintf(w, "line %d: %s\n", l.Line, l.Error)
			if l.Hint != "" {
				fmt.Fprintf(w, "  hint: %s\n", l.Hint)
			}
		}
	}
	if s.Certificate != "" {
		fmt.Fprintf(w, "certificate: %s\n", s.Certificate)
	}
	for _, l := range s.Lines {
		if l.SignedIn != "" {
			fmt.Fprintf(w, "line %d: signs in at %s\n", l.Line, l.SignedIn)
		}
	}
	printFeatures(w, s.Phone)
	printWeb(w, s.Web)
	printAccess(w, s.Access)
	printVPN(w, s.VPN)
	if s.TR069 != nil {
		fmt.Fprint(w, "TR-069: ")
		printSession(w, *s.TR069)
	}
	how := "firewall: a plan, not in force; --firewall puts it into force"
	if s.Applied != "" {
		how = "firewall: in force, as the table " + s.Applied + " of nftables"
	}
	fmt.Fprintln(w, "\n"+how)
	printPhone(w, "firewall", phonewall.Findings{View: s.Firewall})
}

func newPhoneStatusCommand() *cobra.Command {
	var state string
	var asJSON bool
	cmd := &cobra.Command{
		Use: "status", Short: "Say where a running desk phone stands", Args: cobra.NoArgs,
		Long: "status prints what `ringfence phone up --state DIR` keeps in its directory: each line with its registration and proof, the last resync, the certificate, the warnings, and the ports that the\n" +
			"phone's firewall leaves open. It fails if no phone runs there, or if it has said nothing for a quarter of a minute.",
		Example: "  ringfence phone status --state /var/lib/desk\n  ringfence phone status --state /var/lib/desk --json | jq '.lines[].state'",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if state == "" {
				return invalid("there is no --state", "give the directory that `ringfence phone up --state` was given")
			}
			var s deskStatus
			b, err := readWhole(filepath.Join(state, statusName), 1<<20)
			if errors.Is(err, fs.ErrNotExist) {
				return &ringfence.Fault{Kind: ringfence.KindNotFound, Text: "no desk phone runs with " + state, Hint: "start it: ringfence phone up --cfg cfg.xml --state " + state}
			}
			if err == nil {
				err = json.Unmarshal(b, &s)
			}
			if err != nil {
				return &ringfence.Fault{Kind: ringfence.KindInvalid, Text: "the status in " + state + " cannot be read", Err: err}
			}
			if err := show(cmd, asJSON, s, func(w io.Writer) {
				if s.DHCP != nil {
					printDHCPStatus(w, *s.DHCP)
				}
				printResync(w, s.Resync, nil)
				printDesk(w, s)
				for _, text := range s.Warnings {
					fmt.Fprintln(w, "WARNING: "+text)
				}
			}); err != nil {
				return err
			}
			if silent := time.Since(s.At); silent > 15*time.Second {
				return &ringfence.Fault{Kind: ringfence.KindUnavailable, Text: fmt.Sprintf("the phone has said nothing for %s", silent.Truncate(time.Second)), Hint: fmt.Sprintf("is its process %d still there?", s.PID)}
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&state, "state", "", "directory that ringfence phone up --state was given")
	return jsonFlag(cmd, &asJSON)
}
