// Package upkeep is what a desk phone does for its own upkeep: it fetches firmware and checks who signed it, and sends its settings and problem reports.
//
// Nothing is flashed: this phone has no flash. What it sends holds no passwords.
package upkeep
