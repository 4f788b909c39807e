"""Nodes that fail, leave, lie or speak of something else: the round goes on with the others, and the record says so."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

WHY = "Flower is not among the test tools, for it keeps typer, rich and protobuf back: pip install '.[flower]'"
pytest.importorskip("flwr", reason=WHY)
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")

from both_ways import over_flower  # noqa: E402
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict  # noqa: E402
from in_process import FIRST, InProcess  # noqa: E402
from small import agreed  # noqa: E402

from autoflip_secure.errors import InputError  # noqa: E402
from autoflip_secure.flower import AutoflipStrategy, Federation, client_app, messages  # noqa: E402
from autoflip_secure.flower.client_side import partition_id  # noqa: E402

FEDERATION = agreed(algorithm="median", cohort=7)  # everybody takes part in every round
BAD = 2


def changing(change: Callable[[Message], Any], kind: str = messages.ROUND) -> list[Any]:
    """Apps of which client ``BAD`` changes its replies to messages of a kind."""
    app = client_app(FEDERATION)

    def changed(message: Message, context: Context) -> Message:
        reply = app(message, context)
        if message.metadata.message_type != kind:
            return reply
        return change(reply) or reply

    return [changed if client == BAD else app for client in range(FEDERATION.clients)]


def left_out(strategy: AutoflipStrategy) -> None:
    """The run is that of the six others."""
    assert [record.participants for record in strategy.rounds] == [[0, 1, 3, 4, 5, 6]] * 3
    assert all(not record.rejected for record in strategy.rounds)


def rejected(strategy: AutoflipStrategy) -> None:
    """It took part, and nothing of it is in the model."""
    assert [record.rejected for record in strategy.rounds] == [[BAD]] * 3
    assert all(record.trust[BAD] == 0 for record in strategy.rounds)
    others, _ = over_flower(FEDERATION, changing(_raising))
    assert torch.equal(strategy.weights, others.weights)


def _raising(reply: Message) -> None:
    raise MemoryError("too small")


def _arrays(change: Callable[[dict[str, Any]], dict[str, Any]]) -> Callable[[Message], None]:
    def changed(reply: Message) -> None:
        reply.content["arrays"] = ArrayRecord(change(dict(reply.content["arrays"])))

    return changed


def _payload(change: Callable[[bytes], bytes]) -> Callable[[Message], None]:
    return _arrays(lambda arrays: {"update": messages.wrapped(change(arrays["update"].data))})


def _numbers(**numbers: Any) -> Callable[[Message], None]:
    def changed(reply: Message) -> None:
        reply.content["metrics"] = MetricRecord({**reply.content["metrics"], **numbers})

    return changed


NAN, HUGE = b"\x00\x00\xc0\x7f", b"\xff\xff\x7f\x7f"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_payload(lambda data: data[:14] + NAN + data[18:]), "sent an update that is not finite"),
        (_payload(lambda data: data[:14] + HUGE * ((len(data) - 14) // 4)), "not finite, or longer than"),
        (_payload(lambda data: data[:-4]), "its header promises"),
        (_payload(lambda data: b"PK" + data[2:]), "was not written by this library"),
        (_arrays(lambda arrays: {"update": Array(torch.zeros(5).numpy())}), "leave out mods that change arrays"),
        (_arrays(lambda arrays: {}), "expected a message of this library, got nothing"),
        (_numbers(**{"num-examples": 0}), "says that it has 0 samples"),
        (_numbers(**{"num-examples": 2**40}), "a whole number from 1 to 2,147,483,647"),
        (_numbers(client=BAD + 1), "now says that it is client 3"),
        (lambda reply: Message(RecordDict(), reply_to=reply), None),
    ],
    ids=["nan", "huge", "short", "foreign", "tensor", "nothing", "no samples", "samples", "another", "empty"],
)  # fmt: skip
def test_what_cannot_be_used_is_rejected_and_named(change: Callable[[Message], Any], said: str | None) -> None:
    if said is None:

        def change(reply: Message) -> None:
            reply.content["arrays"] = ArrayRecord()
            del reply.content["metrics"]

        said = "sent a reply without arrays or metrics"
    strategy, _ = over_flower(FEDERATION, changing(change))
    rejected(strategy)
    assert any(said in event and event.startswith("round 2: client") for event in strategy.events)


def test_an_error_reply_is_left_out() -> None:
    strategy, _ = over_flower(FEDERATION, changing(_raising))
    left_out(strategy)
    assert "round 1: client 2 failed with error 2 (MemoryError: too small): left out" in strategy.events


def test_an_explorer_that_fails_is_no_explorer() -> None:
    federation = agreed(cohort=7)

    def broken(message: Message, context: Context) -> Message:
        if message.metadata.message_type == messages.EXPLORE:
            raise MemoryError("too small")
        return client_app(federation)(message, context)

    strategy, _ = over_flower(federation, [client_app(federation)] * 6 + [broken])
    record = strategy.record
    assert record is not None
    assert record.exploration is not None
    assert record.exploration.explorers == [0, 1, 2, 3, 4, 5]
    assert record.rounds[0].participants == list(range(7)), "who did not explore takes part all the same"
    assert any("exploration: client 6 failed" in event for event in record.events)


def test_a_node_that_leaves_is_not_asked_and_one_that_comes_back_is() -> None:
    """With a new number, as Flower gives it to a SuperNode that is started again, and without a memory."""
    federation = agreed(algorithm="fedlex", cohort=7)  # nodes have a broadcast to remember

    def moving(number: int, grid: InProcess) -> None:
        if number == 2:
            grid.gone = grid.nodes.pop(FIRST + BAD)  # type: ignore[attr-defined]
        if number == 3:
            app, _ = grid.gone  # type: ignore[attr-defined]
            grid.nodes[900] = app, Context(1, 900, {"partition-id": BAD}, RecordDict(), {})

    strategy, _ = over_flower(federation, each_round=moving)
    everybody = list(range(7))
    expected = [everybody, [k for k in everybody if k != BAD], everybody]
    assert [record.participants for record in strategy.rounds] == expected
    assert "clients 2 are not there, and are not asked" in strategy.events


def test_a_node_that_is_started_again_takes_over_once_the_old_one_is_missed() -> None:
    def overlapping(number: int, grid: InProcess) -> None:
        app, _ = grid.nodes[FIRST]
        if number == 2:
            grid.nodes[900] = app, Context(1, 900, {"partition-id": BAD}, RecordDict(), {})
        if number == 3:
            del grid.nodes[FIRST + BAD]

    strategy, grid = over_flower(FEDERATION, each_round=overlapping)
    assert [record.participants for record in strategy.rounds] == [list(range(7))] * 3
    assert "node 900: says that it is client 2, and so does node 102" in strategy.events
    assert 900 in {asked.metadata.dst_node_id for asked, _ in grid.seen[-7:]}, "the new one did the last round"


def test_a_node_that_lost_its_memory_says_so_and_is_told_again() -> None:
    federation = agreed(algorithm="fedlex", cohort=7)

    def forgetting(number: int, grid: InProcess) -> None:
        if number == 2:
            grid.nodes[FIRST + BAD][1].state.clear()

    strategy, _ = over_flower(federation, each_round=forgetting)
    assert [len(record.participants) for record in strategy.rounds] == [7, 6, 7]
    assert any("client 2 has lost what it was sent once (broadcast)" in event for event in strategy.events)


def test_nobody_answers_and_the_model_stays() -> None:
    silent = agreed(algorithm="fedavg")

    def leaving(number: int, grid: InProcess) -> None:
        if number == 2:
            grid.nodes.clear()

    strategy, _ = over_flower(silent, each_round=leaving)
    once, _ = over_flower(agreed(algorithm="fedavg", rounds=1))
    assert torch.equal(strategy.weights, once.weights)
    assert [record.participants for record in strategy.rounds][1:] == [[], []]
    assert any("no participant sent a finite update" in event for event in strategy.events)


def test_replies_that_nobody_waits_for_are_left_out() -> None:
    strategy, grid = AutoflipStrategy(FEDERATION), InProcess([client_app(FEDERATION)] * 7)
    asked = strategy.configure_train(1, strategy.initial_arrays(), ConfigRecord(), grid)
    replies = grid.send_and_receive(asked)
    strategy.aggregate_train(1, [*replies, replies[0]])
    plain = AutoflipStrategy(FEDERATION)
    plain.aggregate_train(
        1, grid.send_and_receive(plain.configure_train(1, plain.initial_arrays(), ConfigRecord(), grid))
    )
    assert torch.equal(strategy.weights, plain.weights)
    assert "node 106 sent a reply that nobody waits for: left out" in " ".join(strategy.events)
    with pytest.raises(InputError, match="replies of round 1 came where none was configured"):
        strategy.aggregate_train(1, replies)
    with pytest.raises(InputError, match="round 1 is asked for where 2 of 3 would come"):
        strategy.configure_train(1, strategy.initial_arrays(), ConfigRecord(), grid)


def test_more_rounds_than_agreed_are_refused() -> None:
    strategy = AutoflipStrategy(agreed(algorithm="fedavg", rounds=1))
    grid = InProcess([client_app(strategy.federation)] * 7)
    with pytest.raises(InputError, match=r"give num_rounds=federation\.rounds"):
        strategy.start(grid, strategy.initial_arrays(), num_rounds=2)


def waiting(apps: list[Any], numbers: Callable[[int], Any] | None = None, **options: Any) -> str:
    strategy = AutoflipStrategy(FEDERATION, patience=0.01, **options)
    with pytest.raises(InputError) as error:
        strategy.start(InProcess(apps, numbers), strategy.initial_arrays(), num_rounds=3)
    return str(error.value)


def test_who_is_missing_and_who_was_refused_is_said() -> None:
    ours, other = (
        client_app(FEDERATION),
        client_app(Federation(FEDERATION.spec.__class__(**{**vars(FEDERATION.spec), "seed": 4}))),
    )
    said = waiting([ours, ours, other])
    assert said.startswith("2 of 7 clients came in 0.01 s, missing are 2, 3, 4, 5, 6; node 102: runs the federation")
    assert "same scenario, seed, model and version" in said
    assert "node 101: says that it is client 0, and so does node 100" in waiting(
        [ours] * 2, lambda _: {"partition-id": 0}
    )
    assert "says that it is client 7; clients are 0 to 6" in waiting([ours], lambda _: {"partition-id": 7})
    assert "--node-config 'partition-id=0'" in waiting([ours], lambda _: {})


def test_who_waits_for_fewer_begins_without_the_others() -> None:
    strategy = AutoflipStrategy(FEDERATION, wait_for=5)
    grid = InProcess([client_app(FEDERATION)] * 5)
    strategy.start(grid, strategy.initial_arrays(), num_rounds=3)
    assert [record.participants for record in strategy.rounds] == [[0, 1, 2, 3, 4]] * 3
    with pytest.raises(InputError, match="wait_for = 8: there are 7 clients"):
        AutoflipStrategy(FEDERATION, wait_for=8)


@pytest.mark.parametrize(
    ("x", "y", "said"),
    [
        (torch.zeros(3, 5), torch.zeros(3), "expected one sample or more: (n, 1, 8, 8) and (n,)"),
        (torch.zeros(3, 1, 8, 8), torch.zeros(2), "labels of shape (2,)"),
        (torch.zeros(0, 1, 8, 8), torch.zeros(0), "has inputs of shape (0, 1, 8, 8)"),
        (torch.zeros(2, 1, 8, 8), torch.tensor([0, 10]), "client 2 has labels from 0 to 10; expected 0 to 9"),
    ],
)
def test_data_that_do_not_fit_are_refused_by_the_client(x: Any, y: Any, said: str) -> None:
    ours, odd = client_app(FEDERATION), client_app(FEDERATION, lambda _: (x, y))
    assert said in waiting([ours, ours, odd])


def test_a_client_may_find_its_number_in_its_own_way() -> None:
    own = client_app(FEDERATION, number=lambda context: int(context.node_id) - FIRST)
    strategy, _ = over_flower(FEDERATION, [own] * 7)
    assert strategy.rounds[0].participants == list(range(7))
    with pytest.raises(InputError, match="does not know which client it is"):
        partition_id(Context(1, 1, {"partition-id": "zero"}, RecordDict(), {}))


def test_a_strategy_of_flower_is_for_flowers_own_server() -> None:
    theirs = {"name": "f", "pruner": "none", "aggregator": {"kind": "flwr.serverapp.strategy:FedAvg"}}
    with pytest.raises(InputError, match="give it to Flower's own ServerApp"):
        agreed(algorithm=theirs)


def test_flowers_own_mods_go_around_it_or_fail() -> None:
    """Mods that look are fine; one that would change arrays finds none that it knows, so nothing goes wrong unseen."""
    from flwr.clientapp.mod import LocalDpMod, arrays_size_mod, message_size_mod

    looked, _ = over_flower(FEDERATION, [client_app(FEDERATION, mods=[arrays_size_mod, message_size_mod])] * 7)
    plain, _ = over_flower(FEDERATION)
    assert torch.equal(looked.weights, plain.weights)
    noisy = client_app(FEDERATION, mods=[LocalDpMod(1.0, 1.0, 1.0, 1e-5)])
    strategy = AutoflipStrategy(FEDERATION, wait_for=6)
    grid = InProcess([client_app(FEDERATION)] * 6 + [noisy])
    strategy.start(grid, strategy.initial_arrays(), num_rounds=3)
    assert all(6 not in record.participants for record in strategy.rounds)


def test_flowers_wrappers_for_privacy_fail_too() -> None:
    """One that clips on the server takes arrays for tensors; it fails in the first round, with nothing promised."""
    from flwr.serverapp.strategy import DifferentialPrivacyServerSideFixedClipping

    strategy = AutoflipStrategy(FEDERATION)
    wrapped = DifferentialPrivacyServerSideFixedClipping(strategy, 1.0, 1.0, 7)
    with pytest.raises(TypeError, match="autoflip-secure"):
        wrapped.start(InProcess([client_app(FEDERATION)] * 7), strategy.initial_arrays(), num_rounds=3)
