// The hub of mercure.rocks in Go's own HTTP server, as the example of its library has it. Its makers' programs mount
// the same hub in Caddy, which is no part of what the benchmark compares; nothing may be added to it here.
//
// Settings are those of its configuration reference: anonymous subscribers, the local transport (the default of the
// library: nothing is kept), no limit on the life of a stream (write_timeout), no heartbeats, errors alone in the log.
package main

import (
	"context"
	"log"
	"log/slog"
	"net/http"
	"os"

	"github.com/dunglas/mercure"
)

func main() {
	if len(os.Args) != 3 {
		log.Fatal("usage: mercure ADDRESS KEY_OF_PUBLISHERS")
	}
	errors := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))
	hub, err := mercure.NewHub(context.Background(),
		mercure.WithAnonymous(),
		mercure.WithPublisherJWT([]byte(os.Args[2]), "HS256"),
		mercure.WithWriteTimeout(0),
		mercure.WithHeartbeat(0),
		mercure.WithLogger(errors),
	)
	if err != nil {
		log.Fatal(err)
	}
	http.Handle("/.well-known/mercure", hub)
	log.Fatal(http.ListenAndServe(os.Args[1], nil))
}
