package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"ringfence"
	"ringfence/internal/desk/dot1x"
	"ringfence/internal/desk/engine"
	"ringfence/internal/desk/flatprofile"
	"ringfence/internal/node/sockets"
)

// The flows of 802.1X.
const (
	flowSupplicant = "phone-supplicant"
	flowEAPOL      = "phone-eapol"
)

func dot1xFlows() []ringfence.Flow {
	return []ringfence.Flow{
		{Name: flowSupplicant, Purpose: "A phone tells wpa_supplicant what to do.", Room: "desk/dot1x", Direction: ringfence.Dials, Transport: "unix", Peers: "wpa_supplicant on this host", TLS: ringfence.HostSocket},
		{Name: flowEAPOL, Purpose: "EAPOL between the switch and a computer behind the phone, which prove themselves to each other within.", Room: "desk/dot1x", Direction: ringfence.Listens, Transport: "ethernet", Peers: "the two ports of the phone", TLS: ringfence.TLSNone},
	}
}

// portAccess is what the phone needs to be let into a network.
type portAccess struct {
	link       string
	pcPort     string
	ca         string
	server     string
	identity   string
	user       string
	password   string // file
	supplicant string // control socket of one that runs already
	anyPAC     bool
}

func (a *portAccess) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&a.pcPort, "pc-port", "", "link of the phone's PC port: carry the 802.1X of the computer there, and log it off when it leaves")
	f.StringVar(&a.ca, "eap-ca", "", "authority of the authentication server (PEM); without it that of --ca")
	f.StringVar(&a.server, "eap-server", "", "name that the certificate of the authentication server must have, e.g. radius.example.com")
	f.StringVar(&a.identity, "eap-identity", "", "name that the phone shows first; without it PRODUCT-SEPMAC")
	f.StringVar(&a.user, "eap-user", "", "user name within EAP-FAST")
	f.StringVar(&a.password, "eap-password-file", "", "file with the password within EAP-FAST")
	f.BoolVar(&a.anyPAC, "eap-any-pac", false, "take the first PAC of EAP-FAST from a server that proves nothing (RFC 5422); whoever is on the wire may be it")
	f.StringVar(&a.supplicant, "supplicant", "", "use the wpa_supplicant that runs already, by its control socket, e.g. /run/wpa_supplicant/eth0")
}

// accessStatus is where 802.1X stands.
type accessStatus struct {
	Link string `json:"link,omitempty"`
	dot1x.Status
	PC *dot1x.Behind `json:"pc,omitempty"`
}

// access is a phone that is in a network, or tries to be.
type access struct {
	link   string
	pass   *dot1x.PassThrough
	cancel context.CancelFunc
	dir    string
	socket string // of one that runs already
	opener *sockets.Opener
	wg     sync.WaitGroup
	once   sync.Once // of hold

	mu         sync.Mutex
	supplicant *dot1x.Supplicant
	engine     *engine.Engine
}

// config is what the phone proves itself with: a certificate by EAP-TLS, a user and a password by EAP-FAST, or either.
func (a *portAccess) config(d *deskPhone, hardware net.HardwareAddr) (dot1x.Config, error) {
	product := strings.Map(func(r rune) rune {
		if r <= ' ' || r >= 0x7f {
			return '-'
		}
		return r
	}, d.product)
	c := dot1x.Config{Identity: cmp.Or(a.identity, fmt.Sprintf("%s-SEP%X", product, []byte(hardware))), CA: cmp.Or(a.ca, d.ca), ServerName: a.server, User: a.user, AnyPAC: a.anyPAC}
	var err error
	whole := func(file string) string { // wpa_supplicant looks from elsewhere
		if file == "" || err != nil {
			return ""
		}
		var path string
		path, err = filepath.Abs(file)
		return path
	}
	c.CA, c.Cert, c.Key = whole(c.CA), whole(cmp.Or(d.shown[0], d.cert)), whole(cmp.Or(d.shown[1], d.key))
	if c.Cert != "" {
		c.Methods = append(c.Methods, dot1x.TLS)
	}
	if a.user != "" {
		if a.password == "" {
			return c, invalid("--eap-user needs --eap-password-file", "")
		}
		b, err := readWhole(a.password, 4096)
		if err != nil {
			return c, err
		}
		c.Password = strings.TrimRight(string(b), "\r\n")
		c.Methods = append(c.Methods, dot1x.FAST)
		if d.state != "" {
			if err := os.MkdirAll(d.state, 0o700); err != nil {
				return c, &ringfence.Fault{Kind: ringfence.KindUnavailable, Text: "there is no directory for the PAC", Err: err}
			}
			c.PAC = whole(filepath.Join(d.state, "eap-fast.pac"))
		}
	}
	if err != nil {
		return c, &ringfence.Fault{Kind: ringfence.KindInternal, Text: "a file has no whole name", Err: err}
	}
	return c, nil
}

