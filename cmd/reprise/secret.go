package main

import (
	"fmt"
	"io"
	"log/slog"
)

// redacted is what is printed in place of a secret.
const redacted = "[redacted]"

// secret is text that must not be printed, whatever the verb or the encoder.
// The zero value is "not set".
//
// The text lies behind a pointer: package fmt does not call the methods of a
// value in another struct's unexported field, but it does not follow pointers
// there either.
type secret struct{ text *string }

func newSecret(text string) secret {
	if text == "" {
		return secret{}
	}
	return secret{&text}
}

// reveal returns the text itself, for the one place that sends or checks it.
func (s secret) reveal() string {
	if s.text == nil {
		return ""
	}
	return *s.text
}

func (s secret) isSet() bool { return s.text != nil }

// String implements [fmt.Stringer].
func (s secret) String() string {
	if s.text == nil {
		return ""
	}
	return redacted
}

// Format implements [fmt.Formatter]: no verb gets at the text.
func (s secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.String()) }

// MarshalText implements [encoding.TextMarshaler], for JSON and YAML.
func (s secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// LogValue implements [slog.LogValuer].
func (s secret) LogValue() slog.Value { return slog.StringValue(s.String()) }
