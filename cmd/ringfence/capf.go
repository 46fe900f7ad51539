package main

import (
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"ringfence"
	"ringfence/internal/node/admin/api"
	"ringfence/internal/state/durable"
	"ringfence/internal/trust/capf"
	"ringfence/internal/trust/trustlist"
	"ringfence/internal/trust/tvs"
)

func newCAPFCommand(a *app) *cobra.Command {
	return group(&cobra.Command{Use: "capf", Short: "Certificates of enterprise phones (LSC), by CAPF",
		Long: "capf orders that an enterprise phone gets a certificate of this organisation (LSC), loses it, or shows the one it has. The phone carries the order out when it\n" +
			"connects to port 3804 (enterprise.capf). docs/guides/capf.md shows it.",
		Example: "  ringfence trust capf order sep001122334455\n  ringfence trust capf list"},
		newCAPFOrderCommand(a), newCAPFListCommand(a), newCAPFCancelCommand(a), newCAPFRunCommand())
}

func newCAPFOrderCommand(a *app) *cobra.Command {
	var asJSON bool
	var in api.NewCAPFOrder
	var operation, by string
	cmd := &cobra.Command{
		Use: "order DEVICE", Short: "Order a certificate operation of a phone", Args: cobra.ExactArgs(1),
		Long: "order gives the one open order of a device: install (Install/Upgrade), delete or troubleshoot (fetch the certificate that it has). The phone proves itself by the\n" +
			"authentication string that is printed once (string), by the certificate of this organisation that it has (lsc), by the one its manufacturer put into it (mic), whose\n" +
			"authority enterprise.manufacturers must name, or by nothing (null), which takes a named exception of the device. After five wrong tries the order is locked.",
		Example: "  ringfence trust capf order sep001122334455\n  ringfence trust capf order sep001122334455 --by lsc --key rsa-2048 --completes-by +3d\n  ringfence trust capf order sep001122334455 --operation delete --by lsc",
		RunE: func(cmd *cobra.Command, args []string) error {
			words := map[string]capf.Operation{"install": capf.InstallUpgrade, "delete": capf.Delete, "troubleshoot": capf.Troubleshoot}
			o, ok := words[operation]
			if !ok {
				return invalid(fmt.Sprintf("there is no operation %.40q", operation), "operations are install, delete and troubleshoot")
			}
			in.Operation = string(o)
			if by != "" {
				t, err := readTime(by, time.Now())
				if err != nil {
					return err
				}
				in.CompletesBy = t
			}
			var out api.CAPFOrder
			if err := a.ask(cmd.Context(), http.MethodPost, "/devices/"+url.PathEscape(args[0])+"/capf", nil, in, &out); err != nil {
				return err
			}
			return show(cmd, asJSON, out, func(w io.Writer) {
				facts(w, "device", out.Device, "operation", out.Operation, "authentication", out.Auth, "key", out.Key, "completes by", stamp(out.CompletesBy), "status", out.Status)
				if out.String != "" {
					fmt.Fprintf(w, "\nAuthentication string, shown only now, to be typed at the phone: %s\n", out.String)
				}
			})
		},
	}
	cmd.Flags().StringVar(&operation, "operation", "install", "install, delete or troubleshoot")
	cmd.Flags().StringVar(&in.Auth, "by", "string", "how the phone proves itself: string, lsc, mic or null")
	cmd.Flags().StringVar(&in.String, "string", "", "the authentication string, 4 to 10 digits; made if it is left out")
	cmd.Flags().StringVar(&in.Key, "key", "", "rsa-2048, rsa-3072, rsa-4096, ec-p256 or ec-p384 (default ec-p256)")
	cmd.Flags().StringVar(&by, "completes-by", "", "until when, e.g. +3d (default a week)")
	cmd.Flags().BoolVar(&in.Old, "old", false, "take a proof with SHA-1, from a phone that can do no better")
	_ = cmd.RegisterFlagCompletionFunc("operation", cobra.FixedCompletions([]string{"install", "delete", "troubleshoot"}, cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("by", cobra.FixedCompletions([]string{"string", "lsc", "mic", "null"}, cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("key", cobra.FixedCompletions([]string{"rsa-2048", "rsa-3072", "rsa-4096", "ec-p256", "ec-p384"}, cobra.ShellCompDirectiveNoFileComp))
	return jsonFlag(cmd, &asJSON)
}

func newCAPFListCommand(a *app) *cobra.Command {
	var asJSON bool
	var device string
	cmd := &cobra.Command{
		Use: "list", Short: "List what was ordered, and what became of it", Args: cobra.NoArgs,
		Long:    "list shows the orders, the latest first: the operation, how far it is, and why it failed if it did.",
		Example: "  ringfence trust capf list\n  ringfence trust capf list --device sep001122334455 --json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			q := url.Values{}
			if device != "" {
				q.Set("device", device)
			}
			var all []api.CAPFOrder
			if err := a.ask(cmd.Context(), http.MethodGet, "/capf", q, nil, &all); err != nil {
				return err
			}
			return show(cmd, asJSON, all, func(w io.Writer) {
				var rows [][]string
				for _, o := range all {
					rows = append(rows, []string{o.Device, o.Operation, o.Status, o.Reason, o.Auth, o.Key, stamp(o.CompletesBy), stamp(o.At), o.Serial, strconv.Itoa(o.Attempts)})
				}
				table(w, []string{"DEVICE", "CERTIFICATE OPERATION", "STATUS", "REASON", "AUTHENTICATION", "KEY", "COMPLETES BY", "LAST SESSION", "SERIAL", "TRIES LEFT"}, rows)
			})
		},
	}
	cmd.Flags().StringVar(&device, "device", "", "only of this device")
	return jsonFlag(cmd, &asJSON)
}

func newCAPFCancelCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "cancel DEVICE", Short: "Cancel the open order of a phone", Args: cobra.ExactArgs(1), Long: "cancel ends the open order of a device, unless a session is at it just now.", Example: "  ringfence trust capf cancel sep001122334455",
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := a.ask(cmd.Context(), http.MethodDelete, "/devices/"+url.PathEscape(args[0])+"/capf", nil, nil, nil); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "The order of %s is cancelled.\n", args[0])
			return nil
		},
	}
}

