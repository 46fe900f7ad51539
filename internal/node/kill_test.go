package node_test

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"ringfence"
	"ringfence/internal/service/phone"
	"ringfence/internal/testkit/onehost"
)

// killDir tells the process that is to be killed where its data is.
const killDir = "RINGFENCE_TEST_KILL_DIR"

// A node that is killed with calls up comes back without ghosts: each call has one record with its parties and proof, those that
// ended before keep theirs, and the registrations are there.
func TestKilledWithCallsUp(t *testing.T) {
	if dir := os.Getenv(killDir); dir != "" {
		liveUntilKilled(t, dir)
		return
	}
	const up = 5
	dir := t.TempDir()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestKilledWithCallsUp$", "-test.v")
	cmd.Env = append(os.Environ(), killDir+"="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var said []string
	ready := false
	for r := bufio.NewScanner(out); !ready && r.Scan(); {
		said = append(said, r.Text())
		ready = strings.HasPrefix(r.Text(), "the calls are up")
	}
	if err := cmd.Process.Kill(); err != nil { // SIGKILL: nothing is told, nothing is written
		t.Fatal(err)
	}
	_ = cmd.Wait()
	if !ready {
		t.Fatalf("the calls never were up:\n%s", strings.Join(said, "\n"))
	}

	s := onehost.Open(t, onehost.Options{Data: dir})
	if n := s.Node.Calls.Count(); n != 0 {
		t.Errorf("%d ghost calls", n)
	}
	if n := len(s.Node.Registrar.All()); n != 2 {
		t.Errorf("%d registrations are back, want 2", n)
	}
	if n := s.Node.Records.Open(); n != 0 {
		t.Errorf("%d calls are left in the journal", n)
	}
	cdrs, err := s.Node.Store.CDRs(s.Ctx, time.Time{}, time.Time{}, 100)
	s.OK(err)
	count := map[string]int{}
	for _, c := range cdrs {
		count[c.Cause]++
		if c.From != "101" || c.Verdict != ringfence.Sealed || c.Answer.IsZero() || c.End.Before(c.Answer) || c.End.After(time.Now()) || len(c.Legs) == 0 || c.Legs[0].TLS == nil {
			t.Errorf("record: %+v", c)
		}
	}
	if len(cdrs) != up+1 || count["the node stopped unexpectedly"] != up || count["ended by caller"] != 1 {
		t.Errorf("records by cause: %v", count)
	}

	// A second start finds nothing more to do.
	s.Node.Close()
	again := onehost.Open(t, onehost.Options{Data: dir})
	if cdrs, err = again.Node.Store.CDRs(again.Ctx, time.Time{}, time.Time{}, 100); err != nil || len(cdrs) != up+1 {
		t.Errorf("after the next start: %d records, %v", len(cdrs), err)
	}
}

// liveUntilKilled is the other process: it has one call that ended and five that are up, and says so.
func liveUntilKilled(t *testing.T, dir string) {
	s := onehost.Open(t, onehost.Options{Data: dir})
	s.User("alice", "101")
	s.User("bob", "102")
	alice, bob := s.Phone("alice"), s.Phone("bob")
	out, in := s.Talk(alice, bob, "102")
	out.Hangup()
	s.OK(in.WaitEnded(s.Ctx))
	s.Talk(alice, bob, "102")
	for range 4 {
		c, err := alice.Call(s.Ctx, "*43", phone.CallOptions{Audio: phone.Tone(440)})
		s.OK(err)
		s.OK(c.WaitAnswered(s.Ctx))
	}
	fmt.Println("the calls are up") // nobody waits for anything more: what was answered is on disk
	<-s.Ctx.Done()
}
