package publish

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"ringfence"
	"ringfence/internal/state/store"
	"ringfence/internal/trust/trustlist"
)

// Vault keeps secrets sealed at rest; *store.Store is one.
type Vault interface {
	Secret(ctx context.Context, name string) ([]byte, error)
	CreateSecret(ctx context.Context, name string, secret []byte) error
	ReplaceSecret(ctx context.Context, name string, old, secret []byte) error
}

// Shelf keeps the lists that were published, and who fetched which; *store.Store is one.
type Shelf interface {
	AddTrustList(ctx context.Context, l store.TrustList) error
	TrustList(ctx context.Context, version int64) (store.TrustList, error)
	HoldList(ctx context.Context, h store.ListHolder) error
	ListHolders(ctx context.Context) ([]store.ListHolder, error)
	PurgeTrustLists(ctx context.Context, before int64) (int, error)
}

// Certify has the organisation's authority sign a certificate: of a signer of lists, or of a service that phones find in them.
type Certify func(ctx context.Context, service bool, name string, pub crypto.PublicKey) (chain [][]byte, err error)

// Config says what a publisher needs.
type Config struct {
	Node     string // whose services these are
	Services []trustlist.Role
	Vault    Vault
	Shelf    Shelf
	Certify  Certify
	// Revoked says whether a certificate that Certify gave was revoked since; nil: none was.
	Revoked func(serial string) bool
	Changed func() // hears that there is another list; nil: nobody
	Now     func() time.Time
	// RSA makes a key for a signer or service; nil: of 2048 bits, since phones check no longer ones.
	RSA func() (*rsa.PrivateKey, error)
}

const (
	vaultName = "trust/lists/v1"
	keepLists = 20 // versions that are kept although nobody is known to hold them
)

// Slots are the names of the two signers.
func Slots() []string { return []string{"a", "b"} }

// estate is what the vault holds.
type estate struct {
	Signers map[string]heldKey `json:"signers"` // by slot
	Nodes   map[string]member  `json:"nodes"`   // by name
	By      string             `json:"by"`      // the slot that signed last
}

// heldKey is a certificate with its key.
type heldKey struct {
	Chain [][]byte `json:"chain"` // DER, leaf first
	Key   []byte   `json:"key"`   // PKCS #8
}

// member is what one node has in the list.
type member struct {
	Node     []byte             `json:"node"` // DER: what it presents to phones
	Services map[string]heldKey `json:"services,omitempty"`
}

// Publisher builds, signs and keeps the lists. Its methods may be called from any goroutine.
type Publisher struct {
	c    Config
	now  func() time.Time
	view atomic.Pointer[view]

	mu   sync.Mutex // makes changes one at a time
	held []byte     // what the vault holds
}

// view is what is published now.
type view struct {
	list     store.TrustList
	entries  []trustlist.Entry
	services map[string]*tls.Certificate // of this node, by role
	waiting  string                      // why a newer list is not published; empty: none waits
}

// Open reads what was published, or makes the two signers if nothing was. Nothing is published before [Publisher.Present].
func Open(ctx context.Context, c Config) (*Publisher, error) {
	p := &Publisher{c: c, now: c.Now}
	if p.now == nil {
		p.now = time.Now
	}
	if p.c.RSA == nil {
		p.c.RSA = func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 2048) }
	}
	if p.c.Revoked == nil {
		p.c.Revoked = func(string) bool { return false }
	}
	if p.c.Changed == nil {
		p.c.Changed = func() {}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	e, err := p.load(ctx)
	if err != nil {
		return nil, err
	}
	return p, p.show(ctx, e, "")
}

// load reads the estate, and makes it if there is none. It is called with mu held, as all below.
func (p *Publisher) load(ctx context.Context) (e estate, err error) {
	b, err := p.c.Vault.Secret(ctx, vaultName)
	if err != nil && ringfence.KindOf(err) == ringfence.KindNotFound {
		e = estate{Signers: map[string]heldKey{}, Nodes: map[string]member{}, By: Slots()[0]}
		for _, slot := range Slots() {
			if e.Signers[slot], err = p.make(ctx, false, "list-signer-"+slot); err != nil {
				return e, err
			}
		}
		if b, err = json.Marshal(e); err != nil {
			return e, fault(ringfence.KindInternal, "the signers cannot be written", "", nil)
		}
		if err = p.c.Vault.CreateSecret(ctx, vaultName, b); ringfence.KindOf(err) == ringfence.KindConflict && err != nil {
			b, err = p.c.Vault.Secret(ctx, vaultName) // another node was faster
		}
	}
	if err != nil {
		return e, err
	}
	p.held = b
	if err := json.Unmarshal(b, &e); err != nil || len(e.Signers) != len(Slots()) {
		return e, fault(ringfence.KindInvalid, "the sealed signers of trust lists are damaged", "restore the database from a backup", nil)
	}
	return e, nil
}

