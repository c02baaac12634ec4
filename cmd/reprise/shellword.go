package main

import (
	"regexp"
	"strings"
)

// plainWord is a word that every shell takes as it stands.
var plainWord = regexp.MustCompile(`^[\pL\pN_./:,@%+…-]+$`)

// shellWord is text as one word of a command line.
func shellWord(text string) string {
	if plainWord.MatchString(text) {
		return text
	}
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
}
