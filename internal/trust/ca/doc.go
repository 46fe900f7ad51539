// Package ca is the organisation's own certificate authority, and the only room with its signing keys.
//
// A root (10 years) signs an issuing authority (2 years), which signs short-lived leaf certificates for nodes, devices,
// administrators, trunks and CTI clients. What a leaf may say and do follows from its [Role] alone; names that a
// certificate request asks for are ignored. The role is a URI in the subject alternative names, "urn:ringfence:role:device",
// so a certificate of one role never passes for another ([Authority.Verify]).
//
// Each signature is kept with an audit entry in one transaction, before the certificate is handed out. Revocation takes
// effect at once in memory ([Authority.IsRevoked]), and in the files for others with the next [Authority.CRL].
//
// identity.go has an [Identity] that can be renewed while connections are up, and reads the evidence of a connection for a proof.
package ca
