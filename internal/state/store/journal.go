package store

import (
	"context"
	"errors"
	"io/fs"
	"math"
	"os"
	"sync"
	"time"

	"ringfence"
)

// Journal keeps bindings in front of the database: a change is one append to a file, where a transaction would cost many times
// as much, and the database catches up now and then. A phone refreshes its binding far more often than anybody reads it from disk.
//
// What ApplyBindings has acknowledged was handed to the kernel and so survives the death of the process; with Sync it survives a
// power cut. The file is folded into the database when it has grown to its limit, when the journal is opened and when it is
// closed. While it is open, only the journal knows the latest bindings: ask it, not the database.
//
// Two files can exist: the journal itself and, while it is being folded, its older half with the suffix ".old". Folding keeps the
// last word about each binding, so doing it again after a crash changes nothing.
type Journal struct {
	store *Store
	cfg   JournalConfig
	// Torn is how many bytes at the end of the file could not be read when it was opened: a record that a crash cut short.
	Torn int64

	mu     sync.Mutex
	file   appendFile
	foldAt int64 // the size at which to fold
	w      recordWriter
	closed bool

	folding sync.Mutex // held while the old half is folded
	wg      sync.WaitGroup
}

// JournalConfig says where a journal is kept.
type JournalConfig struct {
	Path  string
	Sync  bool  // flush the disk at each change
	Limit int64 // bytes at which the file is folded; zero means 64 MiB
	// Failed, if not nil, hears of a fold that failed in the background; it will be tried again.
	Failed func(error)
}

// OpenJournal opens the journal of bindings that belongs to s, and folds what is left from before into the database.
func (s *Store) OpenJournal(ctx context.Context, cfg JournalConfig) (*Journal, error) {
	if cfg.Limit == 0 {
		cfg.Limit = 64 << 20
	}
	j := &Journal{store: s, cfg: cfg}
	if err := j.foldAll(ctx); err != nil {
		return nil, err
	}
	return j, j.create()
}

func (j *Journal) old() string { return j.cfg.Path + ".old" }

// create begins an empty file. It is called with mu held, or before anybody knows j.
func (j *Journal) create() error {
	f, err := createAppend(j.cfg.Path)
	if err != nil {
		return err
	}
	j.file, j.foldAt = f, j.cfg.Limit
	return nil
}

// ApplyBindings keeps puts and removals; on error none of them is kept. See [Store.ApplyBindings]; removals come first.
func (j *Journal) ApplyBindings(_ context.Context, put []Binding, remove []BindingKey) error {
	const op = "store.journal.put"
	for i := range put {
		if err := checkBinding(op, &put[i]); err != nil {
			return err
		}
	}
	for _, k := range remove {
		if !isText(k.AOR) || !isText(k.Key) {
			return badText(op)
		}
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closed {
		return fault(op, ringfence.KindUnavailable, "the journal is closed", "", nil)
	}
	j.w.b, j.w.err = j.w.b[:0], nil
	for _, k := range remove {
		j.w.remove(k)
	}
	for i := range put {
		j.w.put(&put[i])
	}
	if j.w.err != nil {
		return j.w.err
	}
	if err := j.file.write(j.w.b, j.cfg.Sync); err != nil {
		return err
	}
	if cap(j.w.b) > maxRecord {
		j.w.b = nil
	}
	if j.file.size >= j.foldAt {
		j.foldAt = j.file.size + j.cfg.Limit // if this fold fails, the next attempt is as far away
		j.wg.Go(j.foldBehind)
	}
	return nil
}

// ExpireBindings removes the bindings of these keys. Nobody else writes to a database behind a journal, so they are what the caller knows.
func (j *Journal) ExpireBindings(ctx context.Context, keys []BindingKey, _ time.Time) error {
	return j.ApplyBindings(ctx, nil, keys)
}

// checkBinding refuses what the database would refuse when the journal is folded, and what replay would take for damage.
func checkBinding(op string, b *Binding) error {
	if b.AOR == "" || b.Contact == "" {
		return fault(op, ringfence.KindInvalid, "a binding needs an address-of-record and a contact", "", nil)
	}
	if len(b.Path) > maxRecordList || b.RegID < 0 || b.RegID > math.MaxInt32 {
		return fault(op, ringfence.KindInvalid, "a binding has too long a path, or a reg-id out of range", "", nil)
	}
	for _, s := range [...]string{b.AOR, string(b.Device), b.Instance, b.Contact, b.FlowToken, b.CallID, b.GRUU, b.UserAgent} {
		if !isText(s) {
			return badText(op)
		}
	}
	return nil
}

func (j *Journal) foldBehind() {
	if err := j.Fold(context.Background()); err != nil && j.cfg.Failed != nil {
		j.cfg.Failed(err)
	}
}

// Fold brings the database up to date with what the journal holds now.
func (j *Journal) Fold(ctx context.Context) error {
	j.folding.Lock()
	defer j.folding.Unlock()
	if err := j.foldFile(ctx, j.old()); err != nil { // left by a fold that failed; it must go first
		return err
	}
	j.mu.Lock()
	if j.closed || j.file.size == 0 {
		j.mu.Unlock()
		return nil
	}
	err := j.rotate()
	j.mu.Unlock()
	if err != nil {
		return err
	}
	return j.foldFile(ctx, j.old())
}

// rotate makes the file the old half and begins a new one. It is called with mu held. If it fails, the file goes on as it was.
func (j *Journal) rotate() error {
	full := j.file
	if err := os.Rename(j.cfg.Path, j.old()); err != nil {
		return fault("store.journal", ringfence.KindUnavailable, "the journal cannot be renamed", "", err)
	}
	if err := j.create(); err != nil {
		_ = os.Rename(j.old(), j.cfg.Path)
		return err
	}
	_ = full.close()
	return nil
}

// foldAll folds both files, the older first. A crash between the two steps leaves the newer one, whose last words still hold.
func (j *Journal) foldAll(ctx context.Context) error {
	all := latest{}
	for _, path := range []string{j.old(), j.cfg.Path} {
		torn, err := all.read(path)
		if err != nil {
			return err
		}
		j.Torn += torn
	}
	if err := j.store.fold(ctx, all); err != nil {
		return err
	}
	for _, path := range []string{j.old(), j.cfg.Path} {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fault("store.journal", ringfence.KindUnavailable, "a journal that was read cannot be removed", "", err)
		}
	}
	return nil
}

