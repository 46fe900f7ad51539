// Package registrar knows who speaks on a connection and where each person can be reached now.
//
// Identify says which device a request comes from: by the certificate of its connection, or by digest where the device's
// profile allows it. Register keeps the device's bindings (RFC 3261 section 10, RFC 5626, 3327, 5627): in memory for looking
// up, and on disk, several in one transaction, before the REGISTER is acknowledged.
package registrar
