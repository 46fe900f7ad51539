package testkit

import (
	"bytes"
	"context"
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// SoundServer is a PulseAudio of the test's own, with devices that are none: what is put into the one named mouth comes out of the microphone, and what the loudspeaker plays can be listened to.
type SoundServer struct {
	t    *testing.T
	Env  []string // where it is
	sock string
	stop func()
}

// PulseAudio starts a sound server with a microphone named mic and a loudspeaker named ear, both the default ones.
func PulseAudio(t *testing.T) *SoundServer {
	t.Helper()
	dir := t.TempDir()
	s := &SoundServer{t: t, sock: filepath.Join(dir, "sock"), Env: []string{"PULSE_SERVER=unix:" + filepath.Join(dir, "sock"), "HOME=" + dir, "XDG_RUNTIME_DIR=" + dir}}
	t.Cleanup(func() { s.Stop() })
	s.Start()
	return s
}

// Stop stops it; [SoundServer.Start] starts another one in its place.
func (s *SoundServer) Stop() { s.stop() }

// Start starts it, and returns when it answers.
func (s *SoundServer) Start() {
	s.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	// Nothing but the modules named here, no file of this host's, and a socket in this directory alone.
	cmd := exec.CommandContext(ctx, Need(s.t, "pulseaudio", "pulseaudio"), "-n", "--daemonize=no", "--use-pid-file=no", "--exit-idle-time=-1", "--disallow-exit", "--log-target=stderr", "--log-level=error", "--disable-shm",
		"-L", "module-native-protocol-unix auth-anonymous=1 socket="+s.sock,
		"-L", "module-null-sink sink_name=ear", "-L", "module-null-sink sink_name=mouth", "-L", "module-remap-source source_name=mic master=mouth.monitor")
	cmd.Env = append([]string{"PATH=/usr/bin:/bin", "LC_ALL=C", "DBUS_SESSION_BUS_ADDRESS=disabled:"}, s.Env...)
	var said bytes.Buffer
	cmd.Stderr = &said
	s.stop = func() {}
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.stop = sync.OnceFunc(func() {
		cancel()
		_ = cmd.Wait()
	})
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for range 500 {
		if exec.Command(Need(s.t, "pactl", "pulseaudio-utils"), "-s", "unix:"+s.sock, "set-default-source", "mic").Run() == nil {
			return
		}
		<-tick.C
	}
	s.Stop()
	s.t.Fatalf("the sound server does not start: %s", said.String())
}

// Say has somebody say sound, mono of 16 kHz, into the microphone, again and again until the end of the test.
func (s *SoundServer) Say(sound []int16) {
	s.t.Helper()
	var b []byte
	for _, v := range sound {
		b = binary.LittleEndian.AppendUint16(b, uint16(v))
	}
	cmd := exec.Command(Need(s.t, "pacat", "pulseaudio-utils"), "-s", "unix:"+s.sock, "--raw", "--rate=16000", "--channels=1", "--format=s16le", "--latency-msec=50", "--device=mouth")
	in, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		s.t.Fatal(err)
	}
	over := make(chan struct{})
	go func() {
		defer close(over)
		for {
			if _, err := in.Write(b); err != nil {
				return
			}
		}
	}()
	s.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-over
		_ = cmd.Wait()
	})
}

// Listen records what the loudspeaker plays for so long, as mono of 16 kHz.
func (s *SoundServer) Listen(d time.Duration) (out []int16) {
	s.t.Helper()
	cmd := exec.Command(Need(s.t, "parec", "pulseaudio-utils"), "-s", "unix:"+s.sock, "--raw", "--rate=16000", "--channels=1", "--format=s16le", "--latency-msec=50", "--device=ear.monitor")
	r, w, err := os.Pipe()
	if err != nil {
		s.t.Fatal(err)
	}
	defer r.Close()
	cmd.Stdout = w
	err = cmd.Start()
	_ = w.Close()
	if err != nil {
		s.t.Fatal(err)
	}
	b := make([]byte, int(d*16000/time.Second)*2)
	_ = r.SetReadDeadline(time.Now().Add(d + 10*time.Second))
	n := 0
	for n < len(b) {
		k, err := r.Read(b[n:])
		if err != nil {
			break
		}
		n += k
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	for i := 0; i+1 < n; i += 2 {
		out = append(out, int16(binary.LittleEndian.Uint16(b[i:])))
	}
	return out
}
