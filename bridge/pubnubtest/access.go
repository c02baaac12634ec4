package pubnubtest

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"regexp"
	"slices"
	"time"
)

// Permission bits of a [Token], as PubNub numbers them.
const (
	Read   = 1
	Write  = 2
	Manage = 4
)

// maxTokens bounds the token table; a grant beyond it gets 400.
const maxTokens = 10_000

// A Token is what a name in the token table allows.
type Token struct {
	// Channels and Groups hold bits by name. A wildcard is a name of its own:
	// subscribing to user.* needs Read on "user.*" or on a pattern that matches it.
	Channels, Groups map[string]int

	// ChannelPatterns and GroupPatterns hold bits by regular expression.
	ChannelPatterns, GroupPatterns map[string]int

	// Expires is when the token ends; the zero value is never.
	Expires time.Time

	// Revoked refuses the token with a reason of its own.
	Revoked bool
}

// SetToken puts a token into the table, or replaces it. It panics on a pattern
// that is no regular expression.
func (s *Server) SetToken(name string, t Token) {
	for _, patterns := range []map[string]int{t.ChannelPatterns, t.GroupPatterns} {
		for p := range patterns {
			regexp.MustCompile(p)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tokens[name] = t
}

// DropToken removes a token from the table; requests that show it are forbidden.
func (s *Server) DropToken(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.tokens, name)
}

// grants reports whether one of the names or patterns allows all of bits.
func grants(names, patterns map[string]int, name string, bits int) bool {
	have := names[name]
	for p, b := range patterns {
		if b&bits != 0 && regexp.MustCompile(p).MatchString(name) {
			have |= b
		}
	}
	return have&bits == bits
}

func (s *Server) mayRead(auth string, channels, groups []string) *reply {
	return s.allow(auth, Read, channels, groups)
}

func (s *Server) mayWrite(auth, channel string) *reply {
	return s.allow(auth, Write, []string{channel}, nil)
}

func (s *Server) mayManage(auth, group string) *reply {
	return s.allow(auth, Manage, nil, []string{group})
}

// allow returns nil if the token called auth has bits on all names, and
// otherwise the 403 that says why not.
func (s *Server) allow(auth string, bits int, channels, groups []string) *reply {
	if !s.cfg.RequirePAM {
		return nil
	}
	s.mu.Lock()
	t := s.tokens[auth]
	now := s.cfg.Now()
	s.mu.Unlock()
	switch {
	case t.Revoked:
		return failure(http.StatusForbidden, "Token is revoked.")
	case !t.Expires.IsZero() && !now.Before(t.Expires):
		return failure(http.StatusForbidden, "Token is expired.")
	}
	deniedChannels := slices.DeleteFunc(slices.Clone(channels), func(name string) bool {
		return grants(t.Channels, t.ChannelPatterns, name, bits)
	})
	deniedGroups := slices.DeleteFunc(slices.Clone(groups), func(name string) bool {
		return grants(t.Groups, t.GroupPatterns, name, bits)
	})
	if len(deniedChannels)+len(deniedGroups) == 0 {
		return nil
	}
	b := []byte(`{"message":"Forbidden","payload":{`)
	if len(deniedChannels) > 0 {
		b = appendNames(append(b, `"channels":`...), deniedChannels)
	}
	if len(deniedGroups) > 0 {
		if len(deniedChannels) > 0 {
			b = append(b, ',')
		}
		b = appendNames(append(b, `"channel-groups":`...), deniedGroups)
	}
	b = append(b, `},"error":true,"service":"Access Manager","status":403}`...)
	return ok(b).with(http.StatusForbidden)
}

// grantCall makes a token of the permissions in the body and puts it into the
// table. Signatures are not checked; the token's text says nothing.
func (s *Server) grantCall(c *call) *reply {
	if r := s.wrongKey(c.parts[2]); r != nil {
		return r
	}
	type resources struct {
		Channels map[string]int `json:"channels"`
		Groups   map[string]int `json:"groups"`
	}
	var body struct {
		TTL         int `json:"ttl"`
		Permissions struct {
			Resources resources `json:"resources"`
			Patterns  resources `json:"patterns"`
		} `json:"permissions"`
	}
	if c.method != http.MethodPost || json.Unmarshal(c.body, &body) != nil {
		return failure(http.StatusBadRequest, "Invalid JSON")
	}
	if body.TTL < 1 || body.TTL > 43_200 {
		return failure(http.StatusBadRequest, "Invalid ttl")
	}
	t := Token{
		Channels:        body.Permissions.Resources.Channels,
		Groups:          body.Permissions.Resources.Groups,
		ChannelPatterns: body.Permissions.Patterns.Channels,
		GroupPatterns:   body.Permissions.Patterns.Groups,
	}
	for _, patterns := range []map[string]int{t.ChannelPatterns, t.GroupPatterns} {
		for p := range patterns {
			if _, err := regexp.Compile(p); err != nil {
				return failure(http.StatusBadRequest, "Invalid RegExp")
			}
		}
	}
	secret := make([]byte, 24)
	rand.Read(secret)
	name := "p0F2" + base64.RawURLEncoding.EncodeToString(secret)

	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.cfg.Now()
	t.Expires = now.Add(time.Duration(body.TTL) * time.Minute)
	if len(s.tokens) >= maxTokens {
		for name, old := range s.tokens {
			if !old.Expires.IsZero() && !now.Before(old.Expires) {
				delete(s.tokens, name)
			}
		}
	}
	if len(s.tokens) >= maxTokens {
		return failure(http.StatusBadRequest, "Too many tokens")
	}
	s.tokens[name] = t
	return ok(fmtAppend(`{"status":200,"data":{"message":"Success","token":%s},"service":"Access Manager"}`, quote(name)))
}

// revokeCall ends a token: v3/pam/{sub}/grant/{token}.
func (s *Server) revokeCall(c *call) *reply {
	if r := s.wrongKey(c.parts[2]); r != nil {
		return r
	}
	name := unescape(c.parts[4])
	s.mu.Lock()
	defer s.mu.Unlock()
	t, known := s.tokens[name]
	if !known {
		return failure(http.StatusBadRequest, "Invalid token")
	}
	t.Revoked = true
	s.tokens[name] = t
	return ok([]byte(`{"status":200,"data":{"message":"Success"},"service":"Access Manager"}`))
}
