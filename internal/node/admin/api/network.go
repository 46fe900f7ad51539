package api

import (
	"ringfence/internal/network/firewall"
	"ringfence/internal/network/need"
)

// NetworkSet is what a service needs of the network.
type NetworkSet struct {
	need.Set
	Version   string        `json:"version,omitempty" doc:"the day of the latest change, and how many there were" example:"2024-07-02.78"`
	NotUndone []need.Change `json:"not_undone,omitempty" doc:"later changes that the history tells in words only, so that they still show"`
}

// FeedKey is the public key that feeds are signed by.
type FeedKey struct {
	ID  string `json:"id" doc:"SHA-256 of the key, in base64url; the kid of feeds"`
	PEM string `json:"pem"`
}

// NetworkChanges is the history of a set.
type NetworkChanges struct {
	Set     string          `json:"set" example:"webex-calling"`
	Version string          `json:"version" example:"2024-07-02.78"`
	Changes []NetworkChange `json:"changes"`
}

// NetworkChange is one change of a set.
type NetworkChange struct {
	need.Change
	Concerns []string `json:"concerns" doc:"whose work it is: firewall, proxy, dns, qos"`
}

// NetworkNeeds says what a site needs.
type NetworkNeeds struct {
	Set   string    `json:"set,omitempty" maxLength:"80" doc:"self, or a set that is built in, also as it was at the end of a day" example:"webex-calling@2023-12-10"`
	Needs *need.Set `json:"needs,omitempty" doc:"a set instead, as GET /network/sets/{name} gives one"`
	Site  string    `json:"site,omitempty" maxLength:"1048576" doc:"the site file, in YAML; docs/guides/firewalls.md"`
}

// NetworkRender asks for a rendering.
type NetworkRender struct {
	NetworkNeeds
	Target    string `json:"target" maxLength:"40" example:"nftables"`
	Proxy     string `json:"proxy,omitempty" maxLength:"300" doc:"the web proxy of the names, as host:port (pac)"`
	Otherwise string `json:"otherwise,omitempty" maxLength:"300" doc:"the web proxy of all other names (pac)"`
	Customer  string `json:"customer,omitempty" maxLength:"63" doc:"the label of the customer in zones (dnsmasq, unbound)"`
}

// NetworkRendering is a set in the words of a target.
type NetworkRendering struct {
	Set         string                `json:"set"`
	Version     string                `json:"version,omitempty"`
	Target      string                `json:"target"`
	Files       []firewall.File       `json:"files" doc:"one without a name, or several"`
	Lost        []need.Loss           `json:"lost" doc:"what a target that decides by names or marks does not say"`
	Certificate *firewall.Certificate `json:"certificate,omitempty" doc:"of a firewall: how far the text is what was asked for, packet for packet"`
}

// NetworkProve asks for a proof or an audit of a firewall.
type NetworkProve struct {
	NetworkNeeds
	Format string          `json:"format" maxLength:"40" example:"nftables"`
	Files  []firewall.File `json:"files" minItems:"1" maxItems:"16" doc:"what the firewall prints of its rules"`
}

// NetworkPhone asks what a desk phone leaves open, for whom, and who outside reaches it. Without a set it is looked at alone.
type NetworkPhone struct {
	NetworkNeeds
	Profile string          `json:"profile" minLength:"1" maxLength:"4194304" doc:"the phone's configuration file (cfg.xml)"`
	As      []string        `json:"as,omitempty" maxItems:"20" doc:"the roles of the set that the phone has, unless it calls one a phone" example:"phone"`
	Format  string          `json:"format,omitempty" maxLength:"40" example:"cisco-asa"`
	Files   []firewall.File `json:"files,omitempty" maxItems:"16" doc:"what the site's firewall prints of its rules"`
}

// NetworkChecklist asks for the duties of a site, with what tools found as evidence.
type NetworkChecklist struct {
	Files []firewall.File `json:"files" maxItems:"64" doc:"what ready run, network prove, network phone, phone dot1x or ready checklist wrote with --json"`
}

// NetworkDiff asks what has to change between two sets.
type NetworkDiff struct {
	Old      string    `json:"old,omitempty" maxLength:"80" example:"webex-calling@2023-12-10"`
	OldNeeds *need.Set `json:"old_needs,omitempty"`
	New      string    `json:"new,omitempty" maxLength:"80" example:"webex-calling"`
	NewNeeds *need.Set `json:"new_needs,omitempty"`
}

// NetworkDifference is what has to change.
type NetworkDifference struct {
	Changes []NetworkChange `json:"changes"`
}

// NATQuestion is what a plan of address translation is made from. Zero means what `ringfence network nat` assumes.
type NATQuestion struct {
	Devices     int      `json:"devices" minimum:"1" maximum:"10000000"`
	Calls       int      `json:"calls,omitempty" minimum:"0" maximum:"10000000"`
	Pool        []string `json:"pool" minItems:"1" maxItems:"100" example:"192.0.2.0/29"`
	Block       int      `json:"block,omitempty" minimum:"0" maximum:"65535"`
	Reuse       bool     `json:"reuse,omitempty"`
	UDPSeconds  int      `json:"udp_seconds,omitempty" minimum:"0" maximum:"86400"`
	TCPSeconds  int      `json:"tcp_seconds,omitempty" minimum:"0" maximum:"86400"`
	CallSeconds int      `json:"call_seconds,omitempty" minimum:"0" maximum:"86400" doc:"how long a call lasts"`
	Table       int      `json:"table,omitempty" minimum:"0" maximum:"1000000000" doc:"how many connections the translating device can hold"`
}
