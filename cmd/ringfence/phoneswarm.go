package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"runtime/metrics"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"ringfence"
	"ringfence/internal/node"
	"ringfence/internal/node/admin/api"
	"ringfence/internal/node/admin/client"
	"ringfence/internal/service/phone"
	"ringfence/internal/service/swarm"
	"ringfence/internal/trust/enroll"
)

// maxSwarm bounds the phones of one process.
const maxSwarm = 20_000

// swarming is one run of `ringfence phone swarm`.
type swarming struct {
	*app
	h          *handset
	plan       swarm.Plan
	count      int
	first      uint64
	identities string
	remove     bool
	bar        func(done, total int, what string)

	admin   *client.Client
	sockets *reachable

	media netip.Addr
	made  []ringfence.UserID // by this run
}

// swarmReport is what --json prints.
type swarmReport struct {
	*swarm.Report
	Memory uint64 `json:"memory_bytes"` // of this process, while all were registered
}

func newPhoneSwarmCommand(a *app, h *handset) *cobra.Command {
	s, asJSON := &swarming{app: a, h: h}, false
	cmd := &cobra.Command{
		Use: "swarm", Short: "Be many phones at once, to rehearse a site", Args: cobra.NoArgs,
		Long: "swarm registers many phones over TLS, each with a certificate and a connection of its own, has pairs of them call each other at the same time, and reports how long\n" +
			"everything took, what failed, and whether both ends of each call heard what the other said.\n\n" +
			"It makes a user swarm-00001, -00002, ... with a number and a device for each phone on the node, as an administrator: by the socket of the node on this host, or by the\n" +
			"login at the one that --node names. They are removed at the end, unless --identities names a directory to keep them in for the next run, which then needs no administrator.\n\n" +
			"The exit code is 0 if every phone stayed registered, and every call was sealed and heard at both ends; 6 if a call was not sealed; 7 for anything else.",
		Example: "  ringfence phone swarm --count 500\n  ringfence phone swarm --count 5000 --calls 200 --for 1m --identities swarm --json\n  ringfence phone swarm --count 5000 --identities swarm --remove",
		RunE:    func(cmd *cobra.Command, _ []string) error { return s.run(cmd, asJSON) },
	}
	f := cmd.Flags()
	f.IntVar(&s.count, "count", 100, "how many phones")
	f.IntVar(&s.plan.Calls, "calls", 0, "how many calls at the same time, of two phones each")
	f.DurationVar(&s.plan.Talk, "for", 10*time.Second, "how long they all stay, or talk")
	f.Float64Var(&s.plan.Rate, "rate", 20, "calls begun a second")
	f.IntVar(&s.plan.AtOnce, "at-once", 32, "how many phones register at a time")
	f.Uint64Var(&s.first, "first-number", 800_000, "the number of the first phone; the others follow")
	f.StringVar(&s.identities, "identities", "", "keep the phones' keys in this directory, and their users on the node")
	f.BoolVar(&s.remove, "remove", false, "remove them at the end all the same")
	return jsonFlag(cmd, &asJSON)
}

