// Package browser tests from a real browser, Debian's Chromium (apt.txt), which
// web pages may connect: cross-site WebSocket hijacking, DNS rebinding, and what
// a page can get out of the admin listener. It is a module of its own because of
// what it needs.
package browser
