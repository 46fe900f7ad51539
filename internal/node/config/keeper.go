package config

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"ringfence"
	"ringfence/internal/state/durable"
	"ringfence/internal/state/store"
	"ringfence/internal/trust/tlspolicy"
)

// Versions keeps every configuration that was in force, of every node; *store.Store is one.
type Versions interface {
	AddConfigVersion(ctx context.Context, v store.ConfigVersion) error
	ConfigVersion(ctx context.Context, n int64) (store.ConfigVersion, error)
	ConfigVersionBefore(ctx context.Context, node string, n int64) (store.ConfigVersion, error)
	ConfigVersions(ctx context.Context, node string, limit int) ([]store.ConfigVersion, error)
}

// Plan says what a new configuration changes.
type Plan struct {
	Version int64 // what it is kept as; 0 before it was applied
	Changes []Change
	Flows   []FlowChange
	Risks   []string // whom it would shut out that the configuration before does not, as PLACE: SETTING: TEXT
	Notes   []string // what of it is not served, and was before or was not asked for, in the same form
}

// Restart reports whether some of the changes take a restart.
func (p Plan) Restart() bool {
	for _, c := range p.Changes {
		if c.Restart {
			return true
		}
	}
	return false
}

// KeeperConfig holds what a Keeper needs.
type KeeperConfig struct {
	File     string // the configuration file: the truth at the next start
	Running  Config // what the node was started with, overrides included
	Versions Versions
	// Override puts what the command line said over a configuration; nil: nothing.
	Override func(*Config)
	// Check says what is wrong with a configuration that only the running node can know; nil: nothing is.
	Check func(Config) error
	// Presents returns the certificate that peers see of an identity, or nil if there is none yet; nil: of none.
	Presents func(alias string) *x509.Certificate
	// Live puts the live settings of a checked configuration into force. It cannot fail: what could is checked before.
	Live func(Config)
	Now  func() time.Time // nil: time.Now
}

// Keeper owns the configuration of a running node: it plans, applies and undoes changes, one at a time. Its methods may be
// called from any goroutine.
type Keeper struct {
	c    KeeperConfig
	node string // whose configuration it is

	// mu makes changes one at a time, so it is held while one is made: Versions and Live must not call back.
	mu      sync.Mutex
	text    string // what the file says
	wanted  Config // what the file means
	running Config
}

// NewKeeper reads the file, which may be missing, and keeps what it says as a version if it is not the latest one.
func NewKeeper(ctx context.Context, c KeeperConfig) (*Keeper, error) {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Override == nil {
		c.Override = func(*Config) {}
	}
	if c.Presents == nil {
		c.Presents = func(string) *x509.Certificate { return nil }
	}
	k := &Keeper{c: c, node: c.Running.Node, running: c.Running}
	b, err := os.ReadFile(c.File)
	switch {
	case errors.Is(err, os.ErrNotExist):
		k.wanted = c.Running // there is no file: what the node was given is what is wanted
		if b, err = Export(c.Running); err != nil {
			return nil, err
		}
	case err != nil:
		return nil, &ringfence.Fault{Op: "config.open", Kind: ringfence.KindUnavailable, Text: "the configuration cannot be read", Err: err}
	default:
		if k.wanted, err = Read(b, filepath.Base(c.File)); err != nil {
			return nil, err
		}
	}
	k.text = string(b)
	_, err = k.remember(ctx, k.text, "file", "found at start")
	return k, err
}

// remember keeps a text as the next version, unless it is this node's latest one already, and returns its number.
func (k *Keeper) remember(ctx context.Context, text, author, note string) (int64, error) {
	mine, err := k.c.Versions.ConfigVersionBefore(ctx, k.node, 0)
	if err != nil && ringfence.KindOf(err) != ringfence.KindNotFound {
		return 0, err
	}
	if err == nil && mine.YAML == text {
		return mine.N, nil
	}
	const tries = 10 // other nodes of the database keep theirs at the same time
	for range tries {
		var last store.ConfigVersion
		if last, err = k.c.Versions.ConfigVersion(ctx, 0); err != nil && ringfence.KindOf(err) != ringfence.KindNotFound {
			return 0, err
		}
		v := store.ConfigVersion{N: last.N + 1, Node: k.node, YAML: text, Author: author, At: k.c.Now(), Note: note}
		if err = k.c.Versions.AddConfigVersion(ctx, v); ringfence.KindOf(err) != ringfence.KindConflict || err == nil {
			return v.N, err
		}
	}
	return 0, err
}