func (s *swarming) run(cmd *cobra.Command, asJSON bool) (err error) {
	switch {
	case s.count < 1 || s.count > maxSwarm:
		return invalid(fmt.Sprintf("--count %d: between 1 and %d", s.count, maxSwarm), "run several for more")
	case s.plan.Calls < 0 || s.plan.Calls*2 > s.count:
		return invalid(fmt.Sprintf("--calls %d: a call takes two phones of %d", s.plan.Calls, s.count), "ask for fewer calls, or for more phones")
	case s.plan.Rate <= 0 || s.plan.Rate > 10_000 || s.plan.AtOnce < 1 || s.plan.AtOnce > 1000:
		return invalid("--rate is between 0 and 10000, and --at-once between 1 and 1000", "")
	}
	ctx := cmd.Context()
	s.bar = bar(cmd.ErrOrStderr())
	if s.sockets, err = newReachable(s.h.dns); err != nil {
		return err
	}
	if s.admin, err = s.administrator(); err != nil {
		return err
	}
	defer s.admin.Close()
	kept := s.identities
	if kept == "" {
		if kept, err = os.MkdirTemp("", "ringfence-swarm-"); err != nil {
			return err
		}
		defer func() { _ = os.RemoveAll(kept) }()
	}
	defer func() {
		if s.identities == "" || s.remove {
			err = errors.Join(err, s.clean(context.WithoutCancel(ctx), kept))
		}
	}()
	if err := s.enrolAll(ctx, kept); err != nil {
		return err
	}
	stack := phone.NewStack(phone.StackConfig{Opener: s.sockets, Log: node.Discard(), UserAgent: "Ringfence swarm", Shards: runtime.GOMAXPROCS(0)})
	defer stack.Close()
	var memory uint64
	s.plan.Progress = func(done, total int, what string) {
		memory = max(memory, resident())
		s.bar(done, total, what)
	}
	r, err := swarm.Run(ctx, stack, s.plan)
	if err != nil {
		return err
	}
	out := swarmReport{r, memory}
	if err := show(cmd, asJSON, out, func(w io.Writer) { out.print(w) }); err != nil {
		return err
	}
	switch {
	case r.Calls.Sealed < r.Calls.Up:
		return &ringfence.Fault{Kind: ringfence.KindInsecure, Text: fmt.Sprintf("%d of %d calls were not sealed at both ends", r.Calls.Up-r.Calls.Sealed, r.Calls.Up)}
	case !r.OK:
		return &ringfence.Fault{Kind: ringfence.KindUnavailable, Text: fmt.Sprintf("%d of %d phones stayed registered, and %d of %d calls were heard at both ends", r.Stayed, r.Phones, r.Calls.Heard, r.Calls.Asked), Hint: "the reasons stand in the report"}
	}
	return nil
}

// administrator is who may make users: whoever is logged in at the node that --node names, else whoever may use the socket of the one on this host.
func (s *swarming) administrator() (*client.Client, error) {
	elsewhere := &app{data: s.data}
	if s.h.host != "" {
		at, err := hostPort(s.h.host)
		if err != nil {
			return nil, err
		}
		all, err := readLogins()
		if err != nil {
			return nil, err
		}
		if _, ok := all[at]; ok {
			elsewhere.node = s.h.host
		}
	}
	return elsewhere.client()
}

// member is one phone of the swarm on its way.
type member struct {
	handset
	user   ringfence.UserID
	number string
}

func (s *swarming) member(i int, kept string) *member {
	m := &member{user: ringfence.UserID(fmt.Sprintf("swarm-%05d", i+1)), number: strconv.FormatUint(s.first+uint64(i), 10)}
	m.handset = handset{identity: filepath.Join(kept, string(m.user)), host: s.h.host, dns: s.h.dns}
	return m
}

// enrolAll finds the identities that are kept, and makes those that are missing: the first by its activation code, which also tells where phones register, the others by an
// administrator's right to have many keys certified at once. Each key is made here, and stays.
func (s *swarming) enrolAll(ctx context.Context, kept string) error {
	var all, missing []*member
	for i := range s.count {
		m := s.member(i, kept)
		all = append(all, m)
		if _, err := os.Stat(m.identity); errors.Is(err, fs.ErrNotExist) {
			missing = append(missing, m)
		} else if b, err := os.ReadFile(filepath.Join(m.identity, "number")); err == nil {
			m.number = strings.TrimSpace(string(b))
		}
	}
	if len(missing) > 0 {
		first := all[0]
		if missing[0] == first {
			if err := s.add(ctx, first, true); err != nil {
				return err
			}
			missing = missing[1:]
		}
		id, err := first.enrolled(ctx, s.sockets, io.Discard)
		if err != nil {
			return err
		}
		if err := first.keepNumber(); err != nil {
			return err
		}
		_, file, err := first.load()
		if err != nil {
			return err
		}
		done := s.count - len(missing)
		for some := range slices.Chunk(missing, maxCertified) {
			if err := s.certify(ctx, some, id.Identity, file); err != nil {
				return err
			}
			done += len(some)
			s.bar(done, s.count, "phones enrolled")
		}
	}
	for _, m := range all {
		m.code = "" // it was good once
		c, err := s.config(ctx, m)
		if err != nil {
			return err
		}
		s.plan.Members = append(s.plan.Members, swarm.Member{Number: m.number, Config: c})
	}
	return nil
}

