package faults_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"ringfence/internal/node"
	"ringfence/internal/state/store"
	"ringfence/internal/testkit/onehost"
)

// plan is what the node of a child process is told.
type plan struct {
	Data       string
	SIP, HTTPS netip.AddrPort
	Users      map[string]int // name: how many, made if the data directory is new
	First      map[string]int // name: their first number
	Disk       string         // size of a file system of its own for the data, as mount's size= has it; empty: none
}

// state is what a child reports.
type state struct {
	SIP, HTTPS netip.AddrPort
	Roots      []byte // PEM
	Domain     string
	Load       node.Load
	Bindings   int
	Live       int // bindings whose phone is connected
	CDRs       []store.CDR
	Open       int // calls of which a note is kept in case the node dies
	Err        string
}

// beNode runs a node until its input ends. Each line of input is a question, each line of output a state.
func beNode(text string) int {
	fail := func(err error) int {
		fmt.Fprintln(os.Stderr, "child:", err)
		return 1
	}
	var p plan
	if err := json.Unmarshal([]byte(text), &p); err != nil {
		return fail(err)
	}
	if p.Disk != "" {
		// Nothing that is mounted here is seen outside this process.
		if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
			return fail(err)
		}
		if err := syscall.Mount("tmpfs", p.Data, "tmpfs", 0, "size="+p.Disk); err != nil {
			return fail(err)
		}
	}
	c := onehost.Config()
	c.SIP.TLS, c.API.HTTPS = p.SIP, p.HTTPS
	ctx := context.Background()
	n, err := node.Open(ctx, node.Options{Config: c, Data: p.Data, Version: "test", Log: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))})
	if err != nil {
		return fail(err)
	}
	defer n.Close()
	if n.FirstRun {
		for name, count := range p.Users {
			if err := addUsers(ctx, n, name, p.First[name], count); err != nil {
				return fail(err)
			}
		}
	}
	out := json.NewEncoder(os.Stdout)
	ballast := filepath.Join(p.Data, "ballast")
	for in := bufio.NewScanner(os.Stdin); ; {
		if err := out.Encode(report(ctx, n)); err != nil {
			return fail(err)
		}
		if !in.Scan() {
			return 0
		}
		switch in.Text() {
		case "fill":
			err = fill(ballast)
		case "free":
			err = os.Remove(ballast)
		}
		if err != nil {
			return fail(err)
		}
	}
}

func report(ctx context.Context, n *node.Node) state {
	s := state{SIP: n.SIPAddr(), HTTPS: n.HTTPSAddr(), Roots: n.Authority.RootPEM(), Domain: n.Config.Domain, Load: n.Load()}
	for _, c := range n.Registrar.All() {
		s.Bindings++
		if c.Live() {
			s.Live++
		}
	}
	n.Records.Settle(ctx)
	var err error
	if s.CDRs, err = n.Store.CDRs(ctx, time.Time{}, time.Time{}, 10_000); err != nil {
		s.Err = err.Error()
	}
	s.Open = n.Records.Open()
	return s
}

// fill writes a file until the disk takes no more.
func fill(path string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	for b := bytes.Repeat([]byte{'x'}, 64<<10); len(b) > 0; {
		n, err := f.Write(b)
		if err != nil && n == 0 {
			b = b[:len(b)/2]
		}
	}
	return nil
}

// process is a node in another process.
type process struct {
	t    *testing.T
	cmd  *exec.Cmd
	in   io.WriteCloser
	out  *json.Decoder
	logs logs
	now  state // as reported last
}

// logs keeps what a child says.
type logs struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logs) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// start runs a node in a child of this test and waits until it listens.
func start(t *testing.T, p plan) *process {
	t.Helper()
	text, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	c := &process{t: t, cmd: exec.Command(os.Args[0], "-faults.child="+string(text))}
	c.cmd.Stderr = &c.logs
	if p.Disk != "" {
		c.cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	}
	out, err := c.cmd.StdoutPipe()
	if err == nil {
		c.in, err = c.cmd.StdinPipe()
	}
	if err == nil {
		err = c.cmd.Start()
	}
	if err != nil {
		if p.Disk != "" {
			t.Fatalf("%v: this test mounts a small disk in a mount namespace of its own; run it as root, or with CAP_SYS_ADMIN", err)
		}
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.kill()
		if t.Failed() {
			t.Logf("the node said:\n%s", c.logs.String())
		}
	})
	c.out = json.NewDecoder(out)
	c.read()
	return c
}

func (c *process) read() state {
	c.t.Helper()
	var s state
	if err := c.out.Decode(&s); err != nil {
		c.t.Fatalf("the node does not answer: %v\n%s", err, c.logs.String())
	}
	if s.Err != "" {
		c.t.Errorf("the node cannot read its records: %s", s.Err)
	}
	c.now = s
	return s
}

// ask gives an order and returns the state after it.
func (c *process) ask(order string) state {
	c.t.Helper()
	if _, err := io.WriteString(c.in, order+"\n"); err != nil {
		c.t.Fatal(err)
	}
	return c.read()
}

// kill ends the process as a power cut would.
func (c *process) kill() {
	_ = c.cmd.Process.Kill()
	_ = c.cmd.Wait()
}

// site makes clients for a process.
func (c *process) site() *site {
	c.t.Helper()
	s := &site{onehost.New(c.t, within), &tap{}}
	s.Roots = x509.NewCertPool()
	if !s.Roots.AppendCertsFromPEM(c.now.Roots) {
		c.t.Fatal("the node has no trust anchor")
	}
	s.SIP, s.HTTPS, s.Domain = c.now.SIP, c.now.HTTPS, c.now.Domain
	return s
}
