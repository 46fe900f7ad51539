// Package token signs programs in by OAuth 2.0 and hands them short-lived access tokens that are checked at each use.
//
// A [Server] answers the endpoints of an authorization server (RFC 6749, RFC 8414): the authorization code with PKCE (RFC 7636) for
// programs beside a browser, the device code (RFC 8628) for those without one, and refresh tokens that are good for one use. Whoever
// signs in proves it with the one-time activation code of a device, so that no password exists here either; or at a provider outside
// ([Outside]), and then chooses one of their devices, in the browser that they were sent there with and in no other.
//
// An access token is a JWT (RFC 9068) that names its device and its grant. Its signature says where it is from; whether its grant still
// holds is looked up each time ([Server.Verify]), so that a revoked one stops working at once. Services elsewhere ask by introspection
// (RFC 7662).
package token
