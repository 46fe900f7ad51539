// Package keyring keeps what an administrator brings: certificates of authorities to believe, and identities that somebody else certified.
//
// Nothing here is believed or presented by being here. The tree of TLS settings says where, by alias.
package keyring
