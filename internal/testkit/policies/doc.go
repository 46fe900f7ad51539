// Package policies makes what firewalls are tested with: the policies of the sets that are built in, at a site, and random ones.
package policies