// maxCertified bounds what is asked for at once.
const maxCertified = 100

// certify adds some users with their devices, and has the keys of the phones certified.
func (s *swarming) certify(ctx context.Context, some []*member, like enroll.Identity, file identityFile) error {
	in, out := make([]api.NewCertificate, len(some)), make([]api.IssuedOrNot, 0, len(some))
	keys := make([]*ecdsa.PrivateKey, len(some))
	for i, m := range some {
		if err := s.add(ctx, m, false); err != nil {
			return err
		}
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return err
		}
		csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
		if err != nil {
			return err
		}
		keys[i], in[i] = key, api.NewCertificate{Role: "device", Name: string(m.user), CSR: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: csr}))}
	}
	if err := s.admin.Do(ctx, http.MethodPost, "/certificates/batch", nil, in, &out); err != nil {
		return err
	}
	for i, m := range some {
		switch {
		case i >= len(out) || out[i].Issued == nil && out[i].Error == nil:
			return &ringfence.Fault{Kind: ringfence.KindInternal, Text: "the node has not said what became of the key of " + string(m.user)}
		case out[i].Error != nil:
			return &ringfence.Fault{Kind: ringfence.KindUnavailable, Text: "the key of " + string(m.user) + " was not certified: " + out[i].Error.Detail}
		}
		id := enroll.Identity{Device: ringfence.DeviceID(m.user), Key: keys[i], Anchors: like.Anchors, Bootstrap: like.Bootstrap}
		id.Bootstrap.User = m.user
		for block, rest := pem.Decode([]byte(out[i].Issued.PEM)); block != nil; block, rest = pem.Decode(rest) {
			id.Chain = append(id.Chain, block.Bytes)
		}
		if err := m.keep(id, file); err != nil {
			return err
		}
		if err := m.keepNumber(); err != nil {
			return err
		}
	}
	return nil
}

func (m *member) keepNumber() error {
	if err := os.WriteFile(filepath.Join(m.identity, "number"), []byte(m.number+"\n"), 0o600); err != nil {
		return invalid(err.Error(), "")
	}
	return nil
}

func (s *swarming) config(ctx context.Context, m *member) (c phone.Config, err error) {
	id, err := m.enrolled(ctx, s.sockets, io.Discard)
	if err != nil {
		return c, err
	}
	servers, err := s.sockets.servers(id.Host, id.Bootstrap.SIP.Port, id.ByName)
	if err != nil {
		return c, err
	}
	if !s.media.IsValid() { // as all others
		if s.media, err = s.sockets.media(ctx, servers); err != nil {
			return c, err
		}
	}
	return phone.Config{Servers: oneFamily{servers, s.media}, ServerName: id.Bootstrap.SIP.Host, MediaAddr: s.media,
		TLS:  &tls.Config{RootCAs: id.Pool(), Certificates: []tls.Certificate{id.Certificate()}, MinVersion: tls.VersionTLS12},
		User: string(id.Bootstrap.User), Domain: id.Bootstrap.Domain}, nil
}

// add adds a user with a device, and if that is asked for, a code for its phone to enrol with.
func (s *swarming) add(ctx context.Context, m *member, code bool) error {
	if err := s.admin.Do(ctx, http.MethodPost, "/users", nil, api.NewUser{ID: m.user, Name: "Swarm " + m.number, Numbers: []ringfence.Number{ringfence.Number(m.number)}}, nil); err != nil {
		if ringfence.KindOf(err) == ringfence.KindConflict {
			return &ringfence.Fault{Kind: ringfence.KindConflict, Text: fmt.Sprintf("the user %s or the number %s is there already", m.user, m.number),
				Hint: "an earlier swarm was kept or cut off: name its directory with --identities, or `ringfence user remove` it, or take another --first-number"}
		}
		return err
	}
	s.made = append(s.made, m.user)
	var added api.DeviceAdded
	if err := s.admin.Do(ctx, http.MethodPost, "/devices", nil, api.NewDevice{ID: ringfence.DeviceID(m.user), User: m.user, Kind: "swarm", NoCode: !code}, &added); err != nil {
		return err
	}
	if added.Activation == nil {
		return nil
	}
	m.code = added.Activation.Code
	if m.host == "" {
		if u, err := url.Parse(added.Activation.URI); err == nil {
			m.host = u.Query().Get("node")
		}
	}
	return nil
}

