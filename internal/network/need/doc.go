// Package need says what a calling system needs of the network, row by row: who opens what to whom, by which ports, with which mark, and how far the row can be believed.
//
// A [Set] is a catalogue of such rows: the published tables of a service, or the flow table of a node that runs. What is made of it (tables, firewalls, proofs, probes) knows no other form.
package need
