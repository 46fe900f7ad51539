package config

import "crypto/fips140"

// inFIPS reports whether a node of this configuration runs in FIPS 140-3 mode; a build or GODEBUG may have switched it on for everything.
func (c Config) inFIPS() bool { return c.FIPS || fips140.Enabled() }

// Notes returns what is as the configuration wants it and may still surprise: what of its TLS settings is not served in FIPS 140-3 mode, as PLACE: SETTING: TEXT.
func (c Config) Notes() (out []string) {
	if !c.inFIPS() {
		return nil
	}
	for _, w := range c.TLS.Withheld() {
		out = append(out, w.Path+": "+w.Text)
	}
	return out
}
