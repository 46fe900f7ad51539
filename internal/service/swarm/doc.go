// Package swarm runs many phones in one process, to rehearse what a site will do to its servers: it registers them, has pairs of them speak, and checks in both directions that what was said is what was heard.
//
// What it finds it counts: how many registered and how long that took, which calls were sealed and heard, why others were not, and what that cost in processor time and memory of this process.
package swarm