// start runs wpa_supplicant on the link, or finds the one that runs, and carries the EAPOL of the PC port.
func (a *portAccess) start(ctx context.Context, d *deskPhone) (*access, error) {
	i, err := findLink(a.link)
	if err != nil {
		return nil, err
	}
	opener, err := sockets.New(dot1xFlows())
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx)) // it leaves the network in order, after the rest of the phone
	x := &access{link: i.Name, cancel: cancel, opener: opener, socket: a.supplicant}
	fail := func(err error) (*access, error) { x.leave(); return nil, err }
	if x.socket == "" {
		c, err := a.config(d, i.HardwareAddr)
		if err != nil {
			return fail(err)
		}
		if x.dir, err = os.MkdirTemp("", "rf-eap"); err != nil {
			return fail(&ringfence.Fault{Kind: ringfence.KindUnavailable, Text: "there is no directory for wpa_supplicant", Err: err})
		}
		text, err := c.File(filepath.Join(x.dir, "c"))
		if err != nil {
			return fail(err)
		}
		if err := os.WriteFile(filepath.Join(x.dir, "wpa.conf"), text, 0o600); err != nil {
			return fail(&ringfence.Fault{Kind: ringfence.KindUnavailable, Text: "the file of wpa_supplicant cannot be written", Err: err})
		}
	}
	if err := x.run(ctx); err != nil {
		return fail(err)
	}
	if a.pcPort == "" {
		return x, nil
	}
	pc, err := findLink(a.pcPort)
	if err != nil {
		return fail(err)
	}
	x.pass = &dot1x.PassThrough{Own: [6]byte(i.HardwareAddr), Now: time.Now, Up: func() bool {
		l, err := net.InterfaceByName(pc.Name)
		return err == nil && l.Flags&net.FlagRunning != 0
	}}
	if x.pass.Switch, err = opener.OpenFrames(flowEAPOL, i.Name, dot1x.EtherType, dot1x.Group(), true); err != nil {
		return fail(err)
	}
	if x.pass.PC, err = opener.OpenFrames(flowEAPOL, pc.Name, dot1x.EtherType, dot1x.Group(), true); err != nil {
		_ = x.pass.Switch.Close()
		return fail(err)
	}
	x.wg.Go(func() { x.pass.Run(ctx) })
	return x, nil
}

// run starts wpa_supplicant, unless one runs already, and follows it.
func (x *access) run(ctx context.Context) (err error) {
	var e *engine.Engine
	socket := x.socket
	ctx, stop := context.WithCancel(ctx)
	defer func() {
		if err != nil {
			stop() // what cannot be followed is not left behind
		}
	}()
	if socket == "" {
		if e, err = engine.Start(ctx, engine.Program{Path: "wpa_supplicant", Args: []string{"-D", "wired", "-i", x.link, "-c", filepath.Join(x.dir, "wpa.conf")}, Hint: "apt-get install wpasupplicant, and run this as root"}); err != nil {
			return err
		}
		socket = filepath.Join(x.dir, "c", x.link)
	}
	s, err := dot1x.Attach(ctx, func(ctx context.Context) (net.Conn, error) {
		return x.opener.DialUnixgramFrom(ctx, flowSupplicant, "@ringfence-eap-"+rand.Text(), socket)
	}, time.Now)
	if err != nil && e != nil {
		select {
		case <-e.Done():
			err = e.Wait()
		default:
		}
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.engine = e
	if err == nil {
		x.supplicant = s
	}
	return err
}

// Waits before wpa_supplicant is started again.
const (
	supplicantFirst   = 2 * time.Second
	supplicantLongest = time.Minute
)

// hold starts wpa_supplicant again whenever it is gone, until the phone leaves: without it the phone is out of the network at the switch's next question.
func (x *access) hold(say func(format string, args ...any)) {
	x.once.Do(func() {
		ctx, cancel := context.WithCancel(context.Background())
		leave := x.cancel
		x.cancel = func() { cancel(); leave() }
		x.wg.Go(func() {
			for wait := supplicantFirst; x.engine != nil; {
				select {
				case <-ctx.Done():
					return
				case <-x.engine.Done():
				}
				say("WARNING: 802.1X: %v; it is started again in %s", x.engine.Wait(), wait)
				timer := time.NewTimer(wait)
				select {
				case <-ctx.Done():
					timer.Stop()
					return
				case <-timer.C:
				}
				if wait = min(2*wait, supplicantLongest); x.run(ctx) == nil {
					wait = supplicantFirst
				}
			}
		})
	})
}

// leave logs the computer and the phone off.
func (x *access) leave() {
	x.mu.Lock()
	if x.supplicant != nil && x.engine != nil {
		_ = x.supplicant.Logoff()
	}
	x.mu.Unlock()
	x.cancel()
	x.wg.Wait()
	if x.engine != nil {
		_ = x.engine.Wait()
	}
	if x.dir != "" {
		_ = os.RemoveAll(x.dir)
	}
}

func (x *access) status() accessStatus {
	if x == nil {
		return accessStatus{Status: dot1x.Status{State: dot1x.Disabled}}
	}
	x.mu.Lock()
	supplicant, e := x.supplicant, x.engine
	x.mu.Unlock()
	s := accessStatus{Link: x.link, Status: supplicant.Status()}
	if e != nil {
		select {
		case <-e.Done():
			s.State, s.Error = dot1x.Held, "wpa_supplicant is gone"
			if err := e.Wait(); err != nil {
				s.Error = err.Error()
			}
		default:
		}
	}
	if x.pass != nil {
		b := x.pass.Behind()
		s.PC = &b
	}
	return s
}

func printAccess(w io.Writer, s accessStatus) {
	if s.State == dot1x.Disabled {
		fmt.Fprintln(w, "802.1X: Disabled")
		return
	}
	fmt.Fprintf(w, "802.1X: transaction status %s", s.State)
	if s.Protocol != "" {
		fmt.Fprintf(w, ", protocol %s", s.Protocol)
	}
	if s.TLS != "" {
		fmt.Fprintf(w, ", %s", s.TLS)
	}
	fmt.Fprintf(w, ", at %s since %s\n", s.Link, s.Since.UTC().Format(time.RFC3339))
	if s.Server != "" {
		fmt.Fprintf(w, "  authentication server: %s\n", s.Server)
	}
	if s.Error != "" {
		fmt.Fprintf(w, "  %s\n", s.Error)
	}
	if s.PC != nil {
		fmt.Fprintf(w, "  PC port: %s", s.PC.State)
		if s.PC.Station != "" {
			fmt.Fprintf(w, " (%s)", s.PC.Station)
		}
		fmt.Fprintf(w, ", %d times logged off by the phone\n", s.PC.Logoffs)
	}
}

// accessPatience is how long a phone waits to be let in: a switch that has not asked by then has no 802.1X.
const accessPatience = 30 * time.Second

// enter goes through 802.1X if the profile switches it on and there is a link to do it on.
func (d *deskPhone) enter(ctx context.Context, set *flatprofile.Set) (err error) {
	if !set.Yes("Enable_802.1X_Authentication") || d.port.link == "" {
		return nil
	}
	if d.access, err = d.port.start(ctx, d); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, accessPatience)
	defer cancel()
	err = d.access.supplicant.WaitSettled(ctx)
	if ringfence.KindOf(err) == ringfence.KindTimeout {
		d.warned = append(d.warned, "nobody at "+d.access.link+" asked who the phone is, and it goes on: "+err.Error())
		return nil
	}
	return err
}

