package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"ringfence"
	"ringfence/internal/state/store"
)

// sealKey is the file of the sealing key in a data directory.
func (a *app) sealKey() (string, error) {
	if a.node != "" {
		return "", invalid("the sealing key is on the node's own host, and is changed there", "run it there without --node")
	}
	return filepath.Abs(filepath.Join(a.data, "seal.key"))
}

// sealing is what trust seal --json prints.
type sealing struct {
	File    string `json:"file"`
	Wrapped bool   `json:"wrapped"`
	KDF     string `json:"kdf,omitempty"`
}

func newSealCommand(a *app) *cobra.Command {
	var fresh, old, oldCommand, freshCommand string
	var remove, force, asJSON bool
	cmd := &cobra.Command{
		Use: "seal", Short: "Wrap the sealing key with a passphrase",
		Long: "seal shows how the key that seals the secrets of the database is kept in the data directory. With --passphrase-file it wraps the key with a passphrase (argon2id, 64 MiB,\n" +
			"3 passes), which every start needs from then on; with --old-passphrase-file as well it changes the passphrase. --remove --force takes it off. The key itself stays, so the\n" +
			"database does not change, and a node may run meanwhile. A file with a passphrase may be read by its owner only, and its first line counts; - is the standard input.\n" +
			"With --passphrase-command the passphrase is what a command prints, such as one that has a PKCS #11 token, a TPM or a vault open it (docs/guides/authority.md).\n" +
			"Copies of the file, in backups too, keep the passphrase that they were made with.",
		Example: "  ringfence trust seal\n  ringfence trust seal --passphrase-file phrase.txt\n  ringfence trust seal --old-passphrase-file phrase.txt --passphrase-file new.txt\n" +
			"  ringfence trust seal --old-passphrase-file phrase.txt --remove --force",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			file, err := a.sealKey()
			if err != nil {
				return err
			}
			if fresh == "-" && old == "-" {
				return invalid("both passphrases cannot come from the standard input", "put one of them into a file")
			}
			if remove && !force {
				return &ringfence.Fault{Kind: ringfence.KindConflict, Text: "without a passphrase, whoever can read " + file + " can open every secret of the database", Hint: "if that is meant, go on with --force"}
			}
			switch {
			case fresh != "" || freshCommand != "" || remove:
				if err := rewrap(cmd, file, phraseOf{old, oldCommand}, phraseOf{fresh, freshCommand}); err != nil {
					return err
				}
			case old != "" || oldCommand != "" || force:
				return invalid("there is nothing to do with the old passphrase alone", "name a new one with --passphrase-file, or say --remove --force")
			}
			w, err := store.WrappingOf(file)
			if err != nil {
				return err
			}
			return show(cmd, asJSON, sealing{file, w.Wrapped, w.KDF}, func(out io.Writer) {
				kept := "as it is: whoever can read the file has it"
				if w.Wrapped {
					kept = "wrapped with a passphrase (" + w.KDF + ")"
				}
				facts(out, "file", file, "key", kept)
			})
		},
	}
	cmd.Flags().StringVar(&fresh, "passphrase-file", "", "file with the passphrase that is to open the key")
	cmd.Flags().StringVar(&old, "old-passphrase-file", "", "file with the passphrase that opens it now")
	cmd.Flags().BoolVar(&remove, "remove", false, "keep the key without a passphrase")
	cmd.Flags().BoolVar(&force, "force", false, "although whoever can read the file then has the key")
	cmd.Flags().StringVar(&freshCommand, "passphrase-command", "", "command that prints the passphrase that is to open the key")
	cmd.Flags().StringVar(&oldCommand, "old-passphrase-command", "", "command that prints the passphrase that opens it now")
	cmd.MarkFlagsMutuallyExclusive("passphrase-file", "passphrase-command", "remove")
	cmd.MarkFlagsMutuallyExclusive("old-passphrase-file", "old-passphrase-command")
	return jsonFlag(cmd, &asJSON)
}

// shortest is how many bytes a new passphrase has at least (NIST SP 800-63B section 5.1.1.2).
const shortest = 8

// phraseOf is where a passphrase comes from: a file or a command; neither: there is none.
type phraseOf struct{ file, command string }

func (p phraseOf) read(cmd *cobra.Command) ([]byte, error) {
	switch {
	case p.file != "":
		return sealPhrase(cmd, p.file)
	case p.command != "":
		return commandPhrase(cmd, p.command)
	}
	return nil, nil
}

