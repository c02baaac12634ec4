package main

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// validate returns what is wrong with cfg for cmd beyond single values: what is
// missing, what does not fit together, what this version cannot do yet.
func validate(cmd *command, cfg *config, rest []string) []string {
	c := &checker{command: cmd.name, cfg: cfg}
	if len(rest) < cmd.operands || len(rest) > cmd.operands && cmd.operands >= 0 {
		c.problems = append(c.problems, fmt.Sprintf("arguments: got %d, want %d: reprise %s %s", len(rest), cmd.operands, cmd.name, cmd.args))
	}
	if cmd.check != nil {
		c.problems = append(c.problems, cmd.check(cfg, rest)...)
	}
	for _, check := range []func(){c.addresses, c.log, c.pubnub, c.auth, c.tls, c.files, c.times, c.tools} {
		check()
	}
	return c.problems
}

// checker judges settings that its command uses.
type checker struct {
	command  string
	cfg      *config
	problems []string
}

// uses tells whether the command uses all these settings, and all could be read.
func (c *checker) uses(names ...string) bool {
	for _, name := range names {
		if _, read := c.cfg.origins[name]; !read || !slices.Contains(lookup(name).used, c.command) {
			return false
		}
	}
	return true
}

// isGiven tells whether somebody set name.
func (c *checker) isGiven(name string) bool {
	from, read := c.cfg.origins[name]
	return read && from != fromDefault
}

func (c *checker) problem(name, format string, args ...any) {
	c.problems = append(c.problems, fmt.Sprintf("%s: %s (%s)", name, fmt.Sprintf(format, args...), c.cfg.origins[name]))
}

// missing complains that name is not set.
func (c *checker) missing(name, why string) {
	s := lookup(name)
	spellings := "--" + name + ", " + s.variable() + " or the key " + name + " in the file"
	if s.also != "" {
		spellings = "--" + name + ", " + s.variable() + ", " + s.also + " or the key " + name + " in the file"
	}
	c.problems = append(c.problems, fmt.Sprintf("%s: missing%s (set %s)", name, why, spellings))
}

func (c *checker) addresses() {
	if c.uses("admin-listen", "admin-token") && !isLoopback(c.cfg.adminListen) && !c.cfg.adminToken.isSet() {
		c.problem("admin-listen", "%s is not loopback, so admin-token must be set", c.cfg.adminListen)
	}
	if c.uses("listen", "admin-listen") && sameAddress(c.cfg.listen, c.cfg.adminListen) {
		c.problem("admin-listen", "%s is taken by listen", c.cfg.adminListen)
	}
	if c.uses("listen", "emulator-listen") && sameAddress(c.cfg.listen, c.cfg.emulatorListen) {
		c.problem("emulator-listen", "%s is taken by listen", c.cfg.emulatorListen)
	}
	if c.uses("admin-listen", "emulator-listen") && sameAddress(c.cfg.adminListen, c.cfg.emulatorListen) {
		c.problem("emulator-listen", "%s is taken by admin-listen", c.cfg.emulatorListen)
	}
}

func (c *checker) log() {
	if c.command == "bridge" || c.command == "edge" {
		if c.uses("nats-url") && c.cfg.natsURL == "" {
			c.missing("nats-url", fmt.Sprintf(": %s is one half of a node, the log is elsewhere", c.command))
		}
	}
	for _, name := range []string{"nats-creds", "nats-nkey-file", "nats-ca-file", "nats-cert-file"} {
		if c.uses(name, "nats-url") && c.isGiven(name) && c.cfg.natsURL == "" {
			c.problem(name, "is for an external server, but nats-url is not set")
		}
	}
	if c.uses("nats-creds", "nats-nkey-file") && c.cfg.natsCreds != "" && c.cfg.natsNkeyFile != "" {
		c.problem("nats-nkey-file", "NATS takes one of nats-creds and nats-nkey-file, got both")
	}
	if c.uses("nats-url") && c.cfg.natsURL != "" {
		for _, name := range []string{"nats-listen", "stream-sync"} {
			if c.uses(name) && c.isGiven(name) {
				c.problem(name, "is for the embedded server, but nats-url is set")
			}
		}
	}
	if c.uses("data-dir") && c.cfg.dataDir == "" {
		c.problem("data-dir", "is empty")
	}
	if c.uses("stream-replicas", "nats-url") && c.cfg.natsURL == "" && c.cfg.streamReplicas > 1 {
		c.problem("stream-replicas", "%d copies need a cluster, but nats-url is not set", c.cfg.streamReplicas)
	}
}

func (c *checker) pubnub() {
	if (c.command == "serve" || c.command == "bridge") && c.uses("pubnub-subscribe-key") && !c.cfg.pubnubSubscribeKey.isSet() {
		c.missing("pubnub-subscribe-key", "")
	}
	if c.command == "publish" && c.uses("pubnub-subscribe-key", "pubnub-publish-key") &&
		c.cfg.pubnubSubscribeKey.isSet() != c.cfg.pubnubPublishKey.isSet() {
		if c.cfg.pubnubSubscribeKey.isSet() {
			c.missing("pubnub-publish-key", ": publishing takes both keys")
		} else {
			c.missing("pubnub-subscribe-key", ": publishing takes both keys")
		}
	}
	if c.uses("pubnub-channels") {
		if len(c.cfg.pubnubChannels) == 0 {
			c.problem("pubnub-channels", "is empty")
		}
		for _, channel := range c.cfg.pubnubChannels {
			if why := badChannel(channel); why != "" {
				c.problem("pubnub-channels", "%q %s", channel, why)
			}
			if c.uses("pubnub-lanes") && c.cfg.pubnubLanes && strings.HasPrefix(channel, "user.") {
				c.problem("pubnub-channels", "%q is a user's, and pubnub-lanes (%s) carries users by channel groups", channel, c.cfg.origins["pubnub-lanes"])
			}
		}
	}
	if c.uses("pubnub-reconcile") && c.cfg.pubnubReconcile > 0 && c.cfg.pubnubReconcile < time.Second {
		c.problem("pubnub-reconcile", "%v is below 1s; 0 is never", c.cfg.pubnubReconcile)
	}
}

