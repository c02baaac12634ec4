package main

import (
	"cmp"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/acme"
	"golang.org/x/time/rate"
)

// config is every setting, read. Which of them a command uses is in the table.
type config struct {
	listen, adminListen, emulatorListen string
	adminToken                          secret
	adminTLSCertFile, adminTLSKeyFile   string

	dataDir, natsURL, natsCreds, natsListen string
	natsCAFile, natsCertFile, natsKeyFile   string
	natsNkeyFile                            string
	streamShards, streamReplicas            int
	streamMaxAge                            time.Duration
	streamMaxBytes, dataReserve             int64
	streamSync                              string

	pubnubSubscribeKey, pubnubPublishKey, pubnubToken secret
	pubnubOrigin                                      string
	pubnubTLS, pubnubLanes, pubnubTrustTraces         bool
	pubnubChannels                                    []string
	pubnubReconcile                                   time.Duration // 0 is never
	pubnubHistoryRate                                 rate.Limit

	auth                                string
	authHMACSecret                      secret
	authPublicKeyFile, authJWKSURL      string
	authIssuer, authAudience            string
	allowedOrigins                      []string
	tlsCertFile, tlsKeyFile             string
	tlsACMEHosts                        []string
	tlsACMECache, tlsACMEDirectory      string
	trustedProxies                      []netip.Prefix
	node                                string
	maxConnections, maxPerUser          int
	maxHandshakes                       rate.Limit
	maxMessageBytes                     int64
	messageRate                         rate.Limit
	pingInterval, idleTimeout, slowTime time.Duration
	tailBytes                           int64
	tailPerUser                         int
	tailLinger                          time.Duration

	idFormat            string
	maxDrift, drain     time.Duration
	logLevel, logFormat string

	user, device, since, url, adminURL string
	sinceAge                           time.Duration // since, where that is a duration
	reason                             string
	token                              secret
	json, echo, print, revoke          bool
	expiresIn                          time.Duration

	connections, devicesPerUser, missed, live, pid, dialing int
	rate, publishRate                                       rate.Limit
	length, settle, pause                                   time.Duration // length is called duration

	// file is the configuration file, where a flag names it.
	file string
	// origins says where each setting came from, and shown what it may be
	// printed as, by its name. What could not be read is in neither.
	origins map[string]source
	shown   map[string]string
	// secretFiles is the file from which a secret was read, by its setting.
	secretFiles map[string]string
	// doubts are what is no mistake but should not stay.
	doubts []string
}

// setting is one row of the table: one name in three spellings.
type setting struct {
	name   string
	value  string // what kind of value, for the help text
	def    string // the default as text; "" is none
	shown  string // the default for the help text, where it is not def
	help   string
	helpIn map[string]string // by command: in the place of help
	also   string            // another environment variable, which REPRISE_… beats
	used   []string          // commands
	hidden bool              // a secret: never printed, and can be read from a file
	parse  func(*config) parser
}

// about is the help text for a command.
func (s *setting) about(command string) string { return cmp.Or(s.helpIn[command], s.help) }

// variable is the setting's name in the environment.
func (s *setting) variable() string { return variableOf(s.name) }

func variableOf(name string) string {
	return "REPRISE_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
}

// isSwitch tells whether the flag may stand without a value.
func (s *setting) isSwitch() bool { return s.value == "" }

// Sets of commands that use the same settings.
var (
	forNodes   = []string{"dev", "serve", "bridge", "edge"}
	forLogs    = []string{"dev", "serve", "bridge", "edge", "emulator"}
	forEdges   = []string{"dev", "serve", "edge"}
	forBridges = []string{"dev", "serve", "bridge"}
	forAdmins  = []string{"log", "dead list", "dead show", "dead retry", "user show", "user disconnect", "user forget"}
	forPubNub  = []string{"serve", "bridge", "publish", "bench idle", "bench relay", "bench storm"}
	forBenches = []string{"bench idle", "bench relay", "bench storm"}
)

// checked adds check, which reads what a node reads.
func checked(commands ...[]string) []string {
	all := []string{"check"}
	for _, c := range commands {
		all = append(all, c...)
	}
	return all
}

