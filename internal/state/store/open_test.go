package store

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"ringfence"
)

// childEnv makes the test binary write facts until it is killed.
const childEnv = "RINGFENCE_STORE_TEST_CHILD"

func TestMain(m *testing.M) {
	if dsn := os.Getenv(childEnv); dsn != "" {
		writeUntilKilled(Config{DSN: dsn, KeyFile: os.Getenv(childEnv + "_KEY")})
	}
	os.Exit(m.Run())
}

// writeUntilKilled prints the number of each binding and secret after the store has acknowledged it.
func writeUntilKilled(c Config) {
	s, err := Open(context.Background(), c)
	for i := 0; err == nil; i++ {
		if err = s.PutBindings(context.Background(), []Binding{binding(i)}); err == nil {
			err = s.CreateSecret(context.Background(), fmt.Sprint(i), []byte(fmt.Sprint("secret ", i)))
		}
		if err == nil {
			_, err = fmt.Println(i)
		}
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// TestKill kills a writing process and looks for everything that it had acknowledged.
func TestKill(t *testing.T) {
	for _, p := range places(t) {
		t.Run(p.name, func(t *testing.T) {
			c := config(t, p)
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), childEnv+"="+c.DSN, childEnv+"_KEY="+c.KeyFile)
			cmd.Stderr = os.Stderr
			out, err := cmd.StdoutPipe()
			noErr(t, err)
			noErr(t, cmd.Start())
			last, lines := -1, bufio.NewScanner(out)
			for lines.Scan() {
				var n int
				if _, err := fmt.Sscan(lines.Text(), &n); err != nil {
					break // a line cut in the middle
				}
				if last = n; last == 100 {
					noErr(t, cmd.Process.Kill()) // SIGKILL; what is in the pipe by then was acknowledged too
				}
			}
			cmd.Wait()
			if last < 100 {
				t.Fatalf("the writer stopped by itself at %d", last)
			}
			s := open(t, c)
			have := map[BindingKey]bool{}
			noErr(t, s.AllBindings(ctx(), at(2), func(b Binding) error { have[b.Key()] = true; return nil }))
			for i := range last + 1 {
				if !have[binding(i).Key()] {
					t.Fatalf("binding %d of %d was acknowledged and is lost", i, last)
				}
				v, err := s.Secret(ctx(), fmt.Sprint(i))
				noErr(t, err)
				same(t, string(v), fmt.Sprint("secret ", i))
			}
		})
	}
}

func checkReopen(t *testing.T, c Config) {
	s := open(t, c)
	noErr(t, s.CreateSecret(ctx(), "n", []byte("one")))
	noErr(t, s.Close())
	_, err := s.Secret(ctx(), "n")
	if err == nil {
		t.Fatal("a closed store still answers")
	}
	s = open(t, c)
	v, err := s.Secret(ctx(), "n")
	noErr(t, err)
	same(t, string(v), "one")
	noErr(t, s.Close())

	wrong := c
	wrong.KeyFile = filepath.Join(t.TempDir(), "other.key")
	_, err = Open(ctx(), wrong) // no new key may be made for a database that was sealed
	wantKind(t, err, ringfence.KindNotFound)
	_, err = loadKey(wrong.KeyFile, nil, true)
	noErr(t, err)
	_, err = Open(ctx(), wrong)
	wantKind(t, err, ringfence.KindConflict)
	if !strings.Contains(ringfence.HintOf(err), "key file") {
		t.Fatalf("the hint does not help: %q", ringfence.HintOf(err))
	}
}

// checkLocked has another process's transaction in the way.
func checkLocked(t *testing.T, c Config) {
	a, b := open(t, c), open(t, c)
	noErr(t, a.Tx(ctx(), func(tx *Tx) error {
		if a.postgr {
			if _, err := tx.exec(ctx(), "test", `LOCK TABLE settings`); err != nil {
				return err
			}
		}
		err := b.PutSetting(ctx(), "a", "1")
		wantKind(t, err, ringfence.KindOverload)
		if !strings.Contains(err.Error(), "locked") || ringfence.HintOf(err) == "" {
			t.Errorf("the fault does not explain itself: %v", err)
		}
		return nil
	}))
	noErr(t, b.PutSetting(ctx(), "a", "1"))
}

func checkNewer(t *testing.T, c Config) {
	s := open(t, c)
	_, err := s.exec(ctx(), "test", `INSERT INTO schema_steps (n, name, at) VALUES (999, 'future', 1)`)
	noErr(t, err)
	_, err = Open(ctx(), c)
	wantKind(t, err, ringfence.KindUnsupported)
}

