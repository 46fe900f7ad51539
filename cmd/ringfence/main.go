// Command ringfence runs calling that is secure from the first ring.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"ringfence"
)

func main() { os.Exit(run()) }

func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	root := &cobra.Command{Use: "ringfence", Short: "Calling that is secure from the first ring", SilenceUsage: true, SilenceErrors: true}
	root.AddCommand(newDemoCommand("dev"))
	if err := root.ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		if hint := ringfence.HintOf(err); hint != "" {
			fmt.Fprintln(os.Stderr, "hint: ", hint)
		}
		return ringfence.KindOf(err).Exit()
	}
	return 0
}
