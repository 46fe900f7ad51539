package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"ringfence"
	"ringfence/internal/desk/line"
	"ringfence/internal/desk/profilerule"
	"ringfence/internal/desk/upkeep"
	"ringfence/internal/desk/webproxy"
	"ringfence/internal/state/durable"
	"ringfence/internal/trust/signedfile"
)

// requests makes requests of an application within TLS to servers that prove their names and that Restricted_Access_Domains lists, by the web proxy if the profile has one.
func (p *profiles) requests(of webproxy.Application) *http.Transport {
	conf := p.tls.Clone()
	line.Suites(p.set).Apply(conf)
	conf.RootCAs = p.phone.Roots()
	return &http.Transport{DisableCompression: true, DisableKeepAlives: true, MaxConnsPerHost: 1, MaxResponseHeaderBytes: 64 << 10, ResponseHeaderTimeout: 30 * time.Second, DialTLSContext: func(ctx context.Context, _, address string) (net.Conn, error) {
		host, text, err := net.SplitHostPort(address)
		if err != nil {
			return nil, err
		}
		port, err := parsePort(text)
		if err == nil {
			err = p.set.Permit(host)
		}
		if err != nil {
			return nil, err
		}
		sealed := func(raw net.Conn, at string) (net.Conn, error) {
			own := conf.Clone()
			own.ServerName = host
			c := tls.Client(raw, own)
			if err := c.HandshakeContext(ctx); err != nil {
				_ = raw.Close()
				return nil, &ringfence.Fault{Kind: ringfence.KindInsecure, Text: "the server at " + at + " is not believed to be " + host, Err: err, Hint: "is its authority that of --ca, and does its certificate have this name?"}
			}
			return c, nil
		}
		if p.noWeb != nil {
			return nil, p.noWeb
		}
		if raw, use, err := p.web.Connect(ctx, of, host, port); err != nil {
			return nil, err
		} else if raw != nil {
			return sealed(raw, address+" by "+use.Way)
		}
		found, err := p.lookup(ctx, host)
		if err != nil || len(found) == 0 {
			return nil, &ringfence.Fault{Kind: ringfence.KindUnavailable, Text: "there is no A record of " + host, Err: err}
		}
		var worst error
		for _, a := range found {
			at := netip.AddrPortFrom(a, port)
			raw, err := p.opener.Dial(ctx, flowProfile, at)
			if err != nil {
				worst = cmp.Or(worst, error(&ringfence.Fault{Kind: ringfence.KindUnavailable, Text: "nobody answers at " + at.String(), Err: err}))
				continue
			}
			c, err := sealed(raw, at.String())
			if err == nil {
				return c, nil
			}
			worst = err
		}
		return nil, worst
	}}
}

// server is where a rule leads.
func (d *deskPhone) server(p *profiles, parameter string, of webproxy.Application) (upkeep.Server, profilerule.Target, error) {
	t, ok, err := p.phone.Target(p.set, parameter)
	switch {
	case err != nil:
		return upkeep.Server{}, t, err
	case !ok:
		return upkeep.Server{}, t, &ringfence.Fault{Kind: ringfence.KindNotFound, Text: parameter + " leads nowhere", Hint: "set it to an https address"}
	}
	return upkeep.Server{URL: t.URL, User: t.UID, Password: t.PWD, Web: p.requests(of)}, t, nil
}

