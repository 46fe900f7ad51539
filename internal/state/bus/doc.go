// Package bus carries events between rooms and between nodes.
//
// An event says that something happened; it is never the record of it. Within a node events are always delivered; between nodes
// they go over NATS, which may lose them, so whoever must not miss anything reads the store again when it hears [Lost].
// Nobody who publishes ever waits: every subscriber has a bounded queue of its own.
package bus
