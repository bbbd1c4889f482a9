"""Invalid bytes and oversized messages: both are refused clearly, and the server continues."""

import zlib
from collections.abc import Iterator

import grpc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bandit.v1 import bandit_pb2, experiment_pb2
from tests.rpc.raw_http2 import DATA, END_HEADERS, END_STREAM, RawConnection
from tests.support.process import ServerProcess
from tests.support.refusals import Refusal, call_of, refusal_of, refused, require_safe_text
from tests.support.wire import METHODS, ON_LISTENERS, STREAMS, Wire, experiment

CHOOSE = "/bandit.v1.BanditService/Choose"
REWARD = "/bandit.v1.BanditService/Reward"
BATCH_REWARD = "/bandit.v1.BanditService/BatchReward"
CREATE = "/bandit.v1.ExperimentService/CreateExperiment"
LIST = "/bandit.v1.ExperimentService/ListExperiments"
SINGLE_METHODS = [CHOOSE, REWARD]
MIB = 1024 * 1024
GOOD_REQUEST = experiment_pb2.CreateExperimentRequest(experiment=experiment()).SerializeToString()
MANY_EXAMPLES = settings(
    max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


def field(number: int, data: bytes) -> bytes:
    """Encode a length-delimited field of a message."""
    length, digits = len(data), b""
    while length > 0x7F:
        digits += bytes([length & 0x7F | 0x80])
        length >>= 7
    return bytes([number << 3 | 2]) + digits + bytes([length]) + data


def nested_payload(depth: int) -> bytes:
    """Encode a CreateExperiment request with an arm whose payload is a Struct `depth` levels deep."""
    struct = b""
    for _ in range(depth):
        struct = field(1, field(1, b"a") + field(2, field(5, struct)))
    declared = experiment(arms=[experiment_pb2.Arm(id="a")]).SerializeToString()
    return field(1, declared + field(4, field(1, b"b") + field(4, struct)))


def assert_goes_on(wire: Wire) -> None:
    """Check that the server still answers."""
    assert refused(lambda: wire.choose("no-such-experiment")).code is grpc.StatusCode.NOT_FOUND


@pytest.fixture
def raw(shared_process: ServerProcess, listener: str) -> Iterator[RawConnection]:
    """Open a raw connection."""
    connection = RawConnection.open(shared_process.port_of(listener))
    yield connection
    connection.close()


@pytest.mark.parametrize(
    ("listener", "method"),
    [(listener, method) for listener, method in ON_LISTENERS if method not in STREAMS],
    indirect=["listener"],
)
@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"\x0a", id="a field without its length"),
        pytest.param(b"\x0a\x05abc", id="a field that ends early"),
        pytest.param(b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", id="a length that never ends"),
        pytest.param(b"\x00", id="field number zero"),
        pytest.param(b"\x0f", id="wire type seven"),
        pytest.param(b"\x0c", id="an end of a group that never began"),
        pytest.param(b"\x7b" * 200, id="groups in groups"),
    ],
)
def test_malformed_messages_are_refused(wire: Wire, method: str, data: bytes) -> None:
    """Bytes that are not a protobuf message get INVALID_ARGUMENT on every method, not grpc's UNKNOWN."""
    refusal = refused(lambda: wire.call(method, data))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "MALFORMED_MESSAGE")


@pytest.mark.parametrize(
    ("method", "data"),
    [
        pytest.param(CHOOSE, field(1, b"\xff"), id="experiment"),
        pytest.param(CHOOSE, field(2, b"caf\xe9"), id="unit"),
        pytest.param(CHOOSE, field(3, field(1, b"\xc0\x80") + field(2, b"v")), id="attribute"),
        pytest.param(CHOOSE, field(4, b"\xed\xa0\x80"), id="eligible arm, a surrogate"),
        pytest.param(REWARD, field(2, field(1, b"\xfe")), id="metric"),
        pytest.param(BATCH_REWARD, field(1, field(1, b"\xf5\x80\x80\x80")), id="decision id in a batch"),
        pytest.param(CREATE, field(1, field(1, b"\x80")), id="name"),
        pytest.param(LIST, field(2, b"\xff"), id="page token"),
    ],
)
def test_text_that_is_not_utf8_is_refused(wire: Wire, method: str, data: bytes) -> None:
    """A message with invalid UTF-8 in a string field, nested or not, is refused."""
    refusal = refused(lambda: wire.call(method, data))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "MALFORMED_MESSAGE")


@pytest.mark.parametrize("depth", [40, 1_000, 20_000])
def test_deep_nesting_is_refused(wire: Wire, depth: int) -> None:
    """A payload nested beyond protobuf's hundred levels gets INVALID_ARGUMENT, without an overflow."""
    refusal = refused(lambda: wire.call(CREATE, nested_payload(depth)))
    assert refusal.code is grpc.StatusCode.INVALID_ARGUMENT
    assert_goes_on(wire)


@pytest.mark.both_listeners
def test_accepted_nesting_can_be_served(wire: Wire) -> None:
    """Choose can return the deepest payload that Create accepts, although it nests it deeper."""
    declared = experiment_pb2.Experiment.FromString(wire.call(CREATE, nested_payload(32)))
    wire.start(declared.name)
    (answer,) = wire.batch_choose(
        bandit_pb2.ChooseRequest(experiment=declared.name, eligible_arms=["b"]),
    )
    assert answer.choice.payload == declared.arms[1].payload


