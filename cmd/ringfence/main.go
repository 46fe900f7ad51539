// Command ringfence runs calling that is secure from the first ring.
//
// Each verb, or group of verbs, is one file with a function newXxxCommand; root.go lists them. Except for up, demo, phone and a few that need no node,
// the verbs are clients of the administration API.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() { os.Exit(run()) }

func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return execute(ctx, os.Args[1:], os.Stdout, os.Stderr)
}
