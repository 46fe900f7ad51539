// Package page serves a desk phone to whoever operates it: commands and state as JSON, for programs on the same host by a socket file that only the phone's owner may use, and web pages for people.
package page
