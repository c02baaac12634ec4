// Package hlc implements hybrid logical clocks.
//
// A hybrid logical clock (Kulkarni, Demirbas, Madappa, Avva and Leone, "Logical
// Physical Clocks", OPODIS 2014, section 6 for the compact form) gives stamps
// that are close to physical time and yet never go backwards: where the wall
// clock stands still or steps back, a counter goes on.
//
//	var clock hlc.Clock
//	a := clock.Now()
//	b := clock.Now() // b > a, whatever the wall clock does
//	fmt.Println(b)   // 019a3f2c8e410003
//
// # Guarantees
//
//   - Every stamp that a Clock gives is greater than all that it gave or merged
//     before, over all goroutines.
//   - Text and numbers sort alike, and parsing accepts exactly what String
//     gives.
//
// # Failure modes
//
//   - HAZARD: a merged stamp from far in the future drags the clock along for
//     good. Update refuses what is more than MaxDrift ahead; Merge does not,
//     and is for stamps whose order is already a fact.
//   - HAZARD: a Clock remembers nothing over a restart. Who needs stamps that
//     rise across restarts merges the last one that was used.
//   - At the end of the range, in the year 10889, Now repeats the last stamp.
//
// # Concurrency
//
// A Clock is one atomic word: its methods are safe for concurrent use and
// lock-free. Timestamps are values.
package hlc
