// Package ladder remembers the last calls message by message and draws them as ladder diagrams.
//
// A [Recorder] keeps, within a fixed amount of memory, the start line, the key fields and the session description of each
// message of a call, masked by the room redact. [Render] draws them in plain text, so that a terminal is enough.
package ladder