func rewrap(cmd *cobra.Command, file string, old, fresh phraseOf) error {
	before, err := old.read(cmd)
	if err != nil {
		return err
	}
	after, err := fresh.read(cmd)
	if err != nil {
		return err
	}
	if after != nil {
		if len(after) < shortest {
			return invalid(fmt.Sprintf("the passphrase is shorter than %d bytes", shortest), "five random words are a good one")
		}
	}
	if len(before) == 0 {
		if w, err := store.WrappingOf(file); err == nil && w.Wrapped {
			return &ringfence.Fault{Kind: ringfence.KindUnauthenticated, Text: "the sealing key is wrapped with a passphrase already, and its present one is needed", Hint: "name the file that has it with --old-passphrase-file, or what prints it with --old-passphrase-command"}
		}
	}
	return store.RewrapKey(file, before, after)
}

// sealPhrase reads the passphrase of a sealing key from a file that nobody else can read.
func sealPhrase(cmd *cobra.Command, file string) ([]byte, error) {
	if file != "-" {
		if err := onlyOwner(file, 0o077); err != nil {
			return nil, err
		}
	}
	return passphrase(cmd, file)
}

// onlyOwner refuses a file that others may use.
func onlyOwner(file string, others os.FileMode) error {
	st, err := os.Stat(file)
	if err != nil {
		return &ringfence.Fault{Kind: ringfence.KindNotFound, Text: "the passphrase file cannot be read", Err: err}
	}
	if mode := st.Mode(); mode.IsRegular() && mode.Perm()&others != 0 {
		return &ringfence.Fault{Kind: ringfence.KindInsecure, Text: fmt.Sprintf("the passphrase file %s may be used by others than its owner (mode %o)", file, mode.Perm()), Hint: "chmod 600 " + file + ", and take another passphrase if somebody may have read it"}
	}
	return nil
}

// Bounds of a command that prints a passphrase.
const (
	commandPatience = time.Minute // somebody may have to touch a token
	longestPhrase   = 2048
)

// commandPhrase returns the first line that a command prints. What it says otherwise is shown, and what it printed never is.
func commandPhrase(cmd *cobra.Command, line string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(cmd.Context(), commandPatience)
	defer cancel()
	c := exec.CommandContext(ctx, "/bin/sh", "-c", line)
	var out bytes.Buffer
	c.Stdout, c.Stderr, c.WaitDelay = &capped{&out, longestPhrase}, cmd.ErrOrStderr(), time.Second
	if err := c.Run(); err != nil {
		return nil, &ringfence.Fault{Kind: ringfence.KindUnauthenticated, Text: "the command that prints the passphrase failed", Err: err, Hint: "run it by itself: " + line}
	}
	first, _, _ := bytes.Cut(out.Bytes(), []byte("\n"))
	if first = bytes.TrimRight(first, "\r"); len(first) == 0 {
		return nil, &ringfence.Fault{Kind: ringfence.KindUnauthenticated, Text: "the command that prints the passphrase printed nothing", Hint: "run it by itself: " + line}
	}
	return first, nil
}

// capped takes so many bytes and no more.
type capped struct {
	out  *bytes.Buffer
	left int
}

// Write implements io.Writer.
func (c *capped) Write(b []byte) (int, error) {
	if len(b) > c.left {
		return 0, &ringfence.Fault{Kind: ringfence.KindInvalid, Text: fmt.Sprintf("more than %d bytes were printed", longestPhrase)}
	}
	c.left -= len(b)
	return c.out.Write(b)
}

// credential is the name under which systemd hands over the passphrase.
const credential = "ringfence-passphrase"

// startPhrase returns the passphrase of the sealing key for a start: from a file or a command, or as a credential of systemd; nil if there is none.
func startPhrase(cmd *cobra.Command, from phraseOf) ([]byte, error) {
	if from != (phraseOf{}) {
		return from.read(cmd)
	}
	dir := os.Getenv("CREDENTIALS_DIRECTORY")
	if dir == "" {
		return nil, nil
	}
	file := filepath.Join(dir, credential)
	if _, err := os.Stat(file); os.IsNotExist(err) {
		return nil, nil
	}
	// systemd lets the service's user read it by an access list, whose mask shows in the place of the group.
	if err := onlyOwner(file, 0o007); err != nil {
		return nil, err
	}
	return passphrase(cmd, file)
}
