// Package codec turns samples into payloads and back, and knows the sounds a telephone network makes.
//
// The journey of a sound through this room. Samples are 16-bit linear, mono, at 8 or 16 kHz. A [Codec] (G.711, G.722 or Opus)
// encodes 20 ms of them into one RTP payload and decodes a payload back; an [Upsampler] and a [Downsampler] go between the two
// rates. A [Tone] makes the sounds of call progress, one frame after the other without a click between them; [Hear] tells
// which frequency is in a frame, so that a test call can prove that what was said at one end arrived at the other.
// [ParseWAV] and [Sound.WAV] keep sounds in files.
//
// Nothing here keeps a clock, a goroutine or a global table that changes; a codec, a resampler and a tone each
// belong to one goroutine at a time.
package codec
