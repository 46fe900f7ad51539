package main

import (
	"crypto/fips140"
	"os"
	"strings"
	"syscall"

	"ringfence"
)

// intoFIPS starts this program again in FIPS 140-3 mode, which Go takes on only as a process begins, unless it is in it. It returns only with an error, or if there is nothing to do.
// What it had open is closed by that.
func intoFIPS() error {
	if fips140.Enabled() {
		return nil
	}
	words, asked := withFIPS(os.Getenv("GODEBUG"))
	if asked { // the one that started us did so, or we did: it would go on for ever
		return &ringfence.Fault{Kind: ringfence.KindUnsupported, Text: "FIPS 140-3 mode is asked for, and this build does not take it on", Hint: "see `ringfence version`; take fips out of the configuration, or use another build"}
	}
	program, err := os.Executable()
	if err == nil {
		var env []string
		for _, v := range os.Environ() {
			if !strings.HasPrefix(v, "GODEBUG=") {
				env = append(env, v)
			}
		}
		err = syscall.Exec(program, os.Args, append(env, "GODEBUG="+words))
	}
	return &ringfence.Fault{Kind: ringfence.KindUnavailable, Text: "the program cannot start itself again in FIPS 140-3 mode", Hint: "start it with GODEBUG=" + words + " in its environment", Err: err}
}

// withFIPS returns the words of GODEBUG with FIPS 140-3 mode on, and whether they had it on.
func withFIPS(words string) (with string, had bool) {
	var keep []string
	for _, w := range strings.Split(words, ",") {
		key, value, _ := strings.Cut(w, "=")
		switch key {
		case "fips140": // the last one counts
			had = value == "on" || value == "only"
		case "":
		default:
			keep = append(keep, w)
		}
	}
	return strings.Join(append(keep, "fips140=on"), ","), had
}
