// Package dialplan decides where a number goes, and can explain why, without touching the world.
//
// [Plan.Decide] is a pure function from a [Question] to a [Decision] with its reasons.
package dialplan
