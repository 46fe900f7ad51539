package interop_test

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// program is an independent program that runs beside the node. What it prints is kept; the test waits for it.
type program struct {
	t    *testing.T
	name string
	cmd  *exec.Cmd
	in   io.WriteCloser

	mu   sync.Mutex
	out  []byte
	read int           // how far wait has looked
	news chan struct{} // closed and replaced whenever there is more
	done chan struct{} // closed when the program is gone
	err  error
}

// start runs a program with a home directory of its own, and ends it with the test.
func start(t *testing.T, dir, path string, args ...string) *program {
	t.Helper()
	p := &program{t: t, name: path[strings.LastIndex(path, "/")+1:], news: make(chan struct{}), done: make(chan struct{})}
	p.cmd = exec.Command(path, args...)
	p.cmd.Dir = dir
	p.cmd.Env = append(os.Environ(), "HOME="+dir, "XDG_CONFIG_HOME="+dir, "XDG_DATA_HOME="+dir, "TERM=dumb", "LC_ALL=C")
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	p.cmd.Stdout, p.cmd.Stderr = p, p
	p.cmd.WaitDelay = 2 * time.Second
	in, err := p.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.in = in
	if err := p.cmd.Start(); err != nil {
		t.Fatalf("%s does not start: %v", p.name, err)
	}
	go func() {
		err := p.cmd.Wait()
		p.mu.Lock()
		p.err = err
		close(p.news)
		p.news = make(chan struct{})
		p.mu.Unlock()
		close(p.done)
	}()
	t.Cleanup(p.stop)
	return p
}

// Write takes what the program prints.
func (p *program) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.out = append(p.out, b...)
	close(p.news)
	p.news = make(chan struct{})
	return len(b), nil
}

// stop asks the program to end, and makes it end after two seconds.
func (p *program) stop() {
	_ = p.in.Close()
	_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(2 * time.Second):
	}
	_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
	<-p.done
	if p.t.Failed() {
		p.t.Logf("--- %s said:\n%s", p.name, clip(p.text(), 24_000))
	}
}

func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return s[:n/2] + "\n[...]\n" + s[len(s)-n/2:]
}

// text returns everything printed so far.
func (p *program) text() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return string(p.out)
}

// say types a line.
func (p *program) say(line string) {
	p.t.Helper()
	if _, err := io.WriteString(p.in, line); err != nil {
		p.t.Fatalf("%s does not listen: %v", p.name, err)
	}
}

// wait waits until the program prints something that matches, after what earlier waits matched, and returns the submatches.
func (p *program) wait(ctx context.Context, pattern string) []string {
	p.t.Helper()
	re := regexp.MustCompile(pattern)
	for {
		p.mu.Lock()
		rest, news := p.out[p.read:], p.news
		if m := re.FindSubmatchIndex(rest); m != nil {
			groups := re.FindSubmatch(rest)
			out := make([]string, len(groups))
			for i, g := range groups {
				out[i] = string(g)
			}
			p.read += m[1]
			p.mu.Unlock()
			return out
		}
		p.mu.Unlock()
		select {
		case <-news:
		case <-p.done:
			if !re.MatchString(p.text()) {
				p.t.Fatalf("%s ended (%v) without saying %q", p.name, p.exit(), pattern)
			}
		case <-ctx.Done():
			p.t.Fatalf("%s never said %q", p.name, pattern)
		}
	}
}

func (p *program) exit() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}

// finish waits until the program has ended and returns its exit status.
func (p *program) finish(ctx context.Context) int {
	p.t.Helper()
	select {
	case <-p.done:
	case <-ctx.Done():
		p.t.Fatalf("%s does not end", p.name)
	}
	var e *exec.ExitError
	switch err := p.exit(); {
	case errors.As(err, &e):
		return e.ExitCode()
	case err != nil && !errors.Is(err, exec.ErrWaitDelay):
		p.t.Fatalf("%s: %v", p.name, err)
	}
	return 0
}