// Text returns the configuration file as it was last applied.
func (k *Keeper) Text() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.text
}

// Whole returns every setting that the file means, defaults included, as a file.
func (k *Keeper) Whole() ([]byte, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return Export(k.wanted)
}

// Waiting returns the settings that were changed and wait for a restart.
func (k *Keeper) Waiting() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	next := k.wanted
	k.c.Override(&next)
	changes, err := Diff(k.running, next)
	if err != nil {
		return nil
	}
	var keys []string
	for _, c := range changes {
		if c.Restart {
			keys = append(keys, c.Key)
		}
	}
	return keys
}

// Plan checks a text and says what it would change. Nothing changes.
func (k *Keeper) Plan(text, name string) (Plan, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	_, p, err := k.plan(Parse, text, name)
	return p, err
}

// reader is Parse or Read.
type reader func(b []byte, name string) (Config, error)

func (k *Keeper) plan(read reader, text, name string) (Config, Plan, error) {
	next, err := read([]byte(text), name)
	if err != nil {
		return next, Plan{}, err
	}
	if k.c.Check != nil {
		if err := k.c.Check(next); err != nil {
			return next, Plan{}, err
		}
	}
	changes, err := Diff(k.wanted, next)
	return next, Plan{Changes: changes, Flows: DiffFlows(k.wanted.Flows(), next.Flows()), Risks: k.risks(next), Notes: k.notes(next)}, err
}

// risks returns whom a configuration shuts out that the present one does not.
func (k *Keeper) risks(next Config) (out []string) {
	of := func(c Config) []tlspolicy.Wrong {
		return c.TLS.Risks(tlspolicy.Site{Domain: c.Domain, Listens: c.ListensTLS(), Presents: k.c.Presents, FIPS: c.inFIPS()})
	}
	before := of(k.wanted)
	for _, r := range of(next) {
		if !slices.Contains(before, r) {
			out = append(out, r.Path+": "+r.Text)
		}
	}
	return out
}

// notes returns the notes on a configuration that the present one does not have.
func (k *Keeper) notes(next Config) (out []string) {
	before := k.wanted.Notes()
	for _, n := range next.Notes() {
		if !slices.Contains(before, n) {
			out = append(out, n)
		}
	}
	return out
}

// Apply checks a text, keeps it as a version, writes it to the file and puts its live settings into force: all of it or nothing.
func (k *Keeper) Apply(ctx context.Context, text, name, author, note string) (Plan, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.apply(ctx, Parse, text, name, author, note, true)
}

func (k *Keeper) apply(ctx context.Context, read reader, text, name, author, note string, write bool) (Plan, error) {
	next, p, err := k.plan(read, text, name)
	if err != nil {
		return p, err
	}
	old, had := []byte(nil), false
	if write {
		if b, err := os.ReadFile(k.c.File); err == nil {
			old, had = b, true
		}
		if had && string(old) != k.text && string(old) != text {
			return p, &ringfence.Fault{Op: "config.write", Kind: ringfence.KindConflict, Text: "somebody edited " + k.c.File + " and did not apply that yet; it would be lost, and nothing was changed",
				Hint: "apply it first: `ringfence config apply " + k.c.File + "`"}
		}
		if err := replaceFile(k.c.File, []byte(text)); err != nil {
			return p, err
		}
	}
	if p.Version, err = k.remember(ctx, text, author, note); err != nil {
		if write {
			back := func() error { return os.Remove(k.c.File) }
			if had {
				back = func() error { return replaceFile(k.c.File, old) }
			}
			if undone := back(); undone != nil {
				err = errors.Join(err, undone)
			}
		}
		return p, err
	}
	k.text, k.wanted = text, next
	overridden := next
	k.c.Override(&overridden)
	k.running = Merge(k.running, overridden)
	if k.c.Live != nil {
		k.c.Live(k.running)
	}
	return p, nil
}

