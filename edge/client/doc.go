// Package client is a device: it stays connected to an edge and receives a
// user's events in order, each once, over any number of connections.
//
// It is what `reprise tail` and the end-to-end tests are made of, and the
// reference for clients in other languages.
//
// # How it is used
//
//	c, err := client.New(client.Config{
//		URL:     "ws://127.0.0.1:8080/ws",
//		User:    "5f0c1f0e-8a52-4a53-9d3b-5e8a4c1f7d10",
//		Device:  "0b6d5c1e-4c0e-4f0a-9f57-3f6f0c0b7a11",
//		OnFrame: func(f client.Frame) { fmt.Printf("%s\n", f.Raw) },
//	})
//	…
//	err = c.Run(ctx)
//
// # The cursor
//
// The client keeps one stamp, the cursor: the greatest hlc of the events,
// caught_up and position frames that it has seen. An event that is not newer
// is dropped before OnFrame hears of it. Every connection after the first asks
// for what lies after the cursor. A welcome with complete false makes the
// client forget its cursor and take the one that comes, even a smaller one.
// Who wants to go on in another process keeps [Client.Since] and passes it as
// [Config.Since].
//
// With a [Store] that is taken care of: the cursor is kept there once OnFrame has
// returned, and so is what waits to be sent. A process that dies inside OnFrame is
// given the frame again.
//
// A snapshot frame takes the place of everything that the app knew, and the client's
// cursor that of its stamp. Who asks for snapshots is sent what the device did itself as
// well: the state is some seconds behind the log.
//
// # Updates
//
// [Client.Submit] queues an update and waits for the edge to have it on disk. It has an
// id, and is sent again on each connection until it is answered, which makes a
// repetition harmless. At most QueueLimit wait; 16 are under way at a time, 15 a second
// go out and 100 at once after a pause, below what an edge allows. An edge that refuses
// for the moment (outbox_full, rate_limited) is asked again after a while. When it
// closes with 1009 the largest of those under way is given up, as too_large: it would
// close every connection, and hold up the others.
//
// # Reconnecting
//
// A lost connection is made again after a random time between MinBackoff and a
// ceiling that doubles up to MaxBackoff ("full jitter"). A reconnect frame's
// after_ms is waited out exactly, a refusal's Retry-After at least. These end
// Run instead: a close code from 4500 to 4999, and an edge's answer of the 4xx
// family before the upgrade other than 408, 425 and 429. A token that is not taken
// (401, 4501) ends it only where there is no other to be had: Config.Token is asked
// again, after about MaxBackoff.
//
// # Completeness
//
// Config.OnResumed says at the end of each replay whether it was complete. One that
// was cut and begun anew is one replay: what any of its welcomes said to be missing
// is missing. A Store is given no cursor before the app has been told so.
//
// # Guarantees
//
//   - OnFrame sees each event at most once, with rising hlc, until a welcome
//     says complete false.
//   - A link on which nothing arrives for PingInterval is asked for a sign of
//     life, and cut when none has come PingTimeout later.
//
// # Failure modes
//
//   - HAZARD: OnFrame is called in line. A callback that blocks stops reading,
//     and the edge closes the connection with 4002 after a while.
//   - HAZARD: [Client.Since] moves before OnFrame returns. Who saves it there must not
//     have saved it before the event. A Store is given it afterwards.
//   - HAZARD: two processes with one device, or one Store. The edge closes the older
//     one's connection with 4509, which ends Run.
//
// # Concurrency
//
// Run belongs to one goroutine and is called once. All other methods may be
// called from any goroutine, also from OnFrame.
package client
