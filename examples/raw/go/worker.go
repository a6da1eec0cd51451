// A whole Tempest worker in Go; needs go-redis (fetched by the first build).
// Run alone: REDIS_URL=redis://127.0.0.1:6379 TEMPEST_QUEUE=tempest:web go run .
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"
)

type job struct {
	V                int
	ID, Method, Path string
	ReplyTo          string `json:"reply_to"`
}

func main() {
	log.SetFlags(0)
	log.SetPrefix("go: ")
	queue := setting("TEMPEST_QUEUE", "tempest:web")
	options, err := redis.ParseURL(setting("REDIS_URL", "redis://127.0.0.1:6379"))
	if err != nil {
		log.Fatal("REDIS_URL is not redis://[user:pass@]host:port[/db]") // and err would print the password
	}
	// go-redis lets a socket outlast the pop on it by 10 s, and has TCP keepalive on. The loop below is the retry.
	options.MaxRetries, options.DialerRetries = -1, 1
	db := redis.NewClient(options)
	stopping, _ := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)

	for stopping.Err() == nil {
		taken, err := db.BLPop(context.Background(), time.Second, queue).Result()
		if errors.Is(err, redis.Nil) {
			continue
		}
		if err == nil {
			err = answer(db, taken[1])
		}
		if err != nil {
			log.Print(err)
			time.Sleep(500 * time.Millisecond)
		}
	}
}

func answer(db *redis.Client, message string) error {
	header, _, _ := strings.Cut(message, "\n") // what follows the first LF is the body
	var j job
	if json.Unmarshal([]byte(header), &j) != nil || j.V != 1 || j.ID == "" || j.ReplyTo == "" {
		log.Print("skipped a job: malformed, or nobody waits for it")
		return nil
	}
	answer, _ := json.Marshal(map[string]any{
		"id": j.ID, "status": 200,
		"headers": map[string]string{"content-type": "text/plain", "x-worker": "go"},
		"body":    fmt.Sprintf("hello from go, %s %s (worker pid %d)\n", j.Method, j.Path, os.Getpid()),
	})
	return db.RPush(context.Background(), j.ReplyTo, answer).Err()
}

func setting(name, otherwise string) string {
	if value := os.Getenv(name); value != "" {
		return value
	}
	return otherwise
}
