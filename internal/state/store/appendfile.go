package store

import (
	"io"
	"os"

	"ringfence"
)

// appendFile is a file that only grows, in whole records. Its methods are called one at a time.
type appendFile struct {
	file   *os.File
	fd     uintptr // of file
	append appender
	size   int64
	broken bool // the file may end in half a record that could not be taken back
}

// createAppend begins an empty file.
func createAppend(path string) (appendFile, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return appendFile{}, fault("store.journal", ringfence.KindUnavailable, "the journal "+path+" cannot be made", "see whether the disk is full", err)
	}
	return appendFile{file: f, fd: f.Fd()}, nil
}

// write appends b in one write, and takes back what it has written if not all of it could be.
func (f *appendFile) write(b []byte, sync bool) error {
	const op = "store.journal.put"
	hint := "see whether the disk is full"
	if f.broken {
		if err := f.file.Truncate(f.size); err != nil {
			return fault(op, ringfence.KindUnavailable, "the journal cannot be repaired", hint, err)
		}
		f.broken = false
	}
	n, err := f.append.write(f.file, f.fd, b)
	if err == nil && n < len(b) { // the disk is full
		err = io.ErrShortWrite
	}
	if err == nil && sync {
		err = f.file.Sync()
	}
	if err != nil {
		f.broken = f.file.Truncate(f.size) != nil
		return fault(op, ringfence.KindUnavailable, "the journal cannot be written", hint, err)
	}
	f.size += int64(len(b))
	return nil
}

func (f *appendFile) close() error {
	if f.file == nil {
		return nil
	}
	return f.file.Close()
}
