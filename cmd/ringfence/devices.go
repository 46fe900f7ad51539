package main

import (
	"context"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"ringfence"
	"ringfence/internal/node/admin/api"
)

func newDeviceCommand(a *app) *cobra.Command {
	return group(&cobra.Command{Use: "device", Short: "Phones",
		Long:    "A device is a phone of a user. It proves itself by a certificate that it gets with a one-time activation code, or, if it cannot do that,\nby a password over TLS.",
		Example: "  ringfence device add alice-desk --user alice\n  ringfence device revoke alice-desk --reason \"phone was lost\""},
		newDeviceAddCommand(a), newDeviceListCommand(a), newDeviceShowCommand(a), newDeviceCodeCommand(a), newDeviceRevokeCommand(a), newDeviceActivateCommand(a),
		newDeviceRemoveCommand(a), newDeviceExceptionCommand(a), newDeviceProfileCommand(a))
}

func newDeviceAddCommand(a *app) *cobra.Command {
	var user, auth, kind, security string
	var noCode, asJSON bool
	cmd := &cobra.Command{
		Use: "add ID --user USER", Short: "Add a phone; its activation code is shown once",
		Long: "add makes a device of a user and prints, once, what the phone needs: a one-time activation code of 16 digits with its QR code, or for a\n" +
			"phone without certificates (--auth digest-sha-256) a password with settings to paste. A program in which somebody signs in takes --auth token\n" +
			"(docs/guides/sign-in.md). digest-md5 is weaker, and for phones that know\n" +
			"nothing else; the proof of its calls says so.",
		Example: "  ringfence device add alice-desk --user alice\n  ringfence device add alice-soft --user alice --auth digest-sha-256 --kind baresip",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var d api.DeviceAdded
			in := api.NewDevice{ID: ringfence.DeviceID(args[0]), User: ringfence.UserID(user), Kind: kind, Auth: ringfence.Auth(auth), Security: security, NoCode: noCode}
			if err := a.ask(cmd.Context(), http.MethodPost, "/devices", nil, in, &d); err != nil {
				return err
			}
			return show(cmd, asJSON, d, func(w io.Writer) { printAdded(w, d) })
		},
	}
	cmd.Flags().StringVar(&user, "user", "", "who owns it")
	cmd.Flags().StringVar(&auth, "auth", "certificate", "how it proves itself: certificate, token, digest-sha-256 or digest-md5")
	cmd.Flags().StringVar(&kind, "kind", "", "model or application")
	cmd.Flags().StringVar(&security, "security", "", "its security profile, out of ringfence profile list; none if it is not given")
	cmd.Flags().BoolVar(&noCode, "no-code", false, "make no activation code now; ringfence device code makes one")
	_ = cmd.MarkFlagRequired("user")
	_ = cmd.RegisterFlagCompletionFunc("user", a.completeUserFlag)
	_ = cmd.RegisterFlagCompletionFunc("auth", cobra.FixedCompletions([]string{"certificate", "token", "digest-sha-256", "digest-md5"}, cobra.ShellCompDirectiveNoFileComp))
	return jsonFlag(cmd, &asJSON)
}

