package main

import (
	"context"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"ringfence/internal/node/admin/api"
)

func newCompletionCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "completion bash|zsh|fish", Short: "Print the shell completion script",
		Long: "completion prints a script that completes verbs, flags, and the ids of users, devices and calls of the running node.\n\n" +
			"bash:  ringfence completion bash > /etc/bash_completion.d/ringfence\n" +
			"zsh:   ringfence completion zsh > \"${fpath[1]}/_ringfence\"\n" +
			"fish:  ringfence completion fish > ~/.config/fish/completions/ringfence.fish",
		Example: "  source <(ringfence completion bash)",
		Args:    cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs), ValidArgs: []string{"bash", "zsh", "fish"},
		RunE: func(cmd *cobra.Command, args []string) error {
			root, out := cmd.Root(), cmd.OutOrStdout()
			switch args[0] {
			case "zsh":
				return root.GenZshCompletion(out)
			case "fish":
				return root.GenFishCompletion(out, true)
			}
			return root.GenBashCompletionV2(out, true)
		},
	}
	return cmd
}

// complete offers the ids that list returns for the first argument. Without a node there is nothing to offer.
func complete(cmd *cobra.Command, args []string, list func(ctx context.Context) ([]string, error)) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	parent := cmd.Context()
	if parent == nil {
		parent = context.Background()
	}
	ctx, cancel := context.WithTimeout(parent, 2*time.Second)
	defer cancel()
	out, err := list(ctx)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return out, cobra.ShellCompDirectiveNoFileComp
}

func (a *app) completeUsers(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	return complete(cmd, args, func(ctx context.Context) (out []string, err error) {
		users, err := a.allUsers(ctx)
		for _, u := range users {
			out = append(out, string(u.ID)+"\t"+join(u.Numbers, " ")+" "+u.Name)
		}
		return out, err
	})
}

func (a *app) completeDevices(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	return complete(cmd, args, func(ctx context.Context) (out []string, err error) {
		ds, err := a.allDevices(ctx, "")
		for _, d := range ds {
			out = append(out, string(d.ID)+"\t"+string(d.User)+" "+d.Kind)
		}
		return out, err
	})
}

func (a *app) completeCalls(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	return complete(cmd, args, func(ctx context.Context) (out []string, err error) {
		var calls []api.Call
		err = a.ask(ctx, http.MethodGet, "/calls", nil, nil, &calls)
		for _, c := range calls {
			out = append(out, string(c.ID)+"\t"+c.From+" to "+c.To)
		}
		return out, err
	})
}

func (a *app) completeTrunks(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	return complete(cmd, args, func(ctx context.Context) (out []string, err error) {
		var trunks []api.Trunk
		err = a.ask(ctx, http.MethodGet, "/trunks", nil, nil, &trunks)
		for _, t := range trunks {
			out = append(out, t.Name+"\t"+t.Host)
		}
		return out, err
	})
}

// completeUserFlag is completeUsers for a flag, whatever arguments there are.
func (a *app) completeUserFlag(cmd *cobra.Command, _ []string, part string) ([]string, cobra.ShellCompDirective) {
	return a.completeUsers(cmd, nil, part)
}
