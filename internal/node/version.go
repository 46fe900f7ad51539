package node

import (
	"crypto/fips140"
	"runtime"
	"runtime/debug"

	"ringfence"
	"ringfence/internal/node/admin/api"
	"ringfence/internal/node/config"
)

// inMode refuses a configuration that asks for FIPS 140-3 mode in a process that is not in it.
func inMode(c config.Config) error {
	if !c.FIPS || fips140.Enabled() {
		return nil
	}
	return &ringfence.Fault{Op: "node.open", Kind: ringfence.KindInsecure, Text: "FIPS 140-3 mode is asked for and this process is not in it", Hint: "`ringfence up` starts itself again in that mode; others set GODEBUG=fips140=on before they start"}
}

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