// printAdded prints what a phone needs, which is shown only now.
func printAdded(w io.Writer, d api.DeviceAdded) {
	if act := d.Activation; act != nil {
		fmt.Fprintf(w, "Activation code of %s, good once until %s:\n\n    %s\n\n", d.Device.ID, stamp(act.Expires), grouped(act.Code))
		if picture, err := halfBlocks(act.URI); err == nil {
			fmt.Fprintln(w, picture)
		}
		if d.Device.Auth[0] == ringfence.AuthToken {
			fmt.Fprintf(w, "Type it into the page that the program opens, or with the code that the program shows at:\n  %s\n", act.URI)
			if u, err := url.Parse(act.URI); err == nil {
				fmt.Fprintf(w, "The headless phone shows such a code with:\n  ringfence signin start %s.json --node %s --ca ringfence.pem\n", d.Device.ID, u.Host)
			}
			return
		}
		if u, err := url.Parse(act.URI); err == nil {
			fmt.Fprintf(w, "With the headless phone:\n  ringfence phone --enrol %s --node %s\n", act.Code, u.Query().Get("node"))
		}
		return
	}
	acc := d.Account
	if acc == nil {
		fmt.Fprintf(w, "%s is there; `ringfence device code %s` makes an activation code.\n", d.Device.ID, d.Device.ID)
		return
	}
	host, port := acc.Server, ""
	if i := strings.LastIndex(acc.Server, ":"); i >= 0 {
		host, port = acc.Server[:i], acc.Server[i+1:]
	}
	user := strings.TrimPrefix(acc.AOR, "sip:")
	fmt.Fprintf(w, "Account of %s; the password is shown only now:\n\n", d.Device.ID)
	facts(w, "  address", acc.AOR, "  server", acc.Server+" (TLS)", "  authentication name", acc.Username, "  password", acc.Password)
	fmt.Fprintf(w, "\nFetch the trust anchor on this host (or compare its SHA-256 with `ringfence trust`):\n  ringfence trust ca export > ringfence.pem\n")
	fmt.Fprintf(w, "\nbaresip, one line in ~/.baresip/accounts, and sip_cafile in ~/.baresip/config:\n")
	fmt.Fprintf(w, "  <sip:%s;transport=tls>;auth_user=%s;auth_pass=%s;outbound=\"sip:%s:%s;transport=tls\";mediaenc=srtp-mand;regint=600\n", user, acc.Username, acc.Password, host, port)
	fmt.Fprintf(w, "  sip_cafile /path/to/ringfence.pem\n")
	fmt.Fprintf(w, "\nlinphone, in ~/.config/linphone/linphonerc:\n")
	fmt.Fprintf(w, "  [sip]\n  root_ca=/path/to/ringfence.pem\n  media_encryption=srtp\n  media_encryption_mandatory=1\n  default_proxy=0\n")
	fmt.Fprintf(w, "  [proxy_0]\n  reg_proxy=<sip:%s:%s;transport=tls>\n  reg_identity=%s\n  reg_sendregister=1\n", host, port, acc.AOR)
	fmt.Fprintf(w, "  [auth_info_0]\n  username=%s\n  userid=%s\n  passwd=%s\n  realm=%s\n  domain=%[4]s\n", user[:strings.Index(user+"@", "@")], acc.Username, acc.Password, user[strings.Index(user, "@")+1:])
	fmt.Fprintf(w, "\na multiplatform desk phone, in its configuration file:\n%s", deskAccount(acc, user, host+":"+port))
	if len(d.Device.Auth) > 1 {
		fmt.Fprintln(w, "\nThis device may answer with MD5, which is weaker. The proof of its calls says so.")
	}
}

// deskAccount is the file of a multiplatform desk phone whose line 1 is the account, with this node's feature codes.
func deskAccount(acc *api.SIPAccount, user, server string) string {
	name, domain, _ := strings.Cut(user, "@")
	var b strings.Builder
	b.WriteString("  <flat-profile>\n")
	for _, p := range [][2]string{
		{"SIP_Transport_1_", "TLS"}, {"Proxy_1_", domain}, {"Outbound_Proxy_1_", server}, {"Use_Outbound_Proxy_1_", "Yes"}, {"User_ID_1_", name}, {"Use_Auth_ID_1_", "Yes"},
		{"Auth_ID_1_", acc.Username}, {"Password_1_", acc.Password}, {"Attendant_Console_Call_Pickup_Code", "*8"}, {"Call_Park_Code", "*70"}, {"Call_Unpark_Code", "*71"},
	} {
		fmt.Fprintf(&b, "  <%s ua=\"na\">%s</%[1]s>\n", p[0], html.EscapeString(p[1]))
	}
	b.WriteString("  </flat-profile>\n")
	return b.String()
}

// grouped returns a code in groups of four.
func grouped(code string) string {
	var b strings.Builder
	for i, r := range code {
		if i > 0 && i%4 == 0 {
			b.WriteByte(' ')
		}
		b.WriteRune(r)
	}
	return b.String()
}

// allDevices reads the list page by page.
func (a *app) allDevices(ctx context.Context, user string) ([]api.Device, error) {
	all := []api.Device{}
	for after := ""; ; {
		var page []api.Device
		q := url.Values{"limit": {"1000"}}
		if after != "" {
			q.Set("after", after)
		}
		if user != "" {
			q.Set("user", user)
		}
		if err := a.ask(ctx, http.MethodGet, "/devices", q, nil, &page); err != nil {
			return nil, err
		}
		all = append(all, page...)
		if len(page) < 1000 || user != "" {
			return all, nil
		}
		after = string(page[len(page)-1].ID)
	}
}

