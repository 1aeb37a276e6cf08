"""Whose turn it is: first come inside a tenant, the one that has least between tenants."""

from __future__ import annotations

import gc
from collections import Counter, deque
from dataclasses import dataclass, field

from oxgen._launch.fair import FairQueue


@dataclass(eq=False)
class Waiter:
    tenant: str
    waiting: bool = field(default=True)


def drain(queue: FairQueue[Waiter], busy: Counter[str]) -> list[Waiter]:
    """Serve all, each keeping what it got."""
    order = []
    while (item := queue.first(busy.__getitem__)) is not None:
        item.waiting = False
        queue.served(item)
        busy[item.tenant] += 1
        order.append(item)
    return order


def test_inside_a_tenant_first_come_is_first_served() -> None:
    queue: FairQueue[Waiter] = FairQueue(10)
    waiters = [Waiter("a") for _ in range(4)]
    assert all(queue.push(one) for one in waiters)
    assert drain(queue, Counter()) == waiters


def test_a_tenant_with_a_long_line_does_not_hold_up_another() -> None:
    queue: FairQueue[Waiter] = FairQueue(1000)
    many = [Waiter("greedy") for _ in range(100)]
    few = [Waiter("modest") for _ in range(2)]
    for one in (*many, *few):
        queue.push(one)
    assert [one.tenant for one in drain(queue, Counter())[:4]] == [
        "greedy",
        "modest",
        "greedy",
        "modest",
    ]


def test_who_holds_cells_already_comes_after_who_holds_none() -> None:
    queue: FairQueue[Waiter] = FairQueue(10)
    waiters = [Waiter("has"), Waiter("has not")]
    for one in waiters:
        queue.push(one)
    first = queue.first(Counter({"has": 3}).__getitem__)
    assert first is waiters[1]


def test_the_queue_is_bounded_and_room_comes_back() -> None:
    queue: FairQueue[Waiter] = FairQueue(2)
    one, two, three = Waiter("a"), Waiter("b"), Waiter("c")
    assert queue.push(one)
    assert queue.push(two)
    assert not queue.push(three)
    two.waiting = False
    assert queue.push(three)
    assert len(queue) == 2


def test_who_was_forgotten_or_has_left_is_passed_over() -> None:
    queue: FairQueue[Waiter] = FairQueue(10)
    gone, left, here = Waiter("a"), Waiter("a"), Waiter("a")
    for one in (gone, left, here):
        queue.push(one)
    left.waiting = False
    del gone, one
    gc.collect()
    assert list(queue) == [here]
    assert drain(queue, Counter()) == [here]
    assert len(queue) == 0


def test_what_an_interrupt_leaves_of_a_push_or_a_turn_holds_nobody_up() -> None:
    """An empty line, and a count that is too high."""
    queue: FairQueue[Waiter] = FairQueue(2)
    queue._lines["interrupted"] = deque()
    queue._count = 2
    one, two, three = Waiter("a"), Waiter("b"), Waiter("c")
    assert queue.push(one)
    assert queue.push(two)
    assert not queue.push(three)
    queue._lines["interrupted"] = deque()
    assert drain(queue, Counter()) == [one, two]
    assert not queue
