package publicname

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"net/url"
	"slices"
	"sync"
	"time"

	"ringfence"
)

// Bounds of time.
const (
	lookTime   = 5 * time.Minute  // between two looks whether something is due
	orderTime  = 10 * time.Minute // what an order may take
	leaseTime  = 15 * time.Minute // how long another node leaves a node that orders alone, even if that one is gone
	firstWait  = 15 * time.Minute // after a failure
	longestTry = 6 * time.Hour
	longestAsk = 7 * 24 * time.Hour // what an authority may ask us to wait
	maxSteps   = 60
)

// State says what a Keeper is doing.
type State string

// The states of a Keeper.
const (
	Waiting  State = "waiting"  // for the time of renewal, or for the next attempt
	Ordering State = "ordering" // an order runs
	Foreign  State = "foreign"  // the alias belongs to an identity that somebody brought, which is left alone
)

// Step is something that an order did.
type Step struct {
	At   time.Time
	Text string
}

// Status is how it stands.
type Status struct {
	Names     []string
	Alias     string
	Directory string
	Challenge string
	State     State
	Account   string    // URL; empty: none yet
	Serial    string    // of the certificate in use, in hexadecimal; empty: none yet
	Issuer    string    // its issuer
	Until     time.Time // its end
	Renewal   time.Time // when it is to be renewed
	Next      time.Time // the next attempt; zero while one runs or none is to come
	Tried     time.Time // the last attempt
	Failures  int       // since a certificate came last
	Error     string    // of the last attempt, if it failed
	Hint      string
	Steps     []Step // of the last order of this node, or of the one that runs
}

// Keeper keeps a certificate for public names. Its methods may be called from any goroutine.
type Keeper struct {
	c      Config
	origin string
	wake   chan struct{}

	mu       sync.Mutex
	rec      record // as it was read last
	ordering bool
	wanted   bool // somebody wants a renewal now
	steps    []Step
}

// Open reads what is known of the account, and makes its key the first time. Nothing is sent before Run.
func Open(ctx context.Context, c Config) (*Keeper, error) {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Audit == nil {
		c.Audit = func(context.Context, string, string, string) error { return nil }
	}
	u, err := url.Parse(c.Directory)
	if err != nil || u.Scheme != "https" || u.Hostname() == "" {
		return nil, fault(ringfence.KindInvalid, "the directory "+clean(c.Directory, 120)+" is no https URL", "", nil)
	}
	k := &Keeper{c: c, origin: originOf(u), wake: make(chan struct{}, 1)}
	k.rec, _, err = k.load(ctx)
	return k, err
}

// Run orders whenever that is due, until ctx is over.
func (k *Keeper) Run(ctx context.Context) {
	tick := time.NewTicker(lookTime)
	defer tick.Stop()
	for {
		k.once(ctx)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-k.wake:
		}
	}
}

// Renew has an order begin at once, as far as the authority lets us. How it goes is in the Status.
func (k *Keeper) Renew(ctx context.Context) error {
	r, _, err := k.load(ctx)
	if err != nil {
		return err
	}
	now := k.c.Now()
	k.mu.Lock()
	defer k.mu.Unlock()
	k.rec = r
	switch leaf := k.leaf(); {
	case leaf != nil && !k.ours(r, leaf):
		return k.foreign()
	case k.ordering || k.wanted:
		return fault(ringfence.KindConflict, "an order runs already", "see `ringfence trust public status`", nil)
	case r.leased(now, k.c.Node):
		return fault(ringfence.KindConflict, "the node "+clean(r.Node, 64)+" is ordering", "see `ringfence trust public status` there", nil)
	case r.Limited && now.Before(r.Next):
		return fault(ringfence.KindOverload, "the authority takes no order from us before "+r.Next.UTC().Format(time.RFC3339), "it was: "+r.Error, nil)
	}
	k.wanted, k.steps = true, nil
	select {
	case k.wake <- struct{}{}:
	default:
	}
	return nil
}

