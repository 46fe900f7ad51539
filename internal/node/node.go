package node

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/fips140"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"ringfence"
	"ringfence/internal/call/control"
	"ringfence/internal/call/dialplan"
	"ringfence/internal/call/registrar"
	"ringfence/internal/call/roster"
	"ringfence/internal/call/trunk"
	"ringfence/internal/call/watch"
	"ringfence/internal/media/relay"
	"ringfence/internal/node/admin"
	"ringfence/internal/node/admin/api"
	"ringfence/internal/node/config"
	"ringfence/internal/node/exceptions"
	"ringfence/internal/node/observe/ladder"
	"ringfence/internal/node/records"
	"ringfence/internal/node/sockets"
	"ringfence/internal/service/cti"
	"ringfence/internal/sip/dialog"
	"ringfence/internal/sip/locate"
	"ringfence/internal/sip/transaction"
	"ringfence/internal/sip/transport"
	"ringfence/internal/state/bus"
	"ringfence/internal/state/store"
	"ringfence/internal/trust/acme"
	"ringfence/internal/trust/ca"
	"ringfence/internal/trust/capf"
	"ringfence/internal/trust/enroll"
	"ringfence/internal/trust/keyring"
	"ringfence/internal/trust/publicname"
	"ringfence/internal/trust/publish"
	"ringfence/internal/trust/revocation"
	"ringfence/internal/trust/tlspolicy"
	"ringfence/internal/trust/token"
)

// Options say how to start a node.
type Options struct {
	Config  config.Config
	Data    string // directory of everything the node keeps; made if missing, readable by its owner only
	Version string
	// Passphrase opens the sealing key, if it is wrapped with one, and wraps it if it is made at this start.
	Passphrase []byte
	Log        *slog.Logger
	Opener     ringfence.Opener // nil: real sockets for the flow table

	ConfigFile string               // what a change of the configuration is written to; empty: ringfence.yaml in Data
	Override   func(*config.Config) // what the command line says over any configuration; nil: nothing
	LogLevel   *slog.LevelVar       // follows log.level; nil: it cannot change
}

// Node is one running node.
type Node struct {
	Config     config.Config // what it was started with; Current is what is in force
	Store      *store.Store
	Authority  *ca.Authority
	Keyring    *keyring.Ring
	Lists      *publish.Publisher // nil: no trust lists are published
	CAPF       *capf.Server       // nil: phones get no certificates by CAPF
	CTI        *cti.Server        // nil if it is off
	ACME       *acme.Server       // nil: machines get no certificates by ACME
	Public     *publicname.Keeper // nil: no certificate for public names is kept
	Enroll     *enroll.Service
	Tokens     *token.Server
	Records    *records.Keeper
	Roster     *roster.Roster
	Registrar  *registrar.Registrar
	Calls      *control.Control
	Transport  *transport.Layer
	Trunks     *trunk.Table // nil: there are none
	Exceptions *exceptions.Warden
	Settings   *config.Keeper
	Bus        *bus.Bus
	Ladder     *ladder.Recorder // nil: calls are not remembered
	Admin      *admin.Server
	AdminCode  api.AdminCode // the one-time administrator code, if it was made at this start
	FirstRun   bool          // the data directory is new

	opts     Options
	log      *slog.Logger
	opener   ringfence.Opener
	identity *ca.Identity
	policy   *tlspolicy.Policy
	txs      *transaction.Layer
	media    *relay.Engine
	https    *http.Server
	web      web
	sipAddr  netip.AddrPort
	webAddr  netip.AddrPort
	bound    map[string]netip.AddrPort // where the SIP flows that are off by default listen
	bindings registrar.Ledger
	names    *locate.Resolver // nil: nobody is looked for
	stop     context.CancelFunc
	wg       sync.WaitGroup
	closers  []func()
	chain    chain
	current  atomic.Pointer[config.Config]

	revocationAddr atomic.Pointer[netip.AddrPort]
	watchers       watchers
	sounds         sounds
	lease          *store.Lease // nil: the database is this node's own
	failed         chan error
}

