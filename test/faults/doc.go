// Package faults shows what a whole node does on a bad day.
//
// Its tests flood, starve, kill and lie to a node while phones register and talk, and hold it to one rule: whoever behaves is
// served as before, whoever does not is counted, and nothing is left behind. Nodes run in this process where a test looks inside
// them, and as children where they must die, where their disk must fill or where their packets must be dropped. Sizes suit a small machine; -faults.big makes them
// those of the acceptance.
package faults
