// Package cwmp is the device's side of TR-069: a desk phone tells its auto-configuration server (ACS) that it is there, and lets it read and write its parameters.
//
// A session is HTTP within TLS, and the ACS must prove its name: whoever is taken for it decides over the phone. What an ACS asks is read with limits, and a change is made as a whole or not at all.
package cwmp
