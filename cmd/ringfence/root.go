package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"ringfence"
	"ringfence/internal/node"
)

// app is what the verbs share: where the node is.
type app struct {
	data string // data directory of a node on this host
	node string // or the address of a node that we have logged in to
}

// newRootCommand builds the whole tree of verbs.
func newRootCommand() *cobra.Command {
	a := &app{}
	version := node.BuildVersion("").Version
	root := &cobra.Command{
		Use:   "ringfence",
		Short: "Calling that is secure from the first ring",
		Long: "ringfence runs an organisation's phones over TLS and SRTP, and proves it.\n\n" +
			"`ringfence demo` shows a sealed call in seconds; `ringfence up` runs the platform. All other verbs talk to a running node: the one\n" +
			"of the data directory on this host, or with --node one that `ringfence login` knows.",
		Example:       "  ringfence demo\n  ringfence up --domain example.com\n  ringfence user add alice --number 2001\n  ringfence device add alice-desk --user alice",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.PersistentFlags().StringVar(&a.data, "data", defaultData(), "data directory of the node on this host ($RINGFENCE_DATA)")
	root.PersistentFlags().StringVar(&a.node, "node", "", "a node elsewhere, as HOST or HOST:PORT; see ringfence login")
	root.AddGroup(&cobra.Group{ID: "run", Title: "Run:"}, &cobra.Group{ID: "people", Title: "People and phones:"}, &cobra.Group{ID: "see", Title: "See what happens:"},
		&cobra.Group{ID: "admin", Title: "Configure and administer:"})
	add := func(group string, verbs ...*cobra.Command) {
		for _, v := range verbs {
			v.GroupID = group
		}
		root.AddCommand(verbs...)
	}
	add("run", newUpCommand(a), newDemoCommand(version), newPhoneCommand(a), newVersionCommand())
	add("people", newUserCommand(a), newDeviceCommand(a))
	add("see", newStatusCommand(a), newCallCommand(a), newRegistrationsCommand(a), newConnectionsCommand(a), newTrunkCommand(a), newCTICommand(a), newFlowsCommand(a), newCDRCommand(a), newAuditCommand(a))
	add("admin", newConfigCommand(a), newLoginCommand(a), newTokenCommand(a), newSignInCommand(a), newTrustCommand(a), newTLSCommand(a), newProfileCommand(a), newTrustListsCommand(a), newNetworkCommand(a), newReadyCommand(a), newCompletionCommand())
	root.SetHelpCommandGroupID("admin")
	root.CompletionOptions.DisableDefaultCmd = true // ours has examples
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return &ringfence.Fault{Kind: ringfence.KindInvalid, Text: err.Error(), Hint: "see `" + cmd.CommandPath() + " --help`"}
	})
	return root
}

// execute runs one command line and returns the exit code.
func execute(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	root := newRootCommand()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	f, ok := errors.AsType[*ringfence.Fault](err)
	if !ok { // what cobra itself says: an unknown verb, too many arguments
		f = &ringfence.Fault{Kind: ringfence.KindInvalid, Text: err.Error(), Hint: "see `ringfence --help`"}
	}
	text := f.Text
	if text == "" {
		text = f.Error()
	}
	if f.Err != nil && !strings.Contains(text, f.Err.Error()) {
		text += ": " + f.Err.Error()
	}
	fmt.Fprintln(stderr, "error: "+text)
	if hint := ringfence.HintOf(f); hint != "" {
		fmt.Fprintln(stderr, "hint: "+hint)
	}
	return f.Kind.Exit()
}

// defaultData is where a node keeps its things if nobody says otherwise.
func defaultData() string {
	if d := os.Getenv("RINGFENCE_DATA"); d != "" {
		return d
	}
	if os.Geteuid() == 0 {
		return "/var/lib/ringfence"
	}
	base := os.Getenv("XDG_DATA_HOME")
	if base == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return "ringfence-data"
		}
		base = filepath.Join(home, ".local", "share")
	}
	return filepath.Join(base, "ringfence")
}

// group completes a verb that only has verbs below it.
func group(cmd *cobra.Command, verbs ...*cobra.Command) *cobra.Command {
	cmd.Args = cobra.NoArgs
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return invalid("what shall be done? choose a verb below "+cmd.CommandPath(), "see `"+cmd.CommandPath()+" --help`")
	}
	cmd.AddCommand(verbs...)
	return cmd
}

func invalid(text, hint string) error {
	return &ringfence.Fault{Kind: ringfence.KindInvalid, Text: text, Hint: hint}
}
