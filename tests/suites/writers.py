"""What every writer of recordings must do; a format's test subclasses `WriterChecks`."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deft import formats
from deft.errors import DeftError, FormatError, SpecError
from deft.spec import Episode, Feature, Spec
from suites.formats import same
from suites.memory_source import DrawnFrames, MemorySource, with_frames


def writable_spec() -> Spec:
    """A camera, a state and a command, with units and names."""
    return Spec(
        features=(
            Feature(name="image", role="image", shape=(24, 32, 3), dtype="uint8"),
            Feature(
                name="state",
                role="state",
                shape=(3,),
                dtype="float32",
                unit="m",
                names=tuple("xyg"),
            ),
            Feature(name="action", role="action", shape=(2,), dtype="float32"),
        ),
        fps=10.0,
    )


def write_all(
    path: Path, source: MemorySource, format_: str, options: dict[str, Any] | None = None
) -> Path:
    """The whole source as a recording."""
    with formats.write(path, format_, source.spec, options) as writer:
        for number in range(len(source.episodes)):
            writer.add(source.read(number))
        return writer.finish([info.id for info in source.episodes])


class WriterChecks:
    """Subclasses name a format that keeps everything of `source()` but perhaps picture details."""

    format = ""
    name = "written"
    """File or folder to write."""
    read_as = ""
    """Name of the format that reads it, where it is another one."""
    lossless = True
    """Whether pictures come back to the bit."""

    @classmethod
    def source(cls) -> MemorySource:
        return MemorySource(spec=writable_spec(), splits=("train", "val"))

    @pytest.fixture(scope="class")
    @classmethod
    def written(cls, tmp_path_factory: pytest.TempPathFactory) -> Path:
        return write_all(tmp_path_factory.mktemp("whole") / cls.name, cls.source(), cls.format)

    def content(self, path: Path) -> dict[str, bytes]:
        """Every file of a recording, by its place in it."""
        files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
        return {str(file.relative_to(path)): file.read_bytes() for file in files}

    def test_it_can_be_written_by_name(self) -> None:
        assert self.format in formats.WRITABLE
        assert (self.read_as or self.format) in formats.FORMATS

    def test_what_was_written_is_read(self, written: Path) -> None:
        assert formats.recognise(written) == (self.read_as or self.format)
        source, recording = self.source(), formats.open(written)
        assert {f.name: f for f in recording.spec.features} == {
            f.name: f for f in source.spec.features
        }
        assert recording.spec.fps == source.spec.fps
        assert [each for each in recording.problems if each.severity != "note"] == []
        assert list(recording.episodes) == list(source.episodes)
        for number in range(len(source.episodes)):
            read, made = recording.read(number), source.read(number)
            if self.lossless:
                assert same(read, made)
                continue
            for key, array in made.arrays.items():
                np.testing.assert_array_equal(read.arrays[key], array)
            for key, frames in made.frames.items():
                error = np.abs(np.stack(list(read.frames[key])).astype(float) - list(frames))
                assert error.mean() < 5

    def test_equal_episodes_give_equal_files(self, written: Path, tmp_path: Path) -> None:
        path = tmp_path / self.name
        source = self.source()
        with formats.write(path, self.format, source.spec) as writer:
            with ThreadPoolExecutor(4) as pool:  # in any order, from several threads
                numbers = reversed(range(len(source.episodes)))
                list(pool.map(lambda n: writer.add(source.read(n)), numbers))
            writer.finish([info.id for info in source.episodes])
        assert self.content(path) == self.content(written)

    def test_it_goes_on_where_it_was_stopped(self, written: Path, tmp_path: Path) -> None:
        path = tmp_path / self.name
        source = self.source()
        ids = [info.id for info in source.episodes]
        with formats.write(path, self.format, source.spec) as writer:
            writer.add(source.read(2))
        assert not path.exists()
        with formats.write(path, self.format, source.spec) as writer:
            assert [writer.has(id_) for id_ in ids] == [False, False, True, False]
            for number in (0, 1, 3):
                writer.add(source.read(number))
            assert not path.exists()
            assert writer.finish(ids) == path
        assert self.content(path) == self.content(written)
        assert [each.name for each in tmp_path.iterdir()] == [self.name]

    def test_an_episode_that_breaks_leaves_nothing(self, written: Path, tmp_path: Path) -> None:
        path = tmp_path / self.name
        source = self.source()

        def broken(step: int) -> np.ndarray:
            if step == 3:
                raise FormatError("camera 7 is broken")
            return np.zeros((24, 32, 3), np.uint8)

        def wrong_size(step: int) -> np.ndarray:
            return np.zeros((24, 32 + (step == 3), 3), np.uint8)

        with formats.write(path, self.format, source.spec) as writer:
            episode = source.read(0)
            for draw, message in ((broken, "camera 7"), (wrong_size, "step 3")):
                frames = DrawnFrames(len(episode), draw)
                with pytest.raises(DeftError, match=message):
                    writer.add(with_frames(episode, "image", frames))
                assert not writer.has(episode.id)
            for number in range(len(source.episodes)):
                writer.add(source.read(number))
            writer.finish([info.id for info in source.episodes])
        assert self.content(path) == self.content(written)

    def test_wrong_use_is_refused(self, tmp_path: Path) -> None:
        path = tmp_path / self.name
        source = self.source()
        episode = source.read(1)
        renamed = replace(source.spec, features=(*source.spec.features[:2], _command(4)))
        with formats.write(path, self.format, source.spec) as writer:
            writer.add(episode)
            with pytest.raises(FormatError, match="added already"):
                writer.add(episode)
            with pytest.raises(SpecError, match="action"):
                writer.add(replace(episode, id="x", spec=renamed, arrays=_widened(episode)))
            for order in ([], ["nobody"], [episode.id, "nobody"], [episode.id] * 2):
                with pytest.raises(FormatError, match="name every episode"):
                    writer.finish(order)
            assert not path.exists()
            with pytest.raises(FormatError, match="another process"):
                formats.write(path, self.format, source.spec)
        with pytest.raises(FormatError, match=r"other arguments[^$]*spec differ"):
            formats.write(path, self.format, replace(source.spec, fps=11.0))
        with pytest.raises(FormatError, match="option"):
            formats.write(path, self.format, source.spec, {"no such option": 1})
        with pytest.raises(FormatError, match="no format"):
            formats.write(path, self.format + "x", source.spec)

    def test_what_is_there_is_replaced_only_on_request(self, written: Path, tmp_path: Path) -> None:
        path = tmp_path / self.name
        source = self.source()
        few = MemorySource(lengths=(3,), spec=source.spec)
        write_all(path, few, self.format)
        with pytest.raises(FormatError, match="something is there already"):
            formats.write(path, self.format, source.spec)
        with formats.write(path, self.format, source.spec, overwrite=True) as writer:
            for number in range(len(source.episodes)):
                writer.add(source.read(number))
            assert len(formats.open(path).episodes) == 1
            writer.finish([info.id for info in source.episodes])
        assert self.content(path) == self.content(written)
        other = tmp_path / "letters"
        other.write_text("dear reader")
        with pytest.raises(FormatError, match="something is there already"):
            formats.write(other, self.format, source.spec, overwrite=True)
        assert other.read_text() == "dear reader"


def _command(width: int) -> Feature:
    return Feature(name="action", role="action", shape=(width,), dtype="float32")


def _widened(episode: Episode) -> dict[str, np.ndarray]:
    return {**episode.arrays, "action": np.zeros((len(episode), 4), np.float32)}
