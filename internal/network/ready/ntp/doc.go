// Package ntp asks a time server what it knows (RFC 5905), without setting a clock.
package ntp