func (p *Publisher) make(ctx context.Context, service bool, name string) (heldKey, error) {
	key, err := p.c.RSA()
	if err != nil {
		return heldKey{}, fault(ringfence.KindInternal, "no key could be made", "", err)
	}
	chain, err := p.c.Certify(ctx, service, name, key.Public())
	if err != nil {
		return heldKey{}, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return heldKey{}, fault(ringfence.KindInternal, "the key cannot be written", "", nil)
	}
	return heldKey{Chain: chain, Key: der}, nil
}

func (h heldKey) open() (*tls.Certificate, error) {
	if len(h.Chain) == 0 {
		return nil, fault(ringfence.KindInvalid, "the sealed signers of trust lists are damaged", "restore the database from a backup", nil)
	}
	key, err := x509.ParsePKCS8PrivateKey(h.Key)
	if err != nil {
		return nil, fault(ringfence.KindInvalid, "a sealed key of trust lists is damaged", "restore the database from a backup", nil)
	}
	leaf, err := x509.ParseCertificate(h.Chain[0])
	if err != nil {
		return nil, fault(ringfence.KindInvalid, "a sealed certificate of trust lists is damaged", "restore the database from a backup", err)
	}
	return &tls.Certificate{Certificate: h.Chain, PrivateKey: key, Leaf: leaf}, nil
}

// due reports whether a certificate should be replaced: after two thirds of its life.
func due(leaf *x509.Certificate, now time.Time) bool {
	return now.After(leaf.NotBefore.Add(leaf.NotAfter.Sub(leaf.NotBefore) / 3 * 2))
}

// entries returns what the list says of an estate.
func (e estate) entries(now time.Time) (out []trustlist.Entry, err error) {
	add := func(role trustlist.Role, der []byte) {
		c, failed := x509.ParseCertificate(der)
		if failed != nil {
			err = fault(ringfence.KindInvalid, "a certificate of the trust list is damaged", "restore the database from a backup", failed)
			return
		}
		if role == trustlist.SAST || now.Before(c.NotAfter) { // a node that is gone leaves when its certificate ends
			out = append(out, trustlist.Entry{Role: role, Cert: c})
		}
	}
	for _, slot := range Slots() {
		add(trustlist.SAST, e.Signers[slot].Chain[0])
	}
	for _, slot := range Slots() { // whoever signs lists signs configuration files too
		add(trustlist.TFTP, e.Signers[slot].Chain[0])
	}
	for _, name := range slices.Sorted(maps.Keys(e.Nodes)) {
		m := e.Nodes[name]
		add(trustlist.CCM, m.Node)
		add(trustlist.AppServer, m.Node)
		for _, role := range slices.Sorted(maps.Keys(m.Services)) {
			r, failed := trustlist.ParseRole(role)
			if failed != nil {
				return nil, failed
			}
			add(r, m.Services[role].Chain[0])
		}
	}
	return out, err
}

// forms builds the three forms of a list, signed by a slot.
func (e estate) forms(now time.Time, by string) (l store.TrustList, err error) {
	all, err := e.entries(now)
	if err != nil {
		return l, err
	}
	signer, err := e.Signers[by].open()
	if err != nil {
		return l, err
	}
	key := signer.PrivateKey.(crypto.Signer)
	o := trustlist.Options{Name: "ITLFile.tlv", Time: now, Digest: crypto.SHA512}
	if l.ITL, err = trustlist.Build(o, all, signer.Leaf, key); err != nil {
		return l, err
	}
	o.Name = "ITLFile.json"
	if l.JSON, err = trustlist.BuildJSON(o, all, signer.Leaf, key); err != nil {
		return l, err
	}
	o.Name = "CTLFile.tlv"
	l.CTL, err = trustlist.Build(o, slices.DeleteFunc(slices.Clone(all), func(x trustlist.Entry) bool { return x.Role == trustlist.TVS }), signer.Leaf, key)
	l.Made = now
	return l, err
}

// Held is what the devices that hold one version would make of the next list.
type Held struct {
	Version  int64
	Devices  []store.ListHolder
	Taken    bool
	Stranded bool
	Why      string
}

