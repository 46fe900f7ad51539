package node

import (
	"crypto/fips140"
	"runtime"
	"runtime/debug"

	"ringfence/internal/node/admin/api"
)

// BuildVersion tells what runs. version is used if it is given, otherwise what the build says.
func BuildVersion(version string) api.Version {
	v := api.Version{Version: version, Go: runtime.Version(), FIPS: fips140.Enabled()}
	if v.FIPS {
		v.FIPSModule = fips140.Version()
	}
	if v.Version == "" {
		v.Version = "dev"
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	if m := info.Main.Version; version == "" && m != "" && m != "(devel)" {
		v.Version = m
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			v.Revision = s.Value
		case "vcs.modified":
			v.Modified = s.Value == "true"
		}
	}
	return v
}