// Open builds the rooms from the bottom up and starts listening. On error, what was started is stopped again.
func Open(ctx context.Context, opts Options) (n *Node, err error) {
	if err := opts.Config.Validate(); err != nil {
		return nil, err
	}
	if err := inMode(opts.Config); err != nil {
		return nil, err
	}
	n = &Node{Config: opts.Config, opts: opts, log: opts.Log, opener: opts.Opener, bound: map[string]netip.AddrPort{}, failed: make(chan error, 1)}
	n.current.Store(&opts.Config)
	run, stop := context.WithCancel(context.WithoutCancel(ctx))
	n.stop = stop
	defer func() {
		if err != nil {
			n.Close()
			n = nil
		}
	}()
	if n.opener == nil {
		if n.opener, err = sockets.New(opts.Config.Flows()); err != nil {
			return n, err
		}
	}
	n.policy = tlspolicy.New(n.Config.TLS, named{n})
	for _, step := range []func(context.Context) error{n.openState, n.openTrust, n.openObserve, n.openBus, n.openLists, n.openCAPF, n.openNames, n.openCalls, n.openProxies, n.openLinks, n.openPublic, n.openSettings, n.openAdmin, n.listen} {
		if err = step(ctx); err != nil {
			return n, err
		}
	}
	if fips140.Enabled() {
		n.log.Info("this node runs in FIPS 140-3 mode", "module", fips140.Version())
		for _, text := range opts.Config.Notes() {
			n.log.Info("not all that TLS settings name is served in FIPS 140-3 mode", "what", text)
		}
	}
	n.wg.Go(func() { n.Records.Run(run) })
	n.wg.Go(func() { n.Exceptions.Run(run) })
	if n.Public != nil {
		n.wg.Go(func() { n.Public.Run(run) })
	}
	n.hearOthers(run)
	if n.lease != nil {
		n.wg.Go(func() { n.keepLease(run) })
	}
	n.chain.proxies.reach()
	if n.Trunks != nil {
		n.Trunks.Start()
	}
	n.wg.Go(func() { n.maintain(run) })
	return n, n.serveSocket(ctx, run)
}

func (n *Node) openState(ctx context.Context) error {
	if err := os.MkdirAll(n.opts.Data, 0o700); err != nil {
		return &ringfence.Fault{Op: "node.open", Kind: ringfence.KindUnavailable, Text: "the data directory cannot be made", Err: err}
	}
	dsn := n.Config.Store.DSN
	if dsn == "" {
		path := filepath.Join(n.opts.Data, "ringfence.db")
		_, err := os.Stat(path)
		n.FirstRun = errors.Is(err, os.ErrNotExist)
		dsn = "sqlite:" + path
	}
	var err error
	n.Store, err = store.Open(ctx, store.Config{DSN: dsn, KeyFile: filepath.Join(n.opts.Data, "seal.key"), Passphrase: n.opts.Passphrase, Network: database{n}})
	if err != nil {
		return err
	}
	n.closers = append(n.closers, func() {
		if n.Records != nil {
			n.Records.Close()
		}
		n.dropLease()
		_ = n.Store.Close()
	})
	if err := n.takeLease(ctx); err != nil { // before anything is written in the name of this node
		return err
	}
	if n.Records, err = records.Open(ctx, n.Store, filepath.Join(n.opts.Data, "calls.journal"), n.log); err != nil {
		return err
	}
	n.bindings = patient{n.Store}
	if n.Config.Store.DSN == "" {
		if err := n.openJournal(ctx); err != nil {
			return err
		}
	}
	n.Roster, err = roster.Open(ctx, n.Store, n.Config.Security.MayBeExcepted)
	return err
}

