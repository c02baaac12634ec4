module reprise/e2e/peers

go 1.26.0

require (
	github.com/coder/websocket v1.8.15
	reprise v0.0.0-00010101000000-000000000000
)

replace reprise => ../..
