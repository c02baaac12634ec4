package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/coder/websocket"

	"reprise/stream"
)

// TestUpdatesKeepTheBridgesRules sends random updates to an edge and publishes
// what is in its outbox, to a bridge of another log. Whatever the edge accepts
// the bridge takes, and the device's words and numbers arrive as they were sent.
func TestUpdatesKeepTheBridgesRules(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	const each = 150 // of a device: below the burst
	user := userNo(1)
	pubnub := emulator(t)
	up := wire(t, stream.Config{DataDir: t.TempDir(), Node: "up"}, "")
	down := wire(t, stream.Config{DataDir: t.TempDir(), Node: "down"}, pubnub.Addr())
	if err := pubnub.WaitPolls(within(t), 1); err != nil {
		t.Fatalf("WaitPolls(1) = %v, want nil", err)
	}
	witness := newRun(t, &relay{t: t, devices: down.devices, admin: down.admin}).device(user, deviceNo(9)).connect("latest")
	witness.caughtUp()

	var want []string
	for n := range 2 {
		w := words{rand.New(rand.NewPCG(seed, uint64(n))), deviceNo(n)}
		updates := atTheBounds(w.device)
		for len(updates) < each {
			updates = append(updates, w.update())
		}
		for i, answer := range submit(t, up.devices, user, w.device, updates) {
			accepted := answer == `{"type":"accepted","id":"`+updateNo(i)+`"}`
			if accepted == (updates[i].want == "") || !accepted && !strings.Contains(answer, `"bad_field"`) {
				t.Errorf("answer to %s\n= %s, want it accepted: %v", updates[i].frame, answer, updates[i].want != "")
			}
			if updates[i].want != "" {
				want = append(want, updates[i].want)
			}
		}
	}

	ctx, stop := context.WithCancel(within(t))
	defer stop()
	published := 0
	if err := up.log.FollowOutbox(ctx, 0, func(p stream.Pending) {
		pubnub.Publish(p.Channel, p.Body)
		if published++; published == len(want) {
			stop()
		}
	}); err != nil || published != len(want) {
		t.Fatalf("FollowOutbox() = %d entries, %v, want %d", published, err, len(want))
	}
	pubnub.Publish("user."+user+".notifications", []byte(`{}`))
	witness.await("the last event", ofType("notification", 1))

	var got []string
	for _, f := range witness.frames() {
		x, err := parseFrame(f.Text)
		if err == nil && x.Hlc != "" && x.Type != "caught_up" && x.Type != "notification" {
			got = append(got, strings.Replace(f.Text, x.Hlc, noStamp, 1))
		}
	}
	for i := range max(len(got), len(want)) {
		if i == len(got) || i == len(want) || units(got[i]) != units(want[i]) {
			t.Fatalf("%d events, want %d; the first that is wrong is no. %d:\n%s\nwant\n%s", len(got), len(want), i, at(got, i), at(want, i))
		}
	}
}

func at(list []string, i int) string {
	if i < len(list) {
		return list[i]
	}
	return "none"
}

func updateNo(n int) string { return fmt.Sprintf("eeeeeeee-eeee-4eee-8eee-%012x", n) }

// submit sends the updates of one device without waiting, and returns the answers.
func submit(t testing.TB, address, user, device string, updates []update) []string {
	t.Helper()
	ctx := within(t)
	ws, _, err := websocket.Dial(ctx, "ws://"+address+"/ws?since=latest&user_id="+user+"&device_id="+device, nil)
	if err != nil {
		t.Fatalf("Dial(device %s) = %v, want nil", device, err)
	}
	defer ws.CloseNow()
	sent := make(chan error, 1)
	go func() {
		for i, u := range updates {
			frame := strings.Replace(u.frame, noID, updateNo(i), 1)
			if err := ws.Write(ctx, websocket.MessageText, []byte(frame)); err != nil {
				sent <- err
				return
			}
		}
		sent <- nil
	}()
	var answers []string
	for len(answers) < len(updates) {
		_, text, err := ws.Read(ctx)
		if err != nil {
			t.Fatalf("Read() = %v after %d answers, want %d", err, len(answers), len(updates))
		}
		if x, err := parseFrame(string(text)); err == nil && (x.Type == "accepted" || x.Type == "error") {
			answers = append(answers, string(text))
		}
	}
	if err := <-sent; err != nil {
		t.Errorf("Write() = %v, want nil", err)
	}
	return answers
}

// noID stands where the id of an update will be, and nowhere else.
const noID = "#"

