package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/spf13/cobra"

	"ringfence"
	"ringfence/internal/trust/signin"
)

// signInFlow declares how a phone in which somebody signed in gets its tokens.
func signInFlow() ringfence.Flow {
	return ringfence.Flow{Name: "phone-signin", Purpose: "signing in, and fresh access tokens", Room: "cmd/ringfence", Direction: ringfence.Dials,
		Transport: "tcp", Peers: "the node", TLS: ringfence.TLSServer}
}

// signInClient returns a client of the authorization server of a node. Whatever name a request is for, the connection goes to that node,
// which has to prove the name.
func signInClient(sockets *reachable, node string, byName bool, anchors string) (*signin.Client, *x509.CertPool, error) {
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM([]byte(anchors)) {
		return nil, nil, invalid("the trust anchor is not a PEM certificate", "fetch it with `ringfence trust ca export` on the node's host")
	}
	host, text, err := net.SplitHostPort(node)
	if err != nil {
		return nil, nil, invalid(err.Error(), "")
	}
	port, err := parsePort(text)
	if err != nil {
		return nil, nil, err
	}
	dial := func(ctx context.Context, _, addr string) (net.Conn, error) {
		name, _, err := net.SplitHostPort(addr)
		if err != nil {
			return nil, err
		}
		raw, err := sockets.dial(ctx, signInFlow().Name, host, port, byName)
		if err != nil {
			return nil, err
		}
		c := tls.Client(raw, &tls.Config{RootCAs: roots, ServerName: name, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}})
		if err := c.HandshakeContext(ctx); err != nil {
			_ = raw.Close()
			return nil, unproven(name, err)
		}
		return c, nil
	}
	return &signin.Client{ID: ownProgram, HTTP: &http.Client{Transport: &http.Transport{DialTLSContext: dial, DisableKeepAlives: true}}}, roots, nil
}

// ownProgram is how every node knows this program.
const ownProgram = "ringfence"

func unproven(name string, err error) error {
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return &ringfence.Fault{Op: "signin", Kind: ringfence.KindInsecure, Text: "the server does not prove the name " + name, Hint: "is --node right, and the trust anchor that of this node?", Err: err}
	}
	return err
}

func newSignInStartCommand(a *app) *cobra.Command {
	var ca, pin, dns string
	var replace, asJSON bool
	cmd := &cobra.Command{
		Use: "start FILE --node HOST (--pin SHA256 | --ca FILE)", Short: "Sign in here, for `ringfence phone`",
		Long: "start shows eight letters and an address, and waits until somebody types the letters there, on any screen, and proves who they are. What the\n" +
			"node then gives is kept in FILE, readable by you only, and `ringfence phone --sign-in FILE` registers with it. The phone renews it by itself;\n" +
			"several processes may use one FILE on one host, but a copy elsewhere ends the sign-in as soon as both renew it.\n\n" +
			"Whom to trust must be said, as for `ringfence login`.",
		Example: "  ringfence signin start alice.json --node pbx.example.com --pin 9f86d08…\n  ringfence phone --sign-in alice.json call 102",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if a.node == "" || (ca == "") == (pin == "") {
				return invalid("signing in needs --node, and either --pin or --ca", "see `ringfence signin start --help`")
			}
			at, err := hostPort(a.node)
			if err != nil {
				return err
			}
			if err := signin.Check(args[0], replace); err != nil {
				return err
			}
			anchor, err := anchorOf(cmd, at, ca, pin)
			if err != nil {
				return err
			}
			sockets, err := newReachable(dns)
			if err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			if asJSON {
				out = cmd.ErrOrStderr()
			}
			acct, err := signInHere(cmd.Context(), out, sockets, signin.Account{Client: ownProgram, Node: at, ByName: isDomain(a.node), Anchors: string(anchor)})
			if err != nil {
				return err
			}
			if err := signin.Create(cmd.Context(), args[0], acct, replace); err != nil {
				return err
			}
			return show(cmd, asJSON, signInView(acct), func(w io.Writer) {
				fmt.Fprintf(w, "signed in as sip:%s@%s; use it with `ringfence phone --sign-in %s`\n", acct.SIP.User, acct.SIP.Domain, args[0])
			})
		},
	}
	cmd.Flags().StringVar(&ca, "ca", "", "file with the node's trust anchor (PEM)")
	cmd.Flags().StringVar(&pin, "pin", "", "SHA-256 of the node's trust anchor, in hexadecimal")
	cmd.Flags().StringVar(&dns, "dns", "", "ask this DNS server, ADDR or ADDR:PORT, instead of those of this host")
	cmd.Flags().BoolVar(&replace, "replace", false, "write FILE anew if it is there")
	return jsonFlag(cmd, &asJSON)
}

