"""The time left of a workflow: measured rates, chains, and no running away."""

from __future__ import annotations

import random

import pytest

from pipeline.progress.left import Left, Running, Work


def many(count: int, seconds: float, kind: str = "network") -> dict[str, Work]:
    return {f"{kind}{number}": Work(seconds, kind) for number in range(count)}


def test_nothing_known_is_the_expectation_shared_out() -> None:
    assert Left(many(8, 10.0), 2).seconds({}) == 40.0
    assert Left({}, 2).seconds({}) == 0.0


def test_a_chain_takes_as_long_as_its_jobs_one_after_the_other() -> None:
    chain = {str(n): Work(10.0, "", (str(n - 1),) if n else ()) for n in range(2000)}
    assert Left(chain, 8).seconds({}) == 20000.0


def test_a_job_of_several_processors_takes_the_room_of_as_many() -> None:
    assert Left({"a": Work(10.0, cores=2), "b": Work(10.0, cores=2)}, 2).seconds({}) == 20.0


def test_what_a_network_is_slower_than_expected_is_said_of_it_alone() -> None:
    left = Left(many(4, 10.0, "slow") | many(4, 10.0, "fast"), 1)
    for number in range(3):
        left.finished(f"slow{number}", 70.0)
        left.finished(f"fast{number}", 10.0)
    assert left.seconds({}) == pytest.approx(70 + 10, rel=0.1)


def test_the_word_of_a_running_job_goes_before_the_expectation_of_it_and_of_its_like() -> None:
    left = Left(many(2, 10.0), 1)
    found = left.seconds({"network0": Running(spent=20.0, share=0.2, left=80.0)})
    assert 80 + 60 < found < 80 + 100


def test_a_finished_job_of_unknown_length_is_done_all_the_same() -> None:
    left = Left(many(2, 10.0), 1)
    left.finished("network0", None)
    assert left.seconds({}) == 10.0 and left.share({}) == 0.5


@pytest.mark.parametrize("slower", [0.2, 1.0, 7.0])
def test_the_time_left_does_not_run_away(slower: float) -> None:
    """Twelve jobs on two processors, each ``slower`` times as long as foreseen, with some noise:
    once a job has run for a tenth, the end that is told stays within a fifth of the real one."""
    draw = random.Random(0)
    foreseen = 60.0
    takes = {f"network{n}": slower * foreseen * draw.uniform(0.9, 1.1) for n in range(12)}
    left = Left(many(12, foreseen), 2)
    waiting, began, now = list(takes), dict.fromkeys(list(takes)[:0], 0.0), 0.0
    told: list[float] = []
    while waiting or began:
        for name in [name for name in began if now - began[name] >= takes[name]]:
            left.finished(name, now - began.pop(name))
        while waiting and len(began) < 2:
            began[waiting.pop(0)] = now
        running = {
            name: Running(now - since, (now - since) / takes[name], takes[name] - (now - since))
            for name, since in began.items()
            if now > since
        }
        told.append(now + left.seconds(running))
        now += foreseen / 20
    real = now
    settled = told[len(told) // 10 :]
    assert all(abs(end - real) < 0.2 * real for end in settled), [round(t) for t in settled]
