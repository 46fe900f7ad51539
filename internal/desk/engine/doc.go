// Package engine runs a program of somebody else that does a part of a phone's work: it starts it, hears what it says line by line, and stops it with the phone.
package engine
