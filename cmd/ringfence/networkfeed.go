package main

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"

	"github.com/spf13/cobra"

	"ringfence"
	"ringfence/internal/network/catalogue"
	"ringfence/internal/network/feed"
	"ringfence/internal/node/admin/api"
)

func newNetworkFeedCommand(a *app) *cobra.Command {
	return group(&cobra.Command{Use: "feed", Short: "Sets of requirements, signed, for who keeps a firewall elsewhere",
		Long: "A feed is a set with the signature of a node and a number that grows with each change. Whoever takes it needs the node's public key once, and knows then whose each feed is and that\n" +
			"none is older than the last.",
		Example: "  ringfence network feed key > node.pem\n  ringfence network feed export --set self > self.jws\n  ringfence network feed verify self.jws --key node.pem --after 3"},
		newFeedExportCommand(a), newFeedKeyCommand(a), newFeedVerifyCommand())
}

func newFeedExportCommand(a *app) *cobra.Command {
	var set string
	cmd := &cobra.Command{
		Use: "export [--set SET]", Short: "Print a set as a feed that the node signs",
		Long:    "export prints a set as a JSON Web Signature in compact form (RFC 7515) by the node's Ed25519 key. The same set has the same number each time; a change gets the next.",
		Example: "  ringfence network feed export > self.jws\n  ringfence network feed export --set webex-calling > webex-calling.jws",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var text []byte
			if err := a.ask(cmd.Context(), http.MethodGet, "/network/sets/"+url.PathEscape(set)+"/feed", nil, nil, &text); err != nil {
				return err
			}
			_, err := cmd.OutOrStdout().Write(text)
			return err
		},
	}
	setFlag(cmd, &set, "self", append([]string{"self"}, catalogue.Names()...))
	return cmd
}

func newFeedKeyCommand(a *app) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "key", Short: "Print the public key that feeds are signed by",
		Long:    "key prints the node's public key of feeds as PEM. Hand it over once, by a way that nobody can change it on.",
		Example: "  ringfence network feed key > node.pem\n  ringfence network feed key --json | jq -r .id",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var k api.FeedKey
			if err := a.ask(cmd.Context(), http.MethodGet, "/network/feed-key", nil, nil, &k); err != nil {
				return err
			}
			return show(cmd, asJSON, k, func(w io.Writer) { fmt.Fprint(w, k.PEM) })
		},
	}
	return jsonFlag(cmd, &asJSON)
}

// taken is what network feed verify --json prints.
type taken struct {
	Serial  int64  `json:"serial"`
	Made    string `json:"made"`
	Set     string `json:"set"`
	Version string `json:"version,omitempty"`
	Needs   int    `json:"needs"`
	Key     string `json:"key"`
}

func newFeedVerifyCommand() *cobra.Command {
	var keyFile string
	var after int64
	var asJSON bool
	cmd := &cobra.Command{
		Use: "verify FILE --key FILE", Short: "Say whose a feed is, and whether it is later than the last",
		Long: "verify checks the signature of a feed by a node's public key, and that its number is above the one that was taken last (--after). It needs no node. Exit code 6: signed by somebody\n" +
			"else, or changed; 4: older, or the same.",
		Example: "  ringfence network feed verify self.jws --key node.pem\n  ringfence network feed verify self.jws --key node.pem --after 3 --json",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			key, err := readWhole(keyFile, 4096)
			if err != nil {
				return err
			}
			public, err := feed.ParseKey(key)
			if err != nil {
				return err
			}
			text, err := readWhole(args[0], feed.MaxSize)
			if err != nil {
				return err
			}
			f, err := feed.Open(text, public, after)
			if err != nil {
				return err
			}
			out := taken{Serial: f.Serial, Made: stamp(f.Made), Set: f.Set.ID, Version: f.Set.Version(), Needs: len(f.Set.Needs), Key: feed.ID(public)}
			return show(cmd, asJSON, out, func(w io.Writer) {
				facts(w, "set", out.Set, "number", fmt.Sprint(out.Serial), "made", out.Made, "version", out.Version, "rows", fmt.Sprint(out.Needs), "signed by", out.Key)
			})
		},
	}
	cmd.Flags().StringVar(&keyFile, "key", "", "file with the node's public key, as ringfence network feed key prints it")
	cmd.Flags().Int64Var(&after, "after", 0, "the number that was taken last")
	_ = cmd.MarkFlagRequired("key")
	return jsonFlag(cmd, &asJSON)
}

// readWhole reads a file of bounded size.
func readWhole(path string, most int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, &ringfence.Fault{Kind: ringfence.KindNotFound, Text: path + " cannot be read", Err: err}
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && int64(len(b)) > most {
		err = invalid(path+" is too large", "")
	}
	return b, err
}
