// Package signedfile signs, encrypts and reads files for phones that check what they are given.
//
// Two families. Enterprise phones take a file behind a header of tag, length and value that names the signer and holds an RSA signature
// over everything but itself ([Sign], [Parse]); an encrypted one adds the file's AES key, sealed to the phone ([Encrypt]). Trust lists are
// such files too; the room trustlist builds on this one. Multiplatform phones take what `openssl enc` writes ([EncryptPassphrase]), or
// the content coding of RFC 8188 ([EncryptCoding]).
//
// SHA-1 is written only where it is asked for by name, for phones that know nothing else.
package signedfile
