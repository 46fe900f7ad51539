// Package admin is the authenticated, audited door for people and scripts: a REST API with its OpenAPI description.
//
// It is served in two places. On a Unix socket the kernel says who is there: root and the node's own user may do
// everything. On the node's HTTPS listener a bearer token says so; the first token is traded for a one-time code that
// `ringfence up` prints at the first start. There is no default password. Every request that changes something leaves an
// entry in the audit, whether it succeeded or not.
//
// Each resource has one file. The words on the wire are in package api; a client is in package client. What the API needs of
// the other rooms is declared here as small interfaces, and joined in package node.
package admin