// leased reports whether another node is ordering.
func (r record) leased(now time.Time, node string) bool { return now.Before(r.Lease) && r.Node != node }

func (k *Keeper) foreign() error {
	return fault(ringfence.KindConflict, "the identity "+k.c.Alias+" was brought by somebody, and is left alone", "remove it (`ringfence trust identity remove "+k.c.Alias+"`), or set another alias in trust.public", nil)
}

// leaf returns the certificate in use, or nil.
func (k *Keeper) leaf() *x509.Certificate {
	c, err := k.c.Ring.Certificate(k.c.Alias)
	if err != nil || len(c.Certificate) == 0 {
		return nil
	}
	if c.Leaf != nil {
		return c.Leaf
	}
	leaf, err := x509.ParseCertificate(c.Certificate[0])
	if err != nil {
		return nil
	}
	return leaf
}

func fingerprint(c *x509.Certificate) string {
	sum := sha256.Sum256(c.Raw)
	return hex.EncodeToString(sum[:])
}

// ours reports whether a certificate came by an order of ours. One whose order was interrupted is among them.
func (k *Keeper) ours(r record, leaf *x509.Certificate) bool {
	return slices.Contains(r.Leaves, fingerprint(leaf))
}

// due returns when the next order is to be made, and false if none is.
func (k *Keeper) due(r record) (time.Time, bool) {
	leaf := k.leaf()
	switch {
	case leaf == nil:
		return r.Next, true
	case !k.ours(r, leaf):
		return time.Time{}, false
	case !sameNames(leaf.DNSNames, k.c.Names) && r.Node != "" && r.Node != k.c.Node && sameNames(leaf.DNSNames, r.Names):
		return time.Time{}, false // another node has its own names under this alias: replacing each other would never end
	case !sameNames(leaf.DNSNames, k.c.Names):
		return r.Next, true
	}
	return maxTime(renewAt(leaf), r.Next), true
}

// once orders if that is due.
func (k *Keeper) once(ctx context.Context) {
	r, _, err := k.load(ctx)
	if err != nil {
		if ctx.Err() == nil {
			k.c.Log.Error("the ACME account could not be read", "err", err, "hint", ringfence.HintOf(err))
		}
		return
	}
	now := k.c.Now()
	k.mu.Lock()
	k.rec = r
	at, some := k.due(r)
	begin := some && (k.wanted || !now.Before(at)) && !r.leased(now, k.c.Node)
	k.wanted = false
	if begin {
		k.ordering, k.steps = true, nil
	}
	k.mu.Unlock()
	if !begin {
		return
	}
	k.attempt(ctx)
	k.mu.Lock()
	k.ordering = false
	k.mu.Unlock()
}

