// Package player plays, records and mixes the sound of legs whose media ends at this node.
//
// The journey of a sound through this room. A prompt, music or a tone becomes a relay source that encodes 20 ms each time
// the relay's ticker asks ([NewPlayback], [NewTone]). What a caller says comes through the leg's tap: a [Recorder] puts each
// packet in its place by its timestamp, so that loss becomes silence and reordering does no harm. In a conference every
// member's tap fills a jitter buffer, and every member's source is the sum of the others ([Mixer]).
//
// No goroutine and no clock lives here: the relay's ticker and its taps drive everything. The types may be used from the
// relay's goroutines and from others at once.
package player