// badChannel says what is wrong with a name to subscribe to: PubNub takes at
// most three segments, and a wildcard only as the last of two or three.
func badChannel(name string) string {
	segments := strings.Split(name, ".")
	star := strings.IndexByte(name, '*')
	switch {
	case strings.ContainsAny(name, ",:/\\ \t\r\n"):
		return "has a character that PubNub does not take in a channel name"
	case len(segments) > 3 && star >= 0:
		return "has more than three segments"
	case star >= 0 && (len(segments) < 2 || star != len(name)-1 || segments[len(segments)-1] != "*"):
		return "has a wildcard that is not the last of two or three segments"
	case slices.Contains(segments, "") && star >= 0:
		return "has an empty segment"
	}
	return ""
}

func (c *checker) auth() {
	if !c.uses("auth", "listen") || c.command == "check" {
		return
	}
	if c.cfg.auth == "none" {
		if !isLoopback(c.cfg.listen) {
			c.problem("auth", "none is for loopback only, and listen is %s", c.cfg.listen)
		}
		return
	}
	sources := 0
	for _, set := range []bool{c.cfg.authHMACSecret.isSet(), c.cfg.authPublicKeyFile != "", c.cfg.authJWKSURL != ""} {
		if set {
			sources++
		}
	}
	readable := c.uses("auth-hmac-secret", "auth-public-key-file", "auth-jwks-url")
	switch {
	case readable && sources == 0:
		c.missing("auth-hmac-secret", ": auth is jwt and needs this, auth-public-key-file or auth-jwks-url")
	case sources > 1:
		c.problem("auth", "jwt takes one of auth-hmac-secret, auth-public-key-file and auth-jwks-url, got %d", sources)
	}
}

func (c *checker) tls() {
	c.pair("tls-cert-file", "tls-key-file")
	c.pair("admin-tls-cert-file", "admin-tls-key-file")
	c.pair("nats-cert-file", "nats-key-file")
	if !c.uses("tls-cert-file", "tls-key-file", "tls-acme-hosts") {
		return
	}
	if len(c.cfg.tlsACMEHosts) > 0 && c.cfg.tlsCertFile != "" {
		c.problem("tls-acme-hosts", "a certificate comes from one place, and tls-cert-file is set")
	}
}

// pair complains about a certificate without its key, and the other way round.
func (c *checker) pair(cert, key string) {
	if !c.uses(cert, key) {
		return
	}
	switch {
	case c.isGiven(cert) && !c.isGiven(key):
		c.missing(key, fmt.Sprintf(": %s is set", cert))
	case c.isGiven(key) && !c.isGiven(cert):
		c.missing(cert, fmt.Sprintf(": %s is set", key))
	}
}

// files looks at who may read the files that hold secrets; those of settings
// that are secrets themselves have been looked at when they were read.
func (c *checker) files() {
	for name, path := range map[string]string{
		"tls-key-file": c.cfg.tlsKeyFile, "admin-tls-key-file": c.cfg.adminTLSKeyFile,
		"nats-key-file": c.cfg.natsKeyFile, "nats-creds": c.cfg.natsCreds, "nats-nkey-file": c.cfg.natsNkeyFile,
	} {
		if path == "" || !c.uses(name) {
			continue
		}
		if strings.HasPrefix(name, "nats-") && c.cfg.natsURL == "" {
			continue // has been complained about, and nobody reads it
		}
		doubt, err := checkSecretFile(path)
		if err != nil {
			c.problem(name, "%v", err)
		} else if doubt != "" {
			c.cfg.doubts = append(c.cfg.doubts, fmt.Sprintf("%s: %s (%s)", name, doubt, c.cfg.origins[name]))
		}
	}
	slices.Sort(c.cfg.doubts)
}

func (c *checker) times() {
	if c.uses("ping-interval", "idle-timeout") && c.cfg.idleTimeout <= c.cfg.pingInterval {
		c.problem("idle-timeout", "%v is not above ping-interval %v: devices would be closed before they were asked", c.cfg.idleTimeout, c.cfg.pingInterval)
	}
}

func (c *checker) tools() {
	switch c.command {
	case "tail":
		if c.uses("user", "token") && c.cfg.user == "" && !c.cfg.token.isSet() {
			c.missing("user", ", and no token either")
		}
	case "log", "token":
		if c.uses("user") && c.cfg.user == "" {
			c.missing("user", "")
		}
	}
	if c.command == "token" && c.uses("auth-hmac-secret") && !c.cfg.authHMACSecret.isSet() {
		c.missing("auth-hmac-secret", "")
	}
	if (c.command == "log" || c.command == "tail") && c.cfg.sinceAge > 0 {
		c.problem("since", "%v is no cursor; durations are for dead list", c.cfg.sinceAge)
	}
	if c.command == "dead list" && c.cfg.since != "" {
		c.problem("since", "%s is for events; say how long ago, such as 24h", c.cfg.since)
	}
	if c.command == "log" && c.cfg.since == "latest" {
		c.problem("since", "latest leaves nothing to show")
	}
}

// isLoopback tells whether only this machine reaches a listener on address.
func isLoopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}

// sameAddress tells whether two listeners would want the same port.
func sameAddress(a, b string) bool {
	return a == b && !strings.HasSuffix(a, ":0")
}
