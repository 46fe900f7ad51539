package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"ringfence/internal/network/target"
)

// formatFlag adds --format, with completion.
func formatFlag(cmd *cobra.Command, to *string) {
	var words []string
	for _, t := range target.All() {
		words = append(words, t.Name+"\t"+t.Prints)
	}
	cmd.Flags().StringVar(to, "format", "nftables", "what firewall it is: "+strings.Join(target.Names(), ", "))
	_ = cmd.RegisterFlagCompletionFunc("format", cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp))
}

// formatsHelp lists what is read of each firewall.
func formatsHelp() (out string) {
	for _, t := range target.All() {
		out += fmt.Sprintf("  %-14s %s\n", t.Name, t.Prints)
	}
	return out
}
