// Package linekey reads what the line keys of a desk phone do besides being lines: busy lamps, speed dials, picking up, parking and waiting messages (Extended_Function_1_ and the like).
package linekey