// folder keeps an LSC as two files.
type folder string

func (f folder) cert() string { return filepath.Join(string(f), "lsc.pem") }
func (f folder) key() string  { return filepath.Join(string(f), "lsc.key") }

// Store implements capf.Keeper.
func (f folder) Store(cert *x509.Certificate, key crypto.Signer) error {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(string(f), 0o700); err != nil {
		return err
	}
	if err := durable.Replace(f.key(), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})); err != nil {
		return err
	}
	return durable.Replace(f.cert(), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw}))
}

// Delete implements capf.Keeper.
func (f folder) Delete() (bool, error) {
	err := os.Remove(f.cert())
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, errors.Join(err, os.Remove(f.key()))
}

// Certificate implements capf.Keeper.
func (f folder) Certificate() []byte {
	c, err := certificateFile(f.cert())
	if err != nil {
		return nil
	}
	return c.Raw
}

// credential returns what the phone has, or nil.
func (f folder) credential() (*capf.Credential, error) {
	der := f.Certificate()
	if der == nil {
		return nil, nil
	}
	pair, err := tls.LoadX509KeyPair(f.cert(), f.key())
	if err != nil {
		return nil, err
	}
	return &capf.Credential{Certificate: der, Key: pair.PrivateKey.(crypto.Signer)}, nil
}

func newCAPFRunCommand() *cobra.Command {
	var name, phrase, at, list string
	var dir folder
	cmd := &cobra.Command{
		Use: "run --name SEP… --at HOST:PORT --list FILE", Short: "Be the phone: connect, and carry the order out", Args: cobra.NoArgs,
		Long: "run is the phone's side of CAPF, to rehearse an order before a real phone sees it. It knows the service by a trust list, makes its key itself, and keeps key and certificate\n" +
			"in the folder --dir as lsc.key and lsc.pem. With the string of the order it proves itself by that, otherwise by the certificate in the folder.",
		Example: "  ringfence trust capf run --name SEP001122334455 --string 12345678 --at ringfence.example.com:3804 --list ITLFile.tlv --dir phone",
		RunE: func(cmd *cobra.Command, _ []string) error {
			held, err := listFile(list)
			if err != nil {
				return err
			}
			c := capf.Client{Name: name, String: phrase, Keeper: dir}
			if phrase == "" {
				if c.Proof, err = dir.credential(); err != nil {
					return err
				}
			}
			d := tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12, VerifyConnection: tvs.OneOf(held.Holders(trustlist.CAPF), time.Now)}} // the list vouches for it
			conn, err := d.DialContext(cmd.Context(), "tcp", at)
			if err != nil {
				return &ringfence.Fault{Kind: ringfence.KindUnavailable, Text: "there is no sealed connection to " + at, Hint: "is it the CAPF of this organisation, and does the list name it as such? see `ringfence trustlist show`", Err: err}
			}
			defer conn.Close()
			r, err := c.Run(cmd.Context(), conn)
			if err != nil {
				return err
			}
			switch {
			case r.Certificate != nil:
				fmt.Fprintf(cmd.OutOrStdout(), "%s: %s, good until %s, in %s\n", r.Operation, r.Certificate.Subject, stamp(r.Certificate.NotAfter), dir.cert())
			case r.RetryAfter > 0:
				fmt.Fprintf(cmd.OutOrStdout(), "The server is busy; it wants to be asked again in %s.\n", r.RetryAfter)
			default:
				fmt.Fprintln(cmd.OutOrStdout(), strings.TrimSpace(string(r.Operation)))
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&name, "name", "", "what the phone calls itself, such as SEP001122334455")
	cmd.Flags().StringVar(&phrase, "string", "", "the authentication string")
	cmd.Flags().StringVar(&at, "at", "", "where the service is, such as ringfence.example.com:3804")
	cmd.Flags().StringVar(&list, "list", "", "the trust list that the phone holds")
	cmd.Flags().StringVar((*string)(&dir), "dir", ".", "where the phone keeps its certificate and key")
	for _, f := range []string{"name", "at", "list"} {
		_ = cmd.MarkFlagRequired(f)
	}
	return cmd
}
