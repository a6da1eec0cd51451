#!/usr/bin/env bash
# A whole Tempest worker in bash; the only tool it needs is redis-cli.
# Run alone: REDIS_URL=redis://127.0.0.1:6379 TEMPEST_QUEUE=tempest:web bash worker.sh

export LC_ALL=C # bytes are bytes, whatever the job carries
queue=${TEMPEST_QUEUE:-tempest:web}
url=${REDIS_URL:-redis://127.0.0.1:6379}
cli=(redis-cli --raw --no-auth-warning -u "${url/:\/\/:/://default:}") # it cannot read a password without a user

# A client chooses its path and header names, so `"id":"fake"` may stand anywhere later in the line. Version 1
# promises these six fields first and in this order: a match tied to the start of the line cannot be fooled.
facts='^\{"v":1,"id":"([^"\\]+)","attempt":[0-9]+,"deadline":[0-9]+,"timeout_ms":[0-9]+,"reply_to":"([^"\\]+)",'
# Not promised, and only shown: the path as JSON writes it.
shown='"method":"([^"\\]+)","path":"(([^"\\]|\\.)*)"'

# The last command of a pipe runs in this shell, so what it reads stays. `< <(…)` would do the same, but bash 5.2 parses
# that anew each time, and a trap that it runs just then fails with "unexpected EOF": the worker would never stop.
shopt -s lastpipe

stop=
trap stop=1 INT TERM # the pop ends within a second by itself; killing it could lose the job it has just taken
while [[ -z $stop ]]; do
  # redis-cli prints the list's name, then the job: its first line is the header, all after it is the body. An
  # empty line means that nothing came; no line, or any other, that Redis is away or still loading. redis-cli has
  # no timeout of its own: without one, a Redis that vanished without a word would be waited for for ever.
  timeout --foreground 10 "${cli[@]}" BLPOP "$queue" 1 | { IFS= read -r list || list=away; IFS= read -r header; }
  if [[ $header =~ $facts ]]; then
    id=${BASH_REMATCH[1]} reply_to=${BASH_REMATCH[2]}
    [[ $header =~ $shown ]]
    answer='{"id":"'$id'","status":200,"headers":{"content-type":"text/plain","x-worker":"bash"}}'
    answer+=$'\n'"hello from bash, ${BASH_REMATCH[1]} ${BASH_REMATCH[2]} (worker pid $$)"$'\n'
    "${cli[@]}" RPUSH "$reply_to" "$answer" >/dev/null
  elif [[ $list == "$queue" ]]; then
    echo "bash: skipped a job: malformed, or nobody waits for it" >&2
  elif [[ -n $list ]]; then
    sleep 0.5
  fi
done
