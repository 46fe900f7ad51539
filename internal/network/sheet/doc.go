// Package sheet prints a set of network requirements for people: as text, Markdown, HTML or CSV.
package sheet
