package codec

import (
	"slices"
	"strconv"
	"strings"

	"github.com/thesyncim/gopus"
)

// Opus (RFC 6716, RFC 7587) as a telephone needs it: mono speech of 16 kHz in packets of 20 ms. What comes may be anything that RFC 6716 allows, up to 120 ms.
const (
	opusRate    = 16000
	opusFrame   = opusRate / 50
	opusLongest = opusRate * 120 / 1000 // RFC 6716 section 3.2.5: no packet lasts longer
	opusBytes   = 1275                  // RFC 6716 section 3.2.1: no frame is larger
	opusBitrate = 32000
)

// opusDecoder is what this room needs of a decoder.
type opusDecoder interface {
	DecodeInt16(packet []byte, pcm []int16) (int, error)
	DecodeWithFEC(packet []byte, pcm []float32, fec bool) (int, error)
}

// opus makes its encoder and decoder when they are needed: most codecs are used one way, and each way costs much memory.
type opus struct {
	wish  opusWish
	enc   *gopus.Encoder
	dec   opusDecoder
	pcm   []int16
	fec   []float32
	last  int // samples of the last packet, which is how long a lost one lasted as far as anybody knows
	fatal int // packets at which the decoder gave up
}

// opusWish is what the far end's a=fmtp asks of those who send to it (RFC 7587 section 6.1).
type opusWish struct {
	fec     bool
	bitrate int
	band    gopus.Bandwidth
}

// readOpusWish reads the parameters. What is unknown or ill-formed is as if it were not there.
func readOpusWish(fmtp string) opusWish {
	w := opusWish{bitrate: opusBitrate, band: gopus.BandwidthWideband}
	for part := range strings.SplitSeq(fmtp, ";") {
		name, value, _ := strings.Cut(part, "=")
		n, err := strconv.ParseUint(strings.TrimSpace(value), 10, 31)
		if err != nil {
			continue
		}
		switch strings.ToLower(strings.TrimSpace(name)) {
		case "useinbandfec":
			w.fec = n == 1
		case "maxaveragebitrate":
			w.bitrate = int(min(max(n, 6000), opusBitrate)) // below 6 kbit/s Opus is not defined
		case "maxplaybackrate":
			switch {
			case n <= 8000:
				w.band = gopus.BandwidthNarrowband
			case n <= 12000:
				w.band = gopus.BandwidthMediumband
			}
		}
	}
	return w
}

// Shared returns an encoder whose payloads everybody takes, and whether a far end that says fmtp of the codec may be sent those: so that a sound which many
// hear is encoded once where that costs much. It is so for Opus, unless the far end asks for less than we send.
func Shared(name Name, fmtp string) (Codec, bool) {
	w := readOpusWish(fmtp)
	if !strings.EqualFold(string(name), string(Opus)) || w.bitrate != opusBitrate || w.band != gopus.BandwidthWideband {
		return nil, false
	}
	return newOpus("useinbandfec=1"), true // who cannot use the second copy must bear it (RFC 7587 section 6.1)
}

func newOpus(fmtp string) *opus {
	return &opus{wish: readOpusWish(fmtp), pcm: make([]int16, opusLongest), last: opusFrame}
}

func (o *opus) Rate() int { return opusRate }

// encoder returns the encoder. Its bit rate is constant, and silence is sent as anything else: the lengths of sealed packets would tell much of what is said
// (RFC 6562 section 3).
func (o *opus) encoder() (*gopus.Encoder, error) {
	if o.enc != nil {
		return o.enc, nil
	}
	e, err := gopus.NewEncoder(gopus.EncoderConfig{SampleRate: opusRate, Channels: 1, Application: gopus.ApplicationVoIP})
	if err != nil {
		return nil, err
	}
	e.SetVBR(false)
	e.SetDTX(false)
	e.SetFEC(o.wish.fec)
	for _, err := range []error{
		e.SetBitrate(o.wish.bitrate), e.SetMaxBandwidth(o.wish.band), e.SetComplexity(3),
		e.SetPacketLoss(10),            // how much of the rate is for the second copy
		e.SetSignal(gopus.SignalVoice), // else tones are sent in a mode that has no second copy
	} {
		if err != nil {
			return nil, err
		}
	}
	o.enc = e
	return e, nil
}

func (o *opus) Encode(dst []byte, samples []int16) []byte {
	e, err := o.encoder()
	if err != nil {
		return dst
	}
	at := len(dst)
	dst = slices.Grow(dst, opusBytes)
	n, err := e.EncodeInt16(samples, dst[at:at+opusBytes])
	if err != nil {
		return dst[:at]
	}
	return dst[:at+n]
}

// decoder returns the decoder, or nil if there is none to be had.
func (o *opus) decoder() opusDecoder {
	if o.dec == nil {
		d, err := gopus.NewDecoder(gopus.DecoderConfig{SampleRate: opusRate, Channels: 1, MaxPacketSamples: opusLongest})
		if err != nil {
			return nil
		}
		o.dec = d
	}
	return o.dec
}

// Decode appends the sound of a packet. A packet that is none sounds as a lost one.
func (o *opus) Decode(dst []int16, packet []byte) []int16 {
	n := 0
	if len(packet) > 0 {
		n = o.try(func(d opusDecoder) (int, error) { return d.DecodeInt16(packet, o.pcm) })
	}
	if n == 0 {
		return o.Conceal(dst, nil)
	}
	o.last = n
	return append(dst, o.pcm[:n]...)
}

// Conceal appends as much as the last packet had: the second copy in the packet behind the lost one, or else what the decoder makes up.
func (o *opus) Conceal(dst []int16, next []byte) []int16 {
	n := 0
	if len(next) > 0 {
		if o.fec == nil {
			o.fec = make([]float32, opusLongest)
		}
		n = o.try(func(d opusDecoder) (int, error) { return d.DecodeWithFEC(next, o.fec[:o.last], true) })
		for i, v := range o.fec[:n] {
			o.pcm[i] = round16(float64(v) * 32768)
		}
	}
	if n == 0 {
		n = o.try(func(d opusDecoder) (int, error) { return d.DecodeInt16(nil, o.pcm[:o.last]) })
	}
	if n == 0 {
		n = o.last
		clear(o.pcm[:n])
	}
	return append(dst, o.pcm[:n]...)
}

// try lets the decoder work. Should it ever fall over a packet of somebody else's, one call is disturbed, begins anew with a fresh decoder, and all others go on.
func (o *opus) try(with func(opusDecoder) (int, error)) (n int) {
	d := o.decoder()
	if d == nil {
		return 0
	}
	defer func() {
		if recover() != nil {
			o.dec, n = nil, 0
			o.fatal++
		}
	}()
	n, err := with(d)
	if err != nil || n < 0 || n > opusLongest {
		return 0
	}
	return n
}
