// Package names renders the names of a requirement set for whoever decides by name: a proxy auto-configuration file, a Squid proxy, and the resolvers dnsmasq and unbound.
//
// What cannot be said in a target's own words is returned as a loss, never left out in silence. A leading * means the domain and all names below it, as the documents have it.
package names
