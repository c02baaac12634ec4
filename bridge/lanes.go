package bridge

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"reprise/stream"
)

const (
	// laneGroups is how many channel groups one PubNub client may have.
	laneGroups = 10
	// groupUsers is how many users fit into a group: of its 2,000 channels each
	// takes three, and a few are left for channels that are nobody's.
	groupUsers = 660
	// joinUsers is how many users are put into groups at a time: PubNub takes some
	// 600 names in one request.
	joinUsers = 200
	// registrationsMost bounds the registrations that wait for the lanes.
	registrationsMost = 10_000
)

// lanes are a shard's users, spread over PubNub clients: a place of a user, as
// kept with the registration, is the number of a channel group, ten groups are
// a lane, and a lane is one client with a cursor of its own. All append through
// the shard's one writer. They belong to carryLanes.
type lanes struct {
	sh    *shard
	ctx   context.Context // of everything that is started
	parts sync.WaitGroup
	sizes []int // users by group
	lanes map[int]*lane
}

// lane is one client of PubNub, and the users in its groups.
type lane struct {
	n       int
	track   *track // nil before begin has returned
	grouped bool   // PubNub has channels in its groups: others cannot be subscribed to
	polling bool

	mu    sync.Mutex
	users []string // in no order
}

// newcomer is a user who is expected in a group and is not there yet.
type newcomer struct {
	user  string
	place int
}

func (sh *shard) groupName(place int) string {
	return "reprise-" + strconv.Itoa(sh.writer.Shard()) + "-" + strconv.Itoa(place)
}

// carryLanes carries the shard's users over lanes until ctx ends: those who are
// registered, and those who come.
func (sh *shard) carryLanes(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	l := &lanes{sh: sh, ctx: ctx, lanes: make(map[int]*lane)}
	defer l.parts.Wait()
	defer cancel()
	coming := make(chan stream.Registration, registrationsMost)
	current := make(chan struct{})
	followed := make(chan error, 1)
	l.parts.Go(func() {
		followed <- sh.b.cfg.Log.FollowRegistrations(ctx, sh.writer.Shard(), func(r stream.Registration) {
			select {
			case coming <- r:
			case <-ctx.Done():
			}
		}, func() { close(current) })
	})
	if sh.writer.Shard() == 0 {
		if err := l.everybodys(); err != nil {
			return err
		}
	}
	known := make(map[string]int) // places by user
	var fresh []stream.Registration
	var joining []newcomer
	take := func(r stream.Registration) {
		at, seen := known[r.User]
		switch {
		case seen && at == r.Lane:
		case r.Lane != stream.NoLane:
			if !seen || at == stream.NoLane {
				l.count(r.Lane)
			}
			known[r.User] = r.Lane
			ln := l.lane(r.Lane / laneGroups)
			ln.grouped = true
			ln.add(r.User)
		case !seen:
			known[r.User] = stream.NoLane
			fresh = append(fresh, r)
		}
	}
	for there := false; ; {
		select {
		case r := <-coming:
			take(r)
		case <-current:
			there, current = true, nil
		case err := <-followed:
			return err
		case <-ctx.Done():
			return nil
		}
		for more := true; more; {
			select {
			case r := <-coming:
				take(r)
			default:
				more = false
			}
		}
		if !there {
			continue
		}
		for _, r := range fresh {
			place, err := l.expect(r)
			if err != nil {
				return err
			}
			known[r.User] = place
			joining = append(joining, newcomer{r.User, place})
		}
		fresh = nil
		for _, lane := range l.lanes {
			if lane.grouped {
				l.start(lane)
			}
		}
		for len(joining) > 0 && len(coming) == 0 {
			n := min(len(joining), joinUsers)
			if err := l.join(joining[:n]); err != nil {
				return err
			}
			joining = slices.Clone(joining[n:])
		}
	}
}

// count notes one user more in a group.
func (l *lanes) count(place int) {
	for len(l.sizes) <= place {
		l.sizes = append(l.sizes, 0)
	}
	l.sizes[place]++
}

// place is a group with room for one more user.
func (l *lanes) place() int {
	for i := max(0, len(l.sizes)-1); ; i++ {
		if i == len(l.sizes) || l.sizes[i] < groupUsers {
			return i
		}
	}
}

// lane is the n-th lane, made if need be; it is not started.
func (l *lanes) lane(n int) *lane {
	if l.lanes[n] == nil {
		l.lanes[n] = &lane{n: n}
		l.sh.b.lanes.Add(1)
		context.AfterFunc(l.ctx, func() { l.sh.b.lanes.Add(-1) })
	}
	return l.lanes[n]
}

func (ln *lane) add(user string) {
	ln.mu.Lock()
	defer ln.mu.Unlock()
	ln.users = append(ln.users, user)
}

func (ln *lane) sorted(context.Context) ([]string, error) {
	ln.mu.Lock()
	all := slices.Clone(ln.users)
	ln.mu.Unlock()
	slices.Sort(all)
	return slices.Compact(all), nil
}

// begin sees to it that a lane has its track, as it was left, unless ctx ends before.
func (l *lanes) begin(ln *lane) error {
	for fails := 0; ln.track == nil; fails++ {
		t, err := l.track(ln)
		if err == nil {
			ln.track = t
			break
		}
		l.sh.b.cfg.Logger.Warn("a lane cannot be begun yet", "shard", l.sh.writer.Shard(), "lane", ln.n, "err", err)
		if !pause(l.ctx, fails) {
			return l.ctx.Err()
		}
	}
	return nil
}

