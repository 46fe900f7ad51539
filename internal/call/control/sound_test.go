package control

import (
	"slices"
	"testing"
)

// The music that is encoded once begins again where it ends, as the music that goes on does.
func TestMusicTurns(t *testing.T) {
	for _, rate := range []int{8000, 16000} {
		next := music(rate)
		first, frame := make([]int16, rate/50), make([]int16, rate/50)
		next(first)
		for range musicTurn {
			next(frame)
		}
		if !slices.Equal(first, frame) || slices.Max(first) < 100 {
			t.Errorf("at %d: it goes on otherwise after a turn", rate)
		}
	}
}
