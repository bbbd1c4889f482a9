"""Clients in processes that fork: a call after it works, and one that came before it spoils no deadline."""

import pytest

from tests.bandit.client.programs import Run

KINDS = ["blocking", "asyncio", "blocking with a stream", "asyncio with a stream"]
SUPPORT = [{}, {"GRPC_ENABLE_FORK_SUPPORT": "0"}, {"GRPC_ENABLE_FORK_SUPPORT": "1"}]


@pytest.mark.parametrize("environment", SUPPORT)
@pytest.mark.parametrize("kind", KINDS)
def test_first_call_after_the_fork(run_program: Run, kind: str, environment: dict[str, str]) -> None:
    """A client that is made at import answers in each forked process, in the parent, and in grandchildren."""
    run_program(
        f"""
client = make({kind!r})
def work():
    join(in_child(lambda: expect(choose(client), "v1")))
    expect(choose(client), "v1")
children = [in_child(work) for _ in range(4)]
for child in children:
    join(child)
expect(choose(client), "v1")
""",
        environment,
    )


@pytest.mark.parametrize("environment", SUPPORT)
@pytest.mark.parametrize("kind", KINDS)
def test_call_before_the_fork(run_program: Run, kind: str, environment: dict[str, str]) -> None:
    """In the child of a process that had called, every call fails at once as forked; the parent goes on."""
    run_program(
        f"""
client = make({kind!r})
keeper = make("blocking")
expect(choose(client), "v1")
expect(choose(keeper), "v1")

def error_of(call):
    try:
        return f"answered {{settle(call())}}"
    except CallError as error:
        expect("forked" in str(error), True)
        return error.reason

async def listed():
    return [each async for each in client.experiments.list()]

def work():
    global client
    began = time.monotonic()
    expect(choose(client), "FORKED")
    expect(choose(make("blocking")), "FORKED")
    expect(choose(make("asyncio")), "FORKED")
    [choice] = settle(client.batch_choose([Question(experiment="ranker", fallback=FALLBACK)]))
    expect(choice.fallback_cause.reason, "FORKED")
    expect(error_of(lambda: client.reward("signed", {{"click": 1.0}})), "FORKED")
    [failure] = settle(client.batch_reward([Reward(decision="signed", outcomes={{"click": 1.0}})]))
    expect(failure.reason, "FORKED")
    expect(error_of(lambda: client.experiments.get("ranker")), "FORKED")
    expect(error_of(lambda: client.admin.list_decision_keys()), "FORKED")
    is_asyncio = {kind!r}.startswith("asyncio")
    expect(error_of(listed if is_asyncio else lambda: list(client.experiments.list())), "FORKED")
    settle(client.close())
    del client
    gc.collect()
    expect(time.monotonic() - began < 5.0, True)

for child in [in_child(work) for _ in range(4)]:
    join(child)
expect(choose(client), "v1")
expect(choose(keeper), "v1")
settle(client.close())
""",
        environment,
    )


@pytest.mark.parametrize("kind", KINDS)
def test_channel_closed_before_the_fork(run_program: Run, kind: str) -> None:
    """A client that was closed before the fork spoils gRPC as well, so others are told so in the child."""
    run_program(
        f"""
with BanditClient(TARGET, choose_timeout=10.0) as client:
    expect(choose(client), "v1")
for child in [in_child(lambda: expect(choose(make({kind!r})), "FORKED")) for _ in range(4)]:
    join(child)
"""
    )


def test_grandchild(run_program: Run) -> None:
    """A child that was the first to call may fork in turn: its children are those of one that had called."""
    run_program(
        """
client = make("blocking")
def work():
    expect(choose(client), "v1")
    join(in_child(lambda: expect(choose(client), "FORKED")))
    expect(choose(client), "v1")
join(in_child(work))
expect(choose(client), "v1")
"""
    )


