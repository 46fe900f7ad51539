package main

import (
	"context"
	"fmt"
	"os"
	"sync"
	"time"

	"ringfence"
	"ringfence/internal/desk/flatprofile"
	"ringfence/internal/desk/resync"
	"ringfence/internal/desk/vpn"
	"ringfence/internal/desk/webproxy"
	"ringfence/internal/network/phoneports"
)

// join takes the phone into its network: it proves itself to the switch, asks for an address and a profile, and opens its tunnel.
// A phone that is in it already stays as it is.
func (d *deskPhone) join(ctx context.Context, set *flatprofile.Set) error {
	if d.inside {
		d.byOption(set)
		return nil
	}
	if err := d.enter(ctx, set); err != nil {
		return err
	}
	if d.dhcp != "" {
		if err := d.byDHCP(ctx, set); err != nil {
			return err
		}
	}
	if !d.lease {
		return nil
	}
	if d.vpn || set.Yes("Connect_on_Bootup") {
		var err error
		if d.tunnel, err = d.awaitTunnel(ctx, set); err != nil {
			return err
		}
	}
	d.inside = true
	return nil
}

// leave takes the phone out of its network, in reverse.
func (d *deskPhone) leave() {
	if d.tunnel != nil {
		d.tunnel.close()
	}
	if d.release != nil {
		d.release()
		d.link.close()
	}
	if d.access != nil {
		d.access.leave()
	}
	d.tunnel, d.release, d.access, d.inside = nil, nil, nil, false
	d.told.Store(nil)
}

// waiting keeps a status of a phone that waits for its network; tell changes what it says.
func (d *deskPhone) waiting(ctx context.Context, set *flatprofile.Set) (tell func(func(*deskStatus)), done func()) {
	s := deskStatus{PID: os.Getpid(), VPN: vpn.Status{State: vpn.Disconnected}, DHCP: d.told.Load(), Access: d.access.status(), Resync: []resync.Outcome{}, Lines: []lineStatus{}, Warnings: []string{},
		Web: webStatus{Setting: webproxy.Setting{Mode: webproxy.Off, From: "no profile yet"}, Used: []webproxy.Use{}}, Firewall: phoneports.Look(set)}
	var mu sync.Mutex
	keep := func() {
		mu.Lock()
		s.At = time.Now().UTC().Truncate(time.Second)
		now := s
		mu.Unlock()
		d.keepStatus(now)
	}
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(5 * time.Second)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				keep()
			}
		}
	}()
	return func(change func(*deskStatus)) {
		mu.Lock()
		change(&s)
		mu.Unlock()
		keep()
	}, func() { cancel(); <-ended }
}

// networkUses says what parameters of the network did, of those that this phone does something with.
func (d *deskPhone) networkUses(set *flatprofile.Set) map[string]string {
	did := map[string]string{}
	switch {
	case !set.Yes("Enable_802.1X_Authentication"):
		did["Enable_802.1X_Authentication"] = "802.1X is off"
	case d.port.link == "":
		did["Enable_802.1X_Authentication"] = "802.1X is on; this phone does it with up --ethernet LINK"
	default:
		did["Enable_802.1X_Authentication"] = fmt.Sprintf("802.1X at %s", d.port.link)
	}
	for name, what := range map[string]string{"LDAP_Server": "the directory of `ringfence phone directory find`", "LDAP_Search_Base": "where it is searched", "LDAP_Auth_Method": "how it is bound to", "LDAP_Last_Name_Filter": "finds by last name", "LDAP_First_Name_Filter": "finds by first name",
		"LDAP_Display_Attrs": "what is shown of somebody", "LDAP_Client_DN": "the name that Simple binds with", "LDAP_Username": "the name that DIGEST-MD5 binds with", "LDAP_Password": "proves that name to the directory", "LDAP_Number_Mapping": "changes numbers before they are dialled",
		"LDAP_Search_Item_3": "what --item-3 is", "LDAP_item_3_Filter": "finds by it", "LDAP_Search_Item_4": "what --item-4 is", "LDAP_item_4_Filter": "finds by it"} {
		did[name] = what
	}
	did["LDAP_StartTLS_Enable"] = map[bool]string{true: "the directory at ldap:// is searched within TLS, or not at all", false: "the directory at ldap:// would be searched in the clear, which takes --in-the-clear"}[set.Yes("LDAP_StartTLS_Enable")]
	for name, what := range map[string]string{"VPN_Server": "the server of the tunnel", "VPN_User_Name": "who opens the tunnel", "VPN_Password": "proves who opens the tunnel", "VPN_Tunnel_Group": "the group that is chosen at the server"} {
		if set.Text("VPN_Server") != "" {
			did[name] = what
		}
	}
	did["Connect_on_Bootup"] = map[bool]string{true: "up opens the tunnel before anything is fetched", false: "up opens no tunnel, unless --vpn"}[set.Yes("Connect_on_Bootup")]
	if set.Yes("Enable_TR-069") {
		for name, what := range map[string]string{"Enable_TR-069": "an ACS manages the phone, in up and tr069", "ACS_URL": "where the ACS is", "ACS_Username": "who the phone is at the ACS", "ACS_Password": "proves that to the ACS", "Connection_Request_Username": "who may ask for a session",
			"Connection_Request_Password": "proves who asks for a session", "Periodic_Inform_Enable": "whether the phone tells the ACS of itself again", "Periodic_Inform_Interval": "how often", "CWMP_V1.2_Support": "the version that is spoken", "TR-069_DHCPOption_Init": "whether DHCP may name the ACS"} {
			did[name] = what
		}
	}
	d.featureUses(set, did)
	for _, name := range []string{"DHCP_Option_To_Use", "DHCPv6_Option_To_Use"} {
		did[name] = "the order in which --dhcp looks at options"
		if told := d.told.Load(); told != nil {
			did[name] = "no option led to a profile"
			if told.Choice.Rule != "" {
				did[name] = told.Choice.From + " led to the profile"
			}
		}
	}
	return did
}

// ownNetwork refuses what would change the host's own network: a phone that may change one has a network namespace of its own.
func ownNetwork(what, flag string) error {
	own, err := os.Stat("/proc/self/net/dev") // a file of its own in each network; of process 1 it can be seen also where the links in ns cannot be read
	if err == nil {
		var first os.FileInfo
		if first, err = os.Stat("/proc/1/net/dev"); err == nil && os.SameFile(first, own) {
			return &ringfence.Fault{Kind: ringfence.KindDenied, Text: what + " on the host's own network", Hint: "run the phone in a network namespace: ip netns exec PHONE ringfence phone up " + flag + " …"}
		}
	}
	if err != nil {
		return &ringfence.Fault{Kind: ringfence.KindDenied, Text: "it cannot be found out whether the network is the phone's own", Err: err, Hint: "run it in a network namespace that shows /proc; without " + flag + " nothing is changed"}
	}
	return nil
}
