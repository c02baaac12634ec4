package bridge

import (
	"fmt"
	"testing"
)

// BenchmarkParsePage reads a full page: 100 messages as PubNub wraps them.
func BenchmarkParsePage(b *testing.B) {
	reply := []byte(`{"t":{"t":"17954373395308042","r":1},"m":[`)
	for i := range fullPage {
		if i > 0 {
			reply = append(reply, ',')
		}
		reply = fmt.Appendf(reply, `{"a":"2","f":0,"i":"pn-400683-web-1","s":%d,"p":{"t":"%d","r":1},"k":"demo","c":%q,"b":"user.*","d":%s}`,
			i, 17954373395300000+i, benchChannel(i), benchPayload)
	}
	reply = append(reply, "]}"...)
	b.SetBytes(int64(len(reply)))
	b.ReportAllocs()
	for b.Loop() {
		if p, err := parsePage(reply); err != nil || len(p.messages) != fullPage {
			b.Fatal(len(p.messages), err)
		}
	}
}
