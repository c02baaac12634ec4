// Package stream is the event log: each user's events, in order, once, in
// JetStream.
//
// A [Log] is opened on an embedded server or on a NATS cluster; the difference
// ends at [Open]. Users are spread over shards, each a stream with one literal
// subject per user. Everything else in Reprise speaks of users, shards,
// positions and stamps; subjects, headers and NATS types stay in here.
//
// # How it is used
//
// A bridge takes a shard with [Log.Acquire] and appends through the [Writer].
// An edge calls [Log.Follow] once per shard to learn of new records in order,
// [Log.Resume] to learn what a device's cursor is worth, and [Log.Read] for
// what is older than its tails.
//
// The way up is the outbox: an edge calls [Log.Submit], who writes the shard
// takes entries from [Log.FollowOutbox] and, once they are with PubNub,
// [Log.Settle]s them. Beside the log itself stand the users who want to be
// listened for ([Log.Register], [Log.FollowRegistrations], [Log.Users]), devices
// heard of lately ([Log.Seen], [Log.Present]), dead letters ([Log.Bury],
// [Log.DeadLetters]) and requests to who writes a shard ([Log.Ask],
// [Writer.Answer]) or to all edges ([Log.AskEdges], [Log.AnswerEdges]).
//
// Who writes a shard also folds it ([Folder]): the state that a user's events amount to
// is kept some seconds behind the log, for devices that retention has left behind
// ([Log.Snapshot]).
//
// What an operator says of a user ([Log.Command]) reaches every process
// ([Log.FollowOrders]) and names nobody. [Writer.Erase] and [Log.EraseRest] take out
// what is kept of a user, [Log.Footprint] looks for it.
//
// # Guarantees
//
//   - Within a shard Reprise-Hlc strictly increases with the sequence, markers
//     included, over restarts, take-overs and wall clocks that step.
//   - An append that was reported stored is stored once, with exactly the bytes
//     that were handed over (but for the stamp).
//   - Follow hands out each record of a shard once and in order, or says which
//     range retention took away before it could.
//   - Read returns every event of a user in its range, or an error.
//   - Resume says complete only where the leader of the stream has shown that
//     nothing behind the cursor was cut.
//   - A state has every event of its user up to its stamp, none after it, and each
//     once. A Snapshot is given only where nothing was cut before it was folded.
//   - An update that Submit accepted is handed out by FollowOutbox, by each call
//     once, until it is settled; a full outbox refuses what is new and keeps what
//     it has.
//
// # Failure modes
//
//   - HAZARD: two processes believe that they write a shard. The lease says who
//     should; the fence (see Writer) makes the older one's appends fail.
//   - HAZARD: a follower that lags answers a Direct Get. Every replay is checked
//     against the position that this process has already seen.
//   - HAZARD: JetStream acknowledges before fsync unless Config.SyncAlways is
//     set. A power cut of a single server may lose the last SyncInterval. What
//     was lost that way is noticed: a cursor from the lost stretch resumes with
//     complete false and the reason store_reset.
//   - HAZARD: a read over a long stretch has the server go through each block of
//     it, and a Direct Get over one keeps it from storing anything for seconds. Reads
//     over 16,384 records or more are made by consumers instead, one at a time and
//     with rests, and one scan serves all when four or more wait.
//   - HAZARD: the embedded server's disk runs full. Below Config.Reserve nothing
//     more is appended: Append waits, Submit says ErrOutboxFull, reading goes on. A
//     server that has met the last byte all the same refuses everything from then
//     on; it is started anew when there is room. Of an external server that is its
//     operator's affair.
//   - HAZARD: the first records of the log are erased with a user. The log then
//     begins later, and cursors of others from before that count as trimmed.
//   - HAZARD: retention is faster than the folder, or the folder begins when the log
//     has lost its beginning. The shard's states are then not whole, and there are no
//     snapshots of its users; reprise.fold.lag shows the first before it happens, and
//     reprise.fold.partial both afterwards.
//   - HAZARD: an update that was published and not yet settled comes again,
//     marked Again, after a crash. Its id tells whether the log has it.
//   - HAZARD: a single server that is started anew forgets the ids of settled
//     updates: one that is sent again then is an entry again.
//
// # Concurrency
//
// A Log is safe for concurrent use. A Writer is safe for concurrent use; its
// order is the order in which calls to Append return.
package stream
