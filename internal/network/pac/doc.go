// Package pac finds the web proxy for an address by a proxy auto-configuration file, as browsers and phones do.
//
// Such a file is a program of strangers. It runs in an interpreter of our own for the JavaScript that these files are written in (ECMAScript 3, and what of later editions they use), which knows no files, no clock and no
// network but those that are handed in, and which counts steps, memory, depth and questions to DNS: a file that loops is stopped, in the same place on every machine. Regular expressions run in linear time.
package pac
