// Package proc runs servers pinned to one core and reads what they cost from /proc.
package proc

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Proc is one running server with its children.
type Proc struct {
	cmd  *exec.Cmd
	In   io.WriteCloser
	Out  *bufio.Reader
	done chan struct{}
	err  error
	log  tail
}

// tail keeps the last bytes of what a server said, for the report of its death.
type tail struct {
	mu sync.Mutex
	b  []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.b = append(t.b, p...)
	if len(t.b) > 8192 {
		t.b = append(t.b[:0], t.b[len(t.b)-4096:]...)
	}
	return len(p), nil
}

// Start runs a command on one core. Its standard error is kept for Tail.
func Start(core int, name string, args ...string) (*Proc, error) {
	p := &Proc{done: make(chan struct{})}
	p.cmd = exec.Command("taskset", append([]string{"-c", strconv.Itoa(core), name}, args...)...)
	p.cmd.Stderr = &p.log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var err error
	if p.In, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p.Out = bufio.NewReader(out)
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

// Alive reports whether the server still runs.
func (p *Proc) Alive() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// Tail returns the last lines that the server wrote to standard error.
func (p *Proc) Tail() string {
	p.log.mu.Lock()
	defer p.log.mu.Unlock()
	lines := strings.Split(strings.TrimSpace(string(p.log.b)), "\n")
	return strings.Join(lines[max(0, len(lines)-5):], "\n")
}

// Stop ends the server, by force if it takes more than five seconds.
func (p *Proc) Stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(5 * time.Second):
		for _, pid := range p.pids() {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		<-p.done
	}
}

// pids lists the process and its descendants.
func (p *Proc) pids() []int {
	parent := map[int]int{}
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, s := range stats {
		f := statFields(s)
		if f == nil {
			continue
		}
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(s)))
		ppid, _ := strconv.Atoi(f[1])
		parent[pid] = ppid
	}
	out := []int{p.cmd.Process.Pid}
	for pid := range parent {
		for q := parent[pid]; q > 1; q = parent[q] {
			if q == p.cmd.Process.Pid {
				out = append(out, pid)
				break
			}
		}
	}
	return out
}

// statFields returns the fields of /proc/PID/stat behind the command name (proc(5): state is the first).
func statFields(path string) []string {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	i := bytes.LastIndexByte(b, ')')
	if i < 0 {
		return nil
	}
	return strings.Fields(string(b[i+1:]))
}

// CPU returns the processor time that the server and its descendants have used: utime and stime of each.
func (p *Proc) CPU() time.Duration {
	var ticks int64
	for _, pid := range p.pids() {
		f := statFields(fmt.Sprintf("/proc/%d/stat", pid))
		if len(f) < 15 {
			continue
		}
		for _, i := range []int{11, 12, 13, 14} { // utime, stime and those of children that ended
			n, _ := strconv.ParseInt(f[i], 10, 64)
			ticks += n
		}
	}
	return time.Duration(ticks) * time.Second / 100 // USER_HZ is 100 on every Linux that Go supports
}

// Busy is CPU to the nanosecond, of the threads that run (proc(5), schedstat): for what is hardly busy.
func (p *Proc) Busy() (sum time.Duration) {
	for _, pid := range p.pids() {
		tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
		for _, t := range tasks {
			if b, err := os.ReadFile(t); err == nil {
				n, _ := strconv.ParseInt(strings.Fields(string(b) + " 0")[0], 10, 64)
				sum += time.Duration(n)
			}
		}
	}
	return sum
}

// Memory returns the resident bytes of the server and its descendants, with shared pages counted once (Pss).
func (p *Proc) Memory() int64 {
	var kib int64
	for _, pid := range p.pids() {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
		if err != nil {
			continue
		}
		for line := range strings.SplitSeq(string(b), "\n") {
			if v, ok := strings.CutPrefix(line, "Pss:"); ok {
				n, _ := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(v), "kB")), 10, 64)
				kib += n
			}
		}
	}
	return kib << 10
}
