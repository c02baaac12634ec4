package main

import (
	"context"
	"fmt"
	"os"

	"reprise/bridge/pubnubtest"
)

// runDev is everything in one process.
func runDev(ctx context.Context, c *call) error {
	return runNode(ctx, c, roles{bridge: true, edge: true, emulator: true})
}

// runEmulator is PubNub alone.
func runEmulator(ctx context.Context, c *call) error {
	parts := newStack()
	address, err := startEmulator(ctx, c, parts)
	if err != nil {
		return err
	}
	c.printf("PubNub emulator: %s, subscribe key %s, publish key %s, no TLS\n", address, emulatorKey, emulatorKey)
	select {
	case <-ctx.Done():
	case <-parts.failed:
	}
	return parts.stop()
}

// startEmulator starts PubNub and tells where.
func startEmulator(ctx context.Context, c *call, parts *stack) (string, error) {
	server, err := pubnubtest.New(pubnubtest.Config{
		Listen: c.cfg.emulatorListen, SubscribeKey: emulatorKey, PublishKey: emulatorKey,
	})
	if err != nil {
		return "", fmt.Errorf("emulator-listen: %w", err)
	}
	address, err := server.Listen()
	if err != nil {
		return "", bindError("emulator-listen", c.cfg.emulatorListen, err)
	}
	parts.push(ctx, "emulator", server.Run)
	c.log.Info("listening", "what", "emulator", "addr", address)
	return address, nil
}

// devWelcome tells a developer what there is and what to try.
func (n *node) devWelcome() {
	c := n.call
	url, origin := "", ""
	if n.devices.address() != lookup("listen").def {
		url = " --url ws://" + n.devices.address() + "/ws"
	}
	if n.emulator != emulatorOrigin {
		origin = " --pubnub-origin " + n.emulator
	}
	event := fmt.Sprintf(`{"type":"progress_update","content_id":"%s","position_seconds":100,"device_id":"tv","timestamp":1}`, exampleItem)
	c.printf(`Reprise is running (process %d).

  devices   ws://%s/ws   no authentication
  admin     http://%s    /readyz, /metrics, /v1/stats
  PubNub    %s   emulator, both keys are demo, no TLS
  log       %s

Try it, each line in a terminal of its own:

  %[6]s tail --user %[7]s --device %[8]s%[9]s
  %[6]s tail --user %[7]s --device %[10]s%[9]s
  %[6]s publish user.%[7]s.sync '%[11]s'%[12]s

Ctrl-C ends.
`, os.Getpid(), n.devices.address(), n.admin.address(), n.emulator, c.cfg.dataDir,
		c.self, exampleUser, exampleTV, url, examplePhone, event, origin)
}
