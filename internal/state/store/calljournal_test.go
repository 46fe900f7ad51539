package store

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"ringfence"
)

func openCallJournal(t testing.TB, s *Store, path string, limit int64) (*CallJournal, []CDR) {
	t.Helper()
	j, recovered, err := s.OpenCallJournal(ctx(), CallJournalConfig{Path: path, Limit: limit, Cause: "killed"})
	if err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(recovered, func(a, b CDR) int { return strings.Compare(string(a.Call), string(b.Call)) })
	return j, recovered
}

// journalCall is a call that was answered at second 2 and has all that a record can have.
func journalCall(id ringfence.CallID) CDR {
	return CDR{Call: id, Start: at(1), Answer: at(2), From: "100", To: "200", Direction: "internal", Verdict: ringfence.Sealed, Legs: []ringfence.Proof{
		{ID: string(id) + "-a", Peer: "device d", Verdict: ringfence.Sealed, Auth: ringfence.AuthCertificate, At: at(2),
			TLS: &ringfence.TLSProof{Version: "TLS 1.3", Suite: "s", Group: "g", PeerSubject: "CN=d", PeerNames: []string{"d"}}, Via: "edge-1",
			Media: &ringfence.MediaProof{Suite: "AEAD_AES_256_GCM", DSCP: 46, PacketsIn: 1, PacketsOut: 2, Lost: 3, Rejected: 4, Overrun: 5, JitterMS: 0.25, MOS: 4.4}},
		{ID: string(id) + "-b", Verdict: ringfence.Refused, Reason: "why", At: at(2)}}}
}

// A call that was answered leaves a record, whether its end was told or not, and only one.
func checkCallJournal(t *testing.T, s *Store) {
	path := filepath.Join(t.TempDir(), "calls.journal")
	j, recovered := openCallJournal(t, s, path, 0)
	same(t, len(recovered), 0)
	a, b, late, done := journalCall("a"), journalCall("b"), journalCall("late"), journalCall("done")
	late.Answer = at(50)
	for _, c := range []*CDR{&a, &b, &late, &done} {
		noErr(t, j.Open(c))
	}
	b.To = "300" // transferred
	noErr(t, j.Open(&b))
	for _, c := range []*CDR{&a, &done} {
		wantKind(t, j.End(c), ringfence.KindInvalid) // it has not ended
		c.End, c.Cause = at(12), "ended by caller"
		noErr(t, j.End(c))
	}
	noErr(t, s.KeepCDRs(ctx(), []CDR{done}))
	noErr(t, j.Kept("done"))
	noErr(t, j.Alive(at(40)))
	same(t, j.Calls(), 3)

	// The process dies here: nothing is closed.
	j, recovered = openCallJournal(t, s, path, 0)
	same(t, len(recovered), 2)
	same(t, []any{recovered[0].Call, recovered[0].End, recovered[0].To, recovered[0].Cause}, []any{ringfence.CallID("b"), at(50), "300", "killed"})
	same(t, []any{recovered[1].Call, recovered[1].End}, []any{ringfence.CallID("late"), at(50)})
	for _, want := range append(recovered, a, done) {
		got, err := s.CDR(ctx(), want.Call)
		noErr(t, err)
		if !reflect.DeepEqual(got, want) {
			t.Errorf("kept %+v, want %+v", got, want)
		}
	}
	noErr(t, j.Close())
	wantKind(t, j.Open(&a), ringfence.KindUnavailable)

	j, recovered = openCallJournal(t, s, path, 0)
	same(t, []int{len(recovered), j.Calls()}, []int{0, 0})
	noErr(t, j.Close())
}

// However many calls come and go, the file stays small, and keeps those that are up.
func TestCallJournalStaysSmall(t *testing.T) {
	dir := t.TempDir()
	s := journalStore(t, dir)
	defer s.Close()
	path := filepath.Join(dir, "calls.journal")
	const limit = 64 << 10
	j, _ := openCallJournal(t, s, path, limit)
	up := journalCall("up")
	noErr(t, j.Open(&up))
	for i := range 2000 {
		c := journalCall(ringfence.CallID(fmt.Sprint("c", i)))
		noErr(t, j.Open(&c))
		c.End = at(3)
		noErr(t, j.End(&c))
		noErr(t, j.Kept(c.Call))
		if info, err := os.Stat(path); err != nil || info.Size() > 2*limit {
			t.Fatalf("after %d calls: %v, %v", i, info.Size(), err)
		}
	}
	_, recovered := openCallJournal(t, s, path, limit)
	same(t, len(recovered), 1)
	same(t, recovered[0].Call, ringfence.CallID("up"))
}