func newPhoneFirmwareCommand() *cobra.Command {
	d := &deskPhone{}
	var signer, out string
	var asJSON bool
	var give time.Duration
	cmd := &cobra.Command{
		Use: "firmware", Short: "Fetch the firmware of a desk phone and check who signed it; nothing is flashed", Args: cobra.NoArgs,
		Long: "firmware fetches the signed file that Upgrade_Rule leads to, by HTTPS alone, and takes it only if one of the certificates in --signer signed it, by SHA-256 or SHA-512, as a phone checks what it loads. --out\n" +
			"keeps what was signed. Syslog_Server hears of the request and of how it went. The file has 8 MiB at most, which is the list of what a phone loads, and small images.\n\n" +
			"If the profile says Peer_Firmware_Sharing, the server is asked for the beginning of the file alone, and the phones of the link for the file that begins so, before the server is; --give gives it to them in turn, and so does\n" +
			"`ringfence phone up --signer` with what --state keeps. Whoever gives it, the signature counts. Peer_Firmware_Sharing_Log_Server hears of it.\n\n" +
			"It ends with 6 (insecure) if the signature does not hold or the server is not believed, with 3 if there is no such file.",
		Example: "  ringfence phone firmware --cfg cfg.xml --ca ca.pem --signer vendor.pem\n  ringfence phone firmware --cfg cfg.xml --signer vendor.pem --out phone.loads --json\n  ringfence phone firmware --cfg cfg.xml --signer vendor.pem --give 10m",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if signer == "" {
				return invalid("nobody is named whose signature counts", "give --signer FILE")
			}
			certs, err := signers(signer)
			if err != nil {
				return err
			}
			ctx := cmd.Context()
			p, err := d.read(ctx)
			if err != nil {
				return err
			}
			if !p.set.Yes("Upgrade_Enable") {
				return &ringfence.Fault{Kind: ringfence.KindDenied, Text: "the phone does not upgrade: Upgrade_Enable is No", Hint: "set it to Yes"}
			}
			s, _, err := d.server(p, "Upgrade_Rule", webproxy.Upgrade)
			if err != nil {
				return err
			}
			u, err := upkeep.ParseURL(s.URL)
			if err != nil {
				return err
			}
			p.phone.Log(p.set, "Log_Request_Msg", u, nil)
			image, from, err := p.firmware(ctx, s, certs, cmd.ErrOrStderr())
			if err != nil {
				p.phone.Log(p.set, "Log_Failure_Msg", u, err)
				return err
			}
			p.phone.Log(p.set, "Log_Success_Msg", u, nil)
			if out != "" {
				if err := durable.Replace(out, image.Body); err != nil {
					return &ringfence.Fault{Kind: ringfence.KindUnavailable, Text: "the firmware cannot be kept in " + out, Err: err}
				}
			}
			if d.state != "" {
				err := os.MkdirAll(d.state, 0o700)
				if err == nil {
					err = durable.Replace(filepath.Join(d.state, keptFirmware), image.Raw)
				}
				if err != nil {
					return &ringfence.Fault{Kind: ringfence.KindUnavailable, Text: "the firmware cannot be kept in " + d.state, Err: err}
				}
			}
			f := fetched{image, from}
			if err := show(cmd, asJSON, f, f.print); err != nil || give <= 0 {
				return err
			}
			if !shares(p.set) {
				return &ringfence.Fault{Kind: ringfence.KindDenied, Text: "the profile does not say that phones share firmware", Hint: "set Peer_Firmware_Sharing to Yes"}
			}
			ctx, cancel := context.WithTimeout(ctx, give)
			defer cancel()
			sh, err := p.newSharing(ctx, cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			over, err := sh.give(ctx, image.Raw)
			if err != nil {
				return err
			}
			sh.say("the phones of the link can have it for %s", give)
			<-over
			return nil
		},
	}
	d.flags(cmd)
	cmd.Flags().StringVar(&signer, "signer", "", "certificates whose signatures count (PEM)")
	cmd.Flags().StringVar(&out, "out", "", "keep what was signed in this file")
	cmd.Flags().DurationVar(&give, "give", 0, "then give it to the phones of the link, for this long")
	return jsonFlag(cmd, &asJSON)
}

// sent is what became of a report.
type sent struct {
	What  string `json:"what"` // settings, problem
	URL   string `json:"url,omitempty"`
	File  string `json:"file,omitempty"`
	Bytes int    `json:"bytes"`
}

