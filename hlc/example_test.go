package hlc_test

import (
	"fmt"
	"time"

	"reprise/hlc"
)

func ExampleClock() {
	wall := time.UnixMilli(1761996475969)
	clock := hlc.Clock{Wall: func() time.Time { return wall }}
	fmt.Println(clock.Now())
	fmt.Println(clock.Now())
	wall = wall.Add(-time.Hour) // the wall clock is set back
	fmt.Println(clock.Now())
	// Output:
	// 019a3f2c8e410000
	// 019a3f2c8e410001
	// 019a3f2c8e410002
}

func ExampleClock_Update() {
	clock := hlc.Clock{Wall: func() time.Time { return time.UnixMilli(1761996475969) }}
	fmt.Println(clock.Update(hlc.New(1761996476020, 7)))
	fmt.Println(clock.Update(hlc.New(1762000075969, 0)))
	// Output:
	// 019a3f2c8e740008 <nil>
	// 0000000000000000 hlc: 019a3f637cc10000 is 1h0m0s ahead of the wall clock, at most 1m0s is accepted
}
