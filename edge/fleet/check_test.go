package fleet

import (
	"testing"

	"reprise/hlc"
)

func TestCheck(t *testing.T) {
	t.Parallel()
	type got struct {
		n     int
		stamp hlc.Timestamp
	}
	for _, tt := range []struct {
		name      string
		events    []got
		published int
		want      Verdict
	}{
		{"all", []got{{1, 1}, {2, 2}, {3, 3}}, 3, Verdict{Events: 3}},
		{"none", nil, 3, Verdict{Lost: 3}},
		{"the last is lost", []got{{1, 1}, {2, 2}}, 3, Verdict{Events: 2, Lost: 1}},
		{"the first is lost", []got{{2, 2}, {3, 3}}, 3, Verdict{Events: 2, Lost: 1}},
		{"two in the middle are lost", []got{{1, 1}, {4, 4}}, 4, Verdict{Events: 2, Lost: 2}},
		{"doubled", []got{{1, 1}, {2, 2}, {2, 3}}, 2, Verdict{Events: 3, Doubled: 1}},
		{"doubled after others", []got{{1, 1}, {2, 2}, {1, 3}}, 2, Verdict{Events: 3, Doubled: 1}},
		{"late", []got{{1, 1}, {3, 2}, {2, 3}}, 3, Verdict{Events: 3, Late: 1}},
		{"late and doubled", []got{{1, 1}, {3, 2}, {2, 3}, {2, 4}}, 3, Verdict{Events: 4, Late: 1, Doubled: 1}},
		{"stamps go back", []got{{1, 2}, {2, 1}, {3, 3}}, 3, Verdict{Events: 3, Misordered: 1}},
		{"stamps stand still", []got{{1, 1}, {2, 1}}, 2, Verdict{Events: 2, Misordered: 1}},
	} {
		var c check
		for _, e := range tt.events {
			c.take(e.n, e.stamp)
		}
		got := c.end(tt.published)
		if got != tt.want || got.Bad() != (tt.want.Lost+tt.want.Doubled+tt.want.Misordered > 0) {
			t.Errorf("%s: %+v, want %+v", tt.name, got, tt.want)
		}
	}
}
