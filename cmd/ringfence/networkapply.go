package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"ringfence"
	"ringfence/internal/network/firewall/nft"
	"ringfence/internal/network/prove"
	"ringfence/internal/state/durable"
)

// applyFlags say what is applied, and how long somebody has to confirm it.
type applyFlags struct {
	needs              needsOf
	nftables           bool
	within             time.Duration
	state              string
	confirm, yes, back bool
	way                string // the file with the way back, in the process that made it
	guard              string // the file with the way back; this process is the one that goes it
}

// undoFile is the way back, as nft reads it. It is there as long as nobody has confirmed, and its name is its own, so that the guard of an earlier one leaves it alone.
func (f *applyFlags) undoFile() string {
	if f.way == "" {
		if all, err := filepath.Glob(filepath.Join(f.state, "undo-*.nft")); err == nil && len(all) > 0 {
			return all[0]
		}
		return filepath.Join(f.state, "undo-none.nft")
	}
	return f.way
}

// keptFile is what a way back becomes once somebody has confirmed, so that whoever waits can tell.
func (f *applyFlags) keptFile() string { return filepath.Join(f.state, "kept.nft") }

func newNetworkApplyCommand(a *app) *cobra.Command {
	f := &applyFlags{}
	cmd := &cobra.Command{
		Use: "apply --nftables --set SET --site FILE", Short: "Put a site's rules into force on this host, and go back unless they are confirmed",
		Long: "apply writes the rules as `network render nftables` does, loads them in one transaction, and proves what the kernel then says. They go away again, and what was there before comes back,\n" +
			"unless somebody types yes within a minute, or says `network apply --confirm` from another session: whoever is locked out by the rules need only wait. The way back is gone by a\n" +
			"process of its own, also if this one or its terminal ends. It takes root.",
		Example: "  sudo ringfence network apply --nftables --set self --site host.yaml\n  sudo ringfence network apply --confirm\n  sudo ringfence network apply --back\n  sudo ringfence network apply --nftables --set webex-calling --site site.yaml --within 5m",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case f.guard != "":
				return f.goBackLater()
			case f.confirm:
				return f.confirmed(cmd)
			case f.back:
				return f.goBack(cmd.Context(), cmd)
			}
			return f.run(cmd, a)
		},
	}
	f.needs.flags(cmd)
	for _, name := range []string{"set", "site"} { // not with --confirm and --back
		_ = cmd.Flags().SetAnnotation(name, cobra.BashCompOneRequiredFlag, []string{"false"})
	}
	cmd.Flags().BoolVar(&f.nftables, "nftables", false, "by nftables, the firewall of this host's kernel")
	cmd.Flags().DurationVar(&f.within, "within", time.Minute, "how long to wait for a confirmation")
	cmd.Flags().BoolVar(&f.yes, "yes", false, "confirm at once, if the proof says that the rules are exact")
	cmd.Flags().BoolVar(&f.confirm, "confirm", false, "keep the rules that wait for it")
	cmd.Flags().BoolVar(&f.back, "back", false, "go back now")
	cmd.Flags().StringVar(&f.state, "state", "/run/ringfence", "directory for the way back")
	cmd.Flags().StringVar(&f.guard, "guard", "", "the way back that this process goes when the time is over; for apply itself")
	_ = cmd.Flags().MarkHidden("guard")
	cmd.MarkFlagsMutuallyExclusive("confirm", "back", "yes")
	return cmd
}

func (f *applyFlags) run(cmd *cobra.Command, a *app) error {
	switch {
	case !f.nftables:
		return invalid("apply needs to know by what", "there is --nftables")
	case f.needs.set == "" || f.needs.site == "":
		return invalid("apply needs a set and a site file", "name them with --set and --site")
	case f.within < time.Second || f.within > time.Hour:
		return invalid(fmt.Sprintf("%s is not between 1s and 1h", f.within), "give --within")
	}
	p, err := f.needs.policy(cmd, a)
	if err != nil {
		return err
	}
	if len(p.Missing) > 0 {
		return invalid("the site file says too little:\n"+unresolved(p.Missing), "complete it, or name the rows under `without`")
	}
	text, cert, err := nft.Render(p)
	if err != nil {
		return err
	}
	certify(cmd.ErrOrStderr(), cert)
	if err := f.rememberBefore(cmd.Context(), nft.Table(p)); err != nil {
		return err
	}
	if err := f.startGuard(); err != nil {
		_ = os.Remove(f.undoFile())
		return err
	}
	if err := runNFT(cmd.Context(), text); err != nil {
		_ = os.Remove(f.undoFile())
		return err
	}
	said, err := liveNFT(cmd.Context(), p.Interfaces)
	if err != nil {
		return errors.Join(err, f.goBack(cmd.Context(), cmd))
	}
	r, err := prove.Compare(p, said.rules)
	if err != nil {
		return errors.Join(err, f.goBack(cmd.Context(), cmd))
	}
	fmt.Fprintf(cmd.OutOrStdout(), "In force; the proof of what the kernel says: %s.\n", r.Verdict)
	if r.Verdict != prove.Exact {
		printComparison(cmd.OutOrStdout(), r)
		if f.yes {
			return errors.Join(judged(r), f.goBack(cmd.Context(), cmd))
		}
	}
	if f.yes {
		return f.confirmed(cmd)
	}
	return f.wait(cmd)
}

