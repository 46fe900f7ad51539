// Package published turns the lists of addresses and names that other services publish into sets of requirements, so that they are rendered, proved and tested as those that are built in.
//
// It reads Microsoft 365's endpoints (https://endpoints.office.com/endpoints/worldwide), the address ranges of AWS (ip-ranges.json) and of Google (goog.json, cloud.json), and plain lists of networks and names, one a line, as
// Zoom and others publish them and as firewalls take them.
// What such a list does not say is not invented: source ports are those that an operating system chooses, and ports that a list leaves out have to be given.
package published
