// Package eventlist reads what a server tells of a whole list of resources by one subscription (RFC 4662): a list in application/rlmi+xml, and beside it in the same multipart/related body what there is to say of each resource.
package eventlist
