//go:build !linux

package store

import "os"

type appender struct{}

func (*appender) write(f *os.File, _ uintptr, b []byte) (int, error) { return f.Write(b) }
