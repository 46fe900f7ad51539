package main

import (
	"context"
	"fmt"
	"strings"

	"ringfence/internal/network/phoneports"
)

// phoneTable is the table of nftables that holds a desk phone's firewall.
const phoneTable = "ringfence_phone"

// phoneRules writes the firewall of a desk phone: what is open, the way back for what the phone opened itself, and nothing else. What leaves is let out.
func phoneRules(v phoneports.View) string {
	var b strings.Builder
	fmt.Fprintf(&b, "table inet %s\ndelete table inet %s\ntable inet %s {\n\tchain input {\n\t\ttype filter hook input priority filter; policy drop;\n", phoneTable, phoneTable, phoneTable)
	b.WriteString("\t\tiif \"lo\" accept\n\t\tct state established,related accept\n\t\tct state invalid drop\n")
	b.WriteString("\t\ticmpv6 type { nd-neighbor-solicit, nd-neighbor-advert, nd-router-advert } accept\n")
	if v.Ping {
		b.WriteString("\t\ticmp type echo-request accept\n\t\ticmpv6 type echo-request accept\n")
	}
	if v.Multicast { // who keeps the groups of a link asks now and then who is in them
		b.WriteString("\t\tip protocol igmp accept\n\t\ticmpv6 type { mld-listener-query, mld2-listener-report } accept\n")
	}
	rtp := ""
	for _, o := range v.Open {
		if o.One { // one port by chance: this phone has no such service, so none of them
			continue
		}
		ports := o.Ports.String()
		if o.Service == "RTP and RTCP" {
			rtp = ports
		}
		fmt.Fprintf(&b, "\t\t%s dport %s accept comment %q\n", o.Transport, ports, o.Service)
	}
	if v.Unreachable { // a closed port of UDP says that it is
		b.WriteString("\t\tmeta l4proto udp reject\n")
	}
	b.WriteString("\t}\n")
	if !v.Unreachable && rtp != "" { // of the range of RTP it may still be said
		fmt.Fprintf(&b, "\tchain output {\n\t\ttype filter hook output priority filter; policy accept;\n\t\ticmp type destination-unreachable @th,240,16 != %s drop\n\t\ticmpv6 type destination-unreachable @th,400,16 != %s drop\n\t}\n", rtp, rtp)
	}
	b.WriteString("}\n")
	return b.String()
}

// applyPhoneFirewall puts the firewall into force, and returns the name of its table; none if the profile switches the firewall off. It does so only where the network is
// the phone's own: elsewhere it would cut off the host.
func applyPhoneFirewall(ctx context.Context, v phoneports.View) (string, error) {
	if err := ownNetwork("the firewall of a phone is not put into force", "--firewall"); err != nil {
		return "", err
	}
	if !v.Firewall {
		return "", nil
	}
	if err := runNFT(ctx, phoneRules(v)); err != nil {
		return "", err
	}
	return phoneTable, nil
}

// removePhoneFirewall takes it out of force when the phone ends.
func removePhoneFirewall(ctx context.Context, table string) {
	if table != "" {
		_ = runNFT(ctx, "delete table inet "+table+"\n")
	}
}

// putWall puts the firewall of a phone into force, instead of the one before it, or out of force if the profile switches it off.
func (d *deskPhone) putWall(ctx context.Context, v phoneports.View) error {
	table, err := applyPhoneFirewall(ctx, v)
	if err != nil {
		return err
	}
	if table == "" {
		d.takeWall(ctx)
		return nil
	}
	d.table.Store(&table)
	return nil
}

// takeWall takes the firewall out of force, if there is one.
func (d *deskPhone) takeWall(ctx context.Context) {
	if table := d.table.Swap(nil); table != nil {
		removePhoneFirewall(ctx, *table)
	}
}

// wall is the table of the firewall that is in force; "" is none.
func (d *deskPhone) wall() string {
	if table := d.table.Load(); table != nil {
		return *table
	}
	return ""
}
