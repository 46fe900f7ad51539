// Package catalogue holds the sets of network requirements that are built in, as published documents state them, and makes one of the flow table of a node.
//
// Each row keeps the line of the document that it comes from, what was mended in it, and what stays contradictory. [At] goes back in the history of a set.
package catalogue
