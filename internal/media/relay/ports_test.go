package relay

import "testing"

// What comes first goes first, and a queue through which many go needs no more memory than the few that are in it at once.
func TestQueue(t *testing.T) {
	var q queue[int]
	next := 0
	for i := range 100_000 {
		q.push(i)
		if i%100 != 0 { // it grows by one in a hundred
			if got := q.pop(); got != next {
				t.Fatalf("%d came, not %d", got, next)
			}
			next++
		}
	}
	if q.len() != 1000 || *q.first() != next || cap(q.items) > 4*1000 {
		t.Errorf("%d are left, the first is %d, in room for %d", q.len(), *q.first(), cap(q.items))
	}
}
