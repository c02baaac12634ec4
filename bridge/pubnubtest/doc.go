// Package pubnubtest is an emulator of PubNub: a server that the real Go SDK
// (github.com/pubnub/go/v7) takes for the service, and that misbehaves on
// request.
//
// It is what the tests of the bridge, the end-to-end tests, `reprise dev` and
// `reprise emulator` publish to and subscribe at. It knows neither the package
// testing nor any other package of this module.
//
// # Use
//
// In a test:
//
//	s, err := pubnubtest.Start(pubnubtest.Config{PollTimeout: time.Second})
//	if err != nil {
//		t.Fatal(err)
//	}
//	t.Cleanup(s.Close)
//	config.Origin, config.Secure = s.Addr(), false // both keys are "demo"
//	s.Publish("user.7.sync", []byte(`{"n":1}`))
//
// In a process: [New], then [Server.Listen] to learn the address, then
// [Server.Run] with the context that ends it. A Server is an [http.Handler]
// too, and works behind a listener of the caller's.
//
// # What it serves
//
//   - subscribe v2: handshake, long poll, names, wildcards (x.*), groups
//   - publish by GET and POST, signal, fire, file messages
//   - history v3, history with actions, message counts
//   - channel groups: add, remove, list, delete
//   - presence: heartbeat, leave, here-now, where-now; no presence events
//   - time; access manager: grant, revoke, a table of tokens
//
// Anything else is 404. Filter expressions, presence state, message actions
// and the signatures of requests are accepted and have no effect.
//
// # Timetokens and cursors
//
// A timetoken is the time in units of 100 ns. The one a publisher gets (p.t)
// and the cursor by which a subscriber goes on (t.t) are different numbers, as
// in the real service: a message's cursor is 120 to 200 µs older than its p.t
// ([Config.CursorSkew]). Hence p.t is no cursor to resume from. Both kinds
// rise strictly, also across a restart of the process, because they follow
// the wall clock.
//
// # The live queue
//
// A subscriber sees, of everything that its names, wildcards and groups match
// together, the newest [Config.QueueSize] messages that are not older than
// [Config.QueueAge]. What lies before that is skipped without an error, though
// not without a trace in [Stats]; it is still in history, unless it was
// published without storing. A cursor older than everything that is kept gets
// what is left.
//
// A group has a queue of its own, of what its channels got while they were in
// it: a channel's messages from before it joined are not in it, and when it
// leaves, those that wait there leave with it. Channels that nobody publishes
// to cost their names only, so that groups may be as large as PubNub's.
//
// # History
//
// Stored messages are in history at once and until a bound of memory is
// reached, unless [Config.HistoryDelay] lets it lag, as the real one does,
// [Config.HistoryAge] or a [TTL] ends it, [Server.Forget] removes its
// beginning, or [Config.NoHistory] leaves it out altogether. All this concerns
// history and message counts only, not the live queue.
//
// # Faults
//
// [Server.Inject] makes chosen requests go wrong, on the wire: every status,
// delays, cut connections and bodies, answers that are not what the SDK
// expects, batches sent twice. [Server.Stop] and [Server.Restart] take the
// server away and bring it back on the same port with its state. [Extra] and
// [Omit] put any envelope before the subscriber. [Config.RoundTrip] is no
// fault: it is the distance to a server that is well.
//
// # Guarantees
//
//   - A message that Publish or the publish endpoint has accepted is delivered
//     to every matching subscriber that stays within its live queue, in cursor
//     order, from any cursor, however often that cursor is asked for.
//   - Payloads go out byte for byte as they came in.
//   - Memory is bounded: see [Config.HistoryLimit], [Config.MaxMessages] and
//     [Config.MaxBytes]. The oldest messages go first.
//
// # Failure modes
//
//   - HAZARD: everything is in memory. A new process starts empty.
//   - HAZARD: the limits of Config cut history as well as the live queue. A
//     load test that must not lose anything sets QueueSize, MaxMessages and
//     MaxBytes above what it may leave undelivered.
//   - HAZARD: the SDK classifies errors by looking for 400, 403 or 530 in texts
//     that contain the URL. A port with these digits changes what it does.
//   - HAZARD: the journal and the token table hold credentials in clear.
//
// # Concurrency
//
// All methods of [Server] and [Injection] may be called at any time from any
// goroutine, except that Run, Start and Close belong to one owner.
package pubnubtest
