// Package openldap runs an LDAP directory of somebody else for tests.
package openldap
