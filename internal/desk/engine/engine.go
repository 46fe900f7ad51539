package engine

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"ringfence"
)

// Bounds.
const (
	grace   = 5 * time.Second // until a program that was told to end is killed
	maxLine = 4096            // bytes; the rest of a longer line is dropped
	kept    = 8               // last lines, for when it ends by itself
)

// Program is what is run.
type Program struct {
	Path  string
	Args  []string
	Stdin string            // secrets go here: arguments can be read by everybody on the host
	Env   []string          // besides an empty environment with a PATH
	Hear  func(line string) // each line that it says; may be nil
	In    *os.File          // in place of Stdin, for what never ends; it is the caller's to close
	Out   io.Writer         // takes what it writes to its standard output, which is then no lines; it must not block
	Hint  string            // what to do if it cannot be started
}

// Engine is a program that runs.
type Engine struct {
	name string
	done chan struct{}
	mu   sync.Mutex
	last []string
	err  error
}

// Start starts a program. It is told to end when ctx does, and killed if it does not.
func Start(ctx context.Context, p Program) (*Engine, error) {
	name := filepath.Base(p.Path)
	path, err := exec.LookPath(p.Path)
	if err != nil {
		return nil, &ringfence.Fault{Op: "engine", Kind: ringfence.KindUnavailable, Text: name + " is not installed", Err: err, Hint: p.Hint}
	}
	cmd := exec.CommandContext(ctx, path, p.Args...)
	cmd.Env = append([]string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"}, p.Env...)
	notAlone(cmd)
	cmd.Stdin = strings.NewReader(p.Stdin)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = grace
	r, w := io.Pipe()
	cmd.Stdout, cmd.Stderr = w, w
	if p.In != nil {
		cmd.Stdin = p.In
	}
	if p.Out != nil {
		cmd.Stdout = p.Out
	}
	if err := cmd.Start(); err != nil {
		return nil, &ringfence.Fault{Op: "engine", Kind: ringfence.KindUnavailable, Text: name + " cannot be started", Err: err, Hint: p.Hint}
	}
	e := &Engine{name: name, done: make(chan struct{})}
	heard := make(chan struct{})
	go func() {
		defer close(heard)
		lines(r, func(line string) {
			e.mu.Lock()
			if e.last = append(e.last, line); len(e.last) > kept {
				e.last = e.last[1:]
			}
			e.mu.Unlock()
			if p.Hear != nil {
				p.Hear(line)
			}
		})
	}()
	go func() {
		err := cmd.Wait()
		_ = w.Close()
		<-heard
		e.ended(ctx, err)
		close(e.done)
	}()
	return e, nil
}

// Run runs a program to its end. An end that is no success is a KindUnavailable fault, and so is one before its time.
func Run(ctx context.Context, p Program) error {
	e, err := Start(ctx, p)
	if err != nil {
		return err
	}
	err = e.Wait()
	if ctx.Err() != nil {
		return &ringfence.Fault{Op: "engine", Kind: ringfence.KindUnavailable, Text: e.name + " did not end in time", Err: ctx.Err(), Hint: p.Hint}
	}
	if f, ok := errors.AsType[*ringfence.Fault](err); ok && f.Err == nil {
		return nil
	}
	return err
}

// ended notes why the program is gone: an end that was asked for is none.
func (e *Engine) ended(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.err = &ringfence.Fault{Op: "engine", Kind: ringfence.KindUnavailable, Text: e.name + " ended by itself: " + cmp.Or(strings.Join(e.last, " / "), "it said nothing"), Err: err}
}

// Done is closed when the program has ended.
func (e *Engine) Done() <-chan struct{} { return e.done }

// Wait waits for the end, and returns why the program ended if nobody told it to.
func (e *Engine) Wait() error {
	<-e.done
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.err
}

// lines hands on line by line, with nothing in them that a terminal would obey.
func lines(r io.Reader, hear func(string)) {
	b := bufio.NewReaderSize(r, maxLine)
	for {
		line, more, err := b.ReadLine()
		text := Printable(string(line))
		for more && err == nil {
			_, more, err = b.ReadLine()
		}
		if text != "" {
			hear(text)
		}
		if err != nil {
			if !errors.Is(err, io.EOF) {
				_, _ = io.Copy(io.Discard, r)
			}
			return
		}
	}
}

// Printable puts question marks for what does not belong in a line.
func Printable(s string) string {
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if r == '\t' {
			return ' '
		}
		if r < ' ' || r == 0x7f || r == 0xfffd {
			return '?'
		}
		return r
	}, s))
}
