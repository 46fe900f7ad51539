// Package phoneports works out which ports a desk phone's own firewall leaves open, from the phone's configuration file, as seed document 003 states it (tables 3 to 5).
//
// Every port says which parameters it comes from, and every option that the phone would pass over or refuse is named with its line.
package phoneports
