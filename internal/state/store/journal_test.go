package store

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"ringfence"
)

func journalStore(t testing.TB, dir string) *Store {
	t.Helper()
	s, err := Open(ctx(), Config{DSN: "sqlite:" + filepath.Join(dir, "r.db"), KeyFile: filepath.Join(dir, "seal.key")})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func addDevice(t testing.TB, s *Store) {
	t.Helper()
	if err := s.CreateUser(ctx(), User{ID: "alice", Name: "Alice"}); err != nil {
		t.Fatal(err)
	}
	if err := s.CreateDevice(ctx(), Device{ID: "desk", User: "alice", Created: time.Now()}); err != nil {
		t.Fatal(err)
	}
}

func journalBinding(n int) Binding {
	at := time.UnixMicro(time.Now().UnixMicro()).UTC()
	return Binding{AOR: "sip:alice@example.com", Device: "desk", Instance: "urn:uuid:" + strconv.Itoa(n), RegID: 1, Contact: "sip:alice@10.0.0.1:" + strconv.Itoa(n),
		Path: []string{"<sip:a;lr>", "<sip:b;lr>"}, FlowToken: "7", CallID: "c", CSeq: uint32(n), Expires: at.Add(time.Hour), GRUU: "g", UserAgent: "ua", Updated: at,
		Proof: ringfence.Proof{ID: "conn-7", Peer: "device desk", Verdict: ringfence.Sealed, Auth: ringfence.AuthDigestMD5, Via: "edge-1", At: at,
			TLS: &ringfence.TLSProof{Version: "TLS 1.3", Suite: "s", Group: "g", PeerNames: []string{"x"}, Resumed: true}}}
}

func openJournal(t testing.TB, s *Store, dir string, limit int64) *Journal {
	t.Helper()
	j, err := s.OpenJournal(ctx(), JournalConfig{Path: filepath.Join(dir, "b.journal"), Limit: limit, Failed: func(err error) { t.Errorf("fold: %v", err) }})
	if err != nil {
		t.Fatal(err)
	}
	return j
}

// kept returns the bindings by instance.
func kept(t testing.TB, l interface {
	AllBindings(context.Context, time.Time, func(Binding) error) error
}) map[string]Binding {
	t.Helper()
	out := map[string]Binding{}
	if err := l.AllBindings(ctx(), time.Now(), func(b Binding) error { out[b.Instance] = b; return nil }); err != nil {
		t.Fatal(err)
	}
	return out
}

func TestJournalKeepsTheLastWord(t *testing.T) {
	dir := t.TempDir()
	s := journalStore(t, dir)
	defer s.Close()
	addDevice(t, s)
	j := openJournal(t, s, dir, 0)
	one, two, three := journalBinding(1), journalBinding(2), journalBinding(3)
	noErr(t, j.ApplyBindings(ctx(), []Binding{one, two, three}, nil))
	two.UserAgent = "newer"
	stranger, late := journalBinding(4), journalBinding(5)
	stranger.Device, late.Expires = "removed", time.Now().Add(-time.Second)
	noErr(t, j.ApplyBindings(ctx(), []Binding{two, stranger, late}, []BindingKey{one.Key(), {AOR: "nobody", Key: "nothing"}}))
	check := func(when string, got map[string]Binding) {
		t.Helper()
		if want := (map[string]Binding{two.Instance: two, three.Instance: three}); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v\nwant %+v", when, got, want)
		}
	}
	check("open", kept(t, j))
	noErr(t, j.ApplyBindings(ctx(), []Binding{one}, nil))
	noErr(t, j.ApplyBindings(ctx(), nil, []BindingKey{one.Key()}))
	noErr(t, j.Close())
	wantKind(t, j.ApplyBindings(ctx(), []Binding{one}, nil), ringfence.KindUnavailable)
	check("closed", kept(t, s))
	j = openJournal(t, s, dir, 0)
	check("opened again", kept(t, j))
	noErr(t, j.Close())
}

