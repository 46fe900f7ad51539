// Package roster knows users, their numbers and their devices, in memory, as the store has them.
//
// Lookups take no lock: each [Roster.Reload] puts a new snapshot in place.
package roster
