// Package site says what one organisation needs of its firewall: it reads the site file, which names the networks behind the roles of a set and the ports that the customer chooses, and resolves the rows of the set with it.
//
// Nothing is dropped silently: a row that cannot be resolved is named with what is missing, and every mistake of a file is told at once, with its line.
package site
