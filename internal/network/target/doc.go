// Package target knows every firewall whose rules are written from needs and read back: what it is called, what its files are, and who reads them.
package target
