# The same in Perl, without an SDK: the session comes in the job, and what is to change in it goes into the answer, as a
# JSON merge patch. Needs the module Redis (apt-get install libredis-perl); JSON::PP comes with Perl.

use strict;
use warnings;
use JSON::PP;
use Redis;

my $queue = $ENV{TEMPEST_QUEUE} // 'tempest:web';
my ($server) = ($ENV{REDIS_URL} // 'redis://127.0.0.1:6379') =~ m{^redis://(?:[^@/]*@)?([^/]+)} or die "perl: no REDIS_URL\n";
my ($redis, $stop);
$SIG{INT} = $SIG{TERM} = sub { $stop = 1 };

# Gives the body of the answer, and the change of the session: undef ends it.
sub count {
    my ($job) = @_;
    return ({ worker => 'perl', session => {} }, undef) if $job->{path} eq '/forget' && $job->{method} eq 'POST';
    my $session = $job->{session};
    my $patch = { visits => ($session->{visits} // 0) + 1, by => { perl => ($session->{by}{perl} // 0) + 1 } };
    my $after = { %$session, %$patch, by => { %{ $session->{by} // {} }, %{ $patch->{by} } } };
    return ({ worker => 'perl', session => $after }, $patch);
}

until ($stop) {
    my $taken = eval { $redis //= Redis->new(server => $server, cnx_timeout => 5, read_timeout => 10); [$redis->blpop($queue, 1)] };
    if (!$taken) {
        warn "perl: $@";
        undef $redis;
        select undef, undef, undef, 0.5;
        next;
    }
    my ($header) = split /\n/, $taken->[1] // next, 2;
    eval {
        my $job = decode_json($header);
        my ($body, $patch) = count($job);
        my %headers = ('content-type' => 'application/json');
        my $text = JSON::PP->new->canonical->encode($body);
        $redis->rpush($job->{reply_to}, encode_json({ id => $job->{id}, headers => \%headers, body => $text, session => $patch }));
        1;
    } or warn "perl: skipped a job: $@";
}