func newDeviceListCommand(a *app) *cobra.Command {
	var asJSON bool
	var user string
	cmd := &cobra.Command{
		Use: "list", Short: "List phones", Long: "list shows every device, by id, and whether it can be called now.",
		Example: "  ringfence device list\n  ringfence device list --user alice --json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ds, err := a.allDevices(cmd.Context(), user)
			if err != nil {
				return err
			}
			return show(cmd, asJSON, ds, func(w io.Writer) {
				var rows [][]string
				for _, d := range ds {
					plain := ""
					if d.Exception != nil {
						plain = "until " + stamp(d.Exception.Until)
					}
					rows = append(rows, []string{string(d.ID), string(d.User), d.Kind, join(d.Auth, ","), d.State, yes(d.Registered), plain, stamp(d.Created)})
				}
				table(w, []string{"DEVICE", "USER", "KIND", "AUTH", "STATE", "REGISTERED", "EXCEPTION", "CREATED"}, rows)
			})
		},
	}
	cmd.Flags().StringVar(&user, "user", "", "only the devices of this user")
	_ = cmd.RegisterFlagCompletionFunc("user", a.completeUserFlag)
	return jsonFlag(cmd, &asJSON)
}

// deviceVerb is a command about one phone: do gets its id, and its path in the API.
func (a *app) deviceVerb(verb, short, long, example string, do func(cmd *cobra.Command, id, path string) error) *cobra.Command {
	return &cobra.Command{
		Use: verb + " ID", Short: short, Long: long, Example: example,
		Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeDevices,
		RunE: func(cmd *cobra.Command, args []string) error {
			return do(cmd, args[0], "/devices/"+url.PathEscape(args[0]))
		},
	}
}

func newDeviceShowCommand(a *app) *cobra.Command {
	var asJSON bool
	cmd := a.deviceVerb("show", "Show a phone with its certificates",
		"show prints a device and every certificate that was issued to it.",
		"  ringfence device show alice-desk",
		func(cmd *cobra.Command, _, path string) error {
			var d api.Device
			if err := a.ask(cmd.Context(), http.MethodGet, path, nil, nil, &d); err != nil {
				return err
			}
			return show(cmd, asJSON, d, func(w io.Writer) {
				plain := ""
				if d.Exception != nil {
					plain = "until " + stamp(d.Exception.Until) + ": " + d.Exception.Reason
				}
				facts(w, "device", string(d.ID), "user", string(d.User), "kind", d.Kind, "auth", join(d.Auth, ", "), "state", d.State, "registered", yes(d.Registered), "exception", plain, "created", stamp(d.Created))
				if len(d.Certificates) == 0 {
					return
				}
				fmt.Fprintln(w)
				var rows [][]string
				for _, c := range d.Certificates {
					rows = append(rows, []string{c.Serial, stamp(c.NotBefore), stamp(c.NotAfter), stamp(c.RevokedAt), c.Reason})
				}
				table(w, []string{"CERTIFICATE", "FROM", "UNTIL", "REVOKED", "REASON"}, rows)
			})
		})
	return jsonFlag(cmd, &asJSON)
}

func newDeviceCodeCommand(a *app) *cobra.Command {
	var asJSON bool
	cmd := a.deviceVerb("code", "Make a new activation code or password",
		"code makes a new one-time activation code (or password) for a device and prints it once. The old one stops working; a certificate that the\ndevice has stays good.",
		"  ringfence device code alice-desk",
		func(cmd *cobra.Command, _, path string) error {
			var d api.DeviceAdded
			if err := a.ask(cmd.Context(), http.MethodPost, path+"/code", nil, nil, &d); err != nil {
				return err
			}
			return show(cmd, asJSON, d, func(w io.Writer) { printAdded(w, d) })
		})
	return jsonFlag(cmd, &asJSON)
}

func newDeviceRevokeCommand(a *app) *cobra.Command {
	var reason string
	cmd := a.deviceVerb("revoke", "Revoke a phone: everything of it ends at once",
		"revoke withdraws the certificates of a device, drops its registrations, closes its connections and ends its calls. It can be activated\nagain, and then needs a new code.",
		"  ringfence device revoke alice-desk --reason \"phone was lost\"",
		func(cmd *cobra.Command, id, path string) error {
			var e api.Ended
			if err := a.ask(cmd.Context(), http.MethodPost, path+"/revoke", nil, api.Why{Reason: reason}, &e); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "device %s is revoked: %s\n", id, ended(e))
			return nil
		})
	cmd.Flags().StringVar(&reason, "reason", "", "kept with the certificates")
	return cmd
}

