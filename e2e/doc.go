// Package e2e tests the relay as its users meet it: a binary, a PubNub origin,
// a NATS cluster, WebSocket clients.
//
// A run is recorded as a [History] and judged by [Judge], one pure function
// that knows the protocol and nothing of the code; it has tests of its own,
// which feed it broken histories and see it say so.
//
// # Guarantees
//
//   - What Judge accepts kept every promise of the protocol that the run could
//     have broken; what it refuses is named by [Rule].
//   - The tests of the module's shape (imports, package comments, the top
//     level) fail when they find nothing to look at.
//
// # Failure modes
//
//   - HAZARD: Judge sees only what was recorded. A driver that forgets to
//     record a connection hides what went wrong on it.
//
// # Concurrency
//
// Judge reads its history and changes nothing; a history that is still being
// recorded must not be judged.
package e2e
