package entry

// Edit is a change at one place of a chain: what stands there goes, or stays, and something comes before it.
type Edit struct {
	Chain  int // among those of the ruleset
	At     int // the rule that is meant; the number of rules is the end
	Remove bool
	Add    []Added
}

// Added is a rule that comes.
type Added struct {
	Row    string
	Entry  Entry
	Accept bool
}