func newDeviceActivateCommand(a *app) *cobra.Command {
	return a.deviceVerb("activate", "Let a revoked phone be enrolled again",
		"activate takes the revocation of a device back. Its old certificates stay revoked: make a new code with `ringfence device code`.",
		"  ringfence device activate alice-desk\n  ringfence device code alice-desk",
		func(cmd *cobra.Command, id, path string) error {
			if err := a.ask(cmd.Context(), http.MethodPost, path+"/activate", nil, nil, nil); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "device %s is active\n", id)
			return nil
		})
}

func newDeviceRemoveCommand(a *app) *cobra.Command {
	return a.deviceVerb("remove", "Remove a phone",
		"remove deletes a device. Its certificates are revoked and stay on record; its connections and calls end at once.",
		"  ringfence device remove alice-desk",
		func(cmd *cobra.Command, id, path string) error {
			var e api.Ended
			if err := a.ask(cmd.Context(), http.MethodDelete, path, nil, nil, &e); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "device %s is removed: %s\n", id, ended(e))
			return nil
		})
}

func newDeviceExceptionCommand(a *app) *cobra.Command {
	var until, reason string
	var end bool
	cmd := a.deviceVerb("exception", "Let a phone speak in the clear for a while",
		"exception names a device that may use plain SIP and RTP until a time, for a stated reason. It is logged, listed by `ringfence status`,\n"+
			"shown in the proof of every call, and ends by itself, after 30 days at most.",
		"  ringfence device exception door-1 --until 48h --reason \"the old door phone is replaced on Friday\"\n  ringfence device exception door-1 --end",
		func(cmd *cobra.Command, id, path string) error {
			path += "/exception"
			if end {
				if err := a.ask(cmd.Context(), http.MethodDelete, path, nil, nil, nil); err != nil {
					return err
				}
				fmt.Fprintf(cmd.OutOrStdout(), "the exception of device %s has ended\n", id)
				return nil
			}
			if until == "" || reason == "" {
				return invalid("an exception needs an end and a reason", "give --until and --reason")
			}
			at, err := when(until, time.Now(), 1)
			if err != nil {
				return err
			}
			var e api.Exception
			if err := a.ask(cmd.Context(), http.MethodPut, path, nil, api.NewException{Until: at, Reason: reason}, &e); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s may speak in the clear until %s\n", e.Subject, stamp(e.Until))
			return nil
		})
	cmd.Flags().StringVar(&until, "until", "", "its end: a duration (48h) or a time (2030-01-31T12:00:00Z)")
	cmd.Flags().StringVar(&reason, "reason", "", "why, for everybody to see")
	cmd.Flags().BoolVar(&end, "end", false, "end it now")
	return cmd
}

func newDeviceProfileCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "profile ID [PROFILE]", Short: "Give a phone a security profile, or take it off",
		Long: "profile gives a device a phone security profile: with encrypted it never speaks in the clear, with non-secure it may for as long as a named exception is in force.\n" +
			"Without one it goes by the security mode of the cluster. The profile holds from the next registration on.",
		Example: "  ringfence device profile alice-desk encrypted\n  ringfence device profile door-1 non-secure\n  ringfence device profile alice-desk",
		Args:    cobra.RangeArgs(1, 2), ValidArgsFunction: a.completeDevices,
		RunE: func(cmd *cobra.Command, args []string) error {
			var d api.Device
			name := ""
			if len(args) == 2 {
				name = args[1]
			}
			if err := a.ask(cmd.Context(), http.MethodPut, "/devices/"+url.PathEscape(args[0])+"/profile", nil, api.DeviceProfile{Security: name}, &d); err != nil {
				return err
			}
			if name == "" {
				name = "none"
			}
			fmt.Fprintf(cmd.OutOrStdout(), "security profile of device %s: %s\n", d.ID, name)
			return nil
		},
	}
}

// when reads a time (RFC 3339), a date, or a duration from now; sign says whether durations count forward (1) or back (-1).
func when(s string, now time.Time, sign time.Duration) (time.Time, error) {
	if d, err := time.ParseDuration(s); err == nil {
		return now.Add(sign * d).UTC().Truncate(time.Second), nil
	}
	for _, layout := range [...]string{time.RFC3339, "2006-01-02T15:04", time.DateOnly} {
		if t, err := time.Parse(layout, s); err == nil {
			return t.UTC(), nil
		}
	}
	return time.Time{}, invalid(fmt.Sprintf("%q is neither a time nor a duration", s), "write 48h, 2030-01-31 or 2030-01-31T12:00:00Z")
}
