package node_test

import (
	"bufio"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"ringfence"
	"ringfence/internal/node/config"
	"ringfence/internal/service/phone"
)

// killDir tells the process that is to be killed where its data is.
const killDir = "RINGFENCE_TEST_KILL_DIR"

func killConfig() config.Config {
	c := config.Default()
	c.SIP.TLS, c.API.HTTPS, c.Media.Addr = anyPort(), anyPort(), netip.MustParseAddr("127.0.0.1")
	return c
}

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

	s := openSite(t, killConfig(), dir)
	if n := s.node.Calls.Count(); n != 0 {
		t.Errorf("%d ghost calls", n)
	}
	if n := len(s.node.Registrar.All()); n != 2 {
		t.Errorf("%d registrations are back, want 2", n)
	}
	if n := s.node.Records.Open(); n != 0 {
		t.Errorf("%d calls are left in the journal", n)
	}
	cdrs, err := s.node.Store.CDRs(s.ctx, time.Time{}, time.Time{}, 100)
	s.ok(err)
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
	s.node.Close()
	again := openSite(t, killConfig(), dir)
	if cdrs, err = again.node.Store.CDRs(again.ctx, time.Time{}, time.Time{}, 100); err != nil || len(cdrs) != up+1 {
		t.Errorf("after the next start: %d records, %v", len(cdrs), err)
	}
}

// liveUntilKilled is the other process: it has one call that ended and five that are up, and says so.
func liveUntilKilled(t *testing.T, dir string) {
	s := openSite(t, killConfig(), dir)
	s.user("alice", "101", nil)
	s.user("bob", "102", nil)
	alice, bob := s.phone("alice", nil), s.phone("bob", nil)
	out, in := s.talk(alice, bob, "102")
	out.Hangup()
	s.ok(in.WaitEnded(s.ctx))
	s.talk(alice, bob, "102")
	for range 4 {
		c, err := alice.Call(s.ctx, "*43", phone.CallOptions{Audio: phone.Tone(440)})
		s.ok(err)
		s.ok(c.WaitAnswered(s.ctx))
	}
	fmt.Println("the calls are up") // nobody waits for anything more: what was answered is on disk
	<-s.ctx.Done()
}
