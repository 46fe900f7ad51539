package evidence

import (
	"crypto/ed25519"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"ringfence"
	"ringfence/internal/network/prove"
)

// book has four records: exact twice with the same rules, wide with others, and one without a proof.
func book(t testing.TB) (string, *Book) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "book")
	b, err := Create(dir, "")
	if err != nil {
		t.Fatal(err)
	}
	for i, c := range []struct {
		rules   string
		verdict prove.Verdict
		passes  string
		changed []string
	}{
		{"rules, counter 1", prove.Exact, "p1", []string{"first"}},
		{"rules, counter 2", prove.Exact, "p1", []string{}},
		{"others", prove.Wide, "p2", []string{"rules", "verdict"}},
		{"", "", "", []string{"verdict"}},
	} {
		r := Record{At: time.Unix(int64(i), 0).UTC(), Host: "h", Set: "s", Needs: "n", Site: "f"}
		if c.verdict != "" {
			r.Proof = &prove.Result{Verdict: c.verdict, Passes: c.passes}
		} else {
			r.Failure = "nothing was printed"
		}
		got, err := b.Append(r, []byte(c.rules))
		if err != nil || got.Number != i+1 || !slices.Equal(got.Changed, c.changed) {
			t.Fatalf("%v %+v, want %q", err, got, c.changed)
		}
	}
	return dir, b
}

// TestBook has what was written be there as it was, also for whoever goes on with the book later, and rules be kept once for as long as they let the same through.
func TestBook(t *testing.T) {
	dir, b := book(t)
	all, err := Check(dir, b.Key())
	if err != nil || len(all) != 4 || all[0].Rules != all[1].Rules || all[0].Rules == all[2].Rules {
		t.Fatalf("%v %+v", err, all)
	}
	if text, err := Rules(dir, all[1]); err != nil || string(text) != "rules, counter 1" {
		t.Errorf("%v %q", err, text)
	}
	kept, err := os.ReadDir(filepath.Join(dir, "rules"))
	if err != nil || len(kept) != 2 {
		t.Errorf("%v %v", err, kept)
	}
	again, err := Create(dir, "")
	if err != nil {
		t.Fatal(err)
	}
	r, err := again.Append(Record{Needs: "n2", Site: "f", Proof: &prove.Result{Verdict: prove.Exact, Passes: "p1"}}, []byte("rules, counter 3"))
	if err != nil || r.Number != 5 || !slices.Equal(r.Changed, []string{"rules", "needs", "verdict"}) {
		t.Errorf("%v %+v", err, r)
	}
	public, err := PublicKey(dir)
	if err != nil || !public.Equal(b.Key()) {
		t.Error(err)
	}
	for _, name := range []string{keyName, name(1), "rules/" + all[0].Rules} {
		if st, err := os.Stat(filepath.Join(dir, name)); err != nil || st.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v %v", name, st, err)
		}
	}
}

// TestForged has everything that somebody may do to a book be found.
func TestForged(t *testing.T) {
	other := func(dir string) { // a book of the same form by another key
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
		b, err := Create(dir, "")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := b.Append(Record{Proof: &prove.Result{}}, []byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	edit := func(dir, file string, f func(string) string) {
		path := filepath.Join(dir, file)
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(f(string(b))), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	rules := func(dir string) string {
		kept, err := os.ReadDir(filepath.Join(dir, "rules"))
		if err != nil {
			t.Fatal(err)
		}
		return kept[0].Name()
	}
	for what, c := range map[string]struct {
		do   func(dir string)
		want string
	}{
		"another key": {other, "was not signed by"},
		"a changed record": {func(dir string) {
			edit(dir, name(2), func(s string) string { return strings.Replace(s, ".", ".AA", 1) })
		}, "record 2"},
		"no record":          {func(dir string) { edit(dir, name(2), func(string) string { return "" }) }, "no signed record"},
		"a record left out":  {func(dir string) { _ = os.Remove(filepath.Join(dir, name(2))) }, "record 2 is not there"},
		"records renumbered": {func(dir string) { _ = os.Rename(filepath.Join(dir, name(3)), filepath.Join(dir, name(2))) }, "stands where"},
		"changed rules":      {func(dir string) { edit(dir, "rules/"+rules(dir), func(s string) string { return s + " " }) }, "were changed"},
		"rules taken away":   {func(dir string) { _ = os.Remove(filepath.Join(dir, "rules", rules(dir))) }, "are not there"},
		"an overlong record": {func(dir string) { edit(dir, name(2), func(string) string { return strings.Repeat("a", maxRecord+1) }) }, "larger than 4 MiB"},
		"somebody else's type": {func(dir string) {
			edit(dir, name(1), func(string) string { return "eyJhbGciOiJFZERTQSJ9.e30." + strings.Repeat("A", 86) })
		}, "no record of a book"},
	} {
		dir, b := book(t)
		c.do(dir)
		if _, err := Check(dir, b.Key()); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", what, err, c.want)
		}
	}
}

// TestFork has a record of an earlier state of the book, signed by the right key, be found out.
func TestFork(t *testing.T) {
	dir, b := book(t)
	first, err := os.ReadFile(filepath.Join(dir, name(3)))
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{3, 4} {
		if err := os.Remove(filepath.Join(dir, name(n))); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := b.Append(Record{Host: "another past", Proof: &prove.Result{Verdict: prove.Exact, Passes: "p1"}}, []byte("r")); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Append(Record{Proof: &prove.Result{Verdict: prove.Exact, Passes: "p1"}}, []byte("r")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, name(3)), first, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Check(dir, b.Key()); ringfence.KindOf(err) != ringfence.KindInsecure || !strings.Contains(err.Error(), "record 4 does not follow record 3") {
		t.Error(err)
	}
}

// TestKeys has keys that are none, and books whose key is gone, be refused.
func TestKeys(t *testing.T) {
	dir, _ := book(t)
	if err := os.Remove(filepath.Join(dir, keyName)); err != nil {
		t.Fatal(err)
	}
	if _, err := Create(dir, ""); ringfence.KindOf(err) != ringfence.KindConflict {
		t.Error(err)
	}
	bad := filepath.Join(t.TempDir(), "bad.pem")
	if err := os.WriteFile(bad, []byte("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Create(t.TempDir(), bad); ringfence.KindOf(err) != ringfence.KindInvalid {
		t.Error(err)
	}
	if _, err := Create(t.TempDir(), bad+"x"); ringfence.KindOf(err) != ringfence.KindUnavailable {
		t.Error(err)
	}
}

func FuzzOpen(f *testing.F) {
	dir, b := book(f)
	for n := 1; n <= 4; n++ {
		text, err := os.ReadFile(filepath.Join(dir, name(n)))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	key := append(ed25519.PublicKey{}, b.Key()...)
	f.Fuzz(func(t *testing.T, text []byte) {
		if r, err := Open(text, key); err == nil && r.Number < 1 {
			t.Errorf("%+v", r)
		}
	})
}