// checkTogether opens one new database from several nodes at once.
func checkTogether(t *testing.T, c Config) {
	c.BusyTimeout = 20 * time.Second
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			s, err := Open(ctx(), c)
			if err != nil {
				t.Errorf("%v: %s", err, ringfence.HintOf(err))
				return
			}
			defer s.Close()
			if err := s.AppendAudit(ctx(), AuditEntry{At: at(0)}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	list, err := open(t, c).Audit(ctx(), 0, 10)
	noErr(t, err)
	same(t, len(list), 4)
}

func TestDiskFull(t *testing.T) {
	s := open(t, Config{DSN: "sqlite:" + filepath.Join(t.TempDir(), "a.db"), KeyFile: filepath.Join(t.TempDir(), "k")})
	_, err := s.exec(ctx(), "test", `PRAGMA max_page_count=1`) // SQLite then stays at the size it has
	noErr(t, err)
	big := strings.Repeat("x", 1<<16)
	for i := range 1000 {
		if err = s.PutSetting(ctx(), fmt.Sprint(i), big); err != nil {
			break
		}
	}
	wantKind(t, err, ringfence.KindOverload)
	if !strings.Contains(err.Error(), "disk is full") || !strings.Contains(ringfence.HintOf(err), "free space") {
		t.Fatalf("the fault does not explain itself: %v", err)
	}
	if _, err := s.Setting(ctx(), "seal.key_id"); err != nil {
		t.Fatalf("what was there cannot be read any more: %v", err)
	}
}

func TestConfig(t *testing.T) {
	dir := t.TempDir()
	for _, c := range []struct {
		dsn  string
		kind ringfence.Kind
	}{
		{"mysql://x", ringfence.KindInvalid}, {"sqlite:rel.db", ringfence.KindInvalid}, {"", ringfence.KindInvalid},
		{"postgres://u:hunter2@db.example.com:99999/x?sslmode=disable", ringfence.KindInvalid},
		{"postgres://u:hunter2@db.example.com/x", ringfence.KindInsecure}, // "prefer" falls back to the clear
		{"postgres://u:hunter2@db.example.com/x?sslmode=disable", ringfence.KindInsecure},
		{"postgres://u:hunter2@db.example.com/x?sslmode=require", ringfence.KindInsecure}, // sealed, but to whom?
		{"postgres://u:hunter2@db.example.com/x?sslmode=verify-full", ringfence.KindInvalid},
		{"sqlite:" + dir + "/no/such/dir.db", ringfence.KindUnavailable},
	} {
		_, err := Open(ctx(), Config{DSN: c.dsn, KeyFile: filepath.Join(dir, "k")})
		wantKind(t, err, c.kind)
		if strings.Contains(err.Error()+ringfence.HintOf(err), "hunter2") {
			t.Errorf("the fault shows the password: %v", err)
		}
	}
	_, err := Open(ctx(), Config{DSN: "sqlite:" + dir + "/a.db"})
	wantKind(t, err, ringfence.KindInvalid)
	noErr(t, os.WriteFile(dir+"/junk.db", []byte(strings.Repeat("this is no database ", 100)), 0o600))
	_, err = Open(ctx(), Config{DSN: "sqlite:" + dir + "/junk.db", KeyFile: dir + "/k"})
	wantKind(t, err, ringfence.KindUnavailable)

	flows := Config{DSN: "postgres://u@db.example.com:5433/x?sslmode=verify-full", KeyFile: "k"}.Flows()
	if len(flows) != 1 || !flows[0].Ports.Contains(5433) {
		t.Fatalf("flows: %+v", flows)
	}
	noErr(t, ringfence.CheckFlows(flows))
	same(t, len(Config{DSN: "sqlite:/a"}.Flows()), 0)
	same(t, len(Config{DSN: "postgres://u@/x?host=/run/postgresql"}.Flows()), 0)
	s := open(t, Config{DSN: "sqlite:" + dir + "/a.db", KeyFile: dir + "/k", FullSync: true})
	noErr(t, s.PutSetting(ctx(), "a", "1"))
	for _, f := range []string{"/a.db", "/a.db-wal", "/k"} {
		info, err := os.Stat(dir + f)
		noErr(t, err)
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %o", f, info.Mode().Perm())
		}
	}
}

func BenchmarkPutBindings(b *testing.B) {
	for _, p := range places(b) {
		for _, n := range []int{1, 16, 200} {
			b.Run(fmt.Sprintf("%s/batch=%d", p.name, n), func(b *testing.B) {
				s := open(b, config(b, p))
				batch := make([]Binding, n)
				i := 0
				b.ReportAllocs()
				for b.Loop() {
					for j := range batch {
						batch[j] = binding(i % 50000)
						i++
					}
					if err := s.PutBindings(ctx(), batch); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(i), "ns/binding")
			})
		}
	}
}

// Call records are written by the thousand: what one costs is what each call pays.
func BenchmarkKeepCDRs(b *testing.B) {
	for _, p := range places(b) {
		b.Run(p.name, func(b *testing.B) {
			s := open(b, config(b, p))
			batch := make([]CDR, 1024)
			i := 0
			b.ReportAllocs()
			for b.Loop() {
				for j := range batch {
					c := journalCall(ringfence.CallID("node-1-k3v9x2-" + strconv.FormatInt(int64(i), 36)))
					c.Start = at(1).Add(time.Duration(i) * 127 * time.Microsecond)
					c.End = c.Start.Add(time.Second)
					batch[j] = c
					i++
				}
				if err := s.KeepCDRs(ctx(), batch); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(i), "ns/record")
		})
	}
}
