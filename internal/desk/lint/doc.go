// Package lint finds what a desk phone would not do as its configuration file seems to say, or should not do: names that are unknown,
// misspelt or deprecated, values that are ill-formed, and values that are dangerous, each with its line and what to write.
package lint
