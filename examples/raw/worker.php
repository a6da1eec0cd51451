<?php
// A whole Tempest worker in PHP; needs the extension phpredis (apt-get install php-cli php-redis).
// Run alone: REDIS_URL=redis://127.0.0.1:6379 TEMPEST_QUEUE=tempest:web php worker.php

$queue = getenv('TEMPEST_QUEUE') ?: 'tempest:web';
$url = parse_url(getenv('REDIS_URL') ?: 'redis://127.0.0.1:6379');

function connect(array $url): Redis
{
    $redis = new Redis();
    $redis->connect(($url['scheme'] === 'rediss' ? 'tls://' : '') . $url['host'], $url['port'] ?? 6379, 5);
    $redis->setOption(Redis::OPT_READ_TIMEOUT, 10); // longer than the pop waits, or an abandoned pop eats the next job
    $redis->setOption(Redis::OPT_TCP_KEEPALIVE, 1);
    $login = array_map('rawurldecode', array_filter([$url['user'] ?? '', $url['pass'] ?? ''], 'strlen'));
    if ($login) $redis->auth(array_values($login));
    $redis->select((int) trim($url['path'] ?? '', '/'));
    return $redis;
}

$running = true;
pcntl_async_signals(true);
foreach ([SIGINT, SIGTERM] as $signal) pcntl_signal($signal, function () use (&$running) { $running = false; });

for ($redis = null; $running;) {
    try {
        $redis ??= connect($url);
        $taken = $redis->blPop([$queue], 1);
        if (!$taken) continue;
        [$header] = explode("\n", $taken[1], 2); // what follows the first LF is the body
        $job = json_decode($header, true);
        if (($job['v'] ?? 0) !== 1 || !is_string($job['id'] ?? 0) || !is_string($job['reply_to'] ?? 0)) {
            fwrite(STDERR, "php: skipped a job: malformed, or nobody waits for it\n");
            continue;
        }
        $text = "hello from php, {$job['method']} {$job['path']} (worker pid " . getmypid() . ")\n";
        $headers = ['content-type' => 'text/plain', 'x-worker' => 'php'];
        $answer = ['id' => $job['id'], 'status' => 200, 'headers' => $headers, 'body' => $text];
        $redis->rPush($job['reply_to'], json_encode($answer));
    } catch (RedisException $problem) {
        fwrite(STDERR, "php: {$problem->getMessage()}\n");
        $redis = null;
        usleep(500_000);
    }
}
