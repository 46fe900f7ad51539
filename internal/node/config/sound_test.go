package config

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"ringfence"
	"ringfence/internal/media/codec"
)

// wav writes a sound file, as G.711 if a name is given, and returns its path.
func wav(t *testing.T, s codec.Sound, g711 codec.Name) string {
	t.Helper()
	encode := s.WAV
	if g711 != "" {
		encode = func() ([]byte, error) { return s.G711WAV(g711) }
	}
	b, err := encode()
	if err != nil {
		t.Fatal(err)
	}
	return written(t, b)
}

func written(t *testing.T, b []byte) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "a.wav")
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestReadSound(t *testing.T) {
	sound := func(rate, samples int) codec.Sound { return codec.Sound{Rate: rate, Samples: make([]int16, samples)} }
	for _, c := range []struct{ name, file, want string }{
		{"8000 Hz", wav(t, sound(8000, 1), ""), ""},
		{"a minute at 16000 Hz", wav(t, sound(16000, 60*16000), ""), ""},
		{"A-law", wav(t, sound(8000, 800), codec.PCMA), ""},
		{"u-law", wav(t, sound(8000, 800), codec.PCMU), ""},
		{"another rate", wav(t, sound(44100, 441), ""), "44100 samples a second"},
		{"nothing", wav(t, sound(8000, 0), ""), "empty, or longer than 1m"},
		{"over a minute", wav(t, sound(8000, 60*8000+1), ""), "empty, or longer than 1m"},
		{"too large", written(t, make([]byte, maxSoundFile+1)), "larger than 8 MiB"},
		{"no sound", written(t, []byte("hello")), "no RIFF/WAVE file"},
		{"a folder", t.TempDir(), "is no file"},
		{"not there", filepath.Join(t.TempDir(), "a.wav"), "cannot be read"},
		{"relative", "a.wav", "is no absolute path"},
	} {
		s, err := ReadSound(c.file)
		switch {
		case c.want == "" && (err != nil || len(s.Samples) == 0):
			t.Errorf("%s: %v, %d samples", c.name, err, len(s.Samples))
		case c.want != "" && (err == nil || ringfence.KindOf(err) != ringfence.KindInvalid || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: got %v, want %q", c.name, err, c.want)
		}
	}
}

// A wrong sound file is shown at the line that names it.
func TestSoundsSayWhere(t *testing.T) {
	long, none := wav(t, codec.Sound{Rate: 8000, Samples: make([]int16, 61*8000)}, ""), written(t, []byte("hello"))
	text := "calls:\n  announcements:\n    busy: " + long + "\n    barred: " + none + "\n" +
		"dialplan:\n  recordings:\n    - number: \"190\"\n      file: " + none + "\n"
	_, err := Parse([]byte(text), "x.yaml")
	if err == nil {
		t.Fatal("it was accepted")
	}
	for _, want := range []string{"x.yaml:3:11: calls.announcements.busy: " + long + " is empty, or longer", "x.yaml:4:13: calls.announcements.barred: " + none + ": this is no RIFF/WAVE",
		"x.yaml:8:13: dialplan.recordings[0].file: " + none + ": this is no RIFF/WAVE"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("got %v\nwant %s", err, want)
		}
	}
}

// The configuration of the guide is accepted as it stands there, once its files exist.
func TestGuideOfAnnouncements(t *testing.T) {
	b, err := os.ReadFile("../../../docs/guides/announcements.md")
	if err != nil {
		t.Fatal(err)
	}
	block := regexp.MustCompile("(?ms)^```text ringfence.yaml\n(.*?)^```$").FindSubmatch(b)
	if block == nil {
		t.Fatal("the guide has no block \"ringfence.yaml\"")
	}
	files := 0
	text := regexp.MustCompile(`/etc/ringfence/[a-z-]+\.wav`).ReplaceAllStringFunc(string(block[1]), func(string) string {
		files++
		return wav(t, codec.Sound{Rate: 8000, Samples: make([]int16, 8000)}, "")
	})
	c, err := Parse([]byte(text), "announcements.md")
	if err != nil {
		t.Fatal(err)
	}
	if got := len(c.Calls.Announcements.Files()) + len(c.Plan.Recordings); got != files || got != 6 {
		t.Errorf("%d files are named and %d are in force", files, got)
	}
}
