// Package change says whether somebody may change a parameter at the phone itself, and keeps what was changed until the profile says something else.
//
// A change is what a line of the phone's file would be, and is judged as one: what the phone would not take is refused, and what can be misused has to be said twice ([Judge]). The profile stays the master: as soon as it has another
// value for a parameter than it had when somebody changed it at the phone, that one counts again ([Apply]).
package change
