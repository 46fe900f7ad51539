// Package line works out what a desk phone does with the parameters in force: which lines it has and how each signals, which suites its TLS
// applications speak, and for each parameter what it did.
package line
