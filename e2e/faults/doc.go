// Package faults tests the relay as it runs in production, on a cluster, while
// everything goes wrong that may.
//
// [Do] starts three NATS servers, two bridges and three edges, each a process of its
// own, with PubNub's emulator and hundreds of devices in the test's, and a [Link]
// between any two that talk to each other. Then it lets a [Schedule] happen to them:
// kills, pauses, cuts, slow and narrow links, a full disk, wrong clocks, lost
// consumers, a restored backup. [Plan] makes up a schedule from a seed, the same one
// from the same seed. Devices behave as real ones: they keep their cursor, come and
// go, send updates until those are accepted.
//
// # What is judged
//
//   - Whatever PubNub or an edge has accepted is in the log once, in order.
//   - Every device was sent every event of its user once, hlc rising, and nothing of
//     anybody else, on every connection; complete is true only where that holds.
//   - After the last heal all devices have everything within half a minute.
//   - No bridge and no edge ended by itself, and none had to be started anew.
//
// It is a module of its own because it wants the machine for itself: time is part of
// what is promised.
//
//	go test . -run '^TestSchedules$' -v -timeout 0 -parallel 3 -args -schedules 200 -acts 15 -from 1000 -keep DIRECTORY
//
// # Failure modes
//
//   - HAZARD: a schedule says what happens when, and not what the machine makes of
//     it. Who is leader, which bytes are under way at a cut, is chance: a seed that
//     was red once may need some runs to be red again.
//   - HAZARD: the clock of the bridges is set by a build of the program with another
//     time.Now laid over Go's own. Another version of Go may need another one.
//   - HAZARD: mounting the NATS servers' small disks needs mount namespaces.
package faults
