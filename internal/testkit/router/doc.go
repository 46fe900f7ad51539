// Package router is a Linux router for tests of firewalls: a process with a network of its own, whose kernel judges packets that two neighbours and the router itself send, and what comes out at which end.
package router