// rememberBefore keeps the way back: the table as it is, or that there is none.
func (f *applyFlags) rememberBefore(ctx context.Context, table string) error {
	if err := os.MkdirAll(f.state, 0o700); err != nil {
		return &ringfence.Fault{Kind: ringfence.KindDenied, Text: "the way back cannot be kept in " + f.state, Err: err, Hint: "run it as root, or name another directory with --state"}
	}
	_ = os.Remove(f.keptFile()) // of an earlier one
	undo := fmt.Sprintf("add table inet %s\ndelete table inet %s\n", table, table)
	if out, err := exec.CommandContext(ctx, "nft", "-s", "list", "table", "inet", table).Output(); err == nil {
		undo += string(out)
	} else if e, ok := errors.AsType[*exec.ExitError](err); !ok || !strings.Contains(string(e.Stderr), "No such file") {
		return nftFault(err)
	}
	if _, err := os.Stat(f.undoFile()); err == nil {
		return &ringfence.Fault{Kind: ringfence.KindConflict, Text: "rules wait already for somebody to confirm them", Hint: "`ringfence network apply --confirm` keeps them, --back goes back"}
	}
	f.way = filepath.Join(f.state, fmt.Sprintf("undo-%016x.nft", rand.Uint64()))
	if err := durable.Create(f.way, []byte(undo)); err != nil {
		return &ringfence.Fault{Kind: ringfence.KindUnavailable, Text: "the way back cannot be kept in " + f.state, Err: err}
	}
	return nil
}

// startGuard starts the process that goes back when the time is over. It has a session of its own, so that it outlives a terminal.
func (f *applyFlags) startGuard() error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	c := exec.Command(self, "network", "apply", "--guard", f.undoFile(), "--within", f.within.String())
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := c.Start(); err != nil {
		return &ringfence.Fault{Kind: ringfence.KindUnavailable, Text: "nobody would go back", Err: err}
	}
	return c.Process.Release()
}

// goBackLater is the guard.
func (f *applyFlags) goBackLater() error {
	signal.Ignore(syscall.SIGHUP, syscall.SIGINT)
	<-time.After(f.within)
	return undo(context.Background(), f.guard)
}

// undo goes back, if nobody has confirmed or gone back before.
func undo(ctx context.Context, file string) error {
	mine := file + ".going"
	if err := os.Rename(file, mine); err != nil {
		return nil // confirmed
	}
	text, err := os.ReadFile(mine)
	if err == nil {
		err = runNFT(ctx, string(text))
	}
	if err != nil {
		return errors.Join(err, os.Rename(mine, file))
	}
	return os.Remove(mine)
}

func (f *applyFlags) goBack(ctx context.Context, cmd *cobra.Command) error {
	if _, err := os.Stat(f.undoFile()); err != nil {
		return nothingWaits()
	}
	if err := undo(ctx, f.undoFile()); err != nil {
		return err
	}
	fmt.Fprintln(cmd.OutOrStdout(), "What was there before is in force again.")
	return nil
}

func nothingWaits() error {
	return &ringfence.Fault{Kind: ringfence.KindNotFound, Text: "no rules wait to be confirmed", Hint: "they were confirmed, or the time was over and what was there before is in force again"}
}

func (f *applyFlags) confirmed(cmd *cobra.Command) error {
	if err := os.Rename(f.undoFile(), f.keptFile()); err != nil {
		return nothingWaits()
	}
	fmt.Fprintln(cmd.OutOrStdout(), "Confirmed: the rules stay until this host starts again.")
	return nil
}

// wait asks for a confirmation, and tells what became of it.
func (f *applyFlags) wait(cmd *cobra.Command) error {
	fmt.Fprintf(cmd.ErrOrStderr(), "Type yes within %s to keep them: ", f.within)
	said := make(chan string, 1)
	go func() {
		line, _ := bufio.NewReader(cmd.InOrStdin()).ReadString('\n')
		said <- strings.TrimSpace(line)
	}()
	over, look := time.After(f.within), time.NewTicker(250*time.Millisecond)
	defer look.Stop()
	for {
		select {
		case word := <-said:
			if word == "yes" {
				return f.confirmed(cmd)
			}
			if word != "" {
				return f.goBack(cmd.Context(), cmd)
			}
			said = nil // nobody is there: another session may confirm
		case <-look.C: // another session may have decided
			if _, err := os.Stat(f.way); err == nil {
				continue
			}
			if _, err := os.Stat(f.keptFile()); err == nil {
				fmt.Fprintln(cmd.OutOrStdout(), "Confirmed from another session.")
				return nil
			}
			return &ringfence.Fault{Kind: ringfence.KindConflict, Text: "the rules were taken back, and what was there before is in force again", Hint: "by another session, or since nobody confirmed them in time"}
		case <-over:
			if err := undo(cmd.Context(), f.way); err != nil { // unless the guard was faster
				return err
			}
			return &ringfence.Fault{Kind: ringfence.KindTimeout, Text: "nobody confirmed the rules, and what was there before is in force again", Hint: "say yes next time, or `ringfence network apply --confirm` from another session"}
		case <-cmd.Context().Done():
			return f.goBack(context.WithoutCancel(cmd.Context()), cmd)
		}
	}
}

// runNFT has nft load a text, in one transaction.
func runNFT(ctx context.Context, text string) error {
	c := exec.CommandContext(ctx, "nft", "-f", "-")
	c.Stdin = strings.NewReader(text)
	var said bytes.Buffer
	c.Stderr = &said
	if err := c.Run(); err != nil {
		return &ringfence.Fault{Kind: ringfence.KindUnavailable, Text: "nft does not take the rules: " + strings.TrimSpace(said.String()), Err: err, Hint: "run it as root, where the package nftables is installed; nothing was changed"}
	}
	return nil
}

func nftFault(err error) error {
	said := err.Error()
	if e, ok := errors.AsType[*exec.ExitError](err); ok {
		said = strings.TrimSpace(string(e.Stderr))
	}
	return &ringfence.Fault{Kind: ringfence.KindUnavailable, Text: "nft does not say what the kernel has: " + said, Hint: "run it as root, where the package nftables is installed"}
}
