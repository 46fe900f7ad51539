// Package config is what an administrator can set, checked together and applied as a whole or not at all.
package config
