package interop_test

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"ringfence"
	"ringfence/internal/node"
	"ringfence/internal/service/phone"
	"ringfence/internal/trust/enroll"
)

// program of the product, as it is built, with a data directory.
type built struct {
	*testing.T
	ctx   context.Context
	bin   string
	data  string
	conf  string
	where struct {
		SIP   netip.AddrPort `json:"sip"`
		HTTPS netip.AddrPort `json:"https"`
	}
}

// up starts a node and waits until it says where it listens.
func (b *built) up(sip, https string) *program {
	b.Helper()
	run := filepath.Join(b.data, "run.json")
	_ = os.Remove(run)
	p := start(b.T, filepath.Dir(b.bin), b.bin, "up", "--data", b.data, "--listen-sip", sip, "--listen-https", https, "--config", b.conf)
	b.until("the node listens", func() bool {
		text, err := os.ReadFile(run)
		return err == nil && json.Unmarshal(text, &b.where) == nil && b.where.SIP.IsValid() && b.where.HTTPS.IsValid()
	})
	return p
}

func (b *built) until(what string, cond func() bool) {
	b.Helper()
	(&site{T: b.T, ctx: b.ctx}).until(what, cond)
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
	cmd := exec.CommandContext(b.ctx, b.bin, append(args, "--data", b.data)...)
	cmd.Stderr = &complaint
	text, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("%w: %s", err, complaint.String())
	}
	return text, err
}

// phone enrols a new device of a new user and opens it.
func (b *built) phone(user, number string) *phone.Phone {
	b.Helper()
	ok := func(err error) {
		b.Helper()
		if err != nil {
			b.Fatalf("%v (%s)", err, ringfence.HintOf(err))
		}
	}
	var added struct{ Activation struct{ Code string } }
	b.run(&struct{}{}, "user", "add", user, "--number", number)
	b.run(&added, "device", "add", user+"-desk", "--user", user)
	c := enroll.Client{Dial: func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", b.where.HTTPS.String())
	}}
	id, err := c.Enrol(b.ctx, "localhost", added.Activation.Code)
	ok(err)
	sockets, err := node.NewSockets(phone.Flows(ringfence.PortRange{}, ringfence.PortRange{}))
	ok(err)
	p, err := phone.Open(b.ctx, phone.Config{Opener: sockets, Server: b.where.SIP, ServerName: id.Bootstrap.Domain,
		TLS:  &tls.Config{RootCAs: id.Pool(), Certificates: []tls.Certificate{id.Certificate()}, MinVersion: tls.VersionTLS13},
		User: string(id.Bootstrap.User), Domain: id.Bootstrap.Domain, MediaAddr: netip.MustParseAddr("127.0.0.1"), Log: node.Discard(),
		RetryMin: 100 * time.Millisecond, RetryMax: 500 * time.Millisecond,
		Auto: func(ctx context.Context, c *phone.Call) {
			if c.Answer(ctx, phone.CallOptions{Audio: phone.Tone(700)}) == nil {
				_ = c.WaitEnded(ctx)
			}
		}})
	ok(err)
	b.Cleanup(func() { _ = p.Close() })
	return p
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
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	b := &built{T: t, ctx: ctx, bin: filepath.Join(t.TempDir(), "ringfence"), data: filepath.Join(t.TempDir(), "data")}
	from, to := mediaPorts(t)
	b.conf = filepath.Join(filepath.Dir(b.bin), "ringfence.yaml")
	if err := os.WriteFile(b.conf, fmt.Appendf(nil, "media:\n  first: %d\n  last: %d\n", from, to), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", b.bin, "ringfence/cmd/ringfence").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
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
	b.until("the records of the calls that ended are kept", func() bool {
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
	b.up(b.where.SIP.String(), b.where.HTTPS.String())
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
	b.until("every call has a record", func() bool {
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