// What the journal takes must be what the database takes, and what it takes it must read back.
func TestJournalRefusesWhatCannotBeKept(t *testing.T) {
	dir := t.TempDir()
	s := journalStore(t, dir)
	defer s.Close()
	addDevice(t, s)
	j := openJournal(t, s, dir, 0)
	good := journalBinding(1)
	for name, change := range map[string]func(*Binding){
		"no aor": func(b *Binding) { b.AOR = "" }, "no contact": func(b *Binding) { b.Contact = "" }, "not UTF-8": func(b *Binding) { b.UserAgent = "\xff" },
		"zero byte": func(b *Binding) { b.Contact = "sip:\x00" }, "reg-id": func(b *Binding) { b.RegID = 1 << 40 }, "negative": func(b *Binding) { b.RegID = -1 },
		"path": func(b *Binding) { b.Path = make([]string, 5000) }, "huge": func(b *Binding) { b.UserAgent = strings.Repeat("x", 2<<20) },
	} {
		b := journalBinding(2)
		change(&b)
		if err := j.ApplyBindings(ctx(), []Binding{good, b}, nil); ringfence.KindOf(err) != ringfence.KindInvalid {
			t.Errorf("%s: %v", name, err)
		}
	}
	wantKind(t, j.ApplyBindings(ctx(), nil, []BindingKey{{AOR: "a", Key: "\xff"}}), ringfence.KindInvalid)
	if got := kept(t, j); len(got) != 0 {
		t.Errorf("kept %+v", got)
	}
	noErr(t, j.Close())
}

func TestJournalFoldsWhenItIsFull(t *testing.T) {
	dir := t.TempDir()
	s := journalStore(t, dir)
	defer s.Close()
	addDevice(t, s)
	j := openJournal(t, s, dir, 2000)
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := range 100 {
				b := journalBinding(w)
				b.CSeq = uint32(i)
				if err := j.ApplyBindings(ctx(), []Binding{b}, nil); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	got := kept(t, j)
	for w := range 4 {
		if b := got["urn:uuid:"+strconv.Itoa(w)]; b.CSeq != 99 {
			t.Errorf("writer %d: %d", w, b.CSeq)
		}
	}
	noErr(t, j.Close())
	for _, p := range []string{"b.journal", "b.journal.old"} {
		if st, err := os.Stat(filepath.Join(dir, p)); err == nil && st.Size() > 0 {
			t.Errorf("%s has %d bytes after a clean close", p, st.Size())
		}
	}
}

// Every state of the disk that a crash can leave is opened, and nothing that was acknowledged is lost or comes back.
func TestJournalAfterACrash(t *testing.T) {
	record := func(put []Binding, remove ...BindingKey) []byte {
		var w recordWriter
		for _, k := range remove {
			w.remove(k)
		}
		for i := range put {
			w.put(&put[i])
		}
		return w.b
	}
	a, b, b2 := journalBinding(1), journalBinding(2), journalBinding(2)
	b2.CSeq = 77
	older, newer := record([]Binding{a, b}), record([]Binding{b2}, a.Key())
	for _, c := range []struct {
		name         string
		folded       [][]byte // what the database has already
		old, journal []byte
		torn         int64
		want         map[string]uint32
	}{
		{name: "before any fold", journal: append(append([]byte{}, older...), newer...), want: map[string]uint32{b.Instance: 77}},
		{name: "renamed, no new file", old: older, want: map[string]uint32{a.Instance: 1, b.Instance: 2}},
		{name: "renamed, new file in use", old: older, journal: newer, want: map[string]uint32{b.Instance: 77}},
		{name: "folded, old file not removed", folded: [][]byte{older}, old: older, journal: newer, want: map[string]uint32{b.Instance: 77}},
		{name: "both folded, none removed", folded: [][]byte{older, newer}, old: older, journal: newer, want: map[string]uint32{b.Instance: 77}},
		{name: "both folded, old removed", folded: [][]byte{older, newer}, journal: newer, want: map[string]uint32{b.Instance: 77}},
		{name: "torn", journal: append(append([]byte{}, older...), newer[:len(newer)-3]...), torn: int64(len(record([]Binding{b2})) - 3), want: map[string]uint32{b.Instance: 2}},
		{name: "torn in the head", journal: append(append([]byte{}, older...), 1, 2, 3), torn: 3, want: map[string]uint32{a.Instance: 1, b.Instance: 2}},
		{name: "zeroes behind", journal: append(append([]byte{}, older...), make([]byte, 4096)...), torn: 4096, want: map[string]uint32{a.Instance: 1, b.Instance: 2}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			s := journalStore(t, dir)
			defer s.Close()
			addDevice(t, s)
			for _, f := range c.folded {
				l := latest{}
				l.replay(f)
				noErr(t, s.fold(ctx(), l))
			}
			for name, content := range map[string][]byte{"b.journal": c.journal, "b.journal.old": c.old} {
				if content != nil {
					noErr(t, os.WriteFile(filepath.Join(dir, name), content, 0o600))
				}
			}
			j := openJournal(t, s, dir, 0)
			if j.Torn != c.torn {
				t.Errorf("torn %d, want %d", j.Torn, c.torn)
			}
			got := map[string]uint32{}
			for k, b := range kept(t, j) {
				got[k] = b.CSeq
			}
			if !reflect.DeepEqual(got, c.want) {
				t.Errorf("%v, want %v", got, c.want)
			}
			noErr(t, j.Close())
		})
	}
}

