// Package ringfence holds the words every room uses: typed names, one error shape, Flow and Proof.
//
// It imports nothing of the project, so every room may import it. Four nouns carry the product: a [Flow] is who may
// talk to whom and how; an identity is a name bound to a key (package trust/ca issues it); a leg is one SIP dialog with
// its one media session (package call/control owns it); a [Proof] is what was verified about a connection or a leg.
package ringfence
