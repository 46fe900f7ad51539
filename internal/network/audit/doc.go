// Package audit looks at a firewall that is there: what of a site's needs it drops, what it lets through that nobody needs or that only an earlier version of the set needed, and the smallest change, in its own words, after which it is exact.
package audit
