package main

import "github.com/spf13/cobra"

func newNetworkCommand(a *app) *cobra.Command {
	return group(&cobra.Command{Use: "network", Short: "What the network must let through, and whether it does",
		Long: "network makes firewall rules of a table of needs and of a site file, and proves a firewall against them, packet for packet. It needs no node, except for\n" +
			"the set self. docs/guides/network.md shows it.",
		Example: "  ringfence network render nftables --set webex-calling --site site.yaml > site.nft\n  ringfence network prove --live --set webex-calling --site site.yaml"},
		newNetworkRenderCommand(a), newNetworkProveCommand(a))
}
