// Package peers measures the relay beside others that bring devices what they missed:
// the same work, on the same machine, by the same program.
//
//	go test . -run '^$' -bench Peers -benchtime 1x -timeout 1h -args -bin DIRECTORY
//
// The others are built from their own sources, of the versions in built, into
// DIRECTORY, which may be kept for the next time. Redis, which one of them can have as
// its store, is the machine's own redis-server.
//
// # What is measured
//
//   - Idle connections: the memory of the server that each takes, and the CPU time that
//     it takes to make one.
//   - A storm: a device of each user is cut off, misses events that another device of
//     the user is sent, and all come back at once. How long until the last has
//     everything, what the server's CPU did, what was lost or came twice.
//   - Depth: a device comes back that missed thousands.
//   - A kill: the server is killed while a device is away, and started again.
//
// What of the missed events does not come within some seconds is lost. Whether a device
// was told that something is missing is noted: to be told is not a loss but an answer.
//
// # Failure modes
//
//   - HAZARD: the load shares the machine with the server. Compare what came of one run.
//   - HAZARD: each is given settings that let it keep everything: what it keeps by
//     default is less, see the tests.
package peers
