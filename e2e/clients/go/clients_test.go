// Clients for Go, as their users use them: each connects, is cut, and resumes.
package clients

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/r3labs/sse/v2"
)

var front = os.Getenv("LIVERANK_FRONT")

// cutter passes bytes on until it is told to drop the connections.
type cutter struct {
	listener net.Listener
	lock     sync.Mutex
	open     []net.Conn
}

func newCutter(t *testing.T) *cutter {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address, err := url.Parse(front)
	if err != nil {
		t.Fatal(err)
	}
	c := &cutter{listener: listener}
	t.Cleanup(func() { listener.Close(); c.cut() })
	go func() {
		for {
			near, err := listener.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", address.Host)
			if err != nil {
				near.Close()
				continue
			}
			c.lock.Lock()
			c.open = append(c.open, near, far)
			c.lock.Unlock()
			go func() { io.Copy(far, near); far.Close() }()
			go func() { io.Copy(near, far); near.Close() }()
		}
	}()
	return c
}

func (c *cutter) cut() {
	c.lock.Lock()
	defer c.lock.Unlock()
	for _, connection := range c.open {
		connection.Close()
	}
	c.open = nil
}

// post sends again what a part that is away for a moment answers (503).
func post(t *testing.T, path string, body any, status int) {
	t.Helper()
	text, _ := json.Marshal(body)
	until(t, fmt.Sprintf("an answer of %s", path), func() bool {
		response, err := http.Post(front+path, "application/json", bytes.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != status && response.StatusCode != http.StatusServiceUnavailable {
			t.Fatalf("%s was answered %d", path, response.StatusCode)
		}
		return response.StatusCode == status
	})
}

func say(t *testing.T, video string, count int) (texts []string) {
	for range count {
		text := fmt.Sprintf("comment %d \u2028\u0085", rand.Int63())
		key := fmt.Sprintf("%x", rand.Int63())
		post(t, "/comment", map[string]string{"userid": "poster", "videoid": video, "comment": text, "idempotency_key": key}, 201)
		texts = append(texts, text)
	}
	return texts
}

func until(t *testing.T, what string, check func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !check(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not in time: %s", what)
		}
	}
}

func TestR3labsSSEResumesAfterACut(t *testing.T) {
	cut := newCutter(t)
	video := fmt.Sprintf("go-%d", rand.Int63())
	client := sse.NewClient(fmt.Sprintf("http://%s/connect?userid=viewer&videoid=%s", cut.listener.Addr(), video))
	var lock sync.Mutex
	var heard []string
	connected := 0
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go client.SubscribeRawWithContext(ctx, func(event *sse.Event) {
		var message struct{ Type, Comment string }
		if json.Unmarshal(event.Data, &message) != nil {
			return
		}
		lock.Lock()
		defer lock.Unlock()
		if message.Type == "connected" {
			connected++
		} else if message.Comment != "" {
			heard = append(heard, message.Comment)
		}
	})
	is := func(check func() bool) func() bool {
		return func() bool { lock.Lock(); defer lock.Unlock(); return check() }
	}
	until(t, "a greeting", is(func() bool { return connected == 1 }))
	said := say(t, video, 3)
	until(t, "the first comments", is(func() bool { return len(heard) >= 3 }))
	cut.cut()
	said = append(said, say(t, video, 5)...)
	until(t, "all comments", is(func() bool { return len(heard) >= len(said) }))
	lock.Lock()
	defer lock.Unlock()
	if !slices.Equal(heard, said) {
		t.Fatalf("said %q, heard %q", said, heard)
	}
}

func TestGorillaWebsocketGetsListsAgainAfterACut(t *testing.T) {
	cut := newCutter(t)
	for turn := range 2 {
		socket, _, err := websocket.DefaultDialer.Dial(fmt.Sprintf("ws://%s/ws/videos?limit=999", cut.listener.Addr()), nil)
		if err != nil {
			t.Fatal(err)
		}
		video := fmt.Sprintf("go-%d", rand.Int63())
		post(t, "/interact", map[string]string{"video_id": video, "user_id": "u", "type": "view"}, 202)
		socket.SetReadDeadline(time.Now().Add(30 * time.Second))
		for {
			_, text, err := socket.ReadMessage()
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(string(text), video) {
				break
			}
		}
		if turn == 0 {
			cut.cut()
			continue
		}
		bye := websocket.FormatCloseMessage(websocket.CloseNormalClosure, "")
		socket.WriteControl(websocket.CloseMessage, bye, time.Now().Add(time.Second))
		for {
			if _, _, err = socket.ReadMessage(); err != nil {
				break
			}
		}
		if !websocket.IsCloseError(err, websocket.CloseNormalClosure) {
			t.Fatalf("the goodbye was answered by %v", err)
		}
	}
}
