// Package branch is the sites of tests: for each set of network requirements a site file, and what a firewall of that site must let through.
package branch
