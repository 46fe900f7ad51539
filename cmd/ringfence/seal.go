package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"

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
	var fresh, old string
	var remove, force, asJSON bool
	cmd := &cobra.Command{
		Use: "seal", Short: "Wrap the sealing key with a passphrase",
		Long: "seal shows how the key that seals the secrets of the database is kept in the data directory. With --passphrase-file it wraps the key with a passphrase (argon2id, 64 MiB,\n" +
			"3 passes), which every start needs from then on; with --old-passphrase-file as well it changes the passphrase. --remove --force takes it off. The key itself stays, so the\n" +
			"database does not change, and a node may run meanwhile. A file with a passphrase may be read by its owner only, and its first line counts; - is the standard input.\n" +
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
			case fresh != "" || remove:
				if err := rewrap(cmd, file, old, fresh); err != nil {
					return err
				}
			case old != "" || force:
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
	cmd.MarkFlagsMutuallyExclusive("passphrase-file", "remove")
	return jsonFlag(cmd, &asJSON)
}

// shortest is how many bytes a new passphrase has at least (NIST SP 800-63B section 5.1.1.2).
const shortest = 8

func rewrap(cmd *cobra.Command, file, old, fresh string) error {
	var before, after []byte
	var err error
	if old != "" {
		if before, err = sealPhrase(cmd, old); err != nil {
			return err
		}
	}
	if fresh != "" {
		if after, err = sealPhrase(cmd, fresh); err != nil {
			return err
		}
		if len(after) < shortest {
			return invalid(fmt.Sprintf("the passphrase is shorter than %d bytes", shortest), "five random words are a good one")
		}
	}
	if len(before) == 0 {
		if w, err := store.WrappingOf(file); err == nil && w.Wrapped {
			return &ringfence.Fault{Kind: ringfence.KindUnauthenticated, Text: "the sealing key is wrapped with a passphrase already, and its present one is needed", Hint: "name the file that has it with --old-passphrase-file"}
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

// credential is the name under which systemd hands over the passphrase.
const credential = "ringfence-passphrase"

// startPhrase returns the passphrase of the sealing key for a start: from a file, or as a credential of systemd; nil if there is none.
func startPhrase(cmd *cobra.Command, file string) ([]byte, error) {
	if file != "" {
		return sealPhrase(cmd, file)
	}
	dir := os.Getenv("CREDENTIALS_DIRECTORY")
	if dir == "" {
		return nil, nil
	}
	file = filepath.Join(dir, credential)
	if _, err := os.Stat(file); os.IsNotExist(err) {
		return nil, nil
	}
	// systemd lets the service's user read it by an access list, whose mask shows in the place of the group.
	if err := onlyOwner(file, 0o007); err != nil {
		return nil, err
	}
	return passphrase(cmd, file)
}