// openJournal puts a journal in front of a SQLite database, to which a transaction for each REGISTER would be too dear.
func (n *Node) openJournal(ctx context.Context) error {
	j, err := n.Store.OpenJournal(ctx, store.JournalConfig{Path: filepath.Join(n.opts.Data, "bindings.journal"), Failed: func(err error) {
		n.log.Error("the journal of bindings could not be folded into the database", "err", err, "hint", ringfence.HintOf(err))
	}})
	if err != nil {
		return err
	}
	if j.Torn > 0 {
		n.log.Warn("the end of the journal of bindings was torn by a crash; what was acknowledged before it is kept", "bytes", j.Torn)
	}
	n.bindings = j
	n.closers = append(n.closers, func() {
		if err := j.Close(); err != nil {
			n.log.Error("the journal of bindings could not be closed; it will be read at the next start", "err", err)
		}
	})
	return nil
}

// patient is a store on a server, which may not answer: it waits for a while and no longer.
type patient struct{ *store.Store }

// ApplyBindings implements registrar.Ledger.
func (p patient) ApplyBindings(ctx context.Context, put []store.Binding, remove []store.BindingKey) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	return p.Store.ApplyBindings(ctx, put, remove)
}

// ExpireBindings implements registrar.Ledger.
func (p patient) ExpireBindings(ctx context.Context, keys []store.BindingKey, now time.Time) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	return p.Store.ExpireBindings(ctx, keys, now)
}

func (n *Node) openTrust(ctx context.Context) (err error) {
	if n.Authority, err = ca.Open(ctx, ca.Config{Name: n.Config.Name, Vault: n.Store, Ledger: n.Store, Base: n.revocationBase}); err != nil {
		return err
	}
	if n.identity, err = n.newIdentity(ctx); err != nil {
		return err
	}
	if n.Keyring, err = keyring.Open(ctx, keyring.Config{Vault: n.Store}); err != nil {
		return err
	}
	n.Enroll, err = enroll.New(ctx, enroll.Config{Issuer: issuer{n.Authority, n}, Codes: n.Store, Bootstrap: n.bootstrap})
	if err != nil {
		return err
	}
	return n.openTokens(ctx)
}

// newIdentity issues this node's certificate for a key made now. The key lives only as long as the process.
func (n *Node) newIdentity(ctx context.Context) (*ca.Identity, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	issued, err := n.issueNode(ctx, key)
	if err != nil {
		return nil, err
	}
	return ca.NewIdentity(issued.Chain, key)
}

func (n *Node) issueNode(ctx context.Context, key *ecdsa.PrivateKey) (ca.Issued, error) {
	names := append([]string{n.Config.Domain, n.Config.Node + "." + n.Config.Domain, "localhost"}, n.Config.NodeDNS...)
	if host, err := os.Hostname(); err == nil && host != "localhost" {
		names = append(names, host)
	}
	return n.Authority.Issue(ctx, ca.Request{Role: ca.RoleNode, Name: n.Config.Node, DNSNames: unique(names), IPs: localAddrs(),
		URIs: []string{"sip:" + n.Config.Domain}, PublicKey: key.Public()})
}

func unique(names []string) (out []string) {
	seen := map[string]bool{}
	for _, s := range names {
		if !seen[s] {
			seen[s] = true
			out = append(out, s)
		}
	}
	return out
}

// localAddrs lists the host's addresses, so that a phone may be told an address instead of a name.
func localAddrs() (out []netip.Addr) {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return nil
	}
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil && !p.Addr().IsLinkLocalUnicast() {
			out = append(out, p.Addr().Unmap())
		}
	}
	return out
}

func (n *Node) bootstrap(ctx context.Context, id ringfence.DeviceID) (enroll.Bootstrap, error) {
	d, err := n.Store.Device(ctx, id)
	if err != nil {
		return enroll.Bootstrap{}, err
	}
	return enroll.Bootstrap{User: d.User, Domain: n.Config.Domain, SIP: enroll.Endpoint{Host: n.Config.Domain, Port: n.sipAddr.Port()}}, nil
}

