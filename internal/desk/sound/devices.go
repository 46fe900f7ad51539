package sound

import (
	"context"
	"encoding/binary"
	"os"
	"sync"
	"time"

	"ringfence/internal/desk/engine"
	"ringfence/internal/media/codec"
)

const (
	idle  = time.Second     // after which the programs of devices that nobody uses are told to end
	again = 3 * time.Second // before programs that ended by themselves are started again
)

// Config says which devices a phone uses.
type Config struct {
	Microphone  string          // its name, as [List] has it; empty: the default one
	Loudspeaker string          // so
	Deaf        bool            // no microphone
	Env         []string        // where the server is, as for [List]
	Say         func(err error) // hears why there is no sound; may be nil
}

// Devices are a microphone and a loudspeaker, and the programs that carry sound between them and the calls. They may be used by many goroutines.
type Devices struct {
	ctx  context.Context
	cfg  Config
	wg   sync.WaitGroup
	mu   sync.Mutex
	used map[*Handset]time.Time // and when last
	runs bool
	wait time.Time // nothing is started before
	half [2]byte   // an octet that came without its other half
	odd  bool
}

// New returns devices that nobody uses yet. They are given up when ctx ends; [Devices.Wait] waits for that.
func New(ctx context.Context, cfg Config) *Devices {
	return &Devices{ctx: ctx, cfg: cfg, used: map[*Handset]time.Time{}}
}

// Wait waits until no program runs any more, after the end of the context. Of no devices it returns at once.
func (d *Devices) Wait() {
	if d != nil {
		d.wg.Wait()
	}
}

// Handset is what one call speaks into and is heard by: a phone.Source and a phone.Sink. The programs run as long as one is used.
type Handset struct {
	d    *Devices
	mic  elastic // under the lock of the devices
	ear  elastic
	up   *codec.Upsampler
	down *codec.Downsampler
	wide []int16
	thin []int16
}

// Handset returns a handset for one more call.
func (d *Devices) Handset() *Handset {
	return &Handset{d: d, up: codec.NewUpsampler(), down: codec.NewDownsampler(), wide: make([]int16, frame)}
}

// Live implements phone.Live: a microphone is for those who speak, not for who is on hold.
func (h *Handset) Live() {}

// Read fills out with what the microphone hears, at a rate of 8000 or 16000 Hz.
func (h *Handset) Read(out []int16, hz int) {
	h.d.mu.Lock()
	defer h.d.mu.Unlock()
	h.d.use(h)
	if hz == rate {
		h.mic.pull(out)
		return
	}
	h.mic.pull(h.wide)
	h.thin = h.down.Process(h.thin[:0], h.wide)
	clear(out[copy(out, h.thin):])
}

// Write plays a frame of 8000 or 16000 Hz.
func (h *Handset) Write(in []int16, hz int) {
	h.d.mu.Lock()
	defer h.d.mu.Unlock()
	h.d.use(h)
	if hz != rate {
		h.thin = h.up.Process(h.thin[:0], in)
		in = h.thin
	}
	h.ear.push(in)
}

// use notes that a call uses the devices, and has them started if they do not run. d.mu is held.
func (d *Devices) use(h *Handset) {
	now := time.Now()
	d.used[h] = now
	if d.runs || now.Before(d.wait) || d.ctx.Err() != nil {
		return
	}
	d.runs = true
	d.wg.Go(d.run)
}

// run runs the programs until nobody uses them, or one ends.
func (d *Devices) run() {
	ctx, cancel := context.WithCancel(d.ctx)
	defer cancel()
	d.wg.Go(func() { d.watch(ctx, cancel) })
	err := d.carry(ctx, cancel)
	d.mu.Lock()
	if d.runs = false; err != nil {
		d.wait = time.Now().Add(again)
	}
	d.mu.Unlock()
	if err != nil && d.cfg.Say != nil {
		d.cfg.Say(err)
	}
}