// table is every setting, in the order of the help texts.
var table = []setting{
	{name: "listen", value: "ADDRESS", def: "127.0.0.1:8080", used: checked(forEdges),
		help:  "devices connect here, at /ws; port 0 takes a free one",
		parse: func(c *config) parser { return address(&c.listen) }},
	{name: "admin-listen", value: "ADDRESS", def: "127.0.0.1:9090", used: checked(forNodes),
		help:  "the operator's page, /healthz /readyz /metrics /v1/… /debug/pprof",
		parse: func(c *config) parser { return address(&c.adminListen) }},
	{name: "admin-token", value: "SECRET", hidden: true, used: append(append(checked(forNodes), forAdmins...), forBenches...),
		help:  "bearer token of the admin listener; a must off loopback",
		parse: func(c *config) parser { return secretText(&c.adminToken) }},
	{name: "admin-tls-cert-file", value: "FILE", used: checked(forNodes),
		help:  "certificate chain of the admin listener, PEM; read again when it changes",
		parse: func(c *config) parser { return anyText(&c.adminTLSCertFile) }},
	{name: "admin-tls-key-file", value: "FILE", used: checked(forNodes),
		help:  "its key, PEM",
		parse: func(c *config) parser { return anyText(&c.adminTLSKeyFile) }},
	{name: "emulator-listen", value: "ADDRESS", def: "127.0.0.1:8090", used: []string{"dev", "emulator"},
		help:  "the PubNub emulator",
		parse: func(c *config) parser { return address(&c.emulatorListen) }},

	{name: "data-dir", value: "DIRECTORY", def: "./reprise-data", used: checked([]string{"dev", "serve"}),
		help:  "the embedded JetStream's files; one process at a time",
		parse: func(c *config) parser { return anyText(&c.dataDir) }},
	{name: "data-reserve", value: "SIZE", def: "64MiB", used: checked([]string{"dev", "serve"}),
		help:  "free room on the disk of data-dir below which nothing more is stored",
		parse: func(c *config) parser { return size(&c.dataReserve, 1<<20) }},
	{name: "nats-url", value: "URLS", shown: "embedded", used: checked([]string{"serve", "bridge", "edge"}),
		help:  "external NATS server or cluster, comma separated",
		parse: func(c *config) parser { return natsURLs(&c.natsURL) }},
	{name: "nats-creds", value: "FILE", used: checked([]string{"serve", "bridge", "edge"}),
		help:  "NATS credentials file",
		parse: func(c *config) parser { return anyText(&c.natsCreds) }},
	{name: "nats-nkey-file", value: "FILE", used: checked([]string{"serve", "bridge", "edge"}),
		help:  "NATS nkey seed file, in place of credentials",
		parse: func(c *config) parser { return anyText(&c.natsNkeyFile) }},
	{name: "nats-ca-file", value: "FILE", shown: "the system's", used: checked([]string{"serve", "bridge", "edge"}),
		help:  "authorities of the NATS servers' certificates, PEM; the connection is then TLS",
		parse: func(c *config) parser { return anyText(&c.natsCAFile) }},
	{name: "nats-cert-file", value: "FILE", used: checked([]string{"serve", "bridge", "edge"}),
		help:  "certificate chain to show to NATS, PEM",
		parse: func(c *config) parser { return anyText(&c.natsCertFile) }},
	{name: "nats-key-file", value: "FILE", used: checked([]string{"serve", "bridge", "edge"}),
		help:  "its key, PEM",
		parse: func(c *config) parser { return anyText(&c.natsKeyFile) }},
	{name: "nats-listen", value: "ADDRESS", used: checked([]string{"dev", "serve"}),
		help:  "the embedded server's client port, for the nats command line",
		parse: func(c *config) parser { return optionalAddress(&c.natsListen) }},
	{name: "stream-shards", value: "N", def: "0", shown: "1, on a cluster 8", used: checked(forNodes),
		help:  "number of shards of a new log; fixed from then on",
		parse: func(c *config) parser { return integer(&c.streamShards, 0, 1024) }},
	{name: "stream-replicas", value: "N", def: "0", shown: "1, on a cluster 3", used: checked(forNodes),
		help:  "copies of the log",
		parse: func(c *config) parser { return integer(&c.streamReplicas, 0, 5) }},
	{name: "stream-max-age", value: "DURATION", def: "168h", used: checked(forNodes),
		help:  "how long events are kept",
		parse: func(c *config) parser { return duration(&c.streamMaxAge, time.Second) }},
	{name: "stream-max-bytes", value: "SIZE", def: "0", shown: "none", used: checked(forNodes),
		help:  "bound of each shard; the oldest events go first",
		parse: func(c *config) parser { return size(&c.streamMaxBytes, 0) }},
	{name: "stream-sync", value: "DURATION", def: "1s", used: checked([]string{"dev", "serve"}),
		help:  "how often the embedded server calls fsync, or always: before each acknowledgement",
		parse: func(c *config) parser { return syncInterval(&c.streamSync) }},

	{name: "pubnub-subscribe-key", value: "SECRET", hidden: true, also: "PUBNUB_SUBSCRIBE_KEY", used: checked(forPubNub),
		help:  "PubNub's subscribe key",
		parse: func(c *config) parser { return secretText(&c.pubnubSubscribeKey) }},
	{name: "pubnub-publish-key", value: "SECRET", hidden: true, also: "PUBNUB_PUBLISH_KEY", used: checked(forPubNub, []string{"edge"}),
		help:  "PubNub's publish key; without it devices cannot send",
		parse: func(c *config) parser { return secretText(&c.pubnubPublishKey) }},
	{name: "pubnub-token", value: "SECRET", hidden: true, used: checked(forPubNub),
		help:  "PubNub access manager token; its file is read again when it changes",
		parse: func(c *config) parser { return secretText(&c.pubnubToken) }},
	{name: "pubnub-origin", value: "HOST:PORT", def: "ps.pndsn.com", used: checked(forPubNub),
		help:  "where PubNub is",
		parse: func(c *config) parser { return origin(&c.pubnubOrigin) }},
	{name: "pubnub-tls", def: "true", used: checked(forPubNub),
		help:  "speak TLS to PubNub",
		parse: func(c *config) parser { return boolean(&c.pubnubTLS) }},
	{name: "pubnub-channels", value: "LIST", def: "user.*," + announcementsChannel, used: checked(forBridges),
		help:  "channels that the bridge subscribes to",
		parse: func(c *config) parser { return list(&c.pubnubChannels) }},
	{name: "pubnub-lanes", def: "false", used: checked(forBridges),
		help:  "carry users by channel groups; unless it is set, pubnub-channels is then " + announcementsChannel,
		parse: func(c *config) parser { return boolean(&c.pubnubLanes) }},
	{name: "pubnub-reconcile", value: "DURATION", def: "1h", used: checked(forBridges),
		help:  "how often PubNub's history of the last two hours is compared with the log; 0 is never",
		parse: func(c *config) parser { return duration(&c.pubnubReconcile, 0) }},
	{name: "pubnub-history-rate", value: "RATE", def: "20/s", used: checked(forBridges),
		help:  "most requests for PubNub's history",
		parse: func(c *config) parser { return frequency(&c.pubnubHistoryRate, false) }},

	{name: "pubnub-trust-traces", def: "false", used: checked(forBridges),
		help:  "let publishers decide which events are traced, by the sampled flag of their traceparent",
		parse: func(c *config) parser { return boolean(&c.pubnubTrustTraces) }},

	{name: "auth", value: "jwt|none", def: "jwt", used: checked(forEdges),
		help:  "how devices say who they are; none only on loopback",
		parse: func(c *config) parser { return oneOf(&c.auth, "jwt", "none") }},
	{name: "auth-hmac-secret", value: "SECRET", hidden: true, used: append(append(checked(forEdges), "token"), forBenches...),
		help:  "shared secret of the tokens: HS256, HS384, HS512",
		parse: func(c *config) parser { return secretText(&c.authHMACSecret) }},
	{name: "auth-public-key-file", value: "FILE", used: checked(forEdges),
		help:  "public key of the tokens, PEM: RSA, ECDSA or Ed25519",
		parse: func(c *config) parser { return anyText(&c.authPublicKeyFile) }},
	{name: "auth-jwks-url", value: "URL", used: checked(forEdges),
		help:  "public keys of the tokens, as a JSON Web Key Set",
		parse: func(c *config) parser { return webURL(&c.authJWKSURL, "http", "https") }},
	{name: "auth-issuer", value: "TEXT", used: append(append(checked(forEdges), "token"), forBenches...),
		help:  "the iss that a token must have",
		parse: func(c *config) parser { return anyText(&c.authIssuer) }},
	{name: "auth-audience", value: "TEXT", used: append(append(checked(forEdges), "token"), forBenches...),
		help:  "an aud that a token must have",
		parse: func(c *config) parser { return anyText(&c.authAudience) }},
	{name: "allowed-origins", value: "LIST", shown: "same origin", used: checked(forEdges),
		help:  "origins of the web pages that may connect, such as https://app.example",
		parse: func(c *config) parser { return webOrigins(&c.allowedOrigins) }},
	{name: "tls-cert-file", value: "FILE", used: checked(forEdges),
		help:  "certificate chain for devices, PEM; read again when it changes",
		parse: func(c *config) parser { return anyText(&c.tlsCertFile) }},
	{name: "tls-key-file", value: "FILE", used: checked(forEdges),
		help:  "its key, PEM",
		parse: func(c *config) parser { return anyText(&c.tlsKeyFile) }},
	{name: "tls-acme-hosts", value: "LIST", used: checked(forEdges),
		help:  "host names to get certificates for by ACME; listen must be reachable at port 443 of them",
		parse: func(c *config) parser { return hostNames(&c.tlsACMEHosts) }},
	{name: "tls-acme-cache", value: "DIRECTORY", shown: "reprise/acme in the user's cache", used: checked(forEdges),
		help:  "where these certificates and their keys lie",
		parse: func(c *config) parser { return anyText(&c.tlsACMECache) }},
	{name: "tls-acme-directory", value: "URL", def: acme.LetsEncryptURL, used: checked(forEdges),
		help:  "the authority that issues them",
		parse: func(c *config) parser { return webURL(&c.tlsACMEDirectory, "https") }},
	{name: "trusted-proxies", value: "LIST", used: checked(forEdges),
		help:  "networks whose X-Forwarded-For counts",
		parse: func(c *config) parser { return networks(&c.trustedProxies) }},
	{name: "node", value: "NAME", shown: "host name, made safe", used: checked(forNodes),
		help:  "names the edge's durable consumers",
		parse: func(c *config) parser { return anyText(&c.node) }},
	{name: "max-connections", value: "N", def: "0", shown: "0 (no limit)", used: checked(forEdges),
		help:  "connections of this edge",
		parse: func(c *config) parser { return integer(&c.maxConnections, 0, 1<<30) }},
	{name: "max-connections-per-user", value: "N", def: "20", used: checked(forEdges),
		help:  "connections of one user on this edge",
		parse: func(c *config) parser { return integer(&c.maxPerUser, 1, 1<<20) }},
	{name: "max-handshakes-per-address", value: "RATE", def: "50/s", used: checked(forEdges),
		help:  "handshakes from one address; 0 is no limit, the default leaves loopback alone",
		parse: func(c *config) parser { return frequency(&c.maxHandshakes, true) }},
	{name: "max-message-bytes", value: "SIZE", def: "32768", used: checked(forEdges),
		help:  "largest frame that a device may send",
		parse: func(c *config) parser { return size(&c.maxMessageBytes, 64) }},
	{name: "message-rate", value: "RATE", def: "20/s", used: checked(forEdges),
		help:  "frames that a device may send, after a burst of 200",
		parse: func(c *config) parser { return frequency(&c.messageRate, false) }},
	{name: "ping-interval", value: "DURATION", def: "30s", used: checked(forEdges),
		help:  "how often a silent device is pinged",
		parse: func(c *config) parser { return duration(&c.pingInterval, 10*time.Millisecond) }},
	{name: "idle-timeout", value: "DURATION", def: "60s", used: checked(forEdges),
		help:  "a device from which nothing came for so long is closed (4001)",
		parse: func(c *config) parser { return duration(&c.idleTimeout, 20*time.Millisecond) }},
	{name: "slow-timeout", value: "DURATION", def: "30s", used: checked(forEdges),
		help:  "a device that takes no byte for so long is closed (4002)",
		parse: func(c *config) parser { return duration(&c.slowTime, 10*time.Millisecond) }},
	{name: "tail-bytes", value: "SIZE", def: "256MiB", used: checked(forEdges),
		help:  "memory for recent events, over all users",
		parse: func(c *config) parser { return size(&c.tailBytes, 1<<16) }},
	{name: "tail-per-user", value: "N", def: "256", used: checked(forEdges),
		help:  "recent events of one user in memory",
		parse: func(c *config) parser { return integer(&c.tailPerUser, 1, 1<<20) }},
	{name: "tail-linger", value: "DURATION", def: "5m", used: checked(forEdges),
		help:  "how long they stay after the user's last connection",
		parse: func(c *config) parser { return duration(&c.tailLinger, time.Millisecond) }},

	{name: "id-format", value: "uuid|opaque", def: "uuid", used: checked(forNodes),
		help:  "what content_id and target_device_id look like",
		parse: func(c *config) parser { return oneOf(&c.idFormat, "uuid", "opaque") }},
	{name: "max-drift", value: "DURATION", def: "60s", used: checked(forBridges),
		help:  "how far ahead of the wall clock another clock may be; the log's own stamps always count",
		parse: func(c *config) parser { return duration(&c.maxDrift, time.Millisecond) }},
	{name: "drain", value: "DURATION", def: "20s", used: checked(forNodes),
		help:  "over how long connections are let go at the end",
		parse: func(c *config) parser { return duration(&c.drain, 0) }},

	{name: "user", value: "UUID", used: []string{"tail", "log", "token"},
		help:  "the user",
		parse: func(c *config) parser { return identifier(&c.user) }},
	{name: "device", value: "UUID", shown: "a random one", used: []string{"tail", "token"},
		help: "the device", helpIn: map[string]string{"token": "the device; without one the token is good for every device"},
		parse: func(c *config) parser { return identifier(&c.device) }},
	{name: "since", value: "CURSOR", used: []string{"tail", "log", "dead list"},
		help: "show what came after this cursor (an hlc), or earliest, or latest", helpIn: map[string]string{"dead list": "show what came since then: how long ago, such as 24h"},
		parse: func(c *config) parser { return cursorOrAge(&c.since, &c.sinceAge) }},
	{name: "reason", value: "REASON", used: []string{"dead list", "dead retry"},
		help:  "only dead letters with this reason, such as bad_id",
		parse: func(c *config) parser { return oneOf(&c.reason, deadReasons...) }},
	{name: "revoke", def: "false", used: []string{"user disconnect"},
		help:  "refuse, from now on, tokens that were issued before now",
		parse: func(c *config) parser { return boolean(&c.revoke) }},
	{name: "echo", def: "false", used: []string{"tail"},
		help:  "show also what comes from this device itself",
		parse: func(c *config) parser { return boolean(&c.echo) }},
	{name: "url", value: "URL", def: "ws://127.0.0.1:8080/ws", used: append([]string{"tail"}, forBenches...),
		help:  "the edge",
		parse: func(c *config) parser { return webURL(&c.url, "ws", "wss", "http", "https") }},
	{name: "token", value: "SECRET", hidden: true, used: []string{"tail"},
		help:  "the device's JWT",
		parse: func(c *config) parser { return secretText(&c.token) }},
	{name: "admin-url", value: "URL", def: "http://127.0.0.1:9090", used: append(forAdmins, forBenches...),
		help:  "the admin listener",
		parse: func(c *config) parser { return webURL(&c.adminURL, "http", "https") }},
	{name: "json", def: "false", used: append([]string{"tail", "log", "dead list", "dead show", "user show", "user disconnect", "user forget"}, forBenches...),
		help:  "print frames, dead letters, answers or figures as JSON, one a line",
		parse: func(c *config) parser { return boolean(&c.json) }},
	{name: "expires-in", value: "DURATION", def: "1h", used: []string{"token"},
		help:  "how long the token is good",
		parse: func(c *config) parser { return duration(&c.expiresIn, time.Second) }},
	{name: "connections", value: "N", def: "1000", used: forBenches,
		help:  "how many devices are connected, or come back",
		parse: func(c *config) parser { return integer(&c.connections, 1, 1_000_000) }},
	{name: "devices-per-user", value: "N", def: "2", used: []string{"bench relay"},
		help:  "how many of them each user has",
		parse: func(c *config) parser { return integer(&c.devicesPerUser, 1, 1000) }},
	{name: "missed", value: "N", def: "20", used: []string{"bench storm"},
		help:  "how many events each device missed",
		parse: func(c *config) parser { return integer(&c.missed, 0, 100_000) }},
	{name: "live", value: "N", def: "100", used: []string{"bench storm"},
		help:  "how many devices of other users stay connected meanwhile",
		parse: func(c *config) parser { return integer(&c.live, 1, 100_000) }},
	{name: "rate", value: "RATE", def: "500/s", used: []string{"bench relay", "bench storm"},
		help:  "how many events are published; in a storm, to those who stay",
		parse: func(c *config) parser { return frequency(&c.rate, false) }},
	{name: "publish-rate", value: "RATE", def: "2000/s", used: []string{"bench idle", "bench storm"},
		help:  "how fast everything else is published; a wildcard over a distant PubNub carries some 1000/s",
		parse: func(c *config) parser { return frequency(&c.publishRate, false) }},
	{name: "duration", value: "DURATION", def: "10s", used: []string{"bench relay"},
		help:  "for how long events are published",
		parse: func(c *config) parser { return duration(&c.length, time.Millisecond) }},
	{name: "settle", value: "DURATION", def: "20s", used: []string{"bench idle"},
		help:  "how long memory may settle, and then as long again for measuring the CPU",
		parse: func(c *config) parser { return duration(&c.settle, time.Millisecond) }},
	{name: "pause", value: "DURATION", def: "0s", used: []string{"bench storm"},
		help:  "how long to wait before all come back, say for the edge to be restarted",
		parse: func(c *config) parser { return duration(&c.pause, 0) }},
	{name: "pid", value: "N", def: "0", shown: "none", used: forBenches,
		help:  "the process whose CPU time and memory are measured (Linux)",
		parse: func(c *config) parser { return integer(&c.pid, 0, 1<<22) }},
	{name: "dialing", value: "N", def: "256", used: forBenches,
		help:  "how many handshakes are under way at a time",
		parse: func(c *config) parser { return integer(&c.dialing, 1, 10_000) }},
	{name: "print", def: "false", used: []string{"check"},
		help:  "show the effective settings and where each came from",
		parse: func(c *config) parser { return boolean(&c.print) }},

	{name: "log-level", value: "LEVEL", def: "info", used: checked(forLogs),
		help:  "debug, info, warn or error; PUT /v1/log-level changes it while a node runs",
		parse: func(c *config) parser { return oneOf(&c.logLevel, logLevels...) }},
	{name: "log-format", value: "text|json", def: "", shown: "text on a terminal, else json", used: checked(forLogs),
		help:  "how log lines look",
		parse: func(c *config) parser { return oneOf(&c.logFormat, "", "text", "json") }},
}

