// Package edge serves the event log to devices over WebSocket.
//
// A connection is a cursor on its user's log. There is no queue per connection
// and no mode for replaying beside one for live events: a connection holds one
// position, and its writer sends what lies after it, for as long as there is
// any. What lies after it is found in two places. The newest events of a user
// are in a tail, shared by all of the user's connections; the floor of a tail
// is the position after which it holds everything. What is older than the
// floor is read from the log, in chunks, until the tail is reached. A server that
// begins fills its tails from the recent log, in order, before it lets anybody
// in. A device
// that resumes, one that reads slowly and one that is up to date differ in
// nothing but their position.
//
// # How it is used
//
// [New] takes a [Config] and starts nothing. [Server.Run] follows the shards of
// the log, watches over all connections, and returns when its context ends or
// a drain is over. The Server is the [http.Handler] of /ws; [Server.Admin] is
// the handler of the operator's routes. [Server.Drain] lets the devices go.
//
// What a device sends goes the other way: an update is checked, turned into the
// PubNub message that it will be, and stored in the log's outbox, from which a
// bridge publishes it. It comes back to the user's other devices as an event.
// That a device is there, and which users there are, is told to the log as well.
//
// # Guarantees
//
//   - The hlc of the events that a connection is sent strictly increases. An
//     event is sent once or, to the device that caused it and for a command
//     that has expired, not at all.
//   - After caught_up a device has been sent every event of its user up to the
//     stamp in it, as far as the welcome said complete.
//   - When something behind a cursor changes under a connection (a gap, an event
//     cut by retention before it was sent, a restored backup), the connection is
//     closed with 4000 instead of being served on.
//   - An event that is stored once in the log is one slice of bytes in memory,
//     however many devices it goes to, and is not parsed here, unless a device asked
//     for a coalesced replay.
//   - A device that asked for snapshots and whose cursor retention has overtaken is
//     sent its user's state, and all that came after it: complete again. In a coalesced
//     replay of each content only the position that wins is sent; what follows from
//     the replay is the same.
//   - An update is answered accepted only after the log has said that it is
//     stored. The updates of a connection are stored in the order in which the
//     device sent them, one after the other; the strings and numbers in them are
//     the device's own, byte for byte. What the bridge would refuse when it comes
//     back is refused here.
//   - Of two connections of a device, at whatever edges, the newer stays: the other
//     is closed with 4509, as a rule within a third of a second. Where edges cannot be
//     sure which is the newer, one goes only if the device answers a ping on the other.
//   - A user who is disconnected by an operator has no connection here moments
//     after the log has told of it, one whose tokens are revoked gets none with an
//     older token, and nothing of one who is forgotten stays in memory. Nobody is let
//     in before it is known what operators have said.
//   - Whatever ends a connection, it leaves the registry, and its goroutines end
//     within two seconds.
//
// # Failure modes
//
//   - HAZARD: the log is out of reach. Connections stay; what is in tails is
//     served, what must be read waits and is tried again. No connection is told
//     caught_up that has not caught up.
//   - HAZARD: the feed lags. A cursor may then lie ahead of what this edge has
//     seen; such a connection waits for the feed before it is told caught_up.
//     `latest` is where the feed is: a device may be sent events that are
//     slightly older than its connection, never fewer than it asked for.
//   - HAZARD: nobody folds the shard, or it was not folded from its beginning. Devices
//     that asked for a snapshot get none, and are told trimmed as others are.
//   - HAZARD: a device that asks for a snapshot and not for its echo. The state is some
//     seconds behind the log, and what the device did itself in these is left out of
//     what follows.
//   - HAZARD: a coalesced replay reads its stretch of the log twice, and looks into
//     each position.
//   - HAZARD: a device stops reading. It is held by the socket alone: the writer
//     waits for the socket, and closes with 4002 when that takes nothing for
//     Config.SlowTimeout. Its position costs 16 bytes meanwhile.
//   - HAZARD: the log does not store an update within 5 seconds, or the outbox is
//     full. The device is told outbox_full, which is temporary; it may have been
//     stored all the same, and the id makes sending it again harmless. The reader
//     hears nothing meanwhile, so the device does not count as silent then.
//   - HAZARD: which of two connections is the newer is told by the edges' hybrid
//     clocks, which hear of each other with every arrival. Where two edges hear
//     nothing of each other, arrivals are told twice, two seconds apart, and both
//     connections of a device stay if neither is heard.
//   - HAZARD: the log cannot be told of a user who connects. It is told later;
//     when too many users wait for that, further ones are dropped and counted,
//     and registered when they connect the next time.
//   - HAZARD: the clocks of the log's server and of this process differ. Only the
//     figures of the broadcast latency suffer.
//
// # Concurrency
//
// A Server is safe for concurrent use. One goroutine follows each shard, one
// turns the wheel of heartbeats, two tell and hear of arrivals, one saves
// acknowledged cursors, one registers users, one tells which sockets have
// something to read, one hears of operators' orders and one answers them. A
// connection has a goroutine that reads only while there is
// something to read, or the log stores an update, and one that writes only while
// there is something to write: a quiet one has none. Under TLS, and where there
// is no epoll, the one that reads stays.
package edge
