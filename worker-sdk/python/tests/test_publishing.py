"""Publishing with a history and with keys, as the fronts' rules say and the user's rights allow."""

from __future__ import annotations

import logging
from typing import Any, List, Tuple

import pytest
import redis
from redis.exceptions import NoPermissionError, ResponseError
from support import Server

from tempest_worker import App
from tempest_worker import _publish as module
from tempest_worker._history import matches, read_rules

RULES = '[{"pattern":"kept.*","messages":2,"ms":60000},{"pattern":"*"}]'


def kept(client: redis.Redis, channel: str) -> List[Tuple[str, bytes]]:
    entries: Any = client.xrange(f"tempest:log:{channel}")
    return [(id.decode(), fields[b"data"]) for id, fields in entries]


def test_the_rules_of_the_fronts_decide_what_is_kept(server: Server, client: redis.Redis) -> None:
    client.set("tempest:@history", RULES, px=60_000)
    app = App(redis=server.url)
    done = [app.publish("kept.a", text) for text in ("1", "2", "3")]
    assert kept(client, "kept.a") == [(done[1].id, b'["2"]'), (done[2].id, b'["3"]')]
    live = app.publish("live", "x")
    assert (live, live.id, live.repeated) == (0, None, False)


def test_the_prefix_is_that_of_the_queue(server: Server, client: redis.Redis) -> None:
    client.set("shop:@history", RULES, px=60_000)
    assert App(redis=server.url, queue="shop:web").publish("kept.a", "x").id is not None
    assert client.exists("shop:log:kept.a")
    assert App(redis=server.url).publish("kept.a", "x").id is None


def test_rules_are_read_again(server: Server, client: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    app = App(redis=server.url)
    assert app.publish("kept.a", "x").id is None
    client.set("tempest:@history", RULES, px=60_000)
    assert app.publish("kept.a", "x").id is None, "they were read a moment ago"
    monkeypatch.setattr(module, "RULES_SECONDS", 0.0)
    assert app.publish("kept.a", "x").id is not None


def test_a_key_publishes_once_also_where_the_scripts_are_forgotten(server: Server, client: redis.Redis) -> None:
    app = App(redis=server.url)
    listener = client.pubsub()
    listener.subscribe("live")
    assert listener.get_message(timeout=10) is not None
    for channel, history in (("any", (9, 60.0)), ("live", None)):
        first = app.publish(channel, "x", key="k", history=history)
        client.script_flush()
        again = app.publish(channel, "x", key="k", history=history)
        assert (first.repeated, again.repeated, again.id) == (False, True, first.id)
        assert 590_000 < client.pttl("{tempest:log:" + channel + "}:once:k") <= 600_000  # type: ignore[operator]
    app.publish("live", "the next one")
    read = [listener.get_message(timeout=10) for _ in range(2)]
    assert [each and each["data"] for each in read] == [b'["x"]', b'["the next one"]']
    assert len(kept(client, "any")) == 1
    listener.close()


@pytest.mark.parametrize(
    "wrong",
    [{"key": ""}, {"key": "k" * 256}, {"key": "\u00fc"}, {"key": "a\nb"}, {"history": (0, 1)}, {"history": (1, 4e7)}],
)
def test_what_is_wrong_is_refused(server: Server, wrong: Any) -> None:
    with pytest.raises(ValueError, match="a key is|a history keeps"):
        App(redis=server.url).publish("a", "x", **wrong)


@pytest.mark.parametrize("rules", ["{}", "[1]", "[", '[{"pattern":"a","messages":1}]', '[{"messages":1,"ms":1}]'])
def test_rules_that_are_none_are_an_error(server: Server, client: redis.Redis, rules: str) -> None:
    client.set("tempest:@history", rules, px=60_000)
    with pytest.raises(ResponseError, match="tempest:@history"):
        App(redis=server.url).publish("a", "x")


def test_who_may_run_no_scripts_is_refused_where_there_is_a_history(server: Server, client: redis.Redis) -> None:
    client.set("tempest:@history", RULES, px=60_000)
    user = ["reset", "on", ">pw", "~*", "&*", "+@all", "-evalsha", "-eval"]
    client.execute_command("ACL", "SETUSER", "small", *user)
    app = App(redis=server.url.replace("redis://", "redis://small:pw@"))
    with pytest.raises(NoPermissionError, match="evalsha"):
        app.publish("kept.a", "x")
    assert not client.exists("tempest:log:kept.a")
    assert app.publish("live", "x") == 0
    client.execute_command("ACL", "DELUSER", "small")


def test_who_may_not_read_the_rules_publishes_as_before_and_is_warned_once(
    server: Server, client: redis.Redis, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RULES_SECONDS", 0.0)
    client.set("tempest:@history", RULES, px=60_000)
    client.execute_command("ACL", "SETUSER", "small", "reset", "on", ">pw", "~*", "&*", "+publish", "+select", "+hello")
    app = App(redis=server.url.replace("redis://", "redis://small:pw@"))
    with caplog.at_level(logging.WARNING):
        assert [app.publish("kept.a", "x").id for _ in range(2)] == [None, None]
    assert caplog.text.count("nothing that it publishes is kept") == 1
    client.execute_command("ACL", "DELUSER", "small")


def test_the_first_rule_that_matches_decides() -> None:
    rules = read_rules(
        b'[{"prefix":"live:","pattern":"a?","messages":1,"ms":2},{"pattern":"secret.*"},'
        b'{"pattern":"*.x","messages":null,"ms":null},{"pattern":"s*","messages":3,"ms":4,"more":1}]'
    )
    assert rules.keep("live:ab") == (1, 2)
    assert rules.keep("ab") is None
    assert rules.keep("secret.a") is None
    assert rules.keep("some.x") is None
    assert rules.keep("some") == (3, 4)


@pytest.mark.parametrize(
    ("pattern", "name", "expected"),
    [
        ("*", "", True),
        ("", "", True),
        ("a*c", "abbc", True),
        ("a*c", "abcd", False),
        ("a*b*c", "aXbYbZc", True),
        ("?", "\u00fc", True),
        ("?", "", False),
        ("a.c", "abc", False),
        ("*a*a*a*a*a*b", "a" * 200, False),
    ],
)
def test_patterns(pattern: str, name: str, expected: bool) -> None:
    assert matches(pattern, name) is expected