func TestJournalTakesBackAHalfWrite(t *testing.T) {
	dir := t.TempDir()
	s := journalStore(t, dir)
	defer s.Close()
	addDevice(t, s)
	j := openJournal(t, s, dir, 0)
	noErr(t, j.ApplyBindings(ctx(), []Binding{journalBinding(1)}, nil))
	// A file that is open for reading only fails like a full disk, also when it is to be cut.
	path := filepath.Join(dir, "b.journal")
	good := j.file.file
	bad, err := os.Open(path)
	noErr(t, err)
	j.file.file, j.file.fd = bad, bad.Fd()
	wantKind(t, j.ApplyBindings(ctx(), []Binding{journalBinding(2)}, nil), ringfence.KindUnavailable)
	wantKind(t, j.ApplyBindings(ctx(), []Binding{journalBinding(2)}, nil), ringfence.KindUnavailable)
	noErr(t, bad.Close())
	j.file.file, j.file.fd = good, good.Fd()
	_, err = good.Write([]byte("half a rec")) // what the failed write left
	noErr(t, err)
	noErr(t, j.ApplyBindings(ctx(), []Binding{journalBinding(3)}, nil))
	if got := kept(t, j); len(got) != 2 || got["urn:uuid:3"].CSeq != 3 {
		t.Errorf("kept %+v", got)
	}
	noErr(t, j.Close())
}

// A fold that fails leaves everything where it can be folded later, and the journal goes on.
func TestJournalOutlivesAFailedFold(t *testing.T) {
	dir := t.TempDir()
	s := journalStore(t, dir)
	defer s.Close()
	addDevice(t, s)
	j := openJournal(t, s, dir, 0)
	noErr(t, j.ApplyBindings(ctx(), []Binding{journalBinding(1)}, nil))
	gone, cancel := context.WithCancel(ctx())
	cancel()
	if err := j.Fold(gone); err == nil {
		t.Fatal("a fold without time succeeded")
	}
	noErr(t, j.ApplyBindings(ctx(), []Binding{journalBinding(2)}, nil))
	if got := kept(t, j); len(got) != 2 {
		t.Errorf("kept %+v", got)
	}
	noErr(t, j.Close())
}

const journalChildEnv = "RINGFENCE_JOURNAL_CHILD"

