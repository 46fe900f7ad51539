// Package dns asks a name server as a phone would, over UDP and TCP, and keeps what the answer says instead of following it.
package dns
