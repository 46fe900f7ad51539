// Package cipherlist reads the cipher lists of OpenSSL, such as "HIGH:!aNULL:@STRENGTH", and says which suites they mean.
//
// [Parse] follows openssl-ciphers(1) to the letter, including what OpenSSL passes over in silence, and then says aloud what most likely
// was not meant: a word that matches nothing, a list of which nothing can be served, RSA as a key exchange. What this node can serve of
// a list is what Go's crypto/tls has, and of that only suites with forward secrecy and authenticated encryption.
package cipherlist