func newPhoneReportCommand() *cobra.Command {
	d := &deskPhone{}
	var problem, out string
	var asJSON bool
	cmd := &cobra.Command{
		Use: "report", Short: "Send the settings of a desk phone, or a problem report, to where its profile says", Args: cobra.NoArgs,
		Long: "report sends the phone's settings to Report_Rule by HTTP_Report_Method, encrypted as `openssl enc -aes-256-cbc` does if the rule has a --key. With --problem it sends a problem report to PRT_Upload_Rule by\n" +
			"PRT_Upload_Method: a form with your words and a packed archive (prt_file) of the settings, what each parameter did, and with --state where the phone stands. No passwords are in either.\n\n" +
			"Reports go by HTTPS alone, to a server that proves its name. --out writes to a file instead.",
		Example: "  ringfence phone report --cfg cfg.xml --ca ca.pem\n  ringfence phone report --cfg cfg.xml --ca ca.pem --problem 'no sound after hold' --state /var/lib/desk\n  ringfence phone report --cfg cfg.xml --out settings.xml",
		RunE: func(cmd *cobra.Command, _ []string) error {
			p, err := d.read(cmd.Context())
			if err != nil {
				return err
			}
			r := sent{What: "settings", File: out}
			of := webproxy.Report
			kind, method, rule, body := "text/xml", p.set.Text("HTTP_Report_Method"), "Report_Rule", upkeep.Settings(p.set)
			if problem != "" {
				r.What, method, rule, of = "problem", p.set.Text("PRT_Upload_Method"), "PRT_Upload_Rule", webproxy.Problem
				if kind, body, err = d.problem(p, problem); err != nil {
					return err
				}
			}
			if out != "" {
				if err := durable.Replace(out, body); err != nil {
					return &ringfence.Fault{Kind: ringfence.KindUnavailable, Text: "the report cannot be written to " + out, Err: err}
				}
			} else {
				s, t, err := d.server(p, rule, of)
				if err != nil {
					return err
				}
				if t.Key != "" {
					if body, err = signedfile.EncryptPassphrase(body, t.Key); err != nil {
						return err
					}
					kind = "application/octet-stream"
				}
				if err := s.Send(cmd.Context(), method, kind, body); err != nil {
					return err
				}
				r.URL = s.URL
			}
			r.Bytes = len(body)
			return show(cmd, asJSON, r, func(w io.Writer) {
				fmt.Fprintf(w, "%s: %d bytes to %s\n", r.What, r.Bytes, cmp.Or(r.URL, r.File))
			})
		},
	}
	d.flags(cmd)
	cmd.Flags().StringVar(&problem, "problem", "", "send a problem report with these words")
	cmd.Flags().StringVar(&out, "out", "", "write to this file instead")
	return jsonFlag(cmd, &asJSON)
}

// problem packs what helps to find out about a problem.
func (d *deskPhone) problem(p *profiles, text string) (kind string, body []byte, err error) {
	e, err := explain(p, d.networkUses(p.set), false, nil)
	if err != nil {
		return "", nil, err
	}
	told, err := json.MarshalIndent(e, "", "  ")
	if err != nil {
		return "", nil, err
	}
	files := map[string][]byte{"settings.xml": upkeep.Settings(p.set), "explain.json": told}
	if d.state != "" {
		b, err := readWhole(filepath.Join(d.state, statusName), 1<<20)
		if err == nil {
			files[statusName] = b
		} else if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, os.ErrNotExist) {
			return "", nil, err
		}
	}
	now := time.Now()
	mac := strings.ToUpper(p.phone.Device.MAC)
	name := p.phone.Expand(p.set, p.set.Text("PRT_Name"))
	if name = strings.Map(func(r rune) rune {
		if r <= ' ' || r == '/' || r == '\\' || r >= 0x7f {
			return '-'
		}
		return r
	}, name); name == "" {
		name = fmt.Sprintf("prt-%s-%s", mac, now.UTC().Format("20060102T150405Z"))
	}
	return upkeep.Problem(name+".tar.gz", "SEP"+mac, d.serial, text, now, files)
}