// logLevels are the words of log-level.
var logLevels = []string{"debug", "info", "warn", "error"}

// announcementsChannel is what the bridge subscribes to besides users.
const announcementsChannel = "global.announcements"

// devDefaults are the defaults that differ in dev.
func devDefaults() map[string]string {
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = os.TempDir()
	}
	return map[string]string{
		"data-dir":                   filepath.Join(cache, "reprise", "dev"),
		"auth":                       "none",
		"drain":                      "1s",
		"max-handshakes-per-address": "0",
	}
}

// lookup finds a setting by its name.
func lookup(name string) *setting {
	for i := range table {
		if table[i].name == name {
			return &table[i]
		}
	}
	return nil
}

// usedBy returns the settings of a command, in the order of the table.
func usedBy(command string) []*setting {
	var found []*setting
	for i := range table {
		if slices.Contains(table[i].used, command) {
			found = append(found, &table[i])
		}
	}
	return found
}

// shownDefault is the default for the help text of a command.
func (s *setting) shownDefault(defaults map[string]string) string {
	if d, ok := defaults[s.name]; ok {
		return d
	}
	return cmp.Or(s.shown, s.def, "none")
}

// credentials are the part of a URL that must not be printed.
var credentials = regexp.MustCompile(`[^/@,]+@`)

// printable is text as it may be shown: secrets and the credentials within URLs
// are not.
func (s *setting) printable(text string) string {
	if s.hidden && text != "" {
		return redacted
	}
	return credentials.ReplaceAllString(text, redacted+"@")
}