// signInHere does what RFC 8628 says, and returns the account with its tokens.
func signInHere(ctx context.Context, out io.Writer, sockets *reachable, acct signin.Account) (signin.Account, error) {
	c, _, err := signInClient(sockets, acct.Node, acct.ByName, acct.Anchors)
	if err != nil {
		return acct, err
	}
	srv, err := c.Discover(ctx, "https://"+acct.Node)
	if err != nil {
		return acct, err
	}
	p, err := c.Begin(ctx, srv)
	if err != nil {
		return acct, err
	}
	fmt.Fprintf(out, "Open this address on any screen and type the code, until %s:\n\n    %s\n    %s\n\n", stamp(p.Expires), p.URI, p.UserCode)
	if p.Complete != "" {
		if picture, err := halfBlocks(p.Complete); err == nil {
			fmt.Fprintln(out, picture)
		}
	}
	t, err := c.Wait(ctx, srv, p)
	if err != nil {
		return acct, err
	}
	acct.Issuer, acct.TokenEndpoint, acct.RevokeEndpoint, acct.SIP = srv.Issuer, srv.Token, srv.Revoke, t.SIP
	acct.Take(t)
	return acct, nil
}

// signInFile is what is shown of a file: not its tokens.
type signInFile struct {
	Issuer  string    `json:"issuer"`
	Program string    `json:"program"`
	Address string    `json:"address"`
	Server  string    `json:"server"`
	Node    string    `json:"node"`
	Issued  time.Time `json:"issued"`
	Expires time.Time `json:"expires"`
}

func signInView(a signin.Account) signInFile {
	return signInFile{Issuer: a.Issuer, Program: a.Client, Address: "sip:" + string(a.SIP.User) + "@" + a.SIP.Domain, Server: net.JoinHostPort(a.SIP.Host, fmt.Sprint(a.SIP.Port)),
		Node: a.Node, Issued: a.Issued.UTC().Truncate(time.Second), Expires: a.Expires.UTC().Truncate(time.Second)}
}

func newSignInShowCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "show FILE", Short: "Show what is in a file of `signin start`",
		Long:    "show prints whose sign-in a file holds, where it registers, and until when its access token is good. It never prints tokens.",
		Example: "  ringfence signin show alice.json",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			a, err := signin.Read(args[0])
			if err != nil {
				return err
			}
			v := signInView(a)
			return show(cmd, asJSON, v, func(w io.Writer) {
				facts(w, "address", v.Address, "server", v.Server, "issuer", v.Issuer, "node", v.Node, "program", v.Program, "access token from", stamp(v.Issued), "until", stamp(v.Expires))
			})
		},
	}
	return jsonFlag(cmd, &asJSON)
}

func newSignInEndCommand() *cobra.Command {
	var dns string
	var force bool
	cmd := &cobra.Command{
		Use: "end FILE", Short: "End a sign-in of `signin start` and remove its file",
		Long:    "end tells the node that the sign-in of a file is over, so that its tokens stop working at once, and removes the file. If the node cannot be\nreached the file stays; --force removes it all the same.",
		Example: "  ringfence signin end alice.json",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			acct, err := signin.Read(args[0])
			if err != nil {
				return err
			}
			err = endSignIn(cmd.Context(), dns, acct)
			if err != nil && !force {
				return err
			}
			if err != nil {
				fmt.Fprintln(cmd.ErrOrStderr(), "the node was not told:", err)
			}
			if err := signin.Remove(cmd.Context(), args[0]); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "the sign-in of sip:%s@%s is over\n", acct.SIP.User, acct.SIP.Domain)
			return nil
		},
	}
	cmd.Flags().StringVar(&dns, "dns", "", "ask this DNS server, ADDR or ADDR:PORT, instead of those of this host")
	cmd.Flags().BoolVar(&force, "force", false, "remove the file even if the node cannot be told")
	return cmd
}

func endSignIn(ctx context.Context, dns string, acct signin.Account) error {
	sockets, err := newReachable(dns)
	if err != nil {
		return err
	}
	c, _, err := signInClient(sockets, acct.Node, acct.ByName, acct.Anchors)
	if err != nil {
		return err
	}
	return c.Revoke(ctx, acct)
}

// signedIn reads the file of --sign-in for a phone, and returns what renews it.
func (h *handset) signedIn(sockets *reachable) (keptIdentity, *signin.Keeper, *x509.CertPool, error) {
	var id keptIdentity
	acct, err := signin.Read(h.signIn)
	if err != nil {
		return id, nil, nil, err
	}
	if h.host != "" { // for this time only
		if acct.Node, err = hostPort(h.host); err != nil {
			return id, nil, nil, err
		}
		acct.ByName = isDomain(h.host)
	}
	client, roots, err := signInClient(sockets, acct.Node, acct.ByName, acct.Anchors)
	if err != nil {
		return id, nil, nil, err
	}
	if id.Host, _, err = net.SplitHostPort(acct.Node); err != nil {
		return id, nil, nil, invalid(err.Error(), "")
	}
	id.ByName = acct.ByName
	id.Bootstrap.User, id.Bootstrap.Domain, id.Bootstrap.SIP.Host, id.Bootstrap.SIP.Port = acct.SIP.User, acct.SIP.Domain, acct.SIP.Host, acct.SIP.Port
	return id, &signin.Keeper{Path: h.signIn, Client: client, Log: slog.New(slog.NewTextHandler(os.Stderr, nil))}, roots, nil
}
