// Package probe finds out from a site whether the network lets through what a set of requirements asks for, with a reflector as the far end.
//
// It tells apart silence, refusal and somebody else's answer, names the ports that do not pass, and says for each failure which requirement it is about, what to change and how to test it again.
package probe
