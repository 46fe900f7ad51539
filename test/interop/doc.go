// Package interop lets independent programs judge a whole node.
//
// Each test starts a node in this process and the judges beside it: SIP phones (baresip, linphone), load and attack tools (sipp,
// sipsak, sipvicious), a proxy (kamailio), TLS clients (openssl, GnuTLS, testssl.sh) and a wire tap (tshark). They come from Debian;
// a judge that is not installed fails its test with the name of its package. The phones run with the very files that
// docs/guides/phones shows, so that what the guides promise is what is tested.
//
// Nothing here waits for a time: a test waits until a program says something, or until the node is in a state.
package interop
