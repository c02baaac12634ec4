// Package acme tests that a node gets its certificates by itself, from Pebble:
// the ACME server that Let's Encrypt tests clients with. It is a module of its
// own, so that the relay does not depend on what it takes.
package acme