// Proposal is a list that could be published.
type Proposal struct {
	estate  estate
	forms   store.TrustList
	By      string // the slot that signs it
	Changes bool   // it says something else than what is published
	Added   []trustlist.Record
	Removed []trustlist.Record
	Held    []Held // by version, the latest first
}

// Lost returns the devices that would be lost.
func (p Proposal) Lost() (out []store.ListHolder) {
	for _, h := range p.Held {
		if h.Stranded {
			out = append(out, h.Devices...)
		}
	}
	return out
}

// lost reports whether anybody would be: also phones that are not known to hold what is published now, but may.
func (p Proposal) lost() bool {
	return slices.ContainsFunc(p.Held, func(h Held) bool { return h.Stranded })
}

// propose works out the list of an estate, signed by whom the fewest would be lost with.
func (p *Publisher) propose(ctx context.Context, e estate) (best Proposal, err error) {
	now := p.now()
	holders, err := p.c.Shelf.ListHolders(ctx)
	if err != nil {
		return best, err
	}
	by := map[int64][]store.ListHolder{}
	for _, h := range holders {
		by[h.Version] = append(by[h.Version], h)
	}
	latest, err := p.c.Shelf.TrustList(ctx, 0)
	if err != nil && ringfence.KindOf(err) != ringfence.KindNotFound {
		return best, err
	}
	if err == nil {
		by[latest.Version] = append(by[latest.Version], []store.ListHolder{}...)
	}
	versions := slices.Sorted(maps.Keys(by))
	slices.Reverse(versions)
	slots := Slots()
	if e.By == slots[1] {
		slices.Reverse(slots)
	}
	// A revoked signer signs only if there is no other: somebody else may have its key.
	if good := slices.DeleteFunc(slices.Clone(slots), func(slot string) bool {
		c, err := e.Signers[slot].open()
		return err == nil && p.revoked(c.Leaf)
	}); len(good) > 0 {
		slots = good
	}
	for i, slot := range slots {
		x := Proposal{estate: e, By: slot}
		x.estate.By = slot
		if x.forms, err = x.estate.forms(now, slot); err != nil {
			return best, err
		}
		next, err := trustlist.Parse(x.forms.ITL)
		if err != nil {
			return best, err
		}
		stranded := 0
		for _, v := range versions {
			l, err := p.c.Shelf.TrustList(ctx, v)
			if err != nil {
				if ringfence.KindOf(err) == ringfence.KindNotFound {
					continue
				}
				return best, err
			}
			old, err := trustlist.Parse(l.ITL)
			if err != nil {
				return best, err
			}
			step := trustlist.Plan(old, next)
			x.Held = append(x.Held, Held{Version: v, Devices: by[v], Taken: step.Taken, Stranded: step.Stranded, Why: step.Why})
			if step.Stranded {
				stranded += 1 + len(by[v])
			}
			if v == latest.Version {
				x.Added, x.Removed = step.Added, step.Removed
			}
		}
		x.Changes = latest.Version == 0 || len(x.Added)+len(x.Removed) > 0
		if latest.Version == 0 {
			x.Added = next.Records
		}
		if stranded == 0 {
			return x, nil
		}
		if i == 0 || stranded < cost(best) {
			best = x
		}
	}
	return best, nil
}

func cost(p Proposal) (n int) {
	for _, h := range p.Held {
		if h.Stranded {
			n += 1 + len(h.Devices)
		}
	}
	return n
}

// commit keeps an estate, and publishes its list if it says something new and nobody is lost, or if force says so.
func (p *Publisher) commit(ctx context.Context, e estate, note string, force bool) (Proposal, error) {
	x, err := p.propose(ctx, e)
	if err != nil {
		return x, err
	}
	publish := x.Changes && (force || !x.lost())
	if publish {
		e = x.estate
	}
	b, err := json.Marshal(e)
	if err != nil {
		return x, fault(ringfence.KindInternal, "the signers cannot be written", "", nil)
	}
	if !bytes.Equal(b, p.held) {
		if err := p.c.Vault.ReplaceSecret(ctx, vaultName, p.held, b); err != nil {
			return x, err // KindConflict: another node was faster
		}
		p.held = b
	}
	if publish {
		last, err := p.c.Shelf.TrustList(ctx, 0)
		if err != nil && ringfence.KindOf(err) != ringfence.KindNotFound {
			return x, err
		}
		x.forms.Version, x.forms.Note = last.Version+1, note
		if err := p.c.Shelf.AddTrustList(ctx, x.forms); err != nil {
			return x, err
		}
		if _, err := p.c.Shelf.PurgeTrustLists(ctx, x.forms.Version-keepLists); err != nil {
			return x, err
		}
	}
	if err := p.show(ctx, e, note); err != nil {
		return x, err
	}
	if publish {
		p.c.Changed()
	}
	return x, nil
}

