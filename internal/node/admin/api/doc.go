// Package api holds the words that the administration API and its clients share: what is sent and what comes back.
//
// Names in JSON are lower_snake and do not change meaning; new ones may be added. Times are RFC 3339 in UTC. The tags doc,
// example, minLength and so on become the OpenAPI document that the node serves.
package api