func (n *Node) openCalls(ctx context.Context) (err error) {
	if n.Registrar, err = registrar.Open(ctx, registrar.Config{Domain: n.Config.Domain, Node: n.nodeName(), Ledger: n.bindings, Quick: n.Config.Store.DSN == "", Roster: n.Roster, Secrets: n.Store, Log: n.log, Max: n.Config.SIP.Expires,
		Tokens: access{n.Tokens}, Resume: func(tx *transaction.Server) { n.chain.Request(tx) }, ChallengeEach: n.Config.SIP.ChallengeEach, Proxies: n.Config.SIP.Proxies, Events: ears{n}, MayProve: n.Config.Security.MayProve}); err != nil {
		return err
	}
	n.closers = append(n.closers, n.Registrar.Close)
	m := n.Config.Media
	if n.media, err = relay.New(relay.Config{Opener: n.opener, Flow: "media", Addr: m.Addr, Ports: ringfence.PortRange{First: m.First, Last: m.Last}, DSCP: m.DSCP, Log: n.log}); err != nil {
		return err
	}
	n.closers = append(n.closers, n.media.Close)
	n.txs = transaction.New(transaction.Config{User: &n.chain, Log: n.log, Server: "Ringfence/" + n.opts.Version, Trace: n.tracer()})
	n.closers = append(n.closers, n.txs.Close)
	n.Transport = transport.New(transport.Config{Opener: n.opener, Receiver: n.txs, Verifier: verifier{n}, Log: n.log, BeforeFlush: n.Records.Keep})
	n.closers = append(n.closers, n.Transport.Close)
	dialogs := dialog.New(dialog.Config{Log: n.log, UserAgent: "Ringfence/" + n.opts.Version, Flow: n.flowOf, Owns: n.owns}, n.txs)
	n.loadSounds(n.Config)
	n.openTrunks()
	n.Calls = control.New(control.Config{Sounds: &n.sounds, Trunks: n.Trunks, Domain: n.Config.Domain, Dialogs: dialogs, Shard: n.txs.Shards()[0], Media: n.media, Registrar: n.Registrar,
		Roster: n.Roster, Plan: func() dialplan.Plan { return n.Current().Plan }, Log: n.log, Records: n.Records, Elsewhere: n.elsewhere(), NextHop: n.nextHop, Events: ears{n}, MaxCalls: n.Config.Calls.Max,
		Changed: n.linesChanged, Watched: func(u ringfence.UserID) bool { return n.chain.watch.Watches(u) || n.CTI != nil && n.CTI.Follows(u) }, RingTime: n.Config.Calls.Ring, Silence: n.Config.Calls.Silence,
		Port:      func() uint16 { return n.sipAddr.Port() },
		MediaAddr: func(*transport.Conn) netip.Addr { return n.Config.Media.Advertise }})
	n.Exceptions = exceptions.New(exceptions.Config{Roster: n.Roster, Registrar: n.Registrar, Calls: n.Calls, Connections: n.Transport, Log: n.log})
	lamps := watch.New(watch.Config{Domain: n.Config.Domain, Shard: n.txs.Shards()[0], Lines: n.Calls, Mailboxes: watch.NoMailboxes{}, Owner: n.watched, Group: n.Calls.Members, Known: n.Registrar.Known, Log: n.log})
	n.openCTI()
	n.chain = chain{domain: n.Config.Domain, registrar: n.Registrar, dialogs: dialogs, calls: n.Calls, watch: lamps, trunks: n.Trunks}
	return nil
}

// watched returns who is meant by a number that a lamp is for: a user, or a place where calls are parked.
func (n *Node) watched(number ringfence.Number) (ringfence.UserID, bool) {
	if id, ok := n.Calls.Owner(number); ok {
		return id, true
	}
	return n.Calls.Slot(number)
}

// nodeName is whose connections reach the phones, as the other nodes of a shared database know it.
func (n *Node) nodeName() string {
	if n.lease == nil {
		return ""
	}
	return n.lease.Node
}