// start polls for a lane, unless that is done already.
func (l *lanes) start(ln *lane) {
	if ln.polling || l.begin(ln) != nil {
		return
	}
	ln.polling = true
	var groups []string
	for i := range laneGroups {
		groups = append(groups, l.sh.groupName(ln.n*laneGroups+i))
	}
	t := ln.track
	t.checkAge()
	f := l.sh.b.newSource(nil, groups, t.cursor())
	l.parts.Go(func() {
		run, cancel := context.WithCancel(context.WithoutCancel(l.ctx))
		var running sync.WaitGroup
		running.Go(func() { f.run(run) })
		t.carry(l.ctx, f)
		cancel()
		running.Wait()
	})
}

// track is the track of a lane, as it was left.
func (l *lanes) track(ln *lane) (*track, error) {
	name := strconv.Itoa(ln.n)
	mark, err := l.sh.writer.Bookmark(l.ctx, name)
	if err != nil {
		return nil, err
	}
	return l.sh.b.newTrack(l.sh, name, mark, ln.sorted)
}

// everybodys puts the channels that are nobody's into the first group.
func (l *lanes) everybodys() error {
	if err := l.toGroup(0, l.sh.b.cfg.Channels); err != nil {
		return err
	}
	l.lane(0).grouped = true
	return nil
}

// expect gives a user a place, and has what comes for them held back until their
// history has been read from when they were registered on; then their registration
// tells the place. That is before their lane polls, or is handed out the first of
// it: after a crash they may be in a group already.
func (l *lanes) expect(r stream.Registration) (place int, err error) {
	place = l.place()
	l.count(place)
	ln := l.lane(place / laneGroups)
	if err := l.begin(ln); err != nil {
		return 0, err
	}
	ln.track.want(r.User, timetokenAt(r.At.Add(-fillMargin)), func(ctx context.Context) error {
		return l.sh.b.cfg.Log.Assign(ctx, r, place)
	})
	ln.add(r.User)
	return place, nil
}

// join puts users into the groups that are their places. A crash before they are
// assigned repeats it, which does no harm.
func (l *lanes) join(some []newcomer) error {
	groups := make(map[int][]string)
	for _, n := range some {
		groups[n.place] = append(groups[n.place], n.user)
	}
	for place, users := range groups {
		var channels []string
		for _, user := range users {
			channels = append(channels, l.sh.b.channelsOf(user)...)
		}
		if err := l.toGroup(place, channels); err != nil {
			return err
		}
		ln := l.lane(place / laneGroups)
		ln.grouped = true
		l.start(ln)
		ln.track.joined(users...)
	}
	return nil
}

// toGroup adds channels to a group, however long that takes.
func (l *lanes) toGroup(place int, channels []string) error {
	b := l.sh.b
	for fails := 0; ; fails++ {
		err := b.ask(l.ctx, "join group", func(ctx context.Context) error { return b.calls.addToGroup(ctx, l.sh.groupName(place), channels) })
		if err == nil {
			return nil
		}
		if refused(err) {
			b.cfg.Logger.Error("PubNub does not take channels into a group", "group", l.sh.groupName(place), "err", err)
		}
		if !pause(l.ctx, fails) {
			return fmt.Errorf("bridge: lanes: %w", err)
		}
	}
}

// want has the history of one user compared once the user has joined; what comes
// is held back until then. done is called when it is in the log.
func (t *track) want(user, from string, done func(context.Context) error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	w := &want{from: from, done: done, hold: !t.frail()}
	t.wanted[user] = w
	if w.hold && t.silence == nil {
		t.silence = time.AfterFunc(holdFor, t.letNewcomers)
	}
}

// joined notes that the feed hands out what is published for users from now on.
func (t *track) joined(users ...string) {
	t.mu.Lock()
	for _, user := range users {
		w := t.wanted[user]
		w.joined, w.hold = true, !t.frail()
	}
	t.answered()
	t.mu.Unlock()
	kick(t.fillSoon)
}

// answered notes that PubNub gets on with what is asked for new users: their events
// may be held back for holdFor from now on. Called with mu held.
func (t *track) answered() {
	if t.silence != nil {
		t.silence.Stop()
		t.silence = nil
	}
	for _, w := range t.wanted {
		if w.hold {
			t.silence = time.AfterFunc(holdFor, t.letNewcomers)
			return
		}
	}
}

// letNewcomers holds nothing back for new users any more.
func (t *track) letNewcomers() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, w := range t.wanted {
		w.hold = false
	}
	t.silence = nil
	kick(t.drainSoon)
}

// announcementAge is how old an announcement may be that is still worth one:
// the log forgets them after an hour.
const announcementAge = 55 * time.Minute

// takesAnnouncements tells whether t carries what is for everyone.
func (t *track) takesAnnouncements() bool {
	return t.shard.writer.Shard() == 0 && (t.lane == "" || t.lane == "0") && t.b.subscribesTo(broadcastChannel)
}

func (b *Bridge) subscribesTo(channel string) bool {
	return slices.ContainsFunc(b.cfg.Channels, func(pattern string) bool { return covers(pattern, channel) })
}

// channelsOf are the channels on which events of user come.
func (b *Bridge) channelsOf(user string) []string {
	if user == everyone {
		return []string{broadcastChannel}
	}
	var all []string
	for _, last := range [...]string{".sync", ".devices", ".notifications"} {
		if channel := "user." + user + last; b.cfg.Lanes || b.subscribesTo(channel) {
			all = append(all, channel)
		}
	}
	return all
}
