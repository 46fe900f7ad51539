package node

import (
	"cmp"
	"context"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"time"

	"ringfence"
	"ringfence/internal/call/dialplan"
	"ringfence/internal/network/feed"
	"ringfence/internal/node/admin"
	"ringfence/internal/node/config"
	"ringfence/internal/node/records"
	"ringfence/internal/state/bus"
	"ringfence/internal/state/store"
	"ringfence/internal/trust/acme"
)

// Current returns the configuration in force: what the node was started with, and the live settings as they were last applied.
func (n *Node) Current() config.Config { return *n.current.Load() }

// SocketPath returns where the administration socket is.
func (n *Node) SocketPath() string { return filepath.Join(n.opts.Data, "admin.sock") }

// openSettings hands the configuration to its keeper, which changes the live settings from then on.
func (n *Node) openSettings(ctx context.Context) (err error) {
	file := n.opts.ConfigFile
	if file == "" {
		file = filepath.Join(n.opts.Data, "ringfence.yaml")
	}
	n.Settings, err = config.NewKeeper(ctx, config.KeeperConfig{File: file, Running: n.Config, Versions: n.Store, Override: n.opts.Override, Check: n.checkNamed, Presents: n.presents, Live: n.live})
	return err
}

// live puts the live settings of a configuration into force. It is called by the keeper, one change after the other.
func (n *Node) live(c config.Config) {
	n.current.Store(&c)
	n.policy.Replace(c.TLS)
	n.loadSounds(c)
	n.Calls.SetLimits(c.Calls.Max, c.Calls.Ring)
	if n.opts.LogLevel != nil {
		var level slog.Level
		if err := level.UnmarshalText([]byte(c.Log.Level)); err == nil { // the configuration was checked
			n.opts.LogLevel.Set(level)
		}
	}
	n.usersChanged()
	n.publish(bus.Event{Kind: bus.ConfigApplied})
	n.log.Info("the configuration was changed")
}

func (n *Node) loadSounds(c config.Config) {
	n.sounds.load(c, func(file string, err error) {
		n.log.Error("a sound cannot be played; calls go on without it", "file", file, "err", err, "hint", cmp.Or(ringfence.HintOf(err), "put it back and apply the configuration again"))
	})
}

func (n *Node) openAdmin(ctx context.Context) (err error) {
	kind := "sqlite"
	if strings.HasPrefix(n.Config.Store.DSN, "postgres") {
		kind = "postgres"
	}
	var messages admin.Ladder // stays nil, rather than hold a nil recorder, if nothing is remembered
	if n.Ladder != nil {
		messages = n.Ladder
	}
	var lists admin.Lists // stays nil as well
	if n.Lists != nil {
		lists = n.Lists
	}
	var check admin.OrderCheck
	if n.CAPF != nil {
		check = n.CAPF
	}
	var public admin.Public
	if n.Public != nil {
		public = n.Public
	}
	var machines admin.Machines
	if n.Config.ACME.Serve {
		machines = acme.NewStored(n.Store)
	}
	n.Admin = admin.New(admin.Config{Ladder: messages, Machines: machines, Public: public, Feeds: feed.NewKeeper(n.Store, nil), Lists: lists, OrderCheck: check, Node: n.Config.Node, Domain: n.Config.Domain, Version: BuildVersion(n.opts.Version), StoreKind: kind,
		Store: recent{n.Store, n.Records}, Roster: people{n.Roster, n}, Registrar: n.Registrar, Calls: n.Calls, Wires: n.Transport, Codes: n.Enroll, SignIns: n.Tokens, Authority: n.Authority, Keyring: keys{n.Keyring, n}, Anchor: n.Authority.RootPEM,
		Settings: n.Settings, Host: n, Plan: func() dialplan.Plan { return n.Current().Plan }, Log: n.log})
	n.AdminCode, err = n.Admin.FirstCode(ctx)
	return err
}

// unixOpener is an opener that can open socket files too. A network in memory has none.
type unixOpener interface {
	ListenUnix(ctx context.Context, flow, path string) (net.Listener, error)
}

func (n *Node) serveSocket(ctx, run context.Context) error {
	o, ok := n.opener.(unixOpener)
	if !ok {
		return nil
	}
	ln, err := o.ListenUnix(ctx, "admin-socket", n.SocketPath())
	if err != nil {
		return err
	}
	n.wg.Go(func() { n.Admin.ServeSocket(run, ln) })
	return nil
}

// Reach returns the name or address that a phone should be told: the one listened on, the first further name of the
// configuration, or the first address of this host that others can use.
func (n *Node) Reach() string {
	if a := n.webAddr.Addr(); a.IsValid() && !a.IsUnspecified() {
		return a.Unmap().String()
	}
	if len(n.Config.NodeDNS) > 0 {
		return n.Config.NodeDNS[0]
	}
	best := netip.Addr{}
	for _, a := range localAddrs() {
		if !a.IsLoopback() && (!best.IsValid() || a.Is4() && !best.Is4()) {
			best = a
		}
	}
	if best.IsValid() {
		return best.String()
	}
	return "localhost"
}

// Reload applies the configuration file as it is now.
func (n *Node) Reload(ctx context.Context) error {
	p, err := n.Settings.Reload(ctx)
	if err != nil {
		n.log.Error("the configuration was not reloaded; the old one stays in force", "err", err, "hint", ringfence.HintOf(err))
		return err
	}
	n.log.Info("the configuration was reloaded", "changes", len(p.Changes), "restart_needed", p.Restart())
	return nil
}

// recent is the store with the records of calls that ended just now: who hangs up and then asks shall not have to ask twice.
type recent struct {
	*store.Store
	records *records.Keeper
}

// CDRs implements admin.Records.
func (r recent) CDRs(ctx context.Context, from, to time.Time, limit int) ([]store.CDR, error) {
	r.records.Settle(ctx)
	return r.Store.CDRs(ctx, from, to, limit)
}

// CDR implements admin.Records.
func (r recent) CDR(ctx context.Context, id ringfence.CallID) (store.CDR, error) {
	r.records.Settle(ctx)
	return r.Store.CDR(ctx, id)
}
