package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/spf13/cobra"

	"ringfence"
	"ringfence/internal/node"
	"ringfence/internal/node/admin/api"
	"ringfence/internal/state/durable"
	"ringfence/internal/trust/ca"
)

// passphrase reads a passphrase: the first line of a file, or of the standard input.
func passphrase(cmd *cobra.Command, file string) ([]byte, error) {
	in := cmd.InOrStdin()
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in = f
	} else if f, ok := in.(*os.File); ok {
		if st, err := f.Stat(); err == nil && st.Mode()&os.ModeCharDevice != 0 {
			fmt.Fprint(cmd.ErrOrStderr(), "Passphrase (it is shown): ")
		}
	}
	line, err := bufio.NewReader(io.LimitReader(in, 2048)).ReadBytes('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	line = bytes.TrimRight(line, "\r\n")
	if len(line) == 0 {
		return nil, invalid("there is no passphrase", "write it into the first line of the standard input, or name a file with --passphrase-file")
	}
	return line, nil
}

func passphraseFlag(cmd *cobra.Command, file *string) {
	cmd.Flags().StringVar(file, "passphrase-file", "-", "file whose first line is the passphrase; - is the standard input")
}

// writeNew writes a file that only its owner may read and that is not there yet, and sees that it is on disk.
func writeNew(path string, b []byte) error {
	if err := durable.Create(path, b); err != nil {
		return invalid(err.Error(), "name a file that is not there yet")
	}
	back, err := os.ReadFile(path)
	if err == nil && !bytes.Equal(back, b) {
		err = &ringfence.Fault{Kind: ringfence.KindUnavailable, Text: path + " does not hold what was written"}
	}
	return err
}

func newTrustInitCommand(a *app) *cobra.Command {
	f := &upFlags{}
	var offline, phrase string
	var subordinate bool
	cmd := &cobra.Command{
		Use: "init", Short: "Make the authority before the first start",
		Long: "init makes the data directory and the authority in it, as the first start of a node does, and prints the root. With --offline the key of the root is written into a\n" +
			"file, encrypted by a passphrase, and taken out of the data directory. With --subordinate it prints a certificate request for the customer's authority instead;\n" +
			"bring the answer with `ringfence trust ca import` once the node runs.",
		Example: "  ringfence trust ca init --name 'Example Ltd' --offline root.key > root.pem\n  ringfence trust ca init --subordinate > issuing.csr",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if offline != "" && phrase == "-" && f.phrase == "-" {
				return invalid("both passphrases cannot come from the standard input", "put one of them into a file")
			}
			opts, unlock, err := f.begin(cmd, a)
			if err != nil {
				return err
			}
			defer unlock()
			opts.Log = node.Discard()
			var secret []byte
			if offline != "" {
				if secret, err = passphrase(cmd, phrase); err != nil {
					return err
				}
			}
			return node.Found(cmd.Context(), opts, func(au *ca.Authority) error {
				if offline != "" {
					if err := takeOut(cmd, offline, secret, func(p []byte) ([]byte, error) { return au.RootKey(cmd.Context(), p) },
						func() error { return au.ForgetRootKey(cmd.Context(), fingerprint(au.RootPEM())) }); err != nil {
						return err
					}
				}
				out := au.RootPEM()
				if subordinate {
					if out, err = au.Request(cmd.Context()); err != nil {
						return err
					}
				}
				_, err := cmd.OutOrStdout().Write(out)
				return err
			})
		},
	}
	cmd.Flags().StringVar(&f.config, "config", "", "configuration file (default: ringfence.yaml in the data directory)")
	cmd.Flags().StringVar(&f.domain, "domain", "", "domain of every address-of-record, e.g. example.com")
	cmd.Flags().StringVar(&f.name, "name", "", "the organisation, as certificates name it (default: that of the configuration)")
	cmd.Flags().StringVar(&f.phrase, "seal-passphrase-file", "", "file whose first line wraps the sealing key (default: the systemd credential ringfence-passphrase, if there is one)")
	cmd.Flags().StringVar(&offline, "offline", "", "file for the key of the root, which then is not kept here")
	cmd.Flags().BoolVar(&subordinate, "subordinate", false, "print a request to another authority")
	passphraseFlag(cmd, &phrase)
	return cmd
}

// takeOut writes the encrypted key of the root into a file, and only then has it forgotten.
func takeOut(cmd *cobra.Command, file string, secret []byte, export func([]byte) ([]byte, error), forget func() error) error {
	pem, err := export(secret)
	if err != nil {
		return err
	}
	if err := writeNew(file, pem); err != nil {
		return err
	}
	if err := forget(); err != nil {
		return err
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "The key of the root is in %s and nowhere else. Keep copies of the file and its passphrase in two places that have no network.\n", file)
	return nil
}

