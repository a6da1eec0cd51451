# A whole Tempest worker in Perl; needs the module Redis (apt-get install libredis-perl); JSON::PP comes with Perl.
# Run alone: REDIS_URL=redis://127.0.0.1:6379 TEMPEST_QUEUE=tempest:web perl worker.pl

use strict;
use warnings;
use JSON::PP;
use Redis;

my $queue = $ENV{TEMPEST_QUEUE} // 'tempest:web';
my ($user, $pass, $server, $db) = ($ENV{REDIS_URL} // 'redis://127.0.0.1:6379')
    =~ m{^redis://(?:([^:@/]*)(?::([^@/]*))?@)?([^/]+)(?:/(\d+))?/?$}
    or die "perl: REDIS_URL is not redis://[user:pass@]host:port[/db]\n";
s/%([0-9A-Fa-f]{2})/chr hex $1/ge for grep { defined } $user, $pass;
$server .= ':6379' unless $server =~ /:\d+$/;

sub connect_redis {
    # Longer than the pop waits, or an abandoned pop eats the next job. The module has no option for TCP
    # keepalive; this timeout finds a dead connection as well, because each pop is short.
    my $redis = Redis->new(server => $server, cnx_timeout => 5, read_timeout => 10);
    $redis->auth(grep { defined && length } $user, $pass) if $pass;
    $redis->select($db) if $db;
    return $redis;
}

my ($redis, $stop);
$SIG{INT} = $SIG{TERM} = sub { $stop = 1 };

until ($stop) {
    my $taken = eval { $redis //= connect_redis(); [$redis->blpop($queue, 1)] };
    if (!$taken) {
        warn "perl: $@";
        undef $redis;
        select undef, undef, undef, 0.5;
        next;
    }
    my $message = $taken->[1] // next;
    my ($header, $body) = split /\n/, $message, 2;
    eval {
        my ($v, $id, $reply_to, $method, $path) = @{ decode_json($header) }{qw(v id reply_to method path)};
        die "malformed, or nobody waits for it\n" unless ($v // 0) eq '1' && defined $id && defined $reply_to;
        my $text = "hello from perl, $method $path (worker pid $$)\n";
        my %headers = ('content-type' => 'text/plain', 'x-worker' => 'perl');
        $redis->rpush($reply_to, encode_json({ id => $id, status => 200, headers => \%headers, body => $text }));
        1;
    } or warn "perl: skipped a job: $@";
}
