# A whole Tempest worker in Ruby; needs the gem `redis`, 4.8 or newer (apt-get install ruby-redis, or gem install redis).
# Run alone: REDIS_URL=redis://127.0.0.1:6379 TEMPEST_QUEUE=tempest:web ruby worker.rb

require "json"
require "redis"

queue = ENV.fetch("TEMPEST_QUEUE", "tempest:web")
keepalive = Redis::VERSION < "5" ? { tcp_keepalive: 60 } : {} # version 5 always has it on
# The gem adds the pop's own wait to this timeout, so the socket outlasts the pop.
redis = Redis.new(url: ENV.fetch("REDIS_URL", "redis://127.0.0.1:6379"), timeout: 5, **keepalive)

running = true
%w[INT TERM].each { |signal| trap(signal) { running = false } }

while running
  begin
    _, message = redis.blpop(queue, timeout: 1)
    next unless message
    header, _, _body = message.b.partition("\n")
    v, id, reply_to, method, path = JSON.parse(header).values_at("v", "id", "reply_to", "method", "path")
    raise ArgumentError unless v == 1 && id && reply_to
    text = "hello from ruby, #{method} #{path} (worker pid #{Process.pid})\n"
    headers = { "content-type" => "text/plain", "x-worker" => "ruby" }
    redis.rpush(reply_to, JSON.generate(id: id, status: 200, headers: headers, body: text))
  rescue Redis::BaseError => problem
    warn "ruby: #{problem.message}"
    sleep 0.5
  rescue StandardError => problem
    warn "ruby: skipped a job: malformed, or nobody waits for it (#{problem.class})"
  end
end
