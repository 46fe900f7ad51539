// Package webproxy decides by which web proxy the applications of a desk phone go out, as its configuration file says, and opens the way.
//
// Those that go by a proxy are listed; signalling and voice are not among them and never do. Proxy_Mode is off, manual, with or without a sign-in, or automatic: then a
// file of the site decides, found at an address that the profile has, or by DHCP and DNS (WPAD). A phone that was told of a proxy does not go around it: only where
// nobody knows of any does it go directly. Each way that was taken is remembered with the reason.
package webproxy
