// Package proxy opens ways through a web proxy by CONNECT (RFC 9110 section 9.3.6), and proves there who asks: by Basic, Digest, NTLMv2 or Negotiate.
//
// It opens no connection to the proxy itself and knows no Kerberos; both are handed in. A proxy is a stranger: what it says is bounded before it is read, and a password is only told in
// the clear if that was allowed by name.
package proxy