// An update is what a device sends, and the event that comes of it; "" where it
// must be refused.
type update struct{ frame, want string }

// words makes up what devices may send.
type words struct {
	*rand.Rand
	device string
}

func (w *words) pick(from ...string) string { return from[w.IntN(len(from))] }

// text is a literal of 1 to most characters, without its quotes.
func (w *words) text(most int) string {
	var b strings.Builder
	for range 1 + w.IntN(w.pickInt(1, 8, most)) {
		b.WriteString(w.pick("a", "Z", " ", "<", "&", "'", "é", "😀", "\u2028", `\u00e9`, `\ud83d\ude00`, `\n`, `\"`, `\\`, `\/`, `/`, `\u0000`, `\u003c`, `\ud83d`, `\udc00`))
	}
	return b.String()
}

func (w *words) pickInt(from ...int) int { return from[w.IntN(len(from))] }

func (w *words) seconds() string { return w.pick("0", "1", "100", "4294967295") }

// stamp is a timestamp as a device writes it, and its characters.
func (w *words) stamp() (literal, characters string) {
	switch w.IntN(3) {
	case 0:
		s := fmt.Sprintf("%016x", w.Uint64())
		return `"` + s + `"`, s
	case 1:
		s := strings.Repeat("0", w.IntN(3)) + strconv.Itoa(w.IntN(1<<40))
		return `"` + s + `"`, s
	}
	s := strconv.FormatUint(w.Uint64(), 10)
	return s, s
}

// value is any JSON without white space, of at most levels levels.
func (w *words) value(levels int) string {
	n := w.IntN(4)
	switch kind := w.IntN(6); {
	case kind == 0 && levels > 0:
		return w.object(levels, n)
	case kind == 1 && levels > 0:
		values := make([]string, n)
		for i := range values {
			values[i] = w.value(levels - 1)
		}
		return "[" + strings.Join(values, ",") + "]"
	case kind == 2:
		return `"` + w.text(128) + `"`
	case kind == 3:
		return w.pick("true", "false", "null")
	}
	return w.pick("0", "-0", "1.50", "1e2", "-0.0E+7", "12345678901234567890123", "9007199254740993")
}

func (w *words) object(levels, members int) string {
	list := make([]string, members)
	for i := range list {
		name := w.text(20)
		if w.IntN(4) == 0 {
			name = w.pick("command", "Command_Type", "type", "timestamp", "device_id", "payload")
		}
		list[i] = `"` + name + `":` + w.value(levels-1)
	}
	return "{" + strings.Join(list, ",") + "}"
}

// spaced puts white space wherever JSON may have it.
func (w *words) spaced(json string) string {
	var b strings.Builder
	quoted := false
	for i := 0; i < len(json); i++ {
		c := json[i]
		if quoted && c == '\\' {
			b.WriteString(json[i : i+2])
			i++
			continue
		}
		if c == '"' {
			quoted = !quoted
		}
		structure := !quoted && strings.IndexByte("{}[],:", c) >= 0
		if structure {
			b.WriteString(w.pick("", "", " ", "\n\t"))
		}
		b.WriteByte(c)
		if structure {
			b.WriteString(w.pick("", "", " ", "\r\n"))
		}
	}
	return b.String()
}

// frame is a device's frame with the members in any order.
func (w *words) frame(members ...string) string {
	members = append(members, `"id":"`+noID+`"`)
	if w.IntN(4) == 0 {
		members = append(members, `"unknown":`+w.value(3), `"device_id":"another"`)
	}
	w.Shuffle(len(members), func(i, j int) { members[i], members[j] = members[j], members[i] })
	return w.spaced("{" + strings.Join(members, ",") + "}")
}

