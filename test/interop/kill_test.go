package interop_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"ringfence"
	"ringfence/internal/service/phone"
	"ringfence/internal/testkit/onehost"
	"ringfence/internal/trust/enroll"
)

// program of the product, as it is built, with a data directory.
type built struct {
	*onehost.Site
	bin  string
	data string
	conf string
}

// up starts a node and waits until it says where it listens.
func (b *built) up(sip, https string) *program {
	b.Helper()
	run := filepath.Join(b.data, "run.json")
	_ = os.Remove(run)
	b.SIP, b.HTTPS = netip.AddrPort{}, netip.AddrPort{}
	p := start(b.T, filepath.Dir(b.bin), b.bin, "up", "--data", b.data, "--listen-sip", sip, "--listen-https", https, "--config", b.conf)
	b.Until("the node listens", func() bool {
		var where struct{ SIP, HTTPS netip.AddrPort }
		text, err := os.ReadFile(run)
		if err == nil && json.Unmarshal(text, &where) == nil {
			b.SIP, b.HTTPS = where.SIP, where.HTTPS
		}
		return b.SIP.IsValid() && b.HTTPS.IsValid()
	})
	return p
}

// run runs a verb of the command line and reads the JSON that it prints into out.
func (b *built) run(out any, args ...string) {
	b.Helper()
	if text := b.do(append(args, "--json")...); json.Unmarshal(text, out) != nil {
		b.Fatalf("ringfence %s: no JSON: %s", strings.Join(args, " "), text)
	}
}

// do runs a verb of the command line and returns what it prints.
func (b *built) do(args ...string) []byte {
	b.Helper()
	text, err := b.try(args...)
	if err != nil {
		b.Fatalf("ringfence %s: %v", strings.Join(args, " "), err)
	}
	return text
}

// try is do for a verb that may fail; the error holds what it complains about.
func (b *built) try(args ...string) ([]byte, error) {
	var complaint strings.Builder
	cmd := exec.CommandContext(b.Ctx, b.bin, append(args, "--data", b.data)...)
	cmd.Stderr = &complaint
	text, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("%w: %s", err, complaint.String())
	}
	return text, err
}

// person adds a user with a phone and returns the phone's activation code.
func (b *built) person(user, number string) string {
	b.Helper()
	var added struct{ Activation struct{ Code string } }
	b.run(&struct{}{}, "user", "add", user, "--number", number)
	b.run(&added, "device", "add", user+"-desk", "--user", user)
	return added.Activation.Code
}

// phone enrols a new device of a new user and opens it.
func (b *built) phone(user, number string) *phone.Phone {
	b.Helper()
	return b.Start(b.answering(b.Enrol(b.person(user, number))))
}

// answering is a phone that answers by itself.
func (b *built) answering(id enroll.Identity) phone.Config {
	b.Helper()
	c := b.Known(id)
	c.RetryMin, c.RetryMax = 100*time.Millisecond, 500*time.Millisecond
	c.Auto = func(ctx context.Context, c *phone.Call) {
		if c.Answer(ctx, phone.CallOptions{Audio: phone.Tone(700)}) == nil {
			_ = c.WaitEnded(ctx)
		}
	}
	return c
}

// product builds the program as the Makefile does it, so that what is compiled already is used. Call it before the clock of the test runs.
func product(t *testing.T) string {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "ringfence")
	build := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-pgo=../../cmd/ringfence/ringfence.pgo", "-buildvcs=false", "-o", bin, "ringfence/cmd/ringfence")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return bin
}

type record struct {
	Call    string            `json:"call"`
	Start   time.Time         `json:"start"`
	Answer  time.Time         `json:"answer"`
	End     time.Time         `json:"end"`
	Verdict ringfence.Verdict `json:"verdict"`
	Legs    []ringfence.Proof `json:"legs"`
}

// A node that is killed in the middle of calls forgets no registration, no record and no call that was up, and shows no call that is not there.
func TestNodeIsKilledDuringCalls(t *testing.T) {
	t.Parallel()
	bin := product(t)
	b := &built{Site: onehost.New(t, 2*time.Minute), bin: bin, data: filepath.Join(t.TempDir(), "data")}
	ctx := b.Ctx
	from, to := mediaPorts(t)
	b.conf = filepath.Join(filepath.Dir(b.bin), "ringfence.yaml")
	if err := os.WriteFile(b.conf, fmt.Appendf(nil, "media:\n  first: %d\n  last: %d\n", from, to), 0o600); err != nil {
		t.Fatal(err)
	}
	first := b.up("127.0.0.1:0", "127.0.0.1:0")
	const pairs, each, before = 4, 3, 5 // one person has at most four calls at a time
	var callers, callees []*phone.Phone
	for i := range pairs {
		callers = append(callers, b.phone(fmt.Sprintf("caller%d", i), fmt.Sprint(100+i)))
		callees = append(callees, b.phone(fmt.Sprintf("callee%d", i), fmt.Sprint(200+i)))
	}
	call := func(i int) *phone.Call {
		t.Helper()
		c, err := callers[i%pairs].Call(ctx, fmt.Sprint(200+i%pairs), phone.CallOptions{Audio: phone.Tone(440)})
		if err == nil {
			err = c.WaitAnswered(ctx)
		}
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	var records []record
	for i := range before - 1 {
		call(i).Hangup()
	}
	for i := range pairs * each {
		call(i)
	}
	// What is known of calls is written in the order in which it happens: the record of this one comes after the others were noted.
	call(0).Hangup()
	b.Until("the records of the calls that ended are kept", func() bool {
		b.run(&records, "cdr", "list")
		return len(records) == before
	})
	var list []json.RawMessage
	if b.run(&list, "call", "list"); len(list) != pairs*each {
		t.Fatalf("%d calls are up, want %d", len(list), pairs*each)
	}

	if err := syscall.Kill(first.cmd.Process.Pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	first.finish(ctx)
	for _, p := range append(callers[:pairs:pairs], callees...) {
		if err := p.WaitRegistration(ctx, func(r phone.Registration) bool { return r.State != phone.Registered }); err != nil {
			t.Fatal(err)
		}
	}
	b.up(b.SIP.String(), b.HTTPS.String())
	for _, p := range append(callers[:pairs:pairs], callees...) {
		if err := p.WaitRegistration(ctx, func(r phone.Registration) bool { return r.State == phone.Registered }); err != nil {
			t.Fatal(err)
		}
	}
	if b.run(&list, "registrations"); len(list) != 2*pairs {
		t.Errorf("%d registrations, want %d", len(list), 2*pairs)
	}
	if b.run(&list, "call", "list"); len(list) != 0 {
		t.Errorf("%d ghost calls", len(list))
	}
	after := call(0)
	after.Hangup()
	// The calls that were up when the node was killed have a record, too.
	b.Until("every call has a record", func() bool {
		b.run(&records, "cdr", "list")
		return len(records) >= before+pairs*each+1
	})
	if len(records) != before+pairs*each+1 {
		t.Errorf("%d records, want %d", len(records), before+pairs*each+1)
	}
	seen := map[string]bool{}
	for _, r := range records {
		if seen[r.Call] {
			t.Errorf("call %s has two records", r.Call)
		}
		seen[r.Call] = true
		if r.Call == "" || r.Start.IsZero() || r.Answer.Before(r.Start) || r.End.Before(r.Answer) || r.Verdict != ringfence.Sealed || len(r.Legs) != 2 {
			t.Errorf("the record is not whole: %+v", r)
		}
	}
}
