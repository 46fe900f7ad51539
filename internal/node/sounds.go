package node

import (
	"sync/atomic"

	"ringfence"
	"ringfence/internal/call/control"
	"ringfence/internal/media/player"
	"ringfence/internal/node/config"
)

// sounds are the recordings of the configuration in force, in memory.
type sounds struct{ now atomic.Pointer[shelf] }

type shelf struct {
	announcements map[control.Why]*player.Recording
	recordings    map[ringfence.Number]*player.Recording
}

var _ control.Sounds = (*sounds)(nil)

// load reads what a configuration names. A file that cannot be read is left out and named: it was there when the
// configuration was applied, and calls go on without it.
func (s *sounds) load(c config.Config, failed func(file string, err error)) {
	read := map[string]*player.Recording{} // by file
	get := func(file string) *player.Recording {
		if r, ok := read[file]; ok {
			return r
		}
		var r *player.Recording
		sound, err := config.ReadSound(file)
		if err == nil {
			r, err = player.NewRecording(sound)
		}
		if err != nil {
			failed(file, err)
		}
		read[file] = r
		return r
	}
	next := &shelf{announcements: map[control.Why]*player.Recording{}, recordings: map[ringfence.Number]*player.Recording{}}
	for why, file := range c.Calls.Announcements.Files() {
		next.announcements[control.Why(why)] = get(file)
	}
	for _, r := range c.Plan.Recordings {
		next.recordings[r.Number] = get(r.File)
	}
	s.now.Store(next)
}

// Announcement implements control.Sounds.
func (s *sounds) Announcement(why control.Why) *player.Recording {
	return s.now.Load().announcements[why]
}

// Recording implements control.Sounds.
func (s *sounds) Recording(number ringfence.Number) *player.Recording {
	return s.now.Load().recordings[number]
}
