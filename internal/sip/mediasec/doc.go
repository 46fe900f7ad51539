// Package mediasec agrees with a SIP server on how media is sealed: the fields of RFC 3329 with the parameter mediasec, as operators use them (draft-dawes-sipcore-mediasec-parameter).
//
// Plain RFC 3329 is about the way to the next hop; here each mechanism is one of media, and the option tag is mediasec. The client begins, with Security-Client in its REGISTER, or the server does, with Security-Server in
// a refusal or an answer. From then on each request repeats the server's list word for word in Security-Verify, so that whoever took the best of it away on the way is found out: the server answers 494.
package mediasec
