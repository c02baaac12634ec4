package edge

import (
	"encoding/json"
	"sync"
	"time"

	"reprise/hlc"
	"reprise/stream"
)

// orders is what operators have said of users: whose tokens are revoked, and who
// was forgotten.
type orders struct {
	mu     sync.RWMutex
	byUser map[stream.UserKey]stream.Order
	loaded bool // those that there were when the server began are known
}

// put keeps an order, and returns the one before it. It says whether it is new:
// all come again when the connection to the log was lost.
func (o *orders) put(order stream.Order) (before stream.Order, fresh bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	before = o.byUser[order.User]
	o.byUser[order.User] = order
	return before, before != order
}

// of is the order about user; the zero Order is none.
func (o *orders) of(user string) stream.Order {
	o.mu.RLock()
	defer o.mu.RUnlock()
	if len(o.byUser) == 0 {
		return stream.Order{}
	}
	return o.byUser[stream.KeyOf(user)]
}

func (o *orders) current() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.loaded = true
}

func (o *orders) known() bool {
	o.mu.RLock()
	defer o.mu.RUnlock()
	return o.loaded
}

// revoked reports whether a token of user that was issued then is worth nothing.
// One that does not say when counts as old. Tokens tell whole seconds: one of the
// very second of the revocation is good, or a device that fetches another at once
// would get one that is refused.
func (s *Server) revoked(user string, issued time.Time) bool {
	before := s.orders.of(user).RevokedBefore
	return !before.IsZero() && issued.Before(before.Truncate(time.Second))
}

// forgotten reports whether events of user from after a cursor may have been
// erased on purpose.
func (s *Server) forgotten(user string, from hlc.Timestamp) bool {
	before := s.orders.of(user).ForgottenBefore
	return !before.IsZero() && from.Time().Before(before)
}

// order carries out what an operator has said: the user's connections end, here
// as at every edge, and what this edge remembers of one who is to be forgotten
// goes.
func (s *Server) order(o stream.Order) {
	before, fresh := s.orders.put(o)
	if !fresh {
		return
	}
	code, reason := codeResumeAgain, "disconnected by an operator"
	if s.cfg.Authenticate != nil && o.RevokedBefore.After(before.RevokedBefore) {
		code, reason = codeTokenExpired, "token revoked"
	}
	forget := o.ForgottenBefore.After(before.ForgottenBefore)
	for _, sh := range s.shards {
		closeAll(sh.ordered(o.User, forget), code, reason)
	}
	if forget {
		s.cursors.forget(o.User)
		if s.cfg.Log != nil {
			s.cfg.Log.Forget(o.User)
		}
	}
}

// ordered returns the connections of a user and, if the user is to be forgotten,
// empties the user's tail.
func (sh *shard) ordered(user stream.UserKey, forget bool) (conns []*conn) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	for id, t := range sh.users {
		if stream.KeyOf(id) != user {
			continue
		}
		conns = append(conns, t.conns...)
		if forget {
			t.reset(sh.dispatched(), sh.budget)
		}
	}
	return conns
}

// forget drops acknowledgements that are not saved yet.
func (cs *cursors) forget(user stream.UserKey) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	for key := range cs.unsent {
		if stream.KeyOf(key.user) == user {
			delete(cs.unsent, key)
		}
	}
}

// answerOperator answers a request that goes to all edges: the user whose
// connections are asked for.
func (s *Server) answerOperator(request []byte) []byte {
	user := string(request)
	if !validUUID(user) {
		return []byte("[]")
	}
	text, err := json.Marshal(s.infos(user))
	if err != nil {
		return []byte("[]")
	}
	return text
}
