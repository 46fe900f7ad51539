package main

import (
	"strings"

	"rsc.io/qr"
)

// halfBlocks draws a QR code of text with block characters, two rows of modules on each line, with the quiet zone of four
// modules that readers need. It is drawn as light on dark, as terminals mostly are: the spaces are the dark modules.
func halfBlocks(text string) (string, error) {
	code, err := qr.Encode(text, qr.L)
	if err != nil {
		return "", err
	}
	const quiet = 4
	var b strings.Builder
	for y := -quiet; y < code.Size+quiet; y += 2 {
		for x := -quiet; x < code.Size+quiet; x++ {
			// Modules outside of the code are light.
			switch upper, lower := !code.Black(x, y), !code.Black(x, y+1); {
			case upper && lower:
				b.WriteRune('█')
			case upper:
				b.WriteRune('▀')
			case lower:
				b.WriteRune('▄')
			default:
				b.WriteByte(' ')
			}
		}
		b.WriteByte('\n')
	}
	return b.String(), nil
}
