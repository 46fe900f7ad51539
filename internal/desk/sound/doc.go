// Package sound lets a phone speak and hear by the sound devices of its host: parec and pacat carry the sound between them and the phone, and pactl lists them.
//
// The journey of a sound through this room. What the microphone hears comes out of parec and goes to each [Handset], of which every call has one; what calls play goes into their handsets, is added up
// and goes into pacat. A sound device has a clock of its own, so an elastic buffer stands at each handset in both directions: it plays a little faster when it fills, and a little slower when it runs dry. No call
// ever waits for a device.
//
// The programs run while a call uses the devices, and not longer. Should they end, because the sound server does, the calls go on in silence and they are started again.
package sound
