package stream

import (
	"encoding/base64"
	"fmt"
	"hash/fnv"
	"strconv"
	"strings"
)

// Streams, subjects and buckets. Nothing outside this file spells one.
const (
	announcementsStream  = "REPRISE_ANNOUNCEMENTS"
	announcementsSubject = "reprise.all"
	deadStream           = "REPRISE_DEAD"
	deadSubject          = "reprise.dead."
	outboxStream         = "REPRISE_OUTBOX"
	outboxPrefix         = "reprise.out."
	outboxSubjects       = outboxPrefix + "*.*"
	askPrefix            = "reprise.ask."     // of no stream: requests to who writes a shard
	arrivalsSubject      = "reprise.arrivals" // of no stream: devices that connect
	edgesSubject         = "reprise.edges"    // of no stream: requests to all edges
	edgePrefix           = "edge-"            // of an edge's consumers

	checkpointsBucket = "REPRISE_CHECKPOINTS"
	cursorsBucket     = "REPRISE_CURSORS"
	stateBucket       = "REPRISE_STATE"
	presenceBucket    = "REPRISE_PRESENCE"
	leasesBucket      = "REPRISE_LEASES"

	// markerToken stands where a user stands in an event's subject.
	markerToken = "_"
)

// Headers of records. nats.Header is case-sensitive, so these spellings are
// the contract.
const (
	headerFormat      = "Reprise-Format"
	headerWriter      = "Reprise-Writer"
	headerHlc         = "Reprise-Hlc"
	headerDevice      = "Reprise-Device"
	headerExpires     = "Reprise-Expires"
	headerTimetoken   = "Reprise-Timetoken"
	headerTraceparent = "traceparent"
	headerTracestate  = "tracestate"
	headerGapFrom     = "Reprise-Gap-From"
	headerGapTo       = "Reprise-Gap-To"
	headerGapUser     = "Reprise-Gap-User"
	// headerPrevious stands on the first marker of a take-over: the last stamp
	// that the log held then. No record's stamp lies between it and the marker's.
	headerPrevious = "Reprise-Previous"

	// headerID is a device's own id of an update in the outbox.
	headerID = "Reprise-Id"

	headerNode      = "Reprise-Node"
	headerWord      = "Reprise-Word" // of an arrival
	headerReason    = "Reprise-Reason"
	headerDetail    = "Reprise-Detail"
	headerChannel   = "Reprise-Channel"
	headerPublisher = "Reprise-Publisher"
	headerCut       = "Reprise-Cut"

	headerMsgID       = "Nats-Msg-Id"
	headerExpectedSeq = "Nats-Expected-Last-Sequence"
	headerBatchID     = "Nats-Batch-Id"
	headerBatchSeq    = "Nats-Batch-Sequence"
	headerBatchCommit = "Nats-Batch-Commit"
	headerSequence    = "Nats-Sequence"
	headerSubject     = "Nats-Subject"
	headerTimeStamp   = "Nats-Time-Stamp"
	headerNumPending  = "Nats-Num-Pending"
	headerLastSeq     = "Nats-Last-Sequence"
	headerUpTo        = "Nats-UpTo-Sequence"
	headerStatus      = "Status"
)

const formatVersion = "1"

func eventsStream(shard int) string { return "REPRISE_EVENTS_" + strconv.Itoa(shard) }

func eventsPrefix(shard int) string { return "reprise.ev." + strconv.Itoa(shard) + "." }

func subjectOf(shard int, user string) string { return eventsPrefix(shard) + user }

// outboxSubject is where user's updates wait; "*" is every user of shard.
func outboxSubject(shard int, user string) string {
	return outboxPrefix + strconv.Itoa(shard) + "." + user
}

// outboxConsumer names the consumer of who writes shard.
func outboxConsumer(shard int) string { return "bridge-" + strconv.Itoa(shard) }

// outboxID is an update's Nats-Msg-Id, in the outbox and in the log.
func outboxID(user, device, id string) string { return outboxIDs(user) + device + ":" + id }

// outboxIDs is how all of a user's begin.
func outboxIDs(user string) string { return "out:" + user + ":" }

func askSubject(shard int) string { return askPrefix + strconv.Itoa(shard) }

func kvStream(bucket string) string { return "KV_" + bucket }

func kvSubject(bucket, key string) string { return "$KV." + bucket + "." + key }

// registrationKey is in the bucket of the checkpoints; "*" is every user of shard.
func registrationKey(shard int, user string) string {
	return "user." + strconv.Itoa(shard) + "." + user
}

// presenceKey makes a token of a device's name, which may hold any character.
func presenceKey(user, device string) string {
	return user + "." + base64.RawURLEncoding.EncodeToString([]byte(device))
}

// lastToken is the last token of a subject.
func lastToken(subject string) string { return subject[strings.LastIndexByte(subject, '.')+1:] }

// userOf is the user of an event's subject.
func userOf(subject string) string { return lastToken(subject) }

// shardOf spreads users: FNV-1a, 32 bits, of the 36 characters.
func shardOf(user string, shards int) int {
	h := fnv.New32a()
	h.Write([]byte(user))
	return int(h.Sum32() % uint32(shards))
}

// SafeName makes name usable in a consumer's name and a key: what is not a
// letter, a digit or '-' becomes '-', and it is cut at 64 characters. An empty
// name becomes "node".
func SafeName(name string) string {
	safe := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '-':
			return r
		}
		return '-'
	}, name)
	if safe == "" {
		return "node"
	}
	return safe[:min(len(safe), 64)]
}

// validUser says whether user can be the last token of a subject.
func validUser(user string) error {
	if len(user) != 36 || strings.ContainsAny(user, ".*> \t\r\n") {
		return fmt.Errorf("stream: user %q is not a UUID", user)
	}
	return nil
}