// Where a crash cut the file, everything before the cut holds.
func TestCallJournalAfterACrash(t *testing.T) {
	dir := t.TempDir()
	s := journalStore(t, dir)
	defer s.Close()
	whole := filepath.Join(dir, "whole")
	j, _ := openCallJournal(t, s, whole, 0)
	var ends []int64
	for i := range 3 {
		c := journalCall(ringfence.CallID(fmt.Sprint("c", i)))
		noErr(t, j.Open(&c))
		noErr(t, j.Flush())
		ends = append(ends, j.file.size)
	}
	noErr(t, j.Close())
	b, err := os.ReadFile(whole)
	noErr(t, err)
	for n := range b {
		h := callHistory{calls: map[ringfence.CallID]*CDR{}}
		kept := replay(b[:n], h.apply)
		want := 0
		for want < len(ends) && int64(n) >= ends[want] {
			want++
		}
		if len(h.calls) != want || kept > n {
			t.Fatalf("cut at %d: %d calls, want %d", n, len(h.calls), want)
		}
	}
	torn := filepath.Join(dir, "torn")
	noErr(t, os.WriteFile(torn, b[:len(b)-3], 0o600))
	j, recovered := openCallJournal(t, s, torn, 0)
	same(t, []any{len(recovered), j.Torn > 0}, []any{2, true})
}

// What is noted is in the file once Flush has returned, however many calls that are; and if the disk refused it, as soon as that takes anything.
func TestCallJournalFlush(t *testing.T) {
	dir := t.TempDir()
	s := journalStore(t, dir)
	defer s.Close()
	path := filepath.Join(dir, "calls.journal")
	j, _ := openCallJournal(t, s, path, 0)
	inFile := func(want int) {
		t.Helper()
		b, err := os.ReadFile(path)
		noErr(t, err)
		h := callHistory{calls: map[ringfence.CallID]*CDR{}}
		replay(b, h.apply)
		same(t, len(h.calls), want)
	}
	noErr(t, j.Flush())
	for i := range 3 {
		c := journalCall(ringfence.CallID(fmt.Sprint("c", i)))
		noErr(t, j.Open(&c))
	}
	inFile(0)
	noErr(t, j.Flush())
	inFile(3)
	noErr(t, j.file.file.Close())
	lost := journalCall("lost")
	noErr(t, j.Open(&lost))
	wantKind(t, j.Flush(), ringfence.KindUnavailable)
	inFile(3)
	more := journalCall("more")
	noErr(t, j.Open(&more))
	noErr(t, j.Flush())
	inFile(5)
}

func FuzzCallJournal(f *testing.F) {
	var w recordWriter
	c := journalCall("a")
	w.begin(recordOpen)
	w.cdr(&c)
	w.end()
	f.Add(w.b)
	w.begin(recordKept)
	w.text("a")
	w.end()
	w.begin(recordAlive)
	w.time(time.Unix(7, 0))
	w.end()
	f.Add(bytes.Clone(w.b))
	f.Fuzz(func(t *testing.T, b []byte) {
		h := callHistory{calls: map[ringfence.CallID]*CDR{}}
		if n := replay(b, h.apply); n < 0 || n > len(b) {
			t.Fatalf("%d of %d bytes", n, len(b))
		}
		for id, c := range h.calls { // what was read can be written, and is the same
			var w recordWriter
			w.begin(recordOpen)
			w.cdr(c)
			if w.end(); w.err != nil {
				continue
			}
			again := callHistory{calls: map[ringfence.CallID]*CDR{}}
			if replay(w.b, again.apply) != len(w.b) || again.calls[id] == nil || again.calls[id].From != c.From {
				t.Fatalf("%+v was not read back", c)
			}
		}
	})
}

func BenchmarkCallJournal(b *testing.B) {
	dir := b.TempDir()
	s := journalStore(b, dir)
	defer s.Close()
	j, _ := openCallJournal(b, s, filepath.Join(dir, "calls.journal"), 0)
	for i := 0; b.Loop(); i++ {
		c := journalCall(ringfence.CallID(fmt.Sprint("c", i)))
		_ = j.Open(&c)
		c.End = at(3)
		_ = j.End(&c)
		_ = j.Kept(c.Call)
	}
}