func newPhoneDot1xCommand() *cobra.Command {
	d := &deskPhone{}
	var stay, patience time.Duration
	var asJSON bool
	cmd := &cobra.Command{
		Use: "dot1x LINK", Short: "Prove a phone to a switch by 802.1X, and say what came of it", Args: cobra.ExactArgs(1),
		Long: "dot1x does on a link what a desk phone does with Enable_802.1X_Authentication: EAP-TLS with the phone's certificate (--cert, --key), EAP-FAST with a user and a password, or whichever of both the server wants.\n" +
			"wpa_supplicant does the work; this writes its configuration and speaks to its control socket. It prints the transaction status and the protocol, and logs off.\n\n" +
			"With --pc-port it carries the 802.1X of the computer there as well, stays for --for, and sends an EAPOL-Logoff for the computer when its link goes down.\n" +
			"It ends with 8 (timeout) if the switch asks nothing, with 6 (insecure) if the server is not believed, with 5 (denied) if the server refuses the phone. It takes root.",
		Example: "  ringfence phone dot1x eth0 --ca ca.pem --cert phone.pem --key phone.key --eap-server radius.example.com\n  ringfence phone dot1x eth0 --ca ca.pem --eap-user desk --eap-password-file password --state /var/lib/desk\n" +
			"  ringfence phone dot1x eth0 --pc-port eth1 --for 10m --ca ca.pem --cert phone.pem --key phone.key --json",
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			d.port.link = args[0]
			x, err := d.port.start(ctx, d)
			if err != nil {
				return err
			}
			defer x.leave()
			wait, cancel := context.WithTimeout(ctx, patience)
			settled := x.supplicant.WaitSettled(wait)
			cancel()
			if settled == nil && stay > 0 {
				timer := time.NewTimer(stay)
				select {
				case <-ctx.Done():
				case <-timer.C:
				}
				timer.Stop()
			}
			s := x.status()
			if err := show(cmd, asJSON, s, func(w io.Writer) { printAccess(w, s) }); err != nil {
				return err
			}
			return settled
		},
	}
	d.port.flags(cmd)
	f := cmd.Flags()
	f.StringVar(&d.ca, "ca", "", "authority of the authentication server (PEM)")
	f.StringVar(&d.cert, "cert", "", "certificate of the phone (PEM, with its chain)")
	f.StringVar(&d.key, "key", "", "its key (PEM)")
	f.StringVar(&d.product, "product", "CP-8841-3PCC", "name of the product, for the name that the phone shows")
	f.StringVar(&d.state, "state", "", "directory that keeps the PAC of EAP-FAST")
	f.DurationVar(&patience, "wait", accessPatience, "give up after this long")
	f.DurationVar(&stay, "for", 0, "stay in the network for this long")
	return jsonFlag(cmd, &asJSON)
}
