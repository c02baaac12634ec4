package e2e

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// shardStory is what two shards' streams hold, with a take-over of the first.
func shardStory(t *testing.T) []Record {
	t.Helper()
	users := make(map[int]string)
	for n := 0; len(users) < 2; n++ {
		users[ShardOf(userNo(n), 2)] = userNo(n)
	}
	event := func(shard int, writer uint64, n int) Record {
		hlc := stamp(n)
		return Record{Shard: shard, User: users[shard], ID: users[shard] + hlc, Hlc: hlc, Writer: writer, Frame: noticeFrame(hlc, hlc), Stored: int64(n) * second}
	}
	marker := func(shard int, writer uint64, n int) Record {
		return Record{Shard: shard, Hlc: stamp(n), Writer: writer, Stored: int64(n) * second}
	}
	return []Record{
		marker(0, 1, 1), event(0, 1, 2), event(0, 1, 3), marker(0, 2, 6), event(0, 2, 7),
		marker(1, 1, 1), event(1, 1, 2), event(1, 1, 9),
	}
}

func TestJudgeShardsIsSilentOnAGoodLog(t *testing.T) {
	for _, v := range JudgeShards(2, shardStory(t)) {
		t.Errorf("JudgeShards(story) says %s, want silence", v)
	}
}

func TestJudgeShardsSaysWhatIsBroken(t *testing.T) {
	for _, tt := range []struct {
		name  string
		spoil func(r []Record)
		want  []Rule
	}{
		{"two events change places", func(r []Record) { r[1], r[2] = r[2], r[1] }, []Rule{Falling}},
		{"a marker's stamp is that of the event before", func(r []Record) { r[3].Hlc = r[2].Hlc }, []Rule{Falling}},
		{"no stamp", func(r []Record) { r[5].Hlc = "" }, []Rule{Falling}},
		{"an older writer's event behind the fence", func(r []Record) { r[4].Writer = 1 }, []Rule{Deposed}},
		{"an event in another shard", func(r []Record) { r[1].User = r[6].User }, []Rule{Misfiled}},
		{"one id twice", func(r []Record) { r[4].ID = r[1].ID }, []Rule{Doubled}},
		{"another stamp in the frame", func(r []Record) { r[7].Frame = strings.Replace(r[7].Frame, stamp(9), stamp(8), 1) }, []Rule{Altered}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			records := shardStory(t)
			tt.spoil(records)
			var got []Rule
			for _, v := range JudgeShards(2, records) {
				got = append(got, v.Rule)
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("JudgeShards(%s) = %q, want %q", tt.name, got, tt.want)
			}
		})
	}
}

func TestTakeOvers(t *testing.T) {
	records := shardStory(t)
	holders := map[Tenure]string{{0, 1}: "a", {0, 2}: "b", {1, 1}: "b"}
	for _, tt := range []struct {
		name   string
		deaths []Death
		want   []time.Duration
	}{
		{"the holder of the first shard", []Death{{"a", 4 * second}}, []time.Duration{3 * time.Second}},
		{"who holds nothing", []Death{{"c", 4 * second}}, nil},
		{"who held it once", []Death{{"a", 8 * second}}, nil},
		{"before anything was written", []Death{{"a", 0}}, nil},
		{"what nobody takes over", []Death{{"b", 3 * second}, {"b", 8 * second}}, nil},
	} {
		if got := takeOvers(records, tt.deaths, holders); !slices.Equal(got, tt.want) {
			t.Errorf("takeOvers(%s) = %v, want %v", tt.name, got, tt.want)
		}
	}
}
