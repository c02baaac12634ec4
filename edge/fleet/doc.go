// Package fleet is many devices at once, to load a relay.
//
// A [Fleet] connects devices and keeps them: each has one goroutine, which reads,
// a buffer of half a KiB and no timers, so that tens of thousands fit into a
// process. What a device is sent it checks: the events that a load publishes
// carry a number, which counts up from 1 for each user, as their position.
//
//	f, err := fleet.New(fleet.Config{URL: "ws://127.0.0.1:8080/ws", OnEvent: …})
//	devices := []*fleet.Device{fleet.NewDevice(user, device, ""), …}
//	took, err := f.Connect(ctx, devices) // returns when all have caught up
//	…
//	f.Cut(devices)
//	took, err = f.Connect(ctx, devices) // each resumes at its own cursor
//	verdict := fleet.Judge(devices, published)
//
// # Guarantees
//
//   - A device answers the edge's pings, and acknowledges nothing.
//   - Towards loopback, devices spread over source addresses, 20,000 each: an
//     address has some 28,000 ports.
//
// # Failure modes
//
//   - HAZARD: a connection that is lost counts in [Fleet.Lost] and is made again
//     when the edge said, or after a quarter to half a second, far sooner than a
//     device should.
//   - HAZARD: the load shares the machine with the relay, as a rule. Its own CPU
//     time is in every latency.
//
// # Concurrency
//
// A Fleet is safe for concurrent use. OnEvent is called by the goroutines of the
// devices, those of different devices at the same time.
package fleet
