// Reads a stream with the npm package `eventsource` and prints a line of JSON for each event: [name, data, id].
// Reconnecting, and the id of the last event, are the package's own affair.
import { EventSource } from 'eventsource'

const source = new EventSource(process.argv[2])
const show = event => console.log(JSON.stringify([event.type, event.data, event.lastEventId]))
for (const name of ['message', 'tick', '$lost']) source.addEventListener(name, show)