// flowOf finds the way back to a phone or a trunk whose connection was replaced during a call.
func (n *Node) flowOf(s *dialog.Session) *transport.Conn {
	if s.Conn.Peer.Role == string(ca.RoleNode) && n.chain.links != nil {
		return n.flowFrom(string(ca.RoleNode), s.Conn.Peer.Name)
	}
	if device, ok := control.DeviceOf(s.User()); ok {
		return n.Registrar.FlowOf(device)
	}
	if name, ok := control.TrunkOf(s.User()); ok {
		if c, _ := n.Trunks.Way(name); c != nil {
			return c
		}
		return n.flowFrom(trunk.Role, name) // who only calls us is not dialled, and comes back by itself
	}
	return nil
}

// flowFrom returns a connection of a peer that proved its role and name, whoever opened it, or nil.
func (n *Node) flowFrom(role, name string) *transport.Conn {
	for _, c := range n.Transport.Conns() {
		if c.State() == "Established" && c.Peer.Role == role && c.Peer.Name == name {
			return c
		}
	}
	return nil
}

// owns reports whether a new connection has proved to be the device or the trunk that a call was made with.
func (n *Node) owns(c *transport.Conn, s *dialog.Session) bool {
	if name, ok := control.TrunkOf(s.User()); ok {
		return c.Peer.Role == trunk.Role && c.Peer.Name == name
	}
	if c.Peer.Role == string(ca.RoleProxy) || c.Peer.Role == string(ca.RoleNode) { // it may bring what belongs to a dialog that it carried before
		return c.Peer.Role == s.Conn.Peer.Role && c.Peer.Name == s.Conn.Peer.Name
	}
	device, ok := control.DeviceOf(s.User())
	id, known := n.Registrar.Known(c)
	return ok && known && id.Device == device
}

func (n *Node) listen(ctx context.Context) error {
	conf, err := n.serverTLS("sip", n.Config.SIP.TLS)
	if err != nil {
		return err
	}
	if n.sipAddr, err = n.Transport.Listen(ctx, "sip-tls", n.Config.SIP.TLS, conf); err != nil {
		return err
	}
	for _, more := range []func(context.Context) error{n.listenMore, n.listenPhones} {
		if err := more(ctx); err != nil {
			return err
		}
	}
	ln, err := n.opener.Listen(ctx, "https", n.Config.API.HTTPS)
	if err != nil {
		return err
	}
	n.webAddr = ln.Addr().(*net.TCPAddr).AddrPort()
	web, err := n.serverTLS("https", n.Config.API.HTTPS, "http/1.1")
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.Handle("/enrol/", n.Enroll.Handler())
	answers := revocation.Handler(n.Authority, n.log, time.Now)
	mux.Handle("/ocsp", answers)
	mux.Handle("/ocsp/", answers)
	mux.Handle("/crl/", answers)
	if err := n.listenRevocation(ctx, answers); err != nil {
		return err
	}
	mux.Handle("/oauth/", n.Tokens.Handler())
	mux.Handle("/.well-known/oauth-authorization-server", n.Tokens.Handler())
	if err := n.automatic(mux); err != nil {
		return err
	}
	if n.Lists != nil {
		mux.Handle("/trustlist/", n.Lists.Handler(n.fetches, n.log))
	}
	mux.Handle("/", n.Admin.Handler())
	n.https = &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 30 * time.Second, WriteTimeout: time.Minute,
		IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 16 << 10, ConnState: n.web.state, ErrorLog: slog.NewLogLogger(n.log.Handler(), slog.LevelDebug)}
	n.wg.Go(func() { _ = n.https.Serve(tls.NewListener(ln, web)) })
	n.closers = append(n.closers, func() { _ = n.https.Close() })
	return nil
}

// SIPAddr returns where SIP listens.
func (n *Node) SIPAddr() netip.AddrPort { return n.sipAddr }

// HTTPSAddr returns where enrolment and the API listen.
func (n *Node) HTTPSAddr() netip.AddrPort { return n.webAddr }

