package pubnubtest_test

import (
	"fmt"
	"io"
	"net/http"

	"reprise/bridge/pubnubtest"
)

func ExampleStart() {
	s, err := pubnubtest.Start(pubnubtest.Config{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer s.Close()

	s.Publish("user.7.sync", []byte(`{"n":1}`))
	s.Inject(pubnubtest.Fault{Kind: pubnubtest.Status, Status: 503, Times: 1})

	for range 2 {
		resp, err := http.Get("http://" + s.Addr() + "/v3/history/sub-key/demo/message-counts/user.7.sync?timetoken=1")
		if err != nil {
			fmt.Println(err)
			return
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		fmt.Printf("%d %s\n", resp.StatusCode, body)
	}
	// Output:
	// 503 <html><head><title>503 Service Unavailable</title></head></html>
	//
	// 200 {"status":200,"error":false,"error_message":"","channels":{"user.7.sync":1}}
}
