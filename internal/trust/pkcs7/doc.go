// Package pkcs7 writes and reads certificates as PKCS #7, the wrapping in which many programs take and give chains.
package pkcs7