// show puts an estate before those who look. note is what changed last, if that is known here.
func (p *Publisher) show(ctx context.Context, e estate, note string) error {
	v := &view{services: map[string]*tls.Certificate{}}
	var err error
	if v.list, err = p.c.Shelf.TrustList(ctx, 0); err != nil && ringfence.KindOf(err) != ringfence.KindNotFound {
		return err
	}
	for role, h := range e.Nodes[p.c.Node].Services {
		if v.services[role], err = h.open(); err != nil {
			return err
		}
	}
	if v.entries, err = e.entries(p.now()); err != nil {
		return err
	}
	// Whether a list waits is what the store says, and not what this node did: another may have published, or have left it waiting.
	if v.list.Version > 0 {
		l, err := trustlist.Parse(v.list.ITL)
		if err != nil {
			return err
		}
		if !says(l.Records, v.entries) {
			v.waiting = note
			if before := p.view.Load(); note == "" && before != nil {
				v.waiting = before.waiting
			}
			if v.waiting == "" {
				v.waiting = "certificates changed since version " + strconv.FormatInt(v.list.Version, 10)
			}
		}
	}
	p.view.Store(v)
	return nil
}

// says reports whether a list says the same as some entries.
func says(records []trustlist.Record, entries []trustlist.Entry) bool {
	return len(records) == len(entries) && !slices.ContainsFunc(entries, func(e trustlist.Entry) bool {
		return !slices.ContainsFunc(records, func(r trustlist.Record) bool { return r.Role == e.Role && r.Cert != nil && r.Cert.Equal(e.Cert) })
	})
}

// Present says which certificate this node presents to phones now, makes the services' certificates that are missing or due, and publishes the list that follows if
// nobody is lost by it. It is to be called at the start and whenever that certificate changes.
func (p *Publisher) Present(ctx context.Context, node *x509.Certificate) error {
	return p.again(ctx, func(e *estate) (string, error) {
		m := e.Nodes[p.c.Node]
		note := ""
		if !bytes.Equal(m.Node, node.Raw) {
			m.Node = node.Raw
			note = "the certificate of " + p.c.Node + " changed"
		}
		services := map[string]heldKey{}
		for _, role := range p.c.Services {
			h := m.Services[role.String()]
			if len(h.Chain) > 0 {
				if c, err := h.open(); err == nil && !due(c.Leaf, p.now()) && !p.revoked(c.Leaf) {
					services[role.String()] = h
					continue
				}
			}
			fresh, err := p.make(ctx, true, p.c.Node+"-"+strings.ToLower(role.String()))
			if err != nil {
				return "", err
			}
			services[role.String()] = fresh
			note = strings.TrimPrefix(note+", the service "+role.String()+" of "+p.c.Node+" has another certificate", ", ")
		}
		m.Services = services
		e.Nodes[p.c.Node] = m
		return note, nil
	})
}

// again makes a change to the estate, anew if another node was faster.
func (p *Publisher) again(ctx context.Context, change func(*estate) (note string, err error)) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	const tries = 5
	for range tries {
		e, err := p.load(ctx)
		if err != nil {
			return err
		}
		note, err := change(&e)
		if err != nil {
			return err
		}
		_, err = p.commit(ctx, e, note, false)
		if err == nil || ringfence.KindOf(err) != ringfence.KindConflict {
			return err
		}
	}
	return fault(ringfence.KindOverload, "other nodes changed the trust lists at the same time", "try again", nil)
}

func (p *Publisher) revoked(c *x509.Certificate) bool { return p.c.Revoked(c.SerialNumber.Text(16)) }

// Maintain replaces a signer that was revoked or is due, one at a time and only if nobody is lost by it. Call it now and then.
func (p *Publisher) Maintain(ctx context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	e, err := p.load(ctx)
	if err != nil {
		return err
	}
	for _, slot := range Slots() {
		c, err := e.Signers[slot].open()
		if err != nil {
			return err
		}
		if !p.revoked(c.Leaf) && (!due(c.Leaf, p.now()) || p.now().Sub(youngest(e, slot)) < apart) {
			continue
		}
		_, err = p.rotate(ctx, e, slot, false)
		return err
	}
	return p.show(ctx, e, "") // another node may have published
}