// TestJournalSurvivesKill kills a process that writes, again and again, and looks for everything it had acknowledged.
func TestJournalSurvivesKill(t *testing.T) {
	if dir := os.Getenv(journalChildEnv); dir != "" {
		journalChild(t, dir)
	}
	dir := t.TempDir()
	s := journalStore(t, dir)
	addDevice(t, s)
	noErr(t, s.Close())
	acked := map[int]uint32{}
	for range 3 {
		cmd := exec.Command(os.Args[0], "-test.run=^TestJournalSurvivesKill$")
		cmd.Env = append(os.Environ(), journalChildEnv+"="+dir)
		out, err := cmd.StdoutPipe()
		noErr(t, err)
		noErr(t, cmd.Start())
		lines := bufio.NewScanner(out)
		for n := 0; n < 200+rand.IntN(300) && lines.Scan(); n++ {
			var i int
			var seq uint32
			if _, err := fmt.Sscanf(lines.Text(), "%d %d", &i, &seq); err != nil {
				t.Fatalf("%q: %v", lines.Text(), err)
			}
			acked[i] = seq
		}
		noErr(t, cmd.Process.Signal(syscall.SIGKILL))
		for lines.Scan() { // acknowledged before it died
			var i int
			var seq uint32
			if _, err := fmt.Sscanf(lines.Text(), "%d %d", &i, &seq); err == nil {
				acked[i] = seq
			}
		}
		if err := cmd.Wait(); !errors.As(err, new(*exec.ExitError)) {
			t.Fatalf("the child ended by itself: %v", err)
		}
	}
	s = journalStore(t, dir)
	defer s.Close()
	j := openJournal(t, s, dir, 0)
	got := kept(t, j)
	if len(acked) < 10 {
		t.Fatalf("only %d bindings were acknowledged", len(acked))
	}
	for i, seq := range acked {
		if b := got["urn:uuid:"+strconv.Itoa(i)]; b.CSeq < seq {
			t.Errorf("binding %d: CSeq %d was acknowledged, %d is there", i, seq, b.CSeq)
		}
	}
	noErr(t, j.Close())
}

func journalChild(t *testing.T, dir string) {
	s := journalStore(t, dir)
	j := openJournal(t, s, dir, 5000) // folds all the time, so that the kill hits every step
	base := uint32(0)
	for _, b := range kept(t, j) {
		base = max(base, b.CSeq)
	}
	for n := uint32(1); ; n++ {
		i := int(n % 20)
		b := journalBinding(i)
		b.CSeq = base + n
		noErr(t, j.ApplyBindings(ctx(), []Binding{b}, nil))
		if _, err := io.WriteString(os.Stdout, fmt.Sprintf("%d %d\n", i, b.CSeq)); err != nil {
			os.Exit(1)
		}
	}
}

func FuzzJournalReplay(f *testing.F) {
	var w recordWriter
	b := journalBinding(1)
	w.put(&b)
	f.Add(w.b)
	b.Proof.Media = &ringfence.MediaProof{Suite: "x", MOS: 4}
	b.Proof.TLS = nil
	w.put(&b)
	w.remove(b.Key())
	f.Add(w.b)
	f.Add(w.b[:len(w.b)-1])
	f.Add([]byte{1, 0, 0, 0, 0, 0, 0, 0, 1})
	f.Fuzz(func(t *testing.T, in []byte) {
		l := latest{}
		whole := l.replay(in)
		if whole < 0 || whole > len(in) {
			t.Fatalf("%d of %d bytes", whole, len(in))
		}
		// The body alone, without a checksum in the way: what it says can be written and read again.
		if len(in) > 0 {
			l = latest{}
			if l.apply(in) {
				for k, b := range l {
					var w recordWriter
					if b == nil {
						w.remove(k)
					} else {
						w.put(b)
					}
					again := latest{}
					if n := again.replay(w.b); w.err == nil && (n != len(w.b) || len(again) != 1) {
						t.Fatalf("what was read cannot be read again: %+v", b)
					}
				}
			}
		}
	})
}

func BenchmarkJournal(b *testing.B) {
	for _, n := range []int{1, 16} {
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			dir := b.TempDir()
			s := journalStore(b, dir)
			defer s.Close()
			addDevice(b, s)
			j := openJournal(b, s, dir, 1<<40)
			batch := make([]Binding, n)
			for i := range batch {
				batch[i] = journalBinding(i)
			}
			b.ReportAllocs()
			for b.Loop() {
				if err := j.ApplyBindings(ctx(), batch, nil); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/binding")
			j.mu.Lock()
			_ = j.file.file.Truncate(0)
			j.file.size = 0
			j.mu.Unlock()
			_ = j.Close()
		})
	}
}
