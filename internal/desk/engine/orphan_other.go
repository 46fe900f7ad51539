//go:build !linux

package engine

import "os/exec"

// notAlone is nothing where a kernel does not tell a program that its parent is gone.
func notAlone(*exec.Cmd) {}