// watch forgets handsets that no call uses any more; after the last one the programs end.
func (d *Devices) watch(ctx context.Context, cancel context.CancelFunc) {
	tick := time.NewTicker(idle / 2)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			d.mu.Lock()
			for h, last := range d.used {
				if now.Sub(last) > idle {
					delete(d.used, h)
				}
			}
			over := len(d.used) == 0
			d.mu.Unlock()
			if over {
				cancel()
				return
			}
		}
	}
}

// carry starts the programs and returns when they have ended: why, if nobody told them to.
func (d *Devices) carry(ctx context.Context, cancel context.CancelFunc) error {
	var programs []*engine.Engine
	fail := func(err error) error {
		cancel()
		for _, e := range programs {
			<-e.Done()
		}
		return err
	}
	if !d.cfg.Deaf {
		e, err := engine.Start(ctx, engine.Program{Path: "parec", Args: d.args(d.cfg.Microphone, "--format=s16le", "--channels=1"), Env: d.cfg.Env, Out: hearing{d}, Hint: hint})
		if err != nil {
			return fail(err)
		}
		programs = append(programs, e)
	}
	r, w, err := os.Pipe()
	if err != nil {
		return fail(err)
	}
	shorten(w)
	// A pipe holds a page at least, which is 32 ms of two channels of 32 bits, and 128 ms of what would do otherwise.
	e, err := engine.Start(ctx, engine.Program{Path: "pacat", Args: d.args(d.cfg.Loudspeaker, "--format=s32le", "--channels=2"), Env: d.cfg.Env, In: r, Hint: hint})
	_ = r.Close()
	if err != nil {
		_ = w.Close()
		return fail(err)
	}
	programs = append(programs, e)
	d.wg.Go(func() { d.speak(w) })
	first := make(chan error, len(programs))
	for _, e := range programs {
		d.wg.Go(func() { first <- e.Wait() })
	}
	err = <-first
	_ = w.Close()
	return fail(err)
}

func (d *Devices) args(device string, more ...string) []string {
	args := append([]string{"--raw", "--rate=16000", "--latency-msec=20", "--client-name=ringfence phone", "--property=media.role=phone"}, more...)
	if device != "" {
		args = append(args, "--device="+device)
	}
	return args
}

// hearing takes what the microphone hears.
type hearing struct{ d *Devices }

func (h hearing) Write(b []byte) (int, error) {
	d, n := h.d, len(b)
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.odd && n > 0 {
		d.half[1] = b[0]
		b, d.odd = b[1:], false
		d.heard(d.half[:])
	}
	if len(b)%2 == 1 {
		d.half[0], d.odd = b[len(b)-1], true
		b = b[:len(b)-1]
	}
	d.heard(b)
	return n, nil
}

// heard gives samples to every handset. d.mu is held.
func (d *Devices) heard(b []byte) {
	var piece [frame]int16
	for len(b) > 0 {
		n := 0
		for ; n < frame && len(b) > 0; n, b = n+1, b[2:] {
			piece[n] = int16(binary.LittleEndian.Uint16(b))
		}
		for h := range d.used {
			h.mic.push(piece[:n])
		}
	}
}

// speak writes what the handsets play, as fast as the device takes it, until the pipe breaks.
func (d *Devices) speak(w *os.File) {
	const piece = frame / 4
	var own [piece]int16
	var sum [piece]int32
	out := make([]byte, 0, piece*8)
	for {
		clear(sum[:])
		d.mu.Lock()
		for h := range d.used {
			h.ear.pull(own[:])
			for i, v := range own {
				sum[i] += int32(v)
			}
		}
		d.mu.Unlock()
		out = out[:0]
		for _, v := range sum {
			loud := uint32(max(-32768, min(32767, v)) << 16)
			out = binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint32(out, loud), loud)
		}
		if _, err := w.Write(out); err != nil {
			return
		}
	}
}
