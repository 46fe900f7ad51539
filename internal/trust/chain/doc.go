// Package chain reads files of certificates as they come from others, and puts a chain in the order that TLS wants.
package chain