// EditTLS changes the tree of TLS settings and nothing else of the file. A change that shuts people out is KindConflict, unless force says to go on.
func (k *Keeper) EditTLS(ctx context.Context, author, note string, force bool, change func(tlspolicy.Tree) (tlspolicy.Tree, error)) (Plan, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	tree, err := change(k.wanted.TLS)
	if err != nil {
		return Plan{}, err
	}
	text, err := withTLS(k.text, tree)
	if err != nil {
		return Plan{}, err
	}
	if !force {
		_, p, err := k.plan(Read, text, filepath.Base(k.c.File))
		if err != nil {
			return p, err
		}
		if len(p.Risks) > 0 {
			return p, &ringfence.Fault{Op: "config.edit", Kind: ringfence.KindConflict, Text: "people would be shut out, and nothing was changed: " + strings.Join(p.Risks, "; "), Hint: "if that is meant, go on with --force"}
		}
	}
	return k.apply(ctx, Read, text, filepath.Base(k.c.File), author, note, true) // a sound that is gone has nothing to do with it
}

// Reload applies the file as it is now, e.g. after it was edited by hand.
func (k *Keeper) Reload(ctx context.Context) (Plan, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	b, err := os.ReadFile(k.c.File)
	if err != nil {
		return Plan{}, &ringfence.Fault{Op: "config.reload", Kind: ringfence.KindNotFound, Text: "the configuration cannot be read", Err: err}
	}
	return k.apply(ctx, Parse, string(b), filepath.Base(k.c.File), "file", "reloaded", false)
}

const undoNote = "undo: back to version "

// Undo applies an earlier version again: the given one, or with 0 the one before the present one. Undoing twice goes two
// versions back.
func (k *Keeper) Undo(ctx context.Context, to int64, author string) (Plan, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if to == 0 {
		last, err := k.c.Versions.ConfigVersionBefore(ctx, k.node, 0)
		if err != nil {
			return Plan{}, err
		}
		from, err := k.origin(ctx, last)
		if err != nil {
			return Plan{}, err
		}
		before, err := k.c.Versions.ConfigVersionBefore(ctx, k.node, from)
		if err != nil && ringfence.KindOf(err) != ringfence.KindNotFound {
			return Plan{}, err
		}
		to = before.N
	}
	if to < 1 {
		return Plan{}, &ringfence.Fault{Op: "config.undo", Kind: ringfence.KindConflict, Text: "there is no earlier configuration", Hint: "see `ringfence config versions`"}
	}
	v, err := k.c.Versions.ConfigVersion(ctx, to)
	if err != nil {
		return Plan{}, err
	}
	if v.Node != "" && v.Node != k.node {
		return Plan{}, &ringfence.Fault{Op: "config.undo", Kind: ringfence.KindConflict, Text: fmt.Sprintf("version %d is the configuration of %s", to, v.Node),
			Hint: "see `ringfence config versions` for those of " + k.node}
	}
	if to, err = k.origin(ctx, v); err != nil {
		return Plan{}, err
	}
	return k.apply(ctx, Parse, v.YAML, fmt.Sprintf("version %d", to), author, undoNote+strconv.FormatInt(to, 10), true)
}

// origin returns the number of the version that v went back to, or its own.
func (k *Keeper) origin(ctx context.Context, v store.ConfigVersion) (int64, error) {
	for {
		back, ok := strings.CutPrefix(v.Note, undoNote)
		n, err := strconv.ParseInt(back, 10, 64)
		if !ok || err != nil || n >= v.N {
			return v.N, nil
		}
		if v, err = k.c.Versions.ConfigVersion(ctx, n); err != nil {
			return 0, err
		}
	}
}

// List returns up to limit versions of this node, latest first.
func (k *Keeper) List(ctx context.Context, limit int) ([]store.ConfigVersion, error) {
	return k.c.Versions.ConfigVersions(ctx, k.node, limit)
}

// replaceFile puts a file in place at once. It is readable by its owner only, since a database address may hold a password.
func replaceFile(path string, b []byte) error {
	if err := durable.Replace(path, b); err != nil {
		return &ringfence.Fault{Op: "config.write", Kind: ringfence.KindUnavailable, Text: "the configuration file " + path + " cannot be written", Err: err,
			Hint: "let the node's user write the file and its directory"}
	}
	return nil
}
