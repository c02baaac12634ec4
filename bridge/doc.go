// Package bridge carries PubNub channels into the event log, and the outbox
// back to PubNub.
//
// PubNub delivers at most once and forgets within minutes. A [Bridge] polls it
// through the real SDK, gives every message that keeps the rules to the event
// log as a finished WebSocket frame, and keeps every other one as a dead
// letter. What PubNub's queue has dropped it reads from PubNub's history; what
// that does not have any more it notes as a gap. What devices send up it
// publishes.
//
// # How it is used
//
//	b, err := bridge.New(bridge.Config{
//		Log:          log,
//		SubscribeKey: "sub-c-…",
//		PublishKey:   "pub-c-…",
//		TLS:          true,
//		Channels:     []string{"user.*", "global.announcements"},
//	})
//	…
//	err = b.Run(ctx) // until ctx ends
//
// Any number of processes may run a bridge on one log: they share its shards,
// each a fair part. A shard is written by who holds its lease. When a bridge
// dies, its leases run out after three seconds and the others take its shards;
// when one comes or goes in good order, shards are handed over at once, or one
// after another.
//
// # The road of a message
//
//	SDK ──poll──► guard ──► PubNub
//	                │ raw reply
//	                ├─ envelope ─ channel ─ body ─ frame ─► track ─► shard's writer
//	                │                  └ breaks a rule ───► dead letters
//	                │                  └ may come after something missing: held back
//	 SDK ◄──────────┘ once all that is stored: a reply without messages
//	                      └─ behind it: the track's cursor is saved
//
// The guard is the transport of the SDK's subscribe client. The stock loop
// with listeners would end for ever at one 500, jump to "now" at one bad body,
// hand messages over in any order, and crash on payloads that any publisher
// can send. With the guard the SDK keeps to what it does well: deciding when to
// poll, building and authorising requests.
//
// A source is one subscription. With a wildcard there is one for the whole
// bridge; with lanes there are many, each ten channel groups of PubNub's with
// the channels of 6,600 registered users. A track is the part of a source that
// goes into one shard. It has a cursor of its own in the log's checkpoints;
// when a shard is taken over, polling goes back to that shard's cursor.
//
// # What PubNub's queue has dropped
//
// PubNub keeps the newest 100 messages for a subscriber, and those for some
// minutes. History is compared with the log, user by user, when
//
//   - a stream of full pages has ended (flood),
//   - polls have failed, or no bridge has run, for longer than Config.SafeAge (outage),
//   - several replies in a row were not what PubNub answers (spoilt),
//   - the log has lost its end, with a disk or to a backup (lost),
//   - a user is registered (new),
//   - every Config.ReconcileEvery (reconcile).
//
// Polling goes on meanwhile. Where something looks missing, what arrives for
// users who are not compared yet is held back, 10,000 messages, 64 MiB or 30 s
// at most, and put behind what history has, in order of timetokens. Otherwise,
// and when a bound is reached, what was missing is appended at the log's end:
// the log is in order of arrival. For users who are registered the 30 s begin anew
// whenever PubNub has answered for some of them. After a false alarm nothing is held
// back for a quarter of a minute, but for new users, and nothing at all where two
// bridges before died at the same cursor: what is held back keeps the cursor where it
// is. How far a comparison has come is kept with the checkpoint.
//
// After a flood only its own stretch is compared: history is counted from a
// second before its first page to its last, and read for those users of whom
// the log has not as many events.
//
// That history is whole is not taken on trust. It must have an event that the
// log has from before the stretch, and everything that PubNub did hand out in
// it. Where it has not, or where PubNub refuses it, a gap marker goes into the
// log, for the user concerned or for all, and devices are told upstream_gap.
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
// # The way up
//
// Each user's updates are published one after the other, each until PubNub has
// taken it. The id that the device gave travels in the message's meta
// (reprise_id) and is the event's id when it comes back, so that a publish that
// was repeated because its reply was lost is stored once; an id that the log has
// from the last 24 hours is not published again. What PubNub refuses for good
// becomes a dead letter and holds up nothing.
//
// # The state of users
//
// Who writes a shard folds it: a [stream.Folder] keeps what each user's events amount
// to, some seconds behind the log, for devices that were away for longer than the log
// reaches back. Forgetting a user erases that too.
//
// # Traces
//
// Whether an event is traced is decided here, once, before anything is spent on
// it (Config.Sample, or the publisher where Config.TrustRemoteTrace says so). The
// event then goes on in the trace that its message's meta names (traceparent, W3C
// Trace Context), with a span for taking it from PubNub and one within that for
// storing it, whose context the log carries to the edges.
//
// # Guarantees
//
//   - A cursor is saved only after everything before it is in the log or among
//     the dead letters, acknowledged by JetStream; what is held back counts as
//     not stored. A crash at any point repeats at most what came after the saved
//     cursor, and the log knows repeated events by their id, however old.
//   - One user's events are in the log in the order in which PubNub gave them.
//   - What breaks a rule is never relayed, never dropped, and never holds up
//     what comes after it.
//   - A reply is taken only when the one before it is stored or held back. One
//     poll at most is sent ahead, while a full page is being stored: that reply
//     and PubNub's queue are the only other buffers.
//   - What was published about a user before the user was forgotten is appended
//     no more, whether PubNub sends it again or its history has it. Nothing is
//     carried before it is known who was forgotten.
//   - No token, key or payload is in any log line, error or metric.
//
// # Failure modes
//
//   - HAZARD: signals and what is published with store=0 are in no history. What
//     the queue drops of them is lost; that they were there is noticed only if
//     others of the same user were handed out, and is a gap then.
//   - HAZARD: with a wildcard, nobody knows of a user who has neither an event in
//     the log nor a registration. What the queue drops of such a user is
//     appended when the user is registered, within a day.
//   - HAZARD: as many messages in history as events in the log count as the same
//     ones after a flood. One that was not stored by PubNub and one that the
//     queue dropped would hide each other.
//   - HAZARD: the first start of all begins at "now". What was published before
//     is not fetched.
//   - HAZARD: a shard whose bridge was killed is written with stamps up to three
//     seconds ahead of the clock at first, once more for each kill: the dead one
//     may have reserved those before.
//   - HAZARD: one id comes with different bytes when a channel matches twice
//     and PubNub changes the payload between. Config refuses overlapping
//     channels; the log stores both.
//   - HAZARD: PubNub may take a moment until a channel that was put into a group
//     is handed out. A message of that moment is found by the next reconciliation.
//   - HAZARD: two logs on one keyset share its channel groups: lanes of both
//     would carry the users of either. Give each log a keyset of its own.
//   - HAZARD: the SDK leaks one goroutine (ReadQueue) for each of its clients:
//     when the last shard of a wildcard is lost and one is taken again.
//   - HAZARD: whether another bridge takes over in time is decided by leases;
//     that two never both write a shard is decided by the log's fence.
//
// # Concurrency
//
// A Bridge is safe for concurrent use. The goroutines are: for each shard one
// that holds it, its outbox's, and one for each user whose updates are on their
// way; for each track one that saves its cursor, one that puts into the log what
// was held back, and one that compares history, with up to eight for the users in
// hand, 16 in all; for each source the SDK's loop, which carries out a poll inside the
// guard and stores its reply, with one for each user whose messages may be stored
// already, and one that empties the SDK's listener.
package bridge