// Flows returns the flow table as it runs, with the ports that are really open.
func (n *Node) Flows() []ringfence.Flow {
	flows := n.Config.Flows()
	for i := range flows {
		switch flows[i].Name {
		case "sip-tls":
			flows[i].Ports = ringfence.PortRange{First: n.sipAddr.Port(), Last: n.sipAddr.Port()}
		case "https":
			flows[i].Ports = ringfence.PortRange{First: n.webAddr.Port(), Last: n.webAddr.Port()}
		case "admin-socket":
			flows[i].Path = n.SocketPath()
		default:
			n.asBound(&flows[i])
		}
	}
	return flows
}

// maintain does what is due now and then.
func (n *Node) maintain(ctx context.Context) {
	tick := time.NewTicker(time.Minute)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		n.Maintain(ctx)
	}
}

// Maintain does what is due: what other nodes changed, expiries, the authority, and the node's own certificate at two thirds of its life. A node does it by
// itself each minute.
func (n *Node) Maintain(ctx context.Context) {
	n.catchUp(ctx)
	n.chain.links.ping()
	if n.Ladder != nil {
		n.Ladder.Expire(time.Now())
	}
	if err := n.Registrar.Expire(ctx); err != nil {
		n.log.Warn("expired registrations could not be removed", "err", err)
	}
	if err := n.Authority.Maintain(ctx); err != nil {
		n.log.Warn("the authority could not be maintained", "err", err, "hint", ringfence.HintOf(err))
	}
	if !n.Authority.Signs(n.identity.Leaf()) { // what it signs is believed by every listener before anybody shows it
		if err := n.AuthorityChanged(ctx); err != nil {
			n.log.Error("the node's certificate could not be renewed", "err", err, "hint", ringfence.HintOf(err))
		}
	}
	if err := n.Tokens.Maintain(ctx); err != nil {
		n.log.Warn("the keys of access tokens could not be maintained", "err", err)
	}
	n.maintainACME(ctx)
	if n.CAPF != nil {
		if err := n.CAPF.Sweep(ctx); err != nil {
			n.log.Error("what phones left of their orders could not be cleared away", "err", err, "hint", ringfence.HintOf(err))
		}
	}
	if err := n.maintainLists(ctx); err != nil {
		n.log.Error("the trust lists could not be maintained", "err", err, "hint", ringfence.HintOf(err))
	}
	if time.Now().After(ca.RenewAt(n.identity.Leaf())) {
		if err := n.RenewIdentity(ctx); err != nil {
			n.log.Error("the node's certificate could not be renewed", "err", err, "hint", ringfence.HintOf(err))
		}
	}
}

// RenewIdentity implements admin.Host.
func (n *Node) RenewIdentity(ctx context.Context) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	issued, err := n.issueNode(ctx, key)
	if err != nil {
		return err
	}
	if err := n.identity.Replace(issued.Chain, key); err != nil {
		return err
	}
	return n.present(ctx)
}

// AuthorityChanged implements admin.Host. Other nodes hear of it, and read the authority again.
func (n *Node) AuthorityChanged(ctx context.Context) error {
	n.policy.Refresh() // first: phones may show what the new authority signs at once
	err := n.RenewIdentity(ctx)
	n.publish(bus.Event{Kind: bus.KeyringChanged})
	return err
}

// Shutdown drains: no new calls, and calls that are up may end by themselves until ctx is over.
func (n *Node) Shutdown(ctx context.Context) {
	n.Calls.Drain()
	n.Transport.StopListening()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for n.Calls.Count() > 0 {
		select {
		case <-ctx.Done():
			n.Calls.EndAll("the node is stopping")
			n.Close()
			return
		case <-tick.C:
		}
	}
	n.Close()
}

// Close stops the rooms in reverse order.
func (n *Node) Close() {
	if n.Calls != nil {
		n.Calls.EndAll("the node is stopping")
	}
	// Records are written before the store is closed.
	n.stop()
	for i := len(n.closers) - 1; i >= 1; i-- {
		n.closers[i]()
	}
	n.wg.Wait()
	if len(n.closers) > 0 {
		n.closers[0]()
	}
	n.closers = nil
}

// Discard is a logger that drops everything.
func Discard() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }
