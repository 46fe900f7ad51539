// Package oidc lets people prove who they are at an OpenID provider outside, and believes only what that provider signed for this node.
//
// A [Provider] is a relying party of OpenID Connect Core 1.0 with the authorization code and PKCE. [Provider.Begin] says where to send a
// browser; [Provider.Finish] takes what comes back, trades the code, and checks the ID token: its algorithm, its signature by a key that
// the provider publishes, issuer, audience, authorized party, times, nonce, and the hash of the access token. One claim of it, with an
// ending taken off if the configuration says so, is the user.
//
// What the provider says of itself and its keys are kept for an hour. When none of the keys made a signature they are looked up again, but
// not more often than three times a minute. Every answer is bounded, comes over TLS from where the provider's own description says, and is not followed elsewhere.
package oidc