func (j *Journal) foldFile(ctx context.Context, path string) error {
	l := latest{}
	if _, err := l.read(path); err != nil {
		return err
	}
	if err := j.store.fold(ctx, l); err != nil {
		return err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fault("store.journal", ringfence.KindUnavailable, "a journal that was read cannot be removed", "", err)
	}
	return nil
}

// read replays a file, which need not exist, and returns how many bytes at its end were torn.
func (l latest) read(path string) (torn int64, err error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fault("store.journal", ringfence.KindUnavailable, "the journal "+path+" cannot be read", "", err)
	}
	return int64(len(b) - l.replay(b)), nil
}

// fold writes what a journal came to into the database, in one transaction. Bindings of devices that were removed meanwhile, and
// those that have expired, are left out.
func (s *Store) fold(ctx context.Context, l latest) error {
	if len(l) == 0 {
		return nil
	}
	return s.Tx(ctx, func(tx *Tx) error {
		devices, err := selectAll(ctx, tx.r, "store.journal.fold", func(row scanner) (id string, err error) { return id, row.Scan(&id) }, `SELECT id FROM devices`)
		if err != nil {
			return err
		}
		known := make(map[ringfence.DeviceID]bool, len(devices))
		for _, id := range devices {
			known[ringfence.DeviceID(id)] = true
		}
		var put []Binding
		var remove []BindingKey
		now := time.Now()
		for k, b := range l {
			if b == nil || !known[b.Device] || !b.Expires.After(now) {
				remove = append(remove, k)
			} else {
				put = append(put, *b)
			}
		}
		return tx.ApplyBindings(ctx, put, remove)
	})
}

// AllBindings folds the journal and then calls each for every binding in the database. See [Store.AllBindings].
func (j *Journal) AllBindings(ctx context.Context, now time.Time, each func(Binding) error) error {
	if err := j.Fold(ctx); err != nil {
		return err
	}
	return j.store.AllBindings(ctx, now, each)
}

// Close folds the journal into the database and ends it. If folding fails, the file stays and the next OpenJournal folds it.
func (j *Journal) Close() error {
	err := j.Fold(context.Background())
	j.mu.Lock()
	if !j.closed {
		j.closed = true
		err = firstOf(err, j.file.close())
	}
	j.mu.Unlock()
	j.wg.Wait()
	return err
}
