// Package records keeps what is known of calls: on disk before anybody is told, in the database a moment later.
//
// A call that is answered, and one that ends, is first a line in the store's journal of calls, written before the messages leave that
// tell the phones. So a process that is killed knows afterwards which calls it had; see [Open]. The records themselves are gathered
// and put into the database several at a time, apart from the calls, so that a slow disk or server delays none.
package records
