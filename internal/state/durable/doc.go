// Package durable writes small files that are there after a loss of power: the file and the directory that names it are both on disk when a call returns.
// Each file may be read and written by its owner only.
//
// Its errors are those of package os; whoever calls knows what the file is for, and says so.
package durable
