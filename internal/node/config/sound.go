package config

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"ringfence"
	"ringfence/internal/media/codec"
)

// The limits of a sound file that callers hear.
const (
	maxSoundFile = 8 << 20
	maxSound     = time.Minute
)

// ReadSound reads a sound file that callers are to hear. The fault says what is wrong with it.
func ReadSound(file string) (codec.Sound, error) {
	bad := func(text, hint string, err error) (codec.Sound, error) {
		return codec.Sound{}, &ringfence.Fault{Op: "config.sound", Kind: ringfence.KindInvalid, Text: text, Hint: hint, Err: err}
	}
	if !filepath.IsAbs(file) {
		return bad(fmt.Sprintf("%q is no absolute path", file), "write for example /etc/ringfence/busy.wav", nil)
	}
	info, err := os.Stat(file)
	switch {
	case err != nil:
		return bad(file+" cannot be read", "", err)
	case !info.Mode().IsRegular() || info.Size() > maxSoundFile:
		return bad(fmt.Sprintf("%s is no file, or larger than %d MiB", file, maxSoundFile>>20), "", nil)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return bad(file+" cannot be read", "", err)
	}
	s, err := codec.ParseWAV(b)
	switch {
	case err != nil:
		return bad(file+": "+textOf(err), ringfence.HintOf(err), nil)
	case s.Rate != 8000 && s.Rate != 16000:
		return bad(fmt.Sprintf("%s has %d samples a second", file, s.Rate), "convert it to 8000 or 16000", nil)
	case len(s.Samples) == 0 || len(s.Samples) > s.Rate*int(maxSound/time.Second):
		return bad(fmt.Sprintf("%s is empty, or longer than %s", file, maxSound), "", nil)
	}
	return s, nil
}

// checkSounds reads every sound file.
func (c Config) checkSounds() (wrong []Wrong) {
	check := func(key, file string) {
		if _, err := ReadSound(file); err != nil {
			wrong = append(wrong, Wrong{key, textOf(err)})
		}
	}
	files := c.Calls.Announcements.Files()
	for _, key := range slices.Sorted(maps.Keys(files)) {
		check("calls.announcements."+key, files[key])
	}
	for i, r := range c.Plan.Recordings {
		if r.File != "" { // without one, the dial plan has said so
			check(fmt.Sprintf("dialplan.recordings[%d].file", i), r.File)
		}
	}
	return wrong
}
