// Package est enrols devices that speak EST (RFC 7030, RFC 8951): phones, gateways and the machines of other vendors.
//
// A [Server] hands out the authority's certificates, signs requests and renews certificates. Who asks is proved by a client certificate
// that the [Authenticator] takes, such as one that a manufacturer put into the device, or by HTTP Basic with a one-time code; what the
// certificate then says is decided by the [Issuer], not by the request. A renewal is for the same subject and the same names as the
// certificate that asks for it.
//
// Keys are made on the device and stay there: /serverkeygen is refused. A request can be tied to the connection that it came over
// (RFC 7030 section 3.5): by tls-unique below TLS 1.3, and by tls-exporter (RFC 9266) in TLS 1.3, which has no tls-unique. A
// challengePassword that is in a request has to be that value; whether it has to be there is a setting, since few devices send it.
//
// Left out: full CMC (/fullcmc), the labels of section 3.2.2, and the ChangeSubjectName attribute, which is refused.
package est
