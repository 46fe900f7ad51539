// Package flatprofile reads the configuration file of a multiplatform desk phone (cfg.xml), and knows the phone's parameters.
//
// [Parse] takes a file as a phone does: one element for each parameter, of which the last counts. [Mend] repairs what is often written
// wrong, so that whoever looks for mistakes can go on behind the first. [Parameters] is the catalogue: where a parameter stands on the
// phone's pages, what it may be, what it is if nobody sets it, what it does, and whether it is dangerous or has another name now.
// A [Set] holds the parameters in force, and where each came from.
package flatprofile