def code_for(wire: Wire, method: str, data: bytes) -> grpc.StatusCode:
    """Return the status of a call with these bytes, and check that a refusal follows the conventions."""
    try:
        wire.call(method, data)
    except grpc.RpcError as error:
        return refusal_of(error).code
    return grpc.StatusCode.OK


@pytest.mark.both_listeners
@MANY_EXAMPLES
@given(method=st.sampled_from(METHODS), data=st.binary(max_size=200))
def test_no_bytes_break_a_method(shared_wire: Wire, method: str, data: bytes) -> None:
    """Any bytes are answered by a message, or by a refusal that names the caller's mistake."""
    codes = {
        grpc.StatusCode.OK,
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.FAILED_PRECONDITION,  # a key to revoke that signs, or does not exist
    }
    assert code_for(shared_wire, method, data) in codes


@MANY_EXAMPLES
@given(
    end=st.integers(1, len(GOOD_REQUEST)), position=st.integers(0, len(GOOD_REQUEST)), bit=st.integers(0, 7)
)
def test_no_damage_breaks_create(shared_wire: Wire, end: int, position: int, bit: int) -> None:
    """A request with its end cut off and a bit flipped is either stored as decoded or refused."""
    damaged = bytearray(GOOD_REQUEST[:end])
    damaged[position % end] ^= 1 << bit
    codes = {grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.ALREADY_EXISTS}
    assert code_for(shared_wire, CREATE, bytes(damaged)) in codes


@pytest.mark.both_listeners
@pytest.mark.parametrize("method", SINGLE_METHODS)
def test_a_single_call_is_limited_to_64_kib(wire: Wire, method: str) -> None:
    """One byte more gets RESOURCE_EXHAUSTED with both sizes, and without a retry delay."""
    request = bandit_pb2.ChooseRequest(unit="u" * 65_533)
    assert len(request.SerializeToString()) == 65_536 + 1
    refusal = refused(lambda: wire.call(method, request.SerializeToString()))
    assert refusal == Refusal(
        code=grpc.StatusCode.RESOURCE_EXHAUSTED,
        message="the message has 65537 bytes; this method takes at most 65536",
        reason="MESSAGE_TOO_LARGE",
        violations={},
        retry_seconds=None,
    )
    allowed = request.SerializeToString()[:-1]
    assert refused(lambda: wire.call(method, allowed)).code is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize(("listener", "method"), ON_LISTENERS, indirect=["listener"])
def test_no_call_takes_more_than_a_mebibyte(wire: Wire, method: str) -> None:
    """The transport refuses it with RESOURCE_EXHAUSTED before reading it, without details."""
    with pytest.raises(grpc.RpcError) as caught:
        wire.call(method, bytes(MIB + 1))
    call = call_of(caught.value)
    assert call.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    require_safe_text(call.details() or "")
    assert_goes_on(wire)


@pytest.mark.both_listeners
def test_a_length_of_3_gib_reserves_nothing(
    wire: Wire, shared_process: ServerProcess, raw: RawConnection
) -> None:
    """A prefix that announces 3 GiB is refused when it is read, and memory does not grow."""
    before = shared_process.memory()
    raw.begin(1, BATCH_REWARD)
    raw.send_message(1, b"x" * 1_000, n_claimed=3 * 1024 * MIB)
    raw.send(DATA, END_STREAM, 1, b"")
    assert b"grpc-status\x018" in raw.answer(1)
    assert shared_process.memory() - before < 16 * MIB
    assert_goes_on(wire)


@pytest.mark.both_listeners
def test_a_gzip_bomb_is_refused(wire: Wire, shared_process: ServerProcess, raw: RawConnection) -> None:
    """Less than a mebibyte that unpacks to 800 MiB is refused during unpacking, and memory does not grow."""
    packer = zlib.compressobj(wbits=16 + zlib.MAX_WBITS)
    begin = packer.compress(bytes(MIB)) + packer.flush(zlib.Z_FULL_FLUSH)
    repeatable = packer.compress(bytes(MIB)) + packer.flush(zlib.Z_FULL_FLUSH)
    bomb = begin + repeatable * 800 + packer.flush()
    assert len(bomb) < MIB
    before = shared_process.memory()
    raw.begin(1, BATCH_REWARD, ("grpc-encoding", "gzip"))
    raw.send_message(1, bomb, is_packed=True)
    raw.send(DATA, END_STREAM, 1, b"")
    assert b"grpc-status\x018" in raw.answer(1)
    assert shared_process.memory() - before < 16 * MIB
    assert_goes_on(wire)


@pytest.mark.both_listeners
def test_calls_without_a_message_do_not_block_others(
    wire: Wire, shared_process: ServerProcess, raw: RawConnection
) -> None:
    """A connection full of streams that end before their message does not make others wait."""
    for stream in range(1, 200, 2):
        raw.begin(stream, CHOOSE, flags=END_HEADERS | END_STREAM)
    before = shared_process.memory()
    for _ in range(50):
        assert_goes_on(wire)
    assert shared_process.memory() - before < 16 * MIB


@pytest.mark.both_listeners
def test_half_a_message_does_not_block_others(wire: Wire, raw: RawConnection) -> None:
    """Streams that stop in the middle of their message do not make others wait."""
    for stream in range(1, 100, 2):
        raw.begin(stream, REWARD)
        raw.send_message(stream, b"\x0a\x50", n_claimed=82)
    for _ in range(50):
        assert_goes_on(wire)
