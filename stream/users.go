package stream

import (
	"context"
	"fmt"
	"maps"
	"slices"
)

// subjectsOverlap is by how many subjects two pages of a listing overlap:
// retention may take that many between them without one being passed over.
const subjectsOverlap = 1000

// Users lists, in order, the users of shard that the log has events of or that
// are registered.
func (l *Log) Users(ctx context.Context, shard int) ([]string, error) {
	if shard < 0 || shard >= len(l.shards) {
		return nil, fmt.Errorf("stream: shard %d of %d", shard, len(l.shards))
	}
	users := make(map[string]struct{})
	for _, from := range []struct{ stream, filter string }{
		{eventsStream(shard), subjectOf(shard, "*")},
		{kvStream(checkpointsBucket), kvSubject(checkpointsBucket, registrationKey(shard, "*"))},
	} {
		err := l.subjects(ctx, from.stream, from.filter, func(subject string, _ uint64) {
			// Neither the marker's nor one that no bridge wrote.
			if user := userOf(subject); validUser(user) == nil && l.Shard(user) == shard {
				users[user] = struct{}{}
			}
		})
		if err != nil {
			return nil, fmt.Errorf("stream: users of shard %d: %w", shard, err)
		}
	}
	return slices.Sorted(maps.Keys(users)), nil
}

// subjects calls fn for each subject of stream that filter matches, with how many
// messages it has, for some more than once. The leader answers in pages of 100,000.
func (l *Log) subjects(ctx context.Context, stream, filter string, fn func(subject string, messages uint64)) error {
	var req struct {
		Filter string `json:"subjects_filter"`
		Offset int    `json:"offset"`
	}
	req.Filter = filter
	for {
		var page struct {
			Total int       `json:"total"`
			Error *apiError `json:"error"`
			State struct {
				Subjects map[string]uint64 `json:"subjects"`
			} `json:"state"`
		}
		if err := l.api(ctx, "STREAM.INFO."+stream, req, &page); err != nil {
			return err
		}
		if page.Error != nil {
			return fmt.Errorf("%s: %w", stream, page.Error)
		}
		for subject, messages := range page.State.Subjects {
			fn(subject, messages)
		}
		n := len(page.State.Subjects)
		if n == 0 || req.Offset+n >= page.Total {
			return nil
		}
		req.Offset += max(n-subjectsOverlap, 1)
	}
}
