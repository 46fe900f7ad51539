// Package trunk keeps the ways to other telephone systems: who they are, a connection to each that stays up, and what its security profile lets it do.
//
// A trunk proves itself by its certificate in both directions: it must carry one of the subjects of the trunk's profile and come from one of its anchors.
// [Table.Match] says whose connection one is; [Table.Way] is where calls go out. Calls themselves are package control's.
package trunk
