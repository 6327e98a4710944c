"""`TensorProto` against messages put together by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deft.errors import FormatError
from deft.formats.tensor_proto import Tensor, encode_numbers, encode_texts
from suites.bridge_trees import tensor
from suites.formats import repeatable
from suites.recordings import chunk, varint


def parse(data: bytes) -> Tensor:
    return Tensor.parse(lambda start, stop: data[start:stop], 0, len(data), "here")


@pytest.mark.parametrize("dtype", ["float32", "float64", "uint8", "int64", "bool"])
@pytest.mark.parametrize("shape", [(), (1,), (3, 2), (0, 4), (2, 3, 4, 1)])
def test_numbers_are_written_and_read_as_tensorflow_does(
    dtype: str, shape: tuple[int, ...]
) -> None:
    array = np.random.default_rng(0).integers(0, 2, shape).astype(dtype)
    message = encode_numbers(array.shape, array.dtype) + array.tobytes()
    wanted = tensor(array)
    # protobuf may leave out a size of 0; both ways mean the same
    assert 0 in shape or message == wanted
    for data in (message, wanted):
        found = parse(data).numbers()
        assert (found.dtype, found.shape) == (array.dtype, array.shape)
        np.testing.assert_array_equal(found, array)


def test_a_message_as_tensorflow_2_21_writes_it() -> None:
    """`tf.io.serialize_tensor(tf.constant([[1., 2.]]))`, put down from its description."""
    data = bytes.fromhex("0801 1208 1202 0801 1202 0802 2208 0000803f 00000040".replace(" ", ""))
    np.testing.assert_array_equal(parse(data).numbers(), [[1, 2]])


@repeatable
@given(st.lists(st.text(max_size=10), max_size=5))
def test_texts(texts: list[str]) -> None:
    assert encode_texts(texts) == tensor(texts)
    assert parse(encode_texts(texts)).texts() == texts


def test_no_texts_may_be_written_as_numbers() -> None:
    assert parse(tensor(np.zeros(0, np.float32))).texts() == []


def test_rows_are_read_one_at_a_time() -> None:
    array = np.arange(24, dtype=np.uint8).reshape(4, 3, 2)
    asked: list[tuple[int, int]] = []
    data = tensor(array)

    def fetch(start: int, stop: int) -> bytes:
        asked.append((start, stop))
        return data[start:stop]

    rows = Tensor.parse(fetch, 0, len(data), "here").rows()
    assert len(rows) == 4
    asked.clear()
    np.testing.assert_array_equal(rows[2], array[2])
    np.testing.assert_array_equal(rows[-1], array[3])
    assert [stop - start for start, stop in asked] == [6, 6]
    with pytest.raises(IndexError):
        rows[4]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x08\x63",
        tensor(np.zeros(3, np.float32))[:-1],
        b"\x08\x01" + b"\x12\x0e" + b"\x12\x0c" + b"\x08" + b"\xff" * 9 + b"\x01\x00",
        b"\x08\x01\x22\x04\x00\x00\x00",
    ],
)
def test_damage_is_a_clear_error(data: bytes) -> None:
    with pytest.raises(FormatError, match=r"here.*(?s:.)*Fix: "):
        parse(data).numbers()


def test_numbers_that_tensorflow_lacks_are_refused() -> None:
    with pytest.raises(FormatError, match="cannot hold"):
        encode_numbers((2,), np.dtype(">f4"))


LISTS = {
    "float32": (1, 5),
    "float64": (2, 6),
    "int32": (3, 7),
    "uint8": (4, 7),
    "int16": (5, 7),
    "int8": (6, 7),
    "int64": (9, 10),
    "bool": (10, 11),
    "uint16": (17, 7),
    "float16": (19, 13),
    "uint32": (22, 16),
}


def listed(dtype: str, values: np.ndarray, shape: tuple[int, ...], *, packed: bool = True) -> bytes:
    """A message whose numbers stand in the list of their dtype."""
    number, field = LISTS[dtype]
    if dtype in ("float32", "float64"):
        pieces, wire = [value.tobytes() for value in values], 5 if dtype == "float32" else 1
    else:
        bits = values.view(np.uint16) if dtype == "float16" else values
        pieces, wire = [varint(int(value) & (1 << 64) - 1) for value in bits], 0
    head = (
        b"\x08" + varint(number) + chunk(2, b"".join(chunk(2, b"\x08" + varint(n)) for n in shape))
    )
    if packed:
        return head + chunk(field, b"".join(pieces))
    return head + b"".join(varint(field << 3 | wire) + piece for piece in pieces)


@pytest.mark.parametrize("dtype", LISTS)
@pytest.mark.parametrize("packed", [True, False])
def test_numbers_in_lists_of_values(dtype: str, packed: bool) -> None:
    kind = np.dtype(dtype)
    values = np.array([3, 0, 1, 100, 7, 1], kind)
    if kind.kind in "if":
        values[1] = -5
    if kind.kind == "f":
        values[2] = 0.25
    found = parse(listed(dtype, values, (2, 3), packed=packed))
    assert found.dtype == kind
    np.testing.assert_array_equal(found.numbers(), values.reshape(2, 3))
    np.testing.assert_array_equal(found.rows()[1], values[3:])
    # A constant is written as one value, and zeros as none.
    np.testing.assert_array_equal(
        parse(listed(dtype, values[:2], (2, 2), packed=packed)).numbers().ravel(),
        values[[0, 1, 1, 1]],
    )
    empty = parse(listed(dtype, values[:0], (3,), packed=packed)).numbers()
    np.testing.assert_array_equal(empty, np.zeros(3, kind))


@pytest.mark.parametrize(
    "data",
    [
        listed("float32", np.ones(1, np.float32), (1 << 40,)),
        listed("int64", np.ones(5, np.int64), (4,)),
        listed("float32", np.ones(1, np.float32), ())[:-1],
        b"\x08\x01\x12\x00" + chunk(5, b"\x00\x00\x80"),
        b"\x08\x03\x12\x00" + chunk(7, b"\xff"),
        b"\x08\x03\x12\x00\x3d\x00\x00\x00\x00",
    ],
)
def test_lists_that_promise_too_much_or_are_damaged(data: bytes) -> None:
    with pytest.raises(FormatError, match=r"here.*(?s:.)*Fix: "):
        parse(data).numbers()
