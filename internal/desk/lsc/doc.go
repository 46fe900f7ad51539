// Package lsc gets a desk phone its certificate of the site (locally significant certificate) by EST (RFC 7030): the phone makes its key itself, proves who it is by the certificate that it has or by a code, and renews what it got.
package lsc
