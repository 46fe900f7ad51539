// Package store keeps facts on disk in transactions and seals the secrets among them.
//
// One [Store] runs on SQLite (the default, one file) or on PostgreSQL (when one machine is too small), with the same SQL.
// Each kind of fact has one file with its type and its plain methods: user.go, device.go, certificate.go and so on. The
// methods exist on a [Store], where each call is a transaction of its own, and on a [Tx], where all calls inside
// [Store.Tx] succeed or fail together.
//
// What a method has acknowledged survives the death of the process (kill -9). With Config.FullSync it survives a power
// cut too, at the price of one disk flush per transaction.
//
// Every error is a *ringfence.Fault: KindNotFound, KindConflict and KindInvalid mean what they say; a full disk and a
// locked database are KindOverload with a hint. Times are UTC with microsecond resolution; the zero time is "never".
package store
