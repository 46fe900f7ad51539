// Package wpad finds a site's proxy auto-configuration file as hosts do that are told nothing: by the name wpad in DNS, by DHCP option 252, or from an address that is known.
//
// Whoever answers to that name, or to that question, becomes the proxy of every host that asks. So it says who answered, and does not climb to domains that nobody named.
package wpad
