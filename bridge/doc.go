// Package bridge carries PubNub channels into the event log, and the outbox
// back to PubNub.
//
// PubNub delivers at most once and forgets within minutes. A [Bridge] polls it
// through the real SDK, gives every message that keeps the rules to the event
// log as a finished WebSocket frame, and keeps every other one as a dead
// letter. The way back, from the outbox to PubNub, is not built yet.
//
// # How it is used
//
//	b, err := bridge.New(bridge.Config{
//		Log:          log,
//		SubscribeKey: "sub-c-…",
//		TLS:          true,
//		Channels:     []string{"user.*", "global.announcements"},
//	})
//	…
//	err = b.Run(ctx) // until ctx ends
//
// Any number of processes may run a bridge on one log. One of them holds the
// writers of all shards and polls; the others stand by.
//
// # The road of a message
//
//	SDK ──poll──► guard ──► PubNub
//	                │ raw reply
//	                ├─ envelope ─ channel ─ body ─ frame ─► shard's writer
//	                │                  └ breaks a rule ───► dead letters
//	                ├─ all stored (JetStream's acks), cursor saved in every shard
//	 SDK ◄──────────┘ a reply with that cursor and no messages
//
// The guard is the transport of the SDK's subscribe client. The stock loop
// with listeners would end for ever at one 500, jump to "now" at one bad body,
// hand messages over in any order, and crash on payloads that any publisher
// can send. With the guard the SDK keeps to what it does well: deciding when to
// poll, building and authorising requests.
//
// # Bodies
//
// A body is judged by hand, in one pass, not by encoding/json. Where JSON leaves
// room:
//
//   - Of members with equal names the last counts. Names are compared with
//     regard to case, after their escapes are resolved. Unknown ones are ignored.
//   - A payload must be UTF-8. The escape of half a surrogate pair (\ud800) is,
//     and passes in free text (unique_tag, a handoff's content_id, command_type,
//     and anything inside command, notifications and announcements), where it
//     counts as one character and goes out as written. An id with one is bad.
//   - null is a value like any other: of the wrong type wherever a type is
//     asked for.
//   - A number is written with digits alone: 100.0, 1e2 and -0 are bad.
//   - The message type in PubNub's envelope is not looked at: a signal or a file
//     event is what its body says.
//   - Of several broken rules the first counts: channel, size, JSON and depth,
//     type, then the members in the order of the protocol's table.
//
// In a frame, members that the protocol defines are written with the fewest
// escapes that JSON allows; payload and data keep their strings and numbers as
// written and lose their white space. A command whose object held nothing but
// its command_type has an empty payload; an expires_at of 0 is left out. A
// device_id or timestamp inside a notification is part of its data, and nothing
// else: those bodies have no members that the protocol knows.
//
// # Guarantees
//
//   - A cursor is saved only after everything before it is in the log or among
//     the dead letters, acknowledged by JetStream. A crash at any point repeats
//     at most what came after the saved cursor, and the log knows repeated
//     events by their id.
//   - One user's events are in the log in the order in which PubNub gave them.
//   - What breaks a rule is never relayed, never dropped, and never holds up
//     what comes after it.
//   - The SDK never polls on before the reply before is stored, so PubNub's
//     queue is the only buffer.
//   - No token, key or payload is in any log line, error or metric.
//
// # Failure modes
//
//   - HAZARD: PubNub keeps about 100 messages for 20 minutes. What it drops
//     before it was polled (a long outage, a burst between two polls) is lost
//     without a trace; a reply of 100 messages is counted as a sign of it.
//     Gaps are not yet marked, nor filled from PubNub's history.
//   - HAZARD: the first start of all begins at "now". What was published before
//     is not fetched.
//   - HAZARD: one id comes with different bytes when a channel matches twice
//     and PubNub changes the payload between. Config refuses overlapping
//     channels; the log stores both.
//   - HAZARD: an announcement or a dead letter that comes again later than the
//     deduplication window of its stream is stored again.
//   - HAZARD: the SDK leaks one goroutine (ReadQueue) for each time that this
//     bridge takes over.
//   - HAZARD: whether a standby takes over in time is decided by the lease; that
//     two bridges never both write is decided by the log's fence.
//
// # Concurrency
//
// A Bridge is safe for concurrent use. The goroutines are: Run's, which owns
// the term; the SDK's loop, which carries out a poll inside the guard and
// stores its reply; one that empties the SDK's listener; one per shard that
// waits for its writer's end.
package bridge
