package main

import (
	"context"
)

// A user and two devices for examples and for reprise dev to suggest.
const (
	exampleUser  = "11111111-1111-4111-8111-111111111111"
	exampleTV    = "aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa"
	examplePhone = "bbbbbbbb-bbbb-4bbb-8bbb-bbbbbbbbbbbb"
	exampleItem  = "cccccccc-cccc-4ccc-8ccc-cccccccccccc"
)

// allCommands is every command, in the order of the help text.
func allCommands() []*command {
	return []*command{
		{
			name:    "dev",
			summary: "everything in one process on this machine, for trying and developing",
			about: `
Starts an embedded NATS server with JetStream on disk, an emulator of PubNub, the
bridge and an edge without authentication, and prints what to try next. A page at
the address of listen, http://127.0.0.1:8080/ by itself, plays several devices of one
user and shows the log. What was published stays in data-dir; delete that directory to
begin anew.`,
			examples: []string{
				"reprise dev",
				"reprise dev --listen 127.0.0.1:0 --data-dir ./relay-data",
			},
			exits:    nodeExits,
			defaults: devDefaults(),
			run:      runDev,
		},
		{
			name:    "serve",
			summary: "one production node: bridge and edge",
			about: `
Devices connect at listen, health, metrics and the operator's page are at
admin-listen. Without nats-url the log is embedded in this process and lies in
data-dir. The first SIGINT or SIGTERM lets devices go over the time drain and ends,
a second one ends at once.`,
			examples: []string{
				"reprise serve --pubnub-subscribe-key sub-c-… --auth-hmac-secret-file jwt.key",
				"REPRISE_CONFIG=/etc/reprise.yaml reprise serve",
			},
			exits: nodeExits,
			run:   func(ctx context.Context, c *call) error { return runNode(ctx, c, roles{bridge: true, edge: true}) },
		},
		{
			name:    "bridge",
			summary: "the half that carries PubNub into the log, against an external NATS",
			about: `
Stores what PubNub has in the log, and publishes what devices sent. Bridges of the
same NATS share the log's shards: one that dies is replaced by the others within
seconds. No device connects to it.`,
			examples: []string{
				"reprise bridge --nats-url nats://127.0.0.1:4222 --pubnub-subscribe-key sub-c-…",
				"reprise bridge --config /etc/reprise.yaml --node bridge-2",
			},
			exits: nodeExits,
			run:   func(ctx context.Context, c *call) error { return runNode(ctx, c, roles{bridge: true}) },
		},
		{
			name:    "edge",
			summary: "the half that serves the log to devices, against an external NATS",
			about: `
Devices connect at listen; as many edges as you like serve one log. Each needs a node
name of its own. It does not talk to PubNub, but wants to know whether there is a
publish key: without one it takes no updates from devices.`,
			examples: []string{
				"reprise edge --nats-url nats://127.0.0.1:4222 --auth-jwks-url https://login.example/keys",
				"reprise edge --config /etc/reprise.yaml --node edge-2",
			},
			exits: nodeExits,
			run:   func(ctx context.Context, c *call) error { return runNode(ctx, c, roles{edge: true}) },
		},
		{
			name:    "emulator",
			summary: "the PubNub emulator alone, with the keys demo and demo",
			about: `
Everything that it knows is in memory and gone when it ends.`,
			examples: []string{"reprise emulator", "reprise emulator --emulator-listen 127.0.0.1:0"},
			exits:    nodeExits,
			run:      runEmulator,
		},
		{
			name:    "check",
			summary: "read the configuration, reach NATS, PubNub and the keys, say what is wrong",
			about: `
Reads what a node would read, and changes nothing. With --print it shows the
settings, secrets hidden, and where each came from, and reaches for nothing.`,
			examples: []string{"reprise check --config /etc/reprise.yaml", "reprise check --print --config /etc/reprise.yaml"},
			exits:    exits{"all is in order", "something cannot be reached", misuse},
			run:      runCheck,
		},
		{
			name:    "tail",
			summary: "be a device: print frames as they come, resume after a cut",
			about: `
Prints a line for each frame: when it was stamped, its type, its hlc and the rest.
When the connection is lost it is made again, and what was missed comes first. At
the end the command to go on with is printed.`,
			examples: []string{
				"reprise tail --user " + exampleUser,
				"reprise tail --user " + exampleUser + " --since earliest --json",
				"reprise tail --url wss://relay.example/ws --token-file token.jwt",
			},
			exits: exits{"ended by Ctrl-C", "the edge will not have this device, or its token", misuse},
			run:   runTail,
		},
		{
			name: "publish", args: "CHANNEL JSON", operands: 2,
			summary: "publish to PubNub; without keys, to the local emulator",
			about: `
Without keys the emulator of reprise dev is published to, at 127.0.0.1:8090 unless
pubnub-origin says otherwise. Prints the timetoken.`,
			examples: []string{
				"reprise publish user." + exampleUser + ".notifications '" + `{"text":"hello"}` + "'",
			},
			exits: toolExits,
			run:   runPublish,
		},
		{
			name:    "log",
			summary: "read a user's events from the log, through the admin listener",
			about: `
Prints what is stored of the user, oldest first, a line for each event, and ends. It
asks an edge, since an embedded log belongs to its process.`,
			examples: []string{"reprise log --user " + exampleUser, "reprise log --user " + exampleUser + " --since 019a3f2c8e410003 --json"},
			exits:    toolExits,
			run:      runLog,
		},
		{
			name:    "dead list",
			summary: "the dead letters: what broke the rules, oldest first",
			about: `
A message that breaks the rules is kept for 14 days with its reason, and named by
a number. The admin listener of any node tells. The reasons are not_json
not_object unknown_type wrong_channel bad_channel bad_id bad_number bad_timestamp
bad_value missing_field too_large too_deep.`,
			examples: []string{"reprise dead list", "reprise dead list --reason bad_id --since 24h --json"},
			exits:    toolExits,
			run:      runDeadList,
		},
		{
			name: "dead show", args: "N", operands: 1,
			summary: "one dead letter with its payload",
			about: `
The payload is printed as it is where that is safe, and quoted where not.`,
			examples: []string{"reprise dead show 17", "reprise dead show 17 --json"},
			exits:    toolExits,
			check:    checkDeadNumbers,
			run:      runDeadShow,
		},
		{
			name: "dead retry", args: "[N …]", operands: -1,
			summary: "judge dead letters anew, by number or by reason",
			about: `
For after a rule was changed, such as id-format: what is in order now goes to the
end of its user's log, and is no dead letter any more. What is refused again stays
one. A bridge has to be running.`,
			examples: []string{"reprise dead retry 17 18", "reprise dead retry --reason bad_id"},
			exits:    exits{"all were taken", "it failed, or one was refused again", misuse},
			check:    checkDeadRetry,
			run:      runDeadRetry,
		},
		{
			name: "user show", args: "U", operands: 1,
			summary: "connections and positions of a user, and what is kept",
			about: `
Asks all edges, through the admin listener of any node.`,
			examples: []string{"reprise user show " + exampleUser},
			exits:    toolExits,
			check:    checkUser,
			run:      runUserShow,
		},
		{
			name: "user disconnect", args: "U", operands: 1,
			summary: "end the connections of a user, at every edge",
			about: `
The devices come back by themselves. With --revoke they need a token that was
issued later: those from before are refused for 30 days. Edges that are out of
reach of NATS hear of it when they are back.`,
			examples: []string{"reprise user disconnect " + exampleUser, "reprise user disconnect --revoke " + exampleUser},
			exits:    exits{"none of those connections is left", "it failed, or some are there still", misuse},
			check:    checkUser,
			run:      runUserDisconnect,
		},
		{
			name: "user forget", args: "U", operands: 1,
			summary: "erase everything kept of a user",
			about: `
Ends the user's connections, revokes the tokens that were issued before now, and
erases events, the folded state, cursors, presence, updates in the outbox, dead
letters and the registration; their bytes are overwritten. What PubNub keeps in its
history is not touched, and not taken from there again. It cannot be undone. A bridge
has to be running.`,
			examples: []string{"reprise user forget " + exampleUser},
			exits:    exits{"nothing is left", "it failed, or connections are there still", misuse},
			check:    checkUser,
			run:      runUserForget,
		},
		{
			name:    "token",
			summary: "a signed token (HS256) for trying things",
			about: `
Prints a JWT for the user, signed with auth-hmac-secret; with --device it is good for
that device only.`,
			examples: []string{"reprise token --user " + exampleUser + " --auth-hmac-secret-file jwt.key --expires-in 10m"},
			exits:    toolExits,
			run:      runToken,
		},
		{
			name:    "bench idle",
			summary: "what connections cost of which nothing comes",
			about: benchAbout + `

Connects devices, each of another user, has a little happen on each, waits until
memory has settled, and prints resident memory and CPU time for each connection.
The kernel's share is printed apart: it is in no process's resident memory.`,
			examples: []string{"reprise bench idle --connections 19000 --pid $(pidof reprise)"},
			exits:    benchExits,
			run:      func(ctx context.Context, c *call) error { return runBench(ctx, c, benchIdle) },
		},
		{
			name:    "bench relay",
			summary: "the way of events through PubNub to connected devices",
			about: benchAbout + `

Publishes at a pace, to one user after the other, and prints how long events took
from before they were published until a device had them, and CPU time for each
delivery.`,
			examples: []string{
				"reprise bench relay --connections 2000 --devices-per-user 2 --rate 2000/s --duration 30s --pid $(pidof reprise)",
				"reprise bench relay --url wss://relay.example/ws --pubnub-subscribe-key sub-c-… --pubnub-publish-key pub-c-… --auth-hmac-secret-file jwt.key",
			},
			exits: benchExits,
			run:   func(ctx context.Context, c *call) error { return runBench(ctx, c, benchRelay) },
		},
		{
			name:    "bench storm",
			summary: "all devices come back at once, and have missed something",
			about: benchAbout + `

Connects devices, cuts them, publishes what they miss, and has all come back with
their cursors, as fast as dialing lets them. Meanwhile others, who stay connected,
are sent events; how late those come is printed for before and during the storm.`,
			examples: []string{
				"reprise bench storm --connections 10000 --missed 20 --pid $(pidof reprise)",
				"reprise bench storm --connections 10000 --pause 10s",
			},
			exits: benchExits,
			run:   func(ctx context.Context, c *call) error { return runBench(ctx, c, benchStorm) },
		},
		{
			name: "completion", args: "bash|zsh|fish", operands: 1,
			summary: "a script that completes commands and flags in a shell",
			about: `
Completion of this session is had by the first example; put that line into the
shell's start-up file for all.`,
			examples: []string{
				"source <(reprise completion bash)",
				"source <(reprise completion zsh)",
				"reprise completion fish > ~/.config/fish/completions/reprise.fish",
			},
			exits: textExits,
			check: checkShell,
			run:   runCompletion,
		},
		{
			name:    "version",
			summary: "version, commit and Go",
			about: `
Prints the version, the commit that the program was built from, and whether there were
changes beside it, Go's version and the platform.`,
			examples: []string{"reprise version"},
			exits:    textExits,
			run:      runVersion,
		},
		{
			name: "help", args: "[COMMAND]",
			summary: "all commands, or one with its settings",
			about: `
Of a command of two words the first alone gives all that begin with it. After any
command --help is the same.`,
			examples: []string{"reprise help", "reprise help serve", "reprise help dead", "reprise help dead list"},
			exits:    textExits,
		},
	}
}