func (w *words) update() update {
	literal, stamp := w.stamp()
	at := `"timestamp":` + literal
	origin := `"device_id":"` + w.device + `","timestamp":"` + stamp + `"}`
	target := deviceNo(w.IntN(9))
	const head = `","hlc":"` + noStamp + `",`
	switch w.IntN(4) {
	case 0:
		operation, tag := w.pick("add", "remove"), w.text(128)
		return update{
			w.frame(`"type":"watchlist_update"`, `"operation":"`+operation+`"`, `"content_id":"`+content+`"`, `"unique_tag":"`+tag+`"`, at),
			`{"type":"watchlist_update` + head + `"content_id":"` + content + `","action":"` + operation + `","unique_tag":"` + tag + `",` + origin,
		}
	case 1:
		members := []string{`"type":"progress_update"`, `"content_id":"` + content + `"`, at}
		position := w.seconds()
		members = append(members, `"position_seconds":`+position)
		want := `{"type":"progress_update` + head + `"content_id":"` + content + `","position":` + position + `,`
		if w.IntN(2) == 0 {
			duration := w.seconds()
			members = append(members, `"duration_seconds":`+duration)
			want += `"duration":` + duration + `,`
		}
		return update{w.frame(members...), want + origin}
	case 2:
		item := w.text(128)
		members := []string{`"type":"device_handoff"`, `"target_device_id":"` + target + `"`, `"content_id":"` + item + `"`, at}
		want := `{"type":"device_command` + head + `"command":"handoff:` + item + `","target_device":"` + target + `",`
		if w.IntN(2) == 0 {
			position := w.seconds()
			members = append(members, `"position_seconds":`+position)
			want += `"payload":{"position_seconds":` + position + `},`
		}
		return update{w.frame(members...), want + origin}
	}
	payload, expires := "{}", "0"
	members := []string{at}
	if w.IntN(4) > 0 {
		payload = w.object(w.pickInt(3, 31), w.IntN(5))
		members = append(members, `"payload":`+payload)
	}
	if w.IntN(2) == 0 {
		expires = w.pick("0", "4102444800000", "9223372036854775807")
		members = append(members, `"expires_at":`+expires)
	}
	kind := w.text(64)
	want := `{"type":"device_command` + head + `"command":"` + kind + `","target_device":"` + target + `","payload":` + payload + `,`
	if expires != "0" {
		want += `"expires_at":` + expires + `,`
	}
	members = append(members, `"type":"device_command"`, `"target_device_id":"`+target+`"`, `"command_type":"`+kind+`"`)
	return update{w.frame(members...), want + origin}
}

// atTheBounds are commands of the largest size and depth, and just over it.
func atTheBounds(device string) []update {
	var list []update
	for _, bound := range []struct {
		size, levels int
		good         bool
	}{{32 << 10, 3, true}, {32<<10 + 1, 3, false}, {0, 31, true}, {0, 32, false}} {
		target, nested := deviceNo(1), strings.Repeat("[", bound.levels-1)+strings.Repeat("]", bound.levels-1)
		body := `{"type":"device_command","target_device_id":"` + target + `","command":{"command_type":"x","a":"","b":` + nested + `},"timestamp":"1","device_id":"` + device + `"}`
		payload := `{"a":"` + strings.Repeat("x", max(0, bound.size-len(body))) + `","b":` + nested + `}`
		u := update{frame: `{"type":"device_command","id":"` + noID + `","target_device_id":"` + target + `","command_type":"x","payload":` + payload + `,"timestamp":1}`}
		if bound.good {
			u.want = `{"type":"device_command","hlc":"` + noStamp + `","command":"x","target_device":"` + target + `","payload":` + payload + `,"device_id":"` + device + `","timestamp":"1"}`
		}
		list = append(list, u)
	}
	return list
}

// units is a JSON text with each string replaced by its UTF-16 code units: what
// it says, however it is escaped, half surrogate pairs included.
func units(text string) string {
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		b.WriteByte(text[i])
		if text[i] != '"' {
			continue
		}
		for i++; text[i] != '"'; {
			if text[i] == '\\' && text[i+1] == 'u' {
				b.WriteString(strings.ToLower(text[i+2 : i+6]))
				i += 6
				continue
			}
			r, n := utf8.DecodeRuneInString(text[i:])
			if r == '\\' {
				var s string
				json.Unmarshal([]byte(`"`+text[i:i+2]+`"`), &s)
				r, n = rune(s[0]), 2
			}
			for _, u := range utf16.AppendRune(nil, r) {
				fmt.Fprintf(&b, "%04x", u)
			}
			i += n
		}
		b.WriteByte('"')
	}
	return b.String()
}

// The judge of the test above tells apart what must be told apart.
func TestUnits(t *testing.T) {
	t.Parallel()
	const plain = `{"a":"é😀/<"}`
	for text, same := range map[string]bool{
		`{"\u0061":"\u00E9\ud83d\ude00\/\u003c"}`: true, `{"a":"é😀/>"}`: false, `{"a":"é\ud83d/<"}`: false, `{"a":"é�/<"}`: false, `{"a": "é😀/<"}`: false,
	} {
		if got := units(text) == units(plain); got != same {
			t.Errorf("units(%s) == units(%s) = %v, want %v", text, plain, got, same)
		}
	}
}
