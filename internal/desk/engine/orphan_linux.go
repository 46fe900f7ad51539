package engine

import (
	"os/exec"
	"syscall"
)

// notAlone has a program end when whoever started it is gone, however that ended: a tunnel without its phone, or a port that is let in for nobody, is in the way of the next one.
func notAlone(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM} }