// Refresh reads what another node may have published.
func (p *Publisher) Refresh(ctx context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	e, err := p.load(ctx)
	if err != nil {
		return err
	}
	return p.show(ctx, e, "")
}

// apart is how long one signer must have been in the lists before the other is replaced by itself: phones of which we know nothing are to have fetched it.
const apart = 60 * 24 * time.Hour

// youngest returns since when the other signers are good.
func youngest(e estate, but string) (t time.Time) {
	for slot, h := range e.Signers {
		if c, err := h.open(); slot != but && err == nil && c.Leaf.NotBefore.After(t) {
			t = c.Leaf.NotBefore
		}
	}
	return t
}

// Rotate replaces the signer of a slot and publishes the list that follows, signed by the other one. If phones would be lost nothing changes and it is KindConflict, unless
// force says to go on.
func (p *Publisher) Rotate(ctx context.Context, slot string, force bool) (Proposal, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	e, err := p.load(ctx)
	if err != nil {
		return Proposal{}, err
	}
	return p.rotate(ctx, e, slot, force)
}

func (p *Publisher) rotate(ctx context.Context, e estate, slot string, force bool) (Proposal, error) {
	x, err := p.rotated(ctx, e, slot)
	if err != nil {
		return x, err
	}
	if x.lost() && !force {
		return x, fault(ringfence.KindConflict, fmt.Sprintf("phones would be lost by another signer %s: %d are known to hold a list that would not lead to it", slot, len(x.Lost())),
			"see `ringfence trustlist plan --rotate "+slot+"`; let those phones fetch the present list first, or go on with --force", nil)
	}
	return p.commit(ctx, x.estate, "another signer "+slot, force)
}

func (p *Publisher) rotated(ctx context.Context, e estate, slot string) (Proposal, error) {
	if !slices.Contains(Slots(), slot) {
		return Proposal{}, fault(ringfence.KindInvalid, fmt.Sprintf("there is no signer %.20q", slot), "signers are a and b", nil)
	}
	fresh, err := p.make(ctx, false, "list-signer-"+slot)
	if err != nil {
		return Proposal{}, err
	}
	e.Signers = maps.Clone(e.Signers)
	e.Signers[slot] = fresh
	for _, other := range Slots() {
		if other != slot {
			e.By = other
		}
	}
	return p.propose(ctx, e)
}

// Plan says what publishing would do, before anything is published: of the list that waits, or with a slot of the list with another signer there.
func (p *Publisher) Plan(ctx context.Context, slot string) (Proposal, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	e, err := p.load(ctx)
	if err != nil {
		return Proposal{}, err
	}
	if slot == "" {
		return p.propose(ctx, e)
	}
	return p.rotated(ctx, e, slot)
}

// Publish publishes a list that waits. If phones would be lost it is KindConflict, unless force says to go on; if nothing waits, nothing happens.
func (p *Publisher) Publish(ctx context.Context, force bool) (Proposal, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	e, err := p.load(ctx)
	if err != nil {
		return Proposal{}, err
	}
	x, err := p.propose(ctx, e)
	if err != nil {
		return x, err
	}
	if x.Changes && x.lost() && !force {
		return x, fault(ringfence.KindConflict, fmt.Sprintf("phones would be lost: %d are known to hold a list that would not lead to the new one", len(x.Lost())), "see `ringfence trustlist plan`; to go on: --force", nil)
	}
	return p.commit(ctx, e, "published by hand", force)
}

// Published returns the latest list, and why a newer one is not published, if one waits. Before the first its version is 0.
func (p *Publisher) Published() (l store.TrustList, waiting string) {
	v := p.view.Load()
	return v.list, v.waiting
}

// Entries returns what the list says, with what waits.
func (p *Publisher) Entries() []trustlist.Entry { return p.view.Load().entries }

// Service returns the certificate of one of this node's services.
func (p *Publisher) Service(role trustlist.Role) (*tls.Certificate, error) {
	c, ok := p.view.Load().services[role.String()]
	if !ok {
		return nil, fault(ringfence.KindUnavailable, "the service "+role.String()+" has no certificate yet", "see the log for why no trust list was published", nil)
	}
	return c, nil
}

// Holders returns which device fetched which version last.
func (p *Publisher) Holders(ctx context.Context) ([]store.ListHolder, error) {
	return p.c.Shelf.ListHolders(ctx)
}

func fault(k ringfence.Kind, text, hint string, cause error) error {
	return &ringfence.Fault{Op: "publish", Kind: k, Text: text, Hint: hint, Err: cause}
}