@pytest.mark.parametrize("kind", KINDS)
def test_fork_while_threads_call(run_program: Run, kind: str) -> None:
    """Children that are forked while other threads open channels, call and fall back never hang on a lock.

    gRPC's own handlers of forks are off: they start its threads in the child, where one in ten dies of a
    segmentation fault if calls were in flight, with or without a client.
    """
    run_program(
        f"""
import logging
logging.getLogger("bandit.client").addHandler(logging.NullHandler())
logging.getLogger("bandit.client").propagate = False
clients = [make({kind!r}, choose_timeout=0.2) for _ in range(4)]
ends = threading.Event()

def call(client):
    while not ends.is_set():
        choose(client)
        settle(client.choose("", fallback=FALLBACK))
        short = make({kind!r})
        choose(short)
        settle(short.close())

threads = [threading.Thread(target=call, args=(client,)) for client in clients]
for thread in threads:
    thread.start()
time.sleep(0.3)

def work():
    for client in clients:
        expect(choose(client), "FORKED")
        settle(client.close())

try:
    for _ in range(40):
        join(in_child(work))
finally:
    ends.set()
    for thread in threads:
        thread.join()
""",
        {"GRPC_ENABLE_FORK_SUPPORT": "0"},
    )


@pytest.mark.parametrize("kind", KINDS)
def test_locks_held_by_other_threads(run_program: Run, kind: str) -> None:
    """Whatever lock another thread held at the fork, the child chooses, falls back and closes."""
    run_program(
        f"""
clients = [make({kind!r}), make({kind!r})]
settle(clients[1].close())
held, ends = threading.Barrier(2), threading.Event()

def hold():
    owners = [each for client in clients for each in (
        client._fallbacks._throttle, client._counters, client._connection, client._connection._stream
    ) if each is not None]
    for owner in owners:
        owner._lock.acquire()
    held.wait()
    ends.wait()
    for owner in owners:
        owner._lock.release()

def work():
    expect(choose(clients[0]), "v1")
    expect(choose(clients[1]), "")
    for client in clients:
        settle(client.close())
    expect(choose(clients[0]), "")

thread = threading.Thread(target=hold)
thread.start()
held.wait()
try:
    join(in_child(work), 20)
finally:
    ends.set()
    thread.join()
expect(choose(clients[0]), "v1")
"""
    )


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
@pytest.mark.parametrize("kind", KINDS)
def test_multiprocessing(run_program: Run, method: str, kind: str) -> None:
    """A client in use is sent to a worker: one that is spawned calls, one that is forked knows that it is."""
    run_program(
        f"""
def work(client):
    expect(choose(client), "FORKED" if {method!r} == "fork" else "v1")
    settle(client.close())

if __name__ == "__main__":
    client = make({kind!r})
    expect(choose(client), "v1")
    process = multiprocessing.get_context({method!r}).Process(target=work, args=(client,))
    process.start()
    process.join(40)
    expect(process.exitcode, 0)
    expect(choose(client), "v1")
"""
    )


def test_fork_in_an_event_loop(run_program: Run) -> None:
    """A coroutine that forks goes on in both processes: with the service, and with the fallback."""
    run_program(
        """
async def main():
    client = make("asyncio")
    expect((await client.choose("ranker", fallback=FALLBACK)).arm, "v1")
    child = os.fork()
    choice = await client.choose("ranker", fallback=FALLBACK)
    if child == 0:
        os._exit(0 if choice.fallback_cause and choice.fallback_cause.reason == "FORKED" else 1)
    expect(choice.arm, "v1")
    await asyncio.to_thread(join, child)
    await client.close()
asyncio.run(main())
"""
    )


@pytest.mark.parametrize("kind", KINDS)
def test_child_that_ends_like_a_program(run_program: Run, kind: str) -> None:
    """A child that leaves by the interpreter's end, with what it inherited, exits with 0 and is silent."""
    stderr = run_program(
        f"""
client = make({kind!r})
loop = asyncio.new_event_loop()
choice = client.choose("ranker", fallback=FALLBACK)
if {kind!r}.startswith("asyncio"):
    choice = loop.run_until_complete(choice)
expect(choice.arm, "v1")
child = os.fork()
if child:
    join(child)
    if {kind!r}.startswith("asyncio"):
        loop.run_until_complete(client.close())
    else:
        client.close()
loop.close()
""",
        {"GRPC_ENABLE_FORK_SUPPORT": "0"},  # else gRPC itself may note what it skips
    )
    assert stderr == ""
