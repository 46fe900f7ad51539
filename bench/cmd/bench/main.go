// Command bench runs the same load on Ringfence and on the peers, by turns, and prints what each operation costs the server.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

type options struct {
	only    string
	reps    int
	seconds float64
	json    bool
	node    string
	proxy   string
	profile string
	core    int
	phones  int
}

func main() {
	var o options
	flag.StringVar(&o.only, "only", "", "rows to run, by the beginning of their names, separated by commas; empty: all")
	flag.IntVar(&o.reps, "reps", 3, "how often each row is run on each server")
	flag.Float64Var(&o.seconds, "seconds", 4, "how long each run is measured, after a warm-up")
	flag.BoolVar(&o.json, "json", false, "print JSON")
	flag.StringVar(&o.node, "node", "", "the benchnode binary")
	flag.StringVar(&o.proxy, "proxy", "", "the benchproxy binary")
	flag.StringVar(&o.profile, "profile", "", "write CPU profiles of Ringfence into this directory")
	flag.IntVar(&o.core, "core", 0, "the core of the servers")
	flag.IntVar(&o.phones, "phones", 10000, "how many phones the memory rows use")
	flag.Parse()
	if err := run(o); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(o options) error {
	dir, err := os.MkdirTemp("", "ringfence-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if o.node == "" {
		o.node = filepath.Join(filepath.Dir(os.Args[0]), "benchnode")
	}
	if o.proxy == "" {
		o.proxy = filepath.Join(filepath.Dir(os.Args[0]), "benchproxy")
	}
	if runtime.NumCPU() > 2 {
		fmt.Fprintln(os.Stderr, "bench: the generator should have one core, like the servers; see bench/run")
	}
	b := &bench{options: o, dir: dir}
	defer b.stopAll()
	var results []Result
	for _, r := range rows() {
		if !wanted(o.only, r.name) {
			continue
		}
		res := b.row(r)
		fmt.Fprintln(os.Stderr, res.line())
		results = append(results, res)
	}
	if o.json {
		enc := json.NewEncoder(os.Stdout)
		enc.SetIndent("", "  ")
		return enc.Encode(map[string]any{"results": results, "host": host()})
	}
	table(results)
	return nil
}

func wanted(only, name string) bool {
	if only == "" {
		return true
	}
	for p := range strings.SplitSeq(only, ",") {
		if strings.HasPrefix(name, p) {
			return true
		}
	}
	return false
}

func host() map[string]string {
	h := map[string]string{"go": runtime.Version(), "when": time.Now().UTC().Format(time.RFC3339)}
	if b, err := exec.Command("uname", "-r").Output(); err == nil {
		h["kernel"] = strings.TrimSpace(string(b))
	}
	if b, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.SplitSeq(string(b), "\n") {
			if v, ok := strings.CutPrefix(line, "model name"); ok {
				h["cpu"] = strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(v), ":"))
				break
			}
		}
	}
	return h
}
