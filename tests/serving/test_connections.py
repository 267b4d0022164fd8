"""ConnectionTable: phases, timeouts and who makes room, by a fake clock."""

import collections
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_cascade.serving import connections as phases
from keras_cascade.serving.connections import ConnectionTable, client_of
from keras_cascade.serving.descriptors import ConnectionBudget
from keras_cascade.serving.settings import Limits

SECONDS = {
    phases.HEAD: 10, phases.BODY: 20, phases.WRITE: 20, phases.REFUSED: 5,
    phases.IDLE: 60, phases.KEPT: 70, phases.CLOSING: 20,
}  # fmt: skip


class Clock:
    """Seconds that pass when a test says so."""

    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def table(clock):
    return ConnectionTable(100, 90, 50, SECONDS, clock)


def opened(table, clock, client, phase, since, count=1):
    """Adds connections, named by client, phase and number."""
    names = [f"{client} {phase} {since} {number}" for number in range(count)]
    for name in names:
        clock.now = since
        table.add(name, client)
        table.enter(name, phase)
    return names


@pytest.mark.parametrize("phase, seconds", SECONDS.items())
def test_each_phase_has_its_timeout(table, clock, phase, seconds):
    (name,) = opened(table, clock, "a", phase, 5.0)
    clock.now = 5.0 + seconds - 0.001
    assert table.expired() == []
    clock.now = 5.0 + seconds
    assert table.expired() == [(name, phase)]
    table.enter(name, phase)  # bytes arrived: the phase begins anew
    assert table.expired() == []


def test_a_request_in_progress_has_no_timeout_and_never_makes_room(
    table, clock
):
    opened(table, clock, "a", phases.ANSWER, 0.0, 40)
    clock.now = 1e9
    assert table.expired() == []
    assert table.victim() is None
    assert table.requests == 40


def test_half_heads_make_room_before_idle_connections_do(table, clock):
    """Idle ones are older, but belong to clients that were answered."""
    opened(table, clock, "device", phases.IDLE, 0.0, 20)
    heads = opened(table, clock, "attacker", phases.HEAD, 50.0, 3)
    clock.now = 51.0
    assert table.victim() == heads[0]
    for name in heads:
        table.remove(name)
    assert table.victim().startswith("device idle")


def test_new_heads_make_room_only_when_their_client_has_many(table, clock):
    """A connection that was just opened is everyone's first state."""
    idle = opened(table, clock, "device", phases.IDLE, 0.0)
    heads = opened(table, clock, "attacker", phases.HEAD, 50.0, 8)
    assert table.victim() == idle[0]
    heads += opened(table, clock, "attacker", phases.HEAD, 50.1)
    assert table.victim() == heads[0]


def test_the_client_with_the_most_makes_room(table, clock):
    mine = opened(table, clock, "good", phases.HEAD, 0.0, 2)
    theirs = opened(table, clock, "attacker", phases.HEAD, 1.0, 30)
    clock.now = 5.0
    for name in theirs[:28]:
        assert table.victim() == name
        table.remove(name)
    assert table.victim() == mine[0]  # the older one of equals
    assert table.victim(client="attacker") == theirs[28]
    assert table.victim(client="nobody") is None


def test_bodies_without_progress_make_room_after_idle_ones(table, clock):
    body = opened(table, clock, "slow", phases.BODY, 0.0)
    idle = opened(table, clock, "device", phases.IDLE, 0.0)
    clock.now = 2.0
    assert table.victim() == idle[0]
    clock.now = 6.0
    assert table.victim() == body[0]
    table.enter(body[0], phases.BODY)
    assert table.victim() == idle[0]
    table.remove(idle[0])
    assert table.victim() is None  # it was heard of just now
    clock.now = 7.0
    assert table.victim() == body[0]


def test_clients_whose_requests_were_answered_make_room_late(table, clock):
    kept = opened(table, clock, "device", phases.KEPT, 0.0)
    body = opened(table, clock, "attacker", phases.BODY, 10.0)
    refused = opened(table, clock, "attacker", phases.REFUSED, 12.0)
    assert table.victim() == refused[0]
    table.remove(refused[0])
    assert table.victim() == body[0]
    table.enter(body[0], phases.BODY)
    assert table.victim() == kept[0]


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 200))
def test_counts_and_timeouts_agree_with_a_list(seed, steps):
    dice, clock = random.Random(seed), Clock()
    table, rows = ConnectionTable(20, 10, 5, SECONDS, clock), {}
    for _ in range(steps):
        clock.now += dice.choice((0, 0.5, 7.0))
        name = dice.randrange(12)
        act = dice.choice(("add", "enter", "enter", "remove"))
        if act == "add" and name not in rows:
            rows[name] = [dice.choice("abc"), phases.HEAD, clock.now]
            table.add(name, rows[name][0])
        elif act == "enter":
            phase = dice.choice(phases.PHASES)
            table.enter(name, phase)
            if name in rows:
                rows[name][1:] = phase, clock.now
        elif act == "remove":
            table.remove(name)
            rows.pop(name, None)
        sizes = collections.Counter(phase for _, phase, _ in rows.values())
        clients = collections.Counter(client for client, *_ in rows.values())
        assert len(table) == len(rows)
        assert {p: table.size(p) for p in phases.PHASES} == {
            p: sizes[p] for p in phases.PHASES
        }
        assert all(table.of_client(c) == clients[c] for c in "abc")
        assert table.requests == sum(sizes[p] for p in phases.REQUESTS)
        assert set(table.expired()) == {
            (name, phase)
            for name, (_, phase, since) in rows.items()
            if clock.now - since >= SECONDS.get(phase, 1e9)
        }
        victim = table.victim()
        if victim is not None:
            client, phase, since = rows[victim]
            same = [
                since
                for owner, other, since in rows.values()
                if (owner, other) == (client, phase)
            ]
            assert phase != phases.ANSWER and since == min(same)
            assert len(same) == max(
                collections.Counter(
                    owner for owner, other, _ in rows.values() if other == phase
                ).values()
            )


@pytest.mark.parametrize(
    "address, client",
    [
        (("192.0.2.1", 1), "192.0.2.1"),
        (("::ffff:192.0.2.1", 1, 0, 0), "192.0.2.1"),
        (("2001:db8:0:1::5", 1, 0, 0), "2001:db8:0:1::/64"),
        (("2001:db8:0:1:ff::9", 2, 0, 0), "2001:db8:0:1::/64"),
        (("fe80::1%eth0", 1, 0, 2), "fe80::/64"),
    ],
)
def test_clients(address, client):
    assert client_of(address) == client


def test_descriptors_are_shared_and_some_are_kept_back():
    budget = ConnectionBudget.of(Limits(), 1024, 80)
    # (1024 - 80 open - 96 kept back) / 2 protocols
    assert (budget.http, budget.grpc) == (424, 424)
    assert budget.requests == 424 - 32
    many = ConnectionBudget.of(Limits(), 10**6, 80)
    assert (many.http, many.requests) == (2 * 1024 + 32, 1024)
    assert ConnectionBudget.of(Limits(), None, 80) == many
    with pytest.raises(OSError, match=r"at least \d+ file descriptors"):
        ConnectionBudget.of(Limits(), 128, 80)
