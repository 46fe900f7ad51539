// Package nat plans the address translation between phones and a service outside: how many bindings a site makes, how many its pool can hold, and how long they must last.
//
// It is arithmetic on stated assumptions, each of which is returned with the result.
package nat