func newTrustOfflineCommand(a *app) *cobra.Command {
	var out, phrase string
	cmd := &cobra.Command{
		Use: "offline --out FILE", Short: "Take the key of the root out of the node",
		Long: "offline writes the key of the root into a file, encrypted by a passphrase (PKCS #8, which openssl reads), checks that it is there, and takes it out of the node.\n" +
			"Whoever breaks into the node then cannot make authorities. The issuing authority goes on signing; its successor, every year or so, is requested, signed where the key\n" +
			"of the root is, and imported.",
		Example: "  ringfence trust ca offline --out /media/safe/root.key\n  ringfence trust ca offline --out root.key --passphrase-file phrase.txt",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			secret, err := passphrase(cmd, phrase)
			if err != nil {
				return err
			}
			anchor, err := a.anchor(cmd)
			if err != nil {
				return err
			}
			return takeOut(cmd, out, secret, func(p []byte) ([]byte, error) {
				var key api.RootKey
				err := a.ask(cmd.Context(), http.MethodPost, "/trust/root-key", nil, api.RootPassphrase{Passphrase: string(p)}, &key)
				return []byte(key.PEM), err
			}, func() error {
				return a.ask(cmd.Context(), http.MethodPost, "/trust/root-key/removal", nil, api.ForgetRoot{SHA256: fingerprint(anchor)}, nil)
			})
		},
	}
	cmd.Flags().StringVar(&out, "out", "", "file for the encrypted key; it must not be there yet")
	_ = cmd.MarkFlagRequired("out")
	passphraseFlag(cmd, &phrase)
	return cmd
}

func newTrustRequestCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "request", Short: "Print a certificate request for the next issuing authority",
		Long: "request makes a key for the next issuing authority and prints a certificate request (PKCS #10). Have it signed where the key of the root is, with `ringfence trust ca sign`,\n" +
			"or by the customer's authority, as a subordinate authority. Nothing changes until the answer is imported; another request forgets the one before.",
		Example: "  ringfence trust ca request > issuing.csr",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var out api.AuthorityRequest
			if err := a.ask(cmd.Context(), http.MethodPost, "/trust/request", nil, nil, &out); err != nil {
				return err
			}
			_, err := io.WriteString(cmd.OutOrStdout(), out.CSR)
			return err
		},
	}
}

func newTrustImportCommand(a *app) *cobra.Command {
	var asJSON, newRoot bool
	cmd := &cobra.Command{
		Use: "import FILE...", Short: "Bring the certificate of the next issuing authority",
		Long: "import takes the answer to the last request with the authorities above it, up to a root, in one file or several and in any order. From then on it signs, and the node has a\n" +
			"new certificate by it at once. What was signed before stays good. If the chain ends in another root than now, phones that are enrolled would not believe the node any\n" +
			"more, so that takes --new-root: best before the first phone is enrolled.",
		Example: "  ringfence trust ca import issuing.pem\n  ringfence trust ca import issuing.pem customer-intermediate.pem customer-root.pem --new-root",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			in := api.ImportAuthority{NewRoot: newRoot}
			for _, file := range args {
				b, err := os.ReadFile(file)
				if err != nil {
					return err
				}
				in.File = append(in.File, b...)
				if len(args) > 1 {
					in.File = append(in.File, '\n')
				}
			}
			var out api.ImportedAuthority
			if err := a.ask(cmd.Context(), http.MethodPost, "/trust/import", nil, in, &out); err != nil {
				return err
			}
			return show(cmd, asJSON, out, func(w io.Writer) {
				printAuthorities(w, out.Authorities)
				for _, n := range out.Notes {
					fmt.Fprintln(w, "Note: "+n)
				}
				if out.NewRoot {
					fmt.Fprintln(w, "\nThe root is another one: phones that were enrolled before must be enrolled again, and others be given `ringfence trust ca export`.")
				}
			})
		},
	}
	cmd.Flags().BoolVar(&newRoot, "new-root", false, "go on although the chain ends in another root than now")
	return jsonFlag(cmd, &asJSON)
}

func newTrustSignCommand() *cobra.Command {
	var root, key, phrase string
	cmd := &cobra.Command{
		Use: "sign REQUEST --root FILE --key FILE", Short: "Sign a request where the key of the root is",
		Long: "sign needs no node and no network: it signs the certificate of an issuing authority for a request, with the key of the root that was taken out, and prints it with the\n" +
			"root as PEM, for `ringfence trust ca import`.",
		Example: "  ringfence trust ca sign issuing.csr --root root.pem --key root.key > issuing.pem",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			files := map[string][]byte{}
			for _, name := range []string{args[0], root, key} {
				b, err := os.ReadFile(name)
				if err != nil {
					return err
				}
				files[name] = b
			}
			secret, err := passphrase(cmd, phrase)
			if err != nil {
				return err
			}
			out, err := ca.SignIssuing(ca.Signer{Root: files[root], Key: files[key], Passphrase: secret, Now: time.Now()}, files[args[0]])
			if err != nil {
				return err
			}
			_, err = cmd.OutOrStdout().Write(out)
			return err
		},
	}
	cmd.Flags().StringVar(&root, "root", "", "certificate of the root, as ringfence trust ca export prints it")
	cmd.Flags().StringVar(&key, "key", "", "key of the root, as ringfence trust ca offline wrote it")
	_ = cmd.MarkFlagRequired("root")
	_ = cmd.MarkFlagRequired("key")
	passphraseFlag(cmd, &phrase)
	return cmd
}
