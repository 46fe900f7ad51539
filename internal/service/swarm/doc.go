// Package swarm rehearses a site with many phones in one process: each registers over a connection of its own, pairs of them call each other, and both
// ends of each call listen for the tone that the other was told to say. What comes of it is a [Report].
//
// The phones are those of package service/phone, on one stack. Who they are is the caller's business.
package swarm