// clean removes the users, those of earlier runs as well if their identities are kept, and then the identities.
func (s *swarming) clean(ctx context.Context, kept string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	all := s.made
	if s.remove {
		dirs, err := filepath.Glob(filepath.Join(kept, "swarm-*"))
		if err != nil {
			return err
		}
		all = nil
		for _, d := range dirs {
			all = append(all, ringfence.UserID(filepath.Base(d)))
		}
	}
	for i, user := range all {
		if err := s.admin.Do(ctx, http.MethodDelete, "/users/"+string(user), nil, nil, nil); err != nil && ringfence.KindOf(err) != ringfence.KindNotFound {
			return err
		}
		if err := os.RemoveAll(filepath.Join(kept, string(user))); err != nil {
			return invalid(err.Error(), "")
		}
		s.bar(i+1, len(all), "phones removed")
	}
	return nil
}

func (r *swarmReport) print(w io.Writer) {
	line := func(name, format string, args ...any) {
		fmt.Fprintf(w, "%-12s %s\n", name, fmt.Sprintf(format, args...))
	}
	spread := func(s *swarm.Spread) string {
		if s == nil {
			return ""
		}
		return fmt.Sprintf("; median %.0f ms, 99 of 100 within %.0f ms, at most %.0f ms", s.Median, s.Most, s.Max)
	}
	line("phones", "%d of %d registered in %.1f s%s", r.Registered, r.Phones, r.Seconds, spread(r.Register))
	line("at the end", "%d registered", r.Stayed)
	line("memory", "%.0f MiB, %.0f KiB for each phone", float64(r.Memory)/(1<<20), float64(r.Memory)/float64(max(1, r.Phones))/1024)
	if c := r.Calls; c.Asked > 0 {
		line("calls", "%d of %d were up together%s", c.Up, c.Asked, spread(c.Setup))
		line("sealed", "%d at both ends", c.Sealed)
		line("heard", "%d at both ends", c.Heard)
		if c.MOS != nil {
			line("voice", "%d packets, %d lost; MOS %.1f at least, median %.1f", c.Packets, c.Lost, c.MOS.Lowest, c.MOS.Median)
		}
	}
	for _, f := range r.Failures {
		line("failed", "%d x %s", f.Count, f.Reason)
	}
}

// resident returns what memory this process has from the system, in bytes.
func resident() uint64 {
	m := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	metrics.Read(m)
	return m[0].Value.Uint64() - m[1].Value.Uint64()
}

// bar returns what shows progress: a bar that grows, or where nobody looks at a terminal, a line for each tenth.
func bar(w io.Writer) func(done, total int, what string) {
	terminal := false
	if f, ok := w.(*os.File); ok {
		if info, err := f.Stat(); err == nil {
			terminal = info.Mode()&os.ModeCharDevice != 0
		}
	}
	steps := 10
	if terminal {
		steps = 200
	}
	last, of := -1, ""
	return func(done, total int, what string) {
		total = max(1, total)
		if step := steps * done / total; what == of && step == last {
			return
		} else {
			last, of = step, what
		}
		text := fmt.Sprintf("%5d of %d %s", done, total, what)
		if !terminal {
			fmt.Fprintln(w, text)
			return
		}
		end := ""
		if done == total {
			end = "\n"
		}
		width := 30 * done / total
		fmt.Fprintf(w, "\r[%s%s] %s%s", strings.Repeat("#", width), strings.Repeat(".", 30-width), text, end)
	}
}
