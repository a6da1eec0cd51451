#!/usr/bin/env bash
# Publishes the time of day once a second on the channel `clock`, in the two forms a payload may have, in turn:
# plain text, which browsers get as a `message`, and the array ["tick","12:00:01"], which they get as an event `tick`.
# Run alone: REDIS_URL=redis://127.0.0.1:6379 bash clock.sh

url=${REDIS_URL:-redis://127.0.0.1:6379}
cli=(redis-cli --no-auth-warning -u "${url/:\/\/:/://default:}") # it cannot read a password without a user

# The rest of the current second, so that the clock neither drifts nor skips; bash before 5 has no fractions.
rest() {
  local micros=${EPOCHREALTIME-}
  micros=${micros#*[.,]}
  if [[ -n $micros ]]; then printf '0.%06d' $((999999 - 10#$micros)); else echo 1; fi
}

trap 'kill $! 2>/dev/null; exit' INT TERM
while :; do
  now=$(date +%H:%M:%S)
  case $now in
    *[02468]) payload=$now ;;
    *) payload="[\"tick\",\"$now\"]" ;;
  esac
  "${cli[@]}" publish clock "$payload" >/dev/null # says why on stderr when Redis is away; the next second tries again
  sleep "$(rest)" &
  wait $! # unlike a sleep in the foreground, this ends at once on a signal
done
