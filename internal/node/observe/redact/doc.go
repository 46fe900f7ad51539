// Package redact takes what must stay secret out of a SIP message before anybody else sees the message.
//
// What is masked keeps its length, so that Content-Length stays true and every SIP parser still reads the copy. The rule is to
// mask too much rather than too little: what cannot be read here is masked as a whole.
package redact
