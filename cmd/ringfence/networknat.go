package main

import (
	"fmt"
	"io"
	"net/netip"
	"time"

	"github.com/spf13/cobra"

	"ringfence"
	"ringfence/internal/network/nat"
)

func newNetworkNATCommand() *cobra.Command {
	var q nat.Question
	var pools []string
	var ports string
	var asJSON bool
	cmd := &cobra.Command{
		Use: "nat --devices N --pool PREFIX", Short: "Plan the address translation between phones and a service outside",
		Long: "nat says how many bindings a site makes at its busiest, how many its pool holds, how many addresses it needs, how large its table of connections must be, whether bindings last long enough, and whether blocks of ports would\n" +
			"do. What it assumes is printed, and\n" +
			"can be changed. It fails if something is not good. Between the phones and a Dedicated Instance there may be no translation at all.",
		Example: "  ringfence network nat --devices 2000 --pool 192.0.2.0/29\n  ringfence network nat --devices 500 --calls 80 --pool 192.0.2.7/32 --udp-timeout 30s --tcp-timeout 5m\n  ringfence network nat --devices 20000 --pool 198.51.100.0/26 --block 64 --json\n  ringfence network nat --devices 2000 --pool 192.0.2.0/29 --udp-timeout 5m --call-time 90s --conntrack 65536",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			for _, p := range pools {
				prefix, err := netip.ParsePrefix(p)
				if err != nil {
					a, err := netip.ParseAddr(p)
					if err != nil {
						return invalid(fmt.Sprintf("%.60q is neither an address nor a prefix", p), "write 192.0.2.0/29")
					}
					prefix = netip.PrefixFrom(a, a.BitLen())
				}
				q.Pool = append(q.Pool, prefix)
			}
			if _, err := fmt.Sscanf(ports, "%d-%d", &q.First, &q.Last); err != nil {
				return invalid(fmt.Sprintf("%.40q is no range of ports", ports), "write 1024-65535")
			}
			p, err := nat.Make(q)
			if err != nil {
				return err
			}
			if err := show(cmd, asJSON, p, func(w io.Writer) { printNAT(w, p) }); err != nil || p.OK {
				return err
			}
			return &ringfence.Fault{Kind: ringfence.KindUnavailable, Text: "the translation as it is would lose phones or calls", Hint: "the table says what to change"}
		},
	}
	cmd.Flags().IntVar(&q.Devices, "devices", 0, "how many phones and applications there are")
	cmd.Flags().IntVar(&q.Calls, "calls", 0, "how many of them talk at once (default: a tenth)")
	cmd.Flags().StringSliceVar(&pools, "pool", nil, "the addresses outside, as prefixes")
	cmd.Flags().StringVar(&ports, "ports", "1024-65535", "the ports of each address that may be used")
	cmd.Flags().IntVar(&q.Block, "block", 0, "how many ports a device is given at a time (default: one by one)")
	cmd.Flags().IntVar(&q.Idle, "idle", 3, "bindings of a device that does not talk")
	cmd.Flags().IntVar(&q.Call, "per-call", 4, "how many more in a call: RTP and RTCP of voice and of video")
	cmd.Flags().BoolVar(&q.Reuse, "reuse", false, "a port outside may serve several destinations at once")
	cmd.Flags().DurationVar(&q.UDP, "udp-timeout", 0, "after how long a silent UDP binding ends")
	cmd.Flags().DurationVar(&q.TCP, "tcp-timeout", 0, "after how long a silent TCP connection ends")
	cmd.Flags().DurationVar(&q.Hold, "call-time", 3*time.Minute, "how long a call lasts: the sooner it is followed by another one, the more silent bindings are left")
	cmd.Flags().IntVar(&q.Table, "conntrack", 0, "how many connections the translating device can hold")
	cmd.Flags().DurationVar(&q.Refresh, "refresh", 2*time.Minute, "how often phones refresh what they registered")
	_ = cmd.MarkFlagRequired("devices")
	_ = cmd.MarkFlagRequired("pool")
	return jsonFlag(cmd, &asJSON)
}

func printNAT(w io.Writer, p nat.Plan) {
	facts(w, "bindings needed", fmt.Sprint(p.Needed), "bindings that the pool holds", fmt.Sprint(p.Capacity), "addresses needed", fmt.Sprint(p.Addresses), "devices that the pool can serve", fmt.Sprint(p.MostAtOne),
		"of calls that are over", fmt.Sprint(p.Lingering), "connections to hold", fmt.Sprint(p.Conntrack))
	fmt.Fprintln(w)
	var rows [][]string
	for _, f := range p.Findings {
		ok := "good"
		if !f.OK {
			ok = "BAD"
		}
		rows = append(rows, []string{f.Subject, ok, f.Text, f.Do})
	}
	table(w, []string{"ABOUT", "IS", "WHAT", "DO"}, rows)
	fmt.Fprintln(w, "\nA Linux that translates, at least:")
	for _, l := range p.Linux {
		fmt.Fprintf(w, "  %s\n", l)
	}
	fmt.Fprintln(w, "\nAssumed:")
	for _, a := range p.Assumed {
		fmt.Fprintf(w, "  %s\n", a)
	}
}
