// Package resync fetches the profiles of a desk phone by HTTPS, as its rules say, and keeps the last good ones.
//
// [Phone.Run] goes through the rules A to D in order. A server is found by its A records alone, which are tried in turn until one answers; it
// proves its name by its certificate, in the subject alternative names or in a common name that may have a slash and more behind the name. What it
// sends is taken apart in the order in which it was put together: the content codings gzip and aes128gcm (RFC 8188), what `openssl enc` did with
// the key of the rule, gzip, and then the profile, each within its bounds. A server that is gone or sends nonsense changes nothing: the profile
// that was good before is used again, and the outcome says so.
//
// What happens is told to a syslog server in the form that such phones use, that of RFC 3164, with the messages that the profile gives.
package resync
