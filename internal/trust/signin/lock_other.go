//go:build !(linux || darwin || freebsd || netbsd || openbsd || dragonfly)

package signin

import (
	"context"
	"io/fs"

	"ringfence"
)

func lockPath(path string) string { return path + ".lock" }

func othersCanRead(fs.FileMode) bool { return false }

// lock refuses: without a lock two processes could spend one refresh token, and the server would end the sign-in.
func lock(context.Context, string) (func(), error) {
	return nil, fault(ringfence.KindUnsupported, "this system has no file locks that this program knows", "use a certificate: ringfence phone --enrol", nil)
}