// attempt makes one order and keeps how it ended.
func (k *Keeper) attempt(ctx context.Context) {
	errBusy := fault(ringfence.KindConflict, "another node is ordering", "", nil)
	var before record
	r, err := k.change(ctx, func(r *record) error {
		if r.leased(k.c.Now(), k.c.Node) {
			return errBusy
		}
		before = *r
		now := k.c.Now().UTC().Truncate(time.Second)
		r.Node, r.Lease, r.Tried = k.c.Node, now.Add(leaseTime), now
		// It counts as failed until it has succeeded: whoever is killed in the middle, again and again, shall not order again and again.
		r.Failures, r.Limited, r.Error, r.Hint = r.Failures+1, false, "the node ended in the middle of an order", ""
		r.Next = now.Add(pause(r.Failures))
		return nil
	})
	if err != nil {
		k.step("not begun: " + err.Error())
		return
	}
	limit, cancel := context.WithTimeout(ctx, orderTime)
	defer cancel()
	o := &order{k: k, rec: r, guard: &guard{origin: k.origin, next: k.c.Transport, left: maxRequests, now: k.c.Now}}
	err = o.run(limit)
	now := k.c.Now()
	if err != nil && ctx.Err() != nil { // we are stopping; it is nobody's failure, and the lease is given back
		err = fault(ringfence.KindCancelled, "the node was stopped during the order", "", nil)
	}
	// What happened is kept also when we are stopping.
	keep, done := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer done()
	outcome := "done"
	r, kept := k.change(keep, func(r *record) error {
		r.Lease = time.Time{}
		if o.account != "" {
			r.Account = o.account
		}
		if o.lost {
			r.Account = ""
		}
		switch {
		case err == nil:
			r.Names, r.Done, r.Failures, r.Next, r.Limited, r.Error, r.Hint = k.c.Names, now.UTC().Truncate(time.Second), 0, time.Time{}, false, "", ""
		case ringfence.KindOf(err) == ringfence.KindCancelled:
			r.Failures, r.Next, r.Limited, r.Error, r.Hint = before.Failures, before.Next, before.Limited, before.Error, before.Hint
		default:
			r.Error, r.Hint = clean(textOf(err), 500), clean(ringfence.HintOf(err), 300)
			wait := pause(r.Failures)
			r.Limited = o.guard.patient > wait
			r.Next = now.Add(max(wait, min(o.guard.patient, longestAsk))).UTC().Truncate(time.Second)
		}
		return nil
	})
	if kept == nil {
		k.mu.Lock()
		k.rec = r
		k.mu.Unlock()
	} else {
		k.c.Log.Error("how an ACME order ended could not be kept", "err", kept, "hint", ringfence.HintOf(kept))
	}
	if err != nil {
		outcome = clean(textOf(err), 200)
		k.step("failed: " + outcome)
		k.c.Log.Error("a certificate for public names could not be ordered; what is there stays in use", "alias", k.c.Alias, "err", err, "hint", ringfence.HintOf(err), "next", r.Next)
	} else {
		k.c.Log.Info("there is a new certificate for public names", "alias", k.c.Alias, "names", k.c.Names)
	}
	if err := k.c.Audit(keep, "publicname.order", k.c.Alias+" "+clean(k.c.Names[0], 64), outcome); err != nil {
		k.c.Log.Error("an ACME order could not be audited", "err", err)
	}
}

// pause is how long to wait after so many failures in a row: an authority counts failed attempts by the hour.
func pause(failures int) time.Duration {
	d := firstWait
	for range min(failures, 10) - 1 {
		d *= 2
	}
	return min(d, longestTry)
}

func (k *Keeper) step(text string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.steps) < maxSteps {
		k.steps = append(k.steps, Step{k.c.Now().UTC(), clean(text, 300)})
	}
}

// Status returns how it stands.
func (k *Keeper) Status() Status {
	k.mu.Lock()
	defer k.mu.Unlock()
	r := k.rec
	s := Status{Names: slices.Clone(k.c.Names), Alias: k.c.Alias, Directory: k.c.Directory, Challenge: k.c.Challenge, State: Waiting, Account: r.Account, Tried: r.Tried, Failures: r.Failures, Error: r.Error, Hint: r.Hint,
		Steps: slices.Clone(k.steps)}
	if leaf := k.leaf(); leaf != nil {
		if !k.ours(r, leaf) {
			s.State, s.Error, s.Hint = Foreign, textOf(k.foreign()), ringfence.HintOf(k.foreign())
			return s
		}
		s.Serial, s.Issuer, s.Until, s.Renewal = leaf.SerialNumber.Text(16), leaf.Issuer.String(), leaf.NotAfter.UTC(), renewAt(leaf).UTC()
	}
	at, some := k.due(r)
	switch {
	case k.ordering || k.wanted:
		s.State = Ordering
	case some:
		s.Next = maxTime(at, k.c.Now()).UTC().Truncate(time.Second)
	case s.Error == "":
		s.Error = "the node " + clean(r.Node, 64) + " keeps other names under the alias " + k.c.Alias
		s.Hint = "set another alias in trust.public of one of the two nodes"
	}
	return s
}

func textOf(err error) string {
	f, ok := err.(*ringfence.Fault)
	if !ok {
		return err.Error()
	}
	if f.Err != nil {
		return f.Text + ": " + f.Err.Error()
	}
	return f.Text
}
