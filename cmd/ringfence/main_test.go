package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"ringfence/internal/testkit"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"ringfence": main})
}

// TestScripts runs the scenarios of testdata/script: the whole program, with real nodes on free ports of the loopback address.
func TestScripts(t *testing.T) {
	// What scripts run by themselves.
	testkit.Need(t, "/usr/bin/python3", "python3")
	testkit.Need(t, "/sbin/ip", "iproute2")
	testkit.Need(t, "/usr/sbin/nft", "nftables")
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(e *testscript.Env) error {
			guides, err := filepath.Abs("../../docs/guides")
			if err != nil {
				return err
			}
			e.Setenv("GUIDES", guides)
			e.Setenv("GORACE", "atexit_sleep_ms=0") // or each program waits for a second at its end
			e.Setenv("HOME", e.WorkDir)
			e.Setenv("XDG_CONFIG_HOME", filepath.Join(e.WorkDir, "config"))
			e.Setenv("RINGFENCE_DATA", filepath.Join(e.WorkDir, "data"))
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"await": await, "gone": gone, "field": field, "exit": exit, "cmpjson": cmpjson, "says": says, "mode": mode, "signal": signalNode, "uselogin": useLogin, "match": match},
	})
}

// until polls a condition that another process brings about.
func until(ts *testscript.TestScript, what string, cond func() bool) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			ts.Fatalf("never: %s", what)
		}
	}
}

// await FILE waits until a file is there.
func await(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: await FILE")
	}
	file := ts.MkAbs(args[0])
	until(ts, file+" is there", func() bool { _, err := os.Stat(file); return err == nil })
}

// gone FILE waits until a file is not there any more.
func gone(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: gone FILE")
	}
	file := ts.MkAbs(args[0])
	until(ts, file+" is gone", func() bool { _, err := os.Stat(file); return os.IsNotExist(err) })
}

// match VAR PATTERN FILE waits until a file has the pattern, and puts its first group into an environment variable.
func match(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: match VAR PATTERN FILE")
	}
	want, file := regexp.MustCompile(args[1]), ts.MkAbs(args[2])
	until(ts, file+" has "+args[1], func() bool {
		b, err := os.ReadFile(file)
		m := want.FindSubmatch(b)
		if err != nil || len(m) != 2 {
			return false
		}
		ts.Setenv(args[0], string(m[1]))
		return true
	})
}

// field VAR PATH FILE puts a value of a JSON file into an environment variable, e.g. "field AT https data/run.json". The file
// may be stdout.
func field(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: field VAR PATH FILE")
	}
	var v any
	ts.Check(json.Unmarshal([]byte(ts.ReadFile(args[2])), &v))
	for _, key := range strings.Split(args[1], ".") {
		switch node := v.(type) {
		case map[string]any:
			v = node[key]
		case []any:
			i := 0
			_, err := fmt.Sscan(key, &i)
			ts.Check(err)
			if i >= len(node) {
				ts.Fatalf("%s: the list has only %d", args[1], len(node))
			}
			v = node[i]
		default:
			v = nil
		}
	}
	if v == nil {
		ts.Fatalf("there is no %s in %s", args[1], args[2])
	}
	ts.Setenv(args[0], fmt.Sprint(v))
}

// exit CODE COMMAND… runs the program and checks its exit code; its output goes to the files out and err.
func exit(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exit CODE ARGUMENTS…")
	}
	var out, errs bytes.Buffer
	code := inEnv(ts, func() int { return execute(context.Background(), args[1:], &out, &errs) })
	ts.Check(os.WriteFile(ts.MkAbs("out"), out.Bytes(), 0o600))
	ts.Check(os.WriteFile(ts.MkAbs("err"), errs.Bytes(), 0o600))
	ts.Logf("%s%s[exit %d]\n", out.String(), errs.String(), code)
	if fmt.Sprint(code) != args[0] {
		ts.Fatalf("exit code %d, want %s", code, args[0])
	}
}

// inEnv runs part of the program in this process, with the environment of the script.
func inEnv(ts *testscript.TestScript, run func() int) int {
	inProcess.Lock()
	defer inProcess.Unlock()
	for _, name := range []string{"RINGFENCE_DATA", "XDG_CONFIG_HOME", "HOME"} {
		old := os.Getenv(name)
		ts.Check(os.Setenv(name, ts.Getenv(name)))
		defer func() { ts.Check(os.Setenv(name, old)) }()
	}
	return run()
}

// inProcess lets one script at a time change the environment.
var inProcess sync.Mutex

// signalNode sends a signal to the node of a run.json: signal TERM data/run.json.
func signalNode(ts *testscript.TestScript, neg bool, args []string) {
	known := map[string]os.Signal{"TERM": syscall.SIGTERM, "HUP": syscall.SIGHUP}
	if neg || len(args) != 2 || known[args[0]] == nil {
		ts.Fatalf("usage: signal TERM|HUP FILE")
	}
	var r running
	ts.Check(json.Unmarshal([]byte(ts.ReadFile(args[1])), &r))
	p, err := os.FindProcess(r.PID)
	ts.Check(err)
	ts.Check(p.Signal(known[args[0]]))
}

// mode OCTAL FILE checks who may use a file.
func mode(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: mode OCTAL FILE")
	}
	st, err := os.Stat(ts.MkAbs(args[1]))
	ts.Check(err)
	if got := fmt.Sprintf("%o", st.Mode().Perm()); got != args[0] {
		ts.Fatalf("%s has mode %s, want %s", args[1], got, args[0])
	}
}

// uselogin NODE TOKEN puts another token into the file of logins.
func useLogin(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: uselogin NODE TOKEN")
	}
	inEnv(ts, func() int {
		all, err := readLogins()
		ts.Check(err)
		l := all[args[0]]
		l.Token = args[1]
		all[args[0]] = l
		ts.Check(writeLogins(all))
		return 0
	})
}

// says PATTERN ARGUMENTS… runs the program until its output has the pattern.
func says(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: says PATTERN ARGUMENTS…")
	}
	want := regexp.MustCompile(args[0])
	until(ts, "the output has "+args[0], func() bool {
		var out bytes.Buffer
		return inEnv(ts, func() int { return execute(context.Background(), args[1:], &out, &bytes.Buffer{}) }) == 0 && want.MatchString(out.String())
	})
}

// cmpjson GOT WANT compares the shape of JSON: names and types. A list has the shape of its first element, and an empty one
// that is wanted fits only an empty one.
func cmpjson(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: cmpjson GOT WANT")
	}
	var got, want any
	ts.Check(json.Unmarshal([]byte(ts.ReadFile(args[0])), &got))
	ts.Check(json.Unmarshal([]byte(ts.ReadFile(args[1])), &want))
	a, err := json.Marshal(shape(got))
	ts.Check(err)
	b, err := json.Marshal(want)
	ts.Check(err)
	if !bytes.Equal(a, b) {
		ts.Fatalf("the shape is\n%s\nand not\n%s", a, b)
	}
}

func shape(v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := map[string]any{}
		for k, x := range v {
			out[k] = shape(x)
		}
		return out
	case []any:
		if len(v) == 0 {
			return v
		}
		return []any{shape(v[0])}
	case string:
		return "string"
	case float64:
		return "number"
	case bool:
		return "boolean"
	}
	return "null"
}
